//! A record: header, prefix (hash, expiry, key, tags, metadata), value, zeros up to 8 bytes.
//!
//! ```text
//! 0       4       8      9      10      12        16        20        24
//! | crc32 | state | kind | tags | flags | key len | meta len| val len | sequence number |
//! 32                         48           56             60           64
//! | keyed hash of the key    | written at | durable mark | prefix crc | prefix ... value ... zeros
//! ```
//! The header checksum covers bytes 8 to 64 and is bound to salt, segment number and offset; the
//! prefix checksum covers the prefix, which holds the hash of the value. The state word stands
//! outside, since scrubbing overwrites it.

#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;

use bytes::{Buf, BufMut};

use super::checksum::Seed;
use super::{Parsed, Unreadable, take, take_array};
use crate::hash::{KeyedHash, value_hash};
use crate::planted::{Bug, is_planted};

/// Bytes of the header.
pub(crate) const HEAD_LEN: usize = 64;
/// Records start at multiples of this.
pub(crate) const ALIGN: u64 = 8;
/// No record is shorter: a header, a value hash, and a key of one byte or an empty directory.
pub(crate) const MIN_RECORD_LEN: u64 = 88;
/// The most tags a record may have.
pub(crate) const MAX_TAGS: usize = 16;
/// The longest key in bytes.
pub(crate) const MAX_KEY_LEN: usize = 64 * 1024;
/// The longest metadata in bytes.
pub(crate) const MAX_METADATA_LEN: usize = 64 * 1024;
/// The longest value in bytes.
pub(crate) const MAX_VALUE_LEN: u64 = 1 << 30;

/// Where the state word stands in a record.
pub(crate) const STATE_OFFSET: u64 = 4;
/// What has been written says this.
pub(crate) const STATE_LIVE: u32 = u32::from_le_bytes(*b"LIVE");
/// What has been given up says this.
pub(crate) const STATE_ERASED: u32 = u32::from_le_bytes(*b"GONE");
const FLAG_EXPIRES: u16 = 1;
const TAG_LEN: usize = 16;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A keyed value.
    Blob = 1,
    /// A block of log rows: the metadata is their directory, the value the rows.
    Rows = 2,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) kind: RecordKind,
    /// True if the body has been given up and reads as zeros.
    pub(crate) erased: bool,
    pub(crate) tag_count: usize,
    pub(crate) expires: bool,
    pub(crate) key_len: usize,
    pub(crate) metadata_len: usize,
    pub(crate) value_len: usize,
    pub(crate) seq: u64,
    /// For rows: the earliest time in the upper, the latest in the lower half.
    pub(crate) hash: KeyedHash,
    pub(crate) written_at_ms: u64,
    /// The segment's durable length known when this was written.
    pub(crate) durable_mark: u64,
    prefix_crc: u32,
}

/// What goes into a record.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) seq: u64,
    pub(crate) hash: KeyedHash,
    pub(crate) written_at_ms: u64,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) key: &'a [u8],
    pub(crate) tags: &'a [KeyedHash],
    pub(crate) metadata: &'a [u8],
    pub(crate) value_hash: u128,
    pub(crate) value: &'a [u8],
    /// The tags that the sidecar lists for it: its own, or those of its rows.
    pub(crate) listed_tags: &'a [KeyedHash],
}

/// A checked prefix: where its parts lie, counted from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) value_hash: u128,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) key: Range<usize>,
    pub(crate) tags: Vec<KeyedHash>,
    pub(crate) metadata: Range<usize>,
}

impl Draft<'_> {
    /// Bytes the record takes, padding included.
    pub(crate) fn record_len(&self) -> u64 {
        self.record_len_around(self.value.len())
    }

    /// The same for a value of this length that lies elsewhere.
    pub(crate) fn record_len_around(&self, value_len: usize) -> u64 {
        padded(self.value_start() + value_len)
    }

    /// Where the value starts, counted from the record's start.
    pub(crate) fn value_start(&self) -> usize {
        let prefix = prefix_len(
            self.expires_at_ms.is_some(),
            self.key.len(),
            self.tags.len(),
            self.metadata.len(),
        );
        HEAD_LEN + prefix
    }

    /// Appends everything before the value to `out`; gives the count of zero bytes behind it.
    ///
    /// The caller has checked the limits, so the lengths fit their fields.
    pub(crate) fn encode(
        &self,
        seed: &Seed,
        offset: u64,
        durable_mark: u64,
        out: &mut Vec<u8>,
    ) -> usize {
        self.encode_around(self.value.len(), seed, offset, durable_mark, out)
    }

    /// The same for a value of this length that lies elsewhere.
    pub(crate) fn encode_around(
        &self,
        value_len: usize,
        seed: &Seed,
        offset: u64,
        durable_mark: u64,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = out.len();
        out.resize(start + HEAD_LEN, 0);
        out.extend_from_slice(&self.value_hash.to_le_bytes());
        if let Some(expires_at_ms) = self.expires_at_ms {
            out.extend_from_slice(&expires_at_ms.to_le_bytes());
        }
        out.extend_from_slice(self.key);
        for tag in self.tags {
            out.extend_from_slice(&tag.0.to_le_bytes());
        }
        out.extend_from_slice(self.metadata);
        let prefix = out.get(start + HEAD_LEN..).unwrap_or_default();
        let prefix_crc = seed.checksum(offset + HEAD_LEN as u64, &[prefix]);

        let mut fields = [0_u8; HEAD_LEN - 8];
        let flags = if self.expires_at_ms.is_some() { FLAG_EXPIRES } else { 0 };
        let mut rest = &mut fields[..];
        rest.put_slice(&[self.kind as u8, self.tags.len() as u8]);
        rest.put_u16_le(flags);
        rest.put_u32_le(self.key.len() as u32);
        rest.put_u32_le(self.metadata.len() as u32);
        rest.put_u32_le(value_len as u32);
        rest.put_u64_le(self.seq);
        rest.put_u128_le(self.hash.0);
        rest.put_u64_le(self.written_at_ms);
        rest.put_u32_le((durable_mark / ALIGN) as u32);
        rest.put_u32_le(prefix_crc);
        if let Some(mut head) = out.get_mut(start..start + HEAD_LEN) {
            head.put_u32_le(seed.checksum(offset, &[&fields]));
            head.put_u32_le(STATE_LIVE);
            head.put_slice(&fields);
        }
        let len = out.len() - start + value_len;
        (padded(len) - len as u64) as usize
    }
}

impl RecordHead {
    /// Reads the header of the record at `offset`.
    pub(crate) fn decode(bytes: &[u8], seed: &Seed, offset: u64) -> Parsed<Self> {
        if is_planted(Bug::LengthBeforeChecksum) {
            return Self::parse(bytes);
        }
        let mut rest = bytes;
        let stored = rest.try_get_u32_le()?;
        rest.try_get_u32_le()?;
        if seed.checksum(offset, &[take(&mut rest, HEAD_LEN - 8)?]) != stored {
            return Err(Unreadable::Damaged("checksum of a record header"));
        }
        Self::parse(bytes)
    }

    /// Reads a header whose checksum has been compared.
    pub(crate) fn parse(mut bytes: &[u8]) -> Parsed<Self> {
        bytes.try_get_u32_le()?;
        let state = bytes.try_get_u32_le()?;
        let mut fields = take(&mut bytes, HEAD_LEN - 8)?;
        let kind = match fields.try_get_u8()? {
            1 => RecordKind::Blob,
            2 => RecordKind::Rows,
            _ => return Err(Unreadable::Damaged("kind of a record")),
        };
        let tag_count = usize::from(fields.try_get_u8()?);
        let flags = fields.try_get_u16_le()?;
        let head = Self {
            kind,
            erased: match state {
                STATE_LIVE => false,
                STATE_ERASED => true,
                _ => return Err(Unreadable::Damaged("state of a record")),
            },
            tag_count,
            expires: flags & FLAG_EXPIRES != 0,
            key_len: fields.try_get_u32_le()? as usize,
            metadata_len: fields.try_get_u32_le()? as usize,
            value_len: fields.try_get_u32_le()? as usize,
            seq: fields.try_get_u64_le()?,
            hash: KeyedHash(fields.try_get_u128_le()?),
            written_at_ms: fields.try_get_u64_le()?,
            durable_mark: u64::from(fields.try_get_u32_le()?) * ALIGN,
            prefix_crc: fields.try_get_u32_le()?,
        };
        let legal = flags <= FLAG_EXPIRES
            && tag_count <= MAX_TAGS
            && head.key_len <= MAX_KEY_LEN
            && head.value_len as u64 <= MAX_VALUE_LEN
            && match kind {
                RecordKind::Blob => head.key_len > 0 && head.metadata_len <= MAX_METADATA_LEN,
                RecordKind::Rows => {
                    head.key_len == 0
                        && tag_count == 0
                        && head.metadata_len <= super::rows::MAX_DIRECTORY_LEN
                }
            }
            && head.record_len() >= MIN_RECORD_LEN;
        if legal { Ok(head) } else { Err(Unreadable::Damaged("fields of a record header")) }
    }

    /// Bytes between header and value.
    pub(crate) fn prefix_len(&self) -> usize {
        prefix_len(self.expires, self.key_len, self.tag_count, self.metadata_len)
    }

    /// Where the value starts, counted from the record's start.
    pub(crate) fn value_start(&self) -> usize {
        HEAD_LEN + self.prefix_len()
    }

    /// Bytes the record takes, padding included.
    pub(crate) fn record_len(&self) -> u64 {
        padded(self.value_start() + self.value_len)
    }

    /// Checks and splits the prefix of the record at `offset`.
    pub(crate) fn decode_prefix(&self, bytes: &[u8], seed: &Seed, offset: u64) -> Parsed<Prefix> {
        let bytes = bytes.get(..self.prefix_len()).ok_or(Unreadable::Damaged("too short"))?;
        if seed.checksum(offset + HEAD_LEN as u64, &[bytes]) != self.prefix_crc {
            return Err(Unreadable::Damaged("checksum of a record's key and metadata"));
        }
        self.parse_prefix(bytes)
    }

    /// Splits a prefix whose checksum has been compared.
    pub(crate) fn parse_prefix(&self, bytes: &[u8]) -> Parsed<Prefix> {
        let bytes = bytes.get(..self.prefix_len()).ok_or(Unreadable::Damaged("too short"))?;
        let mut rest = bytes;
        let value_hash = rest.try_get_u128_le()?;
        let expires_at_ms = if self.expires { Some(rest.try_get_u64_le()?) } else { None };
        let key_start = bytes.len() - rest.len();
        take(&mut rest, self.key_len)?;
        let mut tags = Vec::new();
        for _ in 0..self.tag_count {
            tags.push(KeyedHash(u128::from_le_bytes(take_array::<TAG_LEN>(&mut rest)?)));
        }
        let metadata_start = bytes.len() - rest.len();
        Ok(Prefix {
            value_hash,
            expires_at_ms,
            key: key_start..key_start + self.key_len,
            tags,
            metadata: metadata_start..metadata_start + self.metadata_len,
        })
    }
}

impl Prefix {
    /// True if these bytes are the value the record was written with.
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        value_hash(value) == self.value_hash
    }
}

fn prefix_len(expires: bool, key_len: usize, tag_count: usize, metadata_len: usize) -> usize {
    16 + if expires { 8 } else { 0 } + key_len + tag_count * TAG_LEN + metadata_len
}

/// Bytes a block of rows takes as a record, padding included.
pub(crate) fn rows_record_len(directory_len: usize, rows_len: usize) -> u64 {
    padded(HEAD_LEN + prefix_len(false, 0, 0, directory_len) + rows_len)
}

fn padded(len: usize) -> u64 {
    (len as u64).next_multiple_of(ALIGN)
}
