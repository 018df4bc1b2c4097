//! What is found on disk before anything is changed.

use std::path::Path;

use super::hasher;
use super::paths::Paths;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::VERSION;
use crate::format::manifest::{OwnerManifest, StoreManifest};
use crate::format::record::RecordKind;
use crate::format::state::{MAX_GENERATION, State};
use crate::ledger::{FoundLedger, Place, Tally, read_ledger};
use crate::owner::{manifest_file, owners_dir};
use crate::recovery::owner_names;
use crate::report::RecoveryReport;
use crate::segment::writer::parse_segment_name;
use crate::sequence::generation_of;
use crate::state::{FoundState, StateFile};
use crate::store::StoreBuilder;
use crate::time::Timestamp;
use crate::tombstone::{FoundLogs, LogIdentity, read_logs_beside};
use crate::twin_file::TwinFile;

/// What is found on disk before anything is changed.
pub(super) struct Found {
    pub(super) state: Option<FoundState>,
    pub(super) logs: FoundLogs,
    pub(super) identity: LogIdentity,
    /// The highest generation that left a trace.
    pub(super) generation: u64,
    /// The start of the newest bucket: time was at least that far.
    pub(super) newest_bucket: Timestamp,
}

impl Found {
    pub(super) fn last_state(&self) -> Option<&State> {
        self.state.as_ref()?.state.as_ref()
    }

    pub(super) fn log_range(&self) -> (u64, u64) {
        // Without a record of them, those that are there.
        let present = || self.logs.range().unwrap_or((1, 0));
        self.state.as_ref().and_then(FoundState::log_range).unwrap_or_else(present)
    }

    /// How far the wall clock was ahead by steps that were not believed.
    pub(super) fn suspect_ms(&self) -> u64 {
        let steps = self.last_state().map(|state| state.time.steps.iter());
        steps.into_iter().flatten().fold(0, |sum, step| sum.saturating_add(step.lead_ms))
    }

    /// A snapshot counts only after a clean close, and only if it is certain that this was the last
    /// thing that happened.
    pub(super) fn snapshot_id(&self) -> Option<[u8; 16]> {
        let whole = self.state.as_ref().is_some_and(|found| found.whole);
        let state = self.last_state().filter(|state| state.clean && whole)?;
        Some(state.snapshot_id)
    }
}

pub(super) fn find(
    builder: &StoreBuilder,
    paths: &Paths,
    manifest: &StoreManifest,
) -> Result<Found> {
    let disk = &*builder.disk;
    let identity = LogIdentity {
        store_id: manifest.store_id,
        generation: 0,
        check_value: hasher(manifest).check_value(),
    };
    let mut state = None;
    let logs = read_logs_beside(disk, &paths.tombstones(), identity, || {
        state = find_state(disk, paths)?;
        Ok(state.as_ref().and_then(FoundState::log_range))
    })?;
    let (from_segments, newest_bucket) = survey(disk, &paths.root)?;
    let from_state = state.as_ref().map_or(0, |found| found.generation);
    let generation = from_state.max(logs.generation).max(from_segments);
    if generation >= MAX_GENERATION {
        return Err(Error::Unsupported { what: "more than 16 million openings for writing" });
    }
    Ok(Found { state, logs, identity, generation, newest_bucket })
}

fn find_state(disk: &dyn Disk, paths: &Paths) -> Result<Option<FoundState>> {
    let path = paths.state();
    let found = match StateFile::read(disk, &path) {
        Err(e) if e.is_not_found() => return Ok(None),
        found => found?,
    };
    match found.foreign_version {
        Some(found) => Err(Error::UnknownVersion { path, found, known: VERSION }),
        None => Ok(Some(found)),
    }
}

/// Reads the ledger as it was left. After a clean close nothing stands behind what STATE names.
pub(super) fn find_ledger(
    disk: &dyn Disk,
    paths: &Paths,
    manifest: &StoreManifest,
    found: &Found,
) -> Result<(FoundLedger, Tally)> {
    let dir = paths.ledger();
    let place = Place {
        disk,
        dir: &dir,
        store_id: manifest.store_id,
        known: found.last_state().map(|state| state.ledger),
        exact: found.snapshot_id().is_some(),
    };
    let mut tally = Tally::default();
    let ledger = read_ledger(place, &mut |file, entry| tally.take(file, entry))?;
    Ok((ledger, tally))
}

pub(super) fn report_ledger(report: &mut RecoveryReport, ledger: &FoundLedger) {
    report.torn_tails.extend(ledger.torn.clone());
    for (path, _, _) in &ledger.problems {
        if !report.corrupt_records.contains(path) {
            report.corrupt_records.push(path.clone());
        }
    }
}

/// The highest floor in an owner's manifest.
fn stored_floor(disk: &dyn Disk, owner_dir: &Path, kind: RecordKind) -> u64 {
    let (name, magic) = manifest_file(kind);
    let Ok(twin) = TwinFile::read(disk, &owner_dir.join(name), magic) else { return 0 };
    let slots = twin.slots.iter().flatten();
    let manifests = slots.filter_map(|slot| OwnerManifest::decode(&slot.payload).ok());
    manifests.map(|manifest| manifest.floor).max().unwrap_or(0)
}

/// The highest generation in the names of segments and in floors, and the newest bucket.
fn survey(disk: &dyn Disk, root: &Path) -> Result<(u64, Timestamp)> {
    let mut generation = 0;
    let mut newest = Timestamp::default();
    for kind in [RecordKind::Blob, RecordKind::Rows] {
        for name in owner_names(disk, root, kind)? {
            let owner_dir = owners_dir(root, kind).join(name);
            generation = generation.max(generation_of(stored_floor(disk, &owner_dir, kind)));
            for entry in disk.read_dir(&owner_dir).unwrap_or_default() {
                let Some(start) = Timestamp::from_compact(&entry.name) else { continue };
                newest = newest.max(start);
                let files = disk.read_dir(&owner_dir.join(&entry.name)).unwrap_or_default();
                let numbers = files.iter().filter_map(|file| parse_segment_name(&file.name));
                generation = generation.max(numbers.max().unwrap_or(0) >> 32);
            }
        }
    }
    Ok((generation, newest))
}

pub(super) fn report(found: &Found, paths: &Paths) -> RecoveryReport {
    let Found { logs, state, .. } = found;
    let mut report = RecoveryReport::default();
    report.torn_tails.extend(logs.torn.iter().cloned());
    if state.as_ref().is_some_and(|found| found.state.is_some() && !found.whole) {
        report.torn_tails.push(paths.state());
    }
    report.corrupt_records.extend(logs.damaged.iter().map(|(path, _)| path.clone()));
    // It is durable before anything of its generation is there.
    if found.last_state().is_none() && found.generation > 0 {
        report.corrupt_records.push(paths.state());
    }
    report
}
