//! Verifying what nothing depends on: the spares that wait, and the indexes left by a clean close.

use std::path::Path;

use super::{NOT_ZERO, Verify};
use crate::format::{ledger, tombstone};
use crate::owner::Owner;
use crate::recovery::check_snapshot;
use crate::spare::SPARE;

impl Verify<'_> {
    /// The spares of tombstone log and ledger.
    pub(super) fn spares(&mut self) {
        let root = &self.engine.root;
        let dir = root.join("tombstones");
        self.spare(&dir.join(SPARE), tombstone::MAX_FILE_LEN, tombstone::clear_begun);
        self.spare(&root.join("ledger").join(SPARE), ledger::MAX_FILE_LEN, ledger::clear_begun);
    }

    /// A spare is zeros, but for a file that may have been begun in it and has no name yet.
    fn spare(&mut self, path: &Path, longest: u64, clear_begun: fn(&mut [u8])) {
        let Some(mut bytes) = self.read(path, longest) else { return };
        self.report.files += 1;
        clear_begun(&mut bytes);
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            self.problem(path, at as u64, NOT_ZERO);
        }
    }

    /// The index of a keyspace, for as long as the next opening may start from it.
    pub(super) fn snapshot(&mut self, owner: &Owner) {
        let Some(wanted) = self.closed_as() else { return };
        if let Some((path, what)) = check_snapshot(owner, wanted) {
            self.problem(&path, 0, what);
        }
    }
}
