//! What the tests of a whole store share: opening in both modes, a fixed start of time, and choices
//! made from a seed.
#![allow(dead_code)]

#[path = "random.rs"]
mod random;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use random::Random;

use ebbtide::disk::MemoryDisk;
use ebbtide::{Error, ManualClock, Result, Store, StoreBuilder, Timestamp};

/// When the clocks of all tests start: in the middle of an hour, at 13:30 UTC.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_267_800_000);
/// By position, and mapped.
pub(crate) const MODES: [bool; 2] = [false, true];

/// So many minutes.
pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// So many hours.
pub(crate) const fn hours(count: u64) -> Duration {
    minutes(60 * count)
}

/// Opens a store by position or mapped.
#[allow(unsafe_code)]
pub(crate) fn try_open(builder: StoreBuilder, mapped: bool) -> Result<Store> {
    if mapped {
        // SAFETY: the directory belongs to the test alone, on a local or in-memory disk.
        unsafe { builder.open_mapped() }
    } else {
        builder.open()
    }
}

/// Opens a store that must open.
pub(crate) fn open(builder: StoreBuilder, mapped: bool) -> Store {
    try_open(builder, mapped).unwrap()
}

/// A clock that stands at [`START`].
pub(crate) fn clock() -> ManualClock {
    ManualClock::new(START)
}

/// A store at `/data` of a disk, without a background thread, with small tombstone logs.
pub(crate) fn on_memory(disk: &MemoryDisk, clock: &ManualClock) -> StoreBuilder {
    quiet(Store::builder("/data").disk(disk.clone()), clock)
}

/// The same settings for any store.
pub(crate) fn quiet(builder: StoreBuilder, clock: &ManualClock) -> StoreBuilder {
    builder.clock(clock.clone()).background(false).tombstone_log_bytes(4096).ledger_file_bytes(4096)
}

/// The seed of a test: from `EBBTIDE_SEED`, else always the same; printed, so that a failure can be
/// had again.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("EBBTIDE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| ebbtide::value_hash(test.as_bytes()) as u64);
    println!("{test}: EBBTIDE_SEED={seed}");
    seed
}

/// The bytes a version of a key has: its own number first, then noise of a length up to `longest`.
pub(crate) fn value_of(key: u64, version: u64, longest: u64) -> Vec<u8> {
    let mut choices = Random::new(key.wrapping_mul(0x1234_5679).wrapping_add(version));
    let len = choices.below(longest + 1) as usize;
    let mut value = version.to_le_bytes().to_vec();
    value.extend(choices.bytes(len));
    value
}

/// All files of a disk as they are now.
pub(crate) fn files_of(disk: &MemoryDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let disk = disk.fork();
    let read = |path: PathBuf| {
        let bytes = disk.read_file(&path).unwrap();
        (path, bytes)
    };
    disk.all_files().into_iter().map(read).collect()
}

/// A call that may find the store closed, and nothing else wrong.
pub(crate) fn unless_closed<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Closed) => None,
        Err(other) => panic!("{other}"),
    }
}
