//! Forgetting sooner than the deadline: by many keys or tags at once, in all of a store, softly, for
//! good with a denial, and in logs; through restarts, kills and power cuts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Error, Keyspace, KeyspaceOptions, Log, LogOptions, Lookup, ManualClock, Outcome, Result,
    Retention, Row, Scope, Store, Target, Timestamp,
};

use fixture::{MODES, Random, START, clock, hours, minutes, on_memory, open};

fn keyspace(store: &Store, name: &str) -> Keyspace {
    store.keyspace(name, KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192)).unwrap()
}

fn images(store: &Store) -> Keyspace {
    keyspace(store, "images")
}

fn access(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(8192)).unwrap()
}

fn put(keyspace: &Keyspace, key: &str, tags: &[&str]) {
    let mut fill = keyspace.fill(key);
    for tag in tags {
        fill = fill.tag(tag);
    }
    assert_eq!(fill.commit(key).unwrap(), Outcome::Stored);
}

fn row(log: &Log, payload: &str, tags: &[&str]) -> ebbtide::RowId {
    let row = tags.iter().fold(Row::anonymous(), Row::tag);
    log.append(row.payload(payload)).unwrap()
}

fn rows(log: &Log) -> Vec<String> {
    let rows = log.scan(..).unwrap();
    rows.map(|row| String::from_utf8(row.unwrap().payload().to_vec()).unwrap()).collect()
}

fn has(keyspace: &Keyspace, key: &str) -> bool {
    let value = keyspace.get(key).unwrap();
    let listed = keyspace.iter().any(|entry| entry.unwrap().key() == key.as_bytes());
    assert_eq!(value.is_some(), listed, "{key}: iteration agrees");
    assert_eq!(value.is_some(), keyspace.contains(key).unwrap(), "{key}: stat agrees");
    value.is_some()
}

fn is_stale(keyspace: &Keyspace, key: &str) -> bool {
    match keyspace.lookup(key).unwrap() {
        Lookup::Stale(value) => {
            assert_eq!(value.as_ref(), key.as_bytes());
            assert!(!has(keyspace, key));
            true
        }
        Lookup::Fresh(_) => false,
        Lookup::Absent => false,
    }
}

fn denied<T>(result: Result<T>) -> Option<Timestamp> {
    match result {
        Err(Error::Denied { until }) => Some(until),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

/// Closes and opens again, opens after a kill, after a power cut, and read-only.
fn reopened(
    disk: &MemoryDisk,
    clock: &ManualClock,
    store: Store,
    mapped: bool,
    check: impl Fn(&Store),
) {
    check(&store);
    for seed in 0..3 {
        let mut choices = Random::new(seed);
        let cut = disk.fork().crash(&mut |options: u32| choices.below(options.into()) as u32);
        check(&open(on_memory(&cut, clock), mapped));
    }
    check(&open(on_memory(&disk.fork().kill(), clock), mapped));
    check(&on_memory(disk, clock).open_read_only().unwrap());
    store.close().unwrap();
    check(&on_memory(disk, clock).open_read_only().unwrap());
    for _ in 0..2 {
        let store = open(on_memory(disk, clock), mapped);
        check(&store);
        store.maintain().unwrap();
        check(&store);
        store.close().unwrap();
    }
}

#[test]
fn many_keys_and_tags_go_together() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        for number in 0..10 {
            put(&images, &format!("k{number}"), &[&format!("t{number}")]);
        }
        let receipt = images.invalidate_keys(["k0", "k1", "k1", "never"]).unwrap();
        assert_eq!((receipt.target(), receipt.widened()), (Target::Key, false));
        let receipt = images.invalidate_tags(["t4", "t5"]).unwrap();
        assert_eq!(receipt.target(), Target::Tag);
        assert_eq!(store.stats().keyspaces[0].key_tombstones, 3);
        put(&images, "k5", &["t5"]);
        store.sync().unwrap();
        reopened(&disk, &clock, store, mapped, |store| {
            let images = store.existing_keyspace("images").unwrap();
            let left: Vec<u32> =
                (0..10).filter(|number| has(&images, &format!("k{number}"))).collect();
            assert_eq!(left, [2, 3, 5, 6, 7, 8, 9]);
        });
    }
}

#[track_caller]
fn assert_limit<T>(result: Result<T>, what: &str, max: u64, given: u64) {
    match result.map(drop) {
        Err(Error::Limit { what: w, max: m, given: g, .. }) => {
            assert_eq!((w, m, g), (what, max, given));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_hidden() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let (images, access) = (images(&store), access(&store));
    put(&images, "kept", &["t"]);
    row(&access, "kept", &["t"]);
    let long = "x".repeat(1025);
    let none: [&str; 0] = [];
    assert_limit(images.invalidate_tags(none), "tags of an invalidation", 1024, 0);
    assert_limit(images.invalidate_keys(none), "keys of an invalidation", 1024, 0);
    assert_limit(
        store.invalidate_tags(none, Scope::Everything),
        "tags of an invalidation",
        1024,
        0,
    );
    assert_limit(images.invalidate_keys(["kept", ""]), "key length in bytes", 65536, 0);
    assert_limit(images.invalidate_tags(["t", &long]), "tag length in bytes", 1024, 1025);
    assert_limit(images.invalidate_tags(["t", ""]), "tag length in bytes", 1024, 0);
    assert_limit(images.invalidate_soft(""), "key length in bytes", 65536, 0);
    assert_limit(images.invalidate_tag_soft(&long), "tag length in bytes", 1024, 1025);
    assert_limit(images.erase("").commit(), "key length in bytes", 65536, 0);
    assert_limit(images.erase_tag(&long).commit(), "tag length in bytes", 1024, 1025);
    let everything = Scope::Everything;
    assert_limit(store.invalidate_tags(["t", ""], everything), "tag length in bytes", 1024, 0);
    assert_limit(store.erase_tag("", everything).commit(), "tag length in bytes", 1024, 0);
    assert_limit(access.invalidate_tag(&long), "tag length in bytes", 1024, 1025);
    assert_limit(images.lookup(""), "key length in bytes", 65536, 0);
    assert_limit(images.explain(""), "key length in bytes", 65536, 0);
    let seventeen: Vec<String> = (0..17).map(|number| format!("t{number}")).collect();
    let fill = seventeen.iter().fold(images.fill("many"), ebbtide::Fill::tag);
    assert_limit(fill.commit("x"), "tags of a record", 16, 17);
    // A tombstone log of 4 KiB holds no longer note, and none is ever split.
    let tags = |count: u32| (0..count).map(|number| format!("tag{number}"));
    let with_kept = || tags(70).chain(["t".to_owned()]);
    assert_limit(images.invalidate_tags(with_kept()), "tags of an invalidation", 70, 71);
    assert_limit(images.invalidate_keys(tags(1025)), "keys of an invalidation", 1024, 1025);
    assert!(has(&images, "kept") && rows(&access) == ["kept"]);
    assert_eq!(store.stats().invalidations, 0);
    images.invalidate_tags(tags(70)).unwrap();
    images.invalidate_tags(tags(69).chain(["t".to_owned()])).unwrap();
    assert!(!has(&images, "kept"));
    store.close().unwrap();
    assert!(matches!(images.invalidate_tags(["t"]), Err(Error::Closed)));
    assert!(matches!(store.erase_tag("t", everything).commit(), Err(Error::Closed)));
    let store = on_memory(&disk, &clock).open_read_only().unwrap();
    assert!(matches!(store.invalidate_tag("t", everything), Err(Error::ReadOnly)));
    let big = open(on_memory(&MemoryDisk::new(2), &clock).tombstone_log_bytes(1 << 20), false);
    keyspace(&big, "images").invalidate_tags(tags(1024)).unwrap();
}

#[test]
fn one_note_covers_all_keyspaces_and_rows_if_asked() {
    for mapped in MODES {
        for scope in [Scope::Keyspaces, Scope::Everything] {
            let (disk, clock) = (MemoryDisk::new(1), clock());
            let store = open(on_memory(&disk, &clock), mapped);
            let (one, two) = (keyspace(&store, "one"), keyspace(&store, "two"));
            let access = access(&store);
            for keyspace in [&one, &two] {
                put(keyspace, "tagged", &["other", "t"]);
                put(keyspace, "kept", &["other"]);
            }
            let id = row(&access, "tagged", &["t", "other"]);
            row(&access, "kept", &["other"]);
            let watching = on_memory(&disk, &clock).open_read_only().unwrap();
            let receipt = store.invalidate_tag("t", scope).unwrap();
            assert_eq!(receipt.target(), Target::Tag);
            assert!(receipt.gone_by() > store.now());
            put(&one, "after", &["t"]);
            row(&access, "after", &["t"]);
            // Made after it, so not covered.
            put(&keyspace(&store, "three"), "after", &["t"]);
            store.sync().unwrap();
            let check = |store: &Store, has_all: bool| {
                for name in ["one", "two"] {
                    let keyspace = store.existing_keyspace(name).unwrap();
                    assert!(!has(&keyspace, "tagged"));
                    assert!(has(&keyspace, "kept"));
                }
                let log = store.existing_log("access").unwrap();
                let tagged = scope == Scope::Keyspaces;
                assert_eq!(log.get(id).unwrap().is_some(), tagged);
                let mut expected = vec!["kept"];
                expected.extend(tagged.then_some("tagged"));
                expected.extend(has_all.then_some("after"));
                expected.sort_unstable();
                let mut found = rows(&log);
                found.sort();
                assert_eq!(found, expected);
                if has_all {
                    assert!(has(&store.existing_keyspace("one").unwrap(), "after"));
                    assert!(has(&store.existing_keyspace("three").unwrap(), "after"));
                }
            };
            check(&watching, false);
            reopened(&disk, &clock, store, mapped, |store| check(store, true));
        }
    }
}

#[test]
fn stale_values_are_served_to_those_who_ask_for_them() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        for key in ["a", "b", "c", "d", "e"] {
            put(&images, key, &[&format!("of-{key}")]);
        }
        let watching = on_memory(&disk, &clock).open_read_only().unwrap();
        let late = images.fill("a");
        images.invalidate_soft("a").unwrap();
        images.invalidate_tag_soft("of-b").unwrap();
        images.invalidate_tag_soft("of-c").unwrap();
        images.invalidate_soft("d").unwrap();
        images.invalidate_soft("never").unwrap();
        assert_eq!(late.commit("a").unwrap(), Outcome::Superseded);
        assert!(is_stale(&watching.existing_keyspace("images").unwrap(), "a"));
        put(&images, "c", &["of-c"]);
        images.invalidate("d").unwrap();
        store.sync().unwrap();
        reopened(&disk, &clock, store, mapped, |store| {
            let images = store.existing_keyspace("images").unwrap();
            assert!(is_stale(&images, "a") && is_stale(&images, "b"));
            assert!(matches!(images.lookup("c").unwrap(), Lookup::Fresh(_)));
            assert!(matches!(images.lookup("d").unwrap(), Lookup::Absent), "hidden for good");
            assert!(matches!(images.lookup("e").unwrap(), Lookup::Fresh(_)));
            assert!(matches!(images.lookup("never").unwrap(), Lookup::Absent));
        });
        let store = open(on_memory(&disk, &clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        put(&images, "a", &[]);
        assert!(has(&images, "a") && !is_stale(&images, "a"));
        clock.advance(hours(17));
        assert!(matches!(images.lookup("b").unwrap(), Lookup::Absent), "stale is not for ever");
        store.maintain().unwrap();
        let stats = store.stats();
        assert_eq!((stats.keyspaces[0].key_tombstones, stats.keyspaces[0].tag_tombstones), (0, 0));
    }
}

#[test]
fn what_is_erased_can_be_denied() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (images, other) = (images(&store), keyspace(&store, "other"));
        put(&images, "key", &[]);
        put(&images, "tagged", &["t"]);
        put(&other, "tagged", &["wide"]);
        let until = START + hours(40);
        let fill = images.fill("key");
        let tagged = images.fill("new").tag("t");
        images.erase("key").deny_until(until).commit().unwrap();
        images.erase_tag("t").deny_until(until).commit().unwrap();
        store.erase_tag("wide", Scope::Everything).deny_until(until).commit().unwrap();
        images.erase("only").commit().unwrap();
        assert_eq!(denied(fill.commit("late")), Some(until));
        assert_eq!(denied(tagged.commit("late")), Some(until));
        put(&images, "only", &[]);
        store.sync().unwrap();
        let check = |store: &Store| {
            let images = store.existing_keyspace("images").unwrap();
            let other = store.existing_keyspace("other").unwrap();
            assert!(!has(&images, "key") && !has(&images, "tagged") && !has(&other, "tagged"));
            let stats = store.stats();
            let counts = |at: usize| {
                let keyspace = &stats.keyspaces[at];
                (keyspace.denied_keys, keyspace.denied_tags)
            };
            assert_eq!((counts(0), counts(1)), ((1, 2), (0, 1)));
            assert_eq!(images.explain("key").unwrap().denied_until, Some(until));
        };
        reopened(&disk, &clock, store, mapped, check);
        let store = open(on_memory(&disk, &clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        let other = store.existing_keyspace("other").unwrap();
        assert_eq!(denied(images.insert("key", "x")), Some(until));
        let message = images.insert("key", "x").unwrap_err().to_string();
        assert!(message.contains("denied until 2026-11-2"), "{message}");
        assert_eq!(denied(images.fill("new").tag("a").tag("t").commit("x")), Some(until));
        assert_eq!(denied(images.fill("new").tag("wide").commit("x")), Some(until));
        assert_eq!(
            denied(keyspace(&store, "born-later").fill("n").tag("wide").commit("x")),
            Some(until)
        );
        assert_eq!(denied(images.insert_batch([("first", "x"), ("key", "x")])), Some(until));
        assert!(!has(&images, "first"), "all are checked before one is stored");
        put(&other, "key", &["t"]);
        row(&access(&store), "rows are taken", &["wide"]);
        // A shorter one later changes nothing, and one that has passed denies nothing.
        images.erase("key").deny_until(START + hours(1)).commit().unwrap();
        images.erase("past").deny_until(START).commit().unwrap();
        put(&images, "past", &[]);
        let for_ever = Timestamp::from_millis(u64::MAX);
        images.erase("ever").deny_until(for_ever).commit().unwrap();
        assert_eq!(denied(images.insert("ever", "x")), Some(for_ever));
        assert!(images.explain("ever").unwrap().to_string().contains("denied until"));
        clock.advance(hours(40) - minutes(1));
        assert_eq!(denied(images.insert("key", "x")), Some(until));
        clock.advance(minutes(1));
        put(&images, "key", &["t", "wide"]);
        store.maintain().unwrap();
        assert_eq!(store.stats().keyspaces[1].denied_tags, 0);
        store.close().unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        assert!(has(&store.existing_keyspace("images").unwrap(), "key"));
    }
}

#[test]
fn a_denial_ends_by_trusted_time_only() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        let until = START + hours(30 * 24);
        images.erase("key").deny_until(until).commit().unwrap();
        clock.set_wall(START + hours(60 * 24));
        assert!(store.stats().suspect_ms > 0);
        assert_eq!(denied(images.insert("key", "x")), Some(until));
        store.maintain().unwrap();
        assert_eq!(denied(images.insert("key", "x")), Some(until));
        let killed = open(on_memory(&disk.fork().kill(), &clock), mapped);
        let again = killed.existing_keyspace("images").unwrap();
        assert_eq!(denied(again.insert("key", "x")), Some(until));
        store.confirm_clock().unwrap();
        put(&images, "key", &[]);
    }
}

/// With tombstone logs of 24 entries, a denial outlives many files.
#[test]
fn a_denial_outlives_its_log_file() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let mut store = open(on_memory(&disk, &clock), mapped);
        let until = START + hours(24 * 365);
        images(&store).erase("key").deny_until(until).commit().unwrap();
        images(&store).erase_tag("own").deny_until(until).commit().unwrap();
        store.erase_tag("wide", Scope::Keyspaces).deny_until(until).commit().unwrap();
        images(&store).erase("short").deny_until(START + hours(20)).commit().unwrap();
        for round in 0..30 {
            for number in 0..20 {
                images(&store).invalidate(format!("key-{number}")).unwrap();
            }
            clock.advance(hours(1));
            store.maintain().unwrap();
            assert!(store.stats().tombstone_log_bytes <= 3 * 4096, "round {round}");
            if round % 5 == 4 {
                let left = disk.fork().kill();
                drop(store);
                store = open(on_memory(&left, &clock), mapped);
                let denied_now = images(&store);
                assert_eq!(denied(denied_now.insert("key", "x")), Some(until));
                drop(store);
                store = open(on_memory(&disk, &clock), mapped);
            }
            let images = images(&store);
            assert_eq!(denied(images.insert("key", "x")), Some(until), "round {round}");
            assert_eq!(denied(images.fill("n").tag("own").commit("x")), Some(until));
            assert_eq!(denied(images.fill("n").tag("wide").commit("x")), Some(until));
            let stats = &store.stats().keyspaces[0];
            assert_eq!((stats.denied_keys, stats.denied_tags), (if round < 19 { 2 } else { 1 }, 2));
        }
    }
}

/// More denials than one file holds: they are not written over and over again.
#[test]
fn many_denials_take_a_bounded_log() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let until = START + hours(24 * 365);
    for number in 0..100 {
        images(&store).erase(format!("denied-{number}")).deny_until(until).commit().unwrap();
    }
    for round in 0..100 {
        for number in 0..10 {
            images(&store).invalidate(format!("key-{number}")).unwrap();
        }
        store.maintain().unwrap();
        let bytes = store.stats().tombstone_log_bytes;
        assert!(bytes <= 13 * 4096, "round {round}: {bytes}");
    }
    let names = |disk: &MemoryDisk| disk.all_files();
    let before = names(&disk);
    store.maintain().unwrap();
    assert_eq!(names(&disk), before, "upkeep that has nothing to do rewrites nothing");
    let store = open(on_memory(&disk.fork().kill(), &clock), false);
    assert_eq!(store.stats().keyspaces[0].denied_keys, 100);
    for number in 0..100 {
        assert_eq!(denied(images(&store).insert(format!("denied-{number}"), "x")), Some(until));
    }
}

/// What can be read of a damaged tombstone log keeps its denials, while all before it is hidden.
#[test]
fn denials_that_can_be_read_survive_a_lost_tombstone() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (images, access) = (images(&store), access(&store));
        put(&images, "old", &[]);
        row(&access, "tagged", &["t"]);
        row(&access, "plain", &[]);
        let until = START + hours(100);
        images.invalidate("lost").unwrap();
        images.erase("key").deny_until(until).commit().unwrap();
        images.invalidate("another").unwrap();
        store.close().unwrap();
        let path =
            disk.all_files().into_iter().find(|path| path.ends_with("tombstones/0000000001.log"));
        let path = path.unwrap();
        let mut bytes = disk.read_file(&path).unwrap();
        for region in [0, 2048] {
            bytes[region + 512..region + 512 + 64].fill(0xaa);
        }
        disk.write_file(&path, &bytes).unwrap();
        for _ in 0..3 {
            let store = open(on_memory(&disk, &clock), mapped);
            let images = store.existing_keyspace("images").unwrap();
            assert!(!has(&images, "old"));
            assert_eq!(denied(images.insert("key", "x")), Some(until));
            // Which rows were hidden cannot be known: those with tags are, for good.
            assert_eq!(rows(&store.existing_log("access").unwrap()), ["plain"]);
            store.maintain().unwrap();
            store.close().unwrap();
        }
        let store = open(on_memory(&disk, &clock), mapped);
        let access = store.existing_log("access").unwrap();
        row(&access, "new", &["t"]);
        assert_eq!(rows(&access), ["plain", "new"]);
    }
}

#[test]
fn on_a_full_disk_a_denial_is_an_error_and_hides_all_the_same() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (images, access) = (images(&store), access(&store));
        // Rows that nothing may evict fill the disk, and the active segments stay small.
        put(&images, "soft", &[]);
        put(&images, "key", &["t"]);
        row(&access, "tagged", &["t"]);
        store.sync().unwrap();
        disk.set_capacity_bytes(Some(disk.used_bytes()));
        let until = START + hours(100);
        let mut outcomes = Vec::new();
        for number in 0..200 {
            outcomes.push(images.erase(format!("key{number}")).deny_until(until).commit());
        }
        let refused = outcomes.iter().position(Result::is_err).unwrap();
        assert!(refused >= 24, "the log and its spare were there: {refused}");
        for (number, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(receipt) => assert!(!receipt.widened()),
                Err(Error::NoSpace { .. }) => {
                    let count = store.stats().keyspaces[0].denied_keys;
                    assert_eq!(count, outcomes.iter().filter(|o| o.is_ok()).count() as u64);
                    assert!(images.explain(format!("key{number}")).unwrap().denied_until.is_none());
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(!has(&images, "key"), "hidden with all else");
        // Keyspaces give up what they have; a log does not, and says so.
        assert!(store.invalidate_tag("t", Scope::Keyspaces).unwrap().widened());
        assert!(matches!(store.invalidate_tag("t", Scope::Everything), Err(Error::NoSpace { .. })));
        assert!(matches!(access.invalidate_tag("t"), Err(Error::NoSpace { .. })));
        assert!(rows(&access).is_empty(), "hidden in this process");
        let store = open(on_memory(&disk.fork().kill(), &clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        assert!(!has(&images, "key"));
        assert_eq!(rows(&store.existing_log("access").unwrap()), ["tagged"], "nothing was lost");
        assert_eq!(store.stats().keyspaces[0].denied_keys, refused as u64);
    }
}

#[test]
fn rows_are_hidden_by_their_tags() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (log, other) =
            (access(&store), store.log("other", LogOptions::new(Retention::hours(16))));
        let other = other.unwrap();
        let mut appender = log.appender();
        for (payload, tag) in [("buffered", "t"), ("beside", "u")] {
            appender.append(Row::anonymous().tag(tag).payload(payload)).unwrap();
        }
        let single = row(&log, "single", &["u", "t"]);
        row(&log, "plain", &[]);
        row(&other, "other", &["t"]);
        let mut scan = log.scan(..).unwrap();
        assert_eq!(scan.next().unwrap().unwrap().payload().as_ref(), b"single");
        let mut late_scan = log.scan(..).unwrap();
        let receipt = log.erase_tag("t").unwrap();
        assert_eq!((receipt.target(), receipt.at()), (Target::Tag, store.now()));
        assert_eq!(late_scan.next().unwrap().unwrap().payload().as_ref(), b"plain");
        assert_eq!(appender.buffered(), 2);
        appender.append(Row::anonymous().tag("t").payload("after")).unwrap();
        assert_eq!(appender.buffered(), 1, "what was covered went first");
        appender.flush().unwrap();
        store.sync().unwrap();
        assert_eq!(store.stats().logs[0].tag_tombstones, 1);
        reopened(&disk, &clock, store, mapped, |store| {
            let log = store.existing_log("access").unwrap();
            let mut found = rows(&log);
            found.sort();
            assert_eq!(found, ["after", "beside", "plain"]);
            assert!(log.get(single).unwrap().is_none());
            assert_eq!(rows(&store.existing_log("other").unwrap()), ["other"]);
        });
    }
}

/// A tombstone over rows is kept as long as the rows, also where an appender holds them for long.
#[test]
fn tombstones_over_rows_are_kept_as_long_as_the_rows() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (log, images) = (access(&store), images(&store));
        let many = || {
            for number in 0..60 {
                images.invalidate(format!("key-{number}")).unwrap();
            }
            clock.advance(minutes(30));
            store.maintain().unwrap();
        };
        row(&log, "written", &["t"]);
        let mut appender = log.appender();
        appender.append(Row::anonymous().tag("t").payload("held")).unwrap();
        log.invalidate_tag("t").unwrap();
        many();
        appender.flush().unwrap();
        many();
        assert!(rows(&log).is_empty());
        let reopened = open(on_memory(&disk.fork().kill(), &clock), mapped);
        assert!(rows(&reopened.existing_log("access").unwrap()).is_empty());
        drop(reopened);
        clock.advance(hours(18));
        store.maintain().unwrap();
        many();
        assert_eq!(store.stats().logs[0].tag_tombstones, 0);
        assert!(store.stats().tombstone_log_bytes <= 3 * 4096, "and not longer");
    }
}

/// Whoever is stored while a key is being denied is either below the floor or refused, also in a
/// keyspace that is being made.
#[test]
fn nothing_slips_in_beside_a_denial() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (images, other) = (images(&store), keyspace(&store, "other"));
        let until = START + hours(100);
        for round in 0..20 {
            let (key, tag) = (format!("key-{round}"), format!("tag-{round}"));
            let fill = |keyspace: &Keyspace| keyspace.fill(&key).tag(&tag).commit("x").map(drop);
            let make = || keyspace(&store, &format!("made-{round}"));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| while denied(images.insert(&key, "x")).is_none() {});
                    scope.spawn(|| while denied(fill(&other)).is_none() {});
                }
                scope.spawn(|| {
                    let made = make();
                    while denied(fill(&made)).is_none() {}
                });
                images.erase(&key).deny_until(until).commit().unwrap();
                assert!(images.get(&key).unwrap().is_none());
                store.erase_tag(&tag, Scope::Keyspaces).deny_until(until).commit().unwrap();
                assert!(other.get(&key).unwrap().is_none());
            });
            for keyspace in [&images, &other, &make()] {
                assert!(!has(keyspace, &key), "round {round}: {}", keyspace.name());
            }
        }
        let store = open(on_memory(&disk.fork().kill(), &clock), mapped);
        for name in store.keyspaces() {
            assert_eq!(store.existing_keyspace(&name).unwrap().iter().count(), 0, "{name}");
        }
    }
}

/// Of rows that are collected beside an invalidation, those taken before are hidden, and those taken
/// after are not, wherever the blocks end.
#[test]
fn an_appender_beside_an_invalidation_keeps_before_and_after_apart() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let log = access(&store);
        let (begun, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut hidden_up_to = 0;
        for round in 1..10 {
            let done = AtomicBool::new(false);
            let (before, after) = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut appender = log.appender();
                    while !done.load(Ordering::SeqCst) {
                        let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                        let row = Row::anonymous().tag("t").payload(number.to_string());
                        appender.append(row).unwrap();
                        taken.store(number, Ordering::SeqCst);
                    }
                });
                let start = begun.load(Ordering::SeqCst);
                while taken.load(Ordering::SeqCst) < start + round {
                    std::thread::yield_now();
                }
                let before = taken.load(Ordering::SeqCst);
                log.invalidate_tag("t").unwrap();
                let after = begun.load(Ordering::SeqCst);
                while taken.load(Ordering::SeqCst) < after + round {
                    std::thread::yield_now();
                }
                done.store(true, Ordering::SeqCst);
                (before, after)
            });
            hidden_up_to = hidden_up_to.max(before);
            let found: BTreeSet<u64> =
                rows(&log).iter().map(|payload| payload.parse().unwrap()).collect();
            assert!(found.iter().all(|number| *number > hidden_up_to), "round {round}");
            let last = begun.load(Ordering::SeqCst);
            assert!((after + 1..=last).all(|number| found.contains(&number)), "round {round}");
        }
    }
}
