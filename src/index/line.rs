//! A line of the index: six slots of 85 bits in the 64 bytes that a processor loads at once.

use super::Location;
use crate::hash::FINGERPRINT_BITS;

/// Slots of a line.
pub(super) const SLOTS: usize = 6;
/// Bits that tell the keys of one shard apart. With these and the shard, one pair in two to the 52 is
/// taken for one key.
pub(super) const TAG_BITS: u32 = 40;
/// Bits of a position: offsets below 2 GiB, in units of 8 bytes.
const POSITION_BITS: u32 = 28;
/// Bits of an ordinal.
pub(super) const ORDINAL_BITS: u32 = 17;
const LOCATION_BITS: u32 = POSITION_BITS + ORDINAL_BITS;
/// Bits of a tag that stand in a slot's own word, and those that stand behind the words.
const LOW_BITS: u32 = 64 - LOCATION_BITS;
const HIGH_BITS: u32 = TAG_BITS - LOW_BITS;
/// High parts in one word.
const HIGHS: usize = 3;

const _: () = assert!(HIGH_BITS * HIGHS as u32 <= 64 && FINGERPRINT_BITS >= TAG_BITS);

/// What a slot says, with the ordinal cut to its lowest bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) tag: u64,
    pub(super) location: Location,
}

/// Six words of low tag bits, ordinal and position; two words with the high tag bits of three each.
/// An empty slot has position 0, where no record can start.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(pub(super) [u64; 8]);

impl From<[u64; 8]> for Line {
    fn from(words: [u64; 8]) -> Self {
        Self(words)
    }
}

impl From<Line> for [u64; 8] {
    fn from(line: Line) -> Self {
        line.0
    }
}

impl Line {
    pub(super) const EMPTY: Self = Self([0; 8]);

    /// All slots, empty ones as `None`.
    pub(super) fn slots(&self) -> impl Iterator<Item = Option<Slot>> {
        (0..SLOTS).map(|at| self.slot(at))
    }

    /// One slot, unless it is empty.
    pub(super) fn slot(&self, at: usize) -> Option<Slot> {
        let word = self.0.get(at).copied()?;
        let position = (word & mask(POSITION_BITS)) as u32;
        let ordinal = (word >> POSITION_BITS & mask(ORDINAL_BITS)) as u32;
        let tag = word >> LOCATION_BITS | self.high(at) << LOW_BITS;
        (position != 0).then_some(Slot { tag, location: Location { ordinal, position } })
    }

    /// The first slot that is empty, or whose lowest bits of an ordinal are not live.
    pub(super) fn free(&self, is_live: impl Fn(u32) -> bool) -> Option<usize> {
        self.0.iter().take(SLOTS).position(|word| {
            let ordinal = (word >> POSITION_BITS & mask(ORDINAL_BITS)) as u32;
            word & mask(POSITION_BITS) == 0 || !is_live(ordinal)
        })
    }

    /// The slots of a tag; more than one only where dead ones lie about.
    pub(super) fn find(&self, tag: u64) -> impl Iterator<Item = (usize, Slot)> {
        let low = tag & mask(LOW_BITS);
        let words = self.0.iter().take(SLOTS).enumerate();
        let alike = words.filter(move |(_, word)| **word >> LOCATION_BITS == low);
        let slots = alike.filter_map(|(at, _)| Some((at, self.slot(at)?)));
        slots.filter(move |(_, slot)| slot.tag == tag)
    }

    /// Fills or empties a slot.
    pub(super) fn set(&mut self, at: usize, slot: Option<Slot>) {
        let Slot { tag, location } = slot.unwrap_or_default();
        debug_assert!(u64::from(location.position) <= mask(POSITION_BITS), "position of a slot");
        let ordinal = u64::from(location.ordinal) & mask(ORDINAL_BITS);
        let place = ordinal << POSITION_BITS | u64::from(location.position);
        if let Some(word) = self.0.get_mut(at) {
            *word = (tag & mask(LOW_BITS)) << LOCATION_BITS | place;
        }
        let shift = high_shift(at);
        if let Some(word) = self.0.get_mut(SLOTS + at / HIGHS) {
            *word = *word & !(mask(HIGH_BITS) << shift) | tag >> LOW_BITS << shift;
        }
    }

    fn high(&self, at: usize) -> u64 {
        let word = self.0.get(SLOTS + at / HIGHS).copied().unwrap_or_default();
        word >> high_shift(at) & mask(HIGH_BITS)
    }
}

impl Default for Slot {
    /// What an empty slot holds.
    fn default() -> Self {
        Self { tag: 0, location: Location { ordinal: 0, position: 0 } }
    }
}

fn high_shift(at: usize) -> u32 {
    (at % HIGHS) as u32 * HIGH_BITS
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_touch_each_other() {
        let slot = |at: u64| Slot {
            tag: mask(TAG_BITS) ^ at.wrapping_mul(0x9e37_79b9) & mask(TAG_BITS),
            location: Location {
                ordinal: mask(ORDINAL_BITS) as u32 - at as u32,
                position: 1 << 27,
            },
        };
        let mut line = Line::EMPTY;
        for at in 0..SLOTS {
            line.set(at, Some(slot(at as u64)));
        }
        for at in 0..SLOTS {
            assert_eq!(line.slot(at), Some(slot(at as u64)));
            assert_eq!(line.find(slot(at as u64).tag).collect::<Vec<_>>(), [(at, slot(at as u64))]);
        }
        line.set(4, None);
        assert_eq!(line.slots().flatten().count(), SLOTS - 1);
        for at in [0, 1, 2, 3, 5] {
            line.set(at, None);
        }
        assert_eq!(line.0, [0; 8]);
    }
}
