//! The file of tombstones that is being appended to: every entry goes to both of its regions.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::disk::{DiskFile, write_all_at};
use crate::format::tombstone::{
    ENTRY_LEN, REGION_HEADER_LEN, Tombstone, TombstoneHeader, entries_in_file,
};

/// The file being appended to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) header: TombstoneHeader,
    pub(super) next: usize,
    pub(super) max_floor: u64,
    /// The denials in it, which outlive it.
    pub(super) denials: Vec<Tombstone>,
}

impl Current {
    /// Entries that still fit.
    pub(super) fn room(&self) -> usize {
        entries_in_file(self.header.file_len).saturating_sub(self.next)
    }

    /// Puts entries at the current place of both regions and waits until they are durable.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let within = REGION_HEADER_LEN + (self.next * ENTRY_LEN) as u64;
        for region in [0, self.header.file_len / 2] {
            write_all_at(&*self.file, &mut [IoSlice::new(bytes)], region + within)
                .map_err(|e| e.source)?;
        }
        self.file.sync_data()
    }

    /// Puts the header into both regions and waits until it is durable.
    pub(super) fn write_header(&self) -> io::Result<()> {
        let bytes = self.header.encode();
        for region in [0, self.header.file_len / 2] {
            write_all_at(&*self.file, &mut [IoSlice::new(&bytes)], region).map_err(|e| e.source)?;
        }
        self.file.sync_data()
    }
}
