//! What a process holds of a disk in memory: files it has open, and locks.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::file::BLOCK;
use super::tree::Id;
use super::{Shared, State};
use crate::disk::{Access, DiskFile, DiskLock};
use crate::map::Map;
use crate::sync::MutexGuard;

/// An open file.
pub(super) struct MemoryFile {
    shared: Arc<Shared>,
    id: Id,
    access: Access,
}

impl MemoryFile {
    pub(super) fn new(shared: Arc<Shared>, id: Id, access: Access) -> Self {
        Self { shared, id, access }
    }

    /// The state, for a change of the file.
    fn writable(&self, refusal: rustix::io::Errno) -> io::Result<MutexGuard<'_, State>> {
        let state = self.shared.alive()?;
        if self.access == Access::ReadWrite { Ok(state) } else { Err(refusal.into()) }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.shared.alive()?.tree.file(self.id)?.read(buffer, offset))
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.writable(rustix::io::Errno::BADF)?.write(self.id, buffers, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.alive()?.tree.file_mut(self.id)?.sync();
        Ok(())
    }

    fn lose_unsynced(&self) {
        let mut state = self.shared.state.lock();
        if let Ok(file) = state.tree.file_mut(self.id) {
            file.lose_unsynced();
        }
    }

    fn forget_cached(&self) {
        let mut state = self.shared.state.lock();
        let forgets = state.forgets;
        if let Some(file) = state.tree.file_mut(self.id).ok().filter(|_| forgets) {
            file.forget_cached();
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.shared.alive()?.tree.file(self.id)?.contents().len() as u64)
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.shared.alive()?.tree.file(self.id)?.blocks() * BLOCK)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable(rustix::io::Errno::INVAL)?.set_len(self.id, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable(rustix::io::Errno::BADF)?.punch_hole(self.id, offset, len)
    }

    fn map(&self, len: usize) -> io::Result<Arc<Map>> {
        Ok(self.shared.alive()?.tree.file_mut(self.id)?.map(len))
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.shared.close(self.id);
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A lock file that is locked until this is dropped.
pub(super) struct MemoryLock {
    shared: Arc<Shared>,
    id: Id,
}

impl MemoryLock {
    pub(super) fn new(shared: Arc<Shared>, id: Id) -> Self {
        Self { shared, id }
    }
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.shared.state.lock().locked.remove(&self.id);
        self.shared.close(self.id);
    }
}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLock").field("id", &self.id).finish_non_exhaustive()
    }
}
