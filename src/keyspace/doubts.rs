//! Whether there may be slots under the floors of their keys.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Counts the slots that had to stay although the floor of their key may hide what they name: it could not
/// be read just then. Until a pass over all segments has taken them away, whoever reads asks for floors of
/// keys too.
#[derive(Debug, Default)]
pub(crate) struct Doubts(AtomicU64);

impl Doubts {
    /// Notes one.
    pub(crate) fn raise(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Notes that so many of them have been settled. One pass at a time does so.
    pub(super) fn settle(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::AcqRel);
    }
}
