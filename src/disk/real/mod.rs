//! The operating system's file system, through plain Unix calls.
//!
//! Every file is opened without following links and is checked to be a regular file, so a link, a
//! FIFO or a device planted in the store directory is refused and never waited for. A file that has
//! another name besides is not written to: it may be somebody else's, and its bytes would outlive the
//! name that the engine removes. It decides nothing about what is written, and retries nothing.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Access, Capabilities, Disk, DiskFile, DiskLock, EntryKind, LockOutcome};
use crate::error::is_full;
use crate::map::Map;
use crate::process::Process;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// The unit `st_blocks` counts in, whatever the file system's own block size.
const STAT_BLOCK: u64 = 512;
/// The most that is written with one call. For a longer one Linux looks for larger pieces of page cache,
/// and may have to wait for them: 16 MiB in one call took up to six times as long as in sixteen.
const MAX_CALL_BYTES: usize = 1 << 20;

/// The most entries of a directory that are listed: a bucket with all the segments that a keyspace may
/// have, and their sidecars, has fewer.
const MAX_ENTRIES: usize = 300_000;

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: File,
}

/// The lock belongs to the open file, so the end of the process gives it back.
#[derive(Debug)]
struct RealLock {
    file: File,
    /// The process that took it.
    process: Process,
}

impl DiskLock for RealLock {}

impl Drop for RealLock {
    /// Closing would not do while another thread starts a process, which has a copy of the descriptor
    /// until it runs its own program. A child that only forked has the same lock, but it is not its own.
    fn drop(&mut self) {
        if self.process.is_current() {
            let _ = self.file.unlock();
        }
    }
}

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIRECTORY_MODE).create(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<super::DirEntry>> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::open(path, flags, Mode::empty());
        let mut dir = Dir::new(rustix::io::retry_on_intr(open)?)?;
        let mut entries = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                let what = "more entries than a directory of a store can have";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            entries.push(describe(&dir, &entry)?);
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = guarded_options();
        options.write(access == Access::ReadWrite);
        let (file, names) = open_regular(&options, path)?;
        if access == Access::ReadWrite {
            check_sole_name(names)?;
        }
        Ok(Arc::new(RealFile { file }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = guarded_options();
        options.write(true).create_new(true);
        Ok(Arc::new(RealFile { file: options.open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // O_DIRECTORY refuses anything else before opening it, so this cannot wait for a FIFO.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags(OFlags::DIRECTORY | OFlags::CLOEXEC));
        options.open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        let mut options = guarded_options();
        options.write(true).create(true).truncate(false);
        let (file, names) = open_regular(&options, path)?;
        check_sole_name(names)?;
        match file.try_lock() {
            Ok(()) => {
                write_pid(&file)?;
                let process = Process::current();
                Ok(LockOutcome::Acquired(Box::new(RealLock { file, process })))
            }
            Err(TryLockError::WouldBlock) => Ok(LockOutcome::Held(read_pid(&file))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn fill_random(&self, buffer: &mut [u8]) -> io::Result<()> {
        File::open("/dev/urandom")?.read_exact(buffer)
    }

    fn capabilities(&self, dir: &Path) -> io::Result<Capabilities> {
        super::capabilities::find_out(dir)
    }

    fn remote_file_system(&self, dir: &Path) -> io::Result<Option<String>> {
        super::file_system::find_remote(dir)
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut left = MAX_CALL_BYTES;
        if buffers.iter().map(|buffer| buffer.len()).sum::<usize>() <= left {
            return Ok(rustix::io::pwritev(&self.file, buffers, offset)?);
        }
        let mut parts = Vec::with_capacity(buffers.len());
        for buffer in buffers {
            let (part, _) = buffer.split_at(buffer.len().min(left));
            left -= part.len();
            parts.push(IoSlice::new(part));
        }
        Ok(rustix::io::pwritev(&self.file, &parts, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks().saturating_mul(STAT_BLOCK))
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let keep_size = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, keep_size, offset, len).map_err(io::Error::from)
    }

    #[cfg(target_os = "linux")]
    fn release_reserved(&self) -> io::Result<()> {
        // Setting the length that a file has cuts nothing off it but these blocks.
        self.file.set_len(self.file.metadata()?.len())
    }

    #[cfg(target_os = "linux")]
    fn forget_cached(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    #[cfg(target_os = "linux")]
    fn read_ahead(&self, offset: u64, len: u64) {
        if let Some(len) = std::num::NonZeroU64::new(len) {
            let advice = rustix::fs::Advice::WillNeed;
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), advice);
        }
    }

    #[cfg(target_os = "linux")]
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        punch(&self.file, offset, len)
    }

    #[cfg(not(target_os = "linux"))]
    fn punch_hole(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn map(&self, len: usize) -> io::Result<Arc<Map>> {
        Ok(Arc::new(Map::file(&self.file, len)?))
    }
}

/// Options for reading that follow no link, wait for no FIFO and take over no terminal.
fn guarded_options() -> OpenOptions {
    let guards = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options.read(true).mode(FILE_MODE).custom_flags(flags(guards));
    options
}

pub(super) fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// Gives blocks back; the system refuses an empty range, so that is not asked for.
#[cfg(target_os = "linux")]
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    if len == 0 {
        return Ok(());
    }
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, mode, offset, len).map_err(|errno| match errno {
        Errno::OPNOTSUPP | Errno::NOSYS => io::ErrorKind::Unsupported.into(),
        errno => errno.into(),
    })
}

/// Opens the file and refuses anything but a regular one; with the number of its names.
fn open_regular(options: &OpenOptions, path: &Path) -> io::Result<(File, u64)> {
    let file = options.open(path).map_err(refusal)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.nlink())) } else { Err(not_regular()) }
}

/// An error if a file has more names than the one by which it was opened.
fn check_sole_name(names: u64) -> io::Result<()> {
    if names <= 1 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the file has another name, by a hard link: copy it instead",
    ))
}

/// Gives the errors by which `open` itself refuses links, directories and sockets the one kind
/// that stands for all of them.
fn refusal(error: io::Error) -> io::Error {
    // Opening a socket fails with ENXIO on Linux and EOPNOTSUPP on macOS.
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::OPNOTSUPP) => not_regular(),
        _ => error,
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn describe(dir: &Dir, entry: &DirEntry) -> io::Result<super::DirEntry> {
    let mut file_type = entry.file_type();
    if file_type == FileType::Unknown {
        // Not all file systems keep it in the directory.
        let stat = rustix::fs::statat(dir.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        file_type = FileType::from_raw_mode(stat.st_mode);
    }
    let kind = match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        _ => EntryKind::Other,
    };
    Ok(super::DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind })
}

/// Leaves our process id for whoever finds the lock taken. It only serves their message, so a full
/// disk does not keep the store closed.
fn write_pid(file: &File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    match file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0)) {
        Err(error) if !is_full(&error) => Err(error),
        _ => Ok(()),
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let count = file.read_at(&mut text, 0).ok()?;
    parse_pid(text.get(..count)?)
}

/// The process id a lock file holds: the first line, in decimal.
pub(super) fn parse_pid(text: &[u8]) -> Option<u32> {
    let line = text.split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.parse().ok()
}
