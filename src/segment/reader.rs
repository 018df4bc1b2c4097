//! Reading one record of a segment, without a copy where it is durable and mapped.

use bytes::Bytes;

use super::Segment;
use crate::disk::read_full_at;
use crate::error::{Error, Result};
use crate::format::Unreadable;
use crate::format::record::{HEAD_LEN, Prefix, RecordHead};
use crate::hash::KeyedHash;

/// What is read of a record in one go before its length is known.
const PROBE_LEN: u64 = 1024;
/// Above this, a file's length is asked before memory is taken for what is read of it.
const LARGE_LEN: u64 = 1 << 20;

/// Why a record could not be read.
#[derive(Debug)]
pub(crate) enum Damage {
    /// Its bytes are not what was written.
    Corrupt(&'static str),
    /// Its body has been given up.
    Erased,
    /// The segment's file is no longer there.
    Gone,
    /// The system refused.
    Failed(Error),
}

impl From<Unreadable> for Damage {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Damaged(what) => Self::Corrupt(what),
            Unreadable::Version(_) => Self::Corrupt("version of a record"),
        }
    }
}

impl From<Error> for Damage {
    fn from(error: Error) -> Self {
        if error.is_not_found() { Self::Gone } else { Self::Failed(error) }
    }
}

/// A checked record: its bytes and what they mean.
#[derive(Debug, Clone)]
pub(crate) struct RecordView {
    pub(crate) head: RecordHead,
    pub(crate) prefix: Prefix,
    /// The record from its start; without the value if only the prefix was read.
    bytes: Bytes,
}

impl RecordView {
    /// The key.
    pub(crate) fn key(&self) -> &[u8] {
        self.part(&self.prefix.key)
    }

    /// The metadata.
    pub(crate) fn metadata(&self) -> &[u8] {
        self.part(&self.prefix.metadata)
    }

    /// The hashes of the tags.
    pub(crate) fn tags(&self) -> &[KeyedHash] {
        &self.prefix.tags
    }

    /// The value; empty if only the prefix was read.
    pub(crate) fn value(&self) -> &[u8] {
        let start = self.head.value_start();
        self.bytes.get(start..start + self.head.value_len).unwrap_or_default()
    }

    /// The value, sharing the record's bytes.
    pub(crate) fn into_value(self) -> Bytes {
        let start = self.head.value_start();
        let end = start + self.head.value_len;
        if end <= self.bytes.len() { self.bytes.slice(start..end) } else { Bytes::new() }
    }

    fn part(&self, range: &std::ops::Range<usize>) -> &[u8] {
        self.bytes.get(HEAD_LEN + range.start..HEAD_LEN + range.end).unwrap_or_default()
    }
}

impl Segment {
    /// Reads a record's header.
    pub(crate) fn read_head(&self, offset: u64) -> Result<RecordHead, Damage> {
        let bytes = self.bytes_at(offset, HEAD_LEN as u64)?;
        Ok(RecordHead::decode(&bytes, self.header.seed(), offset)?)
    }

    /// Reads everything of a record but its value.
    pub(crate) fn read_prefix(&self, offset: u64) -> Result<RecordView, Damage> {
        let probe = self.bytes_at(offset, PROBE_LEN)?;
        self.view(offset, probe, |head| head.value_start() as u64)
    }

    /// Reads a whole record; the value's checksum is compared at the first read, and always where
    /// the page cache may have lost what was written.
    pub(crate) fn read(&self, offset: u64) -> Result<RecordView, Damage> {
        let probe = self.bytes_at(offset, PROBE_LEN)?;
        let view = self.view(offset, probe, RecordHead::record_len)?;
        let known =
            !self.host.always_verify && offset < self.durable() && self.verified.contains(offset);
        if !known {
            self.prefetch(offset, &view.head);
            if !view.prefix.matches(view.value()) {
                return Err(Damage::Corrupt("checksum of a value"));
            }
            self.verified.insert(offset, self.published());
        }
        Ok(view)
    }

    /// Reads a range of a record's bytes, without any check.
    pub(crate) fn read_range(&self, offset: u64, len: u64) -> Result<Bytes, Damage> {
        let bytes = self.bytes_at(offset, len)?;
        if bytes.len() as u64 >= len {
            Ok(bytes.slice(..len as usize))
        } else {
            Err(Damage::Corrupt("length of a segment"))
        }
    }

    fn view(
        &self,
        offset: u64,
        probe: Bytes,
        wanted: impl Fn(&RecordHead) -> u64,
    ) -> Result<RecordView, Damage> {
        let seed = self.header.seed();
        let head = RecordHead::decode(&probe, seed, offset)?;
        if head.erased {
            return Err(Damage::Erased);
        }
        if offset.saturating_add(head.record_len()) > self.published() {
            return Err(Damage::Corrupt("length of a record"));
        }
        let wanted = wanted(&head);
        let bytes =
            if probe.len() as u64 >= wanted { probe } else { self.bytes_at(offset, wanted)? };
        let Some(body) = bytes.get(HEAD_LEN..) else {
            return Err(Damage::Corrupt("length of a segment"));
        };
        let prefix = head.decode_prefix(body, seed, offset)?;
        if (bytes.len() as u64) < wanted.min(head.value_start() as u64 + head.value_len as u64) {
            return Err(Damage::Corrupt("length of a segment"));
        }
        Ok(RecordView { head, prefix, bytes })
    }

    /// Bytes from an offset on: at least `len` of them, unless published data or the file ends
    /// before. Mapped bytes come without a copy, and then to the end of the durable part.
    fn bytes_at(&self, offset: u64, len: u64) -> Result<Bytes, Damage> {
        if let Some(mapping) = &self.mapping {
            let window = mapping.window.read();
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            if start < window.len() {
                return Ok(window.slice(start..));
            }
        }
        let mut len = len.min(self.published().saturating_sub(offset));
        let file = self.file()?;
        if len > LARGE_LEN {
            // A file cut short must not cost the memory of a whole one.
            let file_len = file.len().map_err(|e| Error::io("measure", &self.path, e))?;
            len = len.min(file_len.saturating_sub(offset));
        }
        let mut buffer = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = read_full_at(&*file, &mut buffer, offset)
            .map_err(|e| Damage::Failed(Error::io("read", &self.path, e)))?;
        buffer.truncate(read);
        Ok(Bytes::from(buffer))
    }

    fn prefetch(&self, offset: u64, head: &RecordHead) {
        if let Some(mapping) = &self.mapping {
            let start = offset as usize + head.value_start();
            mapping.map.prefetch(start, head.value_len);
        }
    }
}
