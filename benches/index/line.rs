//! One cache line of slots, packed in three ways.
//!
//! All three keep the words that a search compares in the first half of the line and the words that
//! tell the living from the dead in the second, so that each question is one comparison of eight
//! neighbouring words, which the compiler turns into vector instructions.

use crate::layout::{Location, ORDINAL_BITS, POSITION_BITS};

const WORDS: usize = 16;
const HALF: usize = WORDS / 2;
const ORDINAL_SHIFT: u32 = u32::BITS - ORDINAL_BITS;

/// A line of slots; in it, a slot whose ordinal is nought or dead is free.
pub(crate) trait Line: Copy {
    const SLOTS: usize;
    const FINGERPRINT_BITS: u32;
    const EMPTY: Self;

    /// The slots, a bit each, that hold this fingerprint, dead or alive.
    fn matches(&self, fingerprint: u64) -> u32;
    fn words(&self) -> &Words;
    fn fingerprint(&self, slot: usize) -> u64;
    fn location(&self, slot: usize) -> Location;
    fn write(&mut self, slot: usize, fingerprint: u64, location: Location);

    /// The free slots, a bit each.
    #[inline]
    fn free(&self, first_live: u32) -> u32 {
        let least = first_live << ORDINAL_SHIFT;
        let words = &self.words().0;
        mask(words[HALF..].first_chunk(), |word| word < least) & ones(Self::SLOTS)
    }
}

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Words([u32; WORDS]);

const NOUGHT: Words = Words([0; WORDS]);

#[inline]
fn mask(words: Option<&[u32; HALF]>, holds: impl Fn(u32) -> bool) -> u32 {
    let Some(words) = words else { return 0 };
    let mut mask = 0;
    for (at, word) in words.iter().enumerate() {
        mask |= u32::from(holds(*word)) << at;
    }
    mask
}

const fn ones(count: usize) -> u32 {
    (1 << count) - 1
}

/// The lowest bits of a number.
fn low(number: u64, bits: u32) -> u32 {
    (number & ((1 << bits) - 1)) as u32
}

/// Six slots of 10 bytes, 39 bits of each for the fingerprint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SixSlots(Words);

impl SixSlots {
    const POSITION_LOW: u32 = 11;
    const FINGERPRINT_HIGH: u32 = 7;

    /// Where the upper half of a slot's position is: the word and the shift.
    fn upper(slot: usize) -> (usize, u32) {
        ([6, 7, 14][slot / 2], 16 * (slot as u32 % 2))
    }
}

impl Line for SixSlots {
    const SLOTS: usize = 6;
    const FINGERPRINT_BITS: u32 = 39;
    const EMPTY: Self = Self(NOUGHT);

    fn words(&self) -> &Words {
        &self.0
    }

    #[inline]
    fn matches(&self, fingerprint: u64) -> u32 {
        let tag = fingerprint as u32;
        let mut found = mask(self.0.0.first_chunk(), |word| word == tag) & ones(Self::SLOTS);
        let mut left = found;
        while left != 0 {
            let slot = left.trailing_zeros();
            left &= left - 1;
            if self.fingerprint(slot as usize) != fingerprint {
                found &= !(1 << slot);
            }
        }
        found
    }

    fn fingerprint(&self, slot: usize) -> u64 {
        let high = self.0.0[HALF + slot] >> Self::POSITION_LOW & ones(7);
        u64::from(self.0.0[slot]) | u64::from(high) << u32::BITS
    }

    fn location(&self, slot: usize) -> Location {
        let word = self.0.0[HALF + slot];
        let (upper, shift) = Self::upper(slot);
        let upper = self.0.0[upper] >> shift & 0xffff;
        let position = upper << Self::POSITION_LOW | low(word.into(), Self::POSITION_LOW);
        Location { ordinal: word >> ORDINAL_SHIFT, position }
    }

    fn write(&mut self, slot: usize, fingerprint: u64, location: Location) {
        let high = low(fingerprint >> u32::BITS, Self::FINGERPRINT_HIGH);
        let words = &mut self.0.0;
        words[slot] = fingerprint as u32;
        words[HALF + slot] = location.ordinal << ORDINAL_SHIFT
            | high << Self::POSITION_LOW
            | low(location.position.into(), Self::POSITION_LOW);
        let (upper, shift) = Self::upper(slot);
        let bits = location.position >> Self::POSITION_LOW;
        words[upper] = words[upper] & !(0xffff << shift) | bits << shift;
    }
}

/// Seven slots of 73 bits, 32 of each for the fingerprint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SevenSlots(Words);

impl SevenSlots {
    const POSITION_LOW: u32 = ORDINAL_SHIFT;
    const POSITION_HIGH: u32 = POSITION_BITS - Self::POSITION_LOW;

    fn uppers(&self) -> u64 {
        u64::from(self.0.0[7]) | u64::from(self.0.0[15]) << u32::BITS
    }
}

impl Line for SevenSlots {
    const SLOTS: usize = 7;
    const FINGERPRINT_BITS: u32 = 32;
    const EMPTY: Self = Self(NOUGHT);

    fn words(&self) -> &Words {
        &self.0
    }

    #[inline]
    fn matches(&self, fingerprint: u64) -> u32 {
        let tag = fingerprint as u32;
        mask(self.0.0.first_chunk(), |word| word == tag) & ones(Self::SLOTS)
    }

    fn fingerprint(&self, slot: usize) -> u64 {
        self.0.0[slot].into()
    }

    fn location(&self, slot: usize) -> Location {
        let word = self.0.0[HALF + slot];
        let shift = Self::POSITION_HIGH * slot as u32;
        let upper = low(self.uppers() >> shift, Self::POSITION_HIGH);
        let position = upper << Self::POSITION_LOW | low(word.into(), Self::POSITION_LOW);
        Location { ordinal: word >> ORDINAL_SHIFT, position }
    }

    fn write(&mut self, slot: usize, fingerprint: u64, location: Location) {
        let shift = Self::POSITION_HIGH * slot as u32;
        let gap = !(u64::from(ones(Self::POSITION_HIGH as usize)) << shift);
        let upper = u64::from(location.position >> Self::POSITION_LOW);
        let uppers = self.uppers() & gap | upper << shift;
        let words = &mut self.0.0;
        words[slot] = fingerprint as u32;
        words[HALF + slot] =
            location.ordinal << ORDINAL_SHIFT | low(location.position.into(), Self::POSITION_LOW);
        words[7] = uppers as u32;
        words[15] = (uppers >> u32::BITS) as u32;
    }
}

/// Eight slots of 8 bytes, 23 bits of each for the fingerprint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EightSlots(Words);

impl EightSlots {
    const POSITION_LOW: u32 = ORDINAL_SHIFT;
    const POSITION_HIGH: u32 = POSITION_BITS - Self::POSITION_LOW;
}

impl Line for EightSlots {
    const SLOTS: usize = 8;
    const FINGERPRINT_BITS: u32 = 23;
    const EMPTY: Self = Self(NOUGHT);

    fn words(&self) -> &Words {
        &self.0
    }

    #[inline]
    fn matches(&self, fingerprint: u64) -> u32 {
        let tag = (fingerprint as u32) << Self::POSITION_HIGH;
        let tag_of = |word: u32| word & !ones(Self::POSITION_HIGH as usize);
        mask(self.0.0.first_chunk(), |word| tag_of(word) == tag)
    }

    fn fingerprint(&self, slot: usize) -> u64 {
        (self.0.0[slot] >> Self::POSITION_HIGH).into()
    }

    fn location(&self, slot: usize) -> Location {
        let word = self.0.0[HALF + slot];
        let upper = low(self.0.0[slot].into(), Self::POSITION_HIGH);
        let position = upper << Self::POSITION_LOW | low(word.into(), Self::POSITION_LOW);
        Location { ordinal: word >> ORDINAL_SHIFT, position }
    }

    fn write(&mut self, slot: usize, fingerprint: u64, location: Location) {
        let words = &mut self.0.0;
        words[slot] =
            (fingerprint as u32) << Self::POSITION_HIGH | location.position >> Self::POSITION_LOW;
        words[HALF + slot] =
            location.ordinal << ORDINAL_SHIFT | low(location.position.into(), Self::POSITION_LOW);
    }
}
