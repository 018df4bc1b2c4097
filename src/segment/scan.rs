//! Walking a segment's records from its start: what recovery, `verify` and `dump` see of it.
//!
//! The walk goes from each record to the next by its checked length and never looks for a magic
//! further on, since an image may hold anything. It works on any [`Source`], a byte slice included.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io;

use crate::disk::{DiskFile, read_full_at};
use crate::format::Unreadable;
use crate::format::checksum::Seed;
use crate::format::record::{HEAD_LEN, RecordHead};
use crate::format::segment_header::HEADER_LEN;
use crate::format::sidecar::SidecarEntry;

/// What is read from a source in one go.
const CHUNK_LEN: usize = 256 * 1024;

/// Bytes that can be read by position.
pub(crate) trait Source {
    /// Reads at an offset until the buffer is full or the source ends.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for &dyn DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full_at(*self, buffer, offset)
    }
}

impl Source for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let (_, rest) = self.split_at(start);
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }
}

/// One step of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) head: RecordHead,
}

/// Goes from record to record.
pub(crate) struct Walker<S> {
    source: S,
    seed: Seed,
    offset: u64,
    end: u64,
    chunk: Vec<u8>,
    chunk_start: u64,
}

impl<S: Source> Walker<S> {
    /// A walk over a segment whose file has `len` bytes.
    pub(crate) fn new(source: S, seed: Seed, len: u64) -> Self {
        Self { source, seed, offset: HEADER_LEN, end: len, chunk: Vec::new(), chunk_start: 0 }
    }

    /// Where the walk stands: the end of the last record it gave.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; `None` at the end of the file; an error where no record starts.
    pub(crate) fn next(&mut self) -> io::Result<Option<Result<Found, Unreadable>>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let offset = self.offset;
        let head = RecordHead::decode(&self.peek(HEAD_LEN)?, self.seed, offset);
        let found = head.and_then(|head| {
            let end = offset.saturating_add(head.record_len());
            if end > self.end {
                return Err(Unreadable::Damaged("record beyond the end of the file"));
            }
            self.offset = end;
            Ok(Found { offset, head })
        });
        Ok(Some(found))
    }

    /// Compares a record's checksums; it was given by this walk.
    pub(crate) fn check(&self, found: &Found) -> io::Result<Result<(), Unreadable>> {
        if found.head.erased {
            return Ok(Ok(()));
        }
        let body_start = found.offset + HEAD_LEN as u64;
        let mut body = vec![0; found.head.prefix_len() + found.head.value_len];
        let read = self.source.read_at(&mut body, body_start)?;
        body.truncate(read);
        Ok(check_body(&body, found, self.seed))
    }

    fn peek(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let within = |this: &Self| {
            let start = usize::try_from(this.offset.checked_sub(this.chunk_start)?).ok()?;
            this.chunk.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
        };
        if let Some(bytes) = within(self) {
            return Ok(bytes);
        }
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        self.chunk.resize(CHUNK_LEN.min(left), 0);
        let read = self.source.read_at(&mut self.chunk, self.offset)?;
        self.chunk.truncate(read);
        self.chunk_start = self.offset;
        Ok(within(self).unwrap_or_else(|| self.chunk.clone()))
    }
}

fn check_body(body: &[u8], found: &Found, seed: Seed) -> Result<(), Unreadable> {
    let prefix = found.head.decode_prefix(body, seed, found.offset)?;
    let value = body.get(found.head.prefix_len()..).unwrap_or_default();
    if value.len() == found.head.value_len && prefix.matches(value) {
        Ok(())
    } else {
        Err(Unreadable::Damaged("checksum of a value"))
    }
}

/// What a walk over a whole segment found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) entries: Vec<SidecarEntry>,
    /// The end of the last record that counts.
    pub(crate) end: u64,
    /// All below had been made durable when a later record was written.
    pub(crate) mark: u64,
    /// Why the walk ended before the file did.
    pub(crate) stopped: Option<&'static str>,
}

/// Walks a segment. Above the durable mark a record counts only if all of its checksums match,
/// and nothing behind one that does not.
pub(crate) fn scan<S: Source>(source: S, seed: Seed, len: u64) -> io::Result<Scanned> {
    let mut walker = Walker::new(source, seed, len);
    let mut found = Vec::new();
    let mut mark = HEADER_LEN;
    let mut stopped = None;
    while let Some(step) = walker.next()? {
        match step {
            Ok(record) => {
                mark = mark.max(record.head.durable_mark.min(record.offset));
                found.push(record);
            }
            Err(unreadable) => {
                stopped = Some(reason(unreadable));
                break;
            }
        }
    }
    let mut scanned = Scanned { entries: Vec::new(), end: HEADER_LEN, mark, stopped };
    for record in found {
        let end = record.offset + record.head.record_len();
        if end > mark
            && let Err(unreadable) = walker.check(&record)?
        {
            scanned.stopped = Some(reason(unreadable));
            break;
        }
        scanned.entries.push(SidecarEntry::of(&record.head, record.offset));
        scanned.end = end;
    }
    Ok(scanned)
}

fn reason(unreadable: Unreadable) -> &'static str {
    match unreadable {
        Unreadable::Damaged(what) => what,
        Unreadable::Version(_) => "version of a record",
    }
}
