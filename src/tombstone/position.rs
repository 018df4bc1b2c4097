//! How far a process that only looks has read the tombstone log of the one that writes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::found::{FoundLog, FoundLogs, log_name};
use crate::disk::{Access, Disk, DiskFile, read_full_at};
use crate::error::{Error, Result};
use crate::format::tombstone::{ENTRY_LEN, REGION_HEADER_LEN, entries_in_file};

/// The newest file, and in it the first entry that could not be read or was blank. One that is being
/// written may be met with its end there and its beginning not.
#[derive(Debug)]
pub(crate) struct Position {
    number: u64,
    first: usize,
    /// Entries from there up to the first that was blank.
    count: usize,
    /// What stood there in the first region, at or before the time when the entries were read.
    seen: Option<Vec<u8>>,
}

impl Position {
    /// Behind what could be read of the newest file.
    pub(super) fn behind(newest: Option<&FoundLog>) -> Self {
        let number = newest.map_or(0, |log| log.number);
        let end = newest.map_or(0, |log| log.scan.end);
        let room = newest.and_then(|log| log.header).map_or(0, |h| entries_in_file(h.file_len));
        let hole = newest.and_then(|log| log.scan.holes.first()).copied();
        let first = hole.unwrap_or(end);
        let count = (end + 1).min(room).saturating_sub(first);
        // What an entry held that could not be read, may have changed since.
        let seen = hole.is_none().then(|| vec![0; count * ENTRY_LEN]);
        Self { number, first, count, seen }
    }

    /// Nothing if there is still what was seen, and no newer file. Otherwise what is there now.
    pub(crate) fn look(&self, disk: &dyn Disk, dir: &Path) -> Result<Option<Vec<u8>>> {
        let is_newer_there = open_log(disk, &dir.join(log_name(self.number + 1)))?.is_some();
        let path = dir.join(log_name(self.number));
        let file = if is_newer_there { None } else { open_log(disk, &path)? };
        // Its writer has gone on, and perhaps forgotten it, and those after it too.
        let Some(file) = file else { return Ok(Some(Vec::new())) };
        let mut bytes = vec![0; self.count * ENTRY_LEN];
        let offset = REGION_HEADER_LEN + (self.first * ENTRY_LEN) as u64;
        let read = read_full_at(&*file, &mut bytes, offset);
        bytes.truncate(read.map_err(|e| Error::io("read", &path, e))?);
        Ok(Some(bytes).filter(|bytes| self.seen.as_ref() != Some(bytes)))
    }

    /// Goes on behind what was found. `seen` is what stood at this position before.
    pub(crate) fn advance(&mut self, found: &FoundLogs, seen: Vec<u8>) {
        let before = std::mem::replace(self, found.position());
        let place = |at: &Self| (at.number, at.first, at.count);
        if place(self) == place(&before) {
            self.seen = Some(seen);
        }
    }

    /// True if a file may be missing from what was found that held what came after this position.
    pub(crate) fn is_forgotten(&self, found: &FoundLogs) -> bool {
        // The first file has number 1.
        found.range().map_or(self.number > 0, |(oldest, _)| oldest > self.number.max(1))
    }

    #[cfg(test)]
    pub(super) fn place(&self) -> (u64, usize) {
        (self.number, self.first)
    }
}

/// Opens a file to read it; nothing if it is not there.
fn open_log(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn DiskFile>>> {
    match disk.open(path, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(|e| Error::io("open", path, e)),
    }
}
