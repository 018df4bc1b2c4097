//! A shard of the index: lines, of which each key has two it may lie in.
//!
//! Cuckoo hashing in buckets of six (Dietzfelbinger and Weidling, "Balanced allocation and
//! dictionaries with tightly packed constant size bins", 2007): where both lines are full, others
//! are moved to their other lines. Both follow from what a slot says, so nothing else is read to
//! move a slot or to grow.

use super::line::{Line, SLOTS, Slot};
use super::{Change, Location, Window};

/// Grows by an eighth, so that little of it is ever empty.
const GROWTH_DIVISOR: usize = 8;
/// A shard never grows beyond this many lines; what finds no place then is forgotten.
const MAX_LINES: usize = 1 << 24;
/// Lines that are looked at for a place to move something to, before the shard grows.
const MAX_STEPS: usize = 4;

/// Where a slot is: a line, and which of its slots.
pub(super) type Place = (usize, usize);

/// Of so few lines, chance may fill two while others are empty.
const FEW_LINES: usize = 16;
/// Sizes that are tried when a shard grows.
const MAX_TRIES: usize = 8;

/// Lines and what is in them.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) lines: Vec<Line>,
    /// So many more keys may be given up before the shard is asked again whether it has room.
    may_give_up: u32,
}

/// The keys of a shard in other lines.
struct Spread {
    shard: Shard,
    keys: usize,
    /// Those that find no place.
    crowded: Vec<Slot>,
}

/// A line that would have room if one of its slots were moved.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    line: usize,
    /// Which slot of an earlier step's line could then be moved here.
    takes: Option<(usize, usize)>,
}

impl Shard {
    /// A shard of these lines.
    pub(super) fn of(lines: Vec<Line>) -> Self {
        Self { lines, may_give_up: 0 }
    }

    /// An empty shard with room for so many keys, but for chance.
    pub(super) fn with_room(keys: usize) -> Self {
        Self::of(vec![Line::EMPTY; lines_for(keys)])
    }

    /// The place of a key, and what it says.
    pub(super) fn find(&self, tag: u64, window: Window) -> Option<(Place, Location)> {
        self.lines_of(tag).into_iter().find_map(|line| {
            let mut found = self.lines.get(line)?.find(tag);
            found.find_map(|(at, slot)| Some(((line, at), window.live(slot.location)?)))
        })
    }

    /// Decides about the slot of a key: `decide` sees what is there now. Gives what was there before.
    pub(super) fn change(
        &mut self,
        tag: u64,
        window: Window,
        decide: impl FnOnce(Option<Location>) -> Change,
    ) -> (Option<Location>, Change) {
        let found = self.find(tag, window);
        let before = found.map(|(_, location)| location);
        let change = decide(before);
        let slot = |location| Slot { tag, location };
        match (change, found) {
            (Change::Keep, _) | (Change::Remove, None) => {}
            (Change::Remove, Some((place, _))) => self.set(place, None),
            (Change::Put(location), Some((place, _))) => self.set(place, Some(slot(location))),
            (Change::Put(location), None) => self.insert(slot(location), window),
        }
        (before, change)
    }

    /// Fills or empties a place.
    fn set(&mut self, (line, at): Place, slot: Option<Slot>) {
        if let Some(line) = self.lines.get_mut(line) {
            line.set(at, slot);
        }
    }

    /// Finds a place for a key that has none; grows if there is no room.
    fn insert(&mut self, slot: Slot, window: Window) {
        while !self.place(slot, window) {
            if !self.grow(window) {
                return self.give_up_for(slot);
            }
        }
    }

    /// Takes the place of another key, which is forgotten.
    fn give_up_for(&mut self, slot: Slot) {
        let [line, _] = self.lines_of(slot.tag);
        self.set((line, 0), Some(slot));
    }

    /// Empties what is dead.
    pub(super) fn sweep(&mut self, window: Window) {
        for line in &mut self.lines {
            *line = without_dead(line, window);
        }
    }

    /// Gives memory back if a third of it is not needed.
    pub(super) fn shrink(&mut self, window: Window) {
        let held = self.entries(window).count();
        if held * 3 < self.lines.len() * SLOTS * 2 {
            let shrunk = self.spread_over(lines_for(held), window);
            if shrunk.crowded.is_empty() {
                *self = shrunk.shard;
            }
        }
    }

    /// A copy of the lines without what is dead.
    pub(super) fn live_lines(&self, window: Window) -> Vec<Line> {
        self.lines.iter().map(|line| without_dead(line, window)).collect()
    }

    /// All keys, and where their records are.
    pub(super) fn entries(&self, window: Window) -> impl Iterator<Item = Slot> {
        let slots = self.lines.iter().flat_map(Line::slots).flatten();
        slots.filter_map(move |slot| Some(Slot { location: window.live(slot.location)?, ..slot }))
    }

    fn lines_of(&self, tag: u64) -> [usize; 2] {
        let count = self.lines.len() as u64;
        // The upper half of a product spreads 32 bits over any count (Lemire, "Fast random integer
        // generation in an interval", 2019); the factor is the golden ratio's.
        let spread = |bits: u64| (((bits & 0xffff_ffff) * count) >> 32) as usize;
        [spread(tag), spread(tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)]
    }

    fn slot(&self, line: usize, at: usize) -> Option<Slot> {
        self.lines.get(line)?.slot(at)
    }

    fn free(&self, line: usize, window: Window) -> Option<Place> {
        Some((line, self.lines.get(line)?.free(|ordinal| window.is_live(ordinal))?))
    }

    fn place(&mut self, slot: Slot, window: Window) -> bool {
        let lines = self.lines_of(slot.tag);
        let place = lines
            .into_iter()
            .find_map(|line| self.free(line, window))
            .or_else(|| self.make_room(lines, window));
        if let Some(place) = place {
            self.set(place, Some(slot));
        }
        place.is_some()
    }

    /// Frees a slot in one of two full lines, by moving as few others as possible.
    fn make_room(&mut self, lines: [usize; 2], window: Window) -> Option<Place> {
        let mut steps = [Step::default(); MAX_STEPS];
        let mut count = lines.len();
        steps.iter_mut().zip(lines).for_each(|(step, line)| step.line = line);
        let mut next = 0;
        while next < count {
            let line = steps.get(next)?.line;
            for at in 0..SLOTS {
                let Some(slot) = self.slot(line, at) else { continue };
                for other in self.lines_of(slot.tag) {
                    // Each line once, so that no slot is moved twice.
                    if steps.iter().take(count).any(|step| step.line == other) {
                        continue;
                    }
                    if let Some(place) = self.free(other, window) {
                        self.set(place, Some(slot));
                        return Some(self.move_along(&steps, (next, at)));
                    }
                    if let Some(step) = steps.get_mut(count) {
                        *step = Step { line: other, takes: Some((next, at)) };
                        count += 1;
                    }
                }
            }
            next += 1;
        }
        None
    }

    /// Moves slots along the way that leads to a step whose slot has been moved; gives the place that
    /// is free in the end.
    fn move_along(&mut self, steps: &[Step], (mut step, mut at): (usize, usize)) -> Place {
        loop {
            let Some(Step { line, takes }) = steps.get(step) else { return (0, 0) };
            let Some((earlier, slot_at)) = *takes else { return (*line, at) };
            let from = steps.get(earlier).and_then(|earlier| self.slot(earlier.line, slot_at));
            self.set((*line, at), from);
            (step, at) = (earlier, slot_at);
        }
    }

    /// False if there is room enough, and only these few keys find none. Chance does not do that: they
    /// were chosen by somebody who knows the secret, and would have the shard grow without end.
    fn grow(&mut self, window: Window) -> bool {
        // Whether there is room is known by going through all lines, and so is asked for many keys at once.
        if let Some(left) = self.may_give_up.checked_sub(1) {
            self.may_give_up = left;
            return false;
        }
        let before = self.lines.len();
        if before >= MAX_LINES {
            return false;
        }
        let mut count = before;
        for _ in 0..MAX_TRIES {
            count += (count / GROWTH_DIVISOR).max(1);
            let spread = self.spread_over(count, window);
            if before >= FEW_LINES && spread.keys * 2 < before * SLOTS {
                self.may_give_up = before as u32;
                return false;
            }
            if spread.crowded.is_empty() {
                *self = spread.shard;
                return true;
            }
        }
        // They are meant to find no place.
        let mut spread = self.spread_over(count, window);
        spread.crowded.drain(..).for_each(|slot| spread.shard.give_up_for(slot));
        *self = spread.shard;
        true
    }

    /// The same keys in so many lines, each in the emptier of its two.
    fn spread_over(&self, count: usize, window: Window) -> Spread {
        let mut shard = Self::of(vec![Line::EMPTY; count]);
        let mut filled = vec![0; count];
        let (mut keys, mut crowded) = (0, Vec::new());
        for slot in self.entries(window) {
            keys += 1;
            let emptier = shard.lines_of(slot.tag).into_iter().min_by_key(|line| filled.get(*line));
            match emptier.and_then(|line| Some((line, filled.get_mut(line)?))) {
                Some((line, at)) if *at < SLOTS => {
                    shard.set((line, *at), Some(slot));
                    *at += 1;
                }
                _ => crowded.push(slot),
            }
        }
        crowded.retain(|slot| !shard.place(*slot, window));
        Spread { shard, keys, crowded }
    }
}

/// How many lines hold so many keys, but for chance.
fn lines_for(keys: usize) -> usize {
    let lines = keys.div_ceil(SLOTS).min(MAX_LINES);
    lines + lines / GROWTH_DIVISOR
}

fn without_dead(line: &Line, window: Window) -> Line {
    let mut left = *line;
    for (at, slot) in line.slots().enumerate() {
        if slot.is_some_and(|slot| window.live(slot.location).is_none()) {
            left.set(at, None);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::line::TAG_BITS;

    const WINDOW: Window = Window { lowest: 1, first_live: 1 };

    // splitmix64, Steele et al., "Fast splittable pseudorandom number generators" (2014).
    fn spread(i: u64) -> u64 {
        let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> (64 - TAG_BITS)
    }

    fn put(shard: &mut Shard, tag: u64, position: u32) {
        let location = Location { ordinal: 1, position };
        shard.change(tag, WINDOW, |_| Change::Put(location));
    }

    fn position_of(shard: &Shard, tag: u64) -> Option<u32> {
        shard.find(tag, WINDOW).map(|(_, location)| location.position)
    }

    #[test]
    fn chance_never_makes_a_shard_give_a_key_up() {
        for round in 0..2_000 {
            let mut shard = Shard::default();
            for i in 0..400 {
                put(&mut shard, spread(round << 32 | i), i as u32 + 1);
                assert_eq!(shard.may_give_up, 0, "round {round}, key {i}");
            }
            assert_eq!(shard.entries(WINDOW).count(), 400);
        }
    }

    #[test]
    fn keys_that_share_their_lines_do_not_make_a_shard_grow_without_end() {
        let few = Shard::of(vec![Line::EMPTY; 500]);
        let target = few.lines_of(spread(0));
        let alike = (1..).map(spread).filter(|tag| few.lines_of(*tag) == target);
        let alike: Vec<u64> = alike.take(60).collect();
        let mut shard = Shard::default();
        for i in 0..600 {
            put(&mut shard, spread(1 << 40 | i), i as u32 + 1);
        }
        let before = shard.lines.len();
        for (i, tag) in alike.iter().enumerate() {
            put(&mut shard, *tag, 10_000 + i as u32);
            assert_eq!(position_of(&shard, *tag), Some(10_000 + i as u32), "the last one is there");
        }
        assert!(shard.lines.len() <= 2 * before + FEW_LINES, "{} lines", shard.lines.len());
        for (i, tag) in alike.iter().enumerate() {
            let found = position_of(&shard, *tag);
            assert!(found.is_none_or(|position| position == 10_000 + i as u32));
        }
        let kept = (0..600).filter(|i| position_of(&shard, spread(1 << 40 | i)).is_some());
        assert!(kept.count() >= 600 - 12, "only those of the two lines made room");
    }

    #[test]
    fn a_shard_that_has_all_keys_holds_all_of_them() {
        let mut shard = Shard::default();
        for i in 0..20_000 {
            put(&mut shard, spread(i), i as u32 + 1);
        }
        for i in 0..20_000 {
            assert_eq!(position_of(&shard, spread(i)), Some(i as u32 + 1));
        }
        assert!(shard.lines.len() * SLOTS < 20_000 * 3 / 2);
    }
}
