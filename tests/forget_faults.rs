//! Forgetting, stopped between any two calls on the disk: all of it counts or nothing, what is hidden
//! stays hidden, and what is denied stays denied.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Error, Keyspace, KeyspaceOptions, Log, LogOptions, ManualClock, Outcome, Receipt, Result,
    Retention, Row, Scope, Store, StoreBuilder, Timestamp,
};

use fixture::{MODES, Random, START, clock, files_of, hours, on_memory, open, quiet, seed};

const NAMES: [&str; 2] = ["one", "two"];
const TAGS: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
const UNTIL: Timestamp = Timestamp::from_millis(START.as_millis() + 100 * 3_600_000);

fn keyspace(store: &Store, name: &str) -> Keyspace {
    store.keyspace(name, KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192)).unwrap()
}

fn log(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(8192)).unwrap()
}

/// A durable store of two keyspaces and a log, with a record and a row for each tag, and so many
/// entries in its tombstone log.
fn prepare(builder: StoreBuilder, mapped: bool, tombstones: usize) -> Store {
    let store = open(builder, mapped);
    for name in NAMES {
        let keyspace = keyspace(&store, name);
        for tag in TAGS {
            let stored = keyspace.fill(tag).tag(tag).commit(tag).unwrap();
            assert_eq!(stored, Outcome::Stored);
        }
        keyspace.insert("plain", "value").unwrap();
    }
    for tag in TAGS {
        log(&store).append(Row::anonymous().tag(tag).payload(tag)).unwrap();
    }
    for number in 0..tombstones {
        keyspace(&store, "one").invalidate(format!("never-{number}")).unwrap();
    }
    store.sync().unwrap();
    store
}

/// What of the tags can still be read: in each keyspace, and in the log.
fn left(store: &Store) -> Vec<Vec<String>> {
    let of = |name: &str| {
        let keyspace = store.existing_keyspace(name).unwrap();
        let there = TAGS.iter().filter(|tag| keyspace.contains(tag).unwrap());
        there.map(|tag| (*tag).to_owned()).collect()
    };
    let rows = store.existing_log("access").unwrap().scan(..).unwrap();
    let rows = rows.map(|row| String::from_utf8(row.unwrap().payload().to_vec()).unwrap());
    vec![of("one"), of("two"), rows.collect()]
}

fn is_denied(keyspace: &Keyspace, key: &str, tag: &str) -> bool {
    match keyspace.fill(key).tag(tag).commit("x") {
        Err(Error::Denied { until }) => {
            assert_eq!(until, UNTIL);
            true
        }
        Ok(_) => false,
        Err(other) => panic!("{other}"),
    }
}

/// Something that forgets, and what it is about.
struct Case {
    run: fn(&Store) -> Result<Receipt>,
    /// In each keyspace and in the log, whether the first and the other tags are covered.
    covers: [(bool, bool); 3],
    /// Which keyspaces refuse the first tag's key or tag then.
    denies: [bool; 2],
}

const CASES: [Case; 5] = [
    Case {
        run: |store| keyspace(store, "one").invalidate_tags(TAGS),
        covers: [(true, true), (false, false), (false, false)],
        denies: [false, false],
    },
    Case {
        run: |store| keyspace(store, "one").invalidate_keys(TAGS),
        covers: [(true, true), (false, false), (false, false)],
        denies: [false, false],
    },
    Case {
        run: |store| store.invalidate_tags(TAGS, Scope::Everything),
        covers: [(true, true), (true, true), (true, true)],
        denies: [false, false],
    },
    Case {
        run: |store| keyspace(store, "two").erase("t0").deny_until(UNTIL).commit(),
        covers: [(false, false), (true, false), (false, false)],
        denies: [false, true],
    },
    Case {
        run: |store| store.erase_tag("t0", Scope::Everything).deny_until(UNTIL).commit(),
        covers: [(true, false), (true, false), (true, false)],
        denies: [true, true],
    },
];

impl Case {
    /// What is left once it is done.
    fn left_after(&self) -> Vec<Vec<String>> {
        let of = |(first, rest): (bool, bool)| {
            let kept =
                TAGS.iter().enumerate().filter(|(at, _)| !(if *at == 0 { first } else { rest }));
            kept.map(|(_, tag)| (*tag).to_owned()).collect()
        };
        self.covers.map(of).to_vec()
    }

    /// Checks a store that is opened after a stop; true if it turned out to be done.
    fn check(
        &self,
        builder: &dyn Fn(&MemoryDisk) -> Store,
        disk: &MemoryDisk,
        must_be_done: bool,
        what: &str,
    ) -> bool {
        let found = left(&builder(disk));
        let all = CASES[0].left_after().last().unwrap().clone();
        let untouched = found.iter().all(|left| *left == all);
        let done = found == self.left_after();
        assert!(untouched || done, "{what}: neither all nor nothing: {found:?}");
        assert!(done || !must_be_done, "{what}: it had been acknowledged");
        // Beside it, since what is not denied is stored.
        let store = builder(&disk.fork());
        for (name, denies) in NAMES.iter().zip(self.denies) {
            let keyspace = store.existing_keyspace(name).unwrap();
            assert_eq!(is_denied(&keyspace, "t0", "t0"), denies && done, "{what}: {name}");
        }
        done
    }
}

fn cut(disk: &MemoryDisk, choices: &mut Random) -> MemoryDisk {
    disk.fork().crash(&mut |options: u32| choices.below(options.into()) as u32)
}

/// The calls that something makes on the disk: the number of the first, and of the one after the
/// last.
fn calls(disk: &FaultyDisk, run: impl FnOnce()) -> (u64, u64) {
    let first = disk.calls() + 1;
    run();
    (first, disk.calls() + 1)
}

fn faulty(clock: &ManualClock) -> (MemoryDisk, FaultyDisk, StoreBuilder) {
    let memory = MemoryDisk::new(1);
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let builder = quiet(Store::builder("/data").disk(disk.clone()), clock);
    (memory, disk, builder)
}

#[test]
fn a_stop_between_any_two_calls_leaves_all_or_nothing() {
    let mut choices = Random::new(seed("a_stop_between_any_two_calls_leaves_all_or_nothing"));
    for (number, case) in CASES.iter().enumerate() {
        let (mut done, mut undone) = (0, 0);
        for mapped in MODES {
            // With room in the log, and without, so that it is turned.
            for tombstones in [1, 23] {
                let clock = clock();
                let (_, disk, builder) = faulty(&clock);
                let store = prepare(builder, mapped, tombstones);
                let (first, end) = calls(&disk, || assert!((case.run)(&store).is_ok()));
                assert!(end > first + 2);
                for call in first..=end {
                    for fault in
                        [Fault::ErrorsFrom(ErrorKind::Other), Fault::Torn(ErrorKind::Other)]
                    {
                        let what = format!("case {number}, {fault:?} at {call} of {first}..{end}");
                        let (memory, disk, builder) = faulty(&clock);
                        let store = prepare(builder, mapped, tombstones);
                        disk.inject(call, fault);
                        if matches!(fault, Fault::Torn(_)) {
                            disk.inject(call + 1, Fault::ErrorsFrom(ErrorKind::Other));
                        }
                        let acknowledged = (case.run)(&store).is_ok();
                        let reopen = |disk: &MemoryDisk| open(on_memory(disk, &clock), mapped);
                        for stopped in [memory.fork().kill(), cut(&memory, &mut choices)] {
                            let is_done = case.check(&reopen, &stopped, acknowledged, &what);
                            *(if is_done { &mut done } else { &mut undone }) += 1;
                            // Once seen as hidden, it stays so.
                            let again = cut(&stopped, &mut choices);
                            case.check(&reopen, &again, is_done, &what);
                        }
                    }
                }
            }
        }
        assert!(done > 10 && undone > 10, "case {number}: {done} done, {undone} not");
    }
}

/// A single call that fails is got over: by the spare log.
#[test]
fn a_single_failure_is_got_over() {
    for (number, case) in CASES.iter().enumerate() {
        let clock = clock();
        let (_, disk, builder) = faulty(&clock);
        let store = prepare(builder, false, 1);
        store.maintain().unwrap();
        let (first, end) = calls(&disk, || assert!((case.run)(&store).is_ok()));
        for call in first..end {
            let (memory, disk, builder) = faulty(&clock);
            let store = prepare(builder, false, 1);
            store.maintain().unwrap();
            disk.inject(call, Fault::Error(ErrorKind::Other));
            (case.run)(&store).unwrap();
            let reopen = |disk: &MemoryDisk| open(on_memory(disk, &clock), false);
            let what = format!("case {number} at {call}");
            assert!(case.check(&reopen, &memory.fork().kill(), true, &what));
        }
    }
}

/// Denials are written to the newest log before theirs is forgotten, wherever that is stopped.
#[test]
fn denials_survive_a_stop_while_their_log_is_forgotten() {
    let mut choices = Random::new(seed("denials_survive_a_stop_while_their_log_is_forgotten"));
    for mapped in MODES {
        let clock = clock();
        let make = || {
            clock.set_wall(START);
            let (memory, disk, builder) = faulty(&clock);
            let store = open(builder, mapped);
            let keyspace = keyspace(&store, "one");
            keyspace.erase("t0").deny_until(UNTIL).commit().unwrap();
            store.erase_tag("t1", Scope::Keyspaces).deny_until(UNTIL).commit().unwrap();
            for number in 0..46 {
                keyspace.invalidate(format!("key-{number}")).unwrap();
            }
            (memory, disk, store)
        };
        let (memory, disk, store) = make();
        let first_log =
            || memory.all_files().iter().any(|path| path.ends_with("tombstones/0000000001.log"));
        assert!(first_log());
        let (first, end) = calls(&disk, || store.maintain().unwrap());
        assert!(end > first + 10 && !first_log());
        for call in first..=end {
            let (memory, disk, store) = make();
            disk.inject(call, Fault::ErrorsFrom(ErrorKind::Other));
            let _ = store.maintain();
            for stopped in [memory.fork().kill(), cut(&memory, &mut choices)] {
                let store = open(on_memory(&stopped, &clock), mapped);
                let keyspace = store.existing_keyspace("one").unwrap();
                assert!(is_denied(&keyspace, "t0", "x"), "{call} of {first}..{end}");
                assert!(is_denied(&keyspace, "new", "t1"), "{call} of {first}..{end}");
                assert!(store.recovery_report().corrupt_records.is_empty());
            }
        }
        clock.advance(hours(1));
    }
}

/// A call fails while logs are forgotten; later ones are forgotten well. Nothing is missed for that, and the
/// log that stayed goes too.
#[test]
fn a_log_that_stayed_is_no_gap_and_goes_with_the_next() {
    for fault in [Fault::Error(ErrorKind::Other), Fault::ErrorAfter(ErrorKind::Other)] {
        for call in 1.. {
            let clock = clock();
            let (memory, disk, builder) = faulty(&clock);
            let store = open(builder, false);
            let keyspace = keyspace(&store, "one");
            keyspace.erase("t0").deny_until(UNTIL).commit().unwrap();
            let mut invalidate = (0..).map(|n| keyspace.invalidate(format!("key-{n}")));
            assert!(invalidate.by_ref().take(60).all(|invalidated| invalidated.is_ok()));
            let reached = disk.calls() + call;
            disk.inject(reached, fault);
            let what = format!("{fault:?} at {call}, {:?}", store.maintain());
            let is_over = disk.calls() < reached;
            disk.clear();
            assert!(invalidate.by_ref().take(60).all(|invalidated| invalidated.is_ok()));
            store.maintain().unwrap();
            assert_eq!(store.verify().unwrap().problems, [], "{what}");
            let logs = || files_of(&memory).into_iter().filter(|(path, _)| is_tombstone_log(path));
            assert_eq!(logs().count(), 1, "{what}");
            assert!(is_denied(&keyspace, "t0", "x"), "{what}");
            if is_over {
                break;
            }
        }
    }
}

fn is_tombstone_log(path: &Path) -> bool {
    path.starts_with("/data/tombstones") && path.extension().is_some_and(|end| end == "log")
}

/// Logs whose two regions differ.
fn logs_with_a_torn_end(disk: &MemoryDisk) -> usize {
    let files = files_of(disk).into_iter().filter(|(path, _)| path.starts_with("/data/tombstones"));
    let halves = files.map(|(_, bytes)| (bytes[..bytes.len() / 2].to_vec(), bytes));
    halves.filter(|(first, bytes)| first[..] != bytes[first.len()..]).count()
}

/// The second region of a log lacks its last entry when the log is given up.
#[test]
fn a_log_that_was_given_up_is_repaired_by_the_next_open() {
    let clock = clock();
    let (memory, disk, builder) = faulty(&clock);
    let store = prepare(builder, false, 1);
    store.maintain().unwrap();
    disk.inject(disk.calls() + 2, Fault::Error(ErrorKind::Other));
    keyspace(&store, "one").invalidate("t0").unwrap();
    assert_eq!(logs_with_a_torn_end(&memory), 1);
    let memory = memory.kill();
    drop(store);
    let store = open(on_memory(&memory, &clock), false);
    assert_eq!(logs_with_a_torn_end(&memory), 0);
    assert_eq!(store.verify().unwrap().problems, []);
}
