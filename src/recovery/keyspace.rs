//! Taking up a keyspace: floors from the tombstones, the index from a snapshot or from sidecars.

use std::collections::HashMap;
use std::sync::Arc;

use super::Recovery;
use super::rebuild::rebuild;
use super::segments::{Found, Taken};
use super::snapshot::snapshot_path;
use crate::error::Result;
use crate::floors::{Floor, Floors};
use crate::format::record::ALIGN;
use crate::format::snapshot::{Snapshot, SnapshotPlace};
use crate::format::tombstone::{Reach, Tombstone, TombstoneScope};
use crate::hash::KeyedHash;
use crate::index::{Change, Index, Location};
use crate::keyspace::KeyspaceCore;
use crate::owner::Owner;
use crate::segment::Segment;
use crate::sequence::{first_of, generation_of};

impl Recovery<'_> {
    /// Takes up a keyspace.
    pub(super) fn keyspace(&mut self, owner: Owner) -> Result<KeyspaceCore> {
        let floors = Floors::default();
        let own = |tombstone: &&Tombstone| tombstone.reach.covers_keyspace(owner.id);
        for tombstone in self.logs.tombstones().filter(own) {
            floors.apply(tombstone);
        }
        floors.raise(TombstoneScope::All, &[], Floor::undated(owner.manifest().floor));
        let waiting = self.waiting(&owner)?;
        let snapshot = self.snapshot(&owner, waiting.iter().map(|waiting| waiting.allocated).sum());
        let known = snapshot.as_ref().map(|(snapshot, _)| snapshot);
        let found = self.segments(&owner, waiting, known)?;
        self.fail_closed(&owner, &floors, &found)?;
        let Found { segments, as_known, .. } = found;
        let (index, is_doubtful) = match snapshot.filter(|_| as_known) {
            Some((snapshot, index)) => {
                let is_doubtful = restore(&owner, &index, &floors, &snapshot, segments);
                (index, is_doubtful)
            }
            None => (rebuild(&owner, &floors, segments), false),
        };
        if !self.engine.is_read_only() {
            // It would be stale after the first change.
            let _ = self.engine.disk.remove_file(&snapshot_path(&owner));
        }
        let core = KeyspaceCore::new(owner, index, floors);
        if is_doubtful {
            core.doubts.raise();
        }
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
}

/// Takes up the segments by the ordinals that the snapshot's index knows them by. True if a slot had to stay
/// that may be under the floor of its key.
fn restore(
    owner: &Owner,
    index: &Index,
    floors: &Floors,
    snapshot: &Snapshot,
    segments: Vec<Taken>,
) -> bool {
    let mut found: HashMap<u64, Arc<Segment>> =
        segments.into_iter().map(|taken| (taken.segment.number(), taken.segment)).collect();
    let place = |place: &SnapshotPlace| {
        let segment = found.remove(&place.number);
        segment.iter().for_each(|segment| segment.add_live(place.live));
        (place.number, segment)
    };
    let places: Vec<_> = snapshot.places.iter().map(place).collect();
    // Checked when the index was taken up.
    let first = u32::try_from(snapshot.first_ordinal).unwrap_or(1);
    owner.table.restore(first, &places);
    index.set_first_live(owner.table.read().first_live());
    // Whatever was invalidated after the snapshot was taken, or meanwhile, may still have its slot.
    let mut is_doubtful = false;
    for hash in floors.keys_above(snapshot.as_of) {
        let (before, change) = index.change(hash.fingerprint(), |location| {
            let is_hidden = location.map_or(Some(true), |l| is_hidden(owner, floors, hash, l));
            is_doubtful |= is_hidden.is_none();
            if is_hidden == Some(true) { Change::Remove } else { Change::Keep }
        });
        let removed = before.filter(|_| change == Change::Remove);
        let table = owner.table.read();
        let segment = removed.and_then(|location| table.get(location.ordinal));
        segment.into_iter().for_each(|segment| segment.remove_live());
    }
    is_doubtful
}

/// True if the record there has left, or does not lie above the floor of this key. Of one that cannot be read
/// just now nobody knows.
fn is_hidden(owner: &Owner, floors: &Floors, hash: KeyedHash, location: Location) -> Option<bool> {
    let Some(segment) = owner.table.read().get(location.ordinal).cloned() else {
        return Some(true);
    };
    let head = segment.read_head(u64::from(location.position) * ALIGN).ok()?;
    Some(floors.of_key(hash, head.seq).is_some())
}
