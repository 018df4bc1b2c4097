//! The sync of a directory fails and loses what it was to write, and a later one of the same directory says that it
//! worked: whoever builds upon a name there must not believe it.

use std::cell::Cell;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use ebbtide::disk::{Disk, Fault, FaultyDisk};
use ebbtide::{LogOptions, Result, Retention, Row, Store, StoreBuilder};

use crate::fixture::{minutes, open, quiet, try_open};
use crate::hooked::HookedDisk;
use crate::rig::{REFUSED, Rig, access, options, rows, seen};
use crate::successors::{ends_at, fill_up, insert_large, is_drop_told, leave_orphan, small};

/// Syncs of a directory of which each is lost in turn.
const SYNCS: usize = 4;

/// The store on a disk.
fn on(disk: impl Disk + 'static, rig: &Rig) -> StoreBuilder {
    quiet(Store::builder("/data").disk(disk), &rig.clock)
}

/// What the next process that can open the store does there.
fn next(disk: &HookedDisk, rig: &Rig) -> Store {
    // The sync that is lost may be one of its own.
    try_open(on(disk.clone(), rig), false).unwrap_or_else(|_| open(on(disk.clone(), rig), false))
}

/// Lets each sync of a directory be lost in turn while a process opens the store and does this, and the process end
/// at each of its calls; shows the next process, and what is left of what that has done once the power was cut.
fn each_end_after_a_lost_sync(
    dir: &str,
    prepare: impl Fn(&Rig),
    act: impl Fn(&Rig, &Store) -> Result<()>,
    goes_on: impl Fn(&Rig, &Store),
    check: impl Fn(&Rig, &str),
) {
    for after in 0..SYNCS {
        for call in 1.. {
            let rig = Rig::new(false);
            prepare(&rig);
            let hooked = HookedDisk::new(&rig.disk);
            let disk = FaultyDisk::new(Arc::new(hooked.clone()));
            hooked.forget_sync(dir, after);
            let reached = ends_at(&disk, call, || {
                if let Ok(store) = try_open(on(disk.clone(), &rig), false) {
                    let _ = act(&rig, &store);
                    // It ends here at the latest, without closing.
                    disk.inject(disk.calls() + 1, Fault::ErrorsFrom(ErrorKind::Other));
                }
            });
            let store = next(&hooked, &rig);
            goes_on(&rig, &store);
            check(&rig.cut(0), &format!("{dir}, sync {after}, call {call}"));
            if !reached {
                break;
            }
        }
    }
}

fn access_in(store: &Store) -> Result<ebbtide::Log> {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(8192))
}

/// A call fails as well, as that which is to take it back.
#[test]
fn an_owner_that_could_not_be_taken_back_is_made_durably() {
    let mut again = 0;
    for parent in ["/data/keyspaces", "/data/logs"] {
        for call in 1.. {
            let rig = Rig::new(false);
            let hooked = HookedDisk::new(&rig.disk);
            let disk = FaultyDisk::new(Arc::new(hooked.clone()));
            let store = open(on(disk.clone(), &rig), false);
            let make = || match parent {
                "/data/keyspaces" => store.keyspace("images", options()).map(drop),
                _ => access_in(&store).map(drop),
            };
            hooked.forget_next_sync(parent);
            let failing = disk.calls() + call;
            disk.inject(failing, REFUSED);
            let first = make();
            let reached = disk.calls() >= failing;
            if make().is_ok() {
                again += u32::from(first.is_err());
                let stats = rig.cut(0).open().stats();
                let made = stats.keyspaces.len() + stats.logs.len();
                assert_eq!(made, 1, "{parent}, call {call}, {first:?}");
            }
            if !reached {
                break;
            }
        }
    }
    assert!(again > 3, "{again}");
}

fn store_both(store: &Store, value: &str) -> Result<()> {
    store.keyspace("images", options())?.insert("a", value)?;
    access_in(store)?.append(Row::anonymous().payload(value))?;
    store.sync()
}

fn check_both(cut: &Rig, what: &str) {
    let store = cut.open();
    assert_eq!(store.keyspaces(), ["images"], "{what}");
    assert_eq!(store.logs(), ["access"], "{what}");
    assert_eq!(seen(&store, "a").as_deref(), Some("value"), "{what}");
    assert_eq!(rows(&access(&store)).last().map(String::as_str), Some("value"), "{what}");
    assert_eq!(store.recovery_report().corrupt_records.len(), 0, "{what}");
}

#[test]
fn what_is_stored_where_a_lost_sync_has_left_a_name_stays() {
    for dir in
        ["/data", "/data/keyspaces", "/data/keyspaces/images", "/data/logs", "/data/logs/access"]
    {
        let goes_on = |_: &Rig, store: &Store| {
            // The sync that is lost may be one of its own.
            let _ = store_both(store, "value");
            store_both(store, "value").unwrap();
        };
        each_end_after_a_lost_sync(
            dir,
            |_| {},
            |_, store| store_both(store, "0"),
            goes_on,
            check_both,
        );
    }
}

#[test]
fn an_owner_that_a_lost_sync_has_left_stays_without_anything_in_it() {
    for dir in ["/data/keyspaces", "/data/keyspaces/images", "/data/logs", "/data/logs/access"] {
        let make = |store: &Store| {
            store.keyspace("images", options())?;
            access_in(store).map(drop)
        };
        let goes_on = |_: &Rig, store: &Store| {
            let _ = make(store);
            make(store).unwrap();
        };
        let check = |cut: &Rig, what: &str| {
            let store = cut.open();
            assert_eq!(store.keyspaces(), ["images"], "{what}");
            assert_eq!(store.logs(), ["access"], "{what}");
        };
        each_end_after_a_lost_sync(dir, |_| {}, |_, store| make(store), goes_on, check);
    }
}

/// Counts an invalidation.
fn count_one(rig: &Rig, store: &Store) -> Result<()> {
    store.keyspace("images", options())?.invalidate("key")?;
    rig.clock.advance(minutes(2));
    store.maintain()
}

fn is_begun(rig: &Rig) -> bool {
    rig.files("0000000002.log").iter().any(|file| file.starts_with("/data/ledger"))
}

/// A ledger of which the next entry begins another file, on a full disk: else the next process makes a spare, and
/// with it something that its sync has to write.
fn fill_ledger(rig: &Rig) {
    let store = rig.open();
    loop {
        let next = rig.kill();
        count_one(&next, &next.open()).unwrap();
        if is_begun(&next) {
            return rig.disk.set_capacity_bytes(Some(rig.disk.used_bytes()));
        }
        count_one(rig, &store).unwrap();
    }
}

#[test]
fn a_file_of_the_ledger_that_a_lost_sync_has_left_is_named_by_state_once_it_is_durable() {
    let goes_on = |rig: &Rig, store: &Store| {
        let _ = count_one(rig, store);
        count_one(rig, store).unwrap();
        assert!(is_begun(rig));
    };
    let check = |cut: &Rig, what: &str| {
        cut.disk.set_capacity_bytes(None);
        let store = cut.open();
        let report = store.verify_ledger().unwrap();
        assert_eq!(report.problems, [], "{what}");
        assert!(is_begun(cut), "{what}");
    };
    each_end_after_a_lost_sync("/data/ledger", fill_ledger, count_one, goes_on, check);
}

#[test]
fn the_drop_of_a_bucket_without_an_owner_is_told_by_the_next_process_once_it_is_durable() {
    let told = Cell::new(0);
    for dir in ["/data/trash", "/data/keyspaces/images"] {
        let check = |cut: &Rig, what: &str| {
            told.set(told.get() + u32::from(is_drop_told(cut, what)));
        };
        each_end_after_a_lost_sync(dir, leave_orphan, |_, _| Ok(()), |_, _| {}, check);
    }
    assert!(told.get() > 0);
}

/// A process ends while it evicts the segment of a value that was invalidated: a sync of this directory, the trash or
/// that of the bucket, has been lost, and the call after so many others is the first that it does not make. True if it
/// made so many.
fn leave_evicted(rig: &Rig, hooked: &HookedDisk, large: u64, is_trash: bool, call: u64) -> bool {
    let disk = FaultyDisk::new(Arc::new(hooked.clone()));
    let store = open(on(disk.clone(), rig), false);
    fill_up(rig, &store, large);
    // All in its bucket is sealed, so that the next process makes no sidecar there.
    rig.clock.advance(minutes(20));
    store.maintain().unwrap();
    let bucket = rig.files(".seg")[0].parent().unwrap().to_owned();
    hooked.forget_next_sync(if is_trash { PathBuf::from("/data/trash") } else { bucket });
    let keys = small(&store);
    let reached = ends_at(&disk, call, || insert_large(&keys, large));
    disk.inject(disk.calls() + 1, Fault::ErrorsFrom(ErrorKind::Other));
    reached
}

/// The next process forgets what had hidden it, and ends too before it has given the space back.
#[test]
fn a_segment_whose_eviction_a_lost_sync_has_left_stays_away_with_the_next_process() {
    let is_full = |large: &u64| {
        let rig = Rig::new(false);
        let store = rig.open();
        fill_up(&rig, &store, *large);
        store.stats().segments_evicted > 0
    };
    let large = (1..).find(is_full).unwrap() - 1;
    let mut forgotten = 0;
    for is_trash in [true, false] {
        for call in 1.. {
            let mut reached = false;
            for second in 1.. {
                let rig = Rig::new(false);
                let hooked = HookedDisk::new(&rig.disk);
                reached = leave_evicted(&rig, &hooked, large, is_trash, call);
                let disk = FaultyDisk::new(Arc::new(hooked.clone()));
                let again = || try_open(on(disk.clone(), &rig), false);
                let store = again().or_else(|_| again()).unwrap();
                let goes_on = ends_at(&disk, second, || drop(store.maintain()));
                forgotten += u32::from(store.stats().keyspaces[0].key_tombstones == 0);
                let left = rig.cut(0).open();
                let gone = small(&left).get("gone").unwrap();
                assert!(gone.is_none(), "trash {is_trash}, call {call}, {second} of the next");
                if !goes_on {
                    break;
                }
            }
            if !reached {
                break;
            }
        }
    }
    assert!(forgotten > 1, "the tombstone was always kept");
}
