//! Walking through everything on disk and naming what is wrong.
//!
//! Whatever a checksum covers is compared, and what none covers must be zeros.

mod caches;
mod segments;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use super::Store;
use crate::disk::{Access, Disk, read_up_to};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::Unreadable;
use crate::format::manifest::STORE_MAGIC;
use crate::format::state::MAGIC as STATE_MAGIC;
use crate::format::tombstone::{MAX_FILE_LEN, TombstoneHeader, find_unused};
use crate::report::{Problem, RecoveryReport, VerifyReport};
use crate::state::StateFile;
use crate::tombstone::{LogIdentity, read_logs};
use crate::twin_file::TwinFile;

/// Says of a byte that no checksum covers what is wrong with it.
const NOT_ZERO: &str = "something where there must be zeros";

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
        verify.twice(Verify::spares);
        for keyspace in core.keyspace_cores() {
            verify.owner(&keyspace.owner);
            verify.twice(|verify| verify.snapshot(&keyspace.owner));
        }
        for log in core.log_cores() {
            verify.owner(&log.owner);
        }
        match core.verify_ledger() {
            Ok(ledger) => {
                verify.report.files += ledger.files;
                ledger.problems.into_iter().for_each(|problem| verify.report.note(problem));
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
        self.report.note(Problem { path: path.to_owned(), offset, what });
    }

    /// Looks once more if something seems wrong: what was just being written, or forgotten, is not met
    /// again.
    fn twice(&mut self, look: impl Fn(&mut Self)) {
        let mut seen = self.apart(&look);
        if !seen.problems.is_empty() {
            let again = self.apart(&look);
            seen.problems_left_out = seen.problems_left_out.min(again.problems_left_out);
            let place = |problem: &Problem| (problem.path.clone(), problem.offset, problem.what);
            let again: HashSet<_> = again.problems.iter().map(place).collect();
            seen.problems.retain(|problem| again.contains(&place(problem)));
        }
        self.take_over(seen);
    }

    /// Looks, and forgets what seems wrong with what has left by then.
    fn unless_left(&mut self, look: impl Fn(&mut Self), has_left: impl Fn(&Self) -> bool) {
        let mut seen = self.apart(&look);
        if !seen.problems.is_empty() && has_left(self) {
            (seen.problems, seen.problems_left_out) = (Vec::new(), 0);
        }
        self.take_over(seen);
    }

    /// Looks, and gives what was seen instead of adding it.
    fn apart(&mut self, look: &impl Fn(&mut Self)) -> VerifyReport {
        let before = std::mem::take(&mut self.report);
        look(self);
        std::mem::replace(&mut self.report, before)
    }

    fn take_over(&mut self, seen: VerifyReport) {
        self.report.files += seen.files;
        self.report.records += seen.records;
        self.report.bytes += seen.bytes;
        self.report.problems_left_out += seen.problems_left_out;
        seen.problems.into_iter().for_each(|problem| self.report.note(problem));
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
        // One that was forgotten may be there still, and one that is missing is told by this alone.
        let state = StateFile::read(self.disk(), &root.join("STATE")).ok();
        let state = state.and_then(|found| found.state);
        let expected = state.map(|state| (state.oldest_log, state.newest_log));
        match read_logs(self.disk(), &dir, expected, identity) {
            Ok(found) => {
                self.report.files += found.logs.len() as u64;
                for (path, what) in &found.damaged {
                    self.problem(path, 0, what);
                }
                for log in &found.logs {
                    self.regions(log.path());
                    match log.differences(self.disk()) {
                        Ok(offsets) => {
                            for offset in offsets {
                                self.problem(log.path(), offset, "an entry in one of two regions");
                            }
                        }
                        Err(e) => self.failed(log.path(), &Error::io("open", log.path(), e)),
                    }
                }
            }
            Err(e) => self.failed(&dir, &e),
        }
    }

    /// The snapshot id of the last close, if that was clean and nobody has opened the store since.
    fn closed_as(&self) -> Option<[u8; 16]> {
        let found = StateFile::read(self.disk(), &self.engine.root.join("STATE")).ok()?;
        found.state.filter(|state| state.clean).map(|state| state.snapshot_id)
    }

    /// Compares the headers of both regions of a tombstone log.
    fn regions(&mut self, path: &Path) {
        let Some(bytes) = self.read(path, MAX_FILE_LEN) else { return };
        let half = bytes.len() / 2;
        for (offset, region) in [(0, bytes.get(..half)), (half, bytes.get(half..))] {
            let region = region.unwrap_or_default();
            if TombstoneHeader::decode(region).is_err() {
                self.problem(path, offset as u64, "header of a region");
            }
            if let Some(at) = find_unused(region) {
                self.problem(path, (offset + at) as u64, NOT_ZERO);
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

    /// The bytes of a file, but at most so many; nothing if there is none.
    fn read(&mut self, path: &Path, most: u64) -> Option<Vec<u8>> {
        match self.disk().open(path, Access::Read).and_then(|file| read_up_to(&*file, most)) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            read => read.map_err(|e| self.failed(path, &Error::io("read", path, e))).ok(),
        }
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
