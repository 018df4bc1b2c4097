//! Lines of eight 16-byte slots with the whole fingerprint; a shard that is full doubles.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use crate::layout::{Layout, Location};

const SHARD_BITS: u32 = 8;
const SLOTS: usize = 8;
/// Bits of a fingerprint that choose one line.
const LINE_BITS: u32 = 28;

#[derive(Debug, Clone, Copy)]
struct Slot {
    fingerprint: u64,
    location: Location,
}

const EMPTY: Slot = Slot { fingerprint: 0, location: Location { ordinal: 0, position: 0 } };

#[derive(Debug)]
pub(crate) struct Doubling {
    shards: Vec<RwLock<Shard>>,
    first_live: AtomicU32,
}

#[derive(Debug)]
struct Shard {
    lines: Vec<[Slot; SLOTS]>,
}

impl Doubling {
    pub(crate) fn new() -> Self {
        let shard = || RwLock::new(Shard { lines: vec![[EMPTY; SLOTS]] });
        let shards = (0..1 << SHARD_BITS).map(|_| shard()).collect();
        Self { shards, first_live: AtomicU32::new(1) }
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[(hash >> (u64::BITS - SHARD_BITS)) as usize]
    }

    fn first_live(&self) -> u32 {
        self.first_live.load(Ordering::Acquire)
    }
}

impl Layout for Doubling {
    fn identity_bits(&self) -> u32 {
        u64::BITS
    }

    fn get(&self, hash: u64) -> Option<Location> {
        let shard = self.shard(hash).read();
        let (line, slot) = shard.find(hash, self.first_live())?;
        Some(shard.lines[line][slot].location)
    }

    fn put(&self, hash: u64, location: Location) -> Option<Location> {
        let mut shard = self.shard(hash).write();
        let first_live = self.first_live();
        let put = Slot { fingerprint: hash, location };
        if let Some((line, slot)) = shard.find(hash, first_live) {
            return Some(std::mem::replace(&mut shard.lines[line][slot], put).location);
        }
        shard.insert(put, first_live);
        None
    }

    fn set_first_live(&self, ordinal: u32) {
        self.first_live.fetch_max(ordinal, Ordering::AcqRel);
    }

    fn memory_bytes(&self) -> u64 {
        let bytes = |shard: &RwLock<Shard>| size_of_val(&*shard.read().lines);
        let lines: usize = self.shards.iter().map(bytes).sum();
        (lines + size_of_val(&*self.shards)) as u64
    }
}

impl Shard {
    fn lines_of(&self, fingerprint: u64) -> [usize; 2] {
        let mask = (self.lines.len() - 1) as u64;
        [(fingerprint & mask) as usize, ((fingerprint >> LINE_BITS) & mask) as usize]
    }

    fn find(&self, fingerprint: u64, first_live: u32) -> Option<(usize, usize)> {
        self.lines_of(fingerprint).into_iter().find_map(|line| {
            let at = self.lines[line].iter().position(|slot| {
                slot.fingerprint == fingerprint && slot.location.ordinal >= first_live
            })?;
            Some((line, at))
        })
    }

    fn free(&self, line: usize, first_live: u32) -> Option<(usize, usize)> {
        let is_free = |slot: &Slot| slot.location.ordinal < first_live;
        Some((line, self.lines[line].iter().position(is_free)?))
    }

    fn insert(&mut self, slot: Slot, first_live: u32) {
        while !self.place(slot, first_live) {
            let doubled = vec![[EMPTY; SLOTS]; self.lines.len() * 2];
            let old = std::mem::replace(&mut self.lines, doubled);
            for slot in old.into_iter().flatten() {
                if slot.location.ordinal >= first_live {
                    self.insert(slot, first_live);
                }
            }
        }
    }

    fn place(&mut self, slot: Slot, first_live: u32) -> bool {
        let lines = self.lines_of(slot.fingerprint);
        let place = lines
            .into_iter()
            .find_map(|line| self.free(line, first_live))
            .or_else(|| lines.into_iter().find_map(|line| self.make_room(line, first_live)));
        let Some((line, at)) = place else { return false };
        self.lines[line][at] = slot;
        true
    }

    /// Moves one slot of a full line to its other line, if that has room.
    fn make_room(&mut self, line: usize, first_live: u32) -> Option<(usize, usize)> {
        for at in 0..SLOTS {
            let slot = self.lines[line][at];
            let [one, two] = self.lines_of(slot.fingerprint);
            let other = if one == line { two } else { one };
            if let Some((to, free)) = self.free(other, first_live) {
                self.lines[to][free] = slot;
                return Some((line, at));
            }
        }
        None
    }
}
