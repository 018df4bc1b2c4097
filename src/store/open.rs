//! Opening a store: lock, identity, time and generation, tombstones, trash, owners.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reconcile::reconcile;
use super::{Shared, Store, StoreBuilder, StoreCore, upkeep};
use crate::disk::{Disk, DiskLock, LockOutcome};
use crate::engine::{Engine, EngineParts, WriteSide, read_clock};
use crate::error::{Error, Result};
use crate::format::VERSION;
use crate::format::manifest::{OwnerManifest, STORE_MAGIC, StoreManifest};
use crate::format::record::RecordKind;
use crate::format::state::{MAX_GENERATION, State};
use crate::hash::{Hasher, SECRET_LEN};
use crate::janitor::Janitor;
use crate::ledger::{FoundLedger, Ledger, LedgerParts, Place, Tally, mark_of, read_ledger};
use crate::owner::{manifest_file, owners_dir};
use crate::recovery::{Owners, Recovery, owner_names};
use crate::report::RecoveryReport;
use crate::segment::writer::parse_segment_name;
use crate::segment::{Descriptors, Lease, SegmentHost};
use crate::sequence::{first_of, generation_of};
use crate::state::{FoundState, StateFile};
use crate::sync::{Mutex, RwLock};
use crate::time::{EngineTime, Timestamp};
use crate::tombstone::{FoundLogs, LogIdentity, TombstoneLog, read_logs};
use crate::trash::Trash;
use crate::twin_file::{TwinFile, unreadable};

/// The paths of a store's own files.
struct Paths {
    root: PathBuf,
}

impl Paths {
    fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    fn store(&self) -> PathBuf {
        self.root.join("STORE")
    }

    fn state(&self) -> PathBuf {
        self.root.join("STATE")
    }

    fn tombstones(&self) -> PathBuf {
        self.root.join("tombstones")
    }

    fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}

/// Opens a store for writing.
pub(super) fn open(builder: StoreBuilder, mapped: bool) -> Result<Store> {
    let disk = &builder.disk;
    let paths = Paths { root: builder.path.clone() };
    refuse_foreign(&**disk, &paths)?;
    create_directories(&**disk, &paths.root)?;
    let lock = lock(&**disk, &paths)?;
    let manifest = match read_store(&**disk, &paths.store()) {
        Err(e) if e.is_not_found() => create_store(&builder, &paths)?,
        read => read?,
    };
    let found = find(&builder, &paths, &manifest)?;
    let generation = found.generation + 1;
    let last_seq = first_of(generation) - 1;
    let time = resume_time(&builder, &found, last_seq);
    let (oldest_log, newest_log) = found.log_range();
    let (ledger, tally) = find_ledger(&**disk, &paths, &manifest, &found)?;
    let state = State {
        generation,
        clean: false,
        snapshot_id: [0; 16],
        oldest_log,
        newest_log,
        ledger: found.last_state().map_or_else(|| mark_of(&ledger), |state| state.ledger),
        time: time.saved().clone(),
    };
    let state = Arc::new(write_state(&**disk, &paths, state)?);
    let identity = LogIdentity { generation, ..found.identity };
    let tombstones = TombstoneLog::create(
        Arc::clone(disk),
        paths.tombstones(),
        Arc::clone(&state),
        identity,
        builder.tombstone_log_bytes,
    );
    let trash = Trash::open(Arc::clone(disk), paths.trash())?;
    let now = Timestamp::from_millis(time.saved().engine_ms);
    let mut report = report(&found.logs, found.state.as_ref(), &paths);
    report_ledger(&mut report, &ledger);
    let parts = LedgerParts {
        disk: Arc::clone(disk),
        dir: paths.ledger(),
        state: Arc::clone(&state),
        store_id: manifest.store_id,
        generation,
        file_len: builder.ledger_file_bytes,
        retention: builder.ledger_retention,
    };
    let ledger = Ledger::open(parts, ledger, &tally, now)?;
    let write_side = WriteSide { state, tombstones, trash, ledger };
    let (snapshot_id, suspect_ms) = (found.snapshot_id(), found.suspect_ms());
    let logs = found.logs;
    // Values of mapped segments keep it too.
    let kept = mapped.then(|| Arc::clone(&lock));
    let engine = engine(&builder, &manifest, kept, generation, time, Some(write_side));
    let mut recovery = Recovery { engine: &engine, logs: &logs, snapshot_id, report };
    let owners = recovery.owners()?;
    let report = recovery.report;
    reconcile(&engine, &owners, &logs, &tally, suspect_ms)?;
    take_up_tombstones(&engine, logs)?;
    start(builder, engine, owners, report, Some(lock))
}

/// Opens a store to look at it.
pub(super) fn open_read_only(builder: StoreBuilder) -> Result<Store> {
    let paths = Paths { root: builder.path.clone() };
    let manifest = read_store(&*builder.disk, &paths.store()).map_err(|e| {
        if e.is_not_found() {
            let name = paths.root.display().to_string();
            Error::NotFound { what: "store", name }
        } else {
            e
        }
    })?;
    let found = find(&builder, &paths, &manifest)?;
    // The numbers this process never gives out lie above all that the writer may give out.
    let generation = found.generation + 1;
    let time = resume_time(&builder, &found, first_of(generation) - 1);
    let engine = engine(&builder, &manifest, None, generation, time, None);
    let mut recovery = Recovery {
        engine: &engine,
        logs: &found.logs,
        snapshot_id: None,
        report: report(&found.logs, found.state.as_ref(), &paths),
    };
    let owners = recovery.owners()?;
    let report = recovery.report;
    let builder = StoreBuilder { background: false, ..builder };
    engine.watch(paths.tombstones(), found.identity, found.logs.position());
    start(builder, engine, owners, report, None)
}

fn create_directories(disk: &dyn Disk, root: &Path) -> Result<()> {
    create_dir_all(disk, root)?;
    let names = [
        root.join("tombstones"),
        root.join("trash"),
        root.join("ledger"),
        owners_dir(root, RecordKind::Blob),
        owners_dir(root, RecordKind::Rows),
    ];
    for dir in names {
        match disk.create_dir(&dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::io("create", &dir, e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn create_dir_all(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.create_dir(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let Some(parent) = parent else { return Err(Error::io("create", path, e)) };
            create_dir_all(disk, parent)?;
            disk.create_dir(path).map_err(|e| Error::io("create", path, e))?;
            sync_parent(disk, path)
        }
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::io("create", path, e)),
        _ => Ok(()),
    }
}

/// Makes a directory's own entry durable.
fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    disk.sync_dir(parent).map_err(|e| Error::io("sync", parent, e))
}

fn lock(disk: &dyn Disk, paths: &Paths) -> Result<Arc<dyn DiskLock>> {
    match disk.lock(&paths.lock()).map_err(|e| Error::io("lock", &paths.lock(), e))? {
        LockOutcome::Acquired(lock) => Ok(Arc::from(lock)),
        LockOutcome::Held(pid) => Err(Error::Locked { path: paths.root.clone(), pid }),
    }
}

fn read_store(disk: &dyn Disk, path: &Path) -> Result<StoreManifest> {
    let twin = TwinFile::read(disk, path, STORE_MAGIC)?;
    if let Some(found) = twin.foreign_version() {
        return Err(Error::UnknownVersion { path: path.to_owned(), found, known: VERSION });
    }
    let newest = twin.newest().and_then(|(_, slot)| StoreManifest::decode(&slot.payload).ok());
    newest.ok_or_else(|| unreadable(path, &twin))
}

/// Refuses a store that another version made before anything is added to it.
fn refuse_foreign(disk: &dyn Disk, paths: &Paths) -> Result<()> {
    match read_store(disk, &paths.store()) {
        Err(e @ Error::UnknownVersion { .. }) => Err(e),
        // Whatever else there is to say is said under the lock.
        _ => Ok(()),
    }
}

/// Makes a new store. Its last step is the STORE file: before that, there is none.
fn create_store(builder: &StoreBuilder, paths: &Paths) -> Result<StoreManifest> {
    let disk = &*builder.disk;
    for kind in [RecordKind::Blob, RecordKind::Rows] {
        if !owner_names(disk, &paths.root, kind)?.is_empty() {
            let what = "it is missing, though there are keyspaces or logs";
            return Err(Error::Corrupt { path: paths.store(), offset: 0, what });
        }
    }
    let mut random = vec![0; 16 + 2 * SECRET_LEN];
    disk.fill_random(&mut random)
        .map_err(|e| Error::io("read randomness for", &paths.store(), e))?;
    let wall = builder.clock.wall().as_millis();
    let mut payload = random;
    payload.splice(16..16, wall.to_le_bytes());
    let broken = |_| Error::Corrupt { path: paths.store(), offset: 0, what: "random bytes" };
    let manifest = StoreManifest::decode(&payload).map_err(broken)?;
    // The directory may have been made by an attempt that did not come this far.
    sync_parent(disk, &paths.root)?;
    TwinFile::create_whole(disk, &paths.store(), STORE_MAGIC, &manifest.encode())?;
    disk.sync_dir(&paths.root).map_err(|e| Error::io("sync", &paths.root, e))?;
    Ok(manifest)
}

/// What is found on disk before anything is changed.
struct Found {
    state: Option<FoundState>,
    logs: FoundLogs,
    identity: LogIdentity,
    /// The highest generation that left a trace.
    generation: u64,
    /// The start of the newest bucket: time was at least that far.
    newest_bucket: Timestamp,
}

impl Found {
    fn last_state(&self) -> Option<&State> {
        self.state.as_ref()?.state.as_ref()
    }

    fn log_range(&self) -> (u64, u64) {
        // Without a record of them, those that are there.
        let present = || self.logs.range().unwrap_or((1, 0));
        self.last_state().map_or_else(present, |state| (state.oldest_log, state.newest_log))
    }

    /// How far the wall clock was ahead by steps that were not believed.
    fn suspect_ms(&self) -> u64 {
        let steps = self.last_state().map(|state| state.time.steps.iter());
        steps.into_iter().flatten().fold(0, |sum, step| sum.saturating_add(step.lead_ms))
    }

    /// A snapshot counts only after a clean close, and only if it is certain that this was the last
    /// thing that happened.
    fn snapshot_id(&self) -> Option<[u8; 16]> {
        let whole = self.state.as_ref().is_some_and(|found| found.whole);
        let state = self.last_state().filter(|state| state.clean && whole)?;
        Some(state.snapshot_id)
    }
}

fn find(builder: &StoreBuilder, paths: &Paths, manifest: &StoreManifest) -> Result<Found> {
    let disk = &*builder.disk;
    let state = match StateFile::read(disk, &paths.state()) {
        Ok(found) => Some(found),
        Err(e) if e.is_not_found() => None,
        Err(e) => return Err(e),
    };
    if let Some(found) = state.as_ref().and_then(|found| found.foreign_version) {
        return Err(Error::UnknownVersion { path: paths.state(), found, known: VERSION });
    }
    let identity = LogIdentity {
        store_id: manifest.store_id,
        generation: 0,
        check_value: hasher(manifest).check_value(),
    };
    let last = state.as_ref().and_then(|found| found.state.as_ref());
    let expected = last.map(|state| (state.oldest_log, state.newest_log));
    let logs = read_logs(disk, &paths.tombstones(), expected, identity)?;
    let (from_segments, newest_bucket) = survey(disk, &paths.root)?;
    let from_state = state.as_ref().map_or(0, |found| found.generation);
    let generation = from_state.max(logs.generation).max(from_segments);
    if generation >= MAX_GENERATION {
        return Err(Error::Unsupported { what: "more than 16 million openings for writing" });
    }
    Ok(Found { state, logs, identity, generation, newest_bucket })
}

/// Reads the ledger as it was left. After a clean close nothing stands behind what STATE names.
fn find_ledger(
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

fn report_ledger(report: &mut RecoveryReport, ledger: &FoundLedger) {
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

/// Goes on from the recorded time. Without a record, time is at least that of the newest bucket.
fn resume_time(builder: &StoreBuilder, found: &Found, last_seq: u64) -> EngineTime {
    let reading = read_clock(&*builder.clock);
    let grace_ms = u64::try_from(builder.clock_grace.as_millis()).unwrap_or(u64::MAX);
    match found.last_state() {
        Some(state) => EngineTime::resume(state.time.clone(), reading, last_seq, grace_ms),
        None => EngineTime::new_at_least(found.newest_bucket.as_millis(), reading, grace_ms),
    }
}

/// Writes the state before anything else of this generation.
fn write_state(disk: &dyn Disk, paths: &Paths, state: State) -> Result<StateFile> {
    match StateFile::open(disk, &paths.state(), state.clone()) {
        Err(e) if e.is_not_found() => {
            let file = StateFile::create(disk, &paths.state(), state)?;
            disk.sync_dir(&paths.root).map_err(|e| Error::io("sync", &paths.root, e))?;
            Ok(file)
        }
        opened => opened,
    }
}

fn hasher(manifest: &StoreManifest) -> Hasher {
    Hasher::new(manifest.key_secret, manifest.tag_secret)
}

/// The engine of a store; its segments are mapped if there is a lock that their values keep.
fn engine(
    builder: &StoreBuilder,
    manifest: &StoreManifest,
    kept: Option<Arc<dyn DiskLock>>,
    generation: u64,
    time: EngineTime,
    write_side: Option<WriteSide>,
) -> Arc<Engine> {
    let host = SegmentHost {
        descriptors: Arc::new(Descriptors::new(Arc::clone(&builder.disk))),
        mapped: kept.is_some(),
        // A process that only reads is not waited for by the one that erases.
        always_verify: builder.verify_every_read || write_side.is_none(),
        lease: Arc::new(Lease::new(kept)),
    };
    // What cannot be asked is not claimed.
    let capabilities = builder.disk.capabilities(&builder.path).unwrap_or_default();
    Engine::new(EngineParts {
        root: builder.path.clone(),
        disk: Arc::clone(&builder.disk),
        host,
        hasher: hasher(manifest),
        store_id: manifest.store_id,
        generation,
        capabilities,
        write_side,
        clock: Arc::clone(&builder.clock),
        time,
    })
}

fn report(logs: &FoundLogs, state: Option<&FoundState>, paths: &Paths) -> RecoveryReport {
    let mut report = RecoveryReport::default();
    report.torn_tails.extend(logs.torn.iter().cloned());
    if state.is_some_and(|found| found.state.is_some() && !found.whole) {
        report.torn_tails.push(paths.state());
    }
    report.corrupt_records.extend(logs.damaged.iter().map(|(path, _)| path.clone()));
    if state.is_none_or(|found| found.state.is_none()) && logs.generation > 0 {
        report.corrupt_records.push(paths.state());
    }
    report
}

/// Goes on with the tombstone log, or with a new one if the old one cannot be relied on. By now
/// every floor that it may have held is in the manifests.
fn take_up_tombstones(engine: &Engine, logs: FoundLogs) -> Result<()> {
    let tombstones = &engine.write_side()?.tombstones;
    for path in &logs.stale {
        // It is met again by the next open.
        let _ = engine.disk.remove_file(path);
    }
    let taken_up = if logs.lost { tombstones.start_over(logs) } else { tombstones.resume(logs) };
    // A full disk is no reason not to open: an invalidation finds its own way.
    match taken_up.and_then(|()| tombstones.ensure_spare()) {
        Err(Error::NoSpace { .. }) => Ok(()),
        taken_up => taken_up,
    }
}

fn start(
    builder: StoreBuilder,
    engine: Arc<Engine>,
    owners: Owners,
    report: RecoveryReport,
    lock: Option<Arc<dyn DiskLock>>,
) -> Result<Store> {
    let keyspaces: BTreeMap<_, _> =
        owners.keyspaces.into_iter().map(|core| (core.owner.name.clone(), core)).collect();
    let logs: BTreeMap<_, _> =
        owners.logs.into_iter().map(|core| (core.owner.name.clone(), core)).collect();
    let core = Arc::new(StoreCore {
        engine,
        keyspaces: RwLock::new(keyspaces),
        logs: RwLock::new(logs),
        report,
        lock: Mutex::new(lock),
        upkeep: Mutex::new(upkeep::Due::default()),
        sync_interval: builder.sync_interval,
        max_pin: builder.max_pin,
    });
    let janitor = builder.background.then(|| Janitor::start(&core)).transpose()?;
    Ok(Store { shared: Arc::new(Shared { core, janitor: Mutex::new(janitor) }) })
}
