//! Taking up owners and their buckets as found on disk.
//!
//! Nothing here trusts a byte that is not covered by a checksum, and where something that had been
//! durable cannot be read, whatever it might have superseded or hidden is not served.

mod buckets;
mod keyspace;
mod orphans;
mod rebuild;
mod segments;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use snapshot::{SNAPSHOT_FILE, check_snapshot, write_snapshot};

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, EntryKind, TOUCH, touch_dir};
use crate::engine::Engine;
use crate::error::{Error, Result, is_full};
use crate::floors::{Floor, Floors};
use crate::format::record::RecordKind;
use crate::format::tombstone::{Reach, Tombstone};
use crate::keyspace::KeyspaceCore;
use crate::log::LogCore;
use crate::log::upkeep::adopt;
use crate::options::check_name;
use crate::owner::{Owner, manifest_file, newest_manifest, owners_dir};
use crate::report::RecoveryReport;
use crate::time::Timestamp;
use crate::tombstone::FoundLogs;
use crate::twin_file::{TwinFile, unreadable};

/// What recovery needs to know besides the disk.
#[derive(Debug)]
pub(crate) struct Recovery<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) logs: &'a FoundLogs,
    /// Owners of which the ledger says that they were made.
    pub(crate) told: &'a BTreeSet<u64>,
    /// The snapshot that belongs to the last close, if that was clean.
    pub(crate) snapshot_id: Option<[u8; 16]>,
    pub(crate) report: RecoveryReport,
}

/// The keyspaces and logs of a store.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    pub(crate) keyspaces: Vec<Arc<KeyspaceCore>>,
    pub(crate) logs: Vec<Arc<LogCore>>,
    /// There are buckets of a keyspace or log that could not be taken up. Its manifest may be put back.
    pub(crate) has_orphans: bool,
}

impl Recovery<'_> {
    /// Takes up all keyspaces and logs.
    pub(crate) fn owners(&mut self) -> Result<Owners> {
        let mut owners = Owners::default();
        self.denials();
        for kind in [RecordKind::Blob, RecordKind::Rows] {
            for name in owner_names(&*self.engine.disk, &self.engine.root, kind)? {
                let Some(owner) = self.owner(kind, &name)? else {
                    owners.has_orphans |= self.holds_buckets(kind, &name)?;
                    continue;
                };
                match kind {
                    RecordKind::Blob => owners.keyspaces.push(Arc::new(self.keyspace(owner)?)),
                    RecordKind::Rows => owners.logs.push(Arc::new(self.log(owner)?)),
                }
            }
        }
        let newest = owners.keyspaces.iter().map(|core| core.owner.newest_start()).max();
        self.engine.raise_time(newest.unwrap_or_default());
        Ok(owners)
    }

    /// Reads an owner's manifest. One that was being made when the process stopped is no owner yet;
    /// one whose manifest is lost is reported, and its buckets leave by their own deadlines.
    fn owner(&mut self, kind: RecordKind, name: &str) -> Result<Option<Owner>> {
        let engine = self.engine;
        let dir = owners_dir(&engine.root, kind).join(name);
        let (file_name, magic) = manifest_file(kind);
        let path = dir.join(file_name);
        let read = if engine.is_read_only() {
            TwinFile::read(&*engine.disk, &path, magic).map(|twin| (None, twin))
        } else {
            TwinFile::open(&*engine.disk, &path, magic).map(|(file, twin)| (Some(file), twin))
        };
        let (mut file, twin) = match read {
            Ok(read) => read,
            Err(e) if e.is_not_found() => {
                self.drop_orphans(&path)?;
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        if twin.foreign_version().is_some() {
            return Err(unreadable(&path, &twin));
        }
        let Some(manifest) = newest_manifest(&twin, name) else {
            self.drop_orphans(&path)?;
            self.report.corrupt_records.push(path);
            return Ok(None);
        };
        if !engine.is_read_only() {
            self.settle_owner(&path, manifest.owner_id)?;
        }
        if !twin.is_whole() {
            // As a power cut leaves it while it is overwritten: whatever was acknowledged is in both.
            if let Some(file) = &mut file {
                file.overwrite_both(&manifest.encode())?;
            }
            self.report.torn_tails.push(path);
        } else if let Some(file) = &file {
            file.settle()?;
        }
        Ok(Some(Owner::new(Arc::clone(engine), kind, file, manifest)))
    }

    /// The last process may have ended before it synced the names of the manifest and of buckets. Of an owner that
    /// it has not told the ledger of, a sync may have failed just before, and another have nothing to write.
    fn settle_owner(&self, manifest: &Path, owner_id: u64) -> Result<()> {
        let (engine, dir) = (self.engine, manifest.parent().unwrap_or(manifest));
        if !self.told.contains(&owner_id) {
            let parent = dir.parent().unwrap_or(dir);
            touch(&*engine.disk, &parent.join(TOUCH))?;
            touch(&*engine.disk, &manifest.with_extension("tmp"))?;
            engine.sync_dir(parent)?;
        }
        engine.sync_dir(dir)
    }

    fn holds_buckets(&self, kind: RecordKind, name: &str) -> Result<bool> {
        let dir = owners_dir(&self.engine.root, kind).join(name);
        let entries = self.engine.disk.read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
        Ok(entries.iter().any(|entry| Timestamp::from_compact(&entry.name).is_some()))
    }

    /// Takes up a log. Where tombstones may have been lost, rows that carry tags and are older than
    /// this opening are not served: any of them may have been invalidated.
    fn log(&mut self, owner: Owner) -> Result<LogCore> {
        let floors = Floors::default();
        for tombstone in self.logs.tombstones().filter(|t| t.reach.covers_log(owner.id)) {
            floors.apply(tombstone);
        }
        floors.raise_all_tags(Floor::undated(owner.manifest().floor));
        if self.logs.lost {
            let last = self.engine.last_seq_before();
            floors.raise_all_tags(Floor::undated(last));
            if !self.engine.is_read_only() {
                owner.update_manifest(|manifest| manifest.floor = manifest.floor.max(last))?;
            }
        }
        let waiting = self.waiting(&owner)?;
        let found = self.segments(&owner, waiting, None)?;
        if found.foreign || !found.lost.is_empty() {
            // What they hold may be as old as anything: no tombstone over it is forgotten.
            owner.note_undurable(Some(0));
        }
        adopt(&owner, found.segments.into_iter().map(|taken| taken.segment));
        Ok(LogCore::new(owner, floors))
    }

    /// Remembers what is denied in all keyspaces.
    fn denials(&self) {
        let everywhere = |t: &&Tombstone| !matches!(t.reach, Reach::Owner(_));
        for tombstone in self.logs.tombstones().filter(everywhere) {
            self.engine.denials.recall(tombstone);
        }
    }
}

/// Gives the next sync of a directory something to write, with this file. A full disk is no reason not to open.
pub(crate) fn touch(disk: &dyn Disk, file: &Path) -> Result<()> {
    match touch_dir(disk, file) {
        Err(e) if is_full(&e) => Ok(()),
        touched => touched.map_err(|e| Error::io("create", file, e)),
    }
}

/// The names under which owners of a kind may be found.
pub(crate) fn owner_names(disk: &dyn Disk, root: &Path, kind: RecordKind) -> Result<Vec<String>> {
    let dir = owners_dir(root, kind);
    let entries = disk.read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
    let dirs = entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory);
    Ok(dirs.map(|entry| entry.name).filter(|name| check_name(name).is_ok()).collect())
}
