//! A disk that closes files kept open for reading where the process may open no more.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Access, Capabilities, Descriptors, DirEntry, Disk, DiskFile, LockOutcome};

/// Passes calls on. What takes a descriptor and gets none is tried once more, without the files that only
/// make reading faster.
#[derive(Debug)]
pub(crate) struct SparingDisk {
    inner: Arc<dyn Disk>,
    descriptors: Arc<Descriptors>,
}

impl SparingDisk {
    /// Over another disk, with the files that may be closed.
    pub(crate) fn new(inner: Arc<dyn Disk>, descriptors: Arc<Descriptors>) -> Self {
        Self { inner, descriptors }
    }
}

impl Disk for SparingDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.descriptors.relieve(|| self.inner.read_dir(path))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.descriptors.relieve(|| self.inner.open(path, access))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.descriptors.relieve(|| self.inner.create(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.descriptors.relieve(|| self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.inner.lock(path)
    }

    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()> {
        // Where the system has a file for it.
        self.descriptors.relieve(|| self.inner.fill_random(buffer))
    }

    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities> {
        self.inner.capabilities(dir)
    }

    fn remote_file_system(&self, dir: &Path) -> io::Result<Option<String>> {
        self.inner.remote_file_system(dir)
    }
}
