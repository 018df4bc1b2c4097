//! Walking a segment's records from its start: what recovery, `verify` and `dump` see of it.
//!
//! The walk goes from each record to the next by its checked length and takes up nothing behind a place
//! where that ends, since an image may hold anything. It works on any [`Source`], a byte slice included.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io;

use crate::disk::{DiskFile, read_full_at};
use crate::format::Unreadable;
use crate::format::checksum::Seed;
use crate::format::record::{ALIGN, HEAD_LEN, RecordHead, RecordKind};
use crate::format::rows::{decode_directory, is_unfinished};
use crate::format::segment_header::HEADER_LEN;
use crate::format::sidecar::{Listing, SidecarEntry, UNFINISHED_ROWS};
use crate::hash::KeyedHash;
use crate::planted::{Bug, is_planted};

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
        if is_planted(Bug::ResyncedByMagic) && head.is_err() {
            self.offset += ALIGN;
            return self.next();
        }
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

    /// The highest durable mark in what follows, wherever a header stands there that belongs to this place
    /// in this segment. It only tells how much had been durable: nothing is taken up for it.
    fn mark_ahead(&self) -> io::Result<u64> {
        let mut highest = 0;
        let mut start = self.offset;
        while start < self.end {
            let bytes = self.at(start, CHUNK_LEN.min((self.end - start) as usize))?;
            let step = ALIGN as usize;
            for (window, offset) in
                bytes.windows(HEAD_LEN).step_by(step).zip((start..).step_by(step))
            {
                // Most of what is no header is told by less than a checksum.
                if RecordHead::parse(window).is_err() {
                    continue;
                }
                if let Ok(head) = RecordHead::decode(window, self.seed, offset) {
                    highest = highest.max(head.durable_mark.min(offset));
                }
            }
            // A header that reaches into the next piece is looked at there.
            start += (CHUNK_LEN - HEAD_LEN) as u64;
        }
        Ok(highest)
    }

    /// Compares a record's checksums; it was given by this walk.
    pub(crate) fn check(&self, found: &Found) -> io::Result<Result<(), Unreadable>> {
        if found.head.erased {
            return Ok(Ok(()));
        }
        let len = found.head.prefix_len() + found.head.value_len;
        let body = self.at(found.offset + HEAD_LEN as u64, len)?;
        Ok(check_body(&body, found, self.seed))
    }

    /// As [`Walker::check`], with the record read once more, since it may have been erased meanwhile.
    pub(crate) fn check_again(&self, found: &Found) -> io::Result<Result<(), Unreadable>> {
        let mut bytes = vec![0; HEAD_LEN + found.head.prefix_len() + found.head.value_len];
        let read = self.source.read_at(&mut bytes, found.offset)?;
        bytes.truncate(read);
        let checked = RecordHead::decode(&bytes, self.seed, found.offset).and_then(|head| {
            let body = bytes.get(HEAD_LEN..).unwrap_or_default();
            if head.erased { Ok(()) } else { check_body(body, found, self.seed) }
        });
        Ok(checked)
    }

    /// The keyed hashes of the tags that a record or its rows carry; it was given by the last step.
    /// What cannot be read carries none.
    fn tags(&self, found: &Found) -> io::Result<Vec<KeyedHash>> {
        let head = &found.head;
        if head.erased || (head.kind == RecordKind::Blob && head.tag_count == 0) {
            return Ok(Vec::new());
        }
        let value_len = if head.kind == RecordKind::Rows { head.value_len } else { 0 };
        let body = self.at(found.offset + HEAD_LEN as u64, head.prefix_len() + value_len)?;
        let Ok(prefix) = head.decode_prefix(&body, self.seed, found.offset) else {
            return Ok(Vec::new());
        };
        if head.kind == RecordKind::Blob {
            return Ok(prefix.tags);
        }
        let directory = body.get(prefix.metadata).unwrap_or_default();
        let rows = body.get(head.prefix_len()..).unwrap_or_default();
        Ok(tags_of_rows(directory, rows, self.seed, found.offset))
    }

    /// Bytes at an offset, from the chunk at hand if they lie in it.
    fn at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let within = || {
            let start = usize::try_from(offset.checked_sub(self.chunk_start)?).ok()?;
            self.chunk.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
        };
        if let Some(bytes) = within() {
            return Ok(bytes);
        }
        let mut bytes = vec![0; len];
        let read = self.source.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
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
    if value.len() != found.head.value_len {
        return Err(Unreadable::Damaged("length of a value"));
    }
    match found.head.kind {
        RecordKind::Blob if prefix.matches(value) => Ok(()),
        RecordKind::Blob => Err(Unreadable::Damaged("checksum of a value")),
        RecordKind::Rows => {
            let directory = body.get(prefix.metadata).unwrap_or_default();
            for entry in decode_directory(directory)? {
                entry.decode(entry.slice(value)?, seed, found.offset)?;
            }
            Ok(())
        }
    }
}

fn tags_of_rows(directory: &[u8], rows: &[u8], seed: Seed, offset: u64) -> Vec<KeyedHash> {
    let entries = decode_directory(directory).unwrap_or_default();
    let mut tags = Vec::new();
    for entry in &entries {
        let Ok(row) = entry.slice(rows) else { continue };
        match entry.decode(row, seed, offset) {
            Ok(Some(body)) => tags.extend(body.tags),
            Ok(None) if is_unfinished(row) => tags.push(KeyedHash(UNFINISHED_ROWS.into())),
            _ => {}
        }
    }
    tags
}

/// What a walk over a whole segment found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) listing: Listing,
    /// The end of the last record that counts.
    pub(crate) end: u64,
    /// All below had been made durable when a later record was written.
    pub(crate) mark: u64,
    /// Why the walk ended before the file did.
    pub(crate) stopped: Option<&'static str>,
}

/// Walks a segment. Above the durable mark a record counts only if all of its checksums match,
/// and nothing behind one that does not. Where the walk ends early, what lies behind is asked for its
/// mark alone: a record that is damaged below it was no torn end.
pub(crate) fn scan<S: Source>(source: S, seed: Seed, len: u64) -> io::Result<Scanned> {
    let mut walker = Walker::new(source, seed, len);
    let mut found = Vec::new();
    let mut mark = HEADER_LEN;
    let mut stopped = None;
    while let Some(step) = walker.next()? {
        match step {
            Ok(record) => {
                mark = mark.max(record.head.durable_mark.min(record.offset));
                let tags = walker.tags(&record)?;
                found.push((record, tags));
            }
            Err(unreadable) => {
                stopped = Some(reason(unreadable));
                mark = mark.max(walker.mark_ahead()?);
                break;
            }
        }
    }
    let listing = Listing::default();
    let mut scanned = Scanned { listing, end: HEADER_LEN, mark, stopped };
    for (record, tags) in found {
        let end = record.offset + record.head.record_len();
        if end > mark
            && walker.check(&record)?.is_err()
            && let Err(unreadable) = walker.check_again(&record)?
        {
            scanned.stopped = Some(reason(unreadable));
            break;
        }
        scanned.listing.push(SidecarEntry::of(&record.head, record.offset), &tags);
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
