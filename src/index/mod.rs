//! The in-memory index of a keyspace: fingerprint of a key's hash -> where its winning record is.
//!
//! Shards of lines of six slots; a fingerprint has two lines it may lie in. A slot that names a
//! segment before the first live one is free, so dropping a bucket touches no slot. Pure numbers: it
//! knows neither keys nor files.

mod census;
mod line;
mod shard;
mod shards;
mod span;
mod window;

use crate::hash::FINGERPRINT_BITS;
use crate::sync::atomic::{AtomicU64, Ordering};
use census::Census;
pub(crate) use line::Line;
use line::{ORDINAL_BITS, Slot, TAG_BITS};
use shard::Shard;
use shards::Shards;
pub(crate) use span::Span;
use window::Window;

/// Enough that growing one of them stalls nobody: at ten million keys that is 30 KB.
const SHARDS: usize = 1 << (FINGERPRINT_BITS - TAG_BITS);
/// So many ordinals may be in use at once: those a slot can tell apart.
pub(crate) const MAX_ORDINALS: u32 = 1 << ORDINAL_BITS;
/// The lines of one shard, as they are kept between two openings: eight words each.
pub(crate) type ShardLines = Vec<Line>;

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

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Shards,
    /// A [`Window`], looked at under a shard's lock only: an ordinal's lowest bits are given out again
    /// once no slot of any shard names the ordinal that had them before.
    window: AtomicU64,
    /// Whoever asks for the memory, or goes through what is there, need not take the locks of all shards.
    census: Census,
}

impl Index {
    /// How many shards there are.
    pub(crate) const SHARD_COUNT: usize = SHARDS;
    /// How many shards a span has.
    pub(crate) const SPAN_SHARDS: usize = shards::GROUP_SHARDS;

    /// An empty index.
    pub(crate) fn new() -> Self {
        Self::of(1, [])
    }

    /// An empty index with room for keys of these fingerprints.
    pub(crate) fn with_room(fingerprints: impl Iterator<Item = u64> + Clone) -> Self {
        // So few make hardly a shard grow twice.
        if fingerprints.clone().nth(SHARDS).is_none() {
            return Self::new();
        }
        let mut keys = vec![0_u32; SHARDS];
        for fingerprint in fingerprints {
            if let Some(keys) = keys.get_mut(Self::shard_of(fingerprint)) {
                *keys = keys.saturating_add(1);
            }
        }
        let filled = (0..).zip(keys).filter(|(_, keys)| *keys != 0);
        Self::of(1, filled.map(|(at, keys)| (at, Shard::with_room(keys as usize))))
    }

    /// The index that another one has left, whose first live ordinal was this one. What does not look
    /// like one finds nothing, or records of other keys.
    pub(crate) fn restore(first_live: u32, shards: impl IntoIterator<Item = ShardLines>) -> Self {
        let filled = (0..).zip(shards).filter(|(_, lines)| !lines.is_empty());
        Self::of(first_live, filled.map(|(at, lines)| (at, Shard::of(lines))))
    }

    /// An index of which these shards have lines.
    fn of(first_live: u32, filled: impl IntoIterator<Item = (usize, Shard)>) -> Self {
        let window = Window { lowest: first_live, first_live }.pack();
        let (shards, census) = (Shards::new(), Census::new(SHARDS));
        for (at, shard) in filled {
            let Some(place) = shards.make(at) else { break };
            census.note(at, 0, shard.lines.len());
            *place.write() = shard;
        }
        Self { shards, window: AtomicU64::new(window), census }
    }

    /// Slots that name an ordinal below this one are free from now on.
    pub(crate) fn set_first_live(&self, ordinal: u32) {
        self.raise(|window| window.first_live = window.first_live.max(ordinal));
    }

    /// How many ordinals there may be before [`Index::sweep`] has to be called.
    pub(crate) fn ordinals_left(&self, next: u32) -> u32 {
        (self.window().lowest + (MAX_ORDINALS - 1)).saturating_sub(next)
    }

    /// Empties the slots that are free because their segment is gone, so that the numbers by which
    /// slots knew those segments can be used again.
    pub(crate) fn sweep(&self) {
        let first_live = self.window().first_live;
        for shard in self.shards.iter() {
            let mut shard = shard.write();
            let window = Window { first_live, ..self.window() };
            shard.sweep(window);
        }
        self.raise(|window| window.lowest = window.lowest.max(first_live));
    }

    /// Gives back memory of shards that are far from full.
    pub(crate) fn shrink(&self) {
        for at in self.filled_shards() {
            let Some(shard) = self.shards.get(at) else { break };
            let mut shard = shard.write();
            let window = self.window();
            self.census.counting(at, &mut shard, |shard| shard.shrink(window));
        }
    }

    /// Where the record of a fingerprint is.
    pub(crate) fn get(&self, fingerprint: u64) -> Option<Location> {
        let shard = self.shards.get(Self::shard_of(fingerprint))?.read();
        let (_, location) = shard.find(tag(fingerprint), self.window())?;
        Some(location)
    }

    /// Decides about a slot under its shard's lock: `decide` sees what is there now. Gives what was
    /// there before.
    pub(crate) fn change(
        &self,
        fingerprint: u64,
        decide: impl FnOnce(Option<Location>) -> Change,
    ) -> (Option<Location>, Change) {
        let at = Self::shard_of(fingerprint);
        let Some(shard) = self.shards.make(at) else { return (None, Change::Keep) };
        let mut shard = shard.write();
        let window = self.window();
        self.census.counting(at, &mut shard, |shard| shard.change(tag(fingerprint), window, decide))
    }

    /// All shards, [`Index::SPAN_SHARDS`] at a time.
    pub(crate) fn spans(&mut self) -> Vec<Span<'_>> {
        let window = self.window();
        let census = &self.census;
        let groups = self.shards.groups_mut();
        groups.map(|(first_shard, group)| Span::new(first_shard, group, window, census)).collect()
    }

    /// The shard of a fingerprint.
    pub(crate) fn shard_of(fingerprint: u64) -> usize {
        (fingerprint >> TAG_BITS) as usize % SHARDS
    }

    /// The first shard from this one on that may hold anything.
    pub(crate) fn next_filled(&self, from: usize) -> Option<usize> {
        self.census.next_filled(from)
    }

    /// All that one shard holds now.
    pub(crate) fn shard_entries(&self, shard: usize) -> Vec<(u64, Location)> {
        let Some(lines) = self.shards.get(shard) else { return Vec::new() };
        let lines = lines.read();
        let fingerprint = |slot: Slot| (shard as u64) << TAG_BITS | slot.tag;
        lines.entries(self.window()).map(|slot| (fingerprint(slot), slot.location)).collect()
    }

    /// What is to be kept of a shard until the next opening.
    pub(crate) fn shard_lines(&self, shard: usize) -> ShardLines {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let shard = shard.read();
        let lines = shard.live_lines(self.window());
        let is_empty = lines.iter().all(|line| line.0 == Line::EMPTY.0);
        if is_empty { Vec::new() } else { lines }
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let lines = self.census.lines() * size_of::<Line>();
        (lines + self.census.memory_bytes() + self.shards.memory_bytes()) as u64
    }

    fn window(&self) -> Window {
        Window::unpack(self.window.load(Ordering::Acquire))
    }

    fn filled_shards(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.next_filled(0), |at| self.next_filled(at + 1))
    }

    fn raise(&self, raise: impl Fn(&mut Window)) {
        let _ = self.window.fetch_update(Ordering::AcqRel, Ordering::Acquire, |packed| {
            let mut window = Window::unpack(packed);
            raise(&mut window);
            Some(window.pack())
        });
    }
}

/// What tells the keys of one shard apart.
fn tag(fingerprint: u64) -> u64 {
    fingerprint & ((1 << TAG_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    // splitmix64, Steele et al., "Fast splittable pseudorandom number generators" (2014).
    fn spread(i: u64) -> u64 {
        let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> (64 - FINGERPRINT_BITS)
    }

    fn at(ordinal: u32, position: u32) -> Location {
        Location { ordinal, position }
    }

    fn count(index: &Index) -> usize {
        (0..Index::SHARD_COUNT).map(|shard| index.shard_entries(shard).len()).sum()
    }

    #[test]
    fn holds_what_was_put_through_growth() {
        let index = Index::new();
        for i in 0..400_000 {
            index.change(spread(i), |before| {
                assert_eq!(before, None);
                Change::Put(at(1, i as u32 + 1))
            });
        }
        for i in 0..400_000 {
            assert_eq!(index.get(spread(i)), Some(at(1, i as u32 + 1)));
        }
        for i in 400_000..600_000 {
            assert_eq!(index.get(spread(i)), None);
        }
        assert_eq!(count(&index), 400_000);
        assert!(index.memory_bytes() < 400_000 * 13, "{}", index.memory_bytes());
        check_census(&index);
        for i in 0..300_000 {
            index.change(spread(i), |_| Change::Remove);
        }
        index.shrink();
        check_census(&index);
        assert!(index.memory_bytes() < 100_000 * 20, "{}", index.memory_bytes());
    }

    fn check_census(index: &Index) {
        let len = |at| index.shards.get(at).map_or(0, |shard| shard.read().lines.len());
        let lens: Vec<_> = (0..SHARDS).map(len).collect();
        assert_eq!(index.census.lines(), lens.iter().sum());
        let filled = (0..lens.len()).filter(|at| lens[*at] != 0);
        assert!(index.filled_shards().eq(filled));
    }

    #[test]
    fn finds_the_few_shards_that_hold_anything() {
        let mut index = Index::new();
        check_census(&index);
        let at_shard = |shard: usize| (shard as u64) << TAG_BITS;
        let put = Change::Put(at(1, 1));
        for shard in [0, 1, 63, 64, 2_000, SHARDS - 1] {
            index.change(at_shard(shard), |_| put);
            check_census(&index);
        }
        for span in index.spans().iter_mut().step_by(16) {
            span.change(at_shard(span.first_shard() + 7), put);
        }
        check_census(&index);
        assert_eq!(index.filled_shards().count(), 6 + 4);
        for shard in [0, 63, 1031, SHARDS - 1] {
            index.change(at_shard(shard), |_| Change::Remove);
        }
        index.shrink();
        check_census(&index);
        assert_eq!(index.filled_shards().count(), 6);
        assert_eq!(index.next_filled(SHARDS), None);
    }

    #[test]
    fn an_index_of_few_keys_is_small() {
        let index = Index::new();
        assert_eq!(index.get(5), None);
        assert!(index.memory_bytes() <= 1536, "{}", index.memory_bytes());
        index.change(5, |_| Change::Put(at(1, 1)));
        assert_eq!((index.get(5), index.get(5 | 1 << TAG_BITS)), (Some(at(1, 1)), None));
        assert!(index.memory_bytes() <= 5 << 10, "{}", index.memory_bytes());
    }

    #[test]
    fn dropping_frees_slots_without_touching_them() {
        let index = Index::new();
        for round in 1..200_u32 {
            index.set_first_live(round.saturating_sub(3).max(1));
            for i in 0..8_000_u64 {
                let fingerprint = spread(u64::from(round) * 10_000 + i);
                index.change(fingerprint, |_| Change::Put(at(round, i as u32 + 1)));
            }
        }
        assert_eq!(index.get(spread(100_000)), None);
        assert_eq!(index.get(spread(1_990_000)), Some(at(199, 1)));
        assert!(index.memory_bytes() < 1 << 20, "dead slots are reused");
        assert_eq!(count(&index), 4 * 8_000);
        let kept = (0..Index::SHARD_COUNT).map(|shard| index.shard_lines(shard));
        let restored = Index::restore(196, kept);
        assert_eq!(count(&restored), 4 * 8_000);
        assert_eq!(restored.get(spread(1_990_000)), Some(at(199, 1)));
    }

    #[test]
    fn numbers_come_round_once_nothing_names_them() {
        let index = Index::new();
        let rounds = 8 * u64::from(MAX_ORDINALS);
        for ordinal in (1..rounds).step_by(10_007) {
            let ordinal = ordinal as u32;
            index.set_first_live(ordinal.saturating_sub(100_000).max(1));
            if index.ordinals_left(ordinal) == 0 {
                index.sweep();
            }
            assert!(index.ordinals_left(ordinal) > 0);
            for i in 0..10 {
                let fingerprint = spread(u64::from(ordinal) * 16 + i);
                index.change(fingerprint, |_| Change::Put(at(ordinal, 7)));
                assert_eq!(index.get(fingerprint), Some(at(ordinal, 7)));
            }
            // What is dead is not taken for what has its number now.
            if let Some(dead) = ordinal.checked_sub(11 * 10_007) {
                assert_eq!(index.get(spread(u64::from(dead) * 16)), None);
            }
        }
        assert_eq!(count(&index), 100);
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

    #[test]
    fn with_room_grows_little() {
        let index = Index::with_room((0..1_000_000).map(spread));
        let before = index.memory_bytes();
        for i in 0..1_000_000 {
            index.change(spread(i), |_| Change::Put(at(1, 1)));
        }
        assert!(index.memory_bytes() < before + before / 8);
    }
}
