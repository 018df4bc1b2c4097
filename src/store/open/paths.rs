//! Where a store's own files are.

use std::path::PathBuf;

/// The paths of a store's own files.
pub(super) struct Paths {
    pub(super) root: PathBuf,
}

impl Paths {
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.root.join("STORE")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("STATE")
    }

    pub(super) fn tombstones(&self) -> PathBuf {
        self.root.join("tombstones")
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}
