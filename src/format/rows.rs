//! A block of log rows: a directory, kept as a record's metadata, and the rows, kept as its value.
//!
//! ```text
//! directory: | codec 1 | zeros 3 | count 4 | then for each row, 20 bytes:
//!            | offset 4 | length 4 | crc32 4 | time 8 |
//! row:       | state 4 | key number 4 | tag count 1 | flags 1 | zeros 2 | pseudonym 16 | tags 16 each |
//!            | payload | zeros up to 4 |
//! ```
//! The state word stands outside of the row's checksum, since scrubbing overwrites it; it never lies
//! across two sectors.

use bytes::Buf;

use super::checksum::Seed;
use super::record::{MAX_TAGS, STATE_ERASED, STATE_LIVE};
use super::{Parsed, Unreadable, is_zeros, take, take_array};
use crate::hash::KeyedHash;

/// Bytes of a row before its tags.
pub(crate) const ROW_HEAD_LEN: usize = 28;
/// Rows start at multiples of this, so that a state word is overwritten whole or not at all.
const ROW_ALIGN: usize = 4;
/// The most rows in a block.
pub(crate) const MAX_ROWS: usize = 4096;
/// The longest directory in bytes.
pub(crate) const MAX_DIRECTORY_LEN: usize = DIRECTORY_HEAD_LEN + MAX_ROWS * ENTRY_LEN;
/// The longest payload of a row in bytes.
pub(crate) const MAX_PAYLOAD_LEN: usize = 1 << 20;
/// The longest row in bytes.
const MAX_ROW_LEN: usize = ROW_HEAD_LEN + MAX_TAGS * size_of::<KeyedHash>() + MAX_PAYLOAD_LEN;

const CODEC_PLAIN: u8 = 1;
const DIRECTORY_HEAD_LEN: usize = 8;
const ENTRY_LEN: usize = 20;
const FLAG_SUBJECT: u8 = 1;

/// Where a row lies in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowEntry {
    /// Counted from the start of the block's value.
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) time_ms: u64,
    crc: u32,
}

/// A row's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowBody<'a> {
    /// The key number and the pseudonym, if the row is about somebody.
    pub(crate) subject: Option<(u32, [u8; 16])>,
    pub(crate) tags: Vec<KeyedHash>,
    pub(crate) payload: &'a [u8],
}

/// Collects rows into a block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    entries: Vec<(u32, u32, u64)>,
    rows: Vec<u8>,
    tags: Vec<KeyedHash>,
}

impl BlockBuilder {
    /// Adds a row.
    pub(crate) fn push(&mut self, time_ms: u64, row: &RowBody<'_>) {
        self.rows.resize(self.rows.len().next_multiple_of(ROW_ALIGN), 0);
        let offset = self.rows.len();
        self.rows.extend_from_slice(&STATE_LIVE.to_le_bytes());
        let (number, pseudonym) = row.subject.unwrap_or_default();
        let flags = if row.subject.is_some() { FLAG_SUBJECT } else { 0 };
        self.rows.extend_from_slice(&number.to_le_bytes());
        self.rows.extend_from_slice(&[row.tags.len() as u8, flags, 0, 0]);
        self.rows.extend_from_slice(&pseudonym);
        self.tags.extend_from_slice(&row.tags);
        for tag in &row.tags {
            self.rows.extend_from_slice(&tag.0.to_le_bytes());
        }
        self.rows.extend_from_slice(row.payload);
        self.entries.push((offset as u32, (self.rows.len() - offset) as u32, time_ms));
    }

    /// Without rows, and with the memory that these have taken.
    pub(crate) fn cleared(mut self) -> Self {
        self.entries.clear();
        self.rows.clear();
        self.tags.clear();
        self
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of rows so far.
    pub(crate) fn byte_len(&self) -> usize {
        self.rows.len()
    }

    /// The tags that its rows carry, as often as they do.
    pub(crate) fn tags(&self) -> &[KeyedHash] {
        &self.tags
    }

    /// The earliest and the latest time.
    pub(crate) fn times(&self) -> (u64, u64) {
        let times = self.entries.iter().map(|(_, _, time)| *time);
        (times.clone().min().unwrap_or(0), times.max().unwrap_or(0))
    }

    /// The directory, its checksums bound to the block at this offset, and the rows.
    pub(crate) fn finish(&self, seed: &Seed, block_offset: u64) -> (Vec<u8>, &[u8]) {
        let mut directory = Vec::with_capacity(self.directory_len());
        directory.extend_from_slice(&[CODEC_PLAIN, 0, 0, 0]);
        directory.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for (offset, len, time_ms) in &self.entries {
            let bytes = slice(&self.rows, *offset + 4, *len - 4).unwrap_or_default();
            directory.extend_from_slice(&offset.to_le_bytes());
            directory.extend_from_slice(&len.to_le_bytes());
            directory.extend_from_slice(&row_crc(seed, block_offset, *offset, bytes).to_le_bytes());
            directory.extend_from_slice(&time_ms.to_le_bytes());
        }
        (directory, &self.rows)
    }

    /// Bytes the directory of so many rows takes.
    pub(crate) fn directory_len(&self) -> usize {
        DIRECTORY_HEAD_LEN + self.entries.len() * ENTRY_LEN
    }
}

/// Reads a directory.
pub(crate) fn decode_directory(mut bytes: &[u8]) -> Parsed<Vec<RowEntry>> {
    if bytes.try_get_u8()? != CODEC_PLAIN {
        return Err(Unreadable::Damaged("codec of a block of rows"));
    }
    take(&mut bytes, 3)?;
    let count = bytes.try_get_u32_le()? as usize;
    if count > MAX_ROWS || bytes.len() != count * ENTRY_LEN {
        return Err(Unreadable::Damaged("directory of a block of rows"));
    }
    let mut entries: Vec<RowEntry> = Vec::with_capacity(count);
    let mut end = 0;
    for _ in 0..count {
        let offset = bytes.try_get_u32_le()?;
        let len = bytes.try_get_u32_le()?;
        let crc = bytes.try_get_u32_le()?;
        let entry = RowEntry { offset, len, time_ms: bytes.try_get_u64_le()?, crc };
        if u64::from(offset) < end || len as usize > MAX_ROW_LEN {
            return Err(Unreadable::Damaged("directory of a block of rows"));
        }
        end = entry.end();
        entries.push(entry);
    }
    Ok(entries)
}

impl RowEntry {
    /// Where the row ends, counted from the start of the block's value.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }

    /// Checks a row's bytes and splits them; `None` if the row has been erased.
    pub(crate) fn decode<'a>(
        &self,
        mut bytes: &'a [u8],
        seed: &Seed,
        block_offset: u64,
    ) -> Parsed<Option<RowBody<'a>>> {
        match bytes.try_get_u32_le()? {
            STATE_LIVE => {}
            STATE_ERASED => return Ok(None),
            _ => return Err(Unreadable::Damaged("state of a row")),
        }
        if bytes.len() + 4 != self.len as usize
            || row_crc(seed, block_offset, self.offset, bytes) != self.crc
        {
            return Err(Unreadable::Damaged("checksum of a row"));
        }
        let number = bytes.try_get_u32_le()?;
        let tag_count = bytes.try_get_u8()?;
        let flags = bytes.try_get_u8()?;
        take(&mut bytes, 2)?;
        let pseudonym = take_array(&mut bytes)?;
        if usize::from(tag_count) > MAX_TAGS {
            return Err(Unreadable::Damaged("tags of a row"));
        }
        let mut tags = Vec::with_capacity(usize::from(tag_count));
        for _ in 0..tag_count {
            tags.push(KeyedHash(bytes.try_get_u128_le()?));
        }
        let subject = (flags & FLAG_SUBJECT != 0).then_some((number, pseudonym));
        Ok(Some(RowBody { subject, tags, payload: bytes }))
    }

    /// The row's bytes within its block's value.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn slice<'a>(&self, value: &'a [u8]) -> Parsed<&'a [u8]> {
        slice(value, self.offset, self.len).ok_or(Unreadable::Damaged("place of a row"))
    }
}

/// True if a row has been given up, but not overwritten to its end.
pub(crate) fn is_unfinished(row: &[u8]) -> bool {
    match row.split_first_chunk() {
        Some((state, body)) => u32::from_le_bytes(*state) == STATE_ERASED && !is_zeros(body),
        None => false,
    }
}

fn slice(bytes: &[u8], offset: u32, len: u32) -> Option<&[u8]> {
    let start = offset as usize;
    bytes.get(start..start.checked_add(len as usize)?)
}

/// Of a row without its state word.
fn row_crc(seed: &Seed, block_offset: u64, offset: u32, bytes: &[u8]) -> u32 {
    seed.checksum(block_offset, &[&offset.to_le_bytes(), bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_and_no_changed_byte_passes() {
        let seed = &Seed::of_file(1, 2);
        let mut builder = BlockBuilder::default();
        let rows = [
            RowBody { subject: Some((1, [7; 16])), tags: vec![KeyedHash(3)], payload: b"GET /" },
            RowBody { subject: None, tags: vec![], payload: b"" },
        ];
        for (at, row) in rows.iter().enumerate() {
            builder.push(100 - at as u64, row);
        }
        assert_eq!(builder.times(), (99, 100));
        let (directory, value) = builder.finish(seed, 4096);
        assert_eq!(directory.len(), builder.directory_len());
        let entries = decode_directory(&directory).unwrap();
        for (entry, row) in entries.iter().zip(&rows) {
            let bytes = entry.slice(value).unwrap();
            assert_eq!(entry.decode(bytes, seed, 4096).unwrap().as_ref(), Some(row));
            assert!(entry.decode(bytes, seed, 4104).is_err());
            assert_eq!(entry.offset % 4, 0);
            let mut erased = vec![0; bytes.len()];
            erased[..4].copy_from_slice(b"GONE");
            assert_eq!(entry.decode(&erased, seed, 4096), Ok(None));
            for at in 0..bytes.len() {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1;
                assert!(entry.decode(&changed, seed, 4096).is_err());
            }
        }
    }

    fn block(payloads: &[&[u8]]) -> BlockBuilder {
        let mut builder = BlockBuilder::default();
        for payload in payloads {
            builder.push(5, &RowBody { subject: None, tags: vec![KeyedHash(3)], payload });
        }
        builder
    }

    #[test]
    fn a_builder_counts_what_it_holds() {
        let mut builder = block(&[b"abc"]);
        assert_eq!((builder.len(), builder.byte_len()), (1, ROW_HEAD_LEN + 16 + 3));
        builder.push(4, &RowBody { subject: None, tags: vec![], payload: b"d" });
        assert_eq!((builder.len(), builder.byte_len()), (2, 2 * ROW_HEAD_LEN + 16 + 4 + 1));
        assert_eq!(builder.tags(), [KeyedHash(3)]);
        assert_eq!(BlockBuilder::default().times(), (0, 0));
    }

    #[test]
    fn a_directory_is_as_long_as_its_count_and_not_too_long() {
        let (directory, _) = block(&[b"a", b"b"]).finish(&Seed::of_file(1, 2), 0);
        assert!(decode_directory(&directory).is_ok());
        assert!(decode_directory(&directory[..directory.len() - 1]).is_err());
        assert!(decode_directory(&[&directory[..], &[0]].concat()).is_err());
        let of_count = |count: usize| {
            let mut bytes = vec![CODEC_PLAIN, 0, 0, 0];
            bytes.extend_from_slice(&(count as u32).to_le_bytes());
            bytes.resize(DIRECTORY_HEAD_LEN + count * ENTRY_LEN, 0);
            decode_directory(&bytes).map(|entries| (entries.len(), bytes.len()))
        };
        assert_eq!(of_count(0), Ok((0, DIRECTORY_HEAD_LEN)));
        assert_eq!(of_count(MAX_ROWS), Ok((MAX_ROWS, MAX_DIRECTORY_LEN)));
        assert!(of_count(MAX_ROWS + 1).is_err());
        let other_codec = [&[CODEC_PLAIN + 1][..], &directory[1..]].concat();
        assert!(decode_directory(&other_codec).is_err());
    }

    #[test]
    fn rows_lie_behind_each_other_and_are_not_too_long() {
        let seed = &Seed::of_file(1, 2);
        let longest = RowBody {
            subject: Some((1, [7; 16])),
            tags: vec![KeyedHash(3); MAX_TAGS],
            payload: &vec![b'x'; MAX_PAYLOAD_LEN],
        };
        let mut builder = BlockBuilder::default();
        builder.push(1, &longest);
        builder.push(2, &RowBody { subject: None, tags: vec![], payload: b"behind it" });
        let (directory, value) = builder.finish(seed, 0);
        let [first, second] = decode_directory(&directory).unwrap()[..] else { panic!("two rows") };
        assert_eq!(first.end(), u64::from(second.offset));
        assert_eq!(first.decode(first.slice(value).unwrap(), seed, 0).unwrap(), Some(longest));
        let with = |at: usize, number: u32| {
            let mut changed = directory.clone();
            changed[DIRECTORY_HEAD_LEN + at..][..4].copy_from_slice(&number.to_le_bytes());
            decode_directory(&changed)
        };
        assert!(with(ENTRY_LEN, second.offset - 1).is_err(), "the second begins within the first");
        assert!(with(4, first.len + 1).is_err(), "the first is too long and ends in the second");
        assert!(with(ENTRY_LEN + 4, first.len).is_ok());
        assert!(with(ENTRY_LEN + 4, first.len + 1).is_err(), "the second is too long");
    }

    #[test]
    fn a_row_of_more_tags_than_there_may_be_does_not_pass() {
        let mut builder = BlockBuilder::default();
        let tags = vec![KeyedHash(3); MAX_TAGS + 1];
        builder.push(1, &RowBody { subject: None, tags, payload: b"" });
        let seed = &Seed::of_file(1, 2);
        let (directory, value) = builder.finish(seed, 0);
        let [entry] = decode_directory(&directory).unwrap()[..] else { panic!("one row") };
        let read = entry.decode(entry.slice(value).unwrap(), seed, 0);
        assert_eq!(read, Err(Unreadable::Damaged("tags of a row")));
    }

    #[test]
    fn a_row_that_lies_elsewhere_or_is_longer_does_not_pass() {
        let seed = &Seed::of_file(1, 2);
        let builder = block(&[b"abcd", b"abcd"]);
        let (directory, value) = builder.finish(seed, 0);
        let entries = decode_directory(&directory).unwrap();
        let (first, second) = (entries[0], entries[1]);
        let moved = RowEntry { offset: second.offset, ..first };
        assert!(moved.decode(moved.slice(value).unwrap(), seed, 0).is_err());
        let longer = RowEntry { len: first.len + 1, ..first };
        assert!(longer.decode(longer.slice(value).unwrap(), seed, 0).is_err());
        assert!(longer.decode(first.slice(value).unwrap(), seed, 0).is_err());
        assert!(RowEntry { len: second.len + 1, ..second }.slice(value).is_err());
        assert!(RowEntry { offset: u32::MAX, len: u32::MAX, ..second }.slice(value).is_err());
    }

    #[test]
    fn a_row_is_unfinished_if_it_is_given_up_and_something_is_left() {
        assert!(is_unfinished(b"GONE\0\0\x01\0"));
        assert!(!is_unfinished(b"GONE\0\0\0\0"));
        assert!(!is_unfinished(b"LIVE\0\0\x01\0"));
        assert!(!is_unfinished(b"GON"));
    }
}
