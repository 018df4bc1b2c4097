//! Appending records of a keyspace and publishing them.
//!
//! One thread appends at a time, under the lock of the active segment; a record is visible once its
//! slot names it, which is decided under the lock of the slot's shard.

use std::sync::Arc;

use super::KeyspaceCore;
use super::stream::Spill;
use crate::engine::count;
use crate::error::{Error, Result};
use crate::format::record::{ALIGN, Draft, RecordKind};
use crate::format::segment_header::HEADER_LEN;
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

/// Where a record has been put.
#[derive(Debug)]
struct Place {
    location: Location,
    segment: Arc<Segment>,
}

impl Place {
    fn new(ordinal: u32, offset: u64, segment: &Arc<Segment>) -> Self {
        let location = Location { ordinal, position: (offset / ALIGN) as u32 };
        Self { location, segment: Arc::clone(segment) }
    }
}

/// What is to be stored.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: KeyedHash,
    pub(super) tags: &'a [KeyedHash],
    pub(super) metadata: &'a [u8],
    pub(super) expires_at: Option<Timestamp>,
    /// Empty if it lies in a part.
    pub(super) value: &'a [u8],
    pub(super) value_hash: u128,
}

/// An error if a value is longer than the keyspace's longest.
pub(super) fn check_value_len(longest: u64, len: u64) -> Result<()> {
    Error::check_limit("value length in bytes", 0, longest, len)
}

impl<'a> Item<'a> {
    /// A key and a value, checked against the limits.
    pub(super) fn plain(core: &KeyspaceCore, key: &'a [u8], value: &'a [u8]) -> Result<Self> {
        Self::hashed(core, key, value, value_hash(value))
    }

    /// The same for a value whose hash is known.
    pub(super) fn hashed(
        core: &KeyspaceCore,
        key: &'a [u8],
        value: &'a [u8],
        value_hash: u128,
    ) -> Result<Self> {
        options::check_key(key)?;
        check_value_len(core.owner.max_value_bytes(), value.len() as u64)?;
        Ok(Self {
            key,
            hash: core.owner.engine.hasher.key(key),
            tags: &[],
            metadata: &[],
            expires_at: None,
            value,
            value_hash,
        })
    }

    pub(super) fn draft(&self, seq: u64, now: Timestamp) -> Draft<'_> {
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
            listed_tags: self.tags,
        }
    }
}

impl KeyspaceCore {
    /// Stores an item that takes its number now, so that it is newer than all before.
    pub(super) fn insert(&self, item: &Item<'_>) -> Result<Outcome> {
        self.put(item, None, None).map(|(outcome, _)| outcome)
    }

    /// Stores an item, with the number of a fill if there is one, and with the value of a finished
    /// part if there is one. Gives the segment it went to.
    pub(super) fn put(
        &self,
        item: &Item<'_>,
        part: Option<&mut Spill>,
        fill: Option<&Ticket>,
    ) -> Result<(Outcome, Option<Arc<Segment>>)> {
        let engine = &self.owner.engine;
        engine.check_process()?;
        let mut active = self.active.lock();
        // Under the lock: closing waits for it, and nothing may be written after.
        engine.check_writable()?;
        let own;
        let seq = match fill {
            Some(ticket) => {
                ticket.claim(engine.clock.boot_ms())?;
                ticket.seq()
            }
            None => {
                own = engine.sequence.begin();
                own.seq()
            }
        };
        self.check_denied(item)?;
        if fill.is_some() && !self.would_win(item.hash, item.tags, seq) {
            count(&engine.counters.superseded);
            return Ok((Outcome::Superseded, None));
        }
        let now = engine.trusted_now();
        let draft = item.draft(seq, now);
        let place = match part {
            Some(part) => self.take_in(&mut active, now, part, &draft)?,
            None => {
                let active = self.writer_for(&mut active, now, draft.record_len())?;
                let offset = active.writer.append(&[draft]).map_err(|e| engine.append_failed(e))?;
                Place::new(active.ordinal, offset, active.writer.segment())
            }
        };
        let outcome = self.publish(item, seq, &place, now);
        Ok((outcome, Some(place.segment)))
    }

    /// Lets a part be a segment of the present bucket. What is appended from here on goes to newer
    /// segments, so that for one key the orders of numbers and segments agree.
    fn take_in(
        &self,
        active: &mut Option<Active>,
        now: Timestamp,
        part: &mut Spill,
        draft: &Draft<'_>,
    ) -> Result<Place> {
        self.check_ordinals()?;
        let bucket = self.owner.bucket_start(now);
        let born = self.owner.bear_whole(bucket, part.part(), draft);
        let (ordinal, writer) = born.map_err(|e| self.owner.engine.append_failed(e))?;
        // From here on the segment counts against the capacity itself.
        part.release_room();
        if let Some(full) = active.take() {
            self.owner.seal_later(full.writer);
        }
        let place = Place::new(ordinal, HEADER_LEN, writer.segment());
        self.owner.seal_later(writer);
        Ok(place)
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
        engine.check_process()?;
        let mut active = self.active.lock();
        engine.check_writable()?;
        let tickets = engine.sequence.begin_many(items.len() as u64);
        let now = engine.trusted_now();
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        let mut len = 0;
        let first_len = items.first().map_or(0, |item| item.draft(0, now).record_len());
        let active = self.writer_for(&mut active, now, first_len)?;
        for (item, seq) in items.iter().zip(tickets.seq()..) {
            self.check_denied(item)?;
            let draft = item.draft(seq, now);
            let longer = len + draft.record_len();
            if !drafts.is_empty() && (longer > BATCH_BYTES || !active.writer.fits(longer)) {
                break;
            }
            len = longer;
            drafts.push(draft);
        }
        let mut offset = active.writer.append(&drafts).map_err(|e| engine.append_failed(e))?;
        for ((item, draft), seq) in items.iter().zip(&drafts).zip(tickets.seq()..) {
            let place = Place::new(active.ordinal, offset, active.writer.segment());
            offset += draft.record_len();
            // One that is hidden already counts as superseded, and a batch has no one to tell.
            let _ = self.publish(item, seq, &place, now);
        }
        Ok(drafts.len())
    }

    /// True if a record of this number would be the winner of its key and visible. Under the append
    /// lock nothing newer can be appended meanwhile.
    pub(super) fn would_win(&self, hash: KeyedHash, tags: &[KeyedHash], seq: u64) -> bool {
        if self.is_under_a_floor(hash, tags, seq) || self.owner.left_max_seq() > seq {
            return false;
        }
        let Some(location) = self.index.get(hash.fingerprint()) else { return true };
        let Some((segment, offset)) = self.resolve(location) else { return true };
        if segment.max_seq() < seq {
            return true;
        }
        segment.read_head(offset).is_ok_and(|head| head.hash != hash || head.seq < seq)
    }

    /// An error if the key or one of the tags is denied.
    ///
    /// A denial is there before its floor takes a number. So whoever asks after taking a number
    /// either meets the denial or has a number below the floor, which hides the record. It is asked before the record
    /// is written: on the disk it would count as the newest of its key whatever its writer is told.
    pub(super) fn check_denied(&self, item: &Item<'_>) -> Result<()> {
        match self.denied_until(item.hash, item.tags) {
            Some(until) => Err(Error::Denied { until }),
            None => Ok(()),
        }
    }

    /// Up to when a key, or what carries these tags, is denied.
    pub(super) fn denied_until(&self, key: KeyedHash, tags: &[KeyedHash]) -> Option<Timestamp> {
        let engine = &self.owner.engine;
        if self.denials.is_empty() && engine.denials.is_empty() {
            return None;
        }
        let now_ms = engine.trusted_now().as_millis();
        let here = self.denials.until(Some(key), tags, now_ms);
        let everywhere = engine.denials.until(Some(key), tags, now_ms);
        here.max(everywhere).map(Timestamp::from_millis)
    }

    fn is_under_a_floor(&self, hash: KeyedHash, tags: &[KeyedHash], seq: u64) -> bool {
        self.floors.of_all(seq).is_some()
            || self.floors.of_key(hash, seq).is_some()
            || self.floors.of_tags(tags, seq).is_some()
            || self.floors.of_soft(Some(hash), tags, seq).is_some()
    }

    /// Lets the index name a record that has been put in its place.
    ///
    /// Under a floor of its key no slot may stay. Under another floor it is named all the same: it
    /// is the winner, and the floor hides it.
    fn publish(&self, item: &Item<'_>, seq: u64, place: &Place, now: Timestamp) -> Outcome {
        let (before, _) = self.index.change(item.hash.fingerprint(), |_| {
            match self.floors.of_key(item.hash, seq) {
                None => {
                    // Under the lock: whoever takes the slot away uncounts it after.
                    place.segment.add_live(1);
                    Change::Put(place.location)
                }
                Some(_) => Change::Remove,
            }
        });
        if let Some((segment, _)) = before.and_then(|location| self.resolve(location)) {
            segment.remove_live();
            self.owner.scrubbing.note_dead(now);
        }
        let counters = &self.owner.engine.counters;
        if self.is_under_a_floor(item.hash, item.tags, seq) {
            if self.floors.of_key(item.hash, seq).is_some() {
                // Raised since: whoever did so takes the slot away, but may not have come to it yet.
                self.take_slot(item.hash, place.location, &place.segment);
            }
            count(&counters.superseded);
            self.owner.scrubbing.note_dead(now);
            return Outcome::Superseded;
        }
        count(&counters.inserts);
        Outcome::Stored
    }

    /// Takes the slot away from a record, unless it names another one by now.
    pub(super) fn take_slot(&self, hash: KeyedHash, location: Location, segment: &Segment) {
        let (before, _) = self.index.change(hash.fingerprint(), |named| {
            if named == Some(location) { Change::Remove } else { Change::Keep }
        });
        if before == Some(location) {
            segment.remove_live();
        }
    }

    /// The writer for a record of this length now: of the present bucket, with enough room.
    fn writer_for<'a>(
        &self,
        active: &'a mut Option<Active>,
        now: Timestamp,
        record_len: u64,
    ) -> Result<&'a mut Active> {
        let window = self.owner.window;
        let present = window.bucket_start(now);
        let fits = |active: &Active| {
            window.bucket_start(active.bucket) == present
                // Else it was in a future that was wrong, and leaves before what is written now has to.
                && active.writer.segment().deadline() == window.deadline(present)
                && active.writer.fits(record_len)
        };
        if !active.as_ref().is_some_and(fits) {
            if let Some(full) = active.take() {
                self.owner.seal_later(full.writer);
            }
            self.check_ordinals()?;
            self.make_room_for_segment(active, record_len)?;
            let bucket = self.owner.bucket_start(now);
            let (ordinal, writer) = self.owner.bear(bucket, record_len)?;
            *active = Some(Active { ordinal, bucket, writer });
        }
        // Not `ok_or`, which makes an error and drops it again each time.
        match active {
            Some(active) => Ok(active),
            None => Err(Error::Closed),
        }
    }
}
