//! What the background thread does.

use std::time::Duration;

use super::StoreCore;
use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::time::{SAVE_INTERVAL_MS, Timestamp};

/// The engine's time is written down after half of what a power cut may hide, so that no round of upkeep
/// that comes within that time comes too late.
const SAVE_AFTER: Duration = Duration::from_millis(SAVE_INTERVAL_MS / 2);

/// When the slower parts of the upkeep were done last, by the engine's time.
#[derive(Debug, Default)]
pub(super) struct Due {
    saved_at: Timestamp,
    settled_at: Timestamp,
}

impl Due {
    fn must_save(&self, now: Timestamp) -> bool {
        now.is_due(self.saved_at, SAVE_AFTER)
    }
}

/// Keeps the first error of several steps that are all to be done.
#[derive(Default)]
pub(super) struct FirstError(Option<Error>);

impl FirstError {
    pub(super) fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.get_or_insert(error);
                None
            }
        }
    }

    pub(super) fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// On a full disk nothing is born anyway, and what the ledger lacks waits in memory.
fn or_later(written: Result<()>) -> Result<()> {
    match written {
        Err(Error::NoSpace { .. }) => Ok(()),
        written => written,
    }
}

impl StoreCore {
    /// Makes everything written before durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.engine.check_writable()?;
        let mut first = FirstError::default();
        for core in self.keyspace_cores() {
            first.note(core.sync());
        }
        for core in self.log_cores() {
            first.note(core.sync());
        }
        first.into_result()
    }

    /// Does a part of the upkeep. Closing waits for it, so that nothing is written once the lock of the
    /// store is given back.
    fn in_turn<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.engine.check_process()?;
        let _due = self.upkeep.lock();
        self.engine.write_side()?;
        step()
    }

    /// One round of upkeep, all but giving space back.
    pub(crate) fn tick(&self) -> Result<()> {
        let mut due = self.upkeep.lock();
        if self.engine.is_closed() || self.engine.is_read_only() {
            return Ok(());
        }
        let mut first = FirstError::default();
        if self.engine.poison_reason().is_none() {
            first.note(self.sync());
        }
        let now = self.engine.trusted_now();
        first.note(or_later(self.engine.flush_ledger()));
        first.note(self.resume_correction());
        first.note(self.drop_expired(now));
        for core in self.keyspace_cores() {
            core.seal_past(now);
            first.note(core.shrink());
            core.owner.remove_empty_buckets(now);
            first.note(core.owner.give_up_unmade(|bucket| bucket.deadline() <= now));
        }
        for core in self.log_cores() {
            core.seal_past(now);
            first.note(core.owner.give_up_unmade(|bucket| bucket.deadline() <= now));
        }
        first.note(self.scrub(now, false));
        let settles = now.is_due(due.settled_at, Duration::from_millis(SAVE_INTERVAL_MS));
        if settles {
            due.settled_at = now;
            // What the ledger holds is in what is saved, and counted before it is forgotten.
            first.note(or_later(self.engine.settle_ledger()));
        }
        if settles || due.must_save(now) {
            first.note(self.save_time(&mut due, now));
        }
        if settles {
            first.note(self.forget());
            first.note(self.shorten_ledger(now));
        }
        first.into_result()
    }

    /// Writes the time down if that is due: where rounds of upkeep are far apart, between them too.
    pub(crate) fn keep_time(&self) -> Result<()> {
        let mut due = self.upkeep.lock();
        if self.engine.is_closed() || self.engine.is_read_only() {
            return Ok(());
        }
        let now = self.engine.trusted_now();
        if due.must_save(now) { self.save_time(&mut due, now) } else { Ok(()) }
    }

    fn save_time(&self, due: &mut Due, now: Timestamp) -> Result<()> {
        self.engine.save_time()?;
        due.saved_at = now;
        Ok(())
    }

    /// Erases dead records where that is due, or everywhere, and removes the files that were given up.
    fn scrub(&self, now: Timestamp, wanted: bool) -> Result<()> {
        let mut first = FirstError::default();
        for core in self.keyspace_cores() {
            first.note(core.owner.clear_given_up());
        }
        for core in self.log_cores() {
            first.note(core.owner.clear_given_up());
        }
        // Nothing written since a failure is certain, so nothing is taken for replaced.
        if first.note(self.engine.check_writable()).is_none() {
            return first.into_result();
        }
        for core in self.keyspace_cores() {
            first.note(core.scrub(now, wanted));
        }
        for core in self.log_cores() {
            first.note(core.scrub(now, wanted));
        }
        self.engine.note_progress();
        first.into_result()
    }

    /// Erases dead records now, all but those that readers hold.
    pub(super) fn scrub_now(&self) -> Result<()> {
        self.in_turn(|| {
            let now = self.engine.trusted_now();
            // No pass meets what lies in a bucket that could not be dropped as the store was opened.
            let mut first = FirstError::default();
            first.note(self.drop_expired(now));
            first.note(self.scrub(now, true));
            first.into_result()
        })
    }

    /// Gives one piece of the trash back; true if there is more.
    pub(crate) fn free_piece(&self) -> bool {
        let more = self.reap_step().unwrap_or(false);
        self.engine.note_progress();
        more
    }

    fn reap_step(&self) -> Result<bool> {
        self.in_turn(|| self.engine.write_side()?.trash.reap_step())
    }

    /// All upkeep, to the end.
    pub(super) fn maintain_fully(&self) -> Result<()> {
        self.engine.write_side()?;
        let mut first = FirstError::default();
        first.note(self.tick());
        first.note(self.in_turn(|| or_later(self.engine.settle_ledger())));
        first.note(self.in_turn(|| self.forget()));
        // Each step frees something or fails; what failed is tried again next time.
        while first.note(self.reap_step()).unwrap_or(false) {}
        first.note(self.in_turn(|| or_later(self.engine.flush_ledger())));
        first.note(self.engine.check_writable());
        first.into_result()
    }

    /// Drops what is due, and nothing else.
    pub(super) fn drop_due(&self) -> Result<usize> {
        self.in_turn(|| self.drop_expired(self.engine.trusted_now()))
    }

    fn drop_expired(&self, now: Timestamp) -> Result<usize> {
        let keyspaces = self.keyspace_cores();
        let logs = self.log_cores();
        let owners = keyspaces.iter().map(|c| &c.owner).chain(logs.iter().map(|c| &c.owner));
        if owners.into_iter().all(|owner| owner.expired(now).is_empty()) {
            return Ok(0);
        }
        // A drop must not be taken back by a time that was forgotten.
        self.engine.save_time()?;
        let mut first = FirstError::default();
        let mut dropped = 0;
        for core in keyspaces {
            dropped += first.note(core.drop_expired(now)).unwrap_or(0);
        }
        for core in logs {
            dropped += first.note(core.drop_expired(now)).unwrap_or(0);
        }
        first.into_result().map(|()| dropped)
    }

    /// Forgets tombstones that cannot hide anything any more, and sees to the spare.
    fn forget(&self) -> Result<()> {
        let side = self.engine.write_side()?;
        let now = self.engine.written_time();
        // In this order: what is under way now is in a segment by the time that is looked at.
        let open = self.engine.sequence.lowest_open(self.engine.clock.boot_ms());
        let mut mark = if self.has_orphans { 0 } else { open };
        for core in self.keyspace_cores() {
            let own = open.min(core.owner.min_seq());
            core.floors.forget_below(own);
            core.denials.forget_until(now.as_millis());
            mark = mark.min(own);
        }
        for core in self.log_cores() {
            let own = open.min(core.owner.min_seq());
            core.floors.forget_below(own);
            // A log in which nothing was invalidated needs no tombstones, however long it is kept.
            if core.floors.counts().tags > 0 {
                mark = mark.min(own);
            }
        }
        self.engine.denials.forget_until(now.as_millis());
        // The next process would not know that there were any that this one could not write down.
        mark = mark.min(side.ledger.counted_below());
        match side.tombstones.forget_below(mark, now.as_millis()) {
            // Denials that outlive their file find no room: it stays.
            Err(Error::NoSpace { .. }) => {}
            forgotten => forgotten?,
        }
        match side.tombstones.ensure_spare() {
            // On a full disk an invalidation finds its own way.
            Err(Error::NoSpace { .. }) => Ok(()),
            made => made,
        }
    }

    /// Deletes what of the ledger is past its time, and sees to its spare.
    fn shorten_ledger(&self, now: Timestamp) -> Result<()> {
        let ledger = &self.engine.write_side()?.ledger;
        or_later(ledger.expire(now).and_then(|()| ledger.ensure_spare()))
    }

    /// Believes what the wall clock says.
    pub(super) fn confirm_clock(&self) -> Result<()> {
        self.in_turn(|| self.engine.confirm_clock())
    }

    /// Takes the wall clock's word, and brings forward the deadlines of buckets in a future that was wrong.
    pub(super) fn reset_clock(&self) -> Result<()> {
        self.in_turn(|| {
            self.while_stopped(|owners| {
                // What an earlier one has not come to is of its own time.
                self.finish_correction(owners)?;
                let to = self.engine.begin_correction()?;
                owners.iter().for_each(|owner| owner.lower_deadlines(to));
                self.finish_correction(owners)
            })
        })
    }

    /// Goes on with a correction of the time that has failed, or in which the last process ended.
    fn resume_correction(&self) -> Result<()> {
        match self.engine.correction() {
            Some(_) => self.while_stopped(|owners| self.finish_correction(owners)),
            None => Ok(()),
        }
    }

    /// Lets nobody write meanwhile: a segment born in a wrong future behind the back of who corrects the
    /// time would stay for as long as that future.
    fn while_stopped<T>(&self, step: impl FnOnce(&[&Owner]) -> T) -> T {
        let (keyspaces, logs) = (self.keyspaces.read(), self.logs.read());
        let _stopped: (Vec<_>, Vec<_>) = (
            keyspaces.values().map(|core| core.stop_writes()).collect(),
            logs.values().map(|core| core.stop_writes()).collect(),
        );
        let of_keyspaces = keyspaces.values().map(|core| &core.owner);
        let owners: Vec<&Owner> =
            of_keyspaces.chain(logs.values().map(|core| &core.owner)).collect();
        step(&owners)
    }

    /// Writes down the deadlines that a correction of the time has brought forward, and then that it is done.
    fn finish_correction(&self, owners: &[&Owner]) -> Result<()> {
        let Some(correction) = self.engine.correction() else { return Ok(()) };
        let to = Timestamp::from_millis(correction.to_ms);
        let mut first = FirstError::default();
        for owner in owners {
            first.note(owner.write_deadlines(to));
        }
        first.into_result()?;
        self.engine.end_correction()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::store::Store;
    use crate::time::ManualClock;

    const NOW: Timestamp = Timestamp::from_millis(1_795_267_800_000);

    fn open(disk: &MemoryDisk, clock: &ManualClock) -> Store {
        let builder = Store::builder("/data").disk(disk.clone()).clock(clock.clone());
        builder.background(false).open().unwrap()
    }

    #[test]
    fn a_round_of_upkeep_soon_after_another_writes_nothing() {
        let (disk, clock) = (MemoryDisk::new(1), ManualClock::new(NOW));
        let store = open(&disk, &clock);
        let core = &store.shared.core;
        let state = || disk.read_file(std::path::Path::new("/data/STATE")).unwrap();
        core.tick().unwrap();
        let first = state();
        clock.advance(Duration::from_secs(1));
        core.tick().unwrap();
        assert!(state() == first);
        clock.advance(Duration::from_millis(SAVE_INTERVAL_MS));
        core.tick().unwrap();
        let second = state();
        assert!(second != first);
        // What was done in a future that was wrong is done again.
        clock.set_wall(NOW + Duration::from_secs(86_400));
        store.confirm_clock().unwrap();
        core.tick().unwrap();
        clock.set_wall(NOW);
        store.reset_clock().unwrap();
        let reset = state();
        core.tick().unwrap();
        assert!(state() != reset);
    }

    #[test]
    fn a_power_cut_hides_little_of_the_time_though_there_was_no_upkeep() {
        let (disk, clock) = (MemoryDisk::new(1), ManualClock::new(NOW));
        let store = open(&disk, &clock);
        for _ in 0..240 {
            clock.advance(Duration::from_secs(15));
            store.shared.core.keep_time().unwrap();
        }
        let reached = store.now();
        let disk = disk.crash(&mut |_: u32| 0);
        clock.set_wall(Timestamp::default());
        clock.reboot(Duration::ZERO);
        let hidden = reached.since(open(&disk, &clock).now());
        assert!(hidden <= Duration::from_millis(SAVE_INTERVAL_MS), "{hidden:?} are hidden");
        assert_eq!(reached.since(NOW), Duration::from_secs(3600));
    }
}
