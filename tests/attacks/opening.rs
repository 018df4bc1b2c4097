//! Openings of which one call fails, of stores that are damaged, or were in a future that was wrong.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ebbtide::disk::{Disk, Fault};
use ebbtide::{Error, Store};

use crate::fixture::{START, hours};
use crate::leaving::{CAPACITY, sized};
use crate::rig::{REFUSED, Rig, each_mode, images, put, seen};

/// The bucket of the future that is wrong.
const FUTURE: &str = "/data/keyspaces/images/20361118T130000000Z";
const FULL: Fault = Fault::Error(ErrorKind::StorageFull);

/// The tombstone log is damaged, and there is no room for what opening writes in its place.
#[test]
fn a_full_disk_while_a_damaged_log_is_replaced_costs_nothing_that_comes_after() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "first", "value", &[]);
        images(&store).invalidate("another").unwrap();
        let rig = rig.kill();
        drop(store);
        rig.change(Path::new("/data/tombstones/0000000001.log"), |bytes| bytes.fill(7));
        let mut stored = 0;
        rig.each_faulty_opening(FULL, |rig, store, call| {
            // One that could not make what it found durable is not written to.
            if images(store).insert("again", "value").is_err() {
                return;
            }
            store.sync().unwrap();
            let next = rig.kill().open();
            assert_eq!(seen(&next, "again").as_deref(), Some("value"), "call {call}");
            stored += 1;
        });
        assert!(stored > 0);
    });
}

/// There is no room for what opening writes once more in the tombstone log that the last process went on with.
#[test]
fn a_full_disk_while_a_log_is_repaired_ends_no_denial() {
    let until = START + hours(100);
    each_mode(|rig| {
        let store = rig.open();
        images(&store).erase("denied").deny_until(until).commit().unwrap();
        let rig = rig.kill();
        drop(store);
        let opened = rig.each_faulty_opening(FULL, |rig, store, call| {
            let images = images(store);
            for number in 0..60 {
                images.invalidate(format!("another-{number}")).unwrap();
            }
            store.maintain().unwrap();
            let next = rig.kill().open();
            let stored = crate::rig::images(&next).insert("denied", "value");
            assert!(matches!(stored, Err(Error::Denied { .. })), "call {call}: {stored:?}");
        });
        assert!(opened > 0);
    });
}

/// A store that was in a future that was wrong, and has lost both slots of STATE since.
fn without_its_time(rig: &Rig, prepare: impl FnOnce(&Store)) -> Rig {
    rig.clock.set_wall(START + hours(24 * 3650));
    let store = rig.open();
    put(&sized(&store, CAPACITY), "future", "value", &[]);
    rig.clock.set_wall(START);
    store.reset_clock().unwrap();
    put(&sized(&store, CAPACITY), "present", "value", &[]);
    prepare(&store);
    store.sync().unwrap();
    let rig = rig.kill();
    drop(store);
    rig.change(Path::new("/data/STATE"), Vec::clear);
    rig
}

fn assert_in_the_present(store: &Store, what: &str) {
    assert_eq!(store.now(), START, "{what}");
    assert_eq!(seen(store, "present").as_deref(), Some("value"), "{what}");
}

/// What tells that the future was wrong cannot be read just as the store is opened.
#[test]
fn a_call_that_fails_brings_no_corrected_future_back() {
    each_mode(|rig| {
        let rig = without_its_time(rig, |_| {});
        let opened = rig.each_faulty_opening(REFUSED, |_, store, call| {
            assert_in_the_present(store, &format!("call {call}"));
        });
        assert!(opened > 0);
    });
}

/// All that told of its deadline was evicted from the bucket.
#[test]
fn a_bucket_that_was_emptied_brings_no_corrected_future_back() {
    each_mode(|rig| {
        let rig = without_its_time(rig, |store| {
            let images = sized(store, CAPACITY);
            let is_future = |path: &PathBuf| path.starts_with(FUTURE);
            assert!(rig.files(".seg").iter().any(is_future));
            while rig.files(".seg").iter().any(is_future) {
                images.insert("large", vec![1; 7000]).unwrap();
                put(&images, "present", "value", &[]);
            }
            assert!(rig.disk.read_dir(Path::new(FUTURE)).unwrap().is_empty());
        });
        assert_in_the_present(&rig.open(), "emptied");
    });
}

/// The newest segments cannot be listed just as the store is opened, and nothing else tells of their generation.
#[test]
fn a_call_that_fails_gives_no_number_out_again() {
    each_mode(|rig| {
        let mut rig = rig.kill();
        for version in ["old", "new"] {
            let store = rig.open();
            put(&images(&store), "key", version, &[]);
            rig.clock.advance(hours(1));
            rig = rig.kill();
        }
        rig.change(Path::new("/data/STATE"), Vec::clear);
        let mut stored = 0;
        rig.each_faulty_opening(REFUSED, |rig, store, call| {
            assert_eq!(seen(store, "key").as_deref(), Some("new"), "call {call}");
            if images(store).insert("key", "newest").is_err() {
                return;
            }
            store.sync().unwrap();
            let next = rig.kill().open();
            assert_eq!(seen(&next, "key").as_deref(), Some("newest"), "call {call}");
            stored += 1;
        });
        assert!(stored > 0);
    });
}
