//! What is found on disk before anything is changed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::hasher;
use super::paths::Paths;
use crate::disk::{Access, DirEntry, Disk, EntryKind};
use crate::error::{Error, Result};
use crate::format::VERSION;
use crate::format::manifest::{OwnerManifest, StoreManifest};
use crate::format::record::RecordKind;
use crate::format::segment_header::SegmentHeader;
use crate::format::state::{MAX_GENERATION, State};
use crate::ledger::{FoundLedger, Place, Tally, read_ledger};
use crate::owner::{manifest_file, owners_dir};
use crate::recovery::owner_names;
use crate::report::RecoveryReport;
use crate::segment::load::{LoadError, read_header};
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
    /// If the time is lost, it was at least that far.
    pub(super) reached: Timestamp,
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
    let from_state = state.as_ref().map_or(0, |found| found.generation);
    let known = from_state.max(logs.generation);
    let generation = highest_generation(disk, &paths.root, manifest.store_id, known)?;
    if generation >= MAX_GENERATION {
        return Err(Error::Unsupported { what: "more than 16 million openings for writing" });
    }
    let reached = match state.as_ref().and_then(|found| found.state.as_ref()) {
        Some(_) => Timestamp::default(),
        None => newest_bucket(disk, &paths.root)?,
    };
    Ok(Found { state, logs, identity, generation, reached })
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

/// A keyspace or log as it lies there.
struct FoundOwner {
    kind: RecordKind,
    dir: PathBuf,
    /// What its manifest's slots hold.
    manifests: Vec<OwnerManifest>,
}

/// All keyspaces and logs.
fn owners(disk: &dyn Disk, root: &Path) -> Result<Vec<FoundOwner>> {
    let mut owners = Vec::new();
    for kind in [RecordKind::Blob, RecordKind::Rows] {
        for name in owner_names(disk, root, kind)? {
            let dir = owners_dir(root, kind).join(name);
            let manifests = manifests(disk, &dir, kind)?;
            owners.push(FoundOwner { kind, dir, manifests });
        }
    }
    Ok(owners)
}

fn manifests(disk: &dyn Disk, owner_dir: &Path, kind: RecordKind) -> Result<Vec<OwnerManifest>> {
    let (name, magic) = manifest_file(kind);
    let twin = match TwinFile::read(disk, &owner_dir.join(name), magic) {
        Err(e) if e.is_not_found() => return Ok(Vec::new()),
        read => read?,
    };
    let slots = twin.slots.iter().flatten();
    Ok(slots.filter_map(|slot| OwnerManifest::decode(&slot.payload).ok()).collect())
}

/// What is in a directory; nothing if it has left meanwhile.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<DirEntry>> {
    match disk.read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listing => listing.map_err(|e| Error::io("list", dir, e)),
    }
}

/// The segments in a bucket, with their numbers.
type Segments = Vec<(u64, PathBuf)>;

/// The buckets of an owner: their starts, and what is in them.
fn buckets(disk: &dyn Disk, owner_dir: &Path) -> Result<Vec<(Timestamp, Segments)>> {
    let mut buckets = Vec::new();
    for entry in list(disk, owner_dir)? {
        let start = Timestamp::from_compact(&entry.name);
        let Some(start) = start.filter(|_| entry.kind == EntryKind::Directory) else { continue };
        let dir = owner_dir.join(&entry.name);
        let segment =
            |file: &DirEntry| Some((parse_segment_name(&file.name)?, dir.join(&file.name)));
        buckets.push((start, list(disk, &dir)?.iter().filter_map(segment).collect()));
    }
    Ok(buckets)
}

/// The highest generation, up from the one that is known, of floors and of segments. A file that only bears
/// the name of a segment is about to be removed, and how far its name lies says nothing.
fn highest_generation(disk: &dyn Disk, root: &Path, store_id: [u8; 16], known: u64) -> Result<u64> {
    let mut highest = known;
    for owner in owners(disk, root)? {
        let floors = owner.manifests.iter().map(|manifest| generation_of(manifest.floor));
        highest = floors.fold(highest, u64::max);
        let buckets = buckets(disk, &owner.dir)?.into_iter();
        for (number, path) in buckets.flat_map(|(_, segments)| segments) {
            let generation = number >> 32;
            if generation > highest && may_be_of(disk, store_id, number, &path) {
                highest = generation;
            }
        }
    }
    Ok(highest)
}

/// True unless it is certain that a file is not the segment of this store whose name it bears.
fn may_be_of(disk: &dyn Disk, store_id: [u8; 16], number: u64, path: &Path) -> bool {
    match header(disk, path) {
        Ok(header) => header.store_id == store_id && header.number == number,
        Err(LoadError::Damaged(_)) => false,
        Err(_) => true,
    }
}

/// The start of the newest bucket, those apart that lie in a future that was wrong: their deadlines were
/// brought forward.
fn newest_bucket(disk: &dyn Disk, root: &Path) -> Result<Timestamp> {
    let mut newest = Timestamp::default();
    for owner in owners(disk, root)? {
        let window = owner.manifests.first().map(|manifest| manifest.window);
        for (start, segments) in buckets(disk, &owner.dir)? {
            if start <= newest || (owner.kind == RecordKind::Blob && segments.is_empty()) {
                // What has been emptied says nothing of its deadline any more.
                continue;
            }
            // Where its own deadline is not known, it is later than its start for certain.
            let deadline = window.map_or(start, |window| window.deadline(start));
            if !states_less(disk, &segments, deadline)? {
                newest = start;
            }
        }
    }
    Ok(newest)
}

/// True if one of these segments says that it has an earlier deadline.
fn states_less(disk: &dyn Disk, segments: &Segments, deadline: Timestamp) -> Result<bool> {
    for (_, path) in segments {
        let stated = match header(disk, path) {
            Err(LoadError::Failed(e)) if !e.is_not_found() => return Err(e),
            header => header.ok().map(|header| Timestamp::from_millis(header.deadline_ms)),
        };
        if stated.is_some_and(|stated| stated < deadline) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn header(disk: &dyn Disk, path: &Path) -> Result<SegmentHeader, LoadError> {
    let file = disk.open(path, Access::Read).map_err(|e| Error::io("open", path, e))?;
    read_header(&*file, path)
}

/// What was wrong with what was found; the last process before had this generation, if there was one.
pub(super) fn report(found: &Found, paths: &Paths, generation: u64) -> RecoveryReport {
    let Found { logs, state, .. } = found;
    let mut report = RecoveryReport::default();
    report.torn_tails.extend(logs.torn.iter().cloned());
    if state.as_ref().is_some_and(|found| found.state.is_some() && !found.whole) {
        report.torn_tails.push(paths.state());
    }
    report.corrupt_records.extend(logs.damaged.iter().map(|(path, _)| path.clone()));
    // It is durable before anything of its generation is there.
    if found.last_state().is_none() && generation > 0 {
        report.corrupt_records.push(paths.state());
    }
    report
}
