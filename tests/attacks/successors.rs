//! A process ends in the middle of something, the next one builds upon what it finds, and then the power
//! goes: what the first had not made durable, the second has to.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebbtide::disk::{Disk, Fault, FaultyDisk};
use ebbtide::{Durability, Keyspace, LedgerKind, LogOptions, Retention, Row, Store};

use crate::fixture::{MODES, hours, minutes, open, quiet, try_open};
use crate::hooked::{Answer, Call, HookedDisk};
use crate::rig::{Rig, access, images, options, put, rows, seen};

/// Power cuts tried each time, all of them leaving as little as may be left the first time.
const CUTS: u64 = 4;

/// Plays this for each of the calls after which a process may end, by position and mapped, until it says
/// that it has made fewer.
fn each_call(play: impl Fn(&Rig, u64, &str) -> bool) {
    for mapped in MODES {
        for call in 1.. {
            if !play(&Rig::new(mapped), call, &format!("call {call}, mapped {mapped}")) {
                assert!(call > 1, "nothing was done on the disk");
                break;
            }
        }
    }
}

/// Lets every call fail from so many calls on, while this is done; true if it made so many.
pub(crate) fn ends_at(disk: &FaultyDisk, call: u64, act: impl FnOnce()) -> bool {
    let last = disk.calls() + call;
    disk.inject(last, Fault::ErrorsFrom(ErrorKind::Other));
    act();
    disk.calls() >= last
}

/// What power cuts leave now.
fn after_cuts(rig: &Rig, what: &str, check: impl Fn(&Rig, &str)) {
    (0..CUTS).for_each(|seed| check(&rig.cut(seed), &format!("{what}, cut {seed}")));
}

#[test]
fn what_is_written_where_an_earlier_process_was_making_room_stays() {
    each_call(|rig, call, what| {
        let (disk, store) = rig.open_faulty();
        let reached = ends_at(&disk, call, || {
            let _ = store.keyspace("images", options()).and_then(|images| images.insert("a", "0"));
            let log =
                store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(8192));
            let _ = log.and_then(|log| log.append(Row::anonymous().payload("0")));
        });
        let rig = rig.kill();
        drop(store);
        let store = rig.open();
        images(&store).insert("a", "value").unwrap();
        let log = access(&store);
        let visitor = log.pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
        log.append(Row::new(visitor).payload("row")).unwrap();
        store.sync().unwrap();
        after_cuts(&rig, what, |cut, what| {
            let store = cut.open();
            assert_eq!(seen(&store, "a").as_deref(), Some("value"), "{what}");
            let rows = rows(&access(&store));
            assert_eq!(rows.last().map(String::as_str), Some("row"), "{what}");
            assert_eq!(store.recovery_report().corrupt_records.len(), 0, "{what}");
        });
        reached
    });
}

#[test]
fn a_store_in_directories_that_an_earlier_process_was_making_stays() {
    each_call(|rig, call, what| {
        let there = |rig: &Rig| {
            let builder = Store::builder("/above/it/data").disk(rig.disk.clone());
            open(quiet(builder, &rig.clock), rig.mapped)
        };
        let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
        let reached = ends_at(&disk, call, || {
            let builder = Store::builder("/above/it/data").disk(disk.clone());
            drop(quiet(builder, &rig.clock).open());
        });
        let rig = rig.kill();
        let store = there(&rig);
        images(&store).insert("a", "value").unwrap();
        store.sync().unwrap();
        after_cuts(&rig, what, |cut, what| {
            assert_eq!(seen(&there(cut), "a").as_deref(), Some("value"), "{what}");
        });
        reached
    });
}

/// On a full disk, so that the next process makes no spare and syncs the directory for that.
#[test]
fn an_invalidation_in_a_log_that_an_earlier_process_had_just_begun_stays() {
    each_call(|rig, call, what| {
        let (disk, store) = rig.open_faulty();
        put(&images(&store), "gone", "value", &[]);
        store.maintain().unwrap();
        for key in 0..24 {
            images(&store).invalidate(format!("other {key}")).unwrap();
        }
        let images_there = images(&store);
        let reached = ends_at(&disk, call, || drop(images_there.invalidate("another")));
        let logs =
            rig.files(".log").into_iter().filter(|path| path.starts_with("/data/tombstones"));
        assert!(reached || logs.count() == 2, "no log was begun");
        let rig = rig.kill();
        drop((images_there, store));
        rig.disk.set_capacity_bytes(Some(rig.disk.used_bytes()));
        images(&rig.open()).invalidate("gone").unwrap();
        after_cuts(&rig, what, |cut, what| {
            cut.disk.set_capacity_bytes(None);
            assert_eq!(seen(&cut.open(), "gone"), None, "{what}");
        });
        reached
    });
}

#[test]
fn a_value_in_pieces_that_was_shown_after_a_restart_stays() {
    each_call(|rig, call, what| {
        let (disk, store) = rig.open_faulty();
        put(&images(&store), "a", "old", &[]);
        store.sync().unwrap();
        let fill = images(&store).fill("a").durability(Durability::Sync).memory_limit_bytes(0);
        let reached = ends_at(&disk, call, || {
            let Ok(mut writer) = fill.into_writer() else { return };
            let _ = writer.write_all(b"new");
            let _ = writer.commit();
        });
        let rig = rig.kill();
        drop(store);
        let store = rig.open();
        let shown = seen(&store, "a");
        assert!(shown.is_some(), "{what}");
        store.sync().unwrap();
        after_cuts(&rig, what, |cut, what| assert_eq!(seen(&cut.open(), "a"), shown, "{what}"));
        reached
    });
}

/// A newer version is lost to damage, and the process ends while it writes down that older ones are hidden.
#[test]
fn what_is_hidden_for_a_loss_stays_so_if_the_process_ends_meanwhile() {
    each_call(|rig, call, what| {
        for value in ["old", "new"] {
            let store = rig.open();
            put(&images(&store), "a", value, &[]);
            store.close().unwrap();
        }
        rig.change(&rig.files(".seg")[1], |bytes| bytes[20] ^= 1);
        let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
        let reached = ends_at(&disk, call, || {
            let builder = Store::builder("/data").disk(disk.clone());
            drop(quiet(builder, &rig.clock).open());
        });
        let rig = rig.kill();
        assert_eq!(seen(&rig.open(), "a"), None, "{what}");
        after_cuts(&rig, what, |cut, what| assert_eq!(seen(&cut.open(), "a"), None, "{what}"));
        reached
    });
}

pub(crate) fn small(store: &Store) -> Keyspace {
    store.keyspace("small", options().segment_bytes(4096).capacity_bytes(65536)).unwrap()
}

pub(crate) fn insert_large(small: &Keyspace, at: u64) {
    let _ = small.insert(format!("large {at}"), [7; 3000]);
}

/// A value that was invalidated lies in the oldest segment, and behind it so many large ones. So much else has
/// been invalidated that its tombstone lies in a log which is not written any more.
fn filled(rig: &Rig, large: u64) -> (FaultyDisk, Store) {
    let (disk, store) = rig.open_faulty();
    fill_up(rig, &store, large);
    (disk, store)
}

pub(crate) fn fill_up(rig: &Rig, store: &Store, large: u64) {
    let keys = small(store);
    store.maintain().unwrap();
    keys.insert("gone", "value").unwrap();
    rig.clock.advance(minutes(25));
    keys.invalidate("gone").unwrap();
    (0..60).for_each(|key| drop(keys.invalidate(format!("other {key}")).unwrap()));
    keys.insert("behind", [7; 3000]).unwrap();
    rig.clock.advance(minutes(6));
    store.maintain().unwrap();
    (0..large).for_each(|at| insert_large(&keys, at));
}

/// The next process takes it for gone, forgets what had hidden it, and ends before it has given the space back.
#[test]
fn what_was_evicted_stays_away_once_its_tombstone_is_forgotten() {
    let evicted = |large: &u64| filled(&Rig::new(false), *large).1.stats().segments_evicted > 0;
    let large = (1..).find(evicted).unwrap() - 1;
    let mut forgotten = 0;
    for call in 1.. {
        let mut reached = false;
        for second in 1.. {
            let rig = Rig::new(false);
            let (disk, store) = filled(&rig, large);
            let keys = small(&store);
            reached = ends_at(&disk, call, || insert_large(&keys, large));
            assert!(reached || store.stats().segments_evicted > 0, "nothing was evicted");
            let rig = rig.kill();
            drop((keys, store));
            let (disk, store) = rig.open_faulty();
            let goes_on = ends_at(&disk, second, || drop(store.maintain()));
            let what = format!("call {call}, {second} of the next");
            after_cuts(&rig, &what, |cut, what| {
                let store = cut.open();
                assert!(small(&store).get("gone").unwrap().is_none(), "{what}");
            });
            if !goes_on {
                forgotten += u32::from(store.stats().keyspaces[0].key_tombstones == 0);
                break;
            }
        }
        if !reached {
            break;
        }
    }
    assert!(forgotten > 1, "the tombstone was always kept");
}

#[test]
fn a_keyspace_whose_making_failed_can_be_made_again() {
    for fault in [Fault::Error(ErrorKind::TimedOut), Fault::ErrorAfter(ErrorKind::TimedOut)] {
        let mut failed = 0;
        for call in 1.. {
            let rig = Rig::new(false);
            let (disk, store) = rig.open_faulty();
            let first = disk.calls() + call;
            disk.inject(first, fault);
            let made = store.keyspace("images", options());
            disk.clear();
            let again = store.keyspace("images", options());
            failed += u32::from(made.is_err());
            again.unwrap_or_else(|e| panic!("{fault:?} at call {call}, {made:?}: {e}"));
            if disk.calls() < first {
                break;
            }
        }
        assert!(failed > 1, "it was always made");
    }
}

/// Making it fails, and is tried again.
#[test]
fn a_store_whose_name_could_not_be_synced_is_made_anew() {
    let mut failed = 0;
    for (dir, after) in ["/", "/data"].into_iter().flat_map(|dir| (0..6).map(move |n| (dir, n))) {
        let rig = Rig::new(false);
        let disk = HookedDisk::new(&rig.disk);
        let builder = || quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
        disk.forget_sync(dir, after);
        if try_open(builder(), false).is_ok() {
            continue;
        }
        failed += 1;
        let store = open(builder(), false);
        images(&store).insert("a", "value").unwrap();
        store.sync().unwrap();
        let left = rig.cut(0);
        assert_eq!(left.files("STATE").len(), 1, "{dir}, sync {after}");
        assert_eq!(seen(&left.open(), "a").as_deref(), Some("value"), "{dir}, sync {after}");
    }
    assert!(failed > 3, "{failed}");
}

#[test]
fn an_owner_whose_name_could_not_be_synced_is_made_anew() {
    for parent in ["/data/keyspaces", "/data/logs"] {
        let rig = Rig::new(false);
        let disk = HookedDisk::new(&rig.disk);
        let store = open(quiet(Store::builder("/data").disk(disk.clone()), &rig.clock), false);
        let make = |store: &Store| match parent {
            "/data/keyspaces" => store.keyspace("images", options()).map(drop),
            _ => store.log("images", LogOptions::new(Retention::hours(16))).map(drop),
        };
        disk.forget_next_sync(parent);
        assert!(make(&store).is_err());
        // Another sync of that name might write nothing.
        assert_eq!(rig.disk.read_dir(Path::new(parent)).unwrap(), []);
        make(&store).unwrap();
        let store = rig.cut(0).open();
        let stats = store.stats();
        assert_eq!(stats.keyspaces.len() + stats.logs.len(), 1, "{parent}");
    }
}

#[test]
fn a_tombstone_log_whose_name_could_not_be_synced_is_made_anew() {
    let rig = Rig::new(false);
    let disk = HookedDisk::new(&rig.disk);
    let store = open(quiet(Store::builder("/data").disk(disk.clone()), &rig.clock), false);
    let images = images(&store);
    let (is_named, has_failed) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let failed = Arc::clone(&has_failed);
    disk.before(move |call, path| {
        if call == Call::Rename && path.ends_with("tombstones/spare") {
            is_named.store(true, Ordering::Relaxed);
        }
        let is_sync = call == Call::SyncDir && path.ends_with("tombstones");
        let fails = is_sync && is_named.load(Ordering::Relaxed);
        match fails && !failed.swap(true, Ordering::Relaxed) {
            true => Answer::Fail,
            false => Answer::Do,
        }
    });
    images.invalidate("key").unwrap();
    assert!(has_failed.load(Ordering::Relaxed));
    let logs: Vec<_> =
        rig.files(".log").into_iter().filter(|p| p.starts_with("/data/tombstones")).collect();
    assert_eq!(logs, [Path::new("/data/tombstones/0000000001.log")]);
}

#[test]
fn a_bucket_whose_name_could_not_be_synced_is_made_anew() {
    let rig = Rig::new(false);
    let disk = HookedDisk::new(&rig.disk);
    let store = open(quiet(Store::builder("/data").disk(disk.clone()), &rig.clock), false);
    let images = images(&store);
    disk.forget_next_sync("/data/keyspaces/images");
    assert!(images.insert("a", "value").is_err());
    images.insert("a", "value").unwrap();
    store.sync().unwrap();
    assert_eq!(seen(&rig.cut(0).open(), "a").as_deref(), Some("value"));
}

/// The options of a keyspace are lost, and its bucket is due.
pub(crate) fn leave_orphan(rig: &Rig) {
    let store = rig.open();
    images(&store).insert("a", "value").unwrap();
    store.close().unwrap();
    rig.change(&rig.files("KEYSPACE")[0], |bytes| bytes.fill(0));
    rig.clock.advance(hours(18));
}

/// True if the ledger tells of a drop; fails if a segment is still in its place then.
pub(crate) fn is_drop_told(cut: &Rig, what: &str) -> bool {
    let is_dropped = |kind| matches!(kind, LedgerKind::BucketDropped(_));
    let is_told = cut.look().ledger().unwrap().iter().any(|entry| is_dropped(entry.kind));
    let segments = cut.files(".seg");
    let in_place: Vec<_> =
        segments.iter().filter(|path| !path.starts_with("/data/trash")).collect();
    assert!(!is_told || in_place.is_empty(), "{what}: {in_place:?}");
    is_told
}

/// The options of a keyspace are lost, and the process that drops its bucket ends at any call: the next one tells
/// the ledger of it once it is durable.
#[test]
fn the_drop_of_a_bucket_without_an_owner_is_told_once_it_is_durable() {
    let told = Cell::new(0);
    each_call(|rig, call, what| {
        leave_orphan(rig);
        let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
        let reached = ends_at(&disk, call, || {
            let builder = quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
            drop(builder.open());
        });
        let next = rig.kill();
        let store = next.open();
        told.set(told.get() + u32::from(is_drop_told(&next.cut(0), what)));
        drop(store);
        reached
    });
    assert!(told.get() > 0);
}
