//! Opening a store: lock, identity, time and generation, tombstones, trash, owners.

mod found;
mod identity;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use found::{Found, find, find_ledger, report, report_ledger};
use identity::{
    create_directories, create_store, lock, name_durably, read_store, refuse_foreign,
    refuse_network, settle_names,
};
use paths::Paths;

use super::reconcile::reconcile;
use super::{Shared, Store, StoreBuilder, StoreCore, upkeep};
use crate::disk::{Descriptors, Disk, DiskLock, SparingDisk};
use crate::engine::{Engine, EngineParts, WriteSide, read_clock};
use crate::error::{Error, Result};
use crate::format::manifest::StoreManifest;
use crate::format::state::State;
use crate::format::tombstone::{Reach, Tombstone, TombstoneMode, TombstoneScope};
use crate::hash::Hasher;
use crate::janitor::Janitor;
use crate::ledger::{Ledger, LedgerParts, mark_of};
use crate::planted::{Bug, is_planted};
use crate::recovery::{Owners, Recovery};
use crate::report::RecoveryReport;
use crate::segment::{Lease, SegmentHost};
use crate::sequence::first_of;
use crate::state::StateFile;
use crate::sync::{Mutex, RwLock};
use crate::time::{EngineTime, Timestamp};
use crate::tombstone::{FoundLogs, LogIdentity, TombstoneLog};
use crate::trash::Trash;

/// Opens a store for writing.
pub(super) fn open(builder: StoreBuilder, mapped: bool) -> Result<Store> {
    let (builder, descriptors) = sparing(builder);
    let disk = &builder.disk;
    let paths = Paths { root: builder.path.clone() };
    refuse_network(&builder)?;
    refuse_foreign(&**disk, &paths)?;
    create_directories(&**disk, &paths.root)?;
    let lock = lock(&**disk, &paths)?;
    let manifest = match read_store(&**disk, &paths.store()) {
        Err(e) if e.is_not_found() => create_store(&builder, &paths)?,
        read => read?,
    };
    let found = find(&builder, &paths, &manifest)?;
    let (ledger, tally) = find_ledger(&**disk, &paths, &manifest, &found)?;
    // All else that a generation has left may be gone.
    let before = found.generation.max(tally.generation);
    let is_reused = is_planted(Bug::SequenceReused) && before > 0;
    let generation = before + u64::from(!is_reused);
    let last_seq = first_of(generation) - 1;
    let time = resume_time(&builder, &found, last_seq);
    let (oldest_log, newest_log) = found.log_range();
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
    settle_names(&**disk, &paths, found.snapshot_id().is_some())?;
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
    let mut report = report(&found, &paths, before);
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
    let host = host(descriptors, kept, builder.verify_every_read);
    let engine = engine(&builder, &manifest, host, generation, time, Some(write_side));
    let told = &tally.owners;
    let mut recovery = Recovery { engine: &engine, logs: &logs, told, snapshot_id, report };
    let owners = recovery.owners()?;
    let report = recovery.report;
    settle_tombstones(&engine, &logs)?;
    reconcile(&engine, &owners, &logs, &tally, suspect_ms)?;
    take_up_tombstones(&engine, logs, owners.has_orphans)?;
    start(builder, engine, owners, report, Some(lock))
}

/// Opens a store to look at it.
pub(super) fn open_read_only(builder: StoreBuilder) -> Result<Store> {
    let (builder, descriptors) = sparing(builder);
    let paths = Paths { root: builder.path.clone() };
    refuse_network(&builder)?;
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
    // A process that only reads is not waited for by the one that erases.
    let host = host(descriptors, None, true);
    let engine = engine(&builder, &manifest, host, generation, time, None);
    let mut recovery = Recovery {
        engine: &engine,
        logs: &found.logs,
        told: &BTreeSet::new(),
        snapshot_id: None,
        report: report(&found, &paths, found.generation),
    };
    let owners = recovery.owners()?;
    let report = recovery.report;
    let builder = StoreBuilder { background: false, ..builder };
    engine.watch(paths.tombstones(), paths.state(), found.identity, &found.logs);
    start(builder, engine, owners, report, None)
}

/// Goes on from the recorded time. Without a record, time is at least as far as what was found shows.
fn resume_time(builder: &StoreBuilder, found: &Found, last_seq: u64) -> EngineTime {
    let reading = read_clock(&*builder.clock);
    let grace_ms = u64::try_from(builder.clock_grace.as_millis()).unwrap_or(u64::MAX);
    match found.last_state() {
        Some(state) => {
            let was_closed = found.snapshot_id().is_some();
            EngineTime::resume(state.time.clone(), was_closed, reading, last_seq, grace_ms)
        }
        None => EngineTime::new_at_least(found.reached.as_millis(), reading, grace_ms),
    }
}

/// Writes the state before anything else of this generation.
fn write_state(disk: &dyn Disk, paths: &Paths, state: State) -> Result<StateFile> {
    match StateFile::open(disk, &paths.state(), state.clone()) {
        Err(e) if e.is_not_found() => {
            let created = StateFile::create(disk, &paths.state(), state)?;
            name_durably(disk, &paths.state())?;
            Ok(created)
        }
        opened => opened,
    }
}

fn hasher(manifest: &StoreManifest) -> Hasher {
    Hasher::new(manifest.key_secret, manifest.tag_secret)
}

/// Files kept open for reading, which are closed where the store could open no other file.
fn sparing(builder: StoreBuilder) -> (StoreBuilder, Arc<Descriptors>) {
    let descriptors = Arc::new(Descriptors::new(Arc::clone(&builder.disk)));
    let disk = Arc::new(SparingDisk::new(Arc::clone(&builder.disk), Arc::clone(&descriptors)));
    (StoreBuilder { disk, ..builder }, descriptors)
}

/// What the segments of a store share. They are mapped if there is a lock that their values keep.
fn host(
    descriptors: Arc<Descriptors>,
    kept: Option<Arc<dyn DiskLock>>,
    always_verify: bool,
) -> SegmentHost {
    SegmentHost {
        descriptors,
        mapped: kept.is_some(),
        always_verify,
        lease: Arc::new(Lease::new(kept)),
        read_at_ms: Arc::default(),
    }
}

/// The engine of a store.
fn engine(
    builder: &StoreBuilder,
    manifest: &StoreManifest,
    host: SegmentHost,
    generation: u64,
    time: EngineTime,
    write_side: Option<WriteSide>,
) -> Arc<Engine> {
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

/// Makes what was found in the tombstone log durable, before any of it is counted.
fn settle_tombstones(engine: &Engine, logs: &FoundLogs) -> Result<()> {
    if logs.lost { Ok(()) } else { engine.write_side()?.tombstones.resume(logs) }
}

/// Begins a new tombstone log if the old one cannot be relied on, and makes sure that a spare waits. By now every
/// floor that the old one may have held is in the manifests, and what can be read of it is counted.
fn take_up_tombstones(engine: &Engine, logs: FoundLogs, has_orphans: bool) -> Result<()> {
    let tombstones = &engine.write_side()?.tombstones;
    for path in &logs.stale {
        // It is met again by the next open.
        let _ = engine.disk.remove_file(path);
    }
    if logs.lost {
        // Of a keyspace whose options cannot be read there is no manifest to hold a floor.
        tombstones.start_over(logs, has_orphans.then(|| hide_keyspaces(engine)))?;
    }
    // A full disk is no reason not to open: an invalidation finds its own way.
    match tombstones.ensure_spare() {
        Err(Error::NoSpace { .. }) => Ok(()),
        ensured => ensured,
    }
}

/// The tombstone of all that keyspaces may hold from earlier openings.
fn hide_keyspaces(engine: &Engine) -> Tombstone {
    Tombstone {
        scope: TombstoneScope::All,
        mode: TombstoneMode::Hard,
        reach: Reach::Keyspaces,
        floor: engine.last_seq_before(),
        at_ms: engine.trusted_now().as_millis(),
        until_ms: 0,
        hashes: Vec::new(),
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
        has_orphans: owners.has_orphans,
        report,
        lock: Mutex::new(lock),
        upkeep: Mutex::new(upkeep::Due::default()),
        sync_interval: builder.sync_interval,
        max_pin: builder.max_pin,
    });
    let janitor = builder.background.then(|| Janitor::start(&core)).transpose()?;
    Ok(Store { shared: Arc::new(Shared { core, janitor: Mutex::new(janitor) }) })
}
