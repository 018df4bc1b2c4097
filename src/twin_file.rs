//! A small file kept twice, on a disk: created whole, then overwritten in place without growing.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile, read_full_at, write_all_at};
use crate::error::{Error, Result};
use crate::format::twin::{self, SLOT_LEN, Twin};
use crate::planted::{Bug, is_planted};

/// An open twin file.
#[derive(Debug)]
pub(crate) struct TwinFile {
    path: PathBuf,
    magic: [u8; 8],
    file: Arc<dyn DiskFile>,
    counter: u64,
    /// Which slot was written last.
    newest: usize,
}

impl TwinFile {
    /// Creates the file with the same payload in both slots, durably but for the directory entry.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        magic: [u8; 8],
        payload: &[u8],
    ) -> Result<Self> {
        let file = disk.create(path).map_err(|e| Error::io("create", path, e))?;
        let mut twin = Self { path: path.to_owned(), magic, file, counter: 0, newest: 1 };
        twin.write_slot(0, 1, payload)?;
        twin.write_slot(1, 2, payload)?;
        twin.sync()?;
        twin.counter = 2;
        Ok(twin)
    }

    /// Creates the file under a temporary name and renames it: it is there whole or not at all.
    pub(crate) fn create_whole(
        disk: &dyn Disk,
        path: &Path,
        magic: [u8; 8],
        payload: &[u8],
    ) -> Result<Self> {
        let tmp = path.with_extension("tmp");
        let _ = disk.remove_file(&tmp);
        let twin = Self::create(disk, &tmp, magic, payload)?;
        disk.rename(&tmp, path).map_err(|e| Error::io("rename", &tmp, e))?;
        Ok(Self { path: path.to_owned(), ..twin })
    }

    /// Reads the file's two slots.
    pub(crate) fn read(disk: &dyn Disk, path: &Path, magic: [u8; 8]) -> Result<Twin> {
        let file = disk.open(path, Access::Read).map_err(|e| Error::io("open", path, e))?;
        read_twin(&*file, path, magic)
    }

    /// Opens the file for overwriting and reads its two slots.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, magic: [u8; 8]) -> Result<(Self, Twin)> {
        let file = disk.open(path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))?;
        let twin = read_twin(&*file, path, magic)?;
        let (newest, counter) = twin.newest().map_or((1, 0), |(at, slot)| (at, slot.counter));
        Ok((Self { path: path.to_owned(), magic, file, counter, newest }, twin))
    }

    /// Overwrites the older slot, durably: after any stop the file holds this payload or the one
    /// before.
    pub(crate) fn overwrite(&mut self, payload: &[u8]) -> Result<()> {
        let other = 1 - self.newest;
        let slot = if is_planted(Bug::SingleSlotState) { self.newest } else { other };
        self.write_slot(slot, self.counter + 1, payload)?;
        self.sync()?;
        self.counter += 1;
        self.newest = slot;
        Ok(())
    }

    /// Overwrites both slots, one after the other: afterwards no damage to one of them brings the
    /// payload before back.
    pub(crate) fn overwrite_both(&mut self, payload: &[u8]) -> Result<()> {
        self.overwrite(payload)?;
        self.overwrite(payload)
    }

    /// Makes what was read of the file durable for certain: it may be there only because an earlier process
    /// wrote it and ended, or failed, before it was. The same bytes are written once more, since a sync
    /// alone may take what could not be written for clean.
    pub(crate) fn settle(&self) -> Result<()> {
        let mut bytes = vec![0; twin::FILE_LEN];
        let read = read_full_at(&*self.file, &mut bytes, 0)
            .map_err(|e| Error::io("read", &self.path, e))?;
        self.write_at(bytes.get(..read).unwrap_or_default(), 0)?;
        self.sync()
    }

    fn write_slot(&self, slot: usize, counter: u64, payload: &[u8]) -> Result<()> {
        let Some(bytes) = twin::encode_slot(self.magic, counter, payload) else {
            return Err(Error::Unsupported { what: "a manifest of more than 4 KiB" });
        };
        self.write_at(&bytes, (slot * SLOT_LEN) as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        write_all_at(&*self.file, &mut [IoSlice::new(bytes)], offset)
            .map_err(|e| Error::io("write", &self.path, e.source))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }
}

/// Overwrites such a file with zeros, durably, without a look at what it holds. One that was never
/// written whole does not grow.
pub(crate) fn wipe(disk: &dyn Disk, path: &Path) -> Result<()> {
    let file = disk.open(path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))?;
    let len = file.len().map_err(|e| Error::io("measure", path, e))?;
    let zeros =
        vec![0_u8; usize::try_from(len).map_or(twin::FILE_LEN, |len| len.min(twin::FILE_LEN))];
    write_all_at(&*file, &mut [IoSlice::new(&zeros)], 0)
        .map_err(|e| Error::io("write", path, e.source))?;
    file.sync_data().map_err(|e| Error::io("sync", path, e))
}

fn read_twin(file: &dyn DiskFile, path: &Path, magic: [u8; 8]) -> Result<Twin> {
    let mut bytes = vec![0; twin::FILE_LEN];
    let read = read_full_at(file, &mut bytes, 0).map_err(|e| Error::io("read", path, e))?;
    bytes.truncate(read);
    Ok(twin::decode(magic, &bytes))
}

/// The error for a twin file of which no slot can be read.
pub(crate) fn unreadable(path: &Path, twin: &Twin) -> Error {
    match twin.foreign_version() {
        Some(found) => {
            Error::UnknownVersion { path: path.to_owned(), found, known: crate::format::VERSION }
        }
        None => Error::Corrupt { path: path.to_owned(), offset: 0, what: "both copies" },
    }
}
