//! Bytes of a record that mean nothing: no checksum covers them and no reader looks at them. A writer
//! leaves zeros, so that anything else there is damage.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io;
use std::ops::Range;

use super::walker::{Found, Source, Walker};
use crate::format::record::{HEAD_LEN, RecordKind, STATE_ERASED};
use crate::format::rows::decode_directory;

/// What is looked at in one go.
const PIECE_LEN: u64 = 64 * 1024;
/// Bytes of a row's state word.
const STATE_LEN: u64 = 4;

impl<S: Source> Walker<S> {
    /// The first byte of a record that means nothing and is not zero. `wiped` says that whatever of it
    /// has been erased was overwritten.
    pub(crate) fn find_unused(&self, found: &Found, wiped: bool) -> io::Result<Option<u64>> {
        for range in self.unused(found, wiped)? {
            let mut start = range.start;
            while start < range.end {
                let len = (range.end - start).min(PIECE_LEN);
                let bytes = self.at(start, len as usize)?;
                if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                    return Ok(Some(start + at as u64));
                }
                start += len;
            }
        }
        Ok(None)
    }

    fn unused(&self, found: &Found, wiped: bool) -> io::Result<Vec<Range<u64>>> {
        let head = &found.head;
        let value_start = found.offset + head.value_start() as u64;
        let value_end = value_start + head.value_len as u64;
        let mut unused = Vec::new();
        unused.push(value_end..found.offset + head.record_len());
        if head.erased {
            if wiped {
                unused.push(found.offset + HEAD_LEN as u64..value_end);
            }
        } else if head.kind == RecordKind::Rows {
            self.push_around_rows(found, value_start..value_end, wiped, &mut unused)?;
        }
        Ok(unused)
    }

    /// What lies between the rows of a block, and in those that have been erased.
    fn push_around_rows(
        &self,
        found: &Found,
        value: Range<u64>,
        wiped: bool,
        unused: &mut Vec<Range<u64>>,
    ) -> io::Result<()> {
        let directory_at = value.start - found.head.metadata_len as u64;
        let directory = self.at(directory_at, found.head.metadata_len)?;
        let mut last = value.start;
        // One that cannot be read has been told of.
        for entry in decode_directory(&directory).unwrap_or_default() {
            let start = (value.start + u64::from(entry.offset)).min(value.end);
            let end = (start + u64::from(entry.len)).min(value.end);
            unused.push(last..start);
            last = last.max(end);
            if wiped && self.at(start, STATE_LEN as usize)? == STATE_ERASED.to_le_bytes() {
                unused.push(start + STATE_LEN..end);
            }
        }
        unused.push(last..value.end);
        Ok(())
    }
}
