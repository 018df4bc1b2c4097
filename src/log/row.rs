//! Rows: [`Row`] as it is given, [`LogRow`] as it is read, and [`RowId`], its address.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::error::Error;
use crate::format::record::ALIGN;
use crate::hash::KeyedHash;
use crate::pseudonym::Pseudonym;
use crate::time::Timestamp;

/// A row to append.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub(super) subject: Option<Pseudonym>,
    pub(super) time: Option<Timestamp>,
    pub(super) tags: Vec<Vec<u8>>,
    pub(super) payload: Vec<u8>,
}

impl Row {
    /// A row about somebody. It goes to the bucket whose key the pseudonym was made with.
    pub fn new(subject: Pseudonym) -> Self {
        Self { subject: Some(subject), ..Self::default() }
    }

    /// A row about nobody in particular. It goes to the bucket of its time.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Sets when it happened; without this, now. A time in the future is taken for now.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// Adds a tag, 1 to 1,024 bytes; up to 16 of them. Only its keyed hash is stored.
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(tag.as_ref().to_vec());
        self
    }

    /// Sets the payload, up to 1 MiB. What is personal in it is the caller's to leave out.
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }
}

/// Where a row is. Segments are never used again, so a row id means one row for ever, and nothing
/// once that row is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    segment: u64,
    position: u32,
    row: u32,
}

impl RowId {
    pub(super) fn new(segment: u64, offset: u64, row: u32) -> Self {
        Self { segment, position: (offset / ALIGN) as u32, row }
    }

    pub(super) fn segment(self) -> u64 {
        self.segment
    }

    pub(super) fn offset(self) -> u64 {
        u64::from(self.position) * ALIGN
    }

    pub(super) fn row(self) -> u32 {
        self.row
    }
}

impl fmt::Display for RowId {
    /// Hexadecimal segment, position and row, joined by `-`; [`RowId::from_str`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}-{:x}", self.segment, self.position, self.row)
    }
}

impl FromStr for RowId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('-').collect();
        let read = || -> Option<Self> {
            let [segment, position, row] = parts.as_slice() else { return None };
            Some(Self {
                segment: u64::from_str_radix(segment, 16).ok()?,
                position: u32::from_str_radix(position, 16).ok()?,
                row: u32::from_str_radix(row, 16).ok()?,
            })
        };
        read().ok_or_else(|| Error::InvalidText { what: "row id", text: text.to_owned() })
    }
}

/// A row that was read.
///
/// In a mapped store a payload that is durable is not copied: while the row or its payload is held, no row
/// of its segment can be erased, and the disk space of the segment cannot be given back. Keep a copy of
/// what is kept for long.
#[derive(Debug, Clone)]
pub struct LogRow {
    id: RowId,
    time: Timestamp,
    subject: Option<Pseudonym>,
    tags: Vec<KeyedHash>,
    payload: Bytes,
    deadline: Timestamp,
}

impl LogRow {
    pub(super) fn new(
        id: RowId,
        time: Timestamp,
        subject: Option<Pseudonym>,
        tags: Vec<KeyedHash>,
        payload: Bytes,
        deadline: Timestamp,
    ) -> Self {
        Self { id, time, subject, tags, payload, deadline }
    }

    /// Its address.
    pub fn id(&self) -> RowId {
        self.id
    }

    /// When it happened.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Whom it is about.
    pub fn subject(&self) -> Option<Pseudonym> {
        self.subject
    }

    /// How many tags it carries.
    pub fn tag_count(&self) -> usize {
        self.tags.len()
    }

    /// The keyed hashes of its tags.
    pub(super) fn tags(&self) -> &[KeyedHash] {
        &self.tags
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// When it is gone.
    pub fn gone_at(&self) -> Timestamp {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_ids_are_read_back_from_text() {
        let id = RowId::new(0x3_0000_0001, 4096, 17);
        assert_eq!(id.to_string().parse::<RowId>().unwrap(), id);
        for text in ["", "1-2", "1-2-3-4", "x-2-3", "1-2-99999999999", "-1--"] {
            assert!(text.parse::<RowId>().is_err(), "{text}");
        }
    }
}
