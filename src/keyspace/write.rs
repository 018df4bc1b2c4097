//! Appending records of a keyspace and publishing them.
//!
//! One thread appends at a time, under the lock of the active segment; a record is visible once its
//! slot names it, which is decided under the lock of the slot's shard.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::engine::count;
use crate::error::{Error, Result};
use crate::format::record::{ALIGN, Draft, RecordKind};
use crate::hash::{KeyedHash, value_hash};
use crate::index::{Change, Location};
use crate::keyspace::Outcome;
use crate::options;
use crate::segment::Segment;
use crate::segment::writer::SegmentWriter;
use crate::sequence::Ticket;
use crate::time::Timestamp;

/// Records are collected up to this many bytes before they are written together.
const BATCH_BYTES: u64 = 256 * 1024;

/// The segment being appended to.
#[derive(Debug)]
pub(super) struct Active {
    ordinal: u32,
    pub(super) bucket: Timestamp,
    pub(super) writer: SegmentWriter,
}

/// What is to be stored.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: KeyedHash,
    pub(super) tags: &'a [KeyedHash],
    pub(super) metadata: &'a [u8],
    pub(super) expires_at: Option<Timestamp>,
    pub(super) value: &'a [u8],
    pub(super) value_hash: u128,
}

impl<'a> Item<'a> {
    /// A key and a value, checked against the limits.
    pub(super) fn plain(core: &KeyspaceCore, key: &'a [u8], value: &'a [u8]) -> Result<Self> {
        options::check_key(key)?;
        let longest = core.owner.max_value_bytes();
        Error::check_limit("value length in bytes", 0, longest, value.len() as u64)?;
        Ok(Self {
            key,
            hash: core.owner.engine.hasher.key(key),
            tags: &[],
            metadata: &[],
            expires_at: None,
            value,
            value_hash: value_hash(value),
        })
    }

    fn draft(&self, seq: u64, now: Timestamp) -> Draft<'_> {
        Draft {
            kind: RecordKind::Blob,
            seq,
            hash: self.hash,
            written_at_ms: now.as_millis(),
            expires_at_ms: self.expires_at.map(Timestamp::as_millis),
            key: self.key,
            tags: self.tags,
            metadata: self.metadata,
            value_hash: self.value_hash,
            value: self.value,
        }
    }
}

impl KeyspaceCore {
    /// Stores an item that takes its number now, so that it is newer than all before.
    pub(super) fn insert(&self, item: &Item<'_>) -> Result<Outcome> {
        self.put(item, None).map(|(outcome, _)| outcome)
    }

    /// Stores an item, with the number of a fill if there is one. Gives the segment it went to.
    pub(super) fn put(
        &self,
        item: &Item<'_>,
        fill: Option<&Ticket>,
    ) -> Result<(Outcome, Option<Arc<Segment>>)> {
        let engine = &self.owner.engine;
        let mut active = self.active.lock();
        // Under the lock: closing waits for it, and nothing may be written after.
        engine.check_writable()?;
        let own;
        let seq = match fill {
            Some(ticket) => ticket.seq(),
            None => {
                own = engine.sequence.begin();
                own.seq()
            }
        };
        if fill.is_some() && !self.would_win(item, seq) {
            count(&engine.counters.superseded);
            return Ok((Outcome::Superseded, None));
        }
        let now = engine.trusted_now();
        let draft = item.draft(seq, now);
        let active = self.writer_for(&mut active, now, draft.record_len())?;
        let offsets = active.writer.append(&[draft]).map_err(|e| engine.append_failed(e))?;
        let offset = offsets.first().copied().unwrap_or_default();
        let outcome = self.publish(item, seq, active, offset);
        Ok((outcome, Some(Arc::clone(active.writer.segment()))))
    }

    /// Stores items in their order, many with one write.
    pub(super) fn insert_many(&self, items: &[Item<'_>]) -> Result<()> {
        let mut rest = items;
        while !rest.is_empty() {
            let taken = self.insert_some(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Stores the first of these items, as many as make a batch and fit a segment, at least one.
    fn insert_some(&self, items: &[Item<'_>]) -> Result<usize> {
        let engine = &self.owner.engine;
        let mut active = self.active.lock();
        engine.check_writable()?;
        let tickets = engine.sequence.begin_many(items.len() as u64);
        let now = engine.trusted_now();
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        let mut len = 0;
        let first_len = items.first().map_or(0, |item| item.draft(0, now).record_len());
        let active = self.writer_for(&mut active, now, first_len)?;
        for (item, seq) in items.iter().zip(tickets.seq()..) {
            let draft = item.draft(seq, now);
            let longer = len + draft.record_len();
            if !drafts.is_empty() && (longer > BATCH_BYTES || !active.writer.fits(longer)) {
                break;
            }
            len = longer;
            drafts.push(draft);
        }
        let offsets = active.writer.append(&drafts).map_err(|e| engine.append_failed(e))?;
        for ((item, offset), seq) in items.iter().zip(&offsets).zip(tickets.seq()..) {
            // One that is hidden already counts as superseded, and a batch has no one to tell.
            let _ = self.publish(item, seq, active, *offset);
        }
        Ok(offsets.len())
    }

    /// True if a record of this number would be the winner of its key and visible. Asked under the
    /// append lock, so nothing newer can be appended meanwhile.
    fn would_win(&self, item: &Item<'_>, seq: u64) -> bool {
        if self.is_under_a_floor(item, seq) || self.owner.left_max_seq() > seq {
            return false;
        }
        let Some(location) = self.index.get(item.hash.fingerprint()) else { return true };
        let Some((segment, offset)) = self.resolve(location) else { return true };
        if segment.max_seq() < seq {
            return true;
        }
        segment.read_head(offset).is_ok_and(|head| head.hash != item.hash || head.seq < seq)
    }

    fn is_under_a_floor(&self, item: &Item<'_>, seq: u64) -> bool {
        self.floors.of_all(seq).is_some()
            || self.floors.of_key(item.hash, seq).is_some()
            || self.floors.of_tags(item.tags, seq).is_some()
    }

    /// Lets the index name a record that has been appended.
    ///
    /// Under a floor of its key no slot may stay. Under another floor it is named all the same: it
    /// is the winner, and the floor hides it.
    fn publish(&self, item: &Item<'_>, seq: u64, active: &Active, offset: u64) -> Outcome {
        let location = Location { ordinal: active.ordinal, position: (offset / ALIGN) as u32 };
        let (before, change) = self.index.change(item.hash.fingerprint(), |_| {
            match self.floors.of_key(item.hash, seq) {
                Some(_) => Change::Remove,
                None => Change::Put(location),
            }
        });
        if let Some((segment, _)) = before.and_then(|location| self.resolve(location)) {
            segment.remove_live();
        }
        if matches!(change, Change::Put(_)) {
            active.writer.segment().add_live(1);
        }
        let counters = &self.owner.engine.counters;
        if self.is_under_a_floor(item, seq) {
            count(&counters.superseded);
            return Outcome::Superseded;
        }
        count(&counters.inserts);
        Outcome::Stored
    }

    /// The writer for a record of this length now: of the present bucket, with enough room.
    fn writer_for<'a>(
        &self,
        active: &'a mut Option<Active>,
        now: Timestamp,
        record_len: u64,
    ) -> Result<&'a mut Active> {
        let window = self.owner.window;
        let fits = |active: &Active| {
            window.bucket_start(active.bucket) == window.bucket_start(now)
                && active.writer.fits(record_len)
        };
        if !active.as_ref().is_some_and(fits) {
            if let Some(full) = active.take() {
                self.owner.seal_later(full.writer);
            }
            self.make_room(record_len)?;
            let bucket = self.owner.bucket_start(now);
            let (ordinal, writer) = self.owner.bear(bucket, record_len)?;
            *active = Some(Active { ordinal, bucket, writer });
        }
        active.as_mut().ok_or(Error::Closed)
    }
}
