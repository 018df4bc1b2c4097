//! Reading one record of a segment, without a copy where it is durable and mapped.

use std::ops::Deref;

use bytes::{Buf, Bytes};

use super::Segment;
use super::gate::Handle;
use crate::disk::read_full_at;
use crate::error::{Error, Result};
use crate::format::Unreadable;
use crate::format::record::{HEAD_LEN, Prefix, RecordHead, RecordKind, STATE_OFFSET};
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

    /// The same with bytes of its own.
    pub(crate) fn detached(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self.clone() }
    }

    fn part(&self, range: &std::ops::Range<usize>) -> &[u8] {
        self.bytes.get(HEAD_LEN + range.start..HEAD_LEN + range.end).unwrap_or_default()
    }
}

impl Segment {
    /// Reads a record's header. It stays readable when the record is erased.
    pub(crate) fn read_head(&self, offset: u64) -> Result<RecordHead, Damage> {
        let handle = self.gate.handle().ok_or(Damage::Gone)?;
        let bytes = self.probe(&handle, offset, HEAD_LEN as u64)?;
        Ok(RecordHead::decode(&bytes, self.header.seed(), offset)?)
    }

    /// Reads everything of a record but its value.
    pub(crate) fn read_prefix(&self, offset: u64) -> Result<RecordView, Damage> {
        let handle = self.handle(offset + STATE_OFFSET)?;
        self.view(offset, handle, |head| head.value_start() as u64)
    }

    /// Reads a whole record; the value's checksum is compared at the first read, and always where
    /// the page cache may have lost what was written. Rows have checksums of their own.
    pub(crate) fn read(&self, offset: u64) -> Result<RecordView, Damage> {
        let handle = self.handle(offset + STATE_OFFSET)?;
        let view = self.view(offset, handle, RecordHead::record_len)?;
        let known = view.head.kind == RecordKind::Rows
            || !self.host.always_verify
                && offset < self.durable()
                && self.verified.contains(offset);
        if !known {
            self.prefetch(offset, &view.head);
            if !view.prefix.matches(view.value()) {
                return Err(Damage::Corrupt("checksum of a value"));
            }
            self.verified.insert(offset, self.published());
        }
        Ok(view)
    }

    /// Reads a row's bytes, which begin with its state word, without any check.
    pub(crate) fn read_row(&self, offset: u64, len: u64) -> Result<Bytes, Damage> {
        let bytes = self.bytes_at(self.handle(offset)?, offset, len)?;
        if bytes.len() as u64 == len {
            Ok(bytes)
        } else {
            Err(Damage::Corrupt("length of a segment"))
        }
    }

    /// A right to read the record or row with this state word. What is about to be erased is refused
    /// once a handle is held: whoever held one before is waited for.
    fn handle(&self, state_at: u64) -> Result<Handle, Damage> {
        let handle = self.gate.handle().ok_or(Damage::Gone)?;
        if self.is_doomed(state_at) { Err(Damage::Erased) } else { Ok(handle) }
    }

    fn view(
        &self,
        offset: u64,
        handle: Handle,
        wanted: impl Fn(&RecordHead) -> u64,
    ) -> Result<RecordView, Damage> {
        let seed = self.header.seed();
        let probe = self.probe(&handle, offset, PROBE_LEN)?;
        let head = RecordHead::decode(&probe, seed, offset)?;
        if head.erased {
            return Err(Damage::Erased);
        }
        if offset.saturating_add(head.record_len()) > self.published() {
            return Err(Damage::Corrupt("length of a record"));
        }
        let wanted = wanted(&head);
        let bytes = match probe {
            Probe::Read(bytes) if bytes.len() as u64 >= wanted => bytes,
            _ => self.bytes_at(handle, offset, wanted)?,
        };
        let Some(body) = bytes.get(HEAD_LEN..) else {
            return Err(Damage::Corrupt("length of a segment"));
        };
        let prefix = head.decode_prefix(body, seed, offset)?;
        if (bytes.len() as u64) < wanted.min(head.value_start() as u64 + head.value_len as u64) {
            return Err(Damage::Corrupt("length of a segment"));
        }
        Ok(RecordView { head, prefix, bytes })
    }

    /// The first bytes of a record: its header, or so many if they have to be read.
    fn probe(&self, handle: &Handle, offset: u64, len: u64) -> Result<Probe, Damage> {
        match self.mapped_head(handle, offset) {
            Some(head) => Ok(Probe::Head(head)),
            None => Ok(Probe::Read(self.bytes_at(handle.clone(), offset, len)?)),
        }
    }

    /// A copy of a header that lies in the mapping.
    fn mapped_head(&self, handle: &Handle, offset: u64) -> Option<[u8; HEAD_LEN]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(HEAD_LEN)?;
        let map = self.gate.map().filter(|_| end <= handle.window.len())?;
        let mut head = [0; HEAD_LEN];
        map.copy(start, &mut head).then_some(head)
    }

    /// Bytes from an offset on, so many unless published data or the file ends before. Mapped bytes
    /// come without a copy.
    fn bytes_at(&self, handle: Handle, offset: u64, len: u64) -> Result<Bytes, Damage> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if start < handle.window.len() {
            let mut bytes = handle.window;
            bytes.advance(start);
            bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            return Ok(bytes);
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
        if let Some(map) = self.gate.map() {
            map.prefetch(offset as usize + head.value_start(), head.value_len);
        }
    }
}

/// The first bytes of a record.
enum Probe {
    /// Its header, copied out of the mapping.
    Head([u8; HEAD_LEN]),
    /// What one read gave.
    Read(Bytes),
}

impl Deref for Probe {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Head(head) => head,
            Self::Read(bytes) => bytes,
        }
    }
}
