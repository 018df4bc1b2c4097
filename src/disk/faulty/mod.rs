//! A disk that fails chosen calls, for tests of what the engine does then.
//!
//! It passes everything on to another disk and counts the calls on their way, so that a test can
//! run once to learn how many there are and then fail each in turn. It does not say what a power
//! cut leaves behind; that is [`MemoryDisk`](super::MemoryDisk)'s part.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

use super::{
    Access, Capabilities, DirEntry, Disk, DiskFile, LockOutcome, out_of_descriptors, write_all_at,
};
use crate::map::Map;

/// What no stop of a process or machine tears apart, if it lies in one piece of its own length.
const WORD_LEN: usize = 4;

/// What goes wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and nothing happens.
    Error(io::ErrorKind),
    /// This call and all after it fail and nothing happens.
    ErrorsFrom(io::ErrorKind),
    /// The call takes effect, then reports the error.
    ErrorAfter(io::ErrorKind),
    /// A read or write handles only the first half, but at least one byte; other calls are
    /// unaffected.
    Short,
    /// A write puts down its first half and then fails; other calls fail and nothing happens. A word
    /// of up to 4 bytes at a multiple of 4 has no halves: nothing of it is put down.
    Torn(io::ErrorKind),
    /// The first sync of a file from this call on fails, and what was unsynced counts as written
    /// from then on: see [`DiskFile::lose_unsynced`]. Other calls are unaffected.
    SyncLost(io::ErrorKind),
    /// The process aborts before the call takes effect.
    Abort,
    /// The process aborts after a write put down its first half, or after another call took effect.
    AbortTorn,
}

/// Passes calls on to another disk and fails the chosen ones. Clones share count and faults.
///
/// Each call on the disk and on every file opened through it counts, from 1, but for `len`,
/// `is_empty`, `allocated_bytes`, `fill_random`, `capabilities` and `remote_file_system`.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    plan: Arc<Plan>,
}

impl FaultyDisk {
    /// Wraps a disk, with no faults pending.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// How many calls have been counted so far.
    pub fn calls(&self) -> u64 {
        self.plan.state.lock().calls
    }

    /// Makes call number `at` fail. Several faults may be pending; a second one for the same call
    /// replaces the first. One for a call already made does nothing, but [`Fault::ErrorsFrom`]
    /// still fails all calls to come.
    pub fn inject(&self, at: u64, fault: Fault) {
        self.plan.state.lock().faults.insert(at, fault);
    }

    /// Does something else right before call number `at`, as another thread or process may. What it does
    /// may make calls of its own, which count too.
    pub fn interrupt(&self, at: u64, action: impl FnOnce() + Send + 'static) {
        self.plan.state.lock().interruptions.insert(at, Action(Box::new(action)));
    }

    /// Removes all pending faults; the count goes on.
    pub fn clear(&self) {
        self.plan.state.lock().faults.clear();
    }

    /// Lets no more files be open than there are now and so many more: what would take another descriptor
    /// fails as the system lets it fail (`EMFILE`). Directories are open for as long as a call takes.
    pub fn limit_descriptors(&self, more: usize) {
        let most = self.open_files() + more;
        self.plan.state.lock().most_files = Some(most);
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.plan.files.load(Ordering::Relaxed)
    }

    fn file(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        self.plan.files.fetch_add(1, Ordering::Relaxed);
        Arc::new(FaultyFile { inner, plan: Arc::clone(&self.plan) })
    }
}

#[derive(Debug, Default)]
struct Plan {
    state: Mutex<PlanState>,
    files: AtomicUsize,
}

#[derive(Debug, Default)]
struct PlanState {
    calls: u64,
    most_files: Option<usize>,
    faults: BTreeMap<u64, Fault>,
    interruptions: BTreeMap<u64, Action>,
}

/// What is done in between.
struct Action(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Action")
    }
}

impl Plan {
    /// Counts a call that is not a sync of a file, and gives what is to go wrong in it.
    fn next(&self) -> Option<Fault> {
        self.give_way();
        let mut state = self.state.lock();
        let fault = state.next();
        let Some(waiting @ Fault::SyncLost(_)) = fault else { return fault };
        let next = state.calls + 1;
        state.faults.entry(next).or_insert(waiting);
        None
    }

    /// The same for a sync of a file.
    fn next_sync(&self) -> Option<Fault> {
        self.give_way();
        self.state.lock().next()
    }

    /// Lets happen what is to happen before the next call.
    fn give_way(&self) {
        let mut state = self.state.lock();
        let next = state.calls + 1;
        let action = state.interruptions.remove(&next);
        drop(state);
        if let Some(Action(act)) = action {
            act();
        }
    }

    /// Makes a call that takes a descriptor.
    fn run_opening<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let is_full = self.is_full();
        self.run(|| if is_full { Err(out_of_descriptors()) } else { call() })
    }

    /// True if no more files may be open.
    fn is_full(&self) -> bool {
        let most = self.state.lock().most_files;
        most.is_some_and(|most| self.files.load(Ordering::Relaxed) >= most)
    }

    /// Makes a call that is neither a read nor a write.
    fn run<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next() {
            Some(fault) => spoil(fault, call),
            None => call(),
        }
    }
}

impl PlanState {
    fn next(&mut self) -> Option<Fault> {
        self.calls += 1;
        let call = self.calls;
        let lasting =
            |(_, fault): (&u64, &Fault)| matches!(fault, Fault::ErrorsFrom(_)).then_some(*fault);
        self.faults.get(&call).copied().or_else(|| self.faults.range(..call).find_map(lasting))
    }
}

/// Makes a call that has no halves with this fault.
fn spoil<T>(fault: Fault, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match fault {
        Fault::Short | Fault::SyncLost(_) => call(),
        Fault::Error(kind) | Fault::ErrorsFrom(kind) | Fault::Torn(kind) => Err(injected(kind)),
        Fault::ErrorAfter(kind) => call().and_then(|_| Err(injected(kind))),
        Fault::Abort => std::process::abort(),
        Fault::AbortTorn => {
            // The process ends here, so nobody is left to be told how the call went.
            let _ = call();
            std::process::abort()
        }
    }
}

fn injected(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "injected fault")
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.plan.run(|| self.inner.create_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.plan.run_opening(|| self.inner.read_dir(path))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.plan.run_opening(|| self.inner.open(path, access)).map(|file| self.file(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.plan.run_opening(|| self.inner.create(path)).map(|file| self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.run(|| self.inner.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plan.run(|| self.inner.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.plan.run(|| self.inner.remove_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.plan.run_opening(|| self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.plan.run(|| self.inner.lock(path))
    }

    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()> {
        // Some systems have a file for it.
        if self.plan.is_full() { Err(out_of_descriptors()) } else { self.inner.fill_random(buffer) }
    }

    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities> {
        self.inner.capabilities(dir)
    }

    fn remote_file_system(&self, dir: &Path) -> io::Result<Option<String>> {
        self.inner.remote_file_system(dir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    plan: Arc<Plan>,
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.plan.files.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FaultyFile {
    /// Puts down the first half of a write, whole even if the disk below takes it in pieces.
    fn write_half(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let len = total(buffers);
        let is_word = len <= WORD_LEN && offset.next_multiple_of(WORD_LEN as u64) == offset;
        let mut half = first_bytes(buffers, if is_word { 0 } else { len / 2 });
        write_all_at(&*self.inner, &mut half, offset).map_err(|partial| partial.source)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.plan.next() {
            Some(Fault::Short) => {
                let half = short(buffer.len());
                self.inner.read_at(buffer.get_mut(..half).unwrap_or_default(), offset)
            }
            Some(fault) => spoil(fault, || self.inner.read_at(buffer, offset)),
            None => self.inner.read_at(buffer, offset),
        }
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match self.plan.next() {
            Some(Fault::Short) => {
                let half = first_bytes(buffers, short(total(buffers)));
                self.inner.write_at(&half, offset)
            }
            Some(Fault::Torn(kind)) => {
                self.write_half(buffers, offset).and_then(|()| Err(injected(kind)))
            }
            Some(Fault::AbortTorn) => {
                spoil(Fault::AbortTorn, || self.write_half(buffers, offset)).map(|()| 0)
            }
            Some(fault) => spoil(fault, || self.inner.write_at(buffers, offset)),
            None => self.inner.write_at(buffers, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.plan.next_sync() {
            Some(Fault::SyncLost(kind)) => {
                self.inner.lose_unsynced();
                Err(injected(kind))
            }
            Some(fault) => spoil(fault, || self.inner.sync_data()),
            None => self.inner.sync_data(),
        }
    }

    fn lose_unsynced(&self) {
        self.inner.lose_unsynced();
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.inner.allocated_bytes()
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.plan.run(|| self.inner.reserve(offset, len))
    }

    fn release_reserved(&self) -> io::Result<()> {
        self.plan.run(|| self.inner.release_reserved())
    }

    fn forget_cached(&self) {
        self.inner.forget_cached();
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.plan.run(|| self.inner.punch_hole(offset, len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plan.run(|| self.inner.set_len(len))
    }

    fn map(&self, len: usize) -> io::Result<Arc<Map>> {
        self.plan.run(|| self.inner.map(len))
    }
}

/// Half of a count, but at least 1 of what is not nothing.
fn short(count: usize) -> usize {
    (count / 2).max(count.min(1))
}

fn total(buffers: &[IoSlice<'_>]) -> usize {
    buffers.iter().map(|buffer| buffer.len()).sum()
}

/// The first `count` bytes of the buffers.
fn first_bytes<'a>(buffers: &'a [IoSlice<'_>], count: usize) -> Vec<IoSlice<'a>> {
    let mut rest = count;
    let mut slices = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let (taken, _) = buffer.split_at(rest.min(buffer.len()));
        rest -= taken.len();
        slices.push(IoSlice::new(taken));
    }
    slices
}
