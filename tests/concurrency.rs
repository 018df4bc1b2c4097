//! Many threads on one store: never a wrong byte, and never an invalidated value after its receipt.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::disk::{FaultyDisk, MemoryDisk};
use ebbtide::{
    Durability, Error, Fill, Keyspace, KeyspaceOptions, LogOptions, Outcome, Result, Retention,
    Row, Store,
};

use fixture::{MODES, Random, clock, minutes, on_memory, open, quiet, seed, value_of};

const KEYS: u64 = 40;
const LONGEST: u64 = 600;

/// What the threads agree on: the versions given out, each once, and those whose invalidation was
/// confirmed.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    hidden: Mutex<HashSet<u64>>,
    done: AtomicBool,
}

fn key(number: u64) -> String {
    format!("key-{number}")
}

fn options(capacity: Option<u64>) -> KeyspaceOptions {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192);
    capacity.map_or(options, |bytes| options.capacity_bytes(bytes))
}

fn commit(fill: Fill, value: &[u8]) {
    ended(fill.commit(value));
}

/// The clock may run past the limit of a fill.
fn ended(result: Result<Outcome>) {
    assert!(matches!(result, Ok(_) | Err(Error::FillTimedOut { .. })), "{result:?}");
}

fn write(images: &Keyspace, shared: &Shared, mut choices: Random, store: &Store) {
    for _ in 0..400 {
        let number = choices.below(KEYS);
        let version = shared.next.fetch_add(1, Ordering::SeqCst) + 1;
        let value = value_of(number, version, LONGEST);
        let fill = images.fill(key(number)).tag(format!("tag-{}", number % 5));
        match choices.below(10) {
            0 => {
                commit(fill.durability(Durability::Sync), &value);
            }
            1 => images.insert_batch([(key(number), value)]).unwrap(),
            2 => store.sync().unwrap(),
            3 => {
                let mut writer = fill.memory_limit_bytes(100).into_writer().unwrap();
                writer.write_all(&value).unwrap();
                ended(writer.commit());
            }
            4 => {
                images.try_get_with(key(number), || Ok::<_, Infallible>(value)).unwrap();
            }
            _ => commit(fill, &value),
        }
    }
}

fn invalidate(images: &Keyspace, shared: &Shared, mut choices: Random) {
    for _ in 0..150 {
        let number = choices.below(KEYS);
        // A version that can be read now was stored before the invalidation begins.
        let read = images.get(key(number)).unwrap();
        let version = read.map_or(0, |value| version_of(&value));
        match choices.below(12) {
            0 => {
                images.invalidate_all().unwrap();
            }
            1..4 => {
                images.invalidate_tag(format!("tag-{}", number % 5)).unwrap();
                continue;
            }
            _ => {
                images.invalidate(key(number)).unwrap();
            }
        }
        shared.hidden.lock().unwrap().insert(version);
        let again = images.get(key(number)).unwrap();
        assert!(again.is_none_or(|value| version_of(&value) != version));
    }
}

fn version_of(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

fn read(images: &Keyspace, shared: &Shared, mut choices: Random) {
    let mut held = Vec::new();
    while !shared.done.load(Ordering::SeqCst) {
        let number = choices.below(KEYS);
        if let Some(value) = images.get(key(number)).unwrap() {
            let version = version_of(&value);
            assert_eq!(value.as_ref(), value_of(number, version, LONGEST), "wrong bytes");
            let hidden = shared.hidden.lock().unwrap().contains(&version);
            let again = images.get(key(number)).unwrap();
            assert!(!hidden || again.is_none_or(|value| version_of(&value) != version));
            if choices.once_in(50) {
                held.push((number, version, value));
            }
        }
        if choices.once_in(100) {
            for entry in images.iter() {
                let name = String::from_utf8(entry.unwrap().key().to_vec()).unwrap();
                assert!(name.starts_with("key-"));
            }
        }
        if held.len() > 20 {
            held.clear();
        }
        for (number, version, value) in &held {
            assert_eq!(value.as_ref(), value_of(*number, *version, LONGEST), "a value changed");
        }
    }
}

fn everything_at_once(mapped: bool, capacity: Option<u64>) {
    let choices = Random::new(seed("everything_at_once"));
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), mapped);
    let images = store.keyspace("images", options(capacity)).unwrap();
    let access =
        store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(4096)).unwrap();
    let shared = Shared::default();
    let first = choices.clone().next();
    let seeded = |at: u64| Random::new(first.wrapping_add(at));
    thread::scope(|scope| {
        let (images, shared, store, access, clock) = (&images, &shared, &store, &access, &clock);
        let workers: Vec<_> = (0..3)
            .map(|at| scope.spawn(move || write(images, shared, seeded(at), store)))
            .chain((3..5).map(|at| scope.spawn(move || invalidate(images, shared, seeded(at)))))
            .chain([scope.spawn(move || {
                for _ in 0..200 {
                    // The clock may run through a whole window within the call.
                    match access.append(Row::anonymous().payload("row")) {
                        Ok(_) | Err(Error::Expired { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    for row in access.scan(..).unwrap().take(20) {
                        assert_eq!(row.unwrap().payload().as_ref(), b"row");
                    }
                }
            })])
            .collect();
        for at in 5..7 {
            scope.spawn(move || read(images, shared, seeded(at)));
        }
        scope.spawn(move || {
            while !shared.done.load(Ordering::SeqCst) {
                store.maintain().unwrap();
                clock.advance(minutes(20));
                let _ = store.stats();
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        shared.done.store(true, Ordering::SeqCst);
        results.into_iter().for_each(|result| result.unwrap());
    });
    assert_eq!(store.stats().poisoned, None);
    assert_eq!(store.stats().corrupt_reads, 0);
    assert!(store.problems().is_empty());
    let expected: Vec<_> = (0..KEYS).map(|n| images.get(key(n)).unwrap()).collect();
    let disk = disk.kill();
    drop(store);
    let store = open(on_memory(&disk, &clock), mapped);
    let images = store.existing_keyspace("images").unwrap();
    for (number, expected) in (0..KEYS).zip(expected) {
        let read = images.get(key(number)).unwrap();
        assert_eq!(read.map(|value| version_of(&value)), expected.map(|value| version_of(&value)));
    }
    assert!(store.verify().unwrap().problems.is_empty());
}

#[test]
fn everything_at_once_by_position() {
    everything_at_once(false, None);
}

#[test]
fn everything_at_once_mapped() {
    everything_at_once(true, None);
}

#[test]
fn everything_at_once_within_a_capacity() {
    for mapped in MODES {
        everything_at_once(mapped, Some(1 << 20));
    }
}

/// Closing while others invalidate: what got its receipt is hidden after the next open.
#[test]
fn closing_does_not_lose_an_invalidation_under_way() {
    for mapped in MODES {
        for round in 0..30 {
            let (disk, clock) = (MemoryDisk::new(round), clock());
            let store = open(on_memory(&disk, &clock), mapped);
            let images = store.keyspace("images", options(None)).unwrap();
            for number in 0..KEYS {
                images.insert(key(number), b"value").unwrap();
            }
            let confirmed = thread::scope(|scope| {
                let invalidating = scope.spawn(|| {
                    (0..KEYS).take_while(|number| images.invalidate(key(*number)).is_ok()).count()
                });
                if round % 2 == 0 {
                    thread::yield_now();
                }
                store.close().unwrap();
                invalidating.join().unwrap()
            });
            let store = open(on_memory(&disk, &clock), mapped);
            let images = store.existing_keyspace("images").unwrap();
            for number in 0..KEYS {
                let there = images.contains(key(number)).unwrap();
                assert!(!there || number >= confirmed as u64, "round {round}, key {number}");
                assert!(there || number <= confirmed as u64, "round {round}, key {number}");
            }
        }
    }
}

/// Many invalidations at once need fewer writes and syncs than one after the other.
#[test]
fn invalidations_share_their_syncs() {
    for mapped in MODES {
        let clock = clock();
        let disk = FaultyDisk::new(Arc::new(MemoryDisk::new(1)));
        let builder = on_memory(&MemoryDisk::new(1), &clock).disk(disk.clone());
        let store = open(builder.tombstone_log_bytes(1 << 20), mapped);
        let images = store.keyspace("images", options(None)).unwrap();
        images.invalidate("first").unwrap();
        let before = disk.calls();
        images.invalidate("alone").unwrap();
        let alone = disk.calls() - before;
        let before = disk.calls();
        thread::scope(|scope| {
            for at in 0..8 {
                let images = &images;
                scope.spawn(move || {
                    for number in 0..50 {
                        images.invalidate(format!("key-{at}-{number}")).unwrap();
                    }
                });
            }
        });
        let together = disk.calls() - before;
        println!("400 invalidations: {together} calls, {alone} for one alone");
        assert!(together <= 400 * alone);
        assert_eq!(store.stats().invalidations, 402);
    }
}

/// The background thread makes writes durable by itself. Nothing here waits for a fixed time: STATE
/// is read again and again until it has been written twice, each time after a round of syncs.
/// A scan begins with reading what all segments list, and keeps nobody waiting.
#[test]
fn rows_are_appended_while_a_scan_begins() {
    for mapped in MODES {
        let mut calls = 0;
        for call in 1.. {
            let disk = FaultyDisk::new(Arc::new(MemoryDisk::new(1)));
            let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock()), mapped);
            let options = LogOptions::new(Retention::hours(16)).segment_bytes(4096);
            let access = store.log("access", options).unwrap();
            let row = || Row::anonymous().payload([7; 500]);
            for _ in 0..40 {
                access.append(row()).unwrap();
            }
            store.maintain().unwrap();
            let (first, other) = (disk.calls(), access.clone());
            disk.interrupt(first + call, move || {
                for _ in 0..10 {
                    other.append(row()).unwrap();
                }
            });
            let scan = access.scan(..).unwrap();
            if disk.calls() < first + call {
                break;
            }
            assert!((40..=50).contains(&scan.map(Result::unwrap).count()), "call {call}");
            calls = call;
        }
        assert!(calls > 5, "{calls}");
    }
}

#[test]
fn the_background_thread_syncs() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let builder = on_memory(&disk, &clock).sync_interval(Duration::from_millis(10));
        let store = open(builder.background(true), mapped);
        let images = store.keyspace("images", options(None)).unwrap();
        images.insert("key", b"value").unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let state = || disk.read_file(Path::new("/data/STATE")).unwrap();
        for _ in 0..2 {
            let before = state();
            clock.advance(minutes(2));
            while state() == before {
                assert!(Instant::now() < until, "the background thread does nothing");
                thread::yield_now();
            }
        }
        let disk = disk.crash(&mut |_: u32| 0);
        drop(store);
        let store = open(on_memory(&disk, &clock), mapped);
        assert!(store.existing_keyspace("images").unwrap().contains("key").unwrap());
    }
}
