//! In a read-only store, what the writing process has invalidated since: tombstones, and the floor of
//! everything in the manifest, where it writes what the tombstone log does not take.

use super::{Owner, manifest_file, newest_manifest};
use crate::error::Result;
use crate::floors::Floor;
use crate::format::manifest::OwnerManifest;
use crate::format::tombstone::Tombstone;
use crate::sync::atomic::AtomicU64;
use crate::twin_file::{TwinFile, unreadable};

impl Owner {
    /// In a read-only store, hands over what is new since it was last handed over to this caller. `seen` is
    /// the caller's to keep, 0 at first. An error if it cannot be known what there is. True if something may
    /// have been forgotten before: what it hid had left, so what has left is not to be shown.
    pub(crate) fn take_over_invalidations(
        &self,
        seen: &AtomicU64,
        raise: impl FnOnce(Floor),
        take_over: impl FnMut(&Tombstone),
    ) -> Result<bool> {
        if !self.engine.is_read_only() {
            return Ok(false);
        }
        self.take_over_floor(raise)?;
        self.engine.take_over_tombstones(seen, take_over)
    }

    fn take_over_floor(&self, raise: impl FnOnce(Floor)) -> Result<()> {
        let mut held = self.manifest.lock();
        let written = self.written_manifest()?;
        // Under the lock, so that nobody else goes on before it is done.
        if written.floor > held.1.floor {
            raise(Floor::undated(written.floor));
            held.1 = written;
        }
        Ok(())
    }

    /// The manifest as it is on the disk now.
    fn written_manifest(&self) -> Result<OwnerManifest> {
        let (name, magic) = manifest_file(self.kind);
        let path = self.dir.join(name);
        let read = || TwinFile::read(&*self.engine.disk, &path, magic);
        let mut twin = read()?;
        if newest_manifest(&twin, &self.name).is_none() {
            // Each copy may have been met while it was written, one after the other.
            twin = read()?;
        }
        newest_manifest(&twin, &self.name).ok_or_else(|| unreadable(&path, &twin))
    }
}
