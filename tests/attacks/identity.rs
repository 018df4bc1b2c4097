//! What tells one opening and one store from another: generations, and the secret of the hashes.

use std::path::Path;

use ebbtide::disk::Disk;
use ebbtide::{Error, InvalidatedScope, LedgerKind, Row, Store};

use crate::fixture::{hours, try_open};
use crate::rig::{Rig, access, each_mode, images, options, put, row, rows, seen};

const STATE: &str = "/data/STATE";
const STORE: &str = "/data/STORE";
const SLOT: usize = 4096;
/// Where the counter and the payload of a slot begin.
const COUNTER: usize = 16;
const PAYLOAD: usize = 28;
/// Where the secrets begin and end in a slot of STORE.
const SECRETS: std::ops::Range<usize> = PAYLOAD + 24..PAYLOAD + 24 + 2 * 192;

/// What becomes of STATE between two openings.
type Rot = fn(&Rig);

/// The slot that was written last.
fn newest_slot(rig: &Rig) -> usize {
    let bytes = rig.disk.read_file(Path::new(STATE)).unwrap();
    let counter = |slot: usize| {
        let at = slot + COUNTER;
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    if counter(0) > counter(SLOT) { 0 } else { SLOT }
}

fn rot(rig: &Rig, slot: usize) {
    rig.change(Path::new(STATE), |bytes| bytes[slot + PAYLOAD] ^= 1);
}

const ROTS: [Rot; 4] = [
    |rig| rot(rig, newest_slot(rig)),
    |rig| rot(rig, SLOT - newest_slot(rig)),
    |rig| {
        rot(rig, 0);
        rot(rig, SLOT);
    },
    |rig| rig.change(Path::new(STATE), |bytes| bytes.fill(0)),
];

/// All that an opening leaves behind, apart from what it wrote into STATE.
const TRACES: [fn(&Store); 5] = [
    |store| put(&images(store), "trace", "value", &[]),
    |store| drop(images(store).invalidate("trace").unwrap()),
    |store| row(&access(store), "trace", &["t"]),
    |store| drop(images(store).invalidate_all().unwrap()),
    |store| drop(access(store).invalidate_tag("t").unwrap()),
];

/// The newest slot of STATE is lost, and the one before names an earlier opening. Its numbers are not
/// given out a second time: an old floor would hide what is new, or a new one not reach what is old.
#[test]
fn a_rotten_state_slot_does_not_repeat_a_generation() {
    for rot in ROTS {
        for trace in TRACES {
            each_mode(|rig| {
                let mut rig = rig.with(rig.disk.clone());
                let mut highest = 0;
                for round in 0..6 {
                    let store = rig.open();
                    let receipt = images(&store).invalidate("never").unwrap();
                    let number = images(&store).fill("nothing").sequence();
                    drop((receipt, store));
                    let store = rig.open();
                    let begun = images(&store).fill("nothing").sequence();
                    assert!(begun > highest.max(number), "round {round}: {begun} again");
                    put(&images(&store), "key", &format!("value-{round}"), &["tag"]);
                    let found = seen(&store, "key");
                    assert_eq!(found, Some(format!("value-{round}")), "an old floor hides it");
                    trace(&store);
                    if round % 2 == 0 {
                        images(&store).invalidate_tag("tag").unwrap();
                        assert_eq!(seen(&store, "key"), None);
                    }
                    store.sync().unwrap();
                    highest = images(&store).fill("nothing").sequence();
                    rig = rig.kill();
                    drop(store);
                    rot(&rig);
                    let store = rig.open();
                    assert!(images(&store).fill("nothing").sequence() > highest);
                    let found = seen(&store, "key");
                    assert!(found.is_none() || found == Some(format!("value-{round}")));
                    assert!(round % 2 != 0 || found.is_none(), "what was purged is back");
                    rig = rig.kill();
                }
            });
        }
    }
}

/// Nothing is left in the store but the note of an invalidation, and both slots of STATE are gone.
#[test]
fn a_generation_is_not_repeated_when_only_its_tombstone_is_left() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "key", "value", &[]);
        store.sync().unwrap();
        let rig = rig.kill();
        for _ in 0..5 {
            drop(rig.open());
        }
        let store = rig.open();
        let floor = images(&store).invalidate("key").unwrap().sequence();
        let rig = rig.kill();
        drop(store);
        rot(&rig, 0);
        rot(&rig, SLOT);
        let store = rig.open();
        assert!(images(&store).fill("key").sequence() > floor);
        assert_eq!(seen(&store, "key"), None);
        put(&images(&store), "key", "again", &[]);
        assert_eq!(seen(&store, "key").as_deref(), Some("again"));
    });
}

/// A row was all there was, and has left; both slots of STATE are gone. Its name must not come to mean another.
#[test]
fn a_generation_is_not_repeated_when_only_the_ledger_tells_of_it() {
    each_mode(|rig| {
        let store = rig.open();
        let log = access(&store);
        let before = log.append(Row::anonymous().payload("before")).unwrap();
        drop(log);
        rig.clock.advance(hours(17));
        store.maintain().unwrap();
        store.close().unwrap();
        drop(store);
        rot(rig, 0);
        rot(rig, SLOT);
        let store = rig.open();
        let after = access(&store).append(Row::anonymous().payload("after")).unwrap();
        assert_ne!(before, after);
        assert!(access(&store).get(before).unwrap().is_none());
    });
}

/// A store with something purged in each way, something denied, and something that is there.
fn prepare(rig: &Rig) {
    let store = rig.open();
    for key in ["key", "tagged", "kept"] {
        put(&images(&store), key, "value", &[key]);
    }
    for tag in ["tagged", "kept"] {
        row(&access(&store), tag, &[tag]);
    }
    images(&store).invalidate("key").unwrap();
    store.invalidate_tag("tagged", ebbtide::Scope::Everything).unwrap();
    images(&store).erase("denied").deny_until(store.now() + hours(100)).commit().unwrap();
    store.close().unwrap();
}

fn assert_nothing_back(store: &Store, what: &str) {
    for key in ["key", "tagged"] {
        assert_eq!(images(store).get(key).unwrap().as_deref(), None, "{what}: {key}");
    }
    let keys: Vec<_> = images(store).iter().map(|entry| entry.unwrap().key().to_vec()).collect();
    assert!(keys.iter().all(|key| key == b"kept"), "{what}: {keys:?}");
    assert!(!rows(&access(store)).contains(&"tagged".to_owned()), "{what}");
    let denied = images(store).insert("denied", "x");
    assert!(matches!(denied, Err(Error::Denied { .. })), "{what}: {denied:?}");
}

/// Under another secret no key would meet its own note, nor its own denial.
#[test]
fn a_flipped_hash_secret_brings_nothing_back() {
    each_mode(|rig| {
        prepare(rig);
        for at in 0..SECRETS.end {
            for slots in [&[0][..], &[SLOT], &[0, SLOT]] {
                let rig = rig.with(rig.disk.fork());
                rig.change(Path::new(STORE), |bytes| {
                    slots.iter().for_each(|slot| bytes[slot + at] ^= 1 << (at % 8));
                });
                let what = format!("byte {at} of {slots:?}");
                match try_open(crate::fixture::on_memory(&rig.disk, &rig.clock), rig.mapped) {
                    Ok(store) => {
                        assert_eq!(slots.len(), 1, "{what}: opened without knowing its secret");
                        assert_nothing_back(&store, &what);
                        assert_eq!(seen(&store, "kept").as_deref(), Some("value"), "{what}");
                    }
                    Err(error) => assert_eq!(slots.len(), 2, "{what}: {error}"),
                }
            }
        }
    });
}

/// The secret of the keys, or that of the tags, is another one under a right checksum: the tombstone logs
/// know under which they were written, and where they do not fit, nothing older is served.
#[test]
fn another_hash_secret_under_a_right_checksum_serves_nothing_older() {
    each_mode(|rig| {
        prepare(rig);
        let half = SECRETS.start + 192;
        for other in [SECRETS, SECRETS.start..half, half..SECRETS.end] {
            let rig = rig.with(rig.disk.fork());
            rig.change(Path::new(STORE), |bytes| {
                for slot in [0, SLOT] {
                    other.clone().for_each(|at| bytes[slot + at] ^= (at * 37) as u8 | 1);
                    let checksum = crc32fast::hash(&bytes[slot + COUNTER..slot + SLOT]);
                    bytes[slot + 12..slot + COUNTER].copy_from_slice(&checksum.to_le_bytes());
                }
            });
            let opened = try_open(crate::fixture::on_memory(&rig.disk, &rig.clock), rig.mapped);
            let store = opened.unwrap();
            assert!(!store.recovery_report().is_clean(), "{other:?}: nobody is told");
            assert!(images(&store).iter().next().is_none(), "{other:?}");
            assert!(rows(&access(&store)).is_empty(), "{other:?}: all rows carry tags");
        }
    });
}

/// STORE of another store, sound in itself.
#[test]
fn the_identity_of_another_store_opens_nothing_of_this_one() {
    each_mode(|rig| {
        prepare(rig);
        let other = Rig::new(rig.mapped);
        let other = other.with(ebbtide::disk::MemoryDisk::new(2));
        prepare(&other);
        let bytes = other.disk.read_file(Path::new(STORE)).unwrap();
        rig.disk.write_file(Path::new(STORE), &bytes).unwrap();
        let opened = try_open(crate::fixture::on_memory(&rig.disk, &rig.clock), rig.mapped);
        let store = opened.unwrap();
        assert!(!store.recovery_report().is_clean());
        assert!(images(&store).iter().next().is_none());
        assert_eq!(seen(&store, "kept"), None);
        assert!(rows(&access(&store)).is_empty());
        drop(store);
        rig.disk.remove_file(Path::new(STORE)).unwrap();
        let opened = try_open(crate::fixture::on_memory(&rig.disk, &rig.clock), rig.mapped);
        assert!(opened.is_err(), "a store is not made anew over what is there");
    });
}

/// What had been invalidated before the options could not be read for a while.
#[test]
fn options_that_come_back_bring_nothing_back() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "gone", "value", &[]);
        images(&store).invalidate("gone").unwrap();
        drop(store);
        let rig = rig.kill();
        let path = Path::new("/data/keyspaces/images/KEYSPACE");
        let before = rig.disk.read_file(path).unwrap();
        rig.change(path, Vec::clear);
        let store = rig.open();
        assert!(store.existing_keyspace("images").is_err(), "its options are read all the same");
        let other = store.keyspace("other", options()).unwrap();
        for key in 0..100 {
            other.invalidate(format!("other {key}")).unwrap();
        }
        store.maintain().unwrap();
        drop((other, store));
        let rig = rig.kill();
        rig.change(path, |bytes| *bytes = before);
        assert_eq!(seen(&rig.open(), "gone"), None);
    });
}

/// The tombstone log is damaged while the options cannot be read.
#[test]
fn options_that_come_back_after_a_loss_bring_nothing_back() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "gone", "value", &[]);
        images(&store).invalidate("gone").unwrap();
        store.close().unwrap();
        drop(store);
        let path = Path::new("/data/keyspaces/images/KEYSPACE");
        let before = rig.disk.read_file(path).unwrap();
        rig.change(path, Vec::clear);
        let log = Path::new("/data/tombstones/0000000001.log");
        rig.change(log, |bytes| bytes.fill(0xee));
        let left = rig.open();
        let is_unread = |store: &Store| store.existing_keyspace("images").is_err();
        assert!(is_unread(&left), "its options are read all the same");
        let rig = rig.kill();
        let store = rig.open();
        assert!(is_unread(&store));
        store.maintain().unwrap();
        store.close().unwrap();
        rig.change(path, |bytes| *bytes = before);
        let store = rig.open();
        assert_eq!(seen(&store, "gone"), None);
        let of_all = LedgerKind::Invalidated { scope: InvalidatedScope::All, count: 1 };
        let ledger = store.ledger().unwrap();
        assert!(ledger.iter().all(|entry| entry.kind != of_all), "nobody has invalidated all");
    });
}

/// Files that bear names of segments of the last generation there can be, and of the next one: empty ones,
/// garbage, and a segment of another number. The generations go on from the last real one.
#[test]
fn a_stray_name_of_a_segment_uses_up_no_generations() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "kept", "value", &[]);
        drop(store);
        let rig = rig.kill();
        let real = rig.files(".seg").remove(0);
        let segment = rig.disk.read_file(&real).unwrap();
        for stray in [vec![], vec![7; 5000], segment] {
            for without_state in [false, true] {
                let rig = rig.with(rig.disk.fork());
                for name in ["00fffffe00000001.seg", "0000000200000001.seg"] {
                    rig.disk.write_file(&real.with_file_name(name), &stray).unwrap();
                }
                if without_state {
                    rig.disk.remove_file(Path::new(STATE)).unwrap();
                }
                let what = format!("{} bytes, without STATE: {without_state}", stray.len());
                let store = try_open(crate::fixture::on_memory(&rig.disk, &rig.clock), rig.mapped);
                let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
                put(&images(&store), "new", "value", &[]);
                store.close().unwrap();
                drop(store);
                let store = rig.open();
                assert_eq!(seen(&store, "new").as_deref(), Some("value"), "{what}");
                let kept = seen(&store, "kept");
                assert!(
                    kept.is_some() || !stray.is_empty(),
                    "{what}: no record was in an empty file"
                );
            }
        }
    });
}
