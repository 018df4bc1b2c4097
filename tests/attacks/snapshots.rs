//! A snapshot of the index that is older than what it is of.

use std::path::Path;

use ebbtide::{ManualClock, Store};

use crate::fixture::{MODES, hours};
use crate::rig::{Rig, assert_sound, each_mode, images, put, seen};

const INDEX: &str = "/data/keyspaces/images/INDEX";
const STATE: &str = "/data/STATE";
const SLOT: usize = 4096;

/// Closed in order, opened, changed, and killed.
fn changed_since_the_snapshot(rig: &Rig) -> (Vec<u8>, Rig) {
    let store = rig.open();
    for key in ["replaced", "purged", "purged-by-tag", "erased", "kept"] {
        put(&images(&store), key, "before the close", &[key]);
    }
    store.close().unwrap();
    let snapshot = rig.disk.read_file(Path::new(INDEX)).unwrap();
    let store = rig.open();
    put(&images(&store), "replaced", "after the close", &[]);
    images(&store).invalidate("purged").unwrap();
    images(&store).invalidate_tag("purged-by-tag").unwrap();
    images(&store).erase("erased").commit().unwrap();
    store.scrub().unwrap();
    put(&images(&store), "new", "after the close", &[]);
    store.sync().unwrap();
    (snapshot, rig.kill())
}

fn assert_as_changed(store: &Store, what: &str) {
    let of = |key: &str| seen(store, key);
    assert_ne!(of("replaced").as_deref(), Some("before the close"), "{what}");
    for key in ["purged", "purged-by-tag", "erased"] {
        assert_eq!(of(key), None, "{what}: {key}");
    }
}

/// The removal of the snapshot was not durable, and a power cut has brought it back.
#[test]
fn a_stale_index_snapshot_is_not_believed_after_a_crash() {
    each_mode(|rig| {
        let (snapshot, crashed) = changed_since_the_snapshot(rig);
        let check = |rig: &Rig, what: &str| {
            rig.disk.write_file(Path::new(INDEX), &snapshot).unwrap();
            let store = rig.open();
            assert_as_changed(&store, what);
            assert_eq!(seen(&store, "replaced").as_deref(), Some("after the close"), "{what}");
            assert_eq!(seen(&store, "new").as_deref(), Some("after the close"), "{what}");
            assert_eq!(seen(&store, "kept").as_deref(), Some("before the close"), "{what}");
            assert_sound(&store);
        };
        check(&crashed.kill(), "killed");
        check(&crashed.cut(0), "cut");
        // Closed in order once more, with another snapshot in the place of its own.
        let closed = crashed.kill();
        closed.open().close().unwrap();
        check(&closed, "closed");
    });
}

/// Beside it, the slot of STATE is lost that says that the store was opened since.
#[test]
fn a_stale_index_snapshot_is_not_believed_with_half_of_state_lost() {
    each_mode(|rig| {
        let (snapshot, crashed) = changed_since_the_snapshot(rig);
        for slot in [0, SLOT] {
            for at in [0, 12, 40, 500] {
                let rig = crashed.kill();
                rig.disk.write_file(Path::new(INDEX), &snapshot).unwrap();
                rig.change(Path::new(STATE), |bytes| bytes[slot + at] ^= 1);
                assert_as_changed(&rig.open(), "half of STATE");
                assert_as_changed(&rig.open(), "half of STATE, opened again");
            }
        }
    });
}

const KEYS: [&str; 6] = ["replaced", "purged", "purged-by-tag", "erased", "kept", "new"];

fn before(key: &str) -> String {
    format!("before the close, of {key}.")
}

fn after(key: &str) -> String {
    format!("after the close, of {key}.")
}

fn purge(store: &Store) {
    images(store).invalidate("purged").unwrap();
    images(store).invalidate_tag("purged-by-tag").unwrap();
    images(store).erase("erased").commit().unwrap();
}

fn replace(store: &Store) {
    ["replaced", "new"].iter().for_each(|key| put(&images(store), key, &after(key), &[]));
    store.sync().unwrap();
}

/// What is done after the close that left the snapshot.
type Change = fn(&Store, &ManualClock);

const BY_KEYS: &str = "purged by their keys";
const CHANGES: [(&str, Change); 8] = [
    (BY_KEYS, |store, _| {
        ["purged", "erased"].iter().for_each(|key| drop(images(store).invalidate(key).unwrap()));
    }),
    ("purged", |store, _| purge(store)),
    ("purged and scrubbed", |store, _| {
        purge(store);
        store.scrub().unwrap();
    }),
    ("purged softly", |store, _| {
        drop(images(store).invalidate_tag_soft("purged-by-tag").unwrap());
    }),
    ("replaced", |store, _| replace(store)),
    ("purged, replaced and scrubbed", |store, _| {
        replace(store);
        purge(store);
        store.scrub().unwrap();
    }),
    ("purged, among much else", |store, _| {
        purge(store);
        for number in 0..100 {
            images(store).invalidate(format!("never-{number}")).unwrap();
        }
        store.maintain().unwrap();
        store.scrub().unwrap();
        store.maintain().unwrap();
    }),
    ("all has left, and what had hidden it is forgotten", |store, clock| {
        purge(store);
        for number in 0..100 {
            images(store).invalidate(format!("never-{number}")).unwrap();
        }
        clock.advance(hours(17));
        store.maintain().unwrap();
        replace(store);
        store.maintain().unwrap();
    }),
];

/// How the process ends after that.
type Stop = fn(&Rig, &Store) -> Rig;

const STOPS: [(&str, Stop); 3] = [
    ("killed", |rig, _| rig.kill()),
    ("cut", |rig, _| rig.cut(0)),
    ("closed", |rig, store| {
        store.close().unwrap();
        rig.kill()
    }),
];

/// INDEX alone, STATE alone, or both are those of the earlier close. A store whose STATE was put back may say
/// that something is lost, and not show it; it shows nothing that is gone, and keeps none of it.
#[test]
fn a_snapshot_and_state_of_an_earlier_close_bring_nothing_back() {
    let mut believed = 0;
    for mapped in MODES {
        for change in CHANGES {
            for stop in STOPS {
                for files in [&[INDEX][..], &[STATE], &[INDEX, STATE]] {
                    println!("{}, {}, {files:?}, mapped {mapped}", change.0, stop.0);
                    believed += u32::from(put_back(mapped, change, stop.1, files));
                }
            }
        }
    }
    assert!(believed > 0, "no snapshot was taken up that is older than what it is of");
}

/// True if what was put back is believed: a slot is there of what was not in the index any more.
fn put_back(mapped: bool, (name, change): (&str, Change), stop: Stop, files: &[&str]) -> bool {
    let rig = Rig::new(mapped);
    let store = rig.open();
    KEYS[..5].iter().for_each(|key| put(&images(&store), key, &before(key), &[key]));
    store.close().unwrap();
    let earlier: Vec<_> =
        files.iter().map(|path| (path, rig.disk.read_file(Path::new(path)).unwrap())).collect();
    let store = rig.open();
    change(&store, &rig.clock);
    let stopped = stop(&rig, &store);
    drop(store);
    let as_it_was = stopped.kill().open();
    let expected = KEYS.map(|key| seen(&as_it_was, key));
    for (path, bytes) in &earlier {
        stopped.disk.write_file(Path::new(path), bytes).unwrap();
    }
    let store = stopped.open();
    let is_state_back = files.contains(&STATE);
    let is_told = is_state_back && !store.recovery_report().is_clean();
    let check = |store: &Store| {
        for (key, expected) in KEYS.iter().zip(&expected) {
            let found = seen(store, key);
            assert!(found == *expected || (is_told && found.is_none()), "{key}: {found:?}");
        }
    };
    check(&store);
    let keys = |store: &Store| store.stats().keyspaces[0].keys;
    let is_believed = keys(&store) > keys(&as_it_was);
    if !is_state_back || name == BY_KEYS {
        // What was purged by its key has no slot even then.
        assert_eq!(keys(&store), keys(&as_it_was));
    }
    if !is_state_back {
        assert_sound(&store);
    }
    stopped.everywhere(&store, check);
    store.scrub().unwrap();
    for (key, expected) in KEYS.iter().zip(&expected) {
        let is_gone = expected.as_ref() != Some(&before(key));
        assert!(!is_gone || !stopped.on_disk(before(key).as_bytes()), "{key} is on the disk");
    }
    is_believed
}
