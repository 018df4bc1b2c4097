//! A disk on which something may be done, or go wrong, before chosen calls that name a file.
#![allow(dead_code)]

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ebbtide::disk::{Access, Capabilities, DirEntry, Disk, DiskFile, LockOutcome, MemoryDisk};

/// A call that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    CreateDir,
    Create,
    Rename,
    RemoveFile,
    SyncDir,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Do,
    Fail,
    /// It says that it was done.
    Pretend,
}

type Hook = Arc<dyn Fn(Call, &Path) -> Answer + Send + Sync>;

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

    /// From now on this is asked before each such call.
    pub(crate) fn before(&self, hook: impl Fn(Call, &Path) -> Answer + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Some(Arc::new(hook));
    }

    /// Nothing is asked any more.
    pub(crate) fn clear(&self) {
        *self.hook.lock().unwrap() = None;
    }

    /// The next sync of this directory fails, and what was to be written is taken for clean: later ones write
    /// nothing, until another name is made in it.
    pub(crate) fn forget_next_sync(&self, dir: impl Into<PathBuf>) {
        self.forget_sync(dir, 0);
    }

    /// The same of the one after so many others.
    pub(crate) fn forget_sync(&self, dir: impl Into<PathBuf>, after: usize) {
        let dir: PathBuf = dir.into();
        let (syncs, is_clean) = (AtomicUsize::new(0), AtomicBool::new(false));
        let memory = self.memory.clone();
        self.before(move |call, path| match call {
            Call::CreateDir | Call::Create | Call::Rename
                if path.parent() == Some(&dir) && memory.read_dir(path).is_err() =>
            {
                is_clean.store(false, Ordering::Relaxed);
                Answer::Do
            }
            Call::SyncDir if path == dir => {
                if syncs.fetch_add(1, Ordering::Relaxed) == after {
                    is_clean.store(true, Ordering::Relaxed);
                    return Answer::Fail;
                }
                if is_clean.load(Ordering::Relaxed) { Answer::Pretend } else { Answer::Do }
            }
            _ => Answer::Do,
        });
    }

    fn ask(&self, call: Call, path: &Path) -> Answer {
        let hook = self.hook.lock().unwrap().clone();
        hook.map_or(Answer::Do, |hook| hook(call, path))
    }

    fn hooked(
        &self,
        call: Call,
        path: &Path,
        run: impl FnOnce(&MemoryDisk) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.ask(call, path) {
            Answer::Do => run(&self.memory),
            Answer::Fail => Err(ErrorKind::TimedOut.into()),
            Answer::Pretend => Ok(()),
        }
    }
}

impl Disk for HookedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.hooked(Call::CreateDir, path, |memory| memory.create_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.memory.read_dir(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.memory.open(path, access)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        // A file that is not there cannot be given.
        match self.ask(Call::Create, path) {
            Answer::Do => self.memory.create(path),
            Answer::Fail | Answer::Pretend => Err(ErrorKind::TimedOut.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.hooked(Call::Rename, from, |memory| memory.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.hooked(Call::RemoveFile, path, |memory| memory.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.hooked(Call::SyncDir, path, |memory| memory.sync_dir(path))
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
