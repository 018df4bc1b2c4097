//! The ledger: an append-only chain of entries that says what was forgotten, when, and how much.
//!
//! It holds no personal data: no keys, tags, pseudonyms or contents, nor hashes of them. An entry
//! is durable before a bucket's directory is made; of a drop, the entry follows and never holds the
//! drop back: it waits in memory, and what waits is found again by the next open. So is a drop of which
//! nobody knows whether a power cut would take it back, since a sync of it failed.

mod append;
mod entry;
mod found;
mod proof;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use entry::{
    CheckpointCause, DropCause, InvalidatedScope, LedgerEntry, LedgerHead, LedgerKind,
};
pub(crate) use found::{BucketId, FoundLedger, OpenBucket, Place, Tally, read_ledger};
pub use proof::{LATENESS_KEPT, OwnerProof, RetentionProof, RetentionVerdict};
pub(crate) use proof::{LiveBucket, Prover};

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::ledger::{EntryFields, EntryKind, How, LedgerMark, NOT_COUNTED};
use crate::format::record::RecordKind;
use crate::format::tombstone::TombstoneScope;
use crate::spare::Spare;
use crate::state::StateFile;
use crate::sync::Mutex;
use crate::time::Timestamp;
use writer::{Queued, Writer};

/// What a [`Ledger`] is made from.
#[derive(Debug)]
pub(crate) struct LedgerParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) state: Arc<StateFile>,
    pub(crate) store_id: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) file_len: u64,
    /// For how long entries are kept.
    pub(crate) retention: Duration,
}

/// The ledger, open for appending.
#[derive(Debug)]
pub(crate) struct Ledger {
    parts: LedgerParts,
    spare: Spare,
    writer: Mutex<Writer>,
    /// Sequence numbers of invalidations that are not written down yet, by scope.
    floors: Mutex<[Vec<u64>; 3]>,
}

/// A bucket in an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LedgerBucket {
    pub(crate) owner_id: u64,
    pub(crate) start: Timestamp,
    /// The kind of its owner, if that is known.
    pub(crate) kind: Option<RecordKind>,
    pub(crate) deadline: Timestamp,
}

/// How much there was, as far as it was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) records: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

/// A drop of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct DropNote {
    pub(crate) bucket: LedgerBucket,
    pub(crate) how: How,
    /// The number in the name it has in the trash; 0 if it was not moved there.
    pub(crate) instance: u64,
    pub(crate) counts: Counts,
    /// Directories that are still to be synced before the drop is certain.
    pub(crate) unsynced: Vec<PathBuf>,
}

/// Something else worth an entry; it shares the next sync.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A keyspace or log was made.
    OwnerMade { owner_id: u64, kind: RecordKind, found: bool },
    /// A bucket's directory is there, and no entry of its birth.
    BucketFound(LedgerBucket),
    /// Readers let go of so many segments of a dropped bucket, the last that were held.
    Released { owner_id: u64, start: Timestamp, instance: u64, segments: u64, bytes: u64 },
    /// The keys of a dropped bucket are gone.
    KeysDestroyed { owner_id: u64, start: Timestamp, instance: u64, found: bool },
    /// Records were made unreadable in place.
    Scrubbed { owner_id: u64, start: Timestamp, records: u64, bytes: u64 },
    /// The wall clock is ahead by steps that are not believed.
    ClockSuspect { ahead_ms: u64 },
}

impl LedgerBucket {
    pub(crate) fn id(&self) -> BucketId {
        (self.owner_id, self.start.as_millis())
    }

    fn entry(&self, kind: EntryKind, how: How, at: Timestamp) -> EntryFields {
        let detail = how.detail(self.kind.map_or(0, |kind| kind as u8));
        EntryFields {
            owner_id: self.owner_id,
            start_ms: self.start.as_millis(),
            deadline_ms: self.deadline.as_millis(),
            ..EntryFields::new(kind, detail, at.as_millis())
        }
    }
}

impl Event {
    fn entry(self, at: Timestamp) -> EntryFields {
        let at_ms = at.as_millis();
        let new = |kind, detail| EntryFields::new(kind, detail, at_ms);
        let how = |found| if found { How::FoundAtOpen } else { How::Witnessed };
        match self {
            Self::OwnerMade { owner_id, kind, found } => {
                EntryFields { owner_id, ..new(EntryKind::Owner, how(found).detail(kind as u8)) }
            }
            Self::BucketFound(bucket) => bucket.entry(EntryKind::Born, How::FoundAtOpen, at),
            Self::Released { owner_id, start, instance, segments, bytes } => EntryFields {
                owner_id,
                start_ms: start.as_millis(),
                instance,
                records: segments,
                bytes,
                ..new(EntryKind::Released, 0)
            },
            Self::KeysDestroyed { owner_id, start, instance, found } => EntryFields {
                owner_id,
                start_ms: start.as_millis(),
                instance,
                ..new(EntryKind::KeysDestroyed, how(found).detail(RecordKind::Rows as u8))
            },
            Self::Scrubbed { owner_id, start, records, bytes } => EntryFields {
                owner_id,
                start_ms: start.as_millis(),
                records,
                bytes,
                ..new(EntryKind::Scrubbed, 0)
            },
            Self::ClockSuspect { ahead_ms } => {
                EntryFields { records: ahead_ms, ..new(EntryKind::ClockSuspect, 0) }
            }
        }
    }
}

impl Ledger {
    /// Goes on with what was found. What was not durable for certain is written once more, what was
    /// never acknowledged becomes zeros, and a broken chain is left as it is: a new file goes on.
    pub(crate) fn open(
        parts: LedgerParts,
        found: FoundLedger,
        tally: &Tally,
        now: Timestamp,
    ) -> Result<Self> {
        let spare = Spare::new(Arc::clone(&parts.disk), parts.dir.clone(), parts.file_len);
        let writer = Writer::take_up(&parts, found, tally)?;
        let ledger = Self { parts, spare, writer: Mutex::new(writer), floors: Mutex::default() };
        let mut writer = ledger.writer.lock();
        let begun = ledger.begin_after_break(&mut writer, now.as_millis());
        let begun = begun.and_then(|()| ledger.name_durably(&mut writer));
        drop(writer);
        // A full disk is no reason not to open.
        match begun.and_then(|()| ledger.ensure_spare()) {
            Err(Error::NoSpace { .. }) => Ok(ledger),
            other => other.map(|()| ledger),
        }
    }

    /// Makes sure that the next file waits.
    pub(crate) fn ensure_spare(&self) -> Result<()> {
        let _writer = self.writer.lock();
        self.spare.ensure()
    }

    /// Writes down that a bucket is about to be made; when this returns well, that is durable.
    /// While a bucket is open, further births of it add nothing.
    pub(crate) fn bucket_born(&self, at: Timestamp, bucket: LedgerBucket) -> Result<()> {
        let mut writer = self.writer.lock();
        self.sync_drops(&mut writer);
        if writer.open.contains_key(&bucket.id()) && !writer.leaving().contains(&bucket.id()) {
            // Of one that left uncertainly the birth still stands.
            writer.uncertain.remove(&bucket.id());
            return Ok(());
        }
        let entry = bucket.entry(EntryKind::Born, How::Witnessed, at);
        self.flush_with(&mut writer, Some(entry))
    }

    /// Writes down that a bucket has left. If that fails it is tried again with the next entries.
    pub(crate) fn bucket_dropped(&self, at: Timestamp, note: DropNote) {
        let mut writer = self.writer.lock();
        writer.queue_drop(at, note);
        // The entry waits; the drop is done.
        let _ = self.flush_with(&mut writer, None);
    }

    /// Notes that a bucket has left, but that a sync failed: no entry says so before the next opening
    /// has found out.
    pub(crate) fn dropped_uncertainly(&self, bucket: LedgerBucket) {
        self.writer.lock().uncertain.insert(bucket.id());
    }

    /// Takes a drop up that is written with the next entries.
    pub(crate) fn drop_found(&self, at: Timestamp, note: DropNote) {
        self.writer.lock().queue_drop(at, note);
    }

    /// Takes an event up that is written with the next entries.
    pub(crate) fn note(&self, at: Timestamp, event: Event) {
        let mut writer = self.writer.lock();
        let fields = event.entry(at);
        if let Event::BucketFound(bucket) = event {
            let file = writer.newest;
            let (deadline_ms, detail) = (fields.deadline_ms, fields.detail);
            let open = OpenBucket { file, deadline_ms, detail, born_by: 0 };
            writer.open.insert(bucket.id(), open);
        }
        writer.queue.push(Queued { fields, unsynced: Vec::new() });
    }

    /// Notes that the wall clock is ahead by so much; only what is more than before is written.
    pub(crate) fn note_clock(&self, at: Timestamp, ahead_ms: u64) {
        let mut writer = self.writer.lock();
        let before = std::mem::replace(&mut writer.suspect_ms, ahead_ms);
        drop(writer);
        if ahead_ms > before {
            self.note(at, Event::ClockSuspect { ahead_ms });
        }
    }

    /// Sets how far ahead the wall clock was known to be when the store was left.
    pub(crate) fn resume_clock(&self, ahead_ms: u64) {
        let mut writer = self.writer.lock();
        writer.suspect_ms = writer.suspect_ms.min(ahead_ms);
    }

    /// Counts an invalidation whose tombstone is durable. Its number is still under way.
    pub(crate) fn invalidated(&self, scope: TombstoneScope, floor: u64) {
        if let Some(floors) = self.floors.lock().get_mut(scope as usize - 1) {
            floors.push(floor);
        }
    }

    /// Writes down how many invalidations there were, of those whose numbers lie below this one:
    /// no number below it is under way any more. Whatever lies above is counted later, or by the
    /// next open from the tombstone log.
    pub(crate) fn settle(&self, at: Timestamp, lowest_open: u64) -> Result<()> {
        let mut writer = self.writer.lock();
        let through = lowest_open.saturating_sub(1);
        for (scope, floors) in self.floors.lock().iter_mut().enumerate() {
            let settled = floors.extract_if(.., |floor| *floor <= through).count() as u64;
            writer.queue_count(at, scope as u8 + 1, settled, through);
        }
        self.flush_with(&mut writer, None)?;
        if !writer.queue.iter().any(|queued| queued.fields.kind == EntryKind::Invalidated) {
            writer.through = through;
        }
        Ok(())
    }

    /// All invalidations with numbers below this one are written down, if there were any.
    pub(crate) fn counted_below(&self) -> u64 {
        self.writer.lock().through.saturating_add(1)
    }

    /// Counts the invalidations that the last process had no time to write down: as `counts` says
    /// for each scope, up to a number that is above all of them.
    pub(crate) fn recount(&self, at: Timestamp, counts: [u64; 3], through: u64) {
        let mut writer = self.writer.lock();
        for (scope, count) in counts.into_iter().enumerate() {
            writer.queue_count(at, scope as u8 + 1, count, through);
        }
    }

    /// Writes what waits, under one sync; nothing if nothing waits.
    pub(crate) fn flush(&self) -> Result<()> {
        self.flush_with(&mut self.writer.lock(), None)
    }

    /// Writes what waits and takes no more. When this returns well, nothing stands behind the last
    /// entry.
    pub(crate) fn close(&self, now: Timestamp) -> Result<()> {
        let mut writer = self.writer.lock();
        let flushed = self.flush_with(&mut writer, None);
        let begun = self.begin_after_break(&mut writer, now.as_millis());
        writer.closed = true;
        flushed.and(begun)
    }

    /// Buckets that were born and have not left.
    pub(crate) fn open_buckets(&self) -> Vec<(BucketId, OpenBucket)> {
        self.writer.lock().still_open(..)
    }

    /// The starts of those of an owner.
    pub(crate) fn open_of(&self, owner_id: u64) -> Vec<Timestamp> {
        let open = self.writer.lock().still_open((owner_id, 0)..=(owner_id, u64::MAX));
        open.into_iter().map(|((_, start_ms), _)| Timestamp::from_millis(start_ms)).collect()
    }

    /// The newest durable entry.
    pub(crate) fn head(&self) -> LedgerHead {
        let head = self.writer.lock().head;
        LedgerHead { number: head.number, hash: head.hash }
    }

    /// Reads all of it from the disk while nothing is written, so that every byte can be judged.
    pub(crate) fn read(
        &self,
        visit: &mut dyn FnMut(u64, &crate::format::ledger::ChainedEntry),
    ) -> Result<FoundLedger> {
        let writer = self.writer.lock();
        let place = Place {
            disk: &*self.parts.disk,
            dir: &self.parts.dir,
            store_id: self.parts.store_id,
            known: Some(writer.mark()),
            exact: writer.is_settled(),
        };
        read_ledger(place, visit)
    }

    /// Bytes the files take, the spare included.
    pub(crate) fn bytes(&self) -> u64 {
        let files = self.writer.lock().files();
        (files + 1) * self.parts.file_len
    }

    /// Deletes the oldest files whose entries are all past their time. What is open in them is
    /// carried into the newest file first.
    pub(crate) fn expire(&self, now: Timestamp) -> Result<()> {
        let mut writer = self.writer.lock();
        while let Some(oldest) = writer.expired(now, self.parts.retention) {
            let carried = writer.carried(oldest, now);
            if !carried.is_empty() {
                let (written, result) = self.write_all(&mut writer, &carried);
                result?;
                debug_assert_eq!(written, carried.len());
            }
            self.forget_file(&mut writer, oldest)?;
        }
        Ok(())
    }
}

impl DropNote {
    fn entry(&self, at: Timestamp) -> EntryFields {
        EntryFields {
            instance: self.instance,
            records: self.counts.records.unwrap_or(NOT_COUNTED),
            bytes: self.counts.bytes.unwrap_or(NOT_COUNTED),
            ..self.bucket.entry(EntryKind::Dropped, self.how, at)
        }
    }
}

/// What STATE says of a ledger of which only these files are left, if it is lost itself.
pub(crate) fn mark_of(found: &FoundLedger) -> LedgerMark {
    let numbers = || found.files.iter().map(|file| file.number);
    let head = found.head.unwrap_or(scan::Head { number: 0, hash: [0; 32] });
    LedgerMark {
        oldest: numbers().min().unwrap_or(1),
        newest: numbers().max().unwrap_or(0),
        number: head.number,
        hash: head.hash,
    }
}
