//! What keeps a keyspace in shape: syncing, sealing, dropping, and the capacity.

use crate::sync::atomic::Ordering;
use std::sync::Arc;

use super::KeyspaceCore;
use super::write::Active;
use crate::error::{Error, Result};
use crate::floors::Floor;
use crate::format::record::{MAX_TAGS, MIN_RECORD_LEN};
use crate::format::segment_header::HEADER_LEN;
use crate::format::sidecar::{BLOCK_LEN, encoded_len};
use crate::index::MAX_ORDINALS;
use crate::options::NO_CAPACITY;
use crate::segment::Segment;
use crate::time::Timestamp;

/// Bytes a tombstone takes in the log: an entry in each of two regions.
const TOMBSTONE_BYTES: u64 = 128;
/// The least that a record with all the tags it may have takes. Of nothing else is more listed per byte.
const SMALLEST_TAGGED: u64 = MIN_RECORD_LEN + MAX_TAGS as u64 * 16;

impl KeyspaceCore {
    /// Makes all that was inserted before durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.owner.engine.check_writable()?;
        // In this order: what is active now is either synced here or waits to be sealed by then.
        if let Some(segment) = self.active_segment() {
            self.sync_segment(&segment)?;
        }
        self.seal_waiting()
    }

    /// Makes a segment durable. If it is evicted meanwhile nothing is synced, and none of it must be back.
    pub(super) fn sync_segment(&self, segment: &Segment) -> Result<()> {
        segment.sync().map_err(|e| self.owner.engine.poison(e))?;
        if segment.has_left() { self.between_writes(|| self.hide_evicted()) } else { Ok(()) }
    }

    /// Seals what waits for it. What is evicted meanwhile is not synced any more, and must not be back without the
    /// rest of it.
    fn seal_waiting(&self) -> Result<()> {
        self.owner.seal_waiting()?;
        self.between_writes(|| self.hide_evicted())
    }

    fn active_segment(&self) -> Option<Arc<Segment>> {
        self.active.lock().as_ref().map(|active| Arc::clone(active.writer.segment()))
    }

    /// Seals everything, so that the next open need not walk it.
    pub(crate) fn seal_all(&self) -> Result<()> {
        self.seal_active();
        self.owner.engine.check_writable()?;
        self.seal_waiting()
    }

    /// Looks while no record is between its write and its slot, so that the two agree.
    pub(crate) fn between_writes<T>(&self, look: impl FnOnce() -> T) -> T {
        let _active = self.active.lock();
        look()
    }

    /// Lets nobody write as long as what it gives is held.
    pub(crate) fn stop_writes(&self) -> impl Sized {
        self.active.lock()
    }

    /// Looks while all segments are sealed and no other is born; nothing if one is not.
    pub(crate) fn while_sealed<T>(&self, look: impl FnOnce() -> T) -> Option<T> {
        // One that is just being sealed does not wait for it any more.
        self.owner.between_sealings(|| {
            let active = self.active.lock();
            (active.is_none() && !self.owner.has_unsealed()).then(look)
        })
    }

    /// Waits for whoever is writing, gives up what is not sealed and what is not whole, and lets nobody
    /// wait any more.
    pub(crate) fn drain(&self) {
        let taken = self.active.lock().take();
        drop(taken);
        self.owner.abandon_sealing();
        self.owner.abandon_parts();
        self.owner.drain_manifest();
        self.flights.wake_all();
    }

    fn seal_active(&self) {
        // Under the lock, so that a sync always meets it in one of the two places.
        let mut held = self.active.lock();
        if let Some(active) = held.take() {
            self.owner.seal_later(active.writer);
        }
    }

    /// Seals the active segment if its bucket is over.
    pub(crate) fn seal_past(&self, now: Timestamp) {
        let current = self.owner.window.bucket_start(now);
        let over = |bucket: Timestamp| bucket < current;
        if self.active.lock().as_ref().is_some_and(|active| over(active.bucket)) {
            self.seal_active();
        }
    }

    /// Drops the buckets whose deadline has passed. The caller has made the engine time durable.
    pub(crate) fn drop_expired(&self, now: Timestamp) -> Result<usize> {
        let expired = self.owner.expired(now);
        for bucket in &expired {
            let mut active = self.active.lock();
            if let Some(active) = active.take_if(|active| active.bucket == bucket.start) {
                // It leaves from there with the bucket, which may have to stay.
                self.owner.seal_later(active.writer);
            }
            let dropped = self.owner.drop_bucket(bucket, None);
            self.free_slots();
            dropped?;
        }
        Ok(expired.len())
    }

    /// Evicts what a floor of everything hides, and what is over the capacity.
    pub(crate) fn shrink(&self) -> Result<()> {
        self.sweep_index(MAX_ORDINALS / 2);
        // Beside segments that were not taken up, hidden ones may still cover what lies in those.
        let floor = if self.owner.min_seq() == 0 { 0 } else { self.floors.all() };
        let capacity = self.capacity();
        while self.evict_if(|oldest| oldest.records() > 0 && oldest.max_seq() <= floor)? {}
        while self.evict_if(|_| self.live_bytes() > capacity)? {}
        Ok(())
    }

    /// Evicts the oldest segment if it meets the condition and is not being written to; true if it
    /// did. The lock keeps writers from making another one the oldest in between.
    fn evict_if(&self, condition: impl Fn(&Segment) -> bool) -> Result<bool> {
        let active = self.active.lock();
        let written = active.as_ref().map(|active| active.writer.segment().number());
        match self.oldest() {
            Some(oldest) if Some(oldest.number()) != written && condition(&oldest) => {
                drop(oldest);
                self.evict()
            }
            _ => Ok(false),
        }
    }

    /// Makes room within the capacity for a new segment that holds a record of this length, and whatever
    /// may come behind it.
    pub(super) fn make_room_for_segment(
        &self,
        active: &mut Option<Active>,
        record_len: u64,
    ) -> Result<()> {
        let segment = self.owner.segment_capacity(record_len);
        let sidecar = longest_sidecar(1, MAX_TAGS as u64, segment - HEADER_LEN - record_len);
        let needed = segment.next_multiple_of(4096) + sidecar.next_multiple_of(4096);
        self.make_room(active, needed, needed)
    }

    /// Makes room within the capacity for so many more bytes of a value that is being written, and
    /// counts them from then on; `held` have been made room for before.
    pub(super) fn make_room_for_part(&self, held: u64, more: u64) -> Result<()> {
        let mut active = self.active.lock();
        self.owner.engine.check_writable()?;
        self.make_room(&mut active, more, held + more)?;
        self.part_bytes.fetch_add(more, Ordering::AcqRel);
        Ok(())
    }

    /// Takes back what was counted for a value that is being written.
    pub(super) fn release_part_room(&self, held: u64) {
        self.part_bytes.fetch_sub(held, Ordering::AcqRel);
    }

    /// Evicts until so many more bytes fit into the capacity. Nothing is evicted for something that
    /// would not fit as a whole.
    fn make_room(&self, active: &mut Option<Active>, more: u64, whole: u64) -> Result<()> {
        let capacity = self.capacity();
        if capacity == NO_CAPACITY {
            return Ok(());
        }
        let exceeded = Error::CapacityExceeded { capacity_bytes: capacity, needed_bytes: whole };
        if whole > capacity {
            return Err(exceeded);
        }
        let to_grow = |active: &Option<Active>| {
            active.as_ref().map_or(0, |active| may_grow_by(active.writer.segment()))
        };
        loop {
            // Measured first: others may empty the trash meanwhile, but fill it only under the append lock.
            let trashed = self.trashed_bytes();
            if trashed + self.live_bytes() + to_grow(active) + more <= capacity {
                return Ok(());
            }
            // No more than is needed: others wait for the append lock meanwhile.
            if trashed > 0 && (self.reap_piece() || self.trashed_bytes() < trashed) {
                continue;
            }
            let oldest = self.oldest().map(|segment| segment.number());
            let written = active.take_if(|active| Some(active.writer.segment().number()) == oldest);
            if let Some(written) = written {
                self.owner.seal_later(written.writer);
            }
            if !self.evict()? {
                return Err(exceeded);
            }
        }
    }

    /// Gives back the space of the oldest segment, whatever it holds; false if there is none.
    pub(crate) fn evict_for_space(&self) -> Result<bool> {
        let mut active = self.active.lock();
        if let Some(active) = active.take() {
            self.owner.seal_later(active.writer);
        }
        let evicted = self.evict()?;
        // Of all owners: it is the disk that is full. Under the lock, for which a close waits.
        let side = self.owner.engine.write_side()?;
        while side.trash.reap_step().unwrap_or(false) {}
        drop(active);
        Ok(evicted)
    }

    fn evict(&self) -> Result<bool> {
        // Before what is newer leaves too.
        self.hide_evicted()?;
        let evicted = self.owner.evict_oldest();
        self.free_slots();
        evicted
    }

    /// Hides what was evicted and may be back after a power cut, since a sync has failed: another one may succeed
    /// without having written anything. Nobody writes or evicts meanwhile.
    fn hide_evicted(&self) -> Result<()> {
        match self.owner.undurable_evicted() {
            0 => Ok(()),
            undurable => self.hide_all(Floor::undated(undurable)),
        }
    }

    /// Gives back a piece of what is this keyspace's in the trash; true if there is more.
    fn reap_piece(&self) -> bool {
        let side = self.owner.engine.write_side();
        side.is_ok_and(|side| side.trash.reap_step_of(self.owner.id).unwrap_or(false))
    }

    fn trashed_bytes(&self) -> u64 {
        self.owner.engine.write_side().map_or(0, |side| side.trash.bytes(self.owner.id))
    }

    fn free_slots(&self) {
        self.index.set_first_live(self.owner.table.read().first_live());
    }

    /// Keeps ordinals for new segments at hand; the limit leaves time for it.
    fn sweep_index(&self, least: u32) {
        if self.index.ordinals_left(self.owner.table.read().next()) < least {
            self.index.sweep();
        }
    }

    /// An error unless a new segment can have an ordinal that the index can tell from all others.
    pub(super) fn check_ordinals(&self) -> Result<()> {
        self.sweep_index(1);
        let next = self.owner.table.read().next();
        let used = u64::from(MAX_ORDINALS - self.index.ordinals_left(next));
        Error::check_limit("segments of a keyspace", 0, u64::from(MAX_ORDINALS) - 1, used)
    }

    fn oldest(&self) -> Option<Arc<Segment>> {
        self.owner.table.read().iter().next().map(|(_, segment)| Arc::clone(segment))
    }

    fn capacity(&self) -> u64 {
        self.owner.manifest().capacity_bytes
    }

    /// Bytes of live segments, of values being written, and of tombstones.
    fn live_bytes(&self) -> u64 {
        let counts = self.floors.counts();
        let table = self.owner.table.read();
        let segments: u64 = table.iter().map(|(_, segment)| segment.allocated_bytes()).sum();
        let parts = self.part_bytes.load(Ordering::Acquire) + self.owner.given_up_bytes();
        segments + parts + (counts.keys + counts.tags) * TOMBSTONE_BYTES
    }

    /// All bytes that count against the capacity.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.live_bytes() + self.trashed_bytes()
    }
}

/// Bytes by which a segment may still grow, its sidecar included.
fn may_grow_by(segment: &Segment) -> u64 {
    let (capacity, records, tags) = (segment.header.capacity, segment.records(), segment.tags());
    let left = capacity.saturating_sub(segment.published());
    let file = capacity.next_multiple_of(4096);
    let sidecar = longest_sidecar(records, tags, left).next_multiple_of(4096);
    let now = segment.allocated_bytes() + segment.punched();
    (file + sidecar).saturating_sub(now)
}

/// The longest sidecar of a segment that has these records and tags, and so many bytes left for others.
fn longest_sidecar(records: u64, tags: u64, left: u64) -> u64 {
    let others = left.div_ceil(SMALLEST_TAGGED);
    // Some with tags and some without may fill a block more.
    let mixed = others.min(1) * BLOCK_LEN as u64;
    encoded_len(records + others, tags + others * MAX_TAGS as u64) + mixed
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::disk::{Fault, FaultyDisk, MemoryDisk};
    use crate::{KeyspaceOptions, Retention, Store};

    /// Behind the end of a segment lies what a full disk has refused halfway; its eviction may not be durable.
    #[test]
    fn what_was_refused_is_hidden_with_an_evicted_segment_that_may_be_back() {
        let mut undurable = 0;
        for call in 1.. {
            let memory = MemoryDisk::new(1);
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let builder = Store::builder("/data").disk(disk.clone());
            let store = builder.background(false).open().unwrap();
            let options = KeyspaceOptions::new(Retention::days(1)).segment_bytes(256 * 1024);
            let images = store.keyspace("images", options).unwrap();
            images.insert("key", "stored").unwrap();
            memory.set_capacity_bytes(Some(memory.used_bytes() + 2 * 4096));
            let batch = (0..60).map(|number| (format!("refused-{number}"), [1; 500]));
            assert!(matches!(images.insert_batch(batch), Err(Error::NoSpace { .. })));
            memory.set_capacity_bytes(None);
            let owner = &images.core.owner;
            let refused = owner.engine.sequence.last();
            let at = disk.calls() + call;
            disk.inject(at, Fault::Error(ErrorKind::TimedOut));
            let _ = images.core.evict_for_space();
            if owner.undurable_evicted() > 0 {
                assert_eq!(owner.undurable_evicted(), refused, "call {call}");
                undurable += 1;
            }
            if disk.calls() < at {
                break;
            }
        }
        assert_eq!(undurable, 2);
    }

    #[test]
    fn nothing_is_added_to_a_sidecar_without_room_for_a_record() {
        assert_eq!(longest_sidecar(1, 16, 0), encoded_len(1, 16));
        assert_eq!(longest_sidecar(200, 0, 0), encoded_len(200, 0));
    }

    #[test]
    fn no_mix_of_records_has_a_longer_sidecar() {
        for left in (0..200_000_u64).step_by(997) {
            let longest = longest_sidecar(1, MAX_TAGS as u64, left);
            for tags in 0..=left / 16 {
                // As many records as these tags leave room for, if they are enough to carry them.
                let records = (left - tags * 16) / MIN_RECORD_LEN;
                if tags <= records * MAX_TAGS as u64 {
                    let sidecar = encoded_len(1 + records, MAX_TAGS as u64 + tags);
                    assert!(sidecar <= longest, "{left} bytes, {records} records, {tags} tags");
                }
            }
            assert!(longest <= left / 2 + 5 * BLOCK_LEN as u64, "{longest} for {left} bytes");
        }
    }
}
