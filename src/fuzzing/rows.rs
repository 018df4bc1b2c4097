//! Blocks of rows.

use super::{AS_IT_IS, part, put};
use crate::format::checksum::Seed;
use crate::format::rows::{BlockBuilder, decode_directory};
use crate::format::segment_header::HEADER_LEN;

/// A block of rows: two bytes of directory length, the directory, and the rows.
pub fn rows(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    let Some((len, bytes)) = bytes.split_first_chunk::<2>() else { return };
    let (directory, value) = bytes.split_at(usize::from(u16::from_le_bytes(*len)).min(bytes.len()));
    let (seed, offset) = (&Seed::of_file(1, 2), HEADER_LEN);
    let mut directory = directory.to_vec();
    if control & AS_IT_IS == 0 {
        let count = (directory.len().saturating_sub(8) / 20) as u32;
        put(&mut directory, 4, &count.to_le_bytes());
        directory.truncate(8 + 20 * count as usize);
        for at in (8..directory.len()).step_by(20) {
            let word = |at| {
                let bytes = part(&directory, at, at + 4).try_into().unwrap_or_default();
                u32::from_le_bytes(bytes)
            };
            let start = word(at);
            let end = start as usize + word(at + 4) as usize;
            let row = part(value, start as usize + 4, end);
            let crc = seed.checksum(offset, &[&start.to_le_bytes(), row]);
            put(&mut directory, at + 8, &crc.to_le_bytes());
        }
    }
    read_rows(&directory, value, seed, offset);
}

pub(super) fn read_rows(directory: &[u8], value: &[u8], seed: &Seed, offset: u64) {
    let Ok(entries) = decode_directory(directory) else { return };
    let mut again = BlockBuilder::default();
    for entry in entries {
        let row = entry.slice(value).and_then(|bytes| entry.decode(bytes, seed, offset));
        if let Ok(Some(row)) = row {
            assert!(row.payload.len() <= value.len());
            again.push(entry.time_ms, &row);
        }
    }
    let (directory, value) = again.finish(seed, offset);
    let entries = decode_directory(&directory).unwrap_or_default();
    assert_eq!(entries.len(), again.len());
    for entry in entries {
        assert!(entry.slice(value).and_then(|row| entry.decode(row, seed, offset)).is_ok());
    }
}
