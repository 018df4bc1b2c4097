//! A process that may open no more files: those kept open for reading make room for what has to be done.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(not(any(shuttle, planted)))]

#[path = "common/fixture.rs"]
mod fixture;

use std::ops::Range;
use std::sync::Arc;

use ebbtide::disk::{FaultyDisk, MemoryDisk};
use ebbtide::{Keyspace, KeyspaceOptions, LogOptions, Retention, Row, Store, StoreBuilder};

use fixture::{clock, hours, open, quiet, value_of};

const KEYS: u64 = 200;
const LONGEST: u64 = 1000;

/// Inserts, and seals segments on the way: until then they are kept open to be written.
fn insert(store: &Store, images: &Keyspace, keys: Range<u64>) {
    for key in keys {
        if key % 10 == 0 {
            store.sync().unwrap();
        }
        images.insert(key.to_le_bytes(), value_of(key, 0, LONGEST)).unwrap();
    }
}

fn expect(images: &Keyspace, keys: Range<u64>) {
    for key in keys {
        let value = images.get(key.to_le_bytes()).unwrap();
        assert_eq!(value.unwrap().as_ref(), value_of(key, 0, LONGEST), "{key}");
    }
}

/// Sees to it that files are kept open for reading, and that the process may open no others.
fn use_up_descriptors(images: &Keyspace, disk: &FaultyDisk) {
    expect(images, 0..KEYS / 2);
    disk.limit_descriptors(0);
}

#[test]
fn all_that_takes_a_descriptor_is_done_without_the_files_kept_for_reading() {
    let memory = MemoryDisk::new(1);
    let disk = FaultyDisk::new(Arc::new(memory));
    let clock = clock();
    let builder = || -> StoreBuilder { quiet(Store::builder("/data"), &clock).disk(disk.clone()) };
    let store = open(builder(), false);
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192);
    let images = store.keyspace("images", options).unwrap();
    let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
    insert(&store, &images, 0..KEYS / 2);
    store.sync().unwrap();

    // Segments are born and sealed.
    use_up_descriptors(&images, &disk);
    insert(&store, &images, KEYS / 2..KEYS);
    access.append(Row::anonymous().payload("row")).unwrap();
    store.sync().unwrap();
    expect(&images, 0..KEYS);

    // Tombstone logs are gone through.
    use_up_descriptors(&images, &disk);
    for key in KEYS / 2..KEYS {
        images.invalidate(key.to_le_bytes()).unwrap();
    }
    expect(&images, 0..KEYS / 2);
    assert!(images.get((KEYS - 1).to_le_bytes()).unwrap().is_none());

    // What was invalidated is overwritten.
    use_up_descriptors(&images, &disk);
    store.scrub().unwrap();
    assert!(store.problems().is_empty());

    // Buckets are dropped, and the trash is emptied.
    use_up_descriptors(&images, &disk);
    clock.advance(hours(20));
    store.maintain().unwrap();
    assert_eq!(images.iter().count(), 0);

    insert(&store, &images, 0..KEYS);
    expect(&images, 0..KEYS);
    use_up_descriptors(&images, &disk);
    store.close().unwrap();
    drop((images, access, store));
    assert_eq!(disk.open_files(), 0);
    disk.limit_descriptors(20);
    let store = open(builder(), false);
    assert!(store.recovery_report().is_clean());
    let images = store.existing_keyspace("images").unwrap();
    expect(&images, 0..KEYS);
    assert!(store.verify().unwrap().problems.is_empty());
}
