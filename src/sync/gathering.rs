//! Callers that share what one of them does for all, such as a sync.
//!
//! The first to wake after a sync would begin the next one for itself alone, and all others, who come
//! back a moment later, would wait for that. So it waits for them: until there are as many as there
//! were, for half of the time that the last sync took at most. A caller that is always alone never
//! waits.

use std::time::{Duration, Instant};

use super::{Condvar, MODEL_CHECKED, MutexGuard};

/// The longest that a sync waits for callers to join it.
const MAX_WAIT: Duration = Duration::from_millis(1);

/// Who is there; to be kept under the callers' lock.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    now: usize,
    /// How many there were when the last sync ended, and how long it took.
    before: usize,
    took: Duration,
}

/// Moves when one joins them.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    joined: Condvar,
}

impl Callers {
    /// One goes, whose bytes are durable or not to be saved.
    pub(crate) fn leave(&mut self) {
        self.now = self.now.saturating_sub(1);
    }

    /// A sync has ended that began then.
    pub(crate) fn note_sync(&mut self, begun: Instant) {
        self.before = self.now;
        self.took = begun.elapsed();
    }
}

impl Gathering {
    /// One comes.
    pub(crate) fn join(&self, callers: &mut Callers) {
        callers.now += 1;
        if callers.now >= callers.before {
            self.joined.notify_all();
        }
    }

    /// Waits, before a sync, for those whom the last one has let go. The lock is free meanwhile.
    pub(crate) fn wait<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        callers: impl for<'a> Fn(&'a T) -> &'a Callers,
    ) {
        // A schedule that is run again must not depend on how fast the machine is.
        if MODEL_CHECKED {
            return;
        }
        let until = Instant::now() + (callers(guard).took / 2).min(MAX_WAIT);
        while callers(guard).now < callers(guard).before {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.joined.wait_for(guard, left);
        }
    }
}
