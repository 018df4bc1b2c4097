//! How many lines the shards have, and which of them have any: known without taking a lock.

use super::shard::Shard;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const WORD_BITS: usize = u64::BITS as usize;

/// Kept as shards grow and shrink.
#[derive(Debug)]
pub(super) struct Census {
    /// Of all shards together.
    lines: AtomicUsize,
    /// A bit for each shard that has any, from the lowest of the first word on.
    filled: Box<[AtomicU64]>,
}

impl Census {
    /// Of so many shards, none of which has any.
    pub(super) fn new(shards: usize) -> Self {
        let filled = (0..shards.div_ceil(WORD_BITS)).map(|_| AtomicU64::new(0)).collect();
        Self { lines: AtomicUsize::new(0), filled }
    }

    /// Does something to a shard that may change how many lines it has. It is locked, or this
    /// thread's alone.
    pub(super) fn counting<T>(
        &self,
        at: usize,
        shard: &mut Shard,
        work: impl FnOnce(&mut Shard) -> T,
    ) -> T {
        let before = shard.lines.len();
        let done = work(shard);
        let after = shard.lines.len();
        if after != before {
            self.note(at, before, after);
        }
        done
    }

    /// A shard that had so many lines has so many now.
    #[cold]
    pub(super) fn note(&self, at: usize, before: usize, after: usize) {
        // Wraps where there are fewer now.
        self.lines.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        let Some(word) = self.filled.get(at / WORD_BITS) else { return };
        let bit = 1 << (at % WORD_BITS);
        match (before, after) {
            (0, 1..) => word.fetch_or(bit, Ordering::Relaxed),
            (1.., 0) => word.fetch_and(!bit, Ordering::Relaxed),
            _ => return,
        };
    }

    /// The lines of all shards.
    pub(super) fn lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }

    /// The first shard from this one on that has any lines.
    pub(super) fn next_filled(&self, from: usize) -> Option<usize> {
        let mut below = from % WORD_BITS;
        for (at, word) in self.filled.iter().enumerate().skip(from / WORD_BITS) {
            let left = word.load(Ordering::Relaxed) & (u64::MAX << below);
            if left != 0 {
                return Some(at * WORD_BITS + left.trailing_zeros() as usize);
            }
            below = 0;
        }
        None
    }

    /// Bytes of memory it takes beside itself.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.filled)
    }
}
