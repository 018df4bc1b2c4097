//! Which records of a segment have had their value's checksum compared since the store was opened.

use std::sync::OnceLock;

use crate::format::record::HEAD_LEN;
use crate::sync::atomic::{AtomicU64, Ordering};

/// One bit a record, found by its offset: no two records start within one header's length.
#[derive(Debug)]
pub(crate) struct Verified {
    all: bool,
    words: OnceLock<Box<[AtomicU64]>>,
}

impl Verified {
    /// All records count as compared if this process has written them.
    pub(crate) fn new(all: bool) -> Self {
        Self { all, words: OnceLock::new() }
    }

    /// True if the record at this offset has been compared.
    pub(crate) fn contains(&self, offset: u64) -> bool {
        let (word, bit) = place(offset);
        self.all
            || self
                .words
                .get()
                .and_then(|words| words.get(word))
                .is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Notes that the record at this offset has been compared; `len` is the segment's.
    pub(crate) fn insert(&self, offset: u64, len: u64) {
        if self.all {
            return;
        }
        let words = self.words.get_or_init(|| {
            let count = len.div_ceil(HEAD_LEN as u64 * 64);
            (0..count).map(|_| AtomicU64::new(0)).collect()
        });
        let (word, bit) = place(offset);
        if let Some(word) = words.get(word) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

fn place(offset: u64) -> (usize, u64) {
    let bit = offset / HEAD_LEN as u64;
    ((bit / 64) as usize, 1 << (bit % 64))
}
