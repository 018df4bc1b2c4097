//! Walking through everything on disk and naming what is wrong.

use std::path::Path;

use super::Store;
use crate::disk::{Access, Disk, DiskFile, read_up_to};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::Unreadable;
use crate::format::keys;
use crate::format::manifest::STORE_MAGIC;
use crate::format::record::RecordKind;
use crate::format::sidecar;
use crate::format::state::MAGIC as STATE_MAGIC;
use crate::format::tombstone::{MAX_FILE_LEN, TombstoneHeader};
use crate::owner::{Owner, manifest_file};
use crate::pseudonym::KEYS_FILE;
use crate::report::{Problem, RecoveryReport, VerifyReport};
use crate::segment::Segment;
use crate::segment::load::{LoadError, read_header, sidecar_bytes};
use crate::segment::scan::Walker;
use crate::segment::writer::sidecar_path;
use crate::tombstone::{LogIdentity, read_logs};
use crate::twin_file::TwinFile;

impl Store {
    /// Reads everything the store has on disk, compares every checksum, and names what is wrong.
    /// `progress` is told of each file and its length before it is read.
    ///
    /// # Errors
    ///
    /// [`Closed`](Error::Closed). What the system refuses to read is a problem in the report.
    pub fn verify_with(&self, mut progress: impl FnMut(&Path, u64)) -> Result<VerifyReport> {
        let core = &self.shared.core;
        core.engine.check_open()?;
        let mut verify = Verify {
            engine: &core.engine,
            report: VerifyReport::default(),
            progress: &mut progress,
        };
        verify.twice(Verify::store);
        for keyspace in core.keyspace_cores() {
            verify.owner(&keyspace.owner);
        }
        for log in core.log_cores() {
            verify.owner(&log.owner);
        }
        match core.verify_ledger() {
            Ok(ledger) => {
                verify.report.files += ledger.files;
                verify.report.problems.extend(ledger.problems);
            }
            Err(e) => verify.failed(&core.engine.root.join("ledger"), &e),
        }
        verify.set_aside(&core.report);
        Ok(verify.report)
    }

    /// Reads everything the store has on disk, compares every checksum, and names what is wrong.
    ///
    /// # Errors
    ///
    /// As [`Store::verify_with`].
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_with(|_, _| {})
    }
}

struct Verify<'a> {
    engine: &'a Engine,
    report: VerifyReport,
    progress: &'a mut dyn FnMut(&Path, u64),
}

impl Verify<'_> {
    /// What opening could not take up is not met by the walk.
    fn set_aside(&mut self, found: &RecoveryReport) {
        let damaged = found.corrupt_records.iter().map(|path| (path, "it could not be taken up"));
        let foreign = found.unknown_versions.iter().map(|path| (path, "version"));
        for (path, what) in damaged.chain(foreign) {
            if !self.report.problems.iter().any(|problem| problem.path == *path) {
                self.problem(path, 0, what);
            }
        }
    }

    fn disk(&self) -> &dyn Disk {
        &*self.engine.disk
    }

    fn problem(&mut self, path: &Path, offset: u64, what: &'static str) {
        self.report.problems.push(Problem { path: path.to_owned(), offset, what });
    }

    /// Looks once more if something seems wrong: what was just being written, or forgotten, is not met
    /// again.
    fn twice(&mut self, look: impl Fn(&mut Self)) {
        let before = std::mem::take(&mut self.report);
        look(self);
        let mut seen = std::mem::replace(&mut self.report, before);
        if !seen.problems.is_empty() {
            let before = std::mem::take(&mut self.report);
            look(self);
            let again = std::mem::replace(&mut self.report, before);
            seen.problems.retain(|problem| again.problems.contains(problem));
        }
        self.report.files += seen.files;
        self.report.records += seen.records;
        self.report.bytes += seen.bytes;
        self.report.problems.extend(seen.problems);
    }

    fn store(&mut self) {
        let root = &self.engine.root;
        self.twin(&root.join("STORE"), STORE_MAGIC);
        self.twin(&root.join("STATE"), STATE_MAGIC);
        let dir = root.join("tombstones");
        let identity = LogIdentity {
            store_id: self.engine.store_id,
            generation: 0,
            check_value: self.engine.hasher.check_value(),
        };
        match read_logs(self.disk(), &dir, None, identity) {
            Ok(found) => {
                self.report.files += found.logs.len() as u64;
                for (path, what) in &found.damaged {
                    self.problem(path, 0, what);
                }
                for log in &found.logs {
                    self.regions(log.path());
                    for offset in log.differences() {
                        self.problem(log.path(), offset, "an entry in one of two regions");
                    }
                }
            }
            Err(e) => self.failed(&dir, &e),
        }
    }

    /// Compares the headers of both regions of a tombstone log.
    fn regions(&mut self, path: &Path) {
        let whole = |file: &dyn DiskFile| read_up_to(file, MAX_FILE_LEN);
        let Some(bytes) = self.read(path, whole) else { return };
        let half = bytes.len() / 2;
        for (offset, region) in [(0, bytes.get(..half)), (half, bytes.get(half..))] {
            if TombstoneHeader::decode(region.unwrap_or_default()).is_err() {
                self.problem(path, offset as u64, "header of a region");
            }
        }
    }

    /// Compares both slots of a twin file.
    fn twin(&mut self, path: &Path, magic: [u8; 8]) {
        self.report.files += 1;
        match TwinFile::read(self.disk(), path, magic) {
            Ok(twin) => {
                for (at, slot) in twin.slots.iter().enumerate() {
                    if let Err(unreadable) = slot {
                        let offset = (at * crate::format::twin::SLOT_LEN) as u64;
                        self.problem(path, offset, text(*unreadable));
                    }
                }
            }
            Err(e) => self.failed(path, &e),
        }
    }

    fn owner(&mut self, owner: &Owner) {
        let (name, magic) = manifest_file(owner.kind);
        self.twice(|verify| verify.twin(&owner.dir().join(name), magic));
        if owner.kind == RecordKind::Rows {
            let buckets: Vec<_> = owner.buckets.read().values().cloned().collect();
            for bucket in buckets {
                let path = bucket.dir().join(KEYS_FILE);
                self.twin(&path, keys::MAGIC);
                if !owner.buckets.read().contains_key(&bucket.start) || self.has_left(&path) {
                    self.report.problems.retain(|problem| problem.path != path);
                }
            }
        }
        for segment in owner.segments() {
            self.segment(owner, &segment);
            // A bucket may have left while it was walked.
            if owner.segment(segment.number()).is_none() || self.has_left(segment.path()) {
                self.report.problems.retain(|problem| problem.path != segment.path());
            }
        }
    }

    /// True if a file that was there when this store was opened to be looked at is there no more: the
    /// process that writes has dropped or evicted it.
    fn has_left(&self, path: &Path) -> bool {
        let opened =
            || self.disk().open(path, Access::Read).map_err(|e| Error::io("open", path, e));
        self.engine.is_read_only() && opened().is_err_and(|e| e.is_not_found())
    }

    fn segment(&mut self, owner: &Owner, segment: &Segment) {
        let path = segment.path();
        let len = segment.published();
        self.report.files += 1;
        (self.progress)(path, len);
        let file = match self.disk().open(path, Access::Read) {
            Ok(file) => file,
            Err(e) => return self.failed(path, &Error::io("open", path, e)),
        };
        match read_header(&*file, path) {
            Ok(_) => {}
            Err(LoadError::Damaged(what)) => self.problem(path, 0, what),
            Err(LoadError::Version(_)) => self.problem(path, 0, "version"),
            Err(LoadError::Unborn) => self.problem(path, 0, "file cut short"),
            Err(LoadError::Failed(e)) => return self.failed(path, &e),
        }
        if file.len().is_ok_and(|file_len| file_len < len) {
            self.problem(path, file.len().unwrap_or(0), "file cut short");
        }
        if let Err(e) = self.records(segment, &*file, len) {
            self.failed(path, &Error::io("read", path, e));
        }
        self.sidecar(owner, segment);
    }

    fn records(&mut self, segment: &Segment, file: &dyn DiskFile, len: u64) -> std::io::Result<()> {
        let path = segment.path();
        let mut walker = Walker::new(file, segment.header.seed(), len);
        while let Some(step) = walker.next()? {
            let found = match step {
                Ok(found) => found,
                Err(unreadable) => {
                    self.problem(path, walker.offset(), text(unreadable));
                    return Ok(());
                }
            };
            self.report.records += 1;
            self.report.bytes += found.head.record_len();
            if walker.check(&found)?.is_err()
                && let Err(unreadable) = walker.check_again(&found)?
            {
                self.problem(path, found.offset, text(unreadable));
            }
        }
        Ok(())
    }

    fn sidecar(&mut self, owner: &Owner, segment: &Segment) {
        let path = sidecar_path(segment.path());
        // There is none while the segment is written, and none if the disk was full.
        if self.disk().open(&path, Access::Read).is_err() {
            return;
        }
        self.report.files += 1;
        let Some(mut bytes) = self.read(&path, sidecar_bytes) else { return };
        if sidecar::decode(&bytes).is_err() {
            // It may have been overwritten meanwhile.
            let Some(again) = owner.between_sealings(|| self.read(&path, sidecar_bytes)) else {
                return;
            };
            bytes = again;
        }
        match sidecar::decode(&bytes) {
            Ok((header, _))
                if header.number == segment.number() && header.salt == segment.header.salt => {}
            Ok(_) => self.problem(&path, 0, "sidecar of another segment"),
            Err(unreadable) => self.problem(&path, 0, text(unreadable)),
        }
    }

    fn read(
        &mut self,
        path: &Path,
        bytes_of: impl Fn(&dyn DiskFile) -> std::io::Result<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let file = self.disk().open(path, Access::Read).ok()?;
        let read = bytes_of(&*file).map_err(|e| Error::io("read", path, e));
        read.map_err(|e| self.failed(path, &e)).ok()
    }

    fn failed(&mut self, path: &Path, error: &Error) {
        let what = if error.is_not_found() { "it is missing" } else { "it cannot be read" };
        self.problem(path, 0, what);
    }
}

fn text(unreadable: Unreadable) -> &'static str {
    match unreadable {
        Unreadable::Damaged(what) => what,
        Unreadable::Version(_) => "version",
    }
}
