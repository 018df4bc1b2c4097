//! When the dead records of an owner are erased, and how far that has come.
//!
//! Dead records are looked for in passes over all segments. What became dead before a pass began is
//! found by it; so a pass, and what waits for readers since, says how far erasing has come. It knows
//! no files.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::Mutex;
use crate::time::Timestamp;

/// A pass is begun after this part of the time allowed, so that many records go together and the
/// rest is left for erasing them.
const BEGIN_AFTER: u32 = 2;
/// Passes follow each other at this part of the time allowed at the closest.
const APART: u32 = 16;
const NEVER: u64 = u64::MAX;

/// The passes of an owner.
#[derive(Debug)]
pub(crate) struct Scrub {
    /// When the first record became dead that no pass has looked for, in milliseconds.
    dead_since_ms: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    /// The last pass that saw every segment.
    complete: u64,
    last_begun_at: Timestamp,
    hurried: bool,
    totals: ScrubTotals,
}

/// What has been erased since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ScrubTotals {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) worst_lag: Duration,
}

/// A pass under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) number: u64,
    /// The earliest pass that had to find what this one finds: those before it that did not see every
    /// segment have left it to this one.
    pub(crate) makes_up_for: u64,
    /// When the first record that it looks for became dead.
    pub(crate) dead_since: Timestamp,
}

impl Scrub {
    /// No pass has been made; there may be dead records from before.
    pub(crate) fn new() -> Self {
        Self { dead_since_ms: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Notes that something is dead.
    pub(crate) fn note_dead(&self, now: Timestamp) {
        let now_ms = now.as_millis();
        if self.dead_since_ms.load(Ordering::Acquire) > now_ms {
            self.dead_since_ms.fetch_min(now_ms, Ordering::AcqRel);
        }
    }

    /// Lets the next pass begin at once.
    pub(crate) fn hurry(&self) {
        self.state.lock().hurried = true;
    }

    /// The pass that will find what is dead by now, and that is sure to come. Asked after it can no
    /// longer be found by readers.
    pub(crate) fn expect_pass(&self, now: Timestamp) -> u64 {
        let state = self.state.lock();
        // Under the lock: a pass that has begun since it was first noted need not be that one.
        self.note_dead(now);
        state.begun + 1
    }

    /// The last pass that saw every segment.
    pub(crate) fn complete(&self) -> u64 {
        self.state.lock().complete
    }

    /// When the first record became dead that no pass has looked for.
    pub(crate) fn dead_since(&self) -> Option<Timestamp> {
        let ms = self.dead_since_ms.load(Ordering::Acquire);
        (ms != NEVER).then(|| Timestamp::from_millis(ms))
    }

    /// Begins a pass if one is due, or wanted now. The time is looked at after when something became
    /// dead, which lies ahead only if the clock has been set right since.
    pub(crate) fn begin(
        &self,
        clock: impl FnOnce() -> Timestamp,
        within: Duration,
        wanted: bool,
    ) -> Option<Pass> {
        let mut state = self.state.lock();
        let dead_since = self.dead_since()?;
        let now = clock();
        let due = now.is_due(dead_since, within / BEGIN_AFTER)
            && now.is_due(state.last_begun_at, within / APART);
        if !(due || wanted || state.hurried) {
            return None;
        }
        let dead_since_ms = self.dead_since_ms.swap(NEVER, Ordering::AcqRel);
        state.hurried = false;
        state.begun += 1;
        state.last_begun_at = now;
        // What is dead from before the store was opened has no time of its own.
        let dead_since =
            if dead_since_ms == 0 { now } else { Timestamp::from_millis(dead_since_ms) };
        let (number, makes_up_for) = (state.begun, state.complete + 1);
        Some(Pass { number, makes_up_for, dead_since })
    }

    /// Ends a pass that saw every segment, or one that did not: then what it looked for is looked
    /// for again.
    pub(crate) fn end(&self, pass: Pass, saw_all: bool) {
        if saw_all {
            self.state.lock().complete = pass.number;
        } else {
            self.note_dead(pass.dead_since);
        }
    }

    /// Counts what has been erased.
    pub(crate) fn count(&self, records: u64, bytes: u64, lag: Duration) {
        let totals = &mut self.state.lock().totals;
        totals.records += records;
        totals.bytes += bytes;
        totals.worst_lag = totals.worst_lag.max(lag);
    }

    /// What has been erased since the store was opened.
    pub(crate) fn totals(&self) -> ScrubTotals {
        self.state.lock().totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + minutes * 60_000)
    }

    #[test]
    fn a_pass_begins_in_time_and_finds_what_was_dead_before() {
        let scrub = Scrub::new();
        let first = scrub.begin(|| at(0), HOUR, false).unwrap();
        assert_eq!(first.dead_since, at(0), "what was found at open");
        scrub.end(first, true);
        assert!(scrub.begin(|| at(600), HOUR, true).is_none(), "nothing is dead");
        scrub.note_dead(at(601));
        scrub.note_dead(at(605));
        let needed = scrub.expect_pass(at(605));
        assert!(scrub.begin(|| at(630), HOUR, false).is_none());
        let second = scrub.begin(|| at(631), HOUR, false).unwrap();
        assert_eq!((second.number, second.dead_since), (needed, at(601)));
        scrub.note_dead(at(632));
        scrub.end(second, false);
        assert_eq!(scrub.dead_since(), Some(at(601)), "looked for again");
        assert!(scrub.begin(|| at(633), HOUR, false).is_none(), "not at once");
        let third = scrub.begin(|| at(635), HOUR, false).unwrap();
        assert_eq!((third.number, third.makes_up_for), (3, needed), "it looks for the same again");
        scrub.end(third, true);
        assert!(scrub.complete() > needed);
    }

    #[test]
    fn a_pass_that_is_expected_comes() {
        let scrub = Scrub::new();
        scrub.note_dead(at(0));
        scrub.end(scrub.begin(|| at(0), HOUR, false).unwrap(), true);
        let expected = scrub.expect_pass(at(0));
        assert_eq!(scrub.begin(|| at(30), HOUR, false).unwrap().number, expected);
    }

    #[test]
    fn what_was_noted_in_a_future_that_was_wrong_is_due() {
        let scrub = Scrub::new();
        scrub.end(scrub.begin(|| at(6000), HOUR, false).unwrap(), true);
        scrub.note_dead(at(6001));
        assert!(scrub.begin(|| at(0), HOUR, false).is_some());
        scrub.note_dead(at(1));
        assert!(scrub.begin(|| at(2), HOUR, false).is_none());
        assert!(scrub.begin(|| at(31), HOUR, false).is_some());
    }

    #[test]
    fn a_hurried_pass_begins_at_once() {
        let scrub = Scrub::new();
        scrub.end(scrub.begin(|| at(0), HOUR, false).unwrap(), true);
        scrub.note_dead(at(1));
        assert!(scrub.begin(|| at(1), HOUR, false).is_none());
        scrub.hurry();
        assert!(scrub.begin(|| at(1), HOUR, false).is_some());
        scrub.note_dead(at(2));
        assert!(scrub.begin(|| at(2), HOUR, false).is_none(), "once");
    }
}
