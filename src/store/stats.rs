//! Figures about an open store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Store, StoreCore};
use crate::keyspace::KeyspaceCore;
use crate::log::LogCore;
use crate::options::NO_CAPACITY;
use crate::owner::Owner;
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
    /// Bytes of dropped segments that values still held keep from being given back.
    pub pinned_bytes: u64,
    /// Bytes of tombstone log files, the spare included.
    pub tombstone_log_bytes: u64,
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
    /// Invalidated keys still remembered.
    pub key_tombstones: u64,
    /// Invalidated tags still remembered.
    pub tag_tombstones: u64,
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
        StoreStats {
            generation: engine.generation - u64::from(engine.is_read_only()),
            now: engine.trusted_now(),
            suspect_ms: engine.suspect_ms(),
            poisoned: engine.poison_reason(),
            hits: counters.hits.load(Ordering::Relaxed),
            misses: counters.misses.load(Ordering::Relaxed),
            corrupt_reads: counters.corrupt_reads.load(Ordering::Relaxed),
            inserts: counters.inserts.load(Ordering::Relaxed),
            superseded: counters.superseded.load(Ordering::Relaxed),
            invalidations: counters.invalidations.load(Ordering::Relaxed),
            buckets_dropped: counters.buckets_dropped.load(Ordering::Relaxed),
            segments_evicted: counters.segments_evicted.load(Ordering::Relaxed),
            trash_items: side.map_or(0, |side| side.trash.len() as u64),
            pinned_bytes: side.map_or(0, |side| side.trash.pinned_bytes()),
            tombstone_log_bytes: side.map_or(0, |side| side.tombstones.bytes()),
            keyspaces: self.keyspace_cores().iter().map(keyspace_stats).collect(),
            logs: self.log_cores().iter().map(log_stats).collect(),
        }
    }
}

fn keyspace_stats(core: &Arc<KeyspaceCore>) -> KeyspaceStats {
    let manifest = core.owner.manifest();
    let floors = core.floors.counts();
    let buckets = bucket_stats(&core.owner);
    KeyspaceStats {
        name: core.owner.name.clone(),
        window_ms: manifest.window.window_ms,
        width_ms: manifest.window.width_ms,
        capacity_bytes: Some(manifest.capacity_bytes).filter(|bytes| *bytes != NO_CAPACITY),
        used_bytes: core.used_bytes(),
        keys: buckets.iter().map(|bucket| bucket.live).sum(),
        index_bytes: core.index.memory_bytes(),
        key_tombstones: floors.keys,
        tag_tombstones: floors.tags,
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
