//! Closing a store.

use super::StoreCore;
use super::upkeep::FirstError;
use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::recovery::write_snapshot;

impl StoreCore {
    /// Closes the store; further closes do nothing.
    pub(super) fn close(&self) -> Result<()> {
        let _due = self.upkeep.lock();
        if self.engine.is_closed() {
            return Ok(());
        }
        let left = if self.engine.is_read_only() { Ok(None) } else { self.leave_in_order() };
        self.engine.close();
        self.drain();
        // Last: nothing is read as over by a later time.
        let saved = self.engine.save_last(left.as_ref().ok().copied().flatten());
        self.let_go();
        left.and(saved)
    }

    /// Gives the lock back, but for what values of mapped segments keep of it.
    fn let_go(&self) {
        for core in self.keyspace_cores() {
            core.owner.segments().for_each(|segment| segment.shut());
        }
        for core in self.log_cores() {
            core.owner.segments().for_each(|segment| segment.shut());
        }
        self.engine.host.lease.end();
        self.lock.lock().take();
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

    /// Seals everything, and writes snapshots if all is in order; gives their number.
    fn leave_in_order(&self) -> Result<Option<[u8; 16]>> {
        let mut first = FirstError::default();
        for core in self.keyspace_cores() {
            first.note(core.seal_all());
        }
        for core in self.log_cores() {
            first.note(core.seal_all());
        }
        // From here on nothing is born, and STATE names the last entry.
        first.note(self.engine.settle_ledger());
        let now = self.engine.trusted_now();
        first.note(self.engine.write_side().and_then(|side| side.ledger.close(now)));
        first.into_result()?;
        // After a clean close all that is given up has been overwritten.
        if self.is_half_erased() {
            return Ok(None);
        }
        let mut snapshot_id = [0; 16];
        let random = self.engine.disk.fill_random(&mut snapshot_id);
        let random = random.map_err(|e| Error::io("read randomness for", &self.engine.root, e));
        // Without snapshots the next open takes the longer way.
        Ok(random.and_then(|()| self.write_snapshots(snapshot_id)).is_ok().then_some(snapshot_id))
    }

    fn is_half_erased(&self) -> bool {
        let is_half = |owner: &Owner| owner.segments().any(|s| s.is_half_erased());
        self.keyspace_cores().iter().any(|core| is_half(&core.owner))
            || self.log_cores().iter().any(|core| is_half(&core.owner))
    }

    fn write_snapshots(&self, snapshot_id: [u8; 16]) -> Result<()> {
        for core in self.keyspace_cores() {
            // An invalidation that is under way may not have reached the index yet.
            let lowest_open = self.engine.sequence.lowest_open(self.engine.clock.boot_ms());
            // Where a slot could not be looked at, any floor may be one that has not.
            let as_of = if core.doubts.count() > 0 { 0 } else { lowest_open - 1 };
            write_snapshot(&core, snapshot_id, as_of)?;
        }
        Ok(())
    }
}
