//! In a read-only store, what the writing process has invalidated since.

use std::path::PathBuf;

use super::Engine;
use crate::disk::Disk;
use crate::error::Result;
use crate::format::tombstone::Tombstone;
use crate::state::StateFile;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::tombstone::{FoundLogs, LogIdentity, Position, read_logs_beside};

/// Where to look for new tombstones of another process, and those it wrote.
#[derive(Debug)]
pub(super) struct Watch {
    dir: PathBuf,
    state: PathBuf,
    identity: LogIdentity,
    position: Position,
    tombstones: Vec<Tombstone>,
    /// True once there may have been others that were forgotten before they were read here.
    has_missed: bool,
    /// How often there was something new.
    round: u64,
}

impl Watch {
    /// Reads what there is, if there is something new.
    fn look(&mut self, disk: &dyn Disk) -> Result<()> {
        let Some(seen) = self.position.look(disk, &self.dir)? else { return Ok(()) };
        let named = || match StateFile::read(disk, &self.state) {
            Err(e) if e.is_not_found() => Ok(None),
            found => found.map(|found| found.log_range()),
        };
        let found = read_logs_beside(disk, &self.dir, self.identity, named)?;
        found.check_whole()?;
        self.has_missed |= self.position.is_forgotten(&found);
        self.position.advance(&found, seen);
        self.tombstones = found.tombstones().cloned().collect();
        self.round += 1;
        Ok(())
    }
}

impl Engine {
    /// Begins to look for tombstones that the writing process adds to what was found in this directory, and
    /// that the file of its state names. Where some were lost there is nothing to look for: nothing is shown
    /// that an invalidation could be about.
    pub(crate) fn watch(
        &self,
        dir: PathBuf,
        state: PathBuf,
        identity: LogIdentity,
        found: &FoundLogs,
    ) {
        let (position, tombstones) = (found.position(), Vec::new());
        let (has_missed, round) = (false, 0);
        let watch = Watch { dir, state, identity, position, tombstones, has_missed, round };
        *self.watch.lock() = Some(watch).filter(|_| !found.lost);
    }

    /// In a read-only store, hands over all tombstones there are now, unless none came since they
    /// were last handed over to this caller. `seen` is the caller's to keep, 0 at first. An error if it
    /// cannot be known which there are. True if there may have been others: these were forgotten after what
    /// they hid had left, so what has left is not to be shown.
    pub(crate) fn take_over_tombstones(
        &self,
        seen: &AtomicU64,
        mut take_over: impl FnMut(&Tombstone),
    ) -> Result<bool> {
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut() else { return Ok(false) };
        watch.look(&*self.disk)?;
        // Under the lock, so that nobody else goes on before it is done.
        if seen.swap(watch.round, Ordering::AcqRel) != watch.round {
            watch.tombstones.iter().for_each(&mut take_over);
        }
        Ok(watch.has_missed)
    }
}
