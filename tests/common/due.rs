//! When a version or a row under test leaves by itself.

use super::{WIDTH, WINDOW};

/// The clock was set, or perhaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) certain: bool,
}

/// The deadline of a bucket. Where the clock has been set back by a call that failed, or while rows waited,
/// it may be one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    bucket: u64,
    /// Before this it is there.
    pub(crate) earliest: u64,
    /// From this on it is not.
    pub(crate) latest: u64,
}

impl Due {
    /// That of the bucket which this moment lies in.
    pub(crate) fn of(moment: u64) -> Self {
        let bucket = moment / WIDTH * WIDTH;
        let deadline = bucket + WINDOW;
        Self { bucket, earliest: deadline, latest: deadline }
    }

    /// The clock was set, or perhaps: what lies ahead of it leaves with what is born now. What was past its time
    /// may have left.
    pub(crate) fn correct(&mut self, reset: Reset) {
        if self.earliest <= reset.from {
            self.earliest = 0;
        }
        if self.bucket < reset.to {
            return;
        }
        let deadline = Self::of(reset.to).latest;
        self.earliest = self.earliest.min(deadline);
        if reset.certain {
            self.latest = self.latest.min(deadline);
        }
    }

    /// The clock was set, or perhaps, before it was written: it goes to the bucket of when it was taken by the time
    /// since, which nobody knows from outside, or is gone with its pseudonym.
    pub(crate) fn wait(&mut self) {
        self.bucket = 0;
        self.earliest = 0;
    }
}
