//! Appending blocks of rows: a row goes to the bucket of its pseudonym, or of its time.

use std::time::Duration;

use super::{LogCore, Row, RowId};
use crate::error::{Error, Result};
use crate::format::record::{Draft, RecordKind, rows_record_len};
use crate::format::rows::{BlockBuilder, MAX_PAYLOAD_LEN, RowBody};
use crate::format::sidecar::pack_times;
use crate::options;
use crate::segment::writer::SegmentWriter;
use crate::sequence::Ticket;
use crate::time::Timestamp;

/// Buckets that are appended to at the same time; late rows beyond that start new segments.
const MAX_WRITERS: usize = 8;

/// A block of rows that is not written yet.
///
/// Its number is taken before its first row, so that an invalidation in between covers all of them,
/// and is under way until it is written, so that the invalidation is not forgotten before.
#[derive(Debug)]
pub(super) struct PendingBlock {
    pub(super) builder: BlockBuilder,
    ticket: Ticket,
}

impl PendingBlock {
    /// Its number in the order of writes and invalidations.
    pub(super) fn seq(&self) -> u64 {
        self.ticket.seq()
    }
}

impl LogCore {
    /// Appends one row as a block of its own.
    pub(super) fn append(&self, row: &Row) -> Result<RowId> {
        let (bucket, time) = self.place(row)?;
        let mut block = self.begin_block();
        self.push(&mut block, time, row);
        let (segment, offset) = self.write_block(bucket, &block)?;
        Ok(RowId::new(segment, offset, 0))
    }

    /// Begins a block: takes its number before its first row.
    pub(super) fn begin_block(&self) -> PendingBlock {
        let ticket = self.owner.engine.sequence.begin();
        PendingBlock { builder: BlockBuilder::default(), ticket }
    }

    /// Checks a row and gives its bucket and its time.
    pub(super) fn place(&self, row: &Row) -> Result<(Timestamp, Timestamp)> {
        self.owner.engine.check_process()?;
        options::check_tags(row.tags.iter().map(Vec::as_slice))?;
        let len = row.payload.len() as u64;
        Error::check_limit("payload length in bytes", 0, MAX_PAYLOAD_LEN as u64, len)?;
        let now = self.owner.engine.trusted_now();
        let time = row.time.unwrap_or(now).min(now);
        let window = self.owner.window;
        let bucket = match row.subject {
            Some(subject) if subject.owner_id() != self.owner.id => {
                return Err(Error::ForeignPseudonym { log: self.owner.name.clone() });
            }
            Some(subject) => subject.period(),
            None => self.owner.bucket_start(time),
        };
        let oldest = window.oldest_start(now);
        if time < oldest || bucket < oldest {
            return Err(Error::Expired { at: time.min(bucket), oldest });
        }
        if let Some(subject) = row.subject {
            // It lives by its pseudonym's bucket, so it must not be much older than that.
            let earliest = bucket - Duration::from_millis(window.width_ms);
            if time < earliest {
                return Err(Error::Expired { at: time, oldest: earliest });
            }
            self.check_key_lives(subject.key_number(), bucket, oldest)?;
        }
        Ok((bucket, time))
    }

    /// A row about somebody is only taken while the key of its pseudonym exists.
    fn check_key_lives(&self, number: u32, bucket: Timestamp, oldest: Timestamp) -> Result<()> {
        let buckets = self.owner.buckets.read();
        let lives = buckets
            .get(&bucket)
            .and_then(|bucket| bucket.keys())
            .is_some_and(|keys| keys.contains(number));
        if lives { Ok(()) } else { Err(Error::Expired { at: bucket, oldest }) }
    }

    /// Adds a row to a block.
    pub(super) fn push(&self, block: &mut PendingBlock, time: Timestamp, row: &Row) {
        let hasher = &self.owner.engine.hasher;
        let subject = row.subject.map(|subject| (subject.key_number(), subject.id()));
        let tags = row.tags.iter().map(|tag| hasher.tag(tag)).collect();
        block.builder.push(time.as_millis(), &RowBody { subject, tags, payload: &row.payload });
    }

    /// Writes a block into its bucket; gives the segment's number and the block's offset.
    pub(super) fn write_block(
        &self,
        bucket: Timestamp,
        block: &PendingBlock,
    ) -> Result<(u64, u64)> {
        let PendingBlock { builder: block, ticket } = block;
        let engine = &self.owner.engine;
        engine.check_process()?;
        let mut writers = self.writers.lock();
        // Under the lock: closing waits for it, and nothing may be written after.
        engine.check_writable()?;
        let now = engine.trusted_now();
        if self.owner.window.deadline(bucket) <= now {
            let oldest = self.owner.window.oldest_start(now);
            return Err(Error::Expired { at: bucket, oldest });
        }
        let (earliest, latest) = block.times();
        let record_len = rows_record_len(block.directory_len(), block.byte_len());
        let writer = self.writer_for(&mut writers, bucket, record_len)?;
        let offset = writer.end();
        let (directory, rows) = block.finish(&writer.segment().seed, offset);
        let draft = Draft {
            kind: RecordKind::Rows,
            seq: ticket.seq(),
            hash: pack_times(earliest, latest),
            written_at_ms: now.as_millis(),
            expires_at_ms: None,
            key: &[],
            tags: &[],
            metadata: &directory,
            // Each row has a checksum of its own.
            value_hash: 0,
            value: rows,
            listed_tags: block.tags(),
        };
        writer.append(&[draft]).map_err(|e| engine.append_failed(e))?;
        Ok((writer.segment().number(), offset))
    }

    fn writer_for<'a>(
        &self,
        writers: &'a mut std::collections::BTreeMap<Timestamp, SegmentWriter>,
        bucket_start: Timestamp,
        record_len: u64,
    ) -> Result<&'a mut SegmentWriter> {
        let fits = writers.get(&bucket_start).is_some_and(|writer| writer.fits(record_len));
        if !fits {
            if let Some(full) = writers.remove(&bucket_start) {
                self.owner.seal_later(full);
            }
            if writers.len() >= MAX_WRITERS
                && let Some((_, oldest)) = writers.pop_first()
            {
                self.owner.seal_later(oldest);
            }
            let (_, writer) = self.owner.bear(bucket_start, record_len)?;
            writers.insert(bucket_start, writer);
        }
        writers.get_mut(&bucket_start).ok_or(Error::Closed)
    }
}
