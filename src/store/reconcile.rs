//! Bringing the ledger into line with what is on the disk, when a store is opened for writing.
//!
//! A process that ended between a deed and its entry is caught up with here: each open bucket of the
//! ledger is looked for in the store and in the trash, and each bucket of the store in the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::disk::{TOUCH, touch_dir};
use crate::engine::{Engine, WriteSide};
use crate::error::{Error, Result};
use crate::format::ledger::How;
use crate::format::record::RecordKind;
use crate::format::tombstone::TombstoneScope;
use crate::ledger::{BucketId, Counts, DropNote, Event, LedgerBucket, OpenBucket, Tally};
use crate::owner::{Owner, manifest_file, owners_dir};
use crate::recovery::{Owners, owner_names};
use crate::sequence::is_last_of_generation;
use crate::time::Timestamp;
use crate::tombstone::FoundLogs;
use crate::trash::TrashedBucket;

/// Adds what the ledger lacks. What cannot be written now waits for the upkeep.
pub(super) fn reconcile(
    engine: &Engine,
    owners: &Owners,
    logs: &FoundLogs,
    tally: &Tally,
    suspect_ms: u64,
) -> Result<()> {
    let side = engine.write_side()?;
    let now = engine.trusted_now();
    let owners: Vec<&Owner> = owners
        .keyspaces
        .iter()
        .map(|core| &core.owner)
        .chain(owners.logs.iter().map(|core| &core.owner))
        .collect();
    let open = side.ledger.open_buckets();
    note_found(side, &owners, &open, tally, now);
    note_gone(engine, side, &owners, &open, now)?;
    for (instance, (owner_id, start_ms)) in &tally.keyed {
        let (owner_id, instance) = (*owner_id, *instance);
        let start = Timestamp::from_millis(*start_ms);
        // A power cut may have brought them back, and they may have left once more since.
        let is_back =
            |owner: &&Owner| owner.id == owner_id && owner.buckets.read().contains_key(&start);
        if !owners.iter().any(is_back) && !side.trash.has_keys(owner_id, start) {
            let found = true;
            side.ledger.note(now, Event::KeysDestroyed { owner_id, start, instance, found });
        }
    }
    recount(engine, side, logs, tally, now);
    side.ledger.resume_clock(suspect_ms);
    // It is written with the next entries, or found again by the next open.
    let _ = side.ledger.flush();
    Ok(())
}

/// Owners and buckets without an entry.
fn note_found(
    side: &WriteSide,
    owners: &[&Owner],
    open: &[(BucketId, OpenBucket)],
    tally: &Tally,
    now: Timestamp,
) {
    let open: BTreeSet<BucketId> = open.iter().map(|(id, _)| *id).collect();
    for owner in owners {
        if !tally.owners.contains(&owner.id) {
            let (owner_id, kind) = (owner.id, owner.kind);
            side.ledger.note(now, Event::OwnerMade { owner_id, kind, found: true });
        }
        for bucket in owner.buckets.read().values() {
            let bucket = owner.in_ledger(bucket);
            if !open.contains(&bucket.id()) {
                side.ledger.note(now, Event::BucketFound(bucket));
            }
        }
    }
}

/// Open buckets of the ledger that are not in the store.
fn note_gone(
    engine: &Engine,
    side: &WriteSide,
    owners: &[&Owner],
    open: &[(BucketId, OpenBucket)],
    now: Timestamp,
) -> Result<()> {
    let owners: BTreeMap<u64, &Owner> = owners.iter().map(|owner| (owner.id, *owner)).collect();
    let orphans = orphans(engine, &owners)?;
    let trash = side.trash.buckets();
    let mut taken = BTreeSet::new();
    for ((owner_id, start_ms), bucket) in open {
        let start = Timestamp::from_millis(*start_ms);
        let owner = owners.get(owner_id);
        let is_there = match owner {
            Some(owner) => owner.buckets.read().contains_key(&start),
            // Nothing else tells whose they are.
            None => orphans.contains(&start),
        };
        if is_there {
            continue;
        }
        let kinds = [RecordKind::Blob, RecordKind::Rows];
        let kind = kinds.into_iter().find(|kind| *kind as u8 == bucket.detail & 0x0f);
        let deadline = Timestamp::from_millis(bucket.deadline_ms);
        let bucket = LedgerBucket { owner_id: *owner_id, start, kind, deadline };
        // One of which no segment said whose it was has no owner in the trash either.
        let owner_ids = if owner.is_some() { [*owner_id; 2] } else { [*owner_id, 0] };
        let is_it = |(trashed, _): &&(TrashedBucket, Option<u64>)| {
            let is_free = !taken.contains(&trashed.instance);
            owner_ids.contains(&trashed.owner_id) && trashed.start == start && is_free
        };
        // One without an owner may be another's.
        let last = |(trashed, _): &&(TrashedBucket, Option<u64>)| {
            (trashed.owner_id != 0, trashed.instance)
        };
        let trashed = trash.iter().filter(is_it).max_by_key(last);
        taken.extend(trashed.map(|(trashed, _)| trashed.instance));
        let in_owner = |owner: &&Owner| owner.dir().join(manifest_file(owner.kind).0);
        let of_owner = owner.map(|owner| in_owner(owner).with_extension("tmp"));
        let files: Vec<PathBuf> =
            of_owner.into_iter().chain([side.trash.dir().join(TOUCH)]).collect();
        // A sync of them may have failed, and the next one have nothing to write.
        if !files.iter().all(|file| touch_dir(&*engine.disk, file).is_ok()) {
            side.ledger.dropped_uncertainly(bucket);
            continue;
        }
        let dirs = files.iter().filter_map(|file| file.parent());
        let note = DropNote {
            bucket,
            how: if trashed.is_some() { How::FoundAtOpen } else { How::Missing },
            instance: trashed.map_or(0, |(trashed, _)| trashed.instance),
            counts: Counts { records: None, bytes: trashed.and_then(|(_, bytes)| *bytes) },
            unsynced: dirs.map(Path::to_owned).collect(),
        };
        side.ledger.drop_found(now, note);
    }
    Ok(())
}

/// The starts of buckets in directories whose owner was not taken up.
fn orphans(engine: &Engine, owners: &BTreeMap<u64, &Owner>) -> Result<BTreeSet<Timestamp>> {
    let mut starts = BTreeSet::new();
    for kind in [RecordKind::Blob, RecordKind::Rows] {
        for name in owner_names(&*engine.disk, &engine.root, kind)? {
            if owners.values().any(|owner| owner.kind == kind && owner.name == name) {
                continue;
            }
            let dir = owners_dir(&engine.root, kind).join(name);
            let entries = engine.disk.read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
            starts.extend(entries.iter().filter_map(|entry| Timestamp::from_compact(&entry.name)));
        }
    }
    Ok(starts)
}

/// Counts the invalidations that no entry counts: those whose tombstones lie above what the last
/// entry of their scope reaches. One may stand in two files, if a write to the first failed. What an opening has hidden,
/// nobody has invalidated.
fn recount(engine: &Engine, side: &WriteSide, logs: &FoundLogs, tally: &Tally, now: Timestamp) {
    let scopes = [TombstoneScope::Keys, TombstoneScope::Tags, TombstoneScope::All];
    let counts = scopes.map(|scope| {
        let through = tally.counted_through(scope);
        let of_scope = logs.tombstones().filter(|t| t.scope == scope && t.floor > through);
        let floors = of_scope.map(|t| t.floor).filter(|floor| !is_last_of_generation(*floor));
        floors.collect::<BTreeSet<_>>().len() as u64
    });
    side.ledger.recount(now, counts, engine.last_seq_before());
}
