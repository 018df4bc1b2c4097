//! What the background thread does, and closing.

use std::io::IoSlice;

use super::StoreCore;
use crate::disk::write_all_at;
use crate::engine::read_clock;
use crate::error::{Error, Result};
use crate::recovery::{snapshot_path, take_snapshot};
use crate::time::{SAVE_INTERVAL_MS, Timestamp};

/// When the slower parts of the upkeep were done last, by the engine's time.
#[derive(Debug, Default)]
pub(super) struct Due {
    saved_at: Timestamp,
}

/// Keeps the first error of several steps that are all to be done.
#[derive(Default)]
struct FirstError(Option<Error>);

impl FirstError {
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.get_or_insert(error);
                None
            }
        }
    }

    fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
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
        first.note(self.drop_expired(now));
        for core in self.keyspace_cores() {
            core.seal_past(now);
            first.note(core.shrink());
            core.owner.remove_empty_buckets(now);
        }
        for core in self.log_cores() {
            core.seal_past(now);
        }
        if now.since(due.saved_at).as_millis() >= u128::from(SAVE_INTERVAL_MS) {
            due.saved_at = now;
            first.note(self.engine.save_time());
            first.note(self.forget());
        }
        first.into_result()
    }

    /// Gives one piece of the trash back; true if there is more.
    pub(crate) fn free_piece(&self) -> bool {
        self.engine.write_side().is_ok_and(|side| side.trash.reap_step().unwrap_or(false))
    }

    /// All upkeep, to the end.
    pub(super) fn maintain_fully(&self) -> Result<()> {
        self.engine.write_side()?;
        let mut first = FirstError::default();
        first.note(self.tick());
        first.note(self.forget());
        let trash = &self.engine.write_side()?.trash;
        // Each step frees something or fails; what failed is tried again next time.
        while first.note(trash.reap_step()).unwrap_or(false) {}
        first.note(self.engine.check_writable());
        first.into_result()
    }

    /// Drops what is due, and nothing else.
    pub(super) fn drop_due(&self) -> Result<usize> {
        let _due = self.upkeep.lock();
        self.engine.write_side()?;
        self.drop_expired(self.engine.trusted_now())
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
        // In this order: what is under way now is in a segment by the time that is looked at.
        let mut mark = self.engine.sequence.lowest_open();
        let keyspaces = self.keyspace_cores();
        for core in &keyspaces {
            mark = mark.min(core.owner.min_seq());
        }
        for core in &keyspaces {
            core.floors.forget_below(mark);
        }
        side.tombstones.forget_below(mark)?;
        match side.tombstones.ensure_spare() {
            // On a full disk an invalidation finds its own way.
            Err(Error::NoSpace { .. }) => Ok(()),
            made => made,
        }
    }

    /// Takes the wall clock's word: deadlines of buckets in a future that was wrong come first.
    pub(super) fn reset_clock(&self) -> Result<()> {
        self.engine.write_side()?;
        let _due = self.upkeep.lock();
        let wall = Timestamp::from_millis(read_clock(&*self.engine.clock).wall_ms);
        for core in self.keyspace_cores() {
            core.owner.lower_deadlines(wall)?;
        }
        for core in self.log_cores() {
            core.owner.lower_deadlines(wall)?;
        }
        self.engine.reset_clock()
    }

    /// Closes the store; further closes do nothing.
    pub(super) fn close(&self) -> Result<()> {
        let _due = self.upkeep.lock();
        if self.engine.is_closed() {
            return Ok(());
        }
        let closed = if self.engine.is_read_only() { Ok(()) } else { self.leave_in_order() };
        self.engine.close();
        self.drain();
        self.lock.lock().take();
        closed
    }

    /// Waits for calls that began before the store was closed, so that nothing is written once the
    /// lock is given back.
    fn drain(&self) {
        for core in self.keyspace_cores() {
            core.drain();
        }
        for core in self.log_cores() {
            core.drain();
        }
        self.engine.close_tombstones();
    }

    fn leave_in_order(&self) -> Result<()> {
        let mut first = FirstError::default();
        for core in self.keyspace_cores() {
            first.note(core.seal_all());
        }
        for core in self.log_cores() {
            first.note(core.seal_all());
        }
        if first.0.is_some() {
            first.note(self.engine.save_time());
            return first.into_result();
        }
        let mut snapshot_id = [0; 16];
        let random = self.engine.disk.fill_random(&mut snapshot_id);
        let random = random.map_err(|e| Error::io("read randomness for", &self.engine.root, e));
        match random.and_then(|()| self.write_snapshots(snapshot_id)) {
            Ok(()) => self.engine.save_clean(snapshot_id),
            // Without snapshots the next open takes the longer way.
            Err(_) => self.engine.save_time(),
        }
    }

    fn write_snapshots(&self, snapshot_id: [u8; 16]) -> Result<()> {
        let disk = &*self.engine.disk;
        for core in self.keyspace_cores() {
            // An invalidation that is under way may not have reached the index yet.
            let as_of = self.engine.sequence.lowest_open() - 1;
            let bytes = take_snapshot(&core, snapshot_id, as_of).encode();
            let path = snapshot_path(&core.owner);
            let _ = disk.remove_file(&path);
            let file = disk.create(&path).map_err(|e| Error::io("create", &path, e))?;
            let written = write_all_at(&*file, &mut [IoSlice::new(&bytes)], 0)
                .map_err(|e| e.source)
                .and_then(|()| file.sync_data());
            if let Err(e) = written {
                let _ = disk.remove_file(&path);
                return Err(Error::io("write", &path, e));
            }
            self.engine.sync_dir(core.owner.dir())?;
        }
        Ok(())
    }
}
