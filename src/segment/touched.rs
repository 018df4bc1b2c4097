//! Which parts of a segment have been read lately, and so are likely to be in memory.

use std::sync::OnceLock;

use crate::sync::atomic::{AtomicU32, Ordering};

/// The length of a part.
const PART_LEN: u64 = 64 * 1024;
/// For how long what was read counts as being in memory. A part that is asked for more often costs
/// nothing; one that is asked for less often costs one call at a time.
const LATELY_S: u32 = 2;

/// When each part of a segment was read last, in seconds.
#[derive(Debug, Default)]
pub(super) struct Touched {
    parts: OnceLock<Box<[AtomicU32]>>,
}

impl Touched {
    /// Notes that the part at this offset is read at this time; `len` is the segment's. True if it was
    /// read lately.
    pub(super) fn touch(&self, offset: u64, len: u64, now_ms: u64) -> bool {
        let parts = self
            .parts
            .get_or_init(|| (0..len.div_ceil(PART_LEN)).map(|_| AtomicU32::new(0)).collect());
        let Some(part) = parts.get((offset / PART_LEN) as usize) else { return false };
        // Never 0, which means that it was not read yet.
        let now_s = (now_ms / 1000) as u32 | 1;
        let before = part.load(Ordering::Relaxed);
        if before != now_s {
            part.store(now_s, Ordering::Relaxed);
        }
        before != 0 && now_s.wrapping_sub(before) <= LATELY_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_lately_for_a_while() {
        let touched = Touched::default();
        let len = 3 * PART_LEN;
        assert!(!touched.touch(10, len, 5_000));
        assert!(touched.touch(PART_LEN - 1, len, 6_000));
        assert!(!touched.touch(PART_LEN, len, 6_000), "another part");
        assert!(!touched.touch(10, len, 60_000), "long ago");
        assert!(touched.touch(10, len, 60_500));
        assert!(!touched.touch(len, len, 60_500), "behind the end");
    }
}
