//! What keyspaces and logs have in common: an owner of buckets, which bears, syncs, drops and
//! evicts segments. It knows nothing of keys or rows.

mod beside;
mod birth;
mod drops;
mod erasing;
mod eviction;
mod parts;
mod sealing;
mod traces;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::parts::Parts;
use crate::bucket::Bucket;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::manifest::{KEYSPACE_MAGIC, LOG_MAGIC, OwnerManifest};
use crate::format::record::RecordKind;
use crate::format::segment_header::SegmentHeader;
use crate::format::twin::Twin;
use crate::ledger::LedgerBucket;
use crate::retention::Window;
use crate::scrub::Scrub;
use crate::segment::Segment;
use crate::segment::writer::SegmentWriter;
use crate::sync::atomic::AtomicU64;
use crate::sync::{Mutex, RwLock};
use crate::table::SharedTable;
use crate::time::Timestamp;
use crate::twin_file::TwinFile;

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
    pub(crate) table: SharedTable,
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
    /// The highest number in a segment whose eviction may not be durable.
    undurable_evicted: AtomicU64,
    /// When dead records are erased.
    pub(crate) scrubbing: Scrub,
    parts: Mutex<Parts>,
    /// Shared by those who write to files of parts.
    part_writes: RwLock<()>,
}

/// The file name and magic of an owner's manifest.
pub(crate) fn manifest_file(kind: RecordKind) -> (&'static str, [u8; 8]) {
    match kind {
        RecordKind::Blob => ("KEYSPACE", KEYSPACE_MAGIC),
        RecordKind::Rows => ("LOG", LOG_MAGIC),
    }
}

/// The newest manifest of this name in its file, with the floor that counts: it is written to both slots,
/// so that is the higher one.
pub(crate) fn newest_manifest(twin: &Twin, name: &str) -> Option<OwnerManifest> {
    let manifests = twin.slots.iter().flatten().filter_map(|slot| {
        let manifest = OwnerManifest::decode(&slot.payload).ok()?;
        (manifest.name == name).then_some((slot.counter, manifest))
    });
    let manifests: Vec<_> = manifests.collect();
    let floor = manifests.iter().map(|(_, manifest)| manifest.floor).max()?;
    let (_, newest) = manifests.into_iter().max_by_key(|(counter, _)| *counter)?;
    Some(OwnerManifest { floor, ..newest })
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
            table: SharedTable::default(),
            sealing: Mutex::default(),
            sealing_turn: Mutex::default(),
            membership: Mutex::default(),
            left_max_seq: AtomicU64::new(0),
            undurable_min_seq: AtomicU64::new(u64::MAX),
            undurable_evicted: AtomicU64::new(0),
            scrubbing: Scrub::new(),
            parts: Mutex::default(),
            part_writes: RwLock::default(),
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
        // Under the lock, for which a close waits.
        self.engine.write_side()?;
        held.0.as_mut().ok_or(Error::ReadOnly)?.overwrite_both(&manifest.encode())?;
        held.1 = manifest;
        Ok(())
    }

    /// Waits for whoever writes the manifest.
    pub(crate) fn drain_manifest(&self) {
        drop(self.manifest.lock());
    }

    /// A bucket as the ledger names it.
    pub(crate) fn in_ledger(&self, bucket: &Bucket) -> LedgerBucket {
        let (start, deadline) = (bucket.start, bucket.deadline());
        LedgerBucket { owner_id: self.id, start, kind: Some(self.kind), deadline }
    }

    /// The longest that dead records stay on the disk unless readers hold them.
    pub(crate) fn erase_within(&self) -> Duration {
        Duration::from_millis(self.manifest.lock().1.erase_within_ms)
    }

    /// True if a header is that of the segment which its file's name and place say.
    pub(crate) fn owns(&self, header: &SegmentHeader, bucket: &Bucket, number: u64) -> bool {
        header.store_id == self.engine.store_id
            && header.owner_id == self.id
            && header.kind == self.kind
            && header.number == number
            && header.bucket_start_ms == bucket.start.as_millis()
    }

    /// True if the segment has not left.
    pub(crate) fn has(&self, segment: &Segment) -> bool {
        self.table.read().by_number(segment.number()).is_some()
    }

    /// Looks while no segment or bucket comes or goes: what is moved away has left by then.
    pub(crate) fn between_moves<T>(&self, look: impl FnOnce() -> T) -> T {
        let _membership = self.membership.lock();
        look()
    }

    /// The last deadline of a bucket that holds something with a number below `seq`, or will: rows that wait may be
    /// written yet, to the present bucket at the latest.
    pub(crate) fn last_deadline(&self, seq: u64) -> Timestamp {
        // First: the bucket of whatever has been written since is there.
        let engine = &self.engine;
        let is_under_way = engine.sequence.lowest_open(engine.clock.boot_ms()) < seq;
        let present = self.bucket_start(engine.trusted_now());
        let next = if is_under_way { self.window.deadline(present) } else { Timestamp::default() };
        let buckets = self.buckets.read();
        buckets.values().map(|bucket| bucket.deadline()).max().unwrap_or_default().max(next)
    }

    /// The segment of a number.
    pub(crate) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        self.table.read().by_number(number).cloned()
    }

    /// The segments that are there now, the oldest first, without those that leave before their turn.
    ///
    /// Each is looked up when its turn comes: whoever looks at all of them holds one at a time, so that
    /// what is dropped or evicted meanwhile gives its space back.
    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = Arc<Segment>> + '_ {
        self.segments_by_ordinal().map(|(_, segment)| segment)
    }

    /// As [`Owner::segments`], each with its ordinal.
    pub(crate) fn segments_by_ordinal(
        &self,
    ) -> impl DoubleEndedIterator<Item = (u32, Arc<Segment>)> + '_ {
        let ordinals: Vec<u32> = self.table.read().iter().map(|(ordinal, _)| ordinal).collect();
        ordinals.into_iter().filter_map(|ordinal| {
            let table = self.table.read();
            let segment: &Arc<Segment> = table.get(ordinal)?;
            Some((ordinal, Arc::clone(segment)))
        })
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
        let starts = self.segments().filter_map(|segment| {
            let start = Timestamp::from_millis(segment.header.bucket_start_ms);
            (segment.deadline() == self.window.deadline(start)).then_some(start)
        });
        starts.max().unwrap_or_default()
    }
}
