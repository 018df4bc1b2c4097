//! Reading one record of a segment, without a copy where it is durable and mapped.

use std::ops::Deref;

use bytes::{Buf, Bytes};

use super::Segment;
use super::gate::Handle;
use crate::disk::read_full_at;
use crate::error::{Error, Result};
use crate::format::Unreadable;
use crate::format::record::{HEAD_LEN, Prefix, RecordHead, RecordKind, STATE_OFFSET};
use crate::format::segment_header::MAX_LEN;
use crate::hash::KeyedHash;
use crate::sync::atomic::Ordering;

/// What is read of a record in one go before its length is known.
const PROBE_LEN: u64 = 1024;
/// Above this, a file's length is asked before memory is taken for what is read of it.
const LARGE_LEN: u64 = 1 << 20;

/// Records that are shorter than this on the average are not worth a call to the kernel: it reads a page
/// at a time anyway.
const WORTH_READING_AHEAD: u64 = 8192;

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
    pub(crate) fn detached(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
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
        Ok(RecordHead::decode(&bytes, &self.seed, offset)?)
    }

    /// Reads everything of a record but its value.
    pub(crate) fn read_prefix(&self, offset: u64) -> Result<RecordView, Damage> {
        let handle = self.handle(offset + STATE_OFFSET)?;
        let trusted = is_mapped(&handle, offset) && self.is_verified(offset);
        self.view(offset, handle, trusted, |head| head.value_start() as u64)
    }

    /// Reads a whole record. Its checksums are compared at the first read, and always where the page
    /// cache may have lost what was written; by position, those of header and prefix at every read.
    /// Rows have checksums of their own.
    pub(crate) fn read(&self, offset: u64) -> Result<RecordView, Damage> {
        let handle = self.handle(offset + STATE_OFFSET)?;
        let is_verified = self.is_verified(offset);
        let is_mapped = is_mapped(&handle, offset);
        let is_warm = !is_mapped || self.is_warm(offset);
        let view = self.view(offset, handle, is_mapped && is_verified, RecordHead::record_len)?;
        if !is_warm {
            self.read_behind_ahead(offset, &view.head);
        }
        if !is_verified && view.head.kind != RecordKind::Rows {
            if !view.prefix.matches(view.value()) {
                return Err(Damage::Corrupt("checksum of a value"));
            }
            self.verified.insert(offset, self.published());
        }
        Ok(view)
    }

    /// What has become of a record that was found like this.
    pub(crate) fn record_damage(&self, damage: Damage, offset: u64) -> Damage {
        self.damage_or_less(damage, || self.read_head(offset).map(|head| head.erased))
    }

    /// What seems damaged may have been erased by another process while it was read, of which its state then
    /// tells, or may have left with its file.
    pub(crate) fn damage_or_less(
        &self,
        damage: Damage,
        is_erased: impl FnOnce() -> Result<bool, Damage>,
    ) -> Damage {
        if !matches!(damage, Damage::Corrupt(_)) {
            return damage;
        }
        match self.is_there() {
            Err(error) => Damage::Failed(error),
            Ok(false) => Damage::Gone,
            Ok(true) => match is_erased() {
                Ok(true) => Damage::Erased,
                Err(Damage::Failed(error)) => Damage::Failed(error),
                Ok(false) | Err(_) => damage,
            },
        }
    }

    /// True if what is there has been compared with its checksums before, and need not be again.
    fn is_verified(&self, offset: u64) -> bool {
        !self.host.always_verify && offset < self.durable() && self.verified.contains(offset)
    }

    /// Asks for a record to be read ahead, unless it is likely to be in memory, or too short for the call
    /// to be worth it; then it is true.
    fn is_warm(&self, offset: u64) -> bool {
        if self.published() < self.records().saturating_mul(WORTH_READING_AHEAD) {
            return true;
        }
        let now_ms = self.host.read_at_ms.load(Ordering::Relaxed);
        let is_warm = self.touched.touch(offset, self.header.capacity.min(MAX_LEN), now_ms);
        if !is_warm {
            self.read_ahead(offset);
        }
        is_warm
    }

    /// Asks for a record to be read ahead of its use, as far as records in here reach on average.
    pub(crate) fn read_ahead(&self, offset: u64) {
        self.read_range_ahead(offset, self.mean_record_len());
    }

    /// Asks for what is left of a record that reaches further than that. Waits for its header.
    pub(crate) fn read_rest_ahead(&self, offset: u64) {
        if let Ok(head) = self.read_head(offset) {
            self.read_behind_ahead(offset, &head);
        }
    }

    fn read_behind_ahead(&self, offset: u64, head: &RecordHead) {
        let asked = self.mean_record_len();
        if head.record_len() > asked {
            self.read_range_ahead(offset.saturating_add(asked), head.record_len() - asked);
        }
    }

    fn mean_record_len(&self) -> u64 {
        self.published() / self.records().max(1)
    }

    fn read_range_ahead(&self, offset: u64, len: u64) {
        let len = len.min(self.published().saturating_sub(offset));
        match self.gate.map() {
            Some(map) => map.prefetch(offset as usize, len as usize),
            None => {
                if let Ok(file) = self.file() {
                    file.read_ahead(offset, len);
                }
            }
        }
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
        trusted: bool,
        wanted: impl Fn(&RecordHead) -> u64,
    ) -> Result<RecordView, Damage> {
        let probe = self.probe(&handle, offset, PROBE_LEN)?;
        let head = if trusted {
            RecordHead::parse(&probe)?
        } else {
            RecordHead::decode(&probe, &self.seed, offset)?
        };
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
        let prefix = if trusted {
            head.parse_prefix(body)?
        } else {
            head.decode_prefix(body, &self.seed, offset)?
        };
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
}

fn is_mapped(handle: &Handle, offset: u64) -> bool {
    offset < handle.window.len() as u64
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
