//! In a read-only store, what the writing process has invalidated since.

use std::path::PathBuf;

use super::Engine;
use crate::error::Result;
use crate::format::tombstone::Tombstone;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::tombstone::{LogIdentity, has_more, read_logs};

/// Where to look for new tombstones of another process, and those it wrote.
#[derive(Debug)]
pub(super) struct Watch {
    dir: PathBuf,
    identity: LogIdentity,
    /// The file and the offset at which the next entry will appear.
    position: (u64, u64),
    tombstones: Vec<Tombstone>,
    /// How often there was something new.
    round: u64,
}

impl Engine {
    /// Begins to look for tombstones that the writing process adds after this position.
    pub(crate) fn watch(&self, dir: PathBuf, identity: LogIdentity, position: (u64, u64)) {
        let watch = Watch { dir, identity, position, tombstones: Vec::new(), round: 0 };
        *self.watch.lock() = Some(watch);
    }

    /// In a read-only store, hands over all tombstones there are now, unless none came since they
    /// were last handed over to this caller. `seen` is the caller's to keep, 0 at first.
    pub(crate) fn take_over_tombstones(
        &self,
        seen: &AtomicU64,
        mut take_over: impl FnMut(&Tombstone),
    ) -> Result<()> {
        if !self.is_read_only() {
            return Ok(());
        }
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut() else { return Ok(()) };
        if has_more(&*self.disk, &watch.dir, watch.position) {
            let found = read_logs(&*self.disk, &watch.dir, None, watch.identity)?;
            watch.position = found.position();
            watch.tombstones = found.tombstones().cloned().collect();
            watch.round += 1;
        }
        // Under the lock, so that nobody else goes on before it is done.
        if seen.swap(watch.round, Ordering::AcqRel) != watch.round {
            watch.tombstones.iter().for_each(&mut take_over);
        }
        Ok(())
    }
}
