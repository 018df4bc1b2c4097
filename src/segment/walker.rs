//! Walking a segment's records from its start: what recovery, `verify` and `dump` see of it.
//!
//! The walk goes from each record to the next by its checked length and takes up nothing behind a place
//! where that ends, since an image may hold anything. It works on any [`Source`], a byte slice included.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io;

use crate::disk::{DiskFile, read_full_at};
use crate::format::checksum::Seed;
use crate::format::record::{ALIGN, HEAD_LEN, Prefix, RecordHead, RecordKind};
use crate::format::rows::{RowBody, decode_directory};
use crate::format::segment_header::HEADER_LEN;
use crate::format::sidecar::UNFINISHED_ROWS;
use crate::format::{Parsed, Unreadable, is_zeros};
use crate::hash::{KeyedHash, ValueHasher};
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
    pub(crate) fn new(source: S, seed: &Seed, len: u64) -> Self {
        Self::between(source, seed, (HEADER_LEN, len))
    }

    /// A walk from where one record starts to where another ends.
    pub(super) fn between(source: S, seed: &Seed, (offset, end): (u64, u64)) -> Self {
        Self { source, seed: seed.clone(), offset, end, chunk: Vec::new(), chunk_start: 0 }
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
        let head = RecordHead::decode(&self.peek(HEAD_LEN)?, &self.seed, offset);
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
    pub(super) fn mark_ahead(&self) -> io::Result<u64> {
        let mut highest = 0;
        let mut start = self.offset;
        while start < self.end {
            let bytes = self.at(start, CHUNK_LEN.min((self.end - start) as usize))?;
            // There is no header in a hole.
            if is_zeros(&bytes) {
                start += (CHUNK_LEN - HEAD_LEN) as u64;
                continue;
            }
            let step = ALIGN as usize;
            for (window, offset) in
                bytes.windows(HEAD_LEN).step_by(step).zip((start..).step_by(step))
            {
                // Most of what is no header is told by less than a checksum.
                if RecordHead::parse(window).is_err() {
                    continue;
                }
                if let Ok(head) = RecordHead::decode(window, &self.seed, offset) {
                    highest = highest.max(head.durable_mark.min(offset));
                }
            }
            // A header that reaches into the next piece is looked at there.
            start += (CHUNK_LEN - HEAD_LEN) as u64;
        }
        Ok(highest)
    }

    /// Compares a record's checksums; it was given by this walk. No more of it is in memory at a time
    /// than a piece, or a row.
    pub(crate) fn check(&self, found: &Found) -> io::Result<Result<(), Unreadable>> {
        if found.head.erased {
            return Ok(Ok(()));
        }
        let prefix = match self.prefix(found)? {
            Ok((prefix, _)) => prefix,
            Err(unreadable) => return Ok(Err(unreadable)),
        };
        match found.head.kind {
            RecordKind::Blob => self.check_value(found, prefix.value_hash),
            RecordKind::Rows => {
                let mut checked = Ok(());
                self.for_each_row(found, &mut |body| {
                    checked = checked.and(body.map(|_| ()));
                })?;
                Ok(checked)
            }
        }
    }

    /// Gives back a record that passes a check, as it is or as it is read once more, since it may have been erased
    /// meanwhile.
    pub(crate) fn checked(
        &mut self,
        found: Found,
        check: impl Fn(&Self, &Found) -> io::Result<Parsed<()>>,
    ) -> io::Result<Parsed<Found>> {
        if check(self, &found)?.is_ok() {
            return Ok(Ok(found));
        }
        self.look_anew();
        let head = RecordHead::decode(&self.at(found.offset, HEAD_LEN)?, &self.seed, found.offset);
        match head.map(|head| Found { head, ..found }) {
            Ok(found) => Ok(check(self, &found)?.map(|()| found)),
            Err(unreadable) => Ok(Err(unreadable)),
        }
    }

    fn prefix(&self, found: &Found) -> io::Result<Result<(Prefix, Vec<u8>), Unreadable>> {
        let head = &found.head;
        let bytes = self.at(found.offset + HEAD_LEN as u64, head.prefix_len())?;
        Ok(head.decode_prefix(&bytes, &self.seed, found.offset).map(|prefix| (prefix, bytes)))
    }

    fn check_value(&self, found: &Found, hash: u128) -> io::Result<Result<(), Unreadable>> {
        let mut hasher = ValueHasher::default();
        let mut start = found.offset + found.head.value_start() as u64;
        let end = start + found.head.value_len as u64;
        while start < end {
            let piece = self.some_at(start, end - start)?;
            if piece.is_empty() {
                return Ok(Err(Unreadable::Damaged("length of a value")));
            }
            hasher.update(&piece);
            start += piece.len() as u64;
        }
        let is_same = hasher.value_hash() == hash;
        Ok(if is_same { Ok(()) } else { Err(Unreadable::Damaged("checksum of a value")) })
    }

    /// Shows what each row of a block says.
    fn for_each_row(&self, found: &Found, show: &mut ShowRow<'_>) -> io::Result<()> {
        let entries = self.prefix(found)?.and_then(|(prefix, bytes)| {
            decode_directory(bytes.get(prefix.metadata).unwrap_or_default())
        });
        let entries = match entries {
            Ok(entries) => entries,
            Err(unreadable) => {
                show(Err(unreadable));
                return Ok(());
            }
        };
        let value_start = found.offset + found.head.value_start() as u64;
        for entry in entries {
            if entry.end() > found.head.value_len as u64 {
                show(Err(Unreadable::Damaged("place of a row")));
                continue;
            }
            let row = self.at(value_start + u64::from(entry.offset), entry.len as usize)?;
            show(entry.decode(&row, &self.seed, found.offset));
        }
        Ok(())
    }

    /// The keyed hashes of the tags that a record or its rows carry; it was given by the last step.
    /// What cannot be read carries none.
    pub(crate) fn tags(&self, found: &Found) -> io::Result<Vec<KeyedHash>> {
        let head = &found.head;
        if head.erased || (head.kind == RecordKind::Blob && head.tag_count == 0) {
            return Ok(Vec::new());
        }
        if head.kind == RecordKind::Blob {
            return Ok(self.prefix(found)?.map(|(prefix, _)| prefix.tags).unwrap_or_default());
        }
        let mut tags = Vec::new();
        self.for_each_row(found, &mut |body| match body {
            Ok(Some(body)) => tags.extend_from_slice(&body.tags),
            // Its zeros may be in the page cache alone; or it is damaged, and nothing tells its tags either.
            Ok(None) | Err(_) => tags.push(KeyedHash(UNFINISHED_ROWS.into())),
        })?;
        Ok(tags)
    }

    /// Bytes at an offset, from the chunk at hand if they lie in it.
    pub(super) fn at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
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

    /// The bytes at an offset that are at hand, or else as many as are read in one go; at most so many.
    fn some_at(&self, offset: u64, most: u64) -> io::Result<Vec<u8>> {
        let chunk_end = self.chunk_start + self.chunk.len() as u64;
        let is_at_hand = (self.chunk_start..chunk_end).contains(&offset);
        let len = if is_at_hand { chunk_end - offset } else { CHUNK_LEN as u64 };
        self.at(offset, len.min(most) as usize)
    }

    /// Forgets the chunk at hand, since what it is of may have changed.
    pub(crate) fn look_anew(&mut self) {
        self.chunk.clear();
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

/// Takes what a row says, nothing if it has been erased.
type ShowRow<'a> = dyn FnMut(Parsed<Option<RowBody<'_>>>) + 'a;
