//! Where one record is, as a sidecar lists it.

use bytes::{Buf, BufMut};

use super::ENTRY_LEN;
use crate::format::record::{ALIGN, RecordHead};
use crate::format::{Parsed, Unreadable};
use crate::hash::KeyedHash;

/// The record's state word says that its body is given up.
pub(super) const FLAG_GONE: u32 = 1 << 31;
/// The body has been overwritten, durably.
pub(super) const FLAG_SCRUBBED: u32 = 1 << 30;
const UNITS_MASK: u32 = FLAG_SCRUBBED - 1;

/// Where one record is. There is one in memory for each record while a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidecarEntry {
    /// The key's hash; for rows their earliest and latest time.
    pub(crate) hash: KeyedHash,
    pub(crate) seq: u64,
    /// Where the record starts, divided by 8.
    pub(crate) position: u32,
    /// The record's length divided by 8, and flags, as they are stored.
    units: u32,
}

const _: () = assert!(size_of::<SidecarEntry>() == ENTRY_LEN);

/// What has become of a record's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// It is there.
    Whole,
    /// It has been given up, and may or may not be there.
    Gone,
    /// It has been overwritten, durably.
    Scrubbed,
}

impl SidecarEntry {
    /// The entry of a record at an offset.
    pub(crate) fn of(head: &RecordHead, offset: u64) -> Self {
        let mut entry = Self::whole(head.hash, head.seq, offset, head.record_len());
        entry.set_body(if head.erased { Body::Gone } else { Body::Whole });
        entry
    }

    /// The entry of a record that is there, of this length at an offset.
    pub(crate) fn whole(hash: KeyedHash, seq: u64, offset: u64, len: u64) -> Self {
        let (position, units) = ((offset / ALIGN) as u32, (len / ALIGN) as u32);
        Self { hash, seq, position, units: units & UNITS_MASK }
    }

    /// Adds its bytes.
    pub(super) fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u128_le(self.hash.0);
        out.put_u64_le(self.seq);
        out.put_u32_le(self.position);
        out.put_u32_le(self.units);
    }

    /// Takes one off the front.
    pub(super) fn decode(bytes: &mut &[u8]) -> Parsed<Self> {
        let entry = Self {
            hash: KeyedHash(bytes.try_get_u128_le()?),
            seq: bytes.try_get_u64_le()?,
            position: bytes.try_get_u32_le()?,
            units: bytes.try_get_u32_le()?,
        };
        if entry.units & (FLAG_GONE | FLAG_SCRUBBED) == FLAG_SCRUBBED {
            return Err(Unreadable::Damaged("flags of a sidecar entry"));
        }
        Ok(entry)
    }

    /// What has become of the record's body.
    pub(crate) fn body(&self) -> Body {
        match (self.units & FLAG_GONE != 0, self.units & FLAG_SCRUBBED != 0) {
            (false, _) => Body::Whole,
            (true, false) => Body::Gone,
            (true, true) => Body::Scrubbed,
        }
    }

    /// Notes what has become of it.
    pub(crate) fn set_body(&mut self, body: Body) {
        let flags = match body {
            Body::Whole => 0,
            Body::Gone => FLAG_GONE,
            Body::Scrubbed => FLAG_GONE | FLAG_SCRUBBED,
        };
        self.units = self.units & UNITS_MASK | flags;
    }

    /// The record's length.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.units & UNITS_MASK) * ALIGN
    }

    /// Where the record starts.
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.position) * ALIGN
    }

    /// Where the record ends.
    pub(crate) fn end(&self) -> u64 {
        self.offset() + self.len()
    }
}

/// The earliest and latest time of a block of rows, as kept in place of a key's hash.
pub(crate) fn pack_times(earliest_ms: u64, latest_ms: u64) -> KeyedHash {
    KeyedHash(u128::from(earliest_ms) << 64 | u128::from(latest_ms))
}

/// The reverse of [`pack_times`].
pub(crate) fn unpack_times(hash: KeyedHash) -> (u64, u64) {
    ((hash.0 >> 64) as u64, hash.0 as u64)
}
