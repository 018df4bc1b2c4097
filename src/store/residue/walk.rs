//! Going through a store's directories and saying of each name what it stands for.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::{Residue, ResidueKind, ResidueOwner};
use crate::disk::{Access, DirEntry, EntryKind, TOUCH};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::record::RecordKind;
use crate::options::check_name;
use crate::owner::{Owner, manifest_file, owners_dir};
use crate::pseudonym::KEYS_FILE;
use crate::recovery::SNAPSHOT_FILE;
use crate::retention::Window;
use crate::segment::load::read_header;
use crate::segment::part::is_part_name;
use crate::segment::writer::parse_segment_name;
use crate::store::StoreCore;
use crate::time::Timestamp;
use crate::tombstone::log_name;

/// What all that lies in one directory has in common.
#[derive(Debug, Clone)]
struct Place {
    owner: ResidueOwner,
    bucket: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// A keyspace or log that the store has, and when its buckets go.
struct Known {
    owner: ResidueOwner,
    id: u64,
    window: Window,
    deadlines: BTreeMap<Timestamp, Timestamp>,
}

impl Known {
    fn new(owner: &Owner) -> Self {
        let buckets = owner.buckets.read();
        Self {
            owner: place_name(owner.kind, &owner.name),
            id: owner.id,
            window: owner.window,
            deadlines: buckets.iter().map(|(start, b)| (*start, b.deadline())).collect(),
        }
    }

    /// When the bucket of this start goes; one that fits no bucket stays.
    fn bucket_end(&self, start: Timestamp) -> Option<Timestamp> {
        let fits = || self.window.is_start(start).then(|| self.window.deadline(start));
        self.deadlines.get(&start).copied().or_else(fits)
    }
}

fn place_name(kind: RecordKind, name: &str) -> ResidueOwner {
    match kind {
        RecordKind::Blob => ResidueOwner::Keyspace(name.to_owned()),
        RecordKind::Rows => ResidueOwner::Log(name.to_owned()),
    }
}

/// Goes through everything.
pub(super) fn walk(core: &StoreCore) -> Result<Vec<Residue>> {
    let (keyspaces, logs) = (core.keyspace_cores(), core.log_cores());
    let keyspaces = keyspaces.iter().map(|core| Known::new(&core.owner));
    let known = keyspaces.chain(logs.iter().map(|core| Known::new(&core.owner)));
    let denies = !core.engine.denials.is_empty()
        || core.keyspace_cores().iter().any(|core| !core.denials.is_empty());
    let mut walk = Walk {
        engine: &core.engine,
        denies,
        known: known.collect(),
        now: core.engine.trusted_now(),
        found: Vec::new(),
    };
    walk.root()?;
    walk.held();
    let mut found = walk.found;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Walk<'a> {
    engine: &'a Engine,
    /// True if something is denied, which may keep a tombstone log for longer.
    denies: bool,
    known: Vec<Known>,
    now: Timestamp,
    found: Vec<Residue>,
}

impl Walk<'_> {
    fn root(&mut self) -> Result<()> {
        let root = self.engine.root.clone();
        let place = Place { owner: ResidueOwner::Store, bucket: None, until: None };
        // The path of the store itself may be a link.
        for entry in self.list(&root.join("."))? {
            let path = root.join(&entry.name);
            let is_dir = entry.kind == EntryKind::Directory;
            let kind = match entry.name.as_str() {
                "tombstones" | "trash" | "keyspaces" | "logs" | "ledger" if is_dir => {
                    ResidueKind::Directory
                }
                "STORE" => ResidueKind::Identity,
                "STATE" => ResidueKind::State,
                "LOCK" => ResidueKind::Lock,
                "STORE.tmp" | "STATE.tmp" => ResidueKind::Temporary,
                _ => ResidueKind::Unknown,
            };
            self.note(&path, &entry, kind, &place)?;
            match entry.name.as_str() {
                _ if kind != ResidueKind::Directory => {}
                "tombstones" => self.tombstones(&path, &place)?,
                "trash" => self.trash(&path)?,
                "ledger" => self.ledger(&path, &place)?,
                "keyspaces" => self.owners(RecordKind::Blob)?,
                _ => self.owners(RecordKind::Rows)?,
            }
        }
        Ok(())
    }

    fn tombstones(&mut self, dir: &Path, place: &Place) -> Result<()> {
        let entries = self.list(dir)?;
        let newest = entries.iter().filter_map(|entry| parse_log_name(&entry.name)).max();
        // Once all present records and rows are gone, none is left that an older log hides.
        let deadlines = self.known.iter().flat_map(|known| known.deadlines.values());
        let until = deadlines.max().copied().unwrap_or(self.now);
        let until = (!self.denies).then_some(until);
        for entry in entries {
            let path = dir.join(&entry.name);
            let number = parse_log_name(&entry.name);
            match entry.name.as_str() {
                "spare" => self.note(&path, &entry, ResidueKind::Spare, place)?,
                "spare.tmp" => self.note(&path, &entry, ResidueKind::Temporary, place)?,
                _ if number.is_none() => self.note(&path, &entry, ResidueKind::Unknown, place)?,
                _ if number == newest => {
                    self.note(&path, &entry, ResidueKind::CurrentTombstoneLog, place)?;
                }
                _ => {
                    let place = Place { until, ..place.clone() };
                    self.note(&path, &entry, ResidueKind::TombstoneLog, &place)?;
                }
            }
        }
        Ok(())
    }

    fn ledger(&mut self, dir: &Path, place: &Place) -> Result<()> {
        for entry in self.list(dir)? {
            let kind = match entry.name.as_str() {
                "spare" => ResidueKind::Spare,
                "spare.tmp" => ResidueKind::Temporary,
                name if parse_log_name(name).is_some() => ResidueKind::Ledger,
                _ => ResidueKind::Unknown,
            };
            self.note(&dir.join(&entry.name), &entry, kind, place)?;
        }
        Ok(())
    }

    fn owners(&mut self, kind: RecordKind) -> Result<()> {
        let dir = owners_dir(&self.engine.root, kind);
        for entry in self.list(&dir)? {
            let path = dir.join(&entry.name);
            let place = Place { owner: place_name(kind, &entry.name), bucket: None, until: None };
            if entry.kind != EntryKind::Directory || check_name(&entry.name).is_err() {
                let (what, owner) = match entry.name.as_str() {
                    TOUCH => (ResidueKind::Temporary, ResidueOwner::Store),
                    _ => (ResidueKind::Unknown, ResidueOwner::Unknown),
                };
                self.note(&path, &entry, what, &Place { owner, ..place })?;
                continue;
            }
            let is_known = self.known.iter().any(|known| known.owner == place.owner);
            let what = if is_known { ResidueKind::Directory } else { ResidueKind::Orphan };
            self.note(&path, &entry, what, &place)?;
            self.owner(&path, kind, &place)?;
        }
        Ok(())
    }

    fn owner(&mut self, dir: &Path, kind: RecordKind, place: &Place) -> Result<()> {
        let manifest = manifest_file(kind).0;
        for entry in self.list(dir)? {
            let path = dir.join(&entry.name);
            let start = Timestamp::from_compact(&entry.name);
            if let (Some(start), EntryKind::Directory) = (start, entry.kind) {
                let until = self.bucket_end(&path, &place.owner, start)?;
                let place = Place { bucket: Some(start), until, ..place.clone() };
                self.note(&path, &entry, ResidueKind::Bucket, &place)?;
                self.bucket(&path, &place)?;
                continue;
            }
            let what = match entry.name.as_str() {
                name if name == manifest => ResidueKind::Options,
                name if name.strip_suffix(".tmp") == Some(manifest) => ResidueKind::Temporary,
                SNAPSHOT_FILE if kind == RecordKind::Blob => ResidueKind::Index,
                name if kind == RecordKind::Blob && is_part_name(name) => ResidueKind::Part,
                _ => ResidueKind::Unknown,
            };
            self.note(&path, &entry, what, place)?;
        }
        Ok(())
    }

    /// When a bucket goes. One whose owner is not known goes at the first deadline that a segment in
    /// it states, if one does.
    fn bucket_end(
        &self,
        dir: &Path,
        owner: &ResidueOwner,
        start: Timestamp,
    ) -> Result<Option<Timestamp>> {
        if let Some(known) = self.known.iter().find(|known| known.owner == *owner) {
            return Ok(known.bucket_end(start));
        }
        let stated = self.list(dir)?.into_iter().filter_map(|entry| {
            parse_segment_name(&entry.name)?;
            let path = dir.join(&entry.name);
            let file = self.engine.disk.open(&path, Access::Read).ok()?;
            let header = read_header(&*file, &path).ok()?;
            Some(Timestamp::from_millis(header.deadline_ms))
        });
        Ok(stated.min())
    }

    fn bucket(&mut self, dir: &Path, place: &Place) -> Result<()> {
        let of_log = matches!(place.owner, ResidueOwner::Log(_));
        for entry in self.list(dir)? {
            let kind = match entry.name.as_str() {
                KEYS_FILE if of_log => ResidueKind::PseudonymKeys,
                name if is_numbered(name, "seg") => ResidueKind::Segment,
                name if is_numbered(name, "idx") => ResidueKind::Sidecar,
                name if is_numbered(name, "tmp") => ResidueKind::Temporary,
                _ => ResidueKind::Unknown,
            };
            self.note(&dir.join(&entry.name), &entry, kind, place)?;
        }
        Ok(())
    }

    /// Whatever lies in the trash is freed, whatever its name.
    fn trash(&mut self, dir: &Path) -> Result<()> {
        for entry in self.list(dir)? {
            let path = dir.join(&entry.name);
            let mut parts = entry.name.split('.');
            let id = parts.next().and_then(|id| u64::from_str_radix(id, 16).ok());
            let place = Place {
                owner: self.owner_of(id.unwrap_or(0)),
                bucket: parts.next().and_then(Timestamp::from_compact),
                until: Some(self.now),
            };
            self.note(&path, &entry, ResidueKind::Dropped, &place)?;
            if entry.kind != EntryKind::Directory {
                continue;
            }
            for inner in self.list(&path)? {
                let kind = match inner.kind {
                    EntryKind::Directory => ResidueKind::Unknown,
                    EntryKind::File | EntryKind::Other => ResidueKind::Dropped,
                };
                self.note(&path.join(&inner.name), &inner, kind, &place)?;
            }
        }
        Ok(())
    }

    /// What has left the directory and takes space all the same.
    fn held(&mut self) {
        let Ok(side) = self.engine.write_side() else { return };
        for (owner_id, segment) in side.trash.pinned() {
            self.found.push(Residue {
                path: segment.path().to_owned(),
                kind: ResidueKind::Held,
                owner: self.owner_of(owner_id),
                bucket: Some(Timestamp::from_millis(segment.header.bucket_start_ms)),
                bytes: segment.file_bytes(),
                until: None,
            });
        }
    }

    /// Takes a file or directory down. One that is not what its name says is not ours; nor is what
    /// lies in such a directory, and as nothing ever removes that, it stays.
    fn note(
        &mut self,
        path: &Path,
        entry: &DirEntry,
        kind: ResidueKind,
        place: &Place,
    ) -> Result<()> {
        let is_dir = entry.kind == EntryKind::Directory;
        let expected = match kind {
            ResidueKind::Directory | ResidueKind::Orphan | ResidueKind::Bucket => is_dir,
            ResidueKind::Dropped => true,
            _ => entry.kind == EntryKind::File,
        };
        let kind = if expected { kind } else { ResidueKind::Unknown };
        let is_foreign_dir = is_dir && kind == ResidueKind::Unknown;
        let bytes = match entry.kind {
            EntryKind::File => self.allocated_bytes(path, kind)?,
            EntryKind::Directory | EntryKind::Other => Some(0),
        };
        let Some(bytes) = bytes else { return Ok(()) };
        let until = place.until.filter(|_| !is_foreign_dir).map(|until| until.max(self.now));
        let place = Place { until, ..place.clone() };
        self.found.push(Residue {
            path: path.to_owned(),
            kind,
            owner: place.owner.clone(),
            bucket: place.bucket,
            bytes,
            until,
        });
        if is_foreign_dir {
            // What the system does not let us see of it is not ours either.
            for inner in self.engine.disk.read_dir(path).unwrap_or_default() {
                self.note(&path.join(&inner.name), &inner, ResidueKind::Unknown, &place)?;
            }
        }
        Ok(())
    }

    /// `None` if the file has gone in the meantime. A foreign one may have a name that cannot be
    /// opened, and is there all the same.
    fn allocated_bytes(&self, path: &Path, kind: ResidueKind) -> Result<Option<u64>> {
        let opened = self.engine.disk.open(path, Access::Read);
        match opened.and_then(|file| file.allocated_bytes()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) if kind == ResidueKind::Unknown => Ok(Some(0)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("measure", path, e)),
        }
    }

    /// The entries of a directory; none if it has gone in the meantime.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        match self.engine.disk.read_dir(dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(|e| Error::io("list", dir, e)),
        }
    }

    fn owner_of(&self, id: u64) -> ResidueOwner {
        let known = self.known.iter().find(|known| known.id == id);
        known.map_or(ResidueOwner::Unknown, |known| known.owner.clone())
    }
}

/// True of a segment's number with this extension.
fn is_numbered(name: &str, extension: &str) -> bool {
    let stem = name.strip_suffix(extension).and_then(|stem| stem.strip_suffix('.'));
    stem.is_some_and(|stem| parse_segment_name(&format!("{stem}.seg")).is_some())
}

fn parse_log_name(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (log_name(number) == name).then_some(number)
}
