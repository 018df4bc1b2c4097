//! Whether there may be slots under the floors of their keys.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Counts the slots that had to stay although the floor of their key may hide what they name: it could not
/// be read just then. Until a pass over all segments has taken them away, whoever reads asks for floors of
/// keys too.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    raised: AtomicU64,
    settled: AtomicU64,
}

impl Doubts {
    /// Notes one.
    pub(crate) fn raise(&self) {
        self.raised.fetch_add(1, Ordering::AcqRel);
    }

    /// How many there have been, if there is one that has not been settled.
    pub(super) fn open(&self) -> Option<u64> {
        let raised = self.raised.load(Ordering::Acquire);
        (raised != self.settled.load(Ordering::Acquire)).then_some(raised)
    }

    /// Notes that so many have been settled.
    pub(super) fn settle(&self, count: u64) {
        self.settled.fetch_max(count, Ordering::AcqRel);
    }
}
