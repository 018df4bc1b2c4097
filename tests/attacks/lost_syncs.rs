//! The sync of a directory fails and loses what it was to write, and a later one of the same directory says that it
//! worked: whoever builds upon a name there must not believe it.

use std::sync::Arc;

use ebbtide::disk::FaultyDisk;
use ebbtide::{LogOptions, Result, Retention, Row, Store, StoreBuilder};

use crate::fixture::{open, quiet, try_open};
use crate::hooked::HookedDisk;
use crate::rig::{REFUSED, Rig, access, options, rows, seen};
use crate::successors::ends_at;

/// Syncs of a directory of which each is lost in turn.
const SYNCS: usize = 4;

/// The store on a disk.
fn on(disk: impl ebbtide::disk::Disk + 'static, rig: &Rig) -> StoreBuilder {
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
    dir: &'static str,
    act: impl Fn(&Rig, &Store) -> Result<()>,
    goes_on: impl Fn(&Rig, &Store),
    check: impl Fn(&Rig, &str),
) {
    for after in 0..SYNCS {
        for call in 1.. {
            let rig = Rig::new(false);
            let hooked = HookedDisk::new(&rig.disk);
            let disk = FaultyDisk::new(Arc::new(hooked.clone()));
            hooked.forget_sync(dir, after);
            let reached = ends_at(&disk, call, || {
                if let Ok(store) = try_open(on(disk.clone(), &rig), false) {
                    let _ = act(&rig, &store);
                    // It ends here at the latest, without closing.
                    disk.inject(
                        disk.calls() + 1,
                        ebbtide::disk::Fault::ErrorsFrom(std::io::ErrorKind::Other),
                    );
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
        each_end_after_a_lost_sync(dir, |_, store| store_both(store, "0"), goes_on, check_both);
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
        each_end_after_a_lost_sync(dir, |_, store| make(store), goes_on, check);
    }
}
