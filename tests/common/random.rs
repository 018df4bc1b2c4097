//! A small generator of numbers from a seed: splitmix64, Steele et al., "Fast splittable
//! pseudorandom number generators" (2014).
#![allow(dead_code)]

#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Answers the questions of a power cut.
    pub(crate) fn choices(&mut self) -> impl FnMut(u32) -> u32 + use<> {
        let mut random = Self(self.next());
        // Some cuts lose much, some little: a bias for each.
        let bias = random.below(4);
        move |options| match bias {
            0 => 0,
            1 if random.below(4) > 0 => options.saturating_sub(1).min(1),
            _ => (random.next() >> 32) as u32,
        }
    }
}
