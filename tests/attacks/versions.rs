//! An overwritten version that could come back because the one that replaced it is gone.

use ebbtide::{Clock, Error, Store};

use crate::fixture::{MODES, hours, minutes};
use crate::rig::{Rig, assert_sound, each_mode, images, options, put, seen, stopped_at_each_call};

const OLD: &str = "the old version";
const NEW: &str = "the version that replaced it";

/// A store with an old version of a key, durable, in a bucket of its own or in that of what follows.
fn with_old_version(rig: &Rig, apart: bool) -> Store {
    let store = rig.open();
    put(&images(&store), "key", OLD, &["first"]);
    store.sync().unwrap();
    if apart {
        rig.clock.advance(hours(1));
        store.maintain().unwrap();
    }
    store
}

/// Plays it with both versions in one segment, and in segments and buckets of their own.
fn each_layout(attack: impl Fn(&Rig, &Store)) {
    for apart in [false, true] {
        each_mode(|rig| {
            let store = with_old_version(rig, apart);
            attack(rig, &store);
        });
    }
}

/// Hour by hour until all buckets have left.
fn until_all_has_left(rig: &Rig, store: &Store, check: impl Fn(&Store)) {
    for _ in 0..18 {
        rig.clock.advance(hours(1));
        check(store);
        store.maintain().unwrap();
        check(store);
        check(&rig.kill().open());
        check(&rig.cut(0).open());
    }
    assert!(rig.files(".seg").is_empty());
}

fn assert_gone(store: &Store) {
    assert_eq!(seen(store, "key"), None);
}

#[test]
fn an_overwritten_version_does_not_come_back_when_its_successor_was_purged_by_tag() {
    each_layout(|rig, store| {
        put(&images(store), "key", NEW, &["second"]);
        store.sync().unwrap();
        images(store).invalidate_tag("second").unwrap();
        rig.everywhere(store, assert_gone);
        // Enough notes that the one which counts could be forgotten with its file.
        for number in 0..100 {
            images(store).invalidate(format!("another-{number}")).unwrap();
        }
        rig.everywhere(store, assert_gone);
        until_all_has_left(rig, store, assert_gone);
    });
}

#[test]
fn an_overwritten_version_does_not_come_back_when_its_successor_was_scrubbed() {
    each_layout(|rig, store| {
        put(&images(store), "key", NEW, &["second"]);
        store.sync().unwrap();
        images(store).invalidate_tag("second").unwrap();
        store.scrub().unwrap();
        assert!(!rig.on_disk(NEW.as_bytes()) && !rig.on_disk(OLD.as_bytes()));
        rig.everywhere(store, assert_gone);
        until_all_has_left(rig, store, assert_gone);
    });
}

/// The old version is held by a reader and so stays on the disk, while its successor is a shell.
#[test]
fn an_overwritten_version_that_is_held_does_not_come_back_over_a_shell() {
    let rig = Rig::new(true);
    let store = with_old_version(&rig, true);
    let held = images(&store).get("key").unwrap().unwrap();
    put(&images(&store), "key", NEW, &["second"]);
    store.sync().unwrap();
    images(&store).invalidate_tag("second").unwrap();
    store.scrub().unwrap();
    assert!(rig.on_disk(OLD.as_bytes()) && !rig.on_disk(NEW.as_bytes()));
    rig.everywhere(&store, assert_gone);
    assert_eq!(held.as_ref(), OLD.as_bytes());
    // Without the notes of what was scrubbed where, the shells alone must do.
    let bare = rig.kill();
    bare.files(".idx").iter().for_each(|path| bare.change(path, |bytes| bytes.fill(0)));
    assert_gone(&bare.open());
}

#[test]
fn an_overwritten_version_does_not_come_back_while_its_successor_is_being_scrubbed() {
    for mapped in MODES {
        stopped_at_each_call(
            || {
                let rig = Rig::new(mapped);
                drop(with_old_version(&rig, true));
                let (disk, store) = rig.open_faulty();
                put(&images(&store), "key", NEW, &["second"]);
                put(&images(&store), "other", "value", &["third"]);
                store.sync().unwrap();
                images(&store).invalidate_tag("second").unwrap();
                (rig, disk, store)
            },
            |store| drop(store.scrub()),
            |rig, what| {
                let store = rig.open();
                assert_eq!(seen(&store, "key"), None, "{what}");
                assert_eq!(seen(&store, "other").as_deref(), Some("value"), "{what}");
                store.scrub().unwrap();
                assert_eq!(seen(&store, "key"), None, "{what}");
                assert!(!rig.on_disk(NEW.as_bytes()) && !rig.on_disk(OLD.as_bytes()), "{what}");
            },
        );
    }
}

#[test]
fn an_overwritten_version_does_not_come_back_when_its_successor_expired_early() {
    each_layout(|rig, store| {
        let fill = images(store).fill("key").expires_at(store.now() + minutes(5));
        assert_eq!(fill.commit(NEW).unwrap(), ebbtide::Outcome::Stored);
        store.sync().unwrap();
        assert_eq!(seen(store, "key").as_deref(), Some(NEW));
        rig.clock.advance(minutes(5));
        rig.everywhere(store, assert_gone);
        until_all_has_left(rig, store, assert_gone);
    });
}

/// Any byte of the successor's record is changed while the store is closed, or after it was killed.
#[test]
fn an_overwritten_version_does_not_come_back_when_its_successor_rotted() {
    for (apart, closed) in [(false, false), (false, true), (true, false), (true, true)] {
        each_mode(|rig| {
            let store = with_old_version(rig, apart);
            put(&images(&store), "key", NEW, &["second"]);
            store.sync().unwrap();
            // States that the successor had been durable.
            put(&images(&store), "later", "value", &[]);
            store.sync().unwrap();
            if closed {
                store.close().unwrap();
            }
            let rig = rig.kill();
            let segments = rig.files(".seg");
            let holds = |path: &&std::path::PathBuf| rig.find(path, NEW.as_bytes()).is_some();
            let segment = segments.iter().find(holds).unwrap();
            let value_at = rig.find(segment, NEW.as_bytes()).unwrap();
            // Header, value hash, key, and one tag stand before the value.
            let record_at = value_at - 64 - 16 - "key".len() - 16;
            for at in record_at..value_at + NEW.len() {
                let rotten = rig.kill();
                rotten.change(segment, |bytes| bytes[at] ^= 0x10);
                let store = rotten.open();
                let found = images(&store).get("key").unwrap();
                let is_right = |found: &[u8]| found == NEW.as_bytes();
                assert!(found.as_deref().is_none_or(is_right), "byte {at}: {found:?}");
                assert!(!store.verify().unwrap().problems.is_empty() || found.is_none());
                store.scrub().unwrap();
                drop((found, store));
                let found = images(&rotten.open()).get("key").unwrap();
                assert!(
                    found.as_deref().is_none_or(is_right),
                    "byte {at}, opened again: {found:?}"
                );
            }
        });
    }
}

/// The successor was born in a wrong future, and its deadline was brought forward since.
#[test]
fn an_overwritten_version_does_not_come_back_when_its_successors_window_was_shortened() {
    // By how much the clock was ahead, and how much it is behind in the end: both versions are due
    // together, or the successor alone would be.
    for (ahead, behind) in [(1, 0), (5, 0), (15, 0), (20, 0), (5, 3), (1, 12)] {
        each_mode(|rig| {
            let right = rig.clock.wall();
            let store = with_old_version(rig, false);
            rig.clock.set_wall(right + hours(ahead));
            store.confirm_clock().unwrap();
            put(&images(&store), "key", NEW, &["second"]);
            store.sync().unwrap();
            rig.clock.set_wall(right - hours(behind));
            store.reset_clock().unwrap();
            let check = |store: &Store| {
                assert_ne!(seen(store, "key").as_deref(), Some(OLD), "{ahead} ahead");
            };
            assert_eq!(seen(&store, "key").as_deref(), Some(NEW));
            rig.everywhere(&store, check);
            let gone_at = images(&store).stat("key").unwrap().unwrap().gone_at();
            assert!(gone_at <= right - hours(behind) + hours(16), "{gone_at}");
            rig.clock.advance(gone_at.since(store.now()));
            rig.everywhere(&store, assert_gone);
            until_all_has_left(rig, &store, assert_gone);
        });
    }
}

/// The buckets of both versions are due at once, and the power is cut while they leave.
#[test]
fn an_overwritten_version_does_not_come_back_while_both_buckets_leave() {
    for mapped in MODES {
        stopped_at_each_call(
            || {
                let rig = Rig::new(mapped);
                drop(with_old_version(&rig, true));
                let (disk, store) = rig.open_faulty();
                put(&images(&store), "key", NEW, &[]);
                store.sync().unwrap();
                rig.clock.advance(hours(16));
                (rig, disk, store)
            },
            |store| drop(store.maintain()),
            |rig, what| {
                let store = rig.open();
                assert_eq!(seen(&store, "key"), None, "{what}");
                store.maintain().unwrap();
                assert_eq!(seen(&store, "key"), None, "{what}");
                assert!(!rig.on_disk(OLD.as_bytes()), "{what}");
            },
        );
    }
}

/// Every key has an old version in one segment and a new one in another. On a full disk, where the
/// notes have no room, segments are given up.
#[test]
fn a_purge_on_a_full_disk_that_drops_a_segment_uncovers_no_older_version() {
    // The newest first, so that the oldest segments hold what is not purged yet; then the oldest first.
    for newest_first in [true, false] {
        each_mode(|rig| purge_on_a_full_disk(rig, newest_first));
    }
}

fn purge_on_a_full_disk(rig: &Rig, newest_first: bool) {
    let store = rig.open();
    let keyspace = store.keyspace("images", options().segment_bytes(4096)).unwrap();
    let keys = 60;
    for version in [OLD, NEW] {
        for number in 0..keys {
            let value = format!("{version} {}", "x".repeat(100));
            put(&keyspace, &format!("key-{number}"), &value, &[version]);
        }
        store.sync().unwrap();
    }
    rig.disk.set_capacity_bytes(Some(rig.disk.used_bytes()));
    assert!(matches!(keyspace.insert("big", vec![1; 9000]), Err(Error::NoSpace { .. })));
    let value = |store: &Store, number: u32| {
        let keyspace = store.existing_keyspace("images").unwrap();
        keyspace.get(format!("key-{number}")).unwrap().map(|value| value.to_vec())
    };
    let is_old = |store: &Store, number: u32| {
        value(store, number).is_some_and(|value| value.starts_with(OLD.as_bytes()))
    };
    let mut gone = Vec::new();
    for at in 0..keys {
        let number = if newest_first { keys - 1 - at } else { at };
        keyspace.invalidate(format!("key-{number}")).unwrap();
        gone.push(number);
        if number % 7 == 0 {
            keyspace.invalidate_tag(format!("tag-{number}")).unwrap();
        }
        assert!(!(0..keys).any(|number| is_old(&store, number)), "after {number}");
        if number % 10 == 0 {
            for stopped in [rig.kill(), rig.cut(0), rig.cut(1 + u64::from(number))] {
                let store = stopped.open();
                assert!(!(0..keys).any(|number| is_old(&store, number)), "after {number}");
                let back = gone.iter().find(|number| value(&store, **number).is_some());
                assert_eq!(back, None, "after {number}");
            }
        }
    }
    assert!(store.stats().segments_evicted > 0, "nothing had to be given up");
    rig.disk.set_capacity_bytes(None);
    store.maintain().unwrap();
    rig.everywhere(&store, |store| {
        assert!((0..keys).all(|number| value(store, number).is_none()));
    });
    put(&keyspace, "key-0", "again", &[]);
    assert_eq!(seen(&store, "key-0").as_deref(), Some("again"));
    assert_sound(&store);
}
