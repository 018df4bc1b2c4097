//! The two regions of a log file, read piece by piece as they are looked at.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile, read_full_at};
use crate::format::tombstone::{ENTRY_LEN, REGION_HEADER_LEN, Regions, entries_in_file};

/// What is read in one go; a multiple of the length of an entry, so that none lies across two pieces.
const PIECE_LEN: u64 = 64 * 1024;

/// A log file that is looked at.
#[derive(Debug)]
pub(super) struct OpenRegions {
    file: Arc<dyn DiskFile>,
    /// Of the file.
    pub(super) len: u64,
    /// The piece of each region that was read last.
    pieces: [RefCell<Piece>; 2],
    /// True of a region of which something could not be read.
    failed: [Cell<bool>; 2],
}

#[derive(Debug, Default)]
struct Piece {
    /// Nothing before the first is read.
    start: Option<u64>,
    /// None if they could not be read.
    bytes: Vec<u8>,
}

impl OpenRegions {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, Access::Read)?;
        let len = file.len()?;
        Ok(Self { file, len, pieces: Default::default(), failed: Default::default() })
    }

    /// How many entries each region holds.
    pub(super) fn count(&self) -> usize {
        entries_in_file(self.len)
    }

    /// True if neither region could be read as a whole.
    pub(super) fn both_failed(&self) -> bool {
        self.failed.iter().all(Cell::get)
    }

    /// True if the regions do not hold the same as this entry.
    pub(super) fn differ(&self, index: usize) -> bool {
        self.entry(0, index) != self.entry(1, index)
    }

    /// The bytes before the first entry of a region; fewer if it is shorter, none if they cannot be
    /// read.
    pub(super) fn head(&self, region: usize) -> Vec<u8> {
        let head = |rest: &[u8]| rest.iter().take(REGION_HEADER_LEN as usize).copied().collect();
        self.look(region, 0, head)
    }

    /// Looks at what is in a region from an offset on to the end of a piece.
    fn look<T: Default>(&self, region: usize, offset: u64, look: impl Fn(&[u8]) -> T) -> T {
        let Some(piece) = self.pieces.get(region) else { return T::default() };
        let mut piece = piece.borrow_mut();
        let start = offset / PIECE_LEN * PIECE_LEN;
        if piece.start != Some(start) {
            *piece = Piece { start: Some(start), bytes: self.read(region, start) };
        }
        look(piece.bytes.get((offset - start) as usize..).unwrap_or_default())
    }

    fn read(&self, region: usize, start: u64) -> Vec<u8> {
        let half = self.len / 2;
        let len = half.saturating_sub(start).min(PIECE_LEN) as usize;
        let mut bytes = vec![0; len];
        let read = read_full_at(&*self.file, &mut bytes, region as u64 * half + start);
        if read.is_ok_and(|read| read == len) {
            return bytes;
        }
        self.failed.iter().skip(region).take(1).for_each(|failed| failed.set(true));
        Vec::new()
    }
}

impl Regions for OpenRegions {
    fn entry(&self, region: usize, index: usize) -> Option<[u8; ENTRY_LEN]> {
        let offset = REGION_HEADER_LEN + (index * ENTRY_LEN) as u64;
        self.look(region, offset, |rest| rest.first_chunk().copied())
    }
}
