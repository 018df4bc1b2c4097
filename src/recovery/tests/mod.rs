//! What is taken up of owners and segments as they are found, on a disk in memory.

mod buckets;
mod corrections;
mod index;
mod keys;
mod owners;
mod segments;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, Fault, FaultyDisk, MemoryDisk};
use crate::error::Error;
use crate::time::ManualClock;
use crate::{
    Keyspace, KeyspaceOptions, Log, LogOptions, Pseudonym, RecoveryReport, Result, Retention, Row,
    Store, StoreBuilder, Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_795_267_800_000);
const DAYS: u32 = 30;
const VISITOR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const IMAGES: &str = "/data/keyspaces/images";
const INDEX: &str = "/data/keyspaces/images/INDEX";
const MANIFEST: &str = "/data/keyspaces/images/KEYSPACE";

struct Bench {
    disk: MemoryDisk,
    clock: ManualClock,
}

impl Bench {
    fn new() -> Self {
        Self { disk: MemoryDisk::new(1), clock: ManualClock::new(NOW) }
    }

    /// With these keys in the keyspace, and closed.
    fn closed_with<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Self {
        let bench = Self::new();
        let store = bench.open();
        let keyspace = images(&store);
        for key in keys {
            keyspace.insert(key.as_ref(), value_of(key.as_ref())).unwrap();
        }
        drop(keyspace);
        store.close().unwrap();
        bench
    }

    /// What is taken up is read from the segments then.
    fn without_index(self) -> Self {
        self.disk.remove_file(Path::new(INDEX)).unwrap();
        self
    }

    fn on(&self, builder: StoreBuilder) -> StoreBuilder {
        builder.clock(self.clock.clone()).background(false).tombstone_log_bytes(4096)
    }

    fn builder(&self) -> StoreBuilder {
        self.on(Store::builder("/data").disk(self.disk.clone()))
    }

    fn open(&self) -> Store {
        self.builder().open().unwrap()
    }

    /// As the disk is left when the process is killed now.
    fn killed(&self, store: Store) -> Self {
        let disk = self.disk.fork();
        drop(store);
        Self { disk, clock: self.clock.clone() }
    }

    fn pass_days(&self, days: u32) {
        self.clock.advance(Duration::from_secs(24 * 3600 * u64::from(days)));
    }

    /// The files below the directory with this extension, in order.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut files = self.disk.all_files();
        files.retain(|path| path.extension().is_some_and(|found| found == extension));
        files.sort();
        files
    }

    fn tombstone_logs(&self) -> Vec<PathBuf> {
        let mut logs = self.files("log");
        logs.retain(|path| path.starts_with("/data/tombstones"));
        logs
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.disk.read_file(path).unwrap();
        change(&mut bytes);
        self.disk.write_file(path, &bytes).unwrap();
    }

    fn has(&self, path: impl AsRef<Path>) -> bool {
        self.disk.all_files().iter().any(|file| file == path.as_ref())
    }
}

fn value_of(key: &str) -> String {
    format!("value of {key}")
}

fn images(store: &Store) -> Keyspace {
    store.keyspace("images", KeyspaceOptions::new(Retention::days(DAYS))).unwrap()
}

fn visits(store: &Store) -> Log {
    store.log("visits", LogOptions::new(Retention::days(DAYS))).unwrap()
}

fn append(log: &Log, tag: Option<&str>, payload: &str) {
    let row = Row::anonymous().payload(payload);
    log.append(tag.map_or_else(|| row.clone(), |tag| row.clone().tag(tag))).unwrap();
}

fn get(store: &Store, key: &str) -> Option<String> {
    let value = store.existing_keyspace("images").unwrap().get(key).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn rows(store: &Store) -> Vec<String> {
    let log = store.existing_log("visits").unwrap();
    let row = |row: Result<crate::LogRow>| String::from_utf8(row.unwrap().payload().to_vec());
    log.scan(..).unwrap().map(|found| row(found).unwrap()).collect()
}

fn key_count(store: &Store) -> u64 {
    store.stats().keyspaces[0].keys
}

fn report(corrupt: &[&Path], torn: &[&Path], unknown: &[&Path]) -> RecoveryReport {
    let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    RecoveryReport {
        corrupt_records: owned(corrupt),
        torn_tails: owned(torn),
        unknown_versions: owned(unknown),
    }
}

/// Opens copies of a store, each with another call that fails, until none does any more.
fn each_faulty_opening(
    bench: &Bench,
    open: impl Fn(StoreBuilder) -> Result<Store>,
    mut look: impl FnMut(Result<Store>, &FaultyDisk, u64),
) {
    for call in 1.. {
        let disk = FaultyDisk::new(Arc::new(bench.disk.fork()));
        disk.inject(call, Fault::Error(ErrorKind::TimedOut));
        let opened = open(bench.on(Store::builder("/data").disk(disk.clone())));
        if disk.calls() < call {
            break;
        }
        look(opened, &disk, call);
    }
}

/// The files and directories that an opening syncs, as far as it fails if they cannot be.
fn needed_syncs(bench: &Bench, open: impl Fn(StoreBuilder) -> Result<Store>) -> BTreeSet<PathBuf> {
    needed(bench, "sync", open)
}

/// What an opening does this to, as far as it fails if that cannot be done.
fn needed(
    bench: &Bench,
    needed_operation: &str,
    open: impl Fn(StoreBuilder) -> Result<Store>,
) -> BTreeSet<PathBuf> {
    let mut needed = BTreeSet::new();
    each_faulty_opening(bench, open, |opened, _, _| {
        if let Err(Error::Io { operation, path, .. }) = opened
            && operation == needed_operation
        {
            needed.insert(path);
        }
    });
    needed
}

/// A store that is closed, with a pseudonym for a visitor and perhaps a row about it.
fn closed_with_visitor(has_row: bool) -> (Bench, Pseudonym) {
    let bench = Bench::new();
    let store = bench.open();
    let log = visits(&store);
    let visitor = log.pseudonym(VISITOR, store.now()).unwrap();
    if has_row {
        let _ = log.append(Row::new(visitor).payload("row")).unwrap();
    }
    drop(log);
    store.close().unwrap();
    (bench, visitor)
}
