//! The shortest way through everything, in both modes, on the in-memory disk and the real one.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    KeyspaceOptions, LogOptions, ManualClock, Outcome, Retention, Row, Store, StoreBuilder,
    Timestamp,
};

fn day() -> Duration {
    Duration::from_secs(86_400)
}

#[allow(unsafe_code)]
fn open(builder: StoreBuilder, mapped: bool) -> Store {
    if mapped {
        // SAFETY: the directory belongs to this test alone.
        unsafe { builder.open_mapped() }.unwrap()
    } else {
        builder.open().unwrap()
    }
}

fn through_everything(builder: StoreBuilder, clock: ManualClock, mapped: bool) {
    let store = open(builder.clone(), mapped);
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
    images.insert("a", b"one").unwrap();
    images.insert("a", b"two").unwrap();
    images.insert("b", b"bee").unwrap();
    assert_eq!(images.get("a").unwrap().unwrap().as_ref(), b"two");
    let late = images.fill("a").tag("t");
    images.invalidate("a").unwrap();
    assert_eq!(late.commit(b"late").unwrap(), Outcome::Superseded);
    assert!(images.get("a").unwrap().is_none());
    assert_eq!(images.fill("c").tag("t").metadata("m").commit(b"sea").unwrap(), Outcome::Stored);
    store.sync().unwrap();
    let held = images.get("c").unwrap().unwrap();
    assert_eq!(held.metadata(), b"m");
    let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
    let visitor = access.pseudonym("198.18.0.1".parse().unwrap(), store.now()).unwrap();
    let id = access.append(Row::new(visitor).payload("row")).unwrap();
    store.close().unwrap();
    let copy = held.to_owned();
    drop(held);

    let store = open(builder.clone(), mapped);
    assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
    let images = store.existing_keyspace("images").unwrap();
    let access = store.existing_log("access").unwrap();
    assert!(images.get("a").unwrap().is_none());
    assert_eq!(images.get("b").unwrap().unwrap().as_ref(), b"bee");
    assert_eq!(images.iter().count(), 2);
    assert_eq!(access.get(id).unwrap().unwrap().payload().as_ref(), b"row");
    assert_eq!(access.scan(..).unwrap().count(), 1);
    images.invalidate_tag("t").unwrap();
    assert!(images.get("c").unwrap().is_none());
    assert!(store.verify().unwrap().problems.is_empty(), "{:?}", store.verify());

    clock.advance(30 * day());
    assert!(images.get("b").unwrap().is_none());
    assert!(access.get(id).unwrap().is_none());
    store.maintain().unwrap();
    assert!(store.stats().keyspaces[0].buckets.is_empty());
    assert_eq!(store.stats().trash_items, 0);
    store.close().unwrap();
    assert_eq!(copy.into_bytes().as_ref(), b"sea");
}

#[test]
fn on_the_memory_disk() {
    for mapped in [false, true] {
        let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
        let disk = MemoryDisk::new(1);
        let builder = Store::builder("/data").disk(disk).clock(clock.clone()).background(false);
        through_everything(builder, clock, mapped);
    }
}

#[test]
fn on_the_real_disk() {
    for mapped in [false, true] {
        let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
        let dir = tempfile::tempdir().unwrap();
        let builder =
            Store::builder(dir.path().join("data")).clock(clock.clone()).background(false);
        through_everything(builder, clock, mapped);
    }
}
