//! INDEX: an owner's index as of a clean close. Believed only together with the STATE of that close.
//!
//! ```text
//! 0       8         12      16            32         40    48         56      64          72
//! | magic | version | crc32 | snapshot id | owner id | seq | segments | slots | body hash |
//! then for each segment: | number 8 | length 8 | min seq 8 | max seq 8 | records 8 | live 8 |
//! then for each slot:    | fingerprint 8 | which segment 4 | offset / 8: 4 |
//! ```

use bytes::Buf;

use super::{Parsed, Unreadable, checksum, split_preamble, take_array, with_preamble};
use crate::hash::block_hash;

/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.indx";
const HEADER_LEN: usize = 72;
const SEGMENT_LEN: u64 = 48;
const SLOT_LEN: u64 = 16;

/// A segment as the snapshot knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotSegment {
    pub(crate) number: u64,
    pub(crate) len: u64,
    pub(crate) min_seq: u64,
    pub(crate) max_seq: u64,
    pub(crate) records: u64,
    pub(crate) live: u64,
}

/// Where one key's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotSlot {
    pub(crate) fingerprint: u64,
    /// Which of the snapshot's segments.
    pub(crate) segment: u32,
    /// Offset divided by 8.
    pub(crate) position: u32,
}

/// A whole snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: [u8; 16],
    pub(crate) owner_id: u64,
    /// The last sequence number it knows of.
    pub(crate) as_of: u64,
    pub(crate) segments: Vec<SnapshotSegment>,
    pub(crate) slots: Vec<SnapshotSlot>,
}

impl Snapshot {
    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.segments.len() * 48 + self.slots.len() * 16);
        for segment in &self.segments {
            for field in [
                segment.number,
                segment.len,
                segment.min_seq,
                segment.max_seq,
                segment.records,
                segment.live,
            ] {
                content.extend_from_slice(&field.to_le_bytes());
            }
        }
        for slot in &self.slots {
            content.extend_from_slice(&slot.fingerprint.to_le_bytes());
            content.extend_from_slice(&slot.segment.to_le_bytes());
            content.extend_from_slice(&slot.position.to_le_bytes());
        }
        let mut body = self.snapshot_id.to_vec();
        for field in [
            self.owner_id,
            self.as_of,
            self.segments.len() as u64,
            self.slots.len() as u64,
            block_hash(&content),
        ] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        let mut bytes = with_preamble(MAGIC, checksum::plain(&body), &body);
        bytes.append(&mut content);
        bytes
    }

    /// Reads a file's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Parsed<Self> {
        let (head, mut content) =
            bytes.split_at_checked(HEADER_LEN).ok_or(Unreadable::Damaged("too short"))?;
        let (stored, mut body) = split_preamble(MAGIC, head)?;
        if checksum::plain(body) != stored {
            return Err(Unreadable::Damaged("checksum of a snapshot header"));
        }
        let snapshot_id = take_array(&mut body)?;
        let owner_id = body.try_get_u64_le()?;
        let as_of = body.try_get_u64_le()?;
        let segment_count = body.try_get_u64_le()?;
        let slot_count = body.try_get_u64_le()?;
        let expected_len = segment_count
            .saturating_mul(SEGMENT_LEN)
            .saturating_add(slot_count.saturating_mul(SLOT_LEN));
        if content.len() as u64 != expected_len || block_hash(content) != body.try_get_u64_le()? {
            return Err(Unreadable::Damaged("body of a snapshot"));
        }
        let mut segments = Vec::with_capacity(segment_count as usize);
        for _ in 0..segment_count {
            segments.push(SnapshotSegment {
                number: content.try_get_u64_le()?,
                len: content.try_get_u64_le()?,
                min_seq: content.try_get_u64_le()?,
                max_seq: content.try_get_u64_le()?,
                records: content.try_get_u64_le()?,
                live: content.try_get_u64_le()?,
            });
        }
        let mut slots = Vec::with_capacity(slot_count as usize);
        for _ in 0..slot_count {
            slots.push(SnapshotSlot {
                fingerprint: content.try_get_u64_le()?,
                segment: content.try_get_u32_le()?,
                position: content.try_get_u32_le()?,
            });
        }
        Ok(Self { snapshot_id, owner_id, as_of, segments, slots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_back_and_no_changed_byte_passes() {
        let segment =
            SnapshotSegment { number: 1, len: 2, min_seq: 3, max_seq: 4, records: 5, live: 6 };
        let slot = SnapshotSlot { fingerprint: 7, segment: 0, position: 8 };
        let snapshot = Snapshot {
            snapshot_id: [1; 16],
            owner_id: 2,
            as_of: 3,
            segments: vec![segment; 3],
            slots: vec![slot; 5],
        };
        let bytes = snapshot.encode();
        assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 2;
            assert!(Snapshot::decode(&changed).is_err(), "byte {at}");
            assert!(Snapshot::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
