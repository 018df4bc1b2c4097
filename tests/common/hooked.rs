//! A disk on which something may be done, or go wrong, before chosen calls that name a file.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ebbtide::disk::{Access, Capabilities, DirEntry, Disk, DiskFile, LockOutcome, MemoryDisk};

/// A call that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Rename,
    RemoveFile,
    SyncDir,
}

type Hook = Arc<dyn Fn(Call, &Path) -> io::Result<()> + Send + Sync>;

/// A disk in memory with a hook. Clones are the same one.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    memory: MemoryDisk,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookedDisk")
    }
}

impl HookedDisk {
    pub(crate) fn new(memory: &MemoryDisk) -> Self {
        Self { memory: memory.clone(), hook: Arc::default() }
    }

    /// From now on this is asked before each such call, which fails if it does.
    pub(crate) fn before(
        &self,
        hook: impl Fn(Call, &Path) -> io::Result<()> + Send + Sync + 'static,
    ) {
        *self.hook.lock().unwrap() = Some(Arc::new(hook));
    }

    /// Nothing is asked any more.
    pub(crate) fn clear(&self) {
        *self.hook.lock().unwrap() = None;
    }

    fn ask(&self, call: Call, path: &Path) -> io::Result<()> {
        let hook = self.hook.lock().unwrap().clone();
        hook.map_or(Ok(()), |hook| hook(call, path))
    }
}

impl Disk for HookedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.create_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.memory.read_dir(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.memory.open(path, access)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(Call::Create, path)?;
        self.memory.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Call::Rename, from)?;
        self.memory.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::RemoveFile, path)?;
        self.memory.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::SyncDir, path)?;
        self.memory.sync_dir(path)
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
