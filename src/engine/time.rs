//! The time of an open store: what its clocks say, and what is written down of it.

use super::Engine;
use crate::error::Result;
use crate::time::{Clock, Correction, EngineTime, Reading, SavedTime, Timestamp};

/// The time that counts, and the one that takes its place once it is written down.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) now: EngineTime,
    pub(super) coming: Option<EngineTime>,
}

/// Looks at both clocks.
pub(crate) fn read_clock(clock: &dyn Clock) -> Reading {
    Reading {
        wall_ms: clock.wall().as_millis(),
        boot_ms: clock.boot_ms(),
        boot_id: clock.boot_id(),
    }
}

impl Engine {
    /// The time that decides about buckets, deadlines and everything irreversible.
    pub(crate) fn trusted_now(&self) -> Timestamp {
        Timestamp::from_millis(self.engine_ms())
    }

    /// The time by which a record of this sequence number is judged hidden.
    pub(crate) fn hiding_now(&self, seq: u64) -> Timestamp {
        let (wall, boot) = self.clocks();
        if let Some(now) = self.glance.peek(wall, boot) {
            return Timestamp::from_millis(now);
        }
        let engine_ms = self.engine_ms_at(wall, boot);
        Timestamp::from_millis(self.time.read().now.hiding_time(engine_ms, seq))
    }

    fn engine_ms(&self) -> u64 {
        let (wall, boot) = self.clocks();
        self.glance.peek(wall, boot).unwrap_or_else(|| self.engine_ms_at(wall, boot))
    }

    fn engine_ms_at(&self, wall: u64, boot: u64) -> u64 {
        if let Some(now) = self.time.read().now.peek(wall, boot) {
            return now;
        }
        self.update_time(wall, boot)
    }

    fn clocks(&self) -> (u64, u64) {
        (self.clock.wall().as_millis(), self.clock.boot_ms())
    }

    fn change_times<T>(&self, change: impl FnOnce(&mut Times) -> T) -> T {
        let mut times = self.time.write();
        let changed = change(&mut times);
        self.glance.show(&times.now);
        changed
    }

    fn change_time<T>(&self, change: impl FnOnce(&mut EngineTime) -> T) -> T {
        self.change_times(|times| change(&mut times.now))
    }

    /// Takes a reading into account, also for the time that is just being written down, and gives the engine time.
    fn update_time(&self, wall: u64, boot: u64) -> u64 {
        self.change_times(|times| {
            let last_seq = self.sequence.last();
            if let Some(coming) = &mut times.coming {
                coming.update(wall, boot, last_seq);
            }
            times.now.update(wall, boot, last_seq)
        })
    }

    /// Takes the clocks' present readings into account and gives what must be written down.
    fn settle_time(&self) -> SavedTime {
        let (wall, boot) = self.clocks();
        self.update_time(wall, boot);
        self.time.read().now.saved().clone()
    }

    /// Raises the engine time to a moment that it is known to have reached before a power cut took
    /// the record of it. Newer records then never go to an older bucket, which would leave first
    /// and uncover what they superseded.
    pub(crate) fn raise_time(&self, at_least: Timestamp) {
        self.settle_time();
        self.change_time(|time| time.raise(at_least.as_millis()));
    }

    /// Writes the engine time down, durably.
    pub(crate) fn save_time(&self) -> Result<()> {
        let _turn = self.saving.lock();
        let saved = self.settle_time();
        self.write_side()?.state.update(|state| state.time = saved)
    }

    /// The time as it stands in STATE, which the next process knows too: by a later one a newer version could have left
    /// when the power goes, and an older one be valid, or a denial be forgotten that is not over.
    pub(crate) fn written_time(&self) -> Timestamp {
        match self.write_side() {
            Ok(side) => Timestamp::from_millis(side.state.current().time.engine_ms),
            Err(_) => self.trusted_now(),
        }
    }

    /// Writes the time down once the store is closed, and, if all is in order, which snapshot belongs to it.
    pub(crate) fn save_last(&self, snapshot_id: Option<[u8; 16]>) -> Result<()> {
        let Some(side) = &self.write_side else { return Ok(()) };
        let _turn = self.saving.lock();
        let saved = self.settle_time();
        side.state.update(|state| {
            state.time = saved;
            if let Some(snapshot_id) = snapshot_id {
                state.clean = true;
                state.snapshot_id = snapshot_id;
            }
        })
    }

    /// Makes a change of the engine time, for which it is told what the wall clock says, and gives the new time.
    /// Nobody goes by that until it is written down, durably, and after an error it is as before.
    fn change_durably(&self, change: impl FnOnce(&mut EngineTime, u64)) -> Result<Timestamp> {
        let state = &self.write_side()?.state;
        let _turn = self.saving.lock();
        let (wall, boot) = self.clocks();
        self.update_time(wall, boot);
        let saved = self.change_times(|times| {
            let coming = times.coming.insert(times.now.clone());
            change(coming, wall);
            coming.saved().clone()
        });
        let engine_ms = saved.engine_ms;
        let written = state.update(|state| state.time = saved);
        self.change_times(|times| {
            if let Some(coming) = times.coming.take().filter(|_| written.is_ok()) {
                times.now = coming;
            }
        });
        if let Err(error) = written {
            // The next process may find it all the same: nothing may be born by the time before until
            // that is written down again.
            let before = self.settle_time();
            state.update(|state| state.time = before).map_err(|e| self.poison(e))?;
            return Err(error);
        }
        Ok(Timestamp::from_millis(engine_ms))
    }

    /// How far the wall clock is ahead by steps that are not yet believed, in milliseconds.
    pub(crate) fn suspect_ms(&self) -> u64 {
        self.time.read().now.suspect_ms()
    }

    /// Believes all suspect steps, durably. After an error it is as before.
    pub(crate) fn confirm_clock(&self) -> Result<()> {
        self.change_durably(|time, _| time.confirm()).map(|_| ())
    }

    /// Takes the wall clock's word, durably, together with the note that deadlines are to be brought
    /// forward, and gives the new time. After an error it is as before.
    pub(crate) fn begin_correction(&self) -> Result<Timestamp> {
        self.change_durably(|time, wall| time.reset(wall, self.next_number()))
    }

    /// What the time was set to, if deadlines of what was born before are not all written down yet.
    pub(crate) fn correction(&self) -> Option<Correction> {
        self.time.read().now.saved().correction
    }

    /// Takes back the note that deadlines are to be brought forward, durably.
    pub(crate) fn end_correction(&self) -> Result<()> {
        let _turn = self.saving.lock();
        let saved = SavedTime { correction: None, ..self.settle_time() };
        self.write_side()?.state.update(|state| state.time = saved)?;
        self.change_time(EngineTime::end_correction);
        Ok(())
    }
}
