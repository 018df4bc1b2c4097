//! A disk that fails chosen calls, for tests of what the engine does then.
//!
//! It passes everything on to another disk and counts the calls on their way, so that a test can
//! run once to learn how many there are and then fail each in turn. It does not say what a power
//! cut leaves behind; that is [`MemoryDisk`](super::MemoryDisk)'s part.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::sync::Mutex;

use super::{Access, Capabilities, DirEntry, Disk, DiskFile, LockOutcome, write_all_at};
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
/// `is_empty`, `allocated_bytes`, `fill_random` and `capabilities`.
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

    /// Removes all pending faults; the count goes on.
    pub fn clear(&self) {
        self.plan.state.lock().faults.clear();
    }

    fn file(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { inner, plan: Arc::clone(&self.plan) })
    }
}

#[derive(Debug, Default)]
struct Plan {
    state: Mutex<PlanState>,
}

#[derive(Debug, Default)]
struct PlanState {
    calls: u64,
    faults: BTreeMap<u64, Fault>,
}

impl Plan {
    /// Counts a call that is not a sync of a file, and gives what is to go wrong in it.
    fn next(&self) -> Option<Fault> {
        let mut state = self.state.lock();
        let fault = state.next();
        let Some(waiting @ Fault::SyncLost(_)) = fault else { return fault };
        let next = state.calls + 1;
        state.faults.entry(next).or_insert(waiting);
        None
    }

    /// The same for a sync of a file.
    fn next_sync(&self) -> Option<Fault> {
        self.state.lock().next()
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
        self.plan.run(|| self.inner.read_dir(path))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.plan.run(|| self.inner.open(path, access)).map(|file| self.file(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.plan.run(|| self.inner.create(path)).map(|file| self.file(file))
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
        self.plan.run(|| self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.plan.run(|| self.inner.lock(path))
    }

    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.fill_random(buffer)
    }

    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities> {
        self.inner.capabilities(dir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    plan: Arc<Plan>,
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;

    use super::super::{MemoryDisk, RealDisk};
    use super::*;

    const KIND: io::ErrorKind = io::ErrorKind::TimedOut;

    fn wrapped() -> (FaultyDisk, MemoryDisk, Arc<dyn DiskFile>) {
        let memory = MemoryDisk::new(1);
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let file = disk.create(Path::new("/f")).unwrap();
        (disk, memory, file)
    }

    fn contents(memory: &MemoryDisk) -> Vec<u8> {
        memory.read_file(Path::new("/f")).unwrap()
    }

    fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
        result.err().unwrap().kind()
    }

    #[test]
    fn calls_that_can_matter_are_counted() {
        let (disk, _, file) = wrapped();
        assert_eq!(disk.calls(), 1);
        disk.create_dir(Path::new("/d")).unwrap();
        disk.read_dir(Path::new("/")).unwrap();
        disk.open(Path::new("/f"), Access::Read).unwrap();
        disk.rename(Path::new("/d"), Path::new("/e")).unwrap();
        disk.remove_dir(Path::new("/e")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.lock(Path::new("/l")).unwrap();
        disk.remove_file(Path::new("/l")).unwrap();
        assert_eq!(disk.calls(), 9);
        file.write_at(&[IoSlice::new(b"ab")], 0).unwrap();
        file.read_at(&mut [0; 2], 0).unwrap();
        file.sync_data().unwrap();
        file.set_len(1).unwrap();
        file.map(1).unwrap();
        file.punch_hole(0, 1).unwrap();
        assert_eq!(disk.clone().calls(), 15);
        file.len().unwrap();
        file.is_empty().unwrap();
        file.allocated_bytes().unwrap();
        disk.fill_random(&mut [0; 2]).unwrap();
        disk.capabilities(Path::new("/")).unwrap();
        assert_eq!(disk.calls(), 15);
    }

    #[test]
    fn an_error_hits_one_call_and_does_nothing() {
        let (disk, memory, file) = wrapped();
        disk.inject(2, Fault::Error(KIND));
        disk.inject(4, Fault::Error(io::ErrorKind::StorageFull));
        assert_eq!(kind(file.write_at(&[IoSlice::new(b"ab")], 0)), KIND);
        assert!(contents(&memory).is_empty());
        file.write_at(&[IoSlice::new(b"ab")], 0).unwrap();
        assert_eq!(kind(disk.create(Path::new("/g"))), io::ErrorKind::StorageFull);
        assert_eq!(memory.all_files(), [PathBuf::from("/f")]);
        file.sync_data().unwrap();
    }

    #[test]
    fn errors_last_until_cleared() {
        let (disk, _, file) = wrapped();
        disk.inject(3, Fault::ErrorsFrom(KIND));
        file.sync_data().unwrap();
        assert_eq!(kind(file.sync_data()), KIND);
        assert_eq!(kind(disk.sync_dir(Path::new("/"))), KIND);
        disk.clear();
        file.sync_data().unwrap();
        disk.inject(1, Fault::ErrorsFrom(KIND));
        assert_eq!(kind(file.sync_data()), KIND);
    }

    #[test]
    fn an_error_after_the_fact_leaves_the_effect() {
        let (disk, memory, file) = wrapped();
        disk.inject(2, Fault::ErrorAfter(KIND));
        assert_eq!(kind(file.write_at(&[IoSlice::new(b"ab")], 0)), KIND);
        assert_eq!(contents(&memory), b"ab");
    }

    #[test]
    fn a_lost_sync_takes_what_was_unsynced_for_written() {
        let (disk, memory, file) = wrapped();
        let durable = || contents(&memory.fork().crash(&mut |_| 0));
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_at(&[IoSlice::new(b"ab")], 0).unwrap();
        file.sync_data().unwrap();
        disk.inject(5, Fault::SyncLost(KIND));
        file.write_at(&[IoSlice::new(b"cdef")], 0).unwrap();
        assert_eq!(kind(file.sync_data()), KIND);
        assert_eq!(contents(&memory), b"cdef");
        file.sync_data().unwrap();
        assert_eq!(durable(), b"ab", "the second sync succeeds and writes nothing");
        file.write_at(&[IoSlice::new(b"D")], 1).unwrap();
        file.sync_data().unwrap();
        assert_eq!((contents(&memory), durable()), (b"cDef".to_vec(), b"aD".to_vec()));
        assert_eq!(contents(&memory.fork().crash(&mut |_| 1)), b"aD");
    }

    #[test]
    fn a_hole_is_punched_unless_that_fails() {
        let (disk, memory, file) = wrapped();
        file.write_at(&[IoSlice::new(b"abcd")], 0).unwrap();
        disk.inject(3, Fault::Error(KIND));
        disk.inject(4, Fault::Torn(KIND));
        disk.inject(5, Fault::ErrorAfter(KIND));
        assert_eq!(kind(file.punch_hole(0, 2)), KIND);
        assert_eq!(kind(file.punch_hole(0, 2)), KIND);
        assert_eq!(contents(&memory), b"abcd");
        assert_eq!(kind(file.punch_hole(0, 2)), KIND);
        assert_eq!(contents(&memory), b"\0\0cd");
    }

    #[test]
    fn short_calls_handle_the_first_half() {
        let (disk, memory, file) = wrapped();
        (2..=6).for_each(|call| disk.inject(call, Fault::Short));
        let parts = [IoSlice::new(b"abc"), IoSlice::new(b"de"), IoSlice::new(b"f1")];
        assert_eq!(file.write_at(&parts, 0).unwrap(), 3);
        assert_eq!(file.write_at(&[IoSlice::new(b"d")], 3).unwrap(), 1);
        assert_eq!(contents(&memory), b"abcd");
        let mut buffer = [0; 4];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 2);
        assert_eq!(&buffer, b"ab\0\0");
        assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
        file.sync_data().unwrap();
    }

    #[test]
    fn a_torn_write_leaves_its_first_half() {
        let (disk, memory, file) = wrapped();
        disk.inject(2, Fault::Torn(KIND));
        disk.inject(3, Fault::Torn(KIND));
        let parts = [IoSlice::new(b"a"), IoSlice::new(b"bcd"), IoSlice::new(b"ef")];
        assert_eq!(kind(file.write_at(&parts, 0)), KIND);
        assert_eq!(contents(&memory), b"abc");
        assert_eq!(kind(file.set_len(0)), KIND);
        assert_eq!(contents(&memory), b"abc");
        disk.inject(4, Fault::Torn(KIND));
        assert_eq!(kind(file.write_at(&[IoSlice::new(b"word")], 0)), KIND);
        assert_eq!(contents(&memory), b"abc", "a word is written whole or not at all");
    }

    /// Runs `abort_child` with this fault in a process of its own; gives what the file holds then.
    fn after_abort(fault: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "disk::faulty::tests::abort_child"])
            .env("EBBTIDE_TEST_ABORT_FILE", &path)
            .env("EBBTIDE_TEST_ABORT_FAULT", fault)
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        std::fs::read(path).unwrap()
    }

    #[test]
    #[ignore = "aborts its process; run by the tests below"]
    fn abort_child() {
        let Some(path) = std::env::var_os("EBBTIDE_TEST_ABORT_FILE") else { return };
        let torn =
            std::env::var_os("EBBTIDE_TEST_ABORT_FAULT").is_some_and(|fault| fault == "torn");
        let disk = FaultyDisk::new(Arc::new(RealDisk));
        disk.inject(2, if torn { Fault::AbortTorn } else { Fault::Abort });
        let file = disk.create(Path::new(&path)).unwrap();
        file.write_at(&[IoSlice::new(b"abcdef")], 0).unwrap();
    }

    #[test]
    fn an_abort_comes_before_the_effect() {
        assert_eq!(after_abort("plain"), b"");
    }

    #[test]
    fn a_torn_abort_leaves_the_first_half() {
        assert_eq!(after_abort("torn"), b"abc");
    }
}
