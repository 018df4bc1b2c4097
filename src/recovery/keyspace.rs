//! Taking up a keyspace: floors from the tombstones, the index from a snapshot or from sidecars.

use std::collections::HashMap;
use std::path::PathBuf;

use super::Recovery;
use super::segments::{Found, Taken};
use crate::disk::{Access, read_full_at};
use crate::error::Result;
use crate::floors::{Floor, Floors};
use crate::format::record::ALIGN;
use crate::format::sidecar::Body;
use crate::format::snapshot::{Snapshot, SnapshotSegment, SnapshotSlot};
use crate::format::tombstone::{Reach, Tombstone, TombstoneScope};
use crate::hash::KeyedHash;
use crate::index::{Change, Index, Location};
use crate::keyspace::KeyspaceCore;
use crate::owner::Owner;
use crate::sequence::{first_of, generation_of};

/// The file of a keyspace that holds its index after a clean close.
pub(crate) const SNAPSHOT_FILE: &str = "INDEX";

impl Recovery<'_> {
    /// Takes up a keyspace.
    pub(super) fn keyspace(&mut self, owner: Owner) -> Result<KeyspaceCore> {
        let floors = Floors::default();
        let own = |tombstone: &&Tombstone| tombstone.reach.covers_keyspace(owner.id);
        for tombstone in self.logs.tombstones().filter(own) {
            floors.apply(tombstone);
        }
        floors.raise(TombstoneScope::All, &[], Floor::undated(owner.manifest().floor));
        let found = self.segments(&owner)?;
        self.fail_closed(&owner, &floors, &found)?;
        let snapshot = self.snapshot(&owner, &found.segments);
        let index = Index::new();
        let Found { segments, .. } = found;
        match snapshot {
            Some(snapshot) => restore(&owner, &index, &floors, &snapshot, segments),
            None => rebuild(&owner, &index, &floors, segments),
        }
        if !self.engine.is_read_only() {
            // It would be stale after the first change.
            let _ = self.engine.disk.remove_file(&snapshot_path(&owner));
        }
        let core = KeyspaceCore::new(owner, index, floors);
        let denied_here = |tombstone: &&Tombstone| tombstone.reach == Reach::Owner(core.owner.id);
        for tombstone in self.logs.tombstones().filter(denied_here) {
            core.denials.recall(tombstone);
        }
        Ok(core)
    }

    /// Where newer versions or tombstones may have been lost, nothing older is served: the floor of
    /// everything is raised, once for each loss.
    fn fail_closed(&self, owner: &Owner, floors: &Floors, found: &Found) -> Result<()> {
        let last = self.engine.last_seq_before();
        let covered = |number: u64| first_of((number >> 32) + 1) <= floors.all() + 1;
        let lost_records = found.lost.iter().any(|(number, _)| !covered(*number));
        if found.foreign {
            floors.raise(TombstoneScope::All, &[], Floor::undated(last));
            // What they hold may be as old as anything: no tombstone over it is forgotten.
            owner.note_undurable(Some(0));
        }
        if self.logs.lost || lost_records {
            debug_assert!(generation_of(last) < self.engine.generation);
            floors.raise(TombstoneScope::All, &[], Floor::undated(last));
            if !self.engine.is_read_only() {
                owner.update_manifest(|manifest| manifest.floor = manifest.floor.max(last))?;
            }
        }
        for (number, path) in &found.lost {
            if owner.discard(*number, path).is_err() {
                owner.note_undurable(Some(0));
            }
        }
        Ok(())
    }

    /// The snapshot of the last close, if that was clean and it names exactly the segments found.
    fn snapshot(&self, owner: &Owner, segments: &[Taken]) -> Option<Snapshot> {
        let wanted = self.snapshot_id?;
        let file = self.engine.disk.open(&snapshot_path(owner), Access::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        let read = read_full_at(&*file, &mut bytes, 0).ok()?;
        let snapshot = Snapshot::decode(bytes.get(..read)?).ok()?;
        let known = |taken: &Taken| {
            let segment = &taken.segment;
            let named = snapshot.segments.iter().find(|known| known.number == segment.number());
            named.is_some_and(|known| known.len == segment.published())
        };
        let usable = snapshot.snapshot_id == wanted
            && snapshot.owner_id == owner.id
            && snapshot.segments.len() == segments.len()
            && segments.iter().all(known);
        usable.then_some(snapshot)
    }
}

/// Where a keyspace's snapshot lies.
pub(crate) fn snapshot_path(owner: &Owner) -> PathBuf {
    owner.dir().join(SNAPSHOT_FILE)
}

/// The winner of each key is the record written last: for one key the orders of sequence numbers,
/// segments and offsets agree.
fn rebuild(owner: &Owner, index: &Index, floors: &Floors, segments: Vec<Taken>) {
    for Taken { segment, listing } in segments {
        let ordinal = owner.table.write().push(segment);
        for entry in listing.entries {
            let location = Location { ordinal, position: entry.position };
            // One that was erased wins over older ones all the same.
            let gone = entry.body != Body::Whole || floors.of_key(entry.hash, entry.seq).is_some();
            let change = if gone { Change::Remove } else { Change::Put(location) };
            index.change(entry.hash.fingerprint(), |_| change);
        }
    }
    count_live(owner, index);
}

fn restore(
    owner: &Owner,
    index: &Index,
    floors: &Floors,
    snapshot: &Snapshot,
    segments: Vec<Taken>,
) {
    let mut ordinals = HashMap::new();
    for Taken { segment, .. } in segments {
        let number = segment.number();
        ordinals.insert(number, owner.table.write().push(segment));
    }
    let places: Vec<Option<u32>> =
        snapshot.segments.iter().map(|known| ordinals.get(&known.number).copied()).collect();
    for slot in &snapshot.slots {
        let ordinal = places.get(slot.segment as usize).copied().flatten();
        if let Some(ordinal) = ordinal {
            let location = Location { ordinal, position: slot.position };
            index.change(slot.fingerprint, |_| Change::Put(location));
        }
    }
    // Whatever was invalidated after the snapshot was taken, or meanwhile, may still have its slot.
    for hash in floors.keys_above(snapshot.as_of) {
        index.change(hash.fingerprint(), |location| match location {
            Some(location) if is_above(owner, floors, hash, location) => Change::Keep,
            _ => Change::Remove,
        });
    }
    count_live(owner, index);
}

/// True if the record there is known to lie above the floor of this key.
fn is_above(owner: &Owner, floors: &Floors, hash: KeyedHash, location: Location) -> bool {
    let Some(segment) = owner.table.read().get(location.ordinal).cloned() else { return false };
    let head = segment.read_head(u64::from(location.position) * ALIGN);
    head.is_ok_and(|head| floors.of_key(hash, head.seq).is_none())
}

fn count_live(owner: &Owner, index: &Index) {
    let table = owner.table.read();
    for shard in 0..index.shard_count() {
        for (_, location) in index.shard_entries(shard) {
            if let Some(segment) = table.get(location.ordinal) {
                segment.add_live(1);
            }
        }
    }
}

/// What the next open can start from, taken between two writes. If anything is written after it, the
/// segments that the next open finds are not those it names.
pub(crate) fn take_snapshot(core: &KeyspaceCore, snapshot_id: [u8; 16], as_of: u64) -> Snapshot {
    let table = core.owner.table.read();
    let mut places = HashMap::new();
    let mut segments = Vec::new();
    for (ordinal, segment) in table.iter() {
        places.insert(ordinal, segments.len() as u32);
        segments.push(SnapshotSegment {
            number: segment.number(),
            len: segment.published(),
            min_seq: segment.min_seq(),
            max_seq: segment.max_seq(),
            records: segment.records(),
            live: segment.live(),
        });
    }
    let mut slots = Vec::new();
    for shard in 0..core.index.shard_count() {
        for (fingerprint, location) in core.index.shard_entries(shard) {
            if let Some(segment) = places.get(&location.ordinal) {
                let (segment, position) = (*segment, location.position);
                slots.push(SnapshotSlot { fingerprint, segment, position });
            }
        }
    }
    Snapshot { snapshot_id, owner_id: core.owner.id, as_of, segments, slots }
}
