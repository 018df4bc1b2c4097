//! Fills: their end, their time limit, and values that are written in pieces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Durability, Error, Fill, FillWriter, Keyspace, KeyspaceOptions, Level, ManualClock, Outcome,
    Receipt, Retention, Store,
};

use fixture::{MODES, Random, clock, minutes, on_memory, open, quiet, try_open};

fn options() -> KeyspaceOptions {
    KeyspaceOptions::new(Retention::days(30)).segment_bytes(64 << 10)
}

fn images(store: &Store) -> Keyspace {
    store.keyspace("images", options()).unwrap()
}

/// Runs a test on a new store, by position and mapped.
fn each_mode(test: impl Fn(&MemoryDisk, &ManualClock, bool)) {
    for mapped in MODES {
        test(&MemoryDisk::new(1), &clock(), mapped);
    }
}

fn parts(disk: &MemoryDisk) -> Vec<PathBuf> {
    let files = disk.all_files().into_iter();
    files.filter(|path| path.extension().is_some_and(|ext| ext == "part")).collect()
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

/// Writes a value in pieces, with next to no memory.
fn written(fill: Fill, value: &[u8]) -> FillWriter {
    let mut writer = fill.memory_limit_bytes(100).into_writer().unwrap();
    for piece in value.chunks(333) {
        writer.write_all(piece).unwrap();
    }
    writer
}

#[track_caller]
fn assert_holds(images: &Keyspace, key: &str, value: &[u8]) {
    let found = images.get(key).unwrap().unwrap_or_else(|| panic!("{key} is missing"));
    assert!(found[..] == *value, "{key}: {} bytes instead of {}", found.len(), value.len());
    assert_eq!(found.stat().value_hash(), ebbtide::value_hash(value));
}

#[track_caller]
fn assert_in_order(disk: &MemoryDisk, store: &Store) {
    assert_eq!(store.verify().unwrap().problems, []);
    assert_eq!(parts(disk), [] as [PathBuf; 0]);
}

#[test]
fn an_aborted_fill_stores_nothing() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        images.insert("key", b"old").unwrap();
        images.fill("key").abort();
        drop(images.fill("key"));
        written(images.fill("key"), b"short").abort();
        let long = bytes(5000, 1);
        let writer = written(images.fill("key"), &long);
        assert_eq!(parts(disk).len(), 1, "it has outgrown the memory");
        assert_eq!(writer.value_len(), 5000);
        assert_holds(&images, "key", b"old");
        writer.abort();
        assert_eq!(parts(disk).len(), 0);
        drop(written(images.fill("key"), &long));
        assert_holds(&images, "key", b"old");
        assert_in_order(disk, &store);
    });
}

#[test]
fn a_fill_is_refused_after_its_time() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let limit = Duration::from_millis(500);
        let (last, late) = (images.fill("a").time_limit(limit), images.fill("b").time_limit(limit));
        let late_writer = written(images.fill("c").time_limit(limit), &bytes(5000, 1));
        let standard = [images.fill("d"), images.fill("e")];
        clock.advance(Duration::from_millis(499));
        assert_eq!(last.commit(b"value").unwrap(), Outcome::Stored);
        clock.advance(Duration::from_millis(1));
        for result in [late.commit(b"value"), late_writer.commit()] {
            assert!(matches!(result, Err(Error::FillTimedOut { limit_ms: 500 })), "{result:?}");
        }
        let [d, e] = standard;
        clock.advance(minutes(10) - Duration::from_millis(501));
        assert_eq!(d.commit(b"value").unwrap(), Outcome::Stored);
        clock.advance(Duration::from_millis(1));
        let result = e.commit(b"value");
        assert!(matches!(result, Err(Error::FillTimedOut { limit_ms: 600_000 })), "{result:?}");
        for (key, there) in [("a", true), ("b", false), ("c", false), ("d", true), ("e", false)] {
            assert_eq!(images.contains(key).unwrap(), there, "{key}");
        }
        assert_in_order(disk, &store);
    });
}

#[test]
fn impossible_time_limits_are_refused() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let fill = |limit| images.fill("key").time_limit(limit);
        let day = Duration::from_secs(86_400);
        for limit in [Duration::ZERO, Duration::from_micros(999), day + Duration::from_millis(1)] {
            let result = fill(limit).commit(b"value");
            assert!(matches!(result, Err(Error::Limit { .. })), "{limit:?}: {result:?}");
            let result = fill(limit).into_writer();
            assert!(matches!(result, Err(Error::Limit { .. })), "{limit:?}: {result:?}");
        }
        for limit in [Duration::from_millis(1), day] {
            assert!(fill(limit).commit(b"value").is_ok_and(|o| o == Outcome::Stored));
        }
    });
}

/// The clock reaches the limit, the tombstone that the fill would have had to meet is forgotten, and
/// the fill is committed after all.
#[test]
fn an_expired_fill_lets_tombstones_go_and_brings_nothing_back() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let fills = [images.fill("key").tag("tag"), images.fill("key").tag("tag")];
        images.invalidate("key").unwrap();
        images.invalidate_tag("tag").unwrap();
        let tombstones = || {
            store.maintain().unwrap();
            let keyspace = &store.stats().keyspaces[0];
            (keyspace.key_tombstones, keyspace.tag_tombstones)
        };
        assert_eq!(tombstones(), (1, 1), "both fills may still be committed");
        let [met, expired] = fills;
        assert_eq!(met.commit(b"value").unwrap(), Outcome::Superseded);
        clock.advance(minutes(10));
        assert_eq!(tombstones(), (0, 0));
        let expired = written(expired.time_limit(minutes(60)), &bytes(3000, 1));
        let result = expired.commit();
        assert!(matches!(result, Err(Error::FillTimedOut { limit_ms: 600_000 })), "{result:?}");
        assert!(!images.contains("key").unwrap());
        store.close().unwrap();
        let store = open(on_memory(disk, clock), mapped);
        assert!(!store.existing_keyspace("images").unwrap().contains("key").unwrap());
        assert_in_order(disk, &store);
    });
}

#[test]
fn values_written_in_pieces_are_read_back() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let lens = [0, 1, 99, 100, 101, 333, 334, 1000, 4096, 4097, 70_000, 300_000];
        let limits = [0, 1, 100, 4096, 1 << 20];
        let mut expected = BTreeMap::new();
        for (at, len) in lens.iter().enumerate() {
            for limit in limits {
                let (key, value) = (format!("{len}-{limit}"), bytes(*len, at as u64));
                let fill = images.fill(&key).tag("tag").metadata("meta").memory_limit_bytes(limit);
                let mut writer = fill.into_writer().unwrap();
                for piece in value.chunks(1 + at * 777) {
                    writer.write_all(piece).unwrap();
                }
                writer.flush().unwrap();
                assert_eq!(parts(disk).len(), usize::from(*len > limit), "{key}");
                assert!(!images.contains(&key).unwrap());
                assert_eq!(writer.commit().unwrap(), Outcome::Stored);
                assert_holds(&images, &key, &value);
                assert_eq!(images.stat(&key).unwrap().unwrap().metadata(), b"meta");
                expected.insert(key, value);
            }
        }
        assert_in_order(disk, &store);
        let check = |disk: &MemoryDisk, close: bool| {
            let store = open(on_memory(disk, clock), mapped);
            let images = store.existing_keyspace("images").unwrap();
            expected.iter().for_each(|(key, value)| assert_holds(&images, key, value));
            assert_in_order(disk, &store);
            if close {
                images.invalidate_tag("tag").unwrap();
                assert_eq!(images.iter().count(), 0);
                store.close().unwrap();
            }
        };
        store.sync().unwrap();
        check(&disk.fork().kill(), false);
        check(&disk.fork().crash(&mut |_: u32| 0), false);
        store.close().unwrap();
        check(disk, false);
        check(disk, true);
    });
}

#[test]
fn a_value_on_the_disk_is_durable_once_committed() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let value = bytes(9000, 1);
        let outcome = written(images.fill("long"), &value).commit().unwrap();
        assert_eq!(outcome, Outcome::Stored);
        let short = images.fill("short").durability(Durability::Sync);
        assert_eq!(written(short, b"value").commit().unwrap(), Outcome::Stored);
        let disk = disk.crash(&mut |_: u32| 0);
        let store = open(on_memory(&disk, clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        assert_holds(&images, "long", &value);
        assert_holds(&images, "short", b"value");
    });
}

#[test]
fn what_was_being_written_is_removed_by_the_next_open() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let writers = [1, 2].map(|seed| written(images.fill("key"), &bytes(5000, seed)));
        assert_eq!(parts(disk).len(), 2);
        let killed = disk.fork().kill();
        let store = Store::builder("/data").disk(killed.clone()).open_read_only().unwrap();
        assert_eq!(parts(&killed).len(), 2, "a store that is only looked at stays as it is");
        drop(store);
        let store = open(on_memory(&killed, clock), mapped);
        assert!(!store.existing_keyspace("images").unwrap().contains("key").unwrap());
        assert_in_order(&killed, &store);
        drop(writers);
        assert_eq!(parts(disk).len(), 0);
    });
}

#[test]
fn closing_ends_a_fill() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let mut writing = written(images.fill("a"), &bytes(5000, 1));
        let (long, short) = (written(images.fill("b"), &bytes(5000, 2)), images.fill("c"));
        store.close().unwrap();
        assert_eq!(parts(disk).len(), 0, "nothing can come of them");
        let source = writing.write_all(&[0; 500]).unwrap_err().into_inner().unwrap();
        assert!(matches!(source.downcast_ref(), Some(Error::Closed)));
        assert!(matches!(long.commit(), Err(Error::Closed)));
        assert!(matches!(short.into_writer(), Err(Error::Closed)));
        assert!(matches!(writing.commit(), Err(Error::FillFailed { .. })));
        assert_eq!(parts(disk).len(), 0);
    });
}

#[test]
fn a_value_that_grows_too_long_is_given_up() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = store.keyspace("images", options().max_value_bytes(5000)).unwrap();
        for memory in [100, 1 << 20] {
            let fill = |key| images.fill(key).memory_limit_bytes(memory).into_writer().unwrap();
            let mut longest = fill("longest");
            longest.write_all(&[7; 5000]).unwrap();
            assert_eq!(longest.commit().unwrap(), Outcome::Stored);
            let mut longer = fill("longer");
            longer.write_all(&[7; 5000]).unwrap();
            let error = longer.write_all(&[7]).unwrap_err();
            let source = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
            assert!(matches!(source, Error::Limit { max: 5000, given: 5001, .. }), "{source}");
            assert_eq!(parts(disk).len(), 0);
            assert!(longer.write_all(b"more").is_err());
            let result = longer.commit();
            assert!(matches!(result, Err(Error::FillFailed { .. })), "{result:?}");
        }
        assert!(images.contains("longest").unwrap() && !images.contains("longer").unwrap());
        assert_in_order(disk, &store);
    });
}

#[test]
fn a_value_written_in_pieces_can_be_superseded() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        let begin = || written(images.fill("key").tag("tag"), &bytes(5000, 1));
        let mut writers = vec![begin()];
        images.invalidate("key").unwrap();
        writers.push(begin());
        images.invalidate_tag("tag").unwrap();
        writers.push(begin());
        images.invalidate_all().unwrap();
        writers.push(begin());
        images.insert("key", b"newer").unwrap();
        let (older, newer) = (begin(), begin());
        assert_eq!(newer.commit().unwrap(), Outcome::Stored);
        writers.push(older);
        for writer in writers {
            assert_eq!(writer.commit().unwrap(), Outcome::Superseded);
        }
        assert_holds(&images, "key", &bytes(5000, 1));
        assert_in_order(disk, &store);
    });
}

/// Fills in pieces and in memory, inserts, and invalidations of few keys, in any order: the winner
/// is the same before and after every kind of stop.
#[test]
fn values_in_pieces_and_inserts_of_one_key_keep_their_order() {
    for mapped in MODES {
        for seed in 0..12 {
            let (disk, clock) = (MemoryDisk::new(seed), clock());
            let mut random = Random::new(fixture::seed("order") ^ seed);
            let mut store = open(on_memory(&disk, &clock), mapped);
            let mut images = images(&store);
            let mut disk = disk;
            let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            let mut open_fills: Vec<(String, Vec<u8>, FillWriter)> = Vec::new();
            for step in 0..120 {
                let key = format!("key-{}", random.below(3));
                let value = bytes(random.below(9000) as usize, step);
                match random.below(10) {
                    0..3 => {
                        images.insert(&key, &value).unwrap();
                        expected.insert(key, value);
                    }
                    3..6 => {
                        let writer = written(images.fill(&key), &value);
                        open_fills.push((key, value, writer));
                    }
                    6..8 if !open_fills.is_empty() => {
                        let at = random.below(open_fills.len() as u64) as usize;
                        let (key, value, writer) = open_fills.swap_remove(at);
                        match writer.commit() {
                            Ok(Outcome::Stored) => drop(expected.insert(key, value)),
                            Ok(Outcome::Superseded) | Err(Error::FillTimedOut { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    8 => {
                        images.invalidate(&key).unwrap();
                        expected.remove(&key);
                    }
                    _ => {
                        clock.advance(minutes(random.below(90)));
                        store.maintain().unwrap();
                    }
                }
                if random.once_in(20) {
                    store.sync().unwrap();
                    open_fills.clear();
                    disk = if random.once_in(2) {
                        disk.kill()
                    } else {
                        disk.crash(&mut random.choices())
                    };
                    store = open(on_memory(&disk, &clock), mapped);
                    images = store.existing_keyspace("images").unwrap();
                    assert_in_order(&disk, &store);
                }
                for number in 0..3 {
                    let key = format!("key-{number}");
                    let found = images.get(&key).unwrap().map(|value| value.to_vec());
                    assert!(
                        found.as_ref() == expected.get(&key),
                        "seed {seed}, step {step}: {key}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_being_written_counts_against_the_capacity() {
    const CAPACITY: u64 = 256 << 10;
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let options = KeyspaceOptions::new(Retention::days(30)).capacity_bytes(CAPACITY);
        let images = store.keyspace("images", options.segment_bytes(16 << 10)).unwrap();
        let used = || store.stats().keyspaces[0].used_bytes;
        let fits = || {
            let dir = Path::new("/data/keyspaces/images/");
            let files = disk.all_files().into_iter().filter(|path| path.starts_with(dir));
            let of = |path: PathBuf| match path.extension().and_then(|ext| ext.to_str()) {
                Some("seg" | "idx" | "part") => disk.read_file(&path).unwrap().len() as u64,
                _ => 0,
            };
            let bytes: u64 = files.map(of).sum();
            assert!(bytes <= used() && used() <= CAPACITY, "{bytes} bytes, {} used", used());
        };
        for number in 0..60 {
            images.insert(format!("small-{number}"), bytes(4000, number)).unwrap();
        }
        store.maintain().unwrap();
        let value = bytes(100_000, 1);
        let mut writer = images.fill("large").memory_limit_bytes(2000).into_writer().unwrap();
        for (number, piece) in value.chunks(1000).enumerate() {
            writer.write_all(piece).unwrap();
            if number % 20 == 0 {
                images.insert(format!("more-{number}"), bytes(4000, 7)).unwrap();
            }
            fits();
        }
        assert_eq!(writer.commit().unwrap(), Outcome::Stored);
        fits();
        assert_holds(&images, "large", &value);
        store.maintain().unwrap();
        fits();
        let dropped = written(images.fill("dropped"), &bytes(1000, 1));
        let before = used();
        drop(dropped);
        assert_eq!(used(), before - 4096 - 12_288, "room is given back");
        let mut writer = images.fill("too large").memory_limit_bytes(0).into_writer().unwrap();
        let error = writer.write_all(&vec![1; CAPACITY as usize]).unwrap_err();
        let source = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
        assert!(matches!(source, Error::CapacityExceeded { .. }), "{source}");
        assert_holds(&images, "large", &value);
        fits();
        assert_in_order(disk, &store);
    });
}

#[test]
fn a_full_disk_refuses_a_value_and_takes_the_next() {
    each_mode(|disk, clock, mapped| {
        let store = open(on_memory(disk, clock), mapped);
        let images = images(&store);
        images.insert("key", b"old").unwrap();
        disk.set_capacity_bytes(Some(disk.used_bytes() + 40_000));
        let mut writer = images.fill("key").memory_limit_bytes(1000).into_writer().unwrap();
        let error = writer.write_all(&bytes(50_000, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_holds(&images, "key", b"old");
        assert_eq!(parts(disk).len(), 0);
        let value = bytes(20_000, 2);
        assert_eq!(written(images.fill("key"), &value).commit().unwrap(), Outcome::Stored);
        assert_holds(&images, "key", &value);
        assert_eq!(store.stats().poisoned, None);
    });
}

/// Writes and commits a value with a fault at some call of the disk; false if it was not reached.
fn survive(fault: Fault, call: u64, mapped: bool) -> bool {
    let (memory, clock) = (MemoryDisk::new(call), clock());
    let faulty = FaultyDisk::new(Arc::new(memory.clone()));
    let store = open(on_memory(&memory, &clock).disk(faulty.clone()), mapped);
    let images = images(&store);
    images.insert("key", b"old").unwrap();
    images.insert("other", b"other").unwrap();
    store.sync().unwrap();
    let value = bytes(5000, 1);
    let begun = faulty.calls();
    faulty.inject(begun + call, fault);
    let mut writer = images.fill("key").memory_limit_bytes(2000).into_writer().unwrap();
    let all_written = value.chunks(999).try_for_each(|piece| writer.write_all(piece));
    let committed = all_written.is_ok() & writer.commit().is_ok();
    let reached = faulty.calls() >= begun + call;

    let mut states = vec![memory.fork().kill(), memory.fork().crash(&mut |_: u32| 0)];
    let mut random = Random::new(call);
    states.extend((0..4).map(|_| memory.fork().crash(&mut random.choices())));
    for disk in states {
        let store = open(on_memory(&disk, &clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        let found = images.get("key").unwrap().expect("one of the two");
        assert!(found[..] == value || (!committed && found[..] == *b"old"), "{fault:?} at {call}");
        drop(found);
        assert_holds(&images, "other", b"other");
        assert_in_order(&disk, &store);
        images.insert("key", b"newest").unwrap();
        store.close().unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        assert_holds(&store.existing_keyspace("images").unwrap(), "key", b"newest");
    }

    faulty.clear();
    assert_holds(&images, "key", if committed { &value } else { b"old" });
    if store.stats().poisoned.is_none() {
        images.insert("key", b"newest").unwrap();
        store.sync().unwrap();
        let disk = memory.crash(&mut random.choices());
        let store = open(on_memory(&disk, &clock), mapped);
        assert_holds(&store.existing_keyspace("images").unwrap(), "key", b"newest");
        assert_in_order(&disk, &store);
    } else {
        assert!(!committed);
        images.invalidate("key").unwrap();
        store.maintain().unwrap_err();
        let disk = memory.crash(&mut random.choices());
        let store = open(on_memory(&disk, &clock), mapped);
        assert!(!store.existing_keyspace("images").unwrap().contains("key").unwrap());
    }
    reached
}

#[test]
fn any_failing_call_of_a_value_in_pieces_is_survived() {
    let faults = [
        Fault::Error(ErrorKind::TimedOut),
        Fault::Error(ErrorKind::StorageFull),
        Fault::ErrorsFrom(ErrorKind::TimedOut),
        Fault::ErrorAfter(ErrorKind::TimedOut),
        Fault::Torn(ErrorKind::TimedOut),
        Fault::Torn(ErrorKind::StorageFull),
        Fault::Short,
    ];
    for mapped in MODES {
        for fault in faults {
            let reached = (1..).take_while(|call| survive(fault, *call, mapped)).count();
            assert!(reached >= 10, "{fault:?}: {reached} calls");
        }
    }
}

/// A store in which a value was given up whose file the system refused to remove.
struct GivenUp {
    memory: MemoryDisk,
    faulty: FaultyDisk,
    store: Store,
    receipt: Receipt,
}

impl GivenUp {
    fn new(clock: &ManualClock, mapped: bool) -> Self {
        let memory = MemoryDisk::new(1);
        let faulty = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(on_memory(&memory, clock).disk(faulty.clone()), mapped);
        let images = images(&store);
        images.insert("other", b"other").unwrap();
        let writer = written(images.fill("key"), &bytes(5000, 1));
        let receipt = images.invalidate("key").unwrap();
        let given_up = Self { memory, faulty, store, receipt };
        assert_eq!(given_up.failing(|| drop(writer)), 1);
        assert_eq!(parts(&given_up.memory).len(), 1);
        given_up
    }

    /// Lets all calls fail meanwhile; gives their number.
    fn failing(&self, action: impl FnOnce()) -> u64 {
        let before = self.faulty.calls();
        self.faulty.inject(before + 1, Fault::ErrorsFrom(ErrorKind::TimedOut));
        action();
        self.faulty.clear();
        self.faulty.calls() - before
    }

    /// Lets this call of the next scrub fail: it is reported, and nothing is said to be erased.
    fn scrub_failing_at(&self, call: u64) {
        self.faulty.inject(self.faulty.calls() + call, Fault::Error(ErrorKind::TimedOut));
        let result = self.store.scrub();
        assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
        assert_eq!(self.receipt.level(), Level::Hidden);
    }
}

#[test]
fn the_file_of_a_value_given_up_goes_with_the_next_scrub_if_it_could_not_be_removed() {
    for mapped in MODES {
        let given_up = GivenUp::new(&clock(), mapped);
        assert_eq!(given_up.receipt.level(), Level::Hidden);
        given_up.scrub_failing_at(1);
        assert_eq!(parts(&given_up.memory).len(), 1);
        let used = || given_up.store.stats().keyspaces[0].used_bytes;
        let before = used();
        given_up.store.scrub().unwrap();
        assert!(used() + 5000 < before, "it counts against the capacity while it is there");
        assert_in_order(&given_up.memory, &given_up.store);
        assert_eq!(given_up.receipt.level(), Level::Scrubbed);
        let cut = given_up.memory.crash(&mut |_: u32| 0);
        assert_eq!(parts(&cut), [] as [PathBuf; 0], "it would come back");
    }
}

#[test]
fn nothing_is_said_of_a_value_given_up_whose_removal_may_not_be_durable() {
    for mapped in MODES {
        let given_up = GivenUp::new(&clock(), mapped);
        given_up.scrub_failing_at(2);
        given_up.store.scrub().unwrap();
        assert_eq!(parts(&given_up.memory), [] as [PathBuf; 0]);
        assert_eq!(given_up.receipt.level(), Level::Hidden);
    }
}

#[test]
fn the_file_of_a_value_given_up_goes_though_writing_has_stopped() {
    for mapped in MODES {
        let given_up = GivenUp::new(&clock(), mapped);
        let images = given_up.store.existing_keyspace("images").unwrap();
        images.insert("more", b"more").unwrap();
        given_up.failing(|| drop(given_up.store.sync().unwrap_err()));
        assert!(given_up.store.stats().poisoned.is_some());
        let result = given_up.store.maintain();
        assert!(matches!(result, Err(Error::Poisoned { .. })), "{result:?}");
        assert_eq!(parts(&given_up.memory), [] as [PathBuf; 0]);
    }
}

#[test]
fn what_was_being_written_goes_with_the_next_scrub_if_opening_could_not_remove_it() {
    for mapped in MODES {
        let (clock, path) = (clock(), Path::new("/data/keyspaces/images/0000000100000099.part"));
        let left = GivenUp::new(&clock, mapped).memory.kill();
        left.write_file(path, b"left").unwrap();
        let mut kept = 0;
        for call in 1.. {
            let memory = left.fork();
            let faulty = FaultyDisk::new(Arc::new(memory.clone()));
            faulty.inject(call, Fault::Error(ErrorKind::TimedOut));
            let builder = quiet(Store::builder("/data").disk(faulty.clone()), &clock);
            let opened = try_open(builder, mapped);
            let reached = faulty.calls() >= call;
            if let Ok(store) = opened {
                kept += parts(&memory).len();
                // Whatever else has failed.
                let _ = store.scrub();
                assert_eq!(parts(&memory), [] as [PathBuf; 0], "call {call}");
            }
            if !reached {
                break;
            }
        }
        assert_eq!(kept, 2, "opening was not made to keep both");
    }
}
