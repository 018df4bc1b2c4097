//! The sidecar of a sealed segment: where its records are. A cache; the segment can tell it again.
//!
//! ```text
//! 0       8         12      16       24     32            40      48       56       64
//! | magic | version | crc32 | number | salt | segment len | count | min seq | max seq |
//! then blocks of 4096 bytes: | crc32 | count | zeros 8 | entries of 32 bytes ... zeros |
//! entry: | keyed hash 16 | sequence number 8 | offset / 8: 4 | length / 8 or rows: 4 |
//! ```

use bytes::Buf;

use super::checksum::{self, Seed};
use super::record::{ALIGN, RecordHead};
use super::{PREAMBLE_LEN, Parsed, Unreadable, split_preamble, with_preamble};
use crate::hash::KeyedHash;

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.side";
const HEADER_LEN: usize = 64;
const BLOCK_LEN: usize = 4096;
const BLOCK_HEAD_LEN: usize = 16;
const ENTRY_LEN: usize = 32;
const ENTRIES_PER_BLOCK: usize = (BLOCK_LEN - BLOCK_HEAD_LEN) / ENTRY_LEN;

/// Where one record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarEntry {
    /// The key's hash; for rows their earliest and latest time.
    pub(crate) hash: KeyedHash,
    pub(crate) seq: u64,
    /// Where the record starts, divided by 8.
    pub(crate) position: u32,
    /// The record's length divided by 8.
    pub(crate) units: u32,
}

impl SidecarEntry {
    /// The entry of a record at an offset.
    pub(crate) fn of(head: &RecordHead, offset: u64) -> Self {
        Self {
            hash: head.hash,
            seq: head.seq,
            position: (offset / ALIGN) as u32,
            units: (head.record_len() / ALIGN) as u32,
        }
    }

    /// Where the record starts.
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.position) * ALIGN
    }

    /// Where the record ends.
    pub(crate) fn end(&self) -> u64 {
        (u64::from(self.position) + u64::from(self.units)) * ALIGN
    }
}

/// What is said of the segment as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarHeader {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// The segment's length: all below was durable when the sidecar was written.
    pub(crate) segment_len: u64,
    pub(crate) count: u64,
    pub(crate) min_seq: u64,
    pub(crate) max_seq: u64,
}

/// The bytes of a sidecar.
pub(crate) fn encode(header: &SidecarHeader, entries: &[SidecarEntry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER_LEN);
    for field in [
        header.number,
        header.salt,
        header.segment_len,
        header.count,
        header.min_seq,
        header.max_seq,
    ] {
        body.extend_from_slice(&field.to_le_bytes());
    }
    let mut bytes = with_preamble(MAGIC, checksum::plain(&body), &body);
    let seed = Seed::of_file(header.salt, header.number);
    for chunk in entries.chunks(ENTRIES_PER_BLOCK) {
        let mut block = Vec::with_capacity(BLOCK_LEN);
        block.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        block.extend_from_slice(&[0; 8]);
        for entry in chunk {
            block.extend_from_slice(&entry.hash.0.to_le_bytes());
            block.extend_from_slice(&entry.seq.to_le_bytes());
            block.extend_from_slice(&entry.position.to_le_bytes());
            block.extend_from_slice(&entry.units.to_le_bytes());
        }
        block.resize(BLOCK_LEN - 4, 0);
        let crc = seed.checksum(bytes.len() as u64, &[&block]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    bytes
}

/// The length a sidecar of so many entries has.
pub(crate) fn encoded_len(count: u64) -> u64 {
    let blocks = count.div_ceil(ENTRIES_PER_BLOCK as u64);
    (HEADER_LEN as u64).saturating_add(blocks.saturating_mul(BLOCK_LEN as u64))
}

/// Reads a whole sidecar. Entries lie in the segment, in order and without overlap, or it is not
/// believed.
pub(crate) fn decode(bytes: &[u8]) -> Parsed<(SidecarHeader, Vec<SidecarEntry>)> {
    let header = decode_header(bytes)?;
    if bytes.len() as u64 != encoded_len(header.count) {
        return Err(Unreadable::Damaged("length of a sidecar"));
    }
    let seed = Seed::of_file(header.salt, header.number);
    let mut entries = Vec::with_capacity(header.count as usize);
    let blocks = bytes.get(HEADER_LEN..).unwrap_or_default();
    for (at, block) in blocks.chunks(BLOCK_LEN).enumerate() {
        let offset = (HEADER_LEN + at * BLOCK_LEN) as u64;
        decode_block(block, seed, offset, &mut entries)?;
    }
    let mut end = super::segment_header::HEADER_LEN;
    for entry in &entries {
        if entry.offset() < end || entry.units == 0 {
            return Err(Unreadable::Damaged("order of a sidecar"));
        }
        end = entry.end();
    }
    if entries.len() as u64 == header.count && end <= header.segment_len {
        Ok((header, entries))
    } else {
        Err(Unreadable::Damaged("entries of a sidecar"))
    }
}

fn decode_header(bytes: &[u8]) -> Parsed<SidecarHeader> {
    let head = bytes.get(..HEADER_LEN).ok_or(Unreadable::Damaged("too short"))?;
    let (stored, mut body) = split_preamble(MAGIC, head)?;
    if checksum::plain(body) != stored {
        return Err(Unreadable::Damaged("checksum of a sidecar header"));
    }
    debug_assert_eq!(head.len() - PREAMBLE_LEN, body.len());
    Ok(SidecarHeader {
        number: body.try_get_u64_le()?,
        salt: body.try_get_u64_le()?,
        segment_len: body.try_get_u64_le()?,
        count: body.try_get_u64_le()?,
        min_seq: body.try_get_u64_le()?,
        max_seq: body.try_get_u64_le()?,
    })
}

fn decode_block(
    mut block: &[u8],
    seed: Seed,
    offset: u64,
    entries: &mut Vec<SidecarEntry>,
) -> Parsed<()> {
    let stored = block.try_get_u32_le()?;
    if seed.checksum(offset, &[block]) != stored {
        return Err(Unreadable::Damaged("checksum of a sidecar block"));
    }
    let count = block.try_get_u32_le()?;
    block.try_get_u64_le()?;
    for _ in 0..count {
        entries.push(SidecarEntry {
            hash: KeyedHash(block.try_get_u128_le()?),
            seq: block.try_get_u64_le()?,
            position: block.try_get_u32_le()?,
            units: block.try_get_u32_le()?,
        });
    }
    Ok(())
}

/// The earliest and latest time of a block of rows, as kept in place of a key's hash.
pub(crate) fn pack_times(earliest_ms: u64, latest_ms: u64) -> KeyedHash {
    KeyedHash(u128::from(earliest_ms) << 64 | u128::from(latest_ms))
}

/// The reverse of [`pack_times`].
pub(crate) fn unpack_times(hash: KeyedHash) -> (u64, u64) {
    ((hash.0 >> 64) as u64, hash.0 as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64) -> (SidecarHeader, Vec<SidecarEntry>) {
        let entries: Vec<_> = (0..count)
            .map(|i| SidecarEntry {
                hash: KeyedHash(u128::from(i) * 77),
                seq: i,
                position: 128 + i as u32 * 20,
                units: 20,
            })
            .collect();
        let segment_len = 1024 + count * 160;
        (
            SidecarHeader { number: 3, salt: 4, segment_len, count, min_seq: 0, max_seq: count },
            entries,
        )
    }

    #[test]
    fn a_sidecar_is_read_back() {
        for count in [0, 1, 127, 128, 300] {
            let (header, entries) = sample(count);
            let bytes = encode(&header, &entries);
            assert_eq!(bytes.len() as u64, encoded_len(count));
            assert_eq!(decode(&bytes).unwrap(), (header, entries));
        }
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let (header, entries) = sample(130);
        let bytes = encode(&header, &entries);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            assert!(decode(&changed).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
