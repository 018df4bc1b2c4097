//! The in-memory index of a keyspace: fingerprint of a key's hash -> where its winning record is.
//!
//! Shards of lines of eight 16-byte slots; a fingerprint has two lines it may lie in. A slot that
//! names a segment before the first live one is free, so dropping a bucket touches no slot. Pure
//! numbers: it knows neither keys nor files.

use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU32, Ordering};

const SHARDS: usize = 256;
const SLOTS_PER_LINE: usize = 8;
/// A shard never grows beyond this many lines; what finds no place then is forgotten.
const MAX_LINES: usize = 1 << 24;
/// Bits of a fingerprint that choose one line.
const LINE_BITS: u32 = 28;

/// Where a record is: a segment's ordinal in its owner's table, and the offset divided by 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Counted from 1; ordinals only grow and are never reused.
    pub(crate) ordinal: u32,
    pub(crate) position: u32,
}

/// What to do with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Keep,
    Put(Location),
    Remove,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    fingerprint: u64,
    location: Location,
}

const EMPTY: Slot = Slot { fingerprint: 0, location: Location { ordinal: 0, position: 0 } };

type Line = [Slot; SLOTS_PER_LINE];

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<RwLock<Shard>>,
    first_live: AtomicU32,
}

impl Index {
    /// An empty index.
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard { lines: vec![[EMPTY; 8]] }));
        Self { shards: shards.collect(), first_live: AtomicU32::new(1) }
    }

    /// Slots that name an ordinal below this one are free from now on.
    pub(crate) fn set_first_live(&self, ordinal: u32) {
        self.first_live.fetch_max(ordinal, Ordering::AcqRel);
    }

    /// Where the record of a fingerprint is.
    pub(crate) fn get(&self, fingerprint: u64) -> Option<Location> {
        let shard = self.shard(fingerprint)?.read();
        let (line, slot) = shard.find(fingerprint, self.first_live())?;
        Some(shard.slot(line, slot)?.location)
    }

    /// Decides about a slot under its shard's lock: `decide` sees what is there now. Gives what was
    /// there before.
    pub(crate) fn change(
        &self,
        fingerprint: u64,
        decide: impl FnOnce(Option<Location>) -> Change,
    ) -> (Option<Location>, Change) {
        let Some(shard) = self.shard(fingerprint) else { return (None, Change::Keep) };
        let mut shard = shard.write();
        let first_live = self.first_live();
        let place = shard.find(fingerprint, first_live);
        let before = place.and_then(|(line, slot)| Some(shard.slot(line, slot)?.location));
        let change = decide(before);
        match (change, place) {
            (Change::Keep, _) | (Change::Remove, None) => {}
            (Change::Remove, Some(place)) => shard.set(place, EMPTY),
            (Change::Put(location), Some(place)) => {
                shard.set(place, Slot { fingerprint, location });
            }
            (Change::Put(location), None) => {
                shard.insert(Slot { fingerprint, location }, first_live);
            }
        }
        (before, change)
    }

    /// How many shards there are to go through.
    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// All that one shard holds now.
    pub(crate) fn shard_entries(&self, shard: usize) -> Vec<(u64, Location)> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let first_live = self.first_live();
        let shard = shard.read();
        let slots = shard.lines.iter().flatten();
        slots
            .filter(|slot| slot.location.ordinal >= first_live)
            .map(|slot| (slot.fingerprint, slot.location))
            .collect()
    }

    /// Bytes of memory the slots take.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let lines: usize = self.shards.iter().map(|shard| shard.read().lines.len()).sum();
        (lines * size_of::<Line>()) as u64
    }

    fn first_live(&self) -> u32 {
        self.first_live.load(Ordering::Acquire).max(1)
    }

    fn shard(&self, fingerprint: u64) -> Option<&RwLock<Shard>> {
        self.shards.get((fingerprint >> 56) as usize)
    }
}

#[derive(Debug)]
struct Shard {
    /// A power of two of them.
    lines: Vec<Line>,
}

impl Shard {
    fn lines_of(&self, fingerprint: u64) -> [usize; 2] {
        let mask = (self.lines.len() - 1) as u64;
        [(fingerprint & mask) as usize, ((fingerprint >> LINE_BITS) & mask) as usize]
    }

    fn slot(&self, line: usize, slot: usize) -> Option<Slot> {
        self.lines.get(line)?.get(slot).copied()
    }

    fn set(&mut self, (line, slot): (usize, usize), value: Slot) {
        if let Some(slot) = self.lines.get_mut(line).and_then(|line| line.get_mut(slot)) {
            *slot = value;
        }
    }

    fn find(&self, fingerprint: u64, first_live: u32) -> Option<(usize, usize)> {
        self.lines_of(fingerprint).into_iter().find_map(|line| {
            let slots = self.lines.get(line)?;
            let at = slots.iter().position(|slot| {
                slot.fingerprint == fingerprint && slot.location.ordinal >= first_live
            })?;
            Some((line, at))
        })
    }

    fn free(&self, line: usize, first_live: u32) -> Option<(usize, usize)> {
        let slots = self.lines.get(line)?;
        Some((line, slots.iter().position(|slot| slot.location.ordinal < first_live)?))
    }

    fn insert(&mut self, slot: Slot, first_live: u32) {
        while !self.place(slot, first_live) {
            if self.lines.len() >= MAX_LINES {
                let [line, _] = self.lines_of(slot.fingerprint);
                self.set((line, 0), slot);
                return;
            }
            self.grow(first_live);
        }
    }

    fn place(&mut self, slot: Slot, first_live: u32) -> bool {
        let lines = self.lines_of(slot.fingerprint);
        let place = lines
            .into_iter()
            .find_map(|line| self.free(line, first_live))
            .or_else(|| lines.into_iter().find_map(|line| self.make_room(line, first_live)));
        if let Some(place) = place {
            self.set(place, slot);
        }
        place.is_some()
    }

    /// Moves one slot of a full line to its other line, if that has room.
    fn make_room(&mut self, line: usize, first_live: u32) -> Option<(usize, usize)> {
        for at in 0..SLOTS_PER_LINE {
            let slot = self.slot(line, at)?;
            let others = self.lines_of(slot.fingerprint).into_iter().filter(|other| *other != line);
            for other in others {
                if let Some(place) = self.free(other, first_live) {
                    self.set(place, slot);
                    return Some((line, at));
                }
            }
        }
        None
    }

    fn grow(&mut self, first_live: u32) {
        let doubled = vec![[EMPTY; SLOTS_PER_LINE]; self.lines.len() * 2];
        let old = std::mem::replace(&mut self.lines, doubled);
        for slot in old.into_iter().flatten() {
            if slot.location.ordinal >= first_live {
                self.insert(slot, first_live);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(i: u64) -> u64 {
        xxhash_like(i)
    }

    // splitmix64, Steele et al., "Fast splittable pseudorandom number generators" (2014).
    fn xxhash_like(i: u64) -> u64 {
        let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn at(ordinal: u32, position: u32) -> Location {
        Location { ordinal, position }
    }

    #[test]
    fn holds_what_was_put_through_growth() {
        let index = Index::new();
        for i in 0..200_000 {
            index.change(spread(i), |before| {
                assert_eq!(before, None);
                Change::Put(at(1, i as u32))
            });
        }
        for i in 0..200_000 {
            assert_eq!(index.get(spread(i)), Some(at(1, i as u32)));
        }
        for i in 200_000..300_000 {
            assert_eq!(index.get(spread(i)), None);
        }
        assert!(index.memory_bytes() < 200_000 * 16 * 3);
    }

    #[test]
    fn dropping_frees_slots_without_touching_them() {
        let index = Index::new();
        for round in 1..200_u32 {
            index.set_first_live(round.saturating_sub(3).max(1));
            for i in 0..2_000_u64 {
                let fingerprint = spread(u64::from(round) * 10_000 + i);
                index.change(fingerprint, |_| Change::Put(at(round, i as u32)));
            }
        }
        assert_eq!(index.get(spread(100_000)), None);
        assert_eq!(index.get(spread(1_990_000)), Some(at(199, 0)));
        assert!(index.memory_bytes() < 1 << 20, "dead slots are reused");
        let entries: usize = (0..index.shard_count()).map(|s| index.shard_entries(s).len()).sum();
        assert_eq!(entries, 4 * 2_000);
    }

    #[test]
    fn replaces_and_removes_by_decision() {
        let index = Index::new();
        index.change(5, |_| Change::Put(at(1, 1)));
        assert_eq!(index.change(5, |_| Change::Keep).0, Some(at(1, 1)));
        assert_eq!(index.change(5, |_| Change::Put(at(2, 2))).0, Some(at(1, 1)));
        assert_eq!(index.change(5, |_| Change::Remove).0, Some(at(2, 2)));
        assert_eq!(index.get(5), None);
    }
}
