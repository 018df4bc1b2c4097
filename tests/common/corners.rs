//! What the other workloads do not come to: short pieces of work on stores that lie as they rarely do,
//! in which any call may fail.
#![allow(dead_code)]

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide::disk::{Disk, Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Durability, Error, Keyspace, KeyspaceOptions, LedgerKind, Log, LogOptions, ManualClock,
    Outcome, Problem, Result, Retention, Row, SegmentDump, Store, StoreBuilder,
};

use super::fixture::{START, clock, hours, on_memory, open, quiet, try_open};

/// Some of what was told to be done, a bit for each key: stored, or invalidated.
#[derive(Debug, Default)]
pub(crate) struct Told {
    stored: AtomicU64,
    hidden: AtomicU64,
}

/// Where a piece of work is done.
pub(crate) struct Scene {
    pub(crate) memory: MemoryDisk,
    pub(crate) disk: FaultyDisk,
    pub(crate) clock: ManualClock,
    pub(crate) mapped: bool,
    told: Told,
    /// Calls made before what the corner is about began.
    before: AtomicU64,
}

/// One of them.
pub(crate) struct Corner {
    pub(crate) name: &'static str,
    /// The disk that the work begins with, and the time.
    pub(crate) prepare: fn() -> (MemoryDisk, ManualClock),
    /// Fails only if a call does, and then tells so.
    pub(crate) work: fn(&Scene) -> Result<()>,
    /// What must be so once the store is opened again, whatever failed.
    check: fn(&Scene, &MemoryDisk, &Store),
    /// Where it is.
    dir: &'static str,
    /// It is about what is done after another call has failed in one of these ways.
    pub(crate) after: &'static [Fault],
}

/// All of them.
pub(crate) const CORNERS: [Corner; 13] = [
    Corner { name: "a dump", work: dump, ..PLAIN },
    Corner {
        name: "a clock set right",
        prepare: wrong_future,
        work: reset,
        check: check_reset,
        ..PLAIN
    },
    Corner { name: "a long index", prepare: long_index, work: verify, ..PLAIN },
    Corner { name: "a segment that leaves", work: verify_beside_eviction, ..PLAIN },
    Corner {
        name: "directories above",
        prepare: empty,
        dir: "/a/b/c/data",
        work: make,
        after: &AFTER,
        ..PLAIN
    },
    Corner { name: "no spare", work: forget_without_spare, ..PLAIN },
    Corner { name: "a value not whole", work: close_beside_a_value, check: no_parts, ..PLAIN },
    Corner {
        name: "keys in the trash",
        prepare: keys_in_trash,
        work: clear_keys,
        check: check_keys,
        ..PLAIN
    },
    Corner {
        name: "a drop that was not told",
        prepare: untold_drop,
        work: open_and_close,
        check: check_told,
        ..PLAIN
    },
    Corner {
        name: "a sidecar without its segment",
        prepare: lone_sidecar,
        work: open_and_close,
        check: check_sidecars,
        ..PLAIN
    },
    Corner {
        name: "a keyspace made again",
        prepare: empty,
        work: make_again,
        after: &AFTER,
        ..PLAIN
    },
    Corner {
        name: "a clock set back after a drop",
        prepare: two_versions,
        work: drop_and_set_back,
        after: &AFTER,
        ..PLAIN
    },
    Corner {
        name: "what a failed write leaves",
        prepare: empty,
        work: store_two,
        after: &AFTER,
        ..PLAIN
    },
];
const PLAIN: Corner = Corner {
    name: "",
    prepare: closed,
    work: verify,
    check: |_, _, _| {},
    dir: "/data",
    after: &[],
};
const AFTER: [Fault; 2] =
    [Fault::ErrorAfter(ErrorKind::TimedOut), Fault::Torn(ErrorKind::StorageFull)];
const KEYS: u64 = 40;

fn name(key: u64) -> String {
    format!("key {key}")
}

fn value(key: u64) -> Vec<u8> {
    format!("value {key} ").repeat(30).into_bytes()
}

fn images(store: &Store) -> Result<Keyspace> {
    store.keyspace("images", KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096))
}

fn access(store: &Store) -> Result<Log> {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(4096))
}

impl Scene {
    pub(crate) fn new(left: &(MemoryDisk, ManualClock), mapped: bool) -> Self {
        let memory = left.0.fork();
        let clock = left.1.fork();
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let (told, before) = (Told::default(), AtomicU64::default());
        Self { memory, disk, clock, mapped, told, before }
    }

    fn builder(&self, dir: &str) -> StoreBuilder {
        quiet(Store::builder(dir).disk(self.disk.clone()), &self.clock)
    }

    fn open(&self, dir: &str) -> Result<Store> {
        try_open(self.builder(dir), self.mapped)
    }

    /// What the corner is about begins here.
    fn begin(&self) {
        self.before.store(self.disk.calls(), Ordering::Relaxed);
    }

    pub(crate) fn calls_before(&self) -> u64 {
        self.before.load(Ordering::Relaxed)
    }

    /// Stores a key durably, in a file of its own or not, and remembers whether it was told so.
    fn store(&self, images: &Keyspace, key: u64, in_pieces: bool) -> Result<()> {
        let fill = images.fill(name(key)).durability(Durability::Sync).memory_limit_bytes(0);
        let outcome = if in_pieces {
            let mut writer = fill.into_writer()?;
            // What it could not take, the commit says.
            let _ = writer.write_all(&value(key));
            writer.commit()?
        } else {
            fill.commit(value(key))?
        };
        assert_eq!(outcome, Outcome::Stored);
        self.told.stored.fetch_or(1 << key, Ordering::Relaxed);
        Ok(())
    }
}

impl Corner {
    /// Nothing of what was told to be done is undone once the process was killed, or the power cut.
    pub(crate) fn check(&self, scene: &Scene, power: bool, what: &str) {
        let (mut none, what) = (|_: u32| 0, format!("{what}, power cut: {power}"));
        let left = scene.memory.fork();
        let disk = if power { left.crash(&mut none) } else { left.kill() };
        let builder = quiet(Store::builder(self.dir).disk(disk.clone()), &scene.clock);
        let store = try_open(builder, scene.mapped).unwrap_or_else(|e| panic!("{what}: {e}"));
        (self.check)(scene, &disk, &store);
        let keyspace = store.existing_keyspace("images");
        let (stored, hidden) = (&scene.told.stored, &scene.told.hidden);
        for key in 0..KEYS {
            let is = |told: &AtomicU64| told.load(Ordering::Relaxed) & 1 << key != 0;
            let found = match &keyspace {
                Ok(images) => images.get(name(key)).unwrap(),
                Err(_) => None,
            };
            assert!(found.is_some() || !is(stored), "{what}: {key} is lost");
            assert!(found.is_none() || !is(hidden), "{what}: {key} is back");
            assert!(found.is_none_or(|found| found.as_ref() == value(key)), "{what}: {key}");
        }
        store.maintain().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(store.verify().unwrap().problems, [], "{what}");
        assert_eq!(store.verify_ledger().unwrap().problems, [], "{what}");
    }
}

fn empty() -> (MemoryDisk, ManualClock) {
    (MemoryDisk::new(1), clock())
}

fn closed() -> (MemoryDisk, ManualClock) {
    let (disk, clock) = empty();
    let store = open(on_memory(&disk, &clock), false);
    let images = images(&store).unwrap();
    for key in 0..KEYS {
        images.insert(name(key), value(key)).unwrap();
    }
    store.close().unwrap();
    drop((images, store));
    (disk, clock)
}

fn paths(disk: &MemoryDisk, end: &str) -> Vec<PathBuf> {
    let mut paths = disk.all_files();
    paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
    paths
}

/// As the end of the process leaves it that was evicting the segment.
fn lone_sidecar() -> (MemoryDisk, ManualClock) {
    let (disk, clock) = closed();
    disk.remove_file(&paths(&disk, ".seg")[1]).unwrap();
    (disk, clock)
}

fn open_and_close(scene: &Scene) -> Result<()> {
    scene.open("/data")?.close()
}

fn check_sidecars(_: &Scene, disk: &MemoryDisk, _: &Store) {
    for sidecar in paths(disk, ".idx") {
        assert!(disk.read_file(&sidecar.with_extension("seg")).is_ok(), "{}", sidecar.display());
    }
}

/// Each segment says all that is in it, or that it cannot.
fn dump(scene: &Scene) -> Result<()> {
    let mut keys = Vec::new();
    for path in paths(&scene.memory, ".seg") {
        for record in SegmentDump::open_on(&scene.disk, path)? {
            let record = record?;
            assert_eq!(record.problem, None);
            keys.push(String::from_utf8(record.key).unwrap());
        }
    }
    assert!(keys.into_iter().eq((0..KEYS).map(name)));
    Ok(())
}

fn wrong_future() -> (MemoryDisk, ManualClock) {
    let disk = MemoryDisk::new(1);
    let clock = ManualClock::new(START + hours(24 * 3650));
    let store = open(on_memory(&disk, &clock), false);
    images(&store).unwrap().insert(name(0), value(0)).unwrap();
    access(&store).unwrap().append(Row::anonymous().payload("row")).unwrap();
    // A bucket with keys alone, which cannot say another deadline.
    clock.advance(hours(1));
    access(&store).unwrap().pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
    store.close().unwrap();
    drop(store);
    clock.set_wall(START);
    (disk, clock)
}

fn reset(scene: &Scene) -> Result<()> {
    let store = scene.open("/data")?;
    scene.begin();
    store.reset_clock()
}

/// A value that was replaced five hours later.
fn two_versions() -> (MemoryDisk, ManualClock) {
    let (disk, clock) = empty();
    let store = open(on_memory(&disk, &clock), false);
    images(&store).unwrap().insert(name(0), "an older version").unwrap();
    clock.advance(hours(5));
    images(&store).unwrap().insert(name(0), value(0)).unwrap();
    store.close().unwrap();
    drop(store);
    (disk, clock)
}

/// Both versions leave, and then the time is one at which both would be there.
fn drop_and_set_back(scene: &Scene) -> Result<()> {
    let store = scene.open("/data")?;
    scene.clock.advance(hours(17));
    scene.begin();
    let dropped = store.drop_expired();
    let again = store.drop_expired();
    scene.clock.set_wall(START + hours(6));
    let set = store.reset_clock();
    dropped.and(again).and(set)
}

fn check_reset(_: &Scene, _: &MemoryDisk, store: &Store) {
    store.reset_clock().unwrap();
    assert_eq!(store.now(), START);
    let stats = store.stats();
    let of_images = stats.keyspaces.iter().flat_map(|keyspace| &keyspace.buckets);
    let mut buckets = of_images.chain(stats.logs.iter().flat_map(|log| &log.buckets));
    assert!(buckets.all(|bucket| bucket.deadline <= START + hours(16)));
}

/// INDEX is longer than one that an opening would read, unless its segments are long too.
fn long_index() -> (MemoryDisk, ManualClock) {
    let (disk, clock) = closed();
    let path = Path::new("/data/keyspaces/images/INDEX");
    let mut bytes = disk.read_file(path).unwrap();
    bytes.resize((16 << 20) + 4096, 0);
    disk.write_file(path, &bytes).unwrap();
    (disk, clock)
}

fn verify(scene: &Scene) -> Result<()> {
    let store = scene.builder("/data").open_read_only()?;
    scene.begin();
    store.verify().map(drop)
}

/// The process that writes evicts a segment that was there when the store was opened to be looked at:
/// that is no problem.
fn verify_beside_eviction(scene: &Scene) -> Result<()> {
    let store = scene.builder("/data").open_read_only()?;
    scene.begin();
    let segment = &paths(&scene.memory, ".seg")[1];
    for path in [segment.clone(), segment.with_extension("idx")] {
        scene.memory.remove_file(&path).unwrap();
    }
    match store.verify()?.problems.pop() {
        None => Ok(()),
        Some(Problem { path, offset, what }) => Err(Error::Corrupt { path, offset, what }),
    }
}

fn make(scene: &Scene) -> Result<()> {
    let store = scene.open("/a/b/c/data")?;
    scene.store(&images(&store)?, 0, false)
}

fn make_again(scene: &Scene) -> Result<()> {
    let store = scene.open("/data")?;
    scene.begin();
    let images = images(&store).or_else(|_| images(&store))?;
    scene.store(&images, 0, false)
}

/// Somebody takes the spare of the tombstone log away, again and again.
fn forget_without_spare(scene: &Scene) -> Result<()> {
    let store = scene.open("/data")?;
    let images = images(&store)?;
    scene.begin();
    let mut first = Ok(());
    for key in 0..KEYS {
        let _ = scene.memory.remove_file(Path::new("/data/tombstones/spare"));
        let hidden = images.invalidate(name(key));
        if hidden.is_ok() {
            scene.told.hidden.fetch_or(1 << key, Ordering::Relaxed);
        }
        first = first.and(hidden.map(drop));
    }
    first
}

/// The process was killed after a bucket of a log had moved to the trash.
fn keys_in_trash() -> (MemoryDisk, ManualClock) {
    let (disk, clock) = empty();
    let store = open(on_memory(&disk, &clock), false);
    let log = access(&store).unwrap();
    let visitor = log.pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
    log.append(Row::new(visitor).payload("row")).unwrap();
    clock.advance(hours(17));
    assert_eq!(store.drop_expired().unwrap(), 1);
    (disk.kill(), clock)
}

/// The process ended after a bucket had moved to the trash, before that was durable.
fn untold_drop() -> (MemoryDisk, ManualClock) {
    let ended_at = |call| {
        let (memory, clock) = empty();
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
        images(&store).unwrap().insert(name(0), value(0)).unwrap();
        store.sync().unwrap();
        clock.advance(hours(17));
        disk.inject(disk.calls() + call, Fault::ErrorsFrom(ErrorKind::TimedOut));
        store.drop_expired().unwrap_err();
        let is_moved = !memory.read_dir(Path::new("/data/trash")).unwrap().is_empty();
        is_moved.then(|| (memory.kill(), clock))
    };
    (1..).find_map(ended_at).unwrap()
}

fn check_told(_: &Scene, _: &MemoryDisk, store: &Store) {
    let entries = store.ledger().unwrap();
    let is_drop = |kind: &LedgerKind| matches!(kind, LedgerKind::BucketDropped(_));
    assert_eq!(entries.iter().filter(|entry| is_drop(&entry.kind)).count(), 1);
}

fn destroyed(store: &Store) -> Result<usize> {
    let entries = store.ledger()?;
    let is_destroyed = |kind: &LedgerKind| matches!(kind, LedgerKind::KeysDestroyed { .. });
    Ok(entries.iter().filter(|entry| is_destroyed(&entry.kind)).count())
}

fn clear_keys(scene: &Scene) -> Result<()> {
    let store = scene.open("/data")?;
    check_ledger_of_keys(&store, &scene.memory);
    store.maintain()
}

/// The ledger does not say that keys were destroyed which are there.
fn check_ledger_of_keys(store: &Store, disk: &MemoryDisk) {
    let told = destroyed(store).unwrap_or(0);
    assert!(told == 0 || paths(disk, "pseudonym.keys").is_empty(), "keys outlive their end");
}

fn check_keys(_: &Scene, disk: &MemoryDisk, store: &Store) {
    check_ledger_of_keys(store, disk);
    store.maintain().unwrap();
    assert_eq!(paths(disk, "pseudonym.keys"), [] as [PathBuf; 0]);
    assert_eq!(destroyed(store).unwrap(), 1);
}

/// The store is closed before a value in pieces is whole.
fn close_beside_a_value(scene: &Scene) -> Result<()> {
    let store = scene.open("/data")?;
    let mut writer = images(&store)?.fill(name(0)).memory_limit_bytes(0).into_writer()?;
    let _ = writer.write_all(&value(1));
    store.close()?;
    assert!(writer.write_all(b"more").is_err());
    assert!(writer.commit().is_err());
    Ok(())
}

fn no_parts(_: &Scene, disk: &MemoryDisk, _: &Store) {
    assert_eq!(paths(disk, ".part"), [] as [PathBuf; 0]);
}

/// A record, a value in pieces, one that is given up, and a record again.
fn store_two(scene: &Scene) -> Result<()> {
    let store = scene.open("/data")?;
    let images = images(&store)?;
    scene.begin();
    let mut first = scene.store(&images, 0, false);
    first = first.and(scene.store(&images, 1, true));
    first =
        first.and(images.fill(name(2)).memory_limit_bytes(0).into_writer().map(|mut writer| {
            let _ = writer.write_all(&value(2));
        }));
    first = first.and(scene.store(&images, 3, false));
    first.and(store.close())
}
