//! A disk that once fails to sync a directory, and takes what was to be written for clean from then on.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebbtide::disk::{Access, Capabilities, DirEntry, Disk, DiskFile, LockOutcome, MemoryDisk};

/// A disk in memory with such a directory. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct ForgetfulDisk {
    memory: MemoryDisk,
    dir: PathBuf,
    fails: Arc<AtomicBool>,
    is_clean: Arc<AtomicBool>,
}

impl ForgetfulDisk {
    pub(crate) fn new(memory: &MemoryDisk, dir: &str) -> Self {
        let (fails, is_clean) = (Arc::default(), Arc::default());
        Self { memory: memory.clone(), dir: dir.into(), fails, is_clean }
    }

    /// The next sync fails; later ones write nothing, until another directory is made in this one.
    pub(crate) fn fail_next_sync(&self) {
        self.fails.store(true, Ordering::Relaxed);
    }
}

impl Disk for ForgetfulDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.create_dir(path)?;
        if path.parent() == Some(&*self.dir) {
            self.is_clean.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.memory.read_dir(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.memory.open(path, access)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.memory.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.memory.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.memory.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if path != self.dir {
            return self.memory.sync_dir(path);
        }
        if self.fails.swap(false, Ordering::Relaxed) {
            self.is_clean.store(true, Ordering::Relaxed);
            return Err(ErrorKind::TimedOut.into());
        }
        if self.is_clean.load(Ordering::Relaxed) { Ok(()) } else { self.memory.sync_dir(path) }
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.memory.lock(path)
    }

    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.memory.fill_random(buffer)
    }

    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities> {
        self.memory.capabilities(dir)
    }
}
