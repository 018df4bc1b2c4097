//! Figures about an open store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Store, StoreCore};
use crate::disk::Capabilities;
use crate::keyspace::KeyspaceCore;
use crate::log::LogCore;
use crate::options::NO_CAPACITY;
use crate::owner::Owner;
use crate::scrub::ScrubTotals;
use crate::sync::atomic::Ordering;
use crate::time::Timestamp;

/// Figures about a store.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// How often the store has been opened for writing.
    pub generation: u64,
    /// The engine's time.
    pub now: Timestamp,
    /// How far the wall clock is ahead by steps that are not yet believed.
    pub suspect_ms: u64,
    /// Why writing stopped, if it did.
    pub poisoned: Option<String>,
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Reads that met a damaged record.
    pub corrupt_reads: u64,
    /// Values stored.
    pub inserts: u64,
    /// Fills that came too late.
    pub superseded: u64,
    /// Invalidations, whatever their scope.
    pub invalidations: u64,
    /// Buckets dropped.
    pub buckets_dropped: u64,
    /// Segments evicted for capacity or space.
    pub segments_evicted: u64,
    /// Things in the trash whose space is not given back yet.
    pub trash_items: u64,
    /// Bytes that values still held keep from being erased or given back: of dead records, and of
    /// dropped segments.
    pub pinned_bytes: u64,
    /// Since when the first of them waits, by the engine's time.
    pub oldest_pin: Option<Timestamp>,
    /// True if one waits for longer than
    /// [`StoreBuilder::max_pin`](crate::StoreBuilder::max_pin): somebody keeps a value for too long.
    pub pins_overdue: bool,
    /// Dead records and rows whose bytes have been erased.
    pub scrubbed_records: u64,
    /// Bytes of these.
    pub scrubbed_bytes: u64,
    /// For how long the first dead record that is not erased yet has been dead, in milliseconds.
    pub scrub_lag_ms: u64,
    /// The longest that a record was dead before it was erased, in milliseconds.
    pub worst_scrub_lag_ms: u64,
    /// What the file system does with bytes that are erased.
    pub capabilities: Capabilities,
    /// Bytes of tombstone log files, the spare included.
    pub tombstone_log_bytes: u64,
    /// Bytes of ledger files, the spare included.
    pub ledger_bytes: u64,
    /// The keyspaces.
    pub keyspaces: Vec<KeyspaceStats>,
    /// The logs.
    pub logs: Vec<LogStats>,
}

/// Figures about a keyspace.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Its retention window.
    pub window_ms: u64,
    /// The width of its buckets.
    pub width_ms: u64,
    /// The most it may take on the disk, if there is a limit.
    pub capacity_bytes: Option<u64>,
    /// What it takes on the disk, the trash and tombstones included.
    pub used_bytes: u64,
    /// Keys the index names, those hidden by a tag or by everything's floor included.
    pub keys: u64,
    /// Bytes of memory the index takes.
    pub index_bytes: u64,
    /// Bytes of memory that invalidated keys and tags take, about.
    pub tombstone_memory_bytes: u64,
    /// Invalidated keys still remembered.
    pub key_tombstones: u64,
    /// Invalidated tags still remembered.
    pub tag_tombstones: u64,
    /// Keys that are denied.
    pub denied_keys: u64,
    /// Tags that are denied, those denied in all keyspaces included.
    pub denied_tags: u64,
    /// The buckets, the oldest first.
    pub buckets: Vec<BucketStats>,
}

/// Figures about a log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogStats {
    /// Its name.
    pub name: String,
    /// Its retention window.
    pub window_ms: u64,
    /// The width of its buckets.
    pub width_ms: u64,
    /// What it takes on the disk, the trash included.
    pub used_bytes: u64,
    /// Invalidated tags still remembered.
    pub tag_tombstones: u64,
    /// The buckets, the oldest first.
    pub buckets: Vec<BucketStats>,
}

/// Figures about a bucket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BucketStats {
    /// The first moment in it.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
    /// When all of it is gone.
    pub deadline: Timestamp,
    /// Segment files.
    pub segments: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Records, or blocks of rows, written.
    pub records: u64,
    /// Records the index still names; for logs the same as `records`.
    pub live: u64,
}

impl Store {
    /// Figures about the store now.
    pub fn stats(&self) -> StoreStats {
        self.shared.core.stats()
    }
}

impl StoreCore {
    fn stats(&self) -> StoreStats {
        let engine = &self.engine;
        let counters = &engine.counters;
        let side = engine.write_side().ok();
        let now = engine.trusted_now();
        let erasing = self.erasing(now);
        let pinned_since = side.and_then(|side| side.trash.pinned_since());
        let oldest_pin =
            erasing.oldest_pin.into_iter().chain(pinned_since).min().map(|since| since.min(now));
        StoreStats {
            generation: engine.generation - u64::from(engine.is_read_only()),
            now,
            suspect_ms: engine.suspect_ms(),
            poisoned: engine.poison_reason(),
            hits: counters.hits.sum(),
            misses: counters.misses.sum(),
            corrupt_reads: counters.corrupt_reads.load(Ordering::Relaxed),
            inserts: counters.inserts.load(Ordering::Relaxed),
            superseded: counters.superseded.load(Ordering::Relaxed),
            invalidations: counters.invalidations.load(Ordering::Relaxed),
            buckets_dropped: counters.buckets_dropped.load(Ordering::Relaxed),
            segments_evicted: counters.segments_evicted.load(Ordering::Relaxed),
            trash_items: side.map_or(0, |side| side.trash.len() as u64),
            pinned_bytes: side.map_or(0, |side| side.trash.pinned_bytes()) + erasing.pinned_bytes,
            oldest_pin,
            pins_overdue: oldest_pin.is_some_and(|since| now.since(since) > self.max_pin),
            scrubbed_records: erasing.totals.records,
            scrubbed_bytes: erasing.totals.bytes,
            scrub_lag_ms: erasing.lag.as_millis() as u64,
            worst_scrub_lag_ms: erasing.totals.worst_lag.max(erasing.lag).as_millis() as u64,
            capabilities: engine.capabilities.clone(),
            ledger_bytes: side.map_or(0, |side| side.ledger.bytes()),
            tombstone_log_bytes: side.map_or(0, |side| side.tombstones.bytes()),
            keyspaces: self.keyspace_cores().iter().map(keyspace_stats).collect(),
            logs: self.log_cores().iter().map(log_stats).collect(),
        }
    }
}

/// How far erasing has come in all keyspaces and logs.
#[derive(Default)]
struct Erasing {
    totals: ScrubTotals,
    pinned_bytes: u64,
    oldest_pin: Option<Timestamp>,
    lag: Duration,
}

impl StoreCore {
    fn erasing(&self, now: Timestamp) -> Erasing {
        let mut erasing = Erasing::default();
        for core in self.keyspace_cores() {
            erasing.add(&core.owner, now);
        }
        for core in self.log_cores() {
            erasing.add(&core.owner, now);
        }
        erasing
    }
}

impl Erasing {
    fn add(&mut self, owner: &Owner, now: Timestamp) {
        let totals = owner.scrubbing.totals();
        self.totals.records += totals.records;
        self.totals.bytes += totals.bytes;
        self.totals.worst_lag = self.totals.worst_lag.max(totals.worst_lag);
        // What is dead from before the store was opened has no time of its own.
        let known = owner.scrubbing.dead_since().filter(|since| since.as_millis() > 0);
        let mut dead_since = known.into_iter().collect::<Vec<_>>();
        for pinned in owner.segments().filter_map(|segment| segment.pinned()) {
            dead_since.push(pinned.dead_since);
            if pinned.held {
                self.pinned_bytes += pinned.bytes;
                self.oldest_pin = self.oldest_pin.into_iter().chain([pinned.since]).min();
            }
        }
        let lag = dead_since.into_iter().map(|since| now.since(since)).max();
        self.lag = self.lag.max(lag.unwrap_or_default());
    }
}

fn keyspace_stats(core: &Arc<KeyspaceCore>) -> KeyspaceStats {
    let manifest = core.owner.manifest();
    let floors = core.floors.counts();
    let engine = &core.owner.engine;
    let now_ms = engine.trusted_now().as_millis();
    let (here, everywhere) = (core.denials.counts(now_ms), engine.denials.counts(now_ms));
    let buckets = bucket_stats(&core.owner);
    KeyspaceStats {
        name: core.owner.name.clone(),
        window_ms: manifest.window.window_ms,
        width_ms: manifest.window.width_ms,
        capacity_bytes: Some(manifest.capacity_bytes).filter(|bytes| *bytes != NO_CAPACITY),
        used_bytes: core.used_bytes(),
        keys: buckets.iter().map(|bucket| bucket.live).sum(),
        index_bytes: core.index.memory_bytes(),
        tombstone_memory_bytes: core.floors.memory_bytes(),
        key_tombstones: floors.keys,
        tag_tombstones: floors.tags,
        denied_keys: here.keys + everywhere.keys,
        denied_tags: here.tags + everywhere.tags,
        buckets,
    }
}

fn log_stats(core: &Arc<LogCore>) -> LogStats {
    let manifest = core.owner.manifest();
    let mut buckets = bucket_stats(&core.owner);
    for bucket in &mut buckets {
        bucket.live = bucket.records;
    }
    LogStats {
        name: core.owner.name.clone(),
        window_ms: manifest.window.window_ms,
        width_ms: manifest.window.width_ms,
        used_bytes: core.owner.allocated_bytes(),
        tag_tombstones: core.floors.counts().tags,
        buckets,
    }
}

fn bucket_stats(owner: &Owner) -> Vec<BucketStats> {
    let buckets = owner.buckets.read();
    let mut stats: BTreeMap<u64, BucketStats> = BTreeMap::new();
    for (start, bucket) in buckets.iter() {
        let empty = BucketStats {
            start: *start,
            end: bucket.end,
            deadline: bucket.deadline(),
            segments: 0,
            bytes: 0,
            records: 0,
            live: 0,
        };
        stats.insert(start.as_millis(), empty);
    }
    for segment in owner.segments() {
        if let Some(bucket) = stats.get_mut(&segment.header.bucket_start_ms) {
            bucket.segments += 1;
            bucket.bytes += segment.allocated_bytes();
            bucket.records += segment.records();
            bucket.live += segment.live();
        }
    }
    stats.into_values().collect()
}
