//! The seam between the engine and the operating system: files, directories and the lock.
//!
//! Everything the engine does to a disk goes through [`Disk`] and [`DiskFile`], so that tests can
//! fail a chosen call ([`FaultyDisk`]) or choose what a power cut leaves behind ([`MemoryDisk`]).
//! It holds no policy: what is written where, and in which order, is decided above.

mod capabilities;
mod descriptors;
mod faulty;
mod file_system;
mod memory;
mod real;
mod sparing;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use capabilities::Capabilities;
pub use faulty::{Fault, FaultyDisk};
pub use memory::{CrashChoice, MemoryDisk};
pub use real::RealDisk;

pub(crate) use descriptors::Descriptors;
pub(crate) use sparing::SparingDisk;

use rustix::io::Errno;

use crate::map::Map;
use crate::planted::{Bug, is_planted};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and overwriting or extending; never truncates.
    ReadWrite,
}

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a symbolic link, a FIFO, a device. The engine never opens these.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The file name; bytes that are not UTF-8 are replaced, so such a name never matches one of ours.
    pub name: String,
    /// What it is, without following links.
    pub kind: EntryKind,
}

/// Holds the exclusive lock on a store directory until dropped.
pub trait DiskLock: Debug + Send + Sync {}

/// How an attempt to lock ended.
#[derive(Debug)]
pub enum LockOutcome {
    /// The lock is ours until the guard is dropped.
    Acquired(Box<dyn DiskLock>),
    /// Another opener holds it; its process id, if the file told us.
    Held(Option<u32>),
}

/// A file system as the engine sees it.
pub trait Disk: Debug + Send + Sync {
    /// Creates one directory (mode 0700). `AlreadyExists` if there is anything of that name.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, ordered by name. Of the path's last part no link is followed.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Opens an existing regular file; links are not followed, anything but a regular file is
    /// `InvalidInput`, and for writing also a file that has another name besides.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a new file (mode 0600) for reading and writing. `AlreadyExists` if there is anything
    /// of that name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file or directory; an existing file at `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in this directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on this file, creating it if missing, and writes our pid into it.
    /// Never waits.
    fn lock(&self, path: &Path) -> io::Result<LockOutcome>;
    /// Fills the buffer with random bytes fit for keys.
    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()>;
    /// What the file system of this directory is known to do with bytes that are to be gone. May try
    /// it out there on a file without a name, and leaves nothing behind.
    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities>;
    /// The name of the file system of this directory, if other machines may change it, or if what is
    /// below it cannot be told; nothing otherwise. A disk that is none of the operating system's need
    /// not say anything.
    fn remote_file_system(&self, _dir: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads at an offset; may be short; 0 at or past the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes the buffers one after the other at an offset; may be short.
    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Makes contents and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Counts what was changed since the last sync as written, though it is not, as Linux does after
    /// a write-back that failed: it stays visible, and no later sync makes it durable, unless it is
    /// written once more. Only a disk for tests can do so.
    fn lose_unsynced(&self) {}
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The space taken on the disk in bytes, which may differ from the length.
    fn allocated_bytes(&self) -> io::Result<u64>;
    /// Sets blocks aside for a range that is about to be written; the length stays. Does nothing
    /// where that cannot be done.
    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// Gives back blocks set aside beyond the end.
    fn release_reserved(&self) -> io::Result<()> {
        Ok(())
    }
    /// Lets go of what the system keeps of the file in memory and holds to be written, so that what is read
    /// next is what is on the disk: after a failed sync it may be something else. Advice only.
    fn forget_cached(&self) {}
    /// Asks for a range to be read ahead of its use, and does not wait for it. Advice only.
    fn read_ahead(&self, _offset: u64, _len: u64) {}
    /// Gives the blocks of a range back: the range reads as zeros from then on, and the length
    /// stays. Blocks only partly in the range are kept and zeroed there. Until the next sync a power
    /// cut leaves each sector as it was or as zeros. A block takes space again once it is written.
    ///
    /// `Unsupported`, with nothing changed, where that cannot be done.
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Cuts or extends the file. Never called on a file that is mapped.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Maps `len` bytes for reading; the file may be shorter now and grow later.
    fn map(&self, len: usize) -> io::Result<Arc<Map>>;
}

/// True if the error says that this process, or the system, may open no more files.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Says that this process may open no more files.
fn out_of_descriptors() -> io::Error {
    Errno::MFILE.into()
}

/// Writes all of the buffers at an offset: short writes are continued, `EINTR` is retried.
///
/// The error says how many bytes had been accepted before it.
pub(crate) fn write_all_at(
    file: &dyn DiskFile,
    buffers: &mut [IoSlice<'_>],
    mut offset: u64,
) -> Result<(), PartialWrite> {
    let mut rest = buffers;
    let mut accepted = 0;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_at(rest, offset) {
            Ok(0) => {
                let source = io::Error::from(io::ErrorKind::WriteZero);
                return Err(PartialWrite { accepted, source });
            }
            Ok(_) if is_planted(Bug::ShortWriteIgnored) => return Ok(()),
            Ok(n) => {
                accepted += n as u64;
                offset += n as u64;
                IoSlice::advance_slices(&mut rest, n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(PartialWrite { accepted, source }),
        }
    }
    Ok(())
}

/// A write that did not finish.
#[derive(Debug)]
pub(crate) struct PartialWrite {
    /// Bytes the file took before the error.
    pub(crate) accepted: u64,
    /// The error.
    pub(crate) source: io::Error,
}

/// Reads until the buffer is full or the file ends; `EINTR` is retried. Gives the bytes read.
pub(crate) fn read_full_at(
    file: &dyn DiskFile,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// The name of a file for [`touch_dir`] where no other is temporary.
pub(crate) const TOUCH: &str = "sync.tmp";

/// Makes a file and removes it, so that syncing its directory has something to write: an earlier sync may have failed,
/// and be taken for done.
pub(crate) fn touch_dir(disk: &dyn Disk, file: &Path) -> io::Result<()> {
    let _ = disk.remove_file(file);
    let made = disk.create(file).map(drop);
    // Whatever the system says of that; and nobody else would meet one that stays.
    let removed = disk.remove_file(file).or_else(|_| disk.remove_file(file));
    made.and(removed)
}

/// The bytes of a file, but at most so many: a length that is wrong must not cost the memory of it.
pub(crate) fn read_up_to(file: &dyn DiskFile, most: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?.min(most);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = read_full_at(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
