//! What of an owner's records may still be on the disk.

use std::sync::Arc;

use super::Owner;
use crate::planted::{Bug, is_planted};
use crate::segment::Segment;
use crate::sync::atomic::Ordering;

impl Owner {
    /// True if what has a number up to `seq` may still be on the disk, or be written yet: in a segment, in the
    /// trash, or out of sight.
    pub(crate) fn may_hold(&self, seq: u64) -> bool {
        // First: whatever has been written since is in the table.
        let engine = &self.engine;
        let is_under_way = engine.sequence.lowest_open(engine.clock.boot_ms()) <= seq;
        // Under the lock: whatever leaves is in the table or in the trash.
        let _membership = self.membership.lock();
        is_under_way
            || self.is_out_of_sight(seq)
            || self.table.read().iter().any(|(_, segment)| segment.min_seq() <= seq)
            || engine.trash().is_some_and(|trash| trash.holds(self.id))
    }

    /// True if all that had a number up to `seq`, and that this pass or one before it had to find, has
    /// been overwritten.
    pub(crate) fn has_scrubbed(&self, seq: u64, pass: u64) -> bool {
        // In this order: what a pass finds waits before the pass is complete, and what leaves since
        // is in the trash for whoever has waited for the lock.
        let is_done = |segment: &Segment| segment.pinned().is_none_or(|waits| waits.pass > pass);
        if self.scrubbing.complete() < pass || !self.segments().all(|s| is_done(&s)) {
            return false;
        }
        let _membership = self.membership.lock();
        !self.is_out_of_sight(seq) && self.trash_is_scrubbed(pass)
    }

    /// True if something with a number up to this one may lie in a file that could not be taken up, or
    /// whose leaving may not be durable, or in that of a value which is, or was, being written.
    fn is_out_of_sight(&self, seq: u64) -> bool {
        self.undurable_min_seq.load(Ordering::Acquire) <= seq || self.parts.lock().may_hold(seq)
    }

    /// No record of this owner that is on the disk has a lower number.
    pub(crate) fn min_seq(&self) -> u64 {
        // Under the lock: what is just leaving has left the table, and may be back after a power cut.
        let _membership = self.membership.lock();
        let table = self.table.read();
        let counts = |s: &Segment| s.live() > 0 || !is_planted(Bug::TombstoneForgottenEarly);
        let live = table.iter().filter(|(_, s)| counts(s)).map(|(_, s)| s.min_seq()).min();
        live.unwrap_or(u64::MAX).min(self.undurable_min_seq.load(Ordering::Acquire))
    }

    /// The highest number in any segment that has left.
    pub(crate) fn left_max_seq(&self) -> u64 {
        self.left_max_seq.load(Ordering::Acquire)
    }

    /// Notes that segments have left; gives the pass of scrubbing through which they had been erased.
    pub(super) fn note_left(&self, gone: &[Arc<Segment>]) -> u64 {
        let highest = gone.iter().map(|segment| segment.max_seq()).max().unwrap_or(0);
        self.left_max_seq.fetch_max(highest, Ordering::AcqRel);
        let waiting = gone.iter().filter_map(|segment| segment.pinned());
        let passes = waiting.map(|pinned| pinned.pass.saturating_sub(1));
        passes.fold(self.scrubbing.complete(), u64::min)
    }

    /// Notes that something may still be on the disk whose lowest number is this one.
    pub(crate) fn note_undurable(&self, min_seq: Option<u64>) {
        self.undurable_min_seq.fetch_min(min_seq.unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}
