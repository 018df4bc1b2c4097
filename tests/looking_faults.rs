//! A process that only looks, with each of its calls on the disk failing: what it shows is right, what it
//! cannot show it says, and short reads change nothing.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(not(any(shuttle, planted)))]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{KeyspaceOptions, LogOptions, Residue, Retention, Row, Store, StoreBuilder};

use fixture::{clock, hours, minutes, on_memory, open, quiet, value_of};

const KEYS: u64 = 30;
const LONGEST: u64 = 500;

fn value(key: u64) -> Vec<u8> {
    value_of(key, key % 3, LONGEST)
}

/// A disk with a store of several buckets, of which one has left, that was closed or killed.
fn prepare(closed: bool) -> MemoryDisk {
    let disk = MemoryDisk::new(3);
    let clock = clock();
    let store = open(on_memory(&disk, &clock), false);
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    let images = store.keyspace("images", options).unwrap();
    let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
    images.insert("early", b"early").unwrap();
    for key in 0..KEYS {
        if key % 10 == 0 {
            clock.advance(hours(6));
        }
        store.maintain().unwrap();
        let _ =
            images.fill(key.to_le_bytes()).tag(format!("t{}", key % 2)).commit(value(key)).unwrap();
        access.append(Row::anonymous().tag("t").payload(key.to_le_bytes())).unwrap();
    }
    images.insert("gone", b"gone").unwrap();
    images.invalidate("gone").unwrap();
    store.scrub().unwrap();
    if closed {
        store.close().unwrap();
        disk.fork()
    } else {
        disk.kill()
    }
}

fn builder(disk: FaultyDisk) -> StoreBuilder {
    let clock = clock();
    clock.advance(hours(18) + minutes(5));
    quiet(Store::builder("/data"), &clock).disk(disk)
}

/// What a look showed, and whether anything said that there may be more.
#[derive(Debug, Default, PartialEq)]
struct Look {
    keys: BTreeSet<Vec<u8>>,
    tagged: BTreeSet<Vec<u8>>,
    rows: BTreeSet<Vec<u8>>,
    residue: Option<Vec<Residue>>,
    entries: Option<usize>,
    told: bool,
}

impl Look {
    /// Takes what the disk may have refused.
    fn take<T>(&mut self, result: ebbtide::Result<T>) -> Option<T> {
        self.told |= result.is_err();
        result.ok()
    }
}

/// Looks in every way there is; fails if anything wrong is shown.
fn look(disk: &FaultyDisk) -> Look {
    let mut look = Look::default();
    let Some(store) = look.take(builder(disk.clone()).open_read_only()) else { return look };
    look.told |= !store.recovery_report().is_clean();
    if let Some(images) = look.take(store.existing_keyspace("images")) {
        for key in 0..KEYS {
            let name = key.to_le_bytes();
            if let Some(found) = look.take(images.get(name)).flatten() {
                assert_eq!(found.as_ref(), value(key));
                look.keys.insert(name.to_vec());
            }
            let _ = images.explain(name);
        }
        for gone in ["early", "gone"] {
            assert!(images.get(gone).ok().flatten().is_none(), "{gone}");
        }
        let iterated: Vec<_> = images.iter().filter_map(|entry| look.take(entry)).collect();
        let names: BTreeSet<_> = iterated.iter().map(|entry| entry.key().to_vec()).collect();
        assert!(look.told || names == look.keys, "{names:?}");
        for entry in look.take(images.list_tag("t0")).unwrap_or_default() {
            look.tagged.insert(entry.key().to_vec());
        }
    }
    if let Some(access) = look.take(store.existing_log("access")) {
        for row in look.take(access.scan(..)).into_iter().flatten() {
            if let Some(row) = look.take(row) {
                look.rows.insert(row.payload().to_vec());
            }
        }
    }
    look.residue = look.take(store.residue());
    look.entries = look.take(store.ledger()).map(|entries| entries.len());
    let verified = look.take(store.verify());
    look.told |= verified.is_some_and(|report| !report.problems.is_empty());
    let _ = look.take(store.prove_retention(..));
    look.told |= !store.problems().is_empty();
    look
}

fn fail_each_call(closed: bool, fault: Fault, may_tell: bool) {
    let prepared = prepare(closed);
    let whole = look(&FaultyDisk::new(Arc::new(prepared.fork())));
    assert!(!whole.told && whole.keys.len() > 10 && whole.tagged.len() > 5, "{whole:?}");
    assert_eq!(whole.rows.len(), whole.keys.len());
    let mut told = 0;
    for call in 1.. {
        let disk = FaultyDisk::new(Arc::new(prepared.fork()));
        disk.inject(call, fault);
        let seen = look(&disk);
        if disk.calls() < call {
            println!("closed {closed}, {fault:?}: {} calls, {told} told", call - 1);
            break;
        }
        told += u64::from(seen.told);
        assert!(may_tell || !seen.told, "call {call}: {seen:?}");
        assert!(seen.told || seen == whole, "call {call}: {seen:?} of {whole:?}");
        // What is shown of residue is all there is.
        assert!(seen.residue.is_none() || seen.residue == whole.residue, "call {call}");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    for closed in [true, false] {
        for kind in [ErrorKind::Other, ErrorKind::PermissionDenied, ErrorKind::Interrupted] {
            fail_each_call(closed, Fault::Error(kind), true);
        }
    }
}

#[test]
fn short_reads_change_nothing() {
    for closed in [true, false] {
        fail_each_call(closed, Fault::Short, false);
    }
}
