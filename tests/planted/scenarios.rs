//! What chance would not come to: the steps are fixed, and a seed decides what a power cut leaves.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Durability, KeyspaceOptions, LedgerEntry, LedgerKind, LogOptions, ManualClock, Outcome, Result,
    Retention, Row, Store, Timestamp,
};

use crate::fixture::{Random, clock, hours, on_memory, open, quiet};

/// Bytes of each of the two places in STATE.
const SLOT: usize = 4096;
/// States that a power cut may leave at each call.
const CUTS: usize = 6;

/// The contents of all files that hold keys of pseudonyms.
fn key_files(disk: &MemoryDisk) -> Vec<Vec<u8>> {
    let files = disk.all_files().into_iter();
    let keys = files.filter(|path| path.ends_with("pseudonym.keys"));
    keys.map(|path| disk.read_file(&path).unwrap()).collect()
}

/// The power fails at each call while a log's bucket is dropped: a key that was unlinked is never
/// there again.
pub(crate) fn keys_at_a_drop(seed: u64, states: &AtomicU64) {
    let random = &mut Random::new(seed);
    for call in 1.. {
        let (memory, clock) = (MemoryDisk::new(seed), clock());
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
        let log = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
        let visitor = log.pseudonym("198.18.0.7".parse().unwrap(), store.now()).unwrap();
        log.append(Row::new(visitor).payload("GET /")).unwrap();
        store.sync().unwrap();
        let keys = key_files(&memory);
        clock.advance(hours(18));
        let stop = disk.calls() + call;
        disk.inject(stop, Fault::ErrorsFrom(ErrorKind::TimedOut));
        let _ = store.maintain();
        let is_unlinked = key_files(&memory).is_empty();
        for _ in 0..CUTS {
            let left = key_files(&memory.fork().crash(&mut random.choices()));
            let back = left.iter().any(|found| keys.contains(found));
            assert!(!(is_unlinked && back), "a key is back at call {call} of a drop");
            states.fetch_add(1, Ordering::Relaxed);
        }
        if disk.calls() < stop {
            return;
        }
    }
}

/// One place of STATE rots while the machine is off, and its clock begins in 1970: what had expired
/// stays so, since the other place is not much older.
pub(crate) fn expiry_with_a_rotten_state(seed: u64, states: &AtomicU64) {
    let random = &mut Random::new(seed);
    let (disk, clock) = (MemoryDisk::new(seed), clock());
    let store = open(on_memory(&disk, &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16));
    let images = store.keyspace("images", options).unwrap();
    let fill = images.fill("key").expires_at(store.now() + hours(2));
    assert_eq!(fill.durability(Durability::Sync).commit("value").unwrap(), Outcome::Stored);
    for _ in 0..4 {
        clock.advance(hours(1));
        store.maintain().unwrap();
    }
    let state = Path::new("/data/STATE");
    for slot in 0..2 {
        let rotten = disk.fork();
        let mut bytes = rotten.read_file(state).unwrap();
        bytes[slot * SLOT + random.below(64) as usize] ^= 1;
        rotten.write_file(state, &bytes).unwrap();
        let clock = ManualClock::new(Timestamp::default());
        clock.reboot(Duration::ZERO);
        let store = open(on_memory(&rotten, &clock), false);
        let images = store.keyspace("images", options).unwrap();
        let value = images.get("key").unwrap();
        assert_eq!(value.as_deref(), None, "what had expired is back");
        states.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tombstones over a segment that is still there are kept, though nothing in it can be read.
pub(crate) fn many_tombstones(seed: u64, states: &AtomicU64) {
    let (disk, clock) = (MemoryDisk::new(seed), clock());
    let store = open(on_memory(&disk, &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16));
    let images = store.keyspace("images", options).unwrap();
    // What is dead later is not erased at once.
    store.maintain().unwrap();
    images.insert("key", "value").unwrap();
    store.sync().unwrap();
    images.invalidate("key").unwrap();
    for number in 0..60 {
        images.invalidate(format!("never-{number}")).unwrap();
    }
    store.maintain().unwrap();
    let store = open(on_memory(&disk.kill(), &clock), false);
    let images = store.keyspace("images", options).unwrap();
    states.fetch_add(1, Ordering::Relaxed);
    assert!(images.get("key").unwrap().is_none(), "what was invalidated is back");
}

/// Prepares a store, lets the power fail at each call of an action, and has a look at what is left.
fn at_each_call(
    seed: u64,
    states: &AtomicU64,
    prepare: impl Fn(&Store, &ManualClock),
    act: impl Fn(&Store) -> Result<()>,
    look: impl Fn(&Store, u64),
) {
    let random = &mut Random::new(seed);
    for call in 1.. {
        let (memory, clock) = (MemoryDisk::new(seed), clock());
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
        prepare(&store, &clock);
        let stop = disk.calls() + call;
        disk.inject(stop, Fault::ErrorsFrom(ErrorKind::TimedOut));
        let _ = act(&store);
        for _ in 0..CUTS {
            let left = memory.fork().crash(&mut random.choices());
            look(&open(on_memory(&left, &clock), false), call);
            states.fetch_add(1, Ordering::Relaxed);
        }
        if disk.calls() < stop {
            return;
        }
    }
}

/// The power fails at each call while a version and the one it replaced are erased.
pub(crate) fn versions_at_a_scrub(seed: u64, states: &AtomicU64) {
    let images = |store: &Store| {
        store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap()
    };
    let prepare = |store: &Store, _: &ManualClock| {
        let images = images(store);
        images.insert("key", [1; 600]).unwrap();
        let fill = images.fill("key").tag("tag").durability(Durability::Sync);
        assert_eq!(fill.commit([2; 600]).unwrap(), Outcome::Stored);
        images.invalidate_tag("tag").unwrap();
    };
    at_each_call(seed, states, prepare, Store::scrub, |store, call| {
        let back = images(store).get("key").unwrap().is_some();
        assert!(!back, "a version is back that was replaced, at call {call} of a scrub");
    });
}

/// The power fails at each call while a bucket is dropped: the ledger never has it leave twice.
pub(crate) fn ledger_at_a_drop(seed: u64, states: &AtomicU64) {
    let prepare = |store: &Store, clock: &ManualClock| {
        let options = KeyspaceOptions::new(Retention::hours(16));
        store.keyspace("images", options).unwrap().insert("key", "value").unwrap();
        store.sync().unwrap();
        clock.advance(hours(18));
    };
    at_each_call(seed, states, prepare, Store::maintain, |store, call| {
        let dropped = |entry: &LedgerEntry| matches!(entry.kind, LedgerKind::BucketDropped(_));
        let drops = store.ledger().unwrap().into_iter().filter(dropped).count();
        assert!(drops < 2, "a bucket left twice, at call {call} of its drop");
    });
}

/// A sync fails, and what it was to write counts as written: nothing is acknowledged.
pub(crate) fn sync_that_is_lost(seed: u64, states: &AtomicU64) {
    let (memory, clock) = (MemoryDisk::new(seed), clock());
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16));
    let images = store.keyspace("images", options).unwrap();
    images.insert("first", "value").unwrap();
    disk.inject(disk.calls() + 1, Fault::SyncLost(ErrorKind::TimedOut));
    let is_acknowledged = store.sync().is_ok();
    let left = memory.fork().crash(&mut |_| 0);
    let store = open(on_memory(&left, &clock), false);
    let value = store.keyspace("images", options).unwrap().get("first").unwrap();
    states.fetch_add(1, Ordering::Relaxed);
    assert!(value.is_some() || !is_acknowledged, "what was durable is gone");
}

/// The system takes a part of what is written: the rest has to follow.
pub(crate) fn write_that_is_short(seed: u64, states: &AtomicU64) {
    let (memory, clock) = (MemoryDisk::new(seed), clock());
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16));
    let images = store.keyspace("images", options).unwrap();
    images.insert("first", [1; 1500]).unwrap();
    disk.inject(disk.calls() + 1, Fault::Short);
    images.insert("second", [2; 1500]).unwrap();
    let store = open(on_memory(&memory.kill(), &clock), false);
    let value = store.keyspace("images", options).unwrap().get("second").unwrap();
    states.fetch_add(1, Ordering::Relaxed);
    assert!(value.is_some_and(|value| value[..] == [2; 1500]), "what was stored is not whole");
}

/// A key is invalidated, inserted and invalidated again, all within a millisecond.
pub(crate) fn invalidated_twice(seed: u64, states: &AtomicU64) {
    let (disk, clock) = (MemoryDisk::new(seed), clock());
    let store = open(on_memory(&disk, &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16));
    let images = store.keyspace("images", options).unwrap();
    for _ in 0..2 {
        images.insert("key", "value").unwrap();
        images.invalidate("key").unwrap();
    }
    let store = open(on_memory(&disk.kill(), &clock), false);
    let images = store.keyspace("images", options).unwrap();
    states.fetch_add(1, Ordering::Relaxed);
    assert!(images.get("key").unwrap().is_none(), "what was invalidated is back");
}

/// A long record is erased while one before it is held, and one behind it is live.
pub(crate) fn neighbours_of_the_erased(seed: u64, states: &AtomicU64) {
    let (disk, clock) = (MemoryDisk::new(seed), clock());
    let store = open(on_memory(&disk, &clock), true);
    let options = KeyspaceOptions::new(Retention::hours(16));
    let images = store.keyspace("images", options).unwrap();
    for key in ["held", "long", "live"] {
        images.insert(key, [7; 5000]).unwrap();
    }
    store.sync().unwrap();
    let held = images.get("held").unwrap().unwrap();
    images.invalidate("held").unwrap();
    images.invalidate("long").unwrap();
    store.scrub().unwrap();
    assert_eq!(held.as_ref(), [7; 5000], "bytes changed that are held");
    drop(held);
    store.scrub().unwrap();
    let live = images.get("live").unwrap();
    states.fetch_add(1, Ordering::Relaxed);
    assert_eq!(live.as_deref(), Some(&[7; 5000][..]), "the neighbour is gone");
}
