//! What keyspaces and logs have in common: an owner of buckets, which bears, syncs, drops and
//! evicts segments. It knows nothing of keys or rows.

mod erasing;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::disk::{Access, Disk, write_all_at};
use crate::engine::{Engine, count};
use crate::error::{Error, Result};
use crate::format::ledger::How;
use crate::format::manifest::{KEYSPACE_MAGIC, LOG_MAGIC, OwnerManifest};
use crate::format::record::{Draft, RecordKind};
use crate::format::segment_header::{CAP_OFFSET, HEADER_LEN, SegmentHeader};
use crate::format::sidecar::Listing;
use crate::ledger::{Counts, DropNote, LedgerBucket};
use crate::pseudonym::{KEYS_FILE, KeyRing};
use crate::retention::Window;
use crate::scrub::Scrub;
use crate::segment::Segment;
use crate::segment::load::{self, LoadError};
use crate::segment::part::Part;
use crate::segment::writer::{AppendError, SegmentWriter, sidecar_path};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::table::SegmentTable;
use crate::time::Timestamp;
use crate::trash::{TrashItem, trash_name};
use crate::twin_file::TwinFile;

/// Above this many segments, new ones are made larger instead of more numerous.
const MANY_SEGMENTS: usize = 2048;
/// The largest a segment grows for being one of many.
const MAX_SEGMENT_BYTES: u64 = 4 << 30;

/// How far the start of a bucket lies behind that of the one it stands beside.
const BESIDE: Duration = Duration::from_millis(1);

/// A keyspace or a log, as what follows its records sees it.
pub(crate) trait Owned: std::fmt::Debug + Send + Sync {
    /// Its buckets.
    fn owner(&self) -> &Owner;
}

/// A keyspace's or log's buckets.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) engine: Arc<Engine>,
    pub(crate) kind: RecordKind,
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) window: Window,
    dir: PathBuf,
    /// The manifest and its file; no file if the store is read-only.
    manifest: Mutex<(Option<TwinFile>, OwnerManifest)>,
    pub(crate) buckets: RwLock<BTreeMap<Timestamp, Arc<Bucket>>>,
    pub(crate) table: RwLock<SegmentTable>,
    /// Segments that are full and wait for their sync and their sidecar.
    sealing: Mutex<Vec<SegmentWriter>>,
    /// Held by the thread that seals.
    sealing_turn: Mutex<()>,
    /// Held while segments are born or leave, so that numbers and table agree.
    membership: Mutex<()>,
    /// The highest sequence number in any segment that has left.
    left_max_seq: AtomicU64,
    /// The lowest number in a segment whose leaving may not be durable.
    undurable_min_seq: AtomicU64,
    /// When dead records are erased.
    pub(crate) scrubbing: Scrub,
    /// The numbers of values that are being written to files of their own.
    parts: Mutex<BTreeSet<u64>>,
}

/// The file name and magic of an owner's manifest.
pub(crate) fn manifest_file(kind: RecordKind) -> (&'static str, [u8; 8]) {
    match kind {
        RecordKind::Blob => ("KEYSPACE", KEYSPACE_MAGIC),
        RecordKind::Rows => ("LOG", LOG_MAGIC),
    }
}

/// The directory that holds all owners of a kind.
pub(crate) fn owners_dir(root: &Path, kind: RecordKind) -> PathBuf {
    root.join(match kind {
        RecordKind::Blob => "keyspaces",
        RecordKind::Rows => "logs",
    })
}

impl Owner {
    /// An owner without buckets; recovery adds those it finds.
    pub(crate) fn new(
        engine: Arc<Engine>,
        kind: RecordKind,
        file: Option<TwinFile>,
        manifest: OwnerManifest,
    ) -> Self {
        Self {
            dir: owners_dir(&engine.root, kind).join(&manifest.name),
            kind,
            id: manifest.owner_id,
            name: manifest.name.clone(),
            window: manifest.window,
            manifest: Mutex::new((file, manifest)),
            buckets: RwLock::default(),
            table: RwLock::new(SegmentTable::new()),
            sealing: Mutex::default(),
            sealing_turn: Mutex::default(),
            membership: Mutex::default(),
            left_max_seq: AtomicU64::new(0),
            undurable_min_seq: AtomicU64::new(u64::MAX),
            scrubbing: Scrub::new(),
            parts: Mutex::default(),
            engine,
        }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The options as stored.
    pub(crate) fn manifest(&self) -> OwnerManifest {
        self.manifest.lock().1.clone()
    }

    /// The longest value accepted.
    pub(crate) fn max_value_bytes(&self) -> u64 {
        self.manifest.lock().1.max_value_bytes
    }

    /// Changes the manifest, durably in both copies. Needs no space.
    pub(crate) fn update_manifest(&self, change: impl FnOnce(&mut OwnerManifest)) -> Result<()> {
        let mut held = self.manifest.lock();
        let mut manifest = held.1.clone();
        change(&mut manifest);
        if manifest == held.1 {
            return Ok(());
        }
        held.0.as_mut().ok_or(Error::ReadOnly)?.overwrite_both(&manifest.encode())?;
        held.1 = manifest;
        Ok(())
    }

    /// The start of the bucket that is written at this moment: the aligned one, unless its deadline
    /// was brought forward while it lay in a future that was wrong. Then it is one beside it, since
    /// what is written now must not leave before what is older.
    pub(crate) fn bucket_start(&self, at: Timestamp) -> Timestamp {
        let buckets = self.buckets.read();
        let mut start = self.window.bucket_start(at);
        let full_deadline = self.window.deadline(start);
        while buckets.get(&start).is_some_and(|bucket| bucket.deadline() < full_deadline) {
            start = start + BESIDE;
        }
        start
    }

    /// A bucket as the ledger names it.
    pub(crate) fn in_ledger(&self, bucket: &Bucket) -> LedgerBucket {
        let (start, deadline) = (bucket.start, bucket.deadline());
        LedgerBucket { owner_id: self.id, start, kind: Some(self.kind), deadline }
    }

    /// The bucket of a start, made durable on disk if it is new. The ledger says so before its
    /// directory is made; a log's bucket gets its keys before anything else.
    pub(crate) fn bucket(&self, start: Timestamp) -> Result<Arc<Bucket>> {
        if let Some(bucket) = self.buckets.read().get(&start) {
            return Ok(Arc::clone(bucket));
        }
        let mut buckets = self.buckets.write();
        if let Some(bucket) = buckets.get(&start) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = Bucket::new(&self.dir, self.window, start);
        let ledger = &self.engine.write_side()?.ledger;
        ledger.bucket_born(self.engine.trusted_now(), self.in_ledger(&bucket))?;
        let disk = &*self.engine.disk;
        match disk.create_dir(bucket.dir()) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", bucket.dir(), e));
            }
            _ => {}
        }
        if self.kind == RecordKind::Rows {
            bucket.set_keys(Some(self.first_keys(&bucket)?));
        }
        self.engine.sync_dir(&self.dir)?;
        let bucket = Arc::new(bucket);
        buckets.insert(start, Arc::clone(&bucket));
        Ok(bucket)
    }

    /// The keys of a bucket that is being made. Nothing has been said under keys that an earlier
    /// attempt may have left, so those are made anew.
    fn first_keys(&self, bucket: &Bucket) -> Result<KeyRing> {
        let disk = &*self.engine.disk;
        let path = bucket.dir().join(KEYS_FILE);
        let _ = disk.remove_file(&path);
        let keys = KeyRing::create(disk, bucket.dir()).inspect_err(|_| {
            // What was put down of them would only take room.
            let _ = disk.remove_file(&path);
        })?;
        self.engine.sync_dir(bucket.dir())?;
        Ok(keys)
    }

    /// Bears a segment in a bucket, large enough for a record of this length.
    /// The bucket is taken up under the same lock, so that it is not removed for being empty.
    pub(crate) fn bear(&self, start: Timestamp, record_len: u64) -> Result<(u32, SegmentWriter)> {
        let _membership = self.membership.lock();
        let bucket = self.bucket(start)?;
        let header = self.new_header(&bucket, self.segment_capacity(record_len))?;
        let disk = &*self.engine.disk;
        let writer = SegmentWriter::create(disk, bucket.dir(), header, &self.engine.host)?;
        let ordinal = self.table.write().push(Arc::clone(writer.segment()));
        Ok((ordinal, writer))
    }

    /// Lets a finished part be the newest segment, in this bucket, durably.
    pub(crate) fn bear_whole(
        &self,
        start: Timestamp,
        part: &mut Part,
        draft: &Draft<'_>,
    ) -> Result<(u32, SegmentWriter), AppendError> {
        let _membership = self.membership.lock();
        let bucket = self.bucket(start).map_err(AppendError::Refused)?;
        let record_len = draft.record_len_around(part.value_len() as usize);
        let header = self.new_header(&bucket, HEADER_LEN + record_len);
        let header = header.map_err(AppendError::Refused)?;
        let made = part.make_segment(bucket.dir(), header, draft, &self.engine.host);
        if let Err(AppendError::Broken(_)) = &made {
            self.note_undurable(Some(draft.seq));
        }
        let writer = made?;
        let ordinal = self.table.write().push(Arc::clone(writer.segment()));
        Ok((ordinal, writer))
    }

    /// The header of the next segment.
    fn new_header(&self, bucket: &Bucket, capacity: u64) -> Result<SegmentHeader> {
        let mut salt = [0; 8];
        let disk = &*self.engine.disk;
        disk.fill_random(&mut salt)
            .map_err(|e| Error::io("read randomness for", bucket.dir(), e))?;
        Ok(SegmentHeader {
            store_id: self.engine.store_id,
            owner_id: self.id,
            number: self.engine.next_number(),
            generation: self.engine.generation,
            kind: self.kind,
            salt: u64::from_le_bytes(salt),
            bucket_start_ms: bucket.start.as_millis(),
            bucket_end_ms: bucket.end.as_millis(),
            deadline_ms: bucket.deadline().as_millis(),
            capacity,
        })
    }

    /// The length a segment for a record of this length may grow to.
    pub(crate) fn segment_capacity(&self, record_len: u64) -> u64 {
        let base = self.manifest.lock().1.segment_bytes;
        let crowd = self.table.read().len() / MANY_SEGMENTS;
        let grown = base.saturating_mul(1 << crowd.min(10)).min(MAX_SEGMENT_BYTES.max(base));
        grown.max(HEADER_LEN + record_len)
    }

    /// Takes over a full segment until it is sealed.
    pub(crate) fn seal_later(&self, writer: SegmentWriter) {
        self.sealing.lock().push(writer);
    }

    /// Seals what waits for it, also what another thread has begun to seal. After a failure writing
    /// is poisoned.
    pub(crate) fn seal_waiting(&self) -> Result<()> {
        let _turn = self.sealing_turn.lock();
        loop {
            // The list is free while a file is synced, so that appending is not held up.
            let Some(writer) = self.sealing.lock().pop() else { return Ok(()) };
            if self.table.read().by_number(writer.segment().number()).is_none() {
                continue;
            }
            writer.seal(&*self.engine.disk).map_err(|e| self.engine.poison(e))?;
        }
    }

    /// The records of a segment that is not being appended to.
    pub(crate) fn listing(&self, segment: &Segment) -> Result<Listing> {
        let sealing = self.sealing.lock();
        let waiting = sealing.iter().find(|writer| writer.segment().number() == segment.number());
        if let Some(writer) = waiting {
            return Ok(writer.listing().clone());
        }
        drop(sealing);
        match load::load(&*self.engine.disk, segment.path()) {
            Ok(loaded) => Ok(loaded.listing),
            Err(LoadError::Failed(e)) if !e.is_not_found() => Err(e),
            Err(_) => Ok(Listing::default()),
        }
    }

    /// The longest that dead records stay on the disk unless readers hold them.
    pub(crate) fn erase_within(&self) -> Duration {
        Duration::from_millis(self.manifest.lock().1.erase_within_ms)
    }

    /// True if what has a number up to `seq` may still be on the disk: in segments with a number below
    /// the other one, in the trash, or out of sight.
    pub(crate) fn may_hold(&self, seq: u64, segments_below: u64) -> bool {
        // Under the lock: whatever leaves is in the table or in the trash.
        let _membership = self.membership.lock();
        self.is_out_of_sight(seq)
            || self.table.read().iter().next().is_some_and(|(_, s)| s.number() < segments_below)
            || self.engine.trash().is_some_and(|trash| trash.holds(self.id))
    }

    /// True if all that had a number up to `seq`, and that this pass or one before it had to find, has
    /// been overwritten.
    pub(crate) fn has_scrubbed(&self, seq: u64, pass: u64) -> bool {
        // In this order: what a pass finds waits before the pass is complete, and what leaves since
        // is in the trash for whoever has waited for the lock.
        let is_done = |segment: &Segment| segment.pinned().is_none_or(|waits| waits.pass > pass);
        if self.scrubbing.complete() < pass || !self.segments().iter().all(|s| is_done(s)) {
            return false;
        }
        let _membership = self.membership.lock();
        !self.is_out_of_sight(seq) && self.trash_is_scrubbed(pass)
    }

    /// True if something with a number up to this one may lie in a file that could not be taken up, or
    /// whose leaving may not be durable, or in that of a value which is being written.
    fn is_out_of_sight(&self, seq: u64) -> bool {
        self.undurable_min_seq.load(Ordering::Acquire) <= seq
            || self.parts.lock().first().is_some_and(|first| *first <= seq)
    }

    /// Notes that a value with this number has, or no longer has, a file of its own.
    pub(crate) fn note_part(&self, seq: u64, is_there: bool) {
        let mut parts = self.parts.lock();
        if is_there {
            parts.insert(seq)
        } else {
            parts.remove(&seq)
        };
    }

    /// Looks while no sidecar is written.
    pub(crate) fn between_sealings<T>(&self, look: impl FnOnce() -> T) -> T {
        let _turn = self.sealing_turn.lock();
        look()
    }

    /// True if the segment has not left.
    pub(crate) fn has(&self, segment: &Segment) -> bool {
        self.table.read().by_number(segment.number()).is_some()
    }

    /// The last deadline of a bucket.
    pub(crate) fn last_deadline(&self) -> Timestamp {
        let buckets = self.buckets.read();
        buckets.values().map(|bucket| bucket.deadline()).max().unwrap_or_default()
    }

    /// The segment of a number.
    pub(crate) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        self.table.read().by_number(number).cloned()
    }

    /// All segments, the oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.table.read().iter().map(|(_, segment)| Arc::clone(segment)).collect()
    }

    /// The buckets whose deadline has passed at `now`, in the order in which they must leave: that
    /// of their segments, so that no older version is uncovered in between.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<Arc<Bucket>> {
        let buckets = self.buckets.read();
        let mut expired: Vec<_> =
            buckets.values().filter(|bucket| bucket.deadline() <= now).cloned().collect();
        let table = self.table.read();
        expired.sort_by_key(|bucket| {
            let start_ms = bucket.start.as_millis();
            let mut segments = table.iter().map(|(_, segment)| segment);
            let first = segments.find(|segment| segment.header.bucket_start_ms == start_ms);
            first.map_or(0, |segment| segment.number())
        });
        expired
    }

    /// Drops a bucket: when this returns, its leaving is durable, and its space is the reaper's.
    ///
    /// The caller has made the engine time durable, and lets nobody write into the bucket. `counts`
    /// say what was in it if its segments were not taken up.
    pub(crate) fn drop_bucket(&self, bucket: &Bucket, counts: Option<Counts>) -> Result<()> {
        let side = self.engine.write_side()?;
        let _membership = self.membership.lock();
        let name = bucket.start.compact();
        let instance = self.engine.next_number();
        let to = side.trash.dir().join(trash_name(self.id, &name, instance));
        let moved = self.engine.disk.rename(bucket.dir(), &to);
        if let Err(e) = moved {
            return Err(Error::io("rename", bucket.dir(), e));
        }
        let in_bucket =
            |segment: &Segment| segment.header.bucket_start_ms == bucket.start.as_millis();
        self.sealing.lock().retain(|writer| !in_bucket(writer.segment()));
        let gone = self.table.write().remove_if(in_bucket);
        bucket.set_keys(None);
        self.buckets.write().remove(&bucket.start);
        let scrubbed_through = self.note_left(&gone);
        let bytes = gone.iter().map(|segment| segment.allocated_bytes()).sum();
        let records = gone.iter().map(|segment| segment.records()).sum();
        let min_seq = gone.iter().map(|segment| segment.min_seq()).min();
        let dirs = [side.trash.dir().to_owned(), self.dir.clone()];
        let synced = dirs.iter().try_for_each(|dir| self.engine.sync_dir(dir));
        let (owner_id, segments) = (self.id, gone);
        side.trash.push(TrashItem { path: to, owner_id, bytes, segments, scrubbed_through });
        count(&self.engine.counters.buckets_dropped);
        let counted = Counts { records: Some(records), bytes: Some(bytes) };
        let note = DropNote {
            bucket: self.in_ledger(bucket),
            how: How::Witnessed,
            instance,
            counts: counts.unwrap_or(counted),
            unsynced: if synced.is_ok() { Vec::new() } else { dirs.into() },
        };
        side.ledger.bucket_dropped(self.engine.trusted_now(), note);
        synced.inspect_err(|_| self.note_undurable(min_seq))
    }

    /// Evicts the oldest segment, durably; false if there is none. It must not be written to.
    pub(crate) fn evict_oldest(&self) -> Result<bool> {
        let side = self.engine.write_side()?;
        let _membership = self.membership.lock();
        let oldest = self.table.read().iter().next().map(|(_, segment)| Arc::clone(segment));
        let Some(segment) = oldest else { return Ok(false) };
        self.sealing.lock().retain(|writer| writer.segment().number() != segment.number());
        let to = side.trash.dir().join(trash_name(self.id, "segment", segment.number()));
        let disk = &self.engine.disk;
        disk.rename(segment.path(), &to).map_err(|e| Error::io("rename", segment.path(), e))?;
        let gone = self.table.write().remove_if(|other| other.number() == segment.number());
        let scrubbed_through = self.note_left(&gone);
        let bucket_dir = segment.path().parent().unwrap_or(&self.dir);
        let synced =
            self.engine.sync_dir(side.trash.dir()).and_then(|()| self.engine.sync_dir(bucket_dir));
        let _ = disk.remove_file(&sidecar_path(segment.path()));
        let (bytes, min_seq) = (segment.file_bytes(), segment.min_seq());
        drop(segment);
        let (owner_id, segments) = (self.id, gone);
        side.trash.push(TrashItem { path: to, owner_id, bytes, segments, scrubbed_through });
        count(&self.engine.counters.segments_evicted);
        synced.inspect_err(|_| self.note_undurable(Some(min_seq)))?;
        Ok(true)
    }

    /// Moves a segment file that was not taken up to the trash, durably. A floor hides all of it.
    pub(crate) fn discard(&self, number: u64, path: &Path) -> Result<()> {
        let side = self.engine.write_side()?;
        let to = side.trash.dir().join(trash_name(self.id, "segment", number));
        self.engine.disk.rename(path, &to).map_err(|e| Error::io("rename", path, e))?;
        let _ = self.engine.disk.remove_file(&sidecar_path(path));
        side.trash.push(TrashItem {
            path: to,
            owner_id: self.id,
            bytes: 0,
            segments: Vec::new(),
            scrubbed_through: 0,
        });
        self.engine.sync_dir(side.trash.dir())?;
        self.engine.sync_dir(path.parent().unwrap_or(&self.dir))
    }

    /// Removes the directories of keyspace buckets that hold no segment any more and that nothing
    /// will be written to.
    pub(crate) fn remove_empty_buckets(&self, now: Timestamp) {
        let _membership = self.membership.lock();
        let current = self.window.bucket_start(now);
        let held: BTreeSet<u64> =
            self.segments().iter().map(|segment| segment.header.bucket_start_ms).collect();
        let Ok(side) = self.engine.write_side() else { return };
        self.buckets.write().retain(|start, bucket| {
            let empty = self.kind == RecordKind::Blob
                && *start < current
                && !held.contains(&start.as_millis());
            let removed = empty && self.engine.disk.remove_dir(bucket.dir()).is_ok();
            if removed {
                let note = DropNote {
                    bucket: self.in_ledger(bucket),
                    how: How::Emptied,
                    instance: 0,
                    counts: Counts { records: Some(0), bytes: Some(0) },
                    unsynced: vec![self.dir.clone()],
                };
                side.ledger.drop_found(now, note);
            }
            !removed
        });
    }

    /// Brings forward the deadlines of buckets that start after this moment, durably in the headers
    /// of their segments. The new deadline is not after that of any bucket born from now on, so
    /// older segments still leave first.
    pub(crate) fn lower_deadlines(&self, now: Timestamp) -> Result<()> {
        let deadline = self.window.deadline(self.window.bucket_start(now));
        let later: Vec<Arc<Bucket>> =
            self.buckets.read().range(now..).map(|(_, bucket)| Arc::clone(bucket)).collect();
        for bucket in later {
            let in_bucket = |segment: &&Arc<Segment>| {
                segment.header.bucket_start_ms == bucket.start.as_millis()
            };
            let segments = self.segments();
            let segments: Vec<_> = segments.iter().filter(in_bucket).collect();
            if segments.is_empty() {
                // Its directory alone could not say the new deadline.
                self.drop_bucket(&bucket, None)?;
                continue;
            }
            for segment in segments {
                write_deadline(&*self.engine.disk, segment, deadline)?;
            }
            bucket.lower_deadline(deadline);
        }
        Ok(())
    }

    /// Bytes on the disk that count against the capacity: live segments and what is in the trash.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        let table = self.table.read();
        let live: u64 = table.iter().map(|(_, segment)| segment.allocated_bytes()).sum();
        live + self.engine.write_side().map_or(0, |side| side.trash.bytes(self.id))
    }

    /// The start of the newest bucket that holds anything, those apart whose deadline was brought
    /// forward since they lie in a future that was wrong.
    pub(crate) fn newest_start(&self) -> Timestamp {
        let starts = self.segments().into_iter().filter_map(|segment| {
            let start = Timestamp::from_millis(segment.header.bucket_start_ms);
            (segment.deadline() == self.window.deadline(start)).then_some(start)
        });
        starts.max().unwrap_or_default()
    }

    /// No record of this owner that is on the disk has a lower number.
    pub(crate) fn min_seq(&self) -> u64 {
        let table = self.table.read();
        let live = table.iter().map(|(_, segment)| segment.min_seq()).min();
        live.unwrap_or(u64::MAX).min(self.undurable_min_seq.load(Ordering::Acquire))
    }

    /// The highest number in any segment that has left.
    pub(crate) fn left_max_seq(&self) -> u64 {
        self.left_max_seq.load(Ordering::Acquire)
    }

    /// Notes that segments have left; gives the pass of scrubbing through which they had been erased.
    fn note_left(&self, gone: &[Arc<Segment>]) -> u64 {
        let highest = gone.iter().map(|segment| segment.max_seq()).max().unwrap_or(0);
        self.left_max_seq.fetch_max(highest, Ordering::AcqRel);
        let waiting = gone.iter().filter_map(|segment| segment.pinned());
        let passes = waiting.map(|pinned| pinned.pass.saturating_sub(1));
        passes.fold(self.scrubbing.complete(), u64::min)
    }

    /// Notes that something may still be on the disk whose lowest number is this one.
    pub(crate) fn note_undurable(&self, min_seq: Option<u64>) {
        self.undurable_min_seq.fetch_min(min_seq.unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}

fn write_deadline(disk: &dyn Disk, segment: &Segment, deadline: Timestamp) -> Result<()> {
    let path = segment.path();
    let file = disk.open(path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))?;
    let bytes = segment.header.encode_cap(deadline.as_millis());
    write_all_at(&*file, &mut [IoSlice::new(&bytes)], CAP_OFFSET)
        .map_err(|e| Error::io("write", path, e.source))?;
    file.sync_data().map_err(|e| Error::io("sync", path, e))?;
    segment.lower_deadline(deadline);
    Ok(())
}
