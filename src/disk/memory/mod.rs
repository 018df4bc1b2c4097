//! A disk in memory that knows what a power cut may leave of it, for tests.
//!
//! It keeps what everybody sees apart from what was made durable, and [`MemoryDisk::crash`] gives a
//! new disk in one of the states POSIX allows in between. It fails no call without cause; that is
//! [`FaultyDisk`](super::FaultyDisk)'s part.

mod crash;
mod entry;
mod file;
mod handle;
mod random;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard};

use self::file::BLOCK;
use self::handle::{MemoryFile, MemoryLock};
use self::random::Random;
use self::tree::{Id, Tree};
use super::real::parse_pid;
use super::{Access, Capabilities, DirEntry, Disk, DiskFile, EntryKind, LockOutcome};
use crate::error::is_full;

pub use self::crash::CrashChoice;

/// A file system in memory. Clones are the same disk; [`MemoryDisk::fork`] gives another one.
///
/// The directory `/` exists from the start, and relative paths start there; `..` is refused. Whatever
/// is below a file's length takes space, but for the holes [`DiskFile::punch_hole`] makes.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    tree: Tree,
    capacity: Option<u64>,
    /// What a failed sync has lost is seen no more once a file is to be forgotten.
    forgets: bool,
    random: Random,
    capabilities: Capabilities,
    locked: BTreeSet<Id>,
    /// Why every call fails.
    dead: Option<&'static str>,
}

impl MemoryDisk {
    /// An empty disk without a limit to its capacity, and with all [`Capabilities`]. The seed
    /// determines [`fill_random`](Disk::fill_random).
    pub fn new(seed: u64) -> Self {
        Self::holding(State {
            tree: Tree::new(),
            capacity: None,
            forgets: false,
            random: Random::new(seed),
            capabilities: Capabilities {
                file_system: "memory".to_owned(),
                punches_holes: true,
                overwrites_in_place: true,
            },
            locked: BTreeSet::new(),
            dead: None,
        })
    }

    /// Cuts the power: gives a new disk that holds one legal durable state. Every later call on
    /// this one and its files fails.
    ///
    /// A file that was not synced keeps its old contents, has the new ones, or is a mix: a length
    /// from between, and each 512-byte sector as it was after some of the writes to it, or zeros,
    /// garbage, or what another file holds at its place if it held nothing durable. An unsynced
    /// creation, removal or rename is there or not, as a whole; a rename between directories counts
    /// as synced once both directories are.
    pub fn crash(&self, choice: &mut dyn CrashChoice) -> Self {
        let mut state = self.take("the machine has lost power");
        state.tree.crash(choice);
        Self::holding(state)
    }

    /// Ends the process: gives a new disk with everything in place, synced or not, so that a later
    /// crash may still lose it. Every later call on this one and its files fails.
    pub fn kill(&self) -> Self {
        let mut state = self.take("the process was killed");
        state.tree.detach();
        Self::holding(state)
    }

    /// An independent copy, live and durable, with nothing open and no lock held. This disk stays
    /// usable.
    pub fn fork(&self) -> Self {
        let mut state = self.shared.state.lock().clone();
        state.locked.clear();
        state.tree.detach();
        Self::holding(state)
    }

    /// Limits the space files may take; `None` lifts the limit. What is there stays, even if it is
    /// more.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.shared.state.lock().capacity = capacity;
    }

    /// From now on [`forget_cached`](DiskFile::forget_cached) shows what is on the disk, unless the file is mapped:
    /// Linux keeps the pages of a map. Else what a failed sync has lost stays to be seen until the power is cut.
    pub fn let_forget(&self) {
        self.shared.state.lock().forgets = true;
    }

    /// Sets what [`capabilities`](Disk::capabilities) tells, of every directory. On a disk that
    /// does not punch holes, [`punch_hole`](DiskFile::punch_hole) fails; one that does not overwrite
    /// in place only says so.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.shared.state.lock().capabilities = capabilities;
    }

    /// The space files take, in whole blocks of 4096 bytes. A removed file counts until its last
    /// handle is dropped.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().tree.used_blocks() * BLOCK
    }

    /// The present contents of a file.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.shared.alive()?;
        let id = state.tree.find_file(path)?;
        Ok(state.tree.file(id)?.contents().to_vec())
    }

    /// Replaces the contents of a file, or creates it, durably at once and without regard to the
    /// capacity. Its directory must exist.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.shared.alive()?;
        let id = state.find_or_create(path)?;
        state.tree.commit_name(id);
        state.tree.file_mut(id)?.replace(bytes);
        Ok(())
    }

    /// The paths of all files from the root, sorted.
    pub fn all_files(&self) -> Vec<PathBuf> {
        self.shared.state.lock().tree.all_files()
    }

    fn holding(state: State) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state) }) }
    }

    /// Takes the state away from this disk, which is dead from now on.
    fn take(&self, why: &'static str) -> State {
        let mut state = self.shared.state.lock();
        let dead = State {
            tree: Tree::new(),
            capacity: state.capacity,
            forgets: state.forgets,
            random: state.random.clone(),
            capabilities: state.capabilities.clone(),
            locked: BTreeSet::new(),
            dead: Some(why),
        };
        let mut taken = std::mem::replace(&mut *state, dead);
        taken.locked.clear();
        taken
    }

    fn handle(&self, state: &mut State, id: Id, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        state.tree.file_mut(id)?.opened += 1;
        Ok(Arc::new(MemoryFile::new(Arc::clone(&self.shared), id, access)))
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").finish_non_exhaustive()
    }
}

impl Shared {
    /// The state, unless power or process is gone.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        match state.dead {
            Some(why) => Err(io::Error::other(why)),
            None => Ok(state),
        }
    }

    /// Gives up one handle; there is none any more on a dead disk.
    fn close(&self, id: Id) {
        self.state.lock().tree.close(id);
    }
}

impl State {
    fn find_or_create(&mut self, path: &Path) -> io::Result<Id> {
        match self.tree.find_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.tree.create_file(path),
            found => found,
        }
    }

    /// How many blocks are free, or `None` without a limit.
    fn free_blocks(&self) -> Option<u64> {
        Some((self.capacity? / BLOCK).saturating_sub(self.tree.used_blocks()))
    }

    /// How many of `len` bytes at `offset` the file takes.
    fn room(&self, id: Id, offset: u64, len: usize) -> io::Result<usize> {
        let end = file::checked_end(offset, len)?;
        let Some(free) = self.free_blocks() else { return Ok(len) };
        match self.tree.file(id)?.lacking(offset..end, free) {
            Some(block) if free == 0 || block * BLOCK <= offset => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(block) => Ok((block * BLOCK - offset) as usize),
            None => Ok(len),
        }
    }

    fn write(&mut self, id: Id, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut bytes = Vec::new();
        buffers.iter().for_each(|buffer| bytes.extend_from_slice(buffer));
        if bytes.is_empty() {
            return Ok(0);
        }
        bytes.truncate(self.room(id, offset, bytes.len())?);
        let count = bytes.len();
        self.tree.file_mut(id)?.write(offset as usize, bytes);
        Ok(count)
    }

    fn set_len(&mut self, id: Id, len: u64) -> io::Result<()> {
        file::checked_end(len, 0)?;
        let missing = self.tree.file(id)?.missing_for_len(len);
        if self.free_blocks().is_some_and(|free| missing > free) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.tree.file_mut(id)?.set_len(len as usize);
        Ok(())
    }

    fn punch_hole(&mut self, id: Id, offset: u64, len: u64) -> io::Result<()> {
        if !self.capabilities.punches_holes {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.tree.file_mut(id)?.punch(offset, offset.saturating_add(len));
        Ok(())
    }

    /// Leaves our process id in a lock file. As on a real disk, it only serves a message, so a full
    /// disk does not prevent locking.
    fn write_pid(&mut self, id: Id) -> io::Result<()> {
        let text = format!("{}\n", std::process::id());
        self.set_len(id, 0)?;
        match self.write(id, &[IoSlice::new(text.as_bytes())], 0) {
            Err(error) if !is_full(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.alive()?.tree.create_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.shared.alive()?;
        let entries = state.tree.list(path)?.into_iter().map(|(name, is_dir)| DirEntry {
            name: name.to_string_lossy().into_owned(),
            kind: if is_dir { EntryKind::Directory } else { EntryKind::File },
        });
        Ok(entries.collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.shared.alive()?;
        let id = state.tree.find_file(path)?;
        self.handle(&mut state, id, access)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.shared.alive()?;
        let id = state.tree.create_file(path)?;
        self.handle(&mut state, id, Access::ReadWrite)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.alive()?.tree.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.shared.alive()?.tree.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.alive()?.tree.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.alive()?.tree.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        let mut state = self.shared.alive()?;
        let id = state.find_or_create(path)?;
        if state.locked.contains(&id) {
            return Ok(LockOutcome::Held(parse_pid(state.tree.file(id)?.contents())));
        }
        state.write_pid(id)?;
        state.tree.file_mut(id)?.opened += 1;
        state.locked.insert(id);
        let shared = Arc::clone(&self.shared);
        Ok(LockOutcome::Acquired(Box::new(MemoryLock::new(shared, id))))
    }

    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.shared.alive()?.random.fill(buffer);
        Ok(())
    }

    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities> {
        let state = self.shared.alive()?;
        state.tree.list(dir)?;
        Ok(state.capabilities.clone())
    }
}
