//! What reads need to know of the engine time, without a lock.

use super::EngineTime;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The engine time as of its last change, if no suspect step makes it more than a sum.
///
/// A sequence lock (Lameter, "Effective synchronization on Linux/NUMA systems", 2005): the count is odd
/// while fields change, and whoever read them in between asks again. Each field is released after
/// the odd count and acquired before the count is compared, so a new one never passes for an old one.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    count: AtomicU64,
    engine_ms: AtomicU64,
    wall_ms: AtomicU64,
    boot_ms: AtomicU64,
    has_steps: AtomicU64,
}

impl Glance {
    /// Shows a time as it is now. One caller at a time.
    pub(crate) fn show(&self, time: &EngineTime) {
        let saved = time.saved();
        self.count.fetch_add(1, Ordering::AcqRel);
        self.engine_ms.store(saved.engine_ms, Ordering::Release);
        self.wall_ms.store(saved.wall_ms, Ordering::Release);
        self.boot_ms.store(saved.boot_ms, Ordering::Release);
        self.has_steps.store(u64::from(!saved.steps.is_empty()), Ordering::Release);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// The engine time at a reading, as [`EngineTime::peek`] gives it; nothing if only the whole of the
    /// time can tell.
    pub(crate) fn peek(&self, wall_ms: u64, boot_ms: u64) -> Option<u64> {
        let before = self.count.load(Ordering::Acquire);
        let engine_then = self.engine_ms.load(Ordering::Acquire);
        let wall_then = self.wall_ms.load(Ordering::Acquire);
        let boot_then = self.boot_ms.load(Ordering::Acquire);
        let has_steps = self.has_steps.load(Ordering::Acquire) > 0;
        let is_whole = before.is_multiple_of(2) && self.count.load(Ordering::Acquire) == before;
        if !is_whole || has_steps || before == 0 {
            return None;
        }
        let elapsed = boot_ms.checked_sub(boot_then)?;
        EngineTime::agrees(wall_then.saturating_add(elapsed), wall_ms)
            .then(|| engine_then.saturating_add(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{BootId, Reading};

    #[test]
    fn a_glance_gives_what_the_time_gives_or_nothing() {
        let reading = Reading { wall_ms: 1_000_000, boot_ms: 500, boot_id: BootId::default() };
        let mut time = EngineTime::new(reading, 3_600_000);
        let glance = Glance::default();
        assert_eq!(glance.peek(1_000_000, 500), None, "nothing has been shown");
        glance.show(&time);
        for (wall_ms, boot_ms) in [(1_000_000, 500), (1_000_900, 1_000), (1_000_000, 499)] {
            assert_eq!(glance.peek(wall_ms, boot_ms), time.peek(wall_ms, boot_ms));
        }
        assert_eq!(glance.peek(9_000_000, 600), None, "a step of the clock");
        glance.count.fetch_add(1, Ordering::AcqRel);
        assert_eq!(glance.peek(1_000_000, 500), None, "another time is just being shown");
        glance.count.fetch_add(1, Ordering::AcqRel);
        assert_eq!(glance.peek(1_000_000, 500), Some(1_000_000));
        time.update(90_000_000, 600, 7);
        assert!(time.suspect_ms() > 0);
        glance.show(&time);
        assert_eq!(glance.peek(90_000_000, 600), None, "a step that is not believed yet");
    }
}
