//! What keeps a log in shape: syncing, sealing, dropping, and listing its blocks.

use std::sync::Arc;

use super::LogCore;
use crate::error::Result;
use crate::format::sidecar::SidecarEntry;
use crate::owner::Owner;
use crate::segment::Segment;
use crate::time::Timestamp;

impl LogCore {
    /// Makes all rows written before durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let engine = &self.owner.engine;
        engine.check_writable()?;
        // In this order: what is active now is either synced here or waits to be sealed by then.
        let active: Vec<Arc<Segment>> = {
            let writers = self.writers.lock();
            writers.values().map(|writer| Arc::clone(writer.segment())).collect()
        };
        for segment in active {
            segment.sync().map_err(|e| engine.poison(e))?;
        }
        self.owner.seal_waiting()
    }

    /// Seals everything, so that the next open need not walk it.
    pub(crate) fn seal_all(&self) -> Result<()> {
        for (_, writer) in std::mem::take(&mut *self.writers.lock()) {
            self.owner.seal_later(writer);
        }
        self.owner.engine.check_writable()?;
        self.owner.seal_waiting()
    }

    /// Lets nobody write, and no bucket be made, as long as what it gives is held.
    pub(crate) fn stop_writes(&self) -> impl Sized {
        self.writers.lock()
    }

    /// Waits for whoever is appending, and gives up what is not sealed.
    pub(crate) fn drain(&self) {
        let taken = std::mem::take(&mut *self.writers.lock());
        drop(taken);
        self.owner.abandon_sealing();
        self.owner.drain_manifest();
    }

    /// Seals segments of buckets that have been over for as long as they lasted.
    pub(crate) fn seal_past(&self, now: Timestamp) {
        let current = self.owner.window.bucket_start(now);
        let mut writers = self.writers.lock();
        while let Some(entry) = writers.first_entry() {
            if self.owner.window.bucket_end(*entry.key()) >= current {
                break;
            }
            self.owner.seal_later(entry.remove());
        }
    }

    /// Drops the buckets whose deadline has passed. The caller has made the engine time durable.
    pub(crate) fn drop_expired(&self, now: Timestamp) -> Result<usize> {
        let expired = self.owner.expired(now);
        let mut dropped = Ok(());
        for bucket in &expired {
            let mut writers = self.writers.lock();
            if let Some(writer) = writers.remove(&bucket.start) {
                // It leaves from there with the bucket, which may have to stay.
                self.owner.seal_later(writer);
            }
            dropped = dropped.and(self.owner.drop_bucket(bucket, None));
        }
        dropped.map(|()| expired.len())
    }

    /// All blocks of rows in live buckets, with the numbers of their segments.
    pub(super) fn all_blocks(&self) -> Result<Vec<(u64, SidecarEntry)>> {
        let mut blocks = Vec::new();
        for segment in self.owner.segments() {
            let entries = self.listing(&segment)?.entries;
            blocks.extend(entries.into_iter().map(|entry| (segment.number(), entry)));
        }
        Ok(blocks)
    }
}

/// Puts segments that recovery has taken up into an owner's table, in the order of their numbers.
pub(crate) fn adopt(owner: &Owner, segments: impl Iterator<Item = Arc<Segment>>) {
    for segment in segments {
        owner.table.push(&segment);
    }
}
