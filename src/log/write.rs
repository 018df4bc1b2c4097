//! Appending blocks of rows: a row goes to the bucket of its pseudonym, or of its time.

use std::sync::Arc;
use std::time::Duration;

use super::{LogCore, Row, RowId};
use crate::bucket::Bucket;
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
    /// The bucket that holds the keys of the pseudonyms in it, if there are any.
    keys: Option<Arc<Bucket>>,
    /// When it was begun, by the boot-time clock: how long that has been is certain even if the time is
    /// set back meanwhile.
    begun_ms: u64,
}

/// Where a row belongs.
pub(super) struct Place {
    /// The start of its bucket.
    pub(super) bucket: Timestamp,
    time: Timestamp,
    /// That bucket, if the row needs its keys.
    keys: Option<Arc<Bucket>>,
}

impl PendingBlock {
    /// Its number in the order of writes and invalidations.
    pub(super) fn seq(&self) -> u64 {
        self.ticket.seq()
    }

    /// True if a row of its bucket may join it. Another bucket of the same start has other keys.
    pub(super) fn takes(&self, place: &Place) -> bool {
        match (&self.keys, &place.keys) {
            (Some(own), Some(keys)) => Arc::ptr_eq(own, keys),
            _ => true,
        }
    }
}

impl LogCore {
    /// Appends one row as a block of its own.
    pub(super) fn append(&self, row: &Row) -> Result<RowId> {
        let place = self.place(row)?;
        let mut block = self.begin_block(BlockBuilder::default());
        self.push(&mut block, &place, row);
        let (segment, offset) = self.write_block(place.bucket, &block)?;
        Ok(RowId::new(segment, offset, 0))
    }

    /// Begins a block with an empty builder: takes its number before its first row.
    pub(super) fn begin_block(&self, builder: BlockBuilder) -> PendingBlock {
        let ticket = self.owner.engine.sequence.begin();
        let begun_ms = self.owner.engine.clock.boot_ms();
        PendingBlock { builder, ticket, keys: None, begun_ms }
    }

    /// How long a block has been waiting.
    pub(super) fn age(&self, block: &PendingBlock) -> Duration {
        let boot_ms = self.owner.engine.clock.boot_ms();
        Duration::from_millis(boot_ms.saturating_sub(block.begun_ms))
    }

    /// When a block will have waited for as long as a bucket spans, by the boot-time clock.
    pub(super) fn due_ms(&self, block: &PendingBlock) -> u64 {
        block.begun_ms.saturating_add(self.owner.window.width_ms)
    }

    /// Checks a row and gives where it belongs.
    pub(super) fn place(&self, row: &Row) -> Result<Place> {
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
        let mut keys = None;
        if let Some(subject) = row.subject {
            // It lives by its pseudonym's bucket, so it must not be much older than that.
            let earliest = bucket - Duration::from_millis(window.width_ms);
            if time < earliest {
                return Err(Error::Expired { at: time, oldest: earliest });
            }
            // It is only taken while the key of its pseudonym exists.
            let with_key = |bucket: &Arc<Bucket>| {
                bucket.keys().is_some_and(|keys| keys.contains(subject.key_number()))
            };
            keys = self.owner.made_bucket(bucket).filter(with_key);
            if keys.is_none() {
                return Err(Error::Expired { at: bucket, oldest });
            }
        }
        Ok(Place { bucket, time, keys })
    }

    /// Adds a row to a block.
    pub(super) fn push(&self, block: &mut PendingBlock, place: &Place, row: &Row) {
        let hasher = &self.owner.engine.hasher;
        let subject = row.subject.map(|subject| (subject.key_number(), subject.id()));
        let tags = row.tags.iter().map(|tag| hasher.tag(tag)).collect();
        let body = RowBody { subject, tags, payload: &row.payload };
        block.builder.push(place.time.as_millis(), &body);
        block.keys = block.keys.take().or_else(|| place.keys.clone());
    }

    /// The bucket that a block goes to, which was meant for this one.
    ///
    /// With rows about somebody it is the one that holds their keys, or they are gone as these are. Others
    /// go to the bucket of when they were collected, if that was in a future that has turned out to be
    /// wrong since: theirs may have been dropped, and would be born again.
    fn home(
        &self,
        bucket: Timestamp,
        block: &PendingBlock,
        age: Duration,
        now: Timestamp,
    ) -> Result<Timestamp> {
        let (owner, window) = (&self.owner, self.owner.window);
        let collected = now - age;
        let is_wrong = block.keys.is_none() && bucket > collected;
        let home = if is_wrong { owner.bucket_start(collected) } else { bucket };
        let deadline = match (&block.keys, owner.made_bucket(home)) {
            (None, made) => made.map_or(window.deadline(home), |made| made.deadline()),
            (Some(keys), Some(made)) if Arc::ptr_eq(keys, &made) => made.deadline(),
            (Some(_), _) => Timestamp::default(),
        };
        if deadline <= now {
            return Err(Error::Expired { at: bucket, oldest: window.oldest_start(now) });
        }
        Ok(home)
    }

    /// Writes a block into its bucket; gives the segment's number and the block's offset.
    pub(super) fn write_block(
        &self,
        bucket: Timestamp,
        block: &PendingBlock,
    ) -> Result<(u64, u64)> {
        let engine = &self.owner.engine;
        engine.check_process()?;
        let mut writers = self.writers.lock();
        // Under the lock: closing waits for it, and nothing may be written after.
        engine.check_writable()?;
        // In this order, or a block could seem to be older than its bucket.
        let (age, now) = (self.age(block), engine.trusted_now());
        let bucket = self.home(bucket, block, age, now)?;
        let PendingBlock { builder: block, ticket, .. } = block;
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
