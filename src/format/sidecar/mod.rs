//! The sidecar of a sealed segment: where its records are, and which tags they carry. A cache; the
//! segment can tell it again.
//!
//! ```text
//! 0       8         12      16       24     32            40      48          56        64        72
//! | magic | version | crc32 | number | salt | segment len | count | tag count | min seq | max seq |
//! then blocks of 4096 bytes, those with records first:
//! records: | crc32 | count | zeros 8 | entries of 32 bytes ... zeros |
//!   entry: | keyed hash 16 | sequence number 8 | offset / 8: 4 | flags and length / 8: 4 |
//! tags:    | crc32 | count | zeros 8 | entries of 8 bytes ... zeros |
//!   entry: | tag's fingerprint 4 | which record 4 |
//! ```

mod decode;
mod encode;
mod entry;
mod listing;
#[cfg(test)]
mod tests;

use bytes::Buf;

use super::{PREAMBLE_LEN, Parsed, Unreadable, checksum, split_preamble};
#[cfg(any(test, fuzzing))]
pub(crate) use decode::decode;
pub(crate) use decode::{Decoder, HALF_OVERWRITTEN};
pub(crate) use encode::{Encoder, encode};
pub(crate) use entry::{Body, SidecarEntry, pack_times, unpack_times};
pub(crate) use listing::{
    Listing, Remains, SidecarTag, UNFINISHED_ROWS, for_each_fingerprint, tag_fingerprint,
};

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.side";
pub(crate) const HEADER_LEN: usize = 72;
/// Bytes of a block.
pub(crate) const BLOCK_LEN: usize = 4096;
const BLOCK_HEAD_LEN: usize = 16;
const ENTRY_LEN: usize = 32;
/// Entries in a full block.
pub(crate) const ENTRIES_PER_BLOCK: usize = (BLOCK_LEN - BLOCK_HEAD_LEN) / ENTRY_LEN;
const TAG_LEN: usize = 8;
/// Tags in a full block.
pub(crate) const TAGS_PER_BLOCK: usize = (BLOCK_LEN - BLOCK_HEAD_LEN) / TAG_LEN;

/// What is said of the segment as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarHeader {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// The segment's length: all below was durable when the sidecar was written.
    pub(crate) segment_len: u64,
    pub(crate) count: u64,
    pub(crate) tag_count: u64,
    pub(crate) min_seq: u64,
    pub(crate) max_seq: u64,
}

/// The length a sidecar of so many records with so many tags has.
pub(crate) fn encoded_len(count: u64, tag_count: u64) -> u64 {
    let blocks = count
        .div_ceil(ENTRIES_PER_BLOCK as u64)
        .saturating_add(tag_count.div_ceil(TAGS_PER_BLOCK as u64));
    (HEADER_LEN as u64).saturating_add(blocks.saturating_mul(BLOCK_LEN as u64))
}

/// Reads what a sidecar says of its segment.
pub(crate) fn decode_header(bytes: &[u8]) -> Parsed<SidecarHeader> {
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
        tag_count: body.try_get_u64_le()?,
        min_seq: body.try_get_u64_le()?,
        max_seq: body.try_get_u64_le()?,
    })
}
