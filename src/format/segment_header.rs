//! The header of a segment file, and the slot that may lower its deadline.
//!
//! ```text
//! 0       8         12      16         32         40       48           56     57      64
//! | magic | version | crc32 | store id | owner id | number | generation | kind | zeros | salt |
//! 72             80           88         96         104
//! | bucket start | bucket end | deadline | capacity | zeros ... 512
//! 512     516     520        528
//! | crc32 | zeros | deadline | zeros ... 1024    (all zeros: the deadline above holds)
//! ```

use std::ops::Range;

use bytes::Buf;

use super::checksum::{self, Seed};
use super::{PREAMBLE_LEN, Parsed, Unreadable, split_preamble, take, take_array, with_preamble};
use crate::format::record::RecordKind;

/// Where the first record starts.
pub(crate) const HEADER_LEN: u64 = 1024;
/// No segment is longer: positions have 28 bits, in units of 8 bytes.
pub(crate) const MAX_LEN: u64 = 1 << 31;
/// Where the slot that may lower the deadline starts.
pub(crate) const CAP_OFFSET: u64 = 512;
/// The magic of the file.
pub(crate) const MAGIC: [u8; 8] = *b"ebb.segm";
const BODY_LEN: usize = CAP_OFFSET as usize - PREAMBLE_LEN;
/// What no checksum covers, and what is zeros: within the slot, and behind it.
const UNUSED: [Range<usize>; 2] = [516..520, 528..HEADER_LEN as usize];

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store_id: [u8; 16],
    pub(crate) owner_id: u64,
    pub(crate) number: u64,
    pub(crate) generation: u64,
    pub(crate) kind: RecordKind,
    pub(crate) salt: u64,
    pub(crate) bucket_start_ms: u64,
    pub(crate) bucket_end_ms: u64,
    pub(crate) deadline_ms: u64,
    /// The length the file may grow to, header included.
    pub(crate) capacity: u64,
}

impl SegmentHeader {
    /// The whole header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HEADER_LEN as usize);
        body.extend_from_slice(&self.store_id);
        for field in [self.owner_id, self.number, self.generation, self.kind as u64, self.salt] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.bucket_start_ms, self.bucket_end_ms, self.deadline_ms, self.capacity] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        body.resize(BODY_LEN, 0);
        let mut header = with_preamble(MAGIC, checksum::plain(&body), &body);
        header.resize(HEADER_LEN as usize, 0);
        header
    }

    /// Reads a header; a lowered deadline replaces the original one.
    pub(crate) fn decode(bytes: &[u8]) -> Parsed<Self> {
        let (first, cap) =
            bytes.split_at_checked(CAP_OFFSET as usize).ok_or(Unreadable::Damaged("too short"))?;
        let (stored, mut body) = split_preamble(MAGIC, first)?;
        if checksum::plain(body) != stored {
            return Err(Unreadable::Damaged("checksum of a segment header"));
        }
        let mut header = Self {
            store_id: take_array(&mut body)?,
            owner_id: body.try_get_u64_le()?,
            number: body.try_get_u64_le()?,
            generation: body.try_get_u64_le()?,
            kind: match body.try_get_u64_le()? {
                1 => RecordKind::Blob,
                2 => RecordKind::Rows,
                _ => return Err(Unreadable::Damaged("kind of a segment")),
            },
            salt: body.try_get_u64_le()?,
            bucket_start_ms: body.try_get_u64_le()?,
            bucket_end_ms: body.try_get_u64_le()?,
            deadline_ms: body.try_get_u64_le()?,
            capacity: body.try_get_u64_le()?,
        };
        if let Some(lowered) = decode_cap(&header.seed(), cap)? {
            header.deadline_ms = header.deadline_ms.min(lowered);
        }
        Ok(header)
    }

    /// The first byte of a header that means nothing and is not zero.
    pub(crate) fn find_unused(header: &[u8]) -> Option<u64> {
        let mut unused = UNUSED.into_iter().flatten();
        unused.find(|at| header.get(*at).is_some_and(|byte| *byte != 0)).map(|at| at as u64)
    }

    /// What the checksums in this segment are bound to.
    pub(crate) fn seed(&self) -> Seed {
        Seed::of_file(self.salt, self.number)
    }

    /// The bytes at [`CAP_OFFSET`] that lower the deadline.
    pub(crate) fn encode_cap(&self, deadline_ms: u64) -> Vec<u8> {
        let deadline = deadline_ms.to_le_bytes();
        let mut cap = self.seed().checksum(CAP_OFFSET, &[&deadline]).to_le_bytes().to_vec();
        cap.extend_from_slice(&[0; 4]);
        cap.extend_from_slice(&deadline);
        cap
    }
}

/// A slot that is neither blank nor readable may have held an earlier deadline, so the one in the
/// header does not count either.
fn decode_cap(seed: &Seed, mut bytes: &[u8]) -> Parsed<Option<u64>> {
    let stored = bytes.try_get_u32_le()?;
    take(&mut bytes, 4)?;
    let deadline: [u8; 8] = take_array(&mut bytes)?;
    if stored == 0 && deadline == [0; 8] {
        return Ok(None);
    }
    if seed.checksum(CAP_OFFSET, &[&deadline]) != stored {
        return Err(Unreadable::Damaged("lowered deadline of a segment"));
    }
    Ok(Some(u64::from_le_bytes(deadline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            store_id: [1; 16],
            owner_id: 2,
            number: 3,
            generation: 4,
            kind: RecordKind::Rows,
            salt: 5,
            bucket_start_ms: 600,
            bucket_end_ms: 700,
            deadline_ms: 800,
            capacity: 4096,
        }
    }

    fn with_cap(deadline_ms: u64) -> Vec<u8> {
        let mut bytes = sample().encode();
        let cap = sample().encode_cap(deadline_ms);
        bytes[CAP_OFFSET as usize..][..cap.len()].copy_from_slice(&cap);
        bytes
    }

    #[test]
    fn a_header_is_read_back_and_no_changed_byte_passes() {
        for kind in [RecordKind::Blob, RecordKind::Rows] {
            let header = SegmentHeader { kind, ..sample() };
            assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        }
        let bytes = sample().encode();
        for at in 0..CAP_OFFSET as usize {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(SegmentHeader::decode(&changed).is_err(), "byte {at}");
            assert!(SegmentHeader::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn bytes_without_a_meaning_are_found() {
        let bytes = with_cap(799);
        assert_eq!(SegmentHeader::find_unused(&bytes), None);
        assert_eq!(SegmentHeader::find_unused(&sample().encode()), None);
        for at in UNUSED.into_iter().flatten() {
            let mut changed = bytes.clone();
            changed[at] = 1;
            assert_eq!(SegmentHeader::find_unused(&changed), Some(at as u64));
            assert_eq!(SegmentHeader::find_unused(&changed[..at]), None);
        }
    }

    #[test]
    fn a_kind_without_a_meaning_does_not_pass() {
        for kind in [0, 3] {
            let mut bytes = sample().encode();
            bytes[PREAMBLE_LEN + 40] = kind;
            let crc = checksum::plain(&bytes[PREAMBLE_LEN..CAP_OFFSET as usize]);
            bytes[12..PREAMBLE_LEN].copy_from_slice(&crc.to_le_bytes());
            let damaged = Err(Unreadable::Damaged("kind of a segment"));
            assert_eq!(SegmentHeader::decode(&bytes), damaged);
        }
    }

    #[test]
    fn a_deadline_is_lowered_and_never_raised() {
        for (cap, deadline_ms) in [(799, 799), (801, 800), (0, 0)] {
            let read = SegmentHeader::decode(&with_cap(cap)).unwrap();
            assert_eq!(read, SegmentHeader { deadline_ms, ..sample() });
        }
    }

    #[test]
    fn a_lowered_deadline_that_cannot_be_read_condemns_the_header() {
        let bytes = with_cap(799);
        // Behind the checksum come four bytes that mean nothing.
        for at in (512..516).chain(520..528) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(SegmentHeader::decode(&changed).is_err(), "byte {at}");
        }
        for blanked in [512..516, 520..528] {
            let mut changed = bytes.clone();
            changed[blanked.clone()].fill(0);
            assert!(SegmentHeader::decode(&changed).is_err(), "{blanked:?}");
        }
        assert!(SegmentHeader::decode(&bytes[..527]).is_err());
    }
}
