//! What the benchmarks share: where they work, what they store, and stores in the states that users
//! meet.

// Each benchmark uses its own part of this.
#![allow(dead_code)]

pub(crate) mod access;
pub(crate) mod cdn;
pub(crate) mod fill;
#[path = "../../tests/common/random.rs"]
mod random;
pub(crate) mod report;

pub(crate) use random::Random;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebbtide::{
    BootId, Clock, Keyspace, KeyspaceOptions, Retention, Store, StoreBuilder, SystemClock,
    Timestamp,
};
use tempfile::TempDir;

/// A directory on the disk that the project is built on, since a benchmark of durable writes says
/// nothing on a file system in memory.
pub(crate) fn scratch() -> TempDir {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join("bench-data");
    std::fs::create_dir_all(&parent).unwrap();
    tempfile::tempdir_in(parent).unwrap()
}

/// A file of the test data.
pub(crate) fn test_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("data").join(name)
}

/// Bytes that do not compress, touched before they are used.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut random = Random::new(0x6e6f_6973);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The system's clocks, moved forward by hand: what a read of the clock costs is in the figures,
/// and a month can pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct MovedClock {
    by_ms: Arc<AtomicU64>,
}

impl MovedClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.by_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    fn by(&self) -> Duration {
        Duration::from_millis(self.by_ms.load(Ordering::Relaxed))
    }
}

impl Clock for MovedClock {
    fn wall(&self) -> Timestamp {
        SystemClock.wall() + self.by()
    }

    fn boot_ms(&self) -> u64 {
        SystemClock.boot_ms() + self.by().as_millis() as u64
    }

    fn boot_id(&self) -> BootId {
        SystemClock.boot_id()
    }
}

/// How the images of all these benchmarks are kept.
pub(crate) fn a_month() -> Retention {
    Retention::days(30)
}

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A store that does nothing by itself, so that only what is called is measured.
pub(crate) fn quiet_store(path: &Path, clock: &MovedClock) -> Store {
    let builder = Store::builder(path).clock(clock.clone()).background(false);
    builder.sync_interval(Duration::from_secs(3600)).open().unwrap()
}

/// A quiet store with one keyspace in a directory of its own, and the clock it goes by.
pub(crate) struct Scene {
    pub store: Store,
    pub images: Keyspace,
    pub clock: MovedClock,
    // After the store: fields are dropped in this order.
    dir: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(KeyspaceOptions::new(a_month()))
    }

    pub(crate) fn with(options: KeyspaceOptions) -> Self {
        let dir = scratch();
        let clock = MovedClock::default();
        let store = quiet_store(&dir.path().join("store"), &clock);
        let images = store.keyspace("images", options).unwrap();
        Self { store, images, clock, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Lets all that is stored expire and gives its space back, without writing it to the disk
    /// first.
    pub(crate) fn empty(&self) {
        self.clock.advance(31 * DAY);
        self.store.drop_expired().unwrap();
        self.store.maintain().unwrap();
    }
}

/// Opens a store in mapped mode.
pub(crate) fn open_mapped(path: &Path) -> Store {
    open_mapped_as(Store::builder(path).background(false))
}

/// Opens a store in mapped mode with these options.
#[allow(unsafe_code)]
pub(crate) fn open_mapped_as(builder: StoreBuilder) -> Store {
    // SAFETY: the directory belongs to this benchmark alone and lies on the build's local disk.
    unsafe { builder.open_mapped() }.unwrap()
}

/// Copies a directory with all that is in it, and waits until the copy is on the disk.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            std::fs::File::open(&target).unwrap().sync_all().unwrap();
        }
    }
}
