//! What keyspaces and logs have in common: an owner of buckets, which bears, syncs, drops and
//! evicts segments. It knows nothing of keys or rows.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bucket::Bucket;
use crate::disk::{Access, Disk, write_all_at};
use crate::engine::{Engine, count};
use crate::error::{Error, Result};
use crate::format::manifest::{KEYSPACE_MAGIC, LOG_MAGIC, OwnerManifest};
use crate::format::record::RecordKind;
use crate::format::segment_header::{CAP_OFFSET, HEADER_LEN, SegmentHeader};
use crate::format::sidecar::SidecarEntry;
use crate::pseudonym::{KEYS_FILE, KeyRing};
use crate::retention::Window;
use crate::segment::Segment;
use crate::segment::load::{self, LoadError};
use crate::segment::writer::{SegmentWriter, sidecar_path};
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

    /// The bucket of a start, made durable on disk if it is new. A log's bucket gets its keys
    /// before anything else.
    pub(crate) fn bucket(&self, start: Timestamp) -> Result<Arc<Bucket>> {
        if let Some(bucket) = self.buckets.read().get(&start) {
            return Ok(Arc::clone(bucket));
        }
        let mut buckets = self.buckets.write();
        if let Some(bucket) = buckets.get(&start) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = Bucket::new(&self.dir, self.window, start);
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
        let capacity = self.segment_capacity(record_len);
        let mut salt = [0; 8];
        let disk = &*self.engine.disk;
        disk.fill_random(&mut salt)
            .map_err(|e| Error::io("read randomness for", bucket.dir(), e))?;
        let header = SegmentHeader {
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
        };
        let writer = SegmentWriter::create(disk, bucket.dir(), header, &self.engine.host)?;
        let ordinal = self.table.write().push(Arc::clone(writer.segment()));
        Ok((ordinal, writer))
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

    /// Where the records of a segment are that is not being appended to.
    pub(crate) fn entries(&self, segment: &Segment) -> Result<Vec<SidecarEntry>> {
        let sealing = self.sealing.lock();
        let waiting = sealing.iter().find(|writer| writer.segment().number() == segment.number());
        if let Some(writer) = waiting {
            return Ok(writer.entries().to_vec());
        }
        drop(sealing);
        match load::load(&*self.engine.disk, segment.path()) {
            Ok(loaded) => Ok(loaded.entries),
            Err(LoadError::Failed(e)) if !e.is_not_found() => Err(e),
            Err(_) => Ok(Vec::new()),
        }
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
    /// The caller has made the engine time durable, and lets nobody write into the bucket.
    pub(crate) fn drop_bucket(&self, bucket: &Bucket) -> Result<()> {
        let side = self.engine.write_side()?;
        let _membership = self.membership.lock();
        let name = bucket.start.compact();
        let to = side.trash.dir().join(trash_name(self.id, &name, self.engine.next_number()));
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
        self.note_left(&gone);
        let bytes = gone.iter().map(|segment| segment.allocated_bytes()).sum();
        let min_seq = gone.iter().map(|segment| segment.min_seq()).min();
        let synced =
            self.engine.sync_dir(side.trash.dir()).and_then(|()| self.engine.sync_dir(&self.dir));
        side.trash.push(TrashItem { path: to, owner_id: self.id, bytes, segments: gone });
        count(&self.engine.counters.buckets_dropped);
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
        self.note_left(&gone);
        let bucket_dir = segment.path().parent().unwrap_or(&self.dir);
        let synced =
            self.engine.sync_dir(side.trash.dir()).and_then(|()| self.engine.sync_dir(bucket_dir));
        let _ = disk.remove_file(&sidecar_path(segment.path()));
        let (bytes, min_seq) = (segment.allocated_bytes(), segment.min_seq());
        drop(segment);
        side.trash.push(TrashItem { path: to, owner_id: self.id, bytes, segments: gone });
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
        side.trash.push(TrashItem { path: to, owner_id: self.id, bytes: 0, segments: Vec::new() });
        self.engine.sync_dir(side.trash.dir())?;
        self.engine.sync_dir(path.parent().unwrap_or(&self.dir))
    }

    /// Removes the directories of keyspace buckets that hold no segment any more and that nothing
    /// will be written to.
    pub(crate) fn remove_empty_buckets(&self, now: Timestamp) {
        let _membership = self.membership.lock();
        let current = self.window.bucket_start(now);
        let held: Vec<u64> =
            self.segments().iter().map(|segment| segment.header.bucket_start_ms).collect();
        self.buckets.write().retain(|start, bucket| {
            let empty = self.kind == RecordKind::Blob
                && *start < current
                && !held.contains(&start.as_millis());
            !(empty && self.engine.disk.remove_dir(bucket.dir()).is_ok())
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
                self.drop_bucket(&bucket)?;
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

    fn note_left(&self, gone: &[Arc<Segment>]) {
        let highest = gone.iter().map(|segment| segment.max_seq()).max().unwrap_or(0);
        self.left_max_seq.fetch_max(highest, Ordering::AcqRel);
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
