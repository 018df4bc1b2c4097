//! Another process looks at a store right before any call on the disk of the one that writes it: nothing is
//! told to be wrong that is only under way.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(not(any(shuttle, planted)))]

#[path = "common/fixture.rs"]
mod fixture;

use std::sync::{Arc, Mutex};

use ebbtide::disk::{FaultyDisk, MemoryDisk};
use ebbtide::{
    Keyspace, KeyspaceOptions, Log, LogOptions, ManualClock, Problem, Retention, Row, Store,
};

use fixture::{clock, hours, on_memory, open, quiet};

const KEYS: u64 = 60;

/// A store in which something is dead, and some segments are sealed.
struct Writer {
    memory: MemoryDisk,
    disk: FaultyDisk,
    clock: ManualClock,
    store: Store,
    images: Keyspace,
    access: Log,
}

impl Writer {
    fn new() -> Self {
        let memory = MemoryDisk::new(1);
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let clock = clock();
        let store = open(quiet(Store::builder("/data"), &clock).disk(disk.clone()), false);
        let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192);
        let images = store.keyspace("images", options).unwrap();
        let options = LogOptions::new(Retention::hours(16)).segment_bytes(8192);
        let access = store.log("access", options).unwrap();
        let writer = Self { memory, disk, clock, store, images, access };
        writer.write("first");
        writer.store.maintain().unwrap();
        writer.images.invalidate_tag("odd").unwrap();
        writer.access.invalidate_tag("odd").unwrap();
        writer
    }

    fn write(&self, what: &str) {
        for key in 0..KEYS {
            let tag = if key % 2 == 0 { "even" } else { "odd" };
            let fill = self.images.fill(key.to_le_bytes()).tag(tag).tag(what);
            let _ = fill.commit(what.repeat(60)).unwrap();
            self.access.append(Row::anonymous().tag(tag).payload(what.repeat(60))).unwrap();
        }
    }
}

fn look(store: &Store, problems: &Mutex<Vec<Problem>>) {
    problems.lock().unwrap().extend(store.verify().unwrap().problems);
}

/// Does this once for each call that it makes, with a look in between by a process that has opened the store
/// before it, and by one that opens it then.
fn look_during(act: fn(&Writer)) {
    let counted = Writer::new();
    let before = counted.disk.calls();
    act(&counted);
    let calls = counted.disk.calls() - before;
    println!("{calls} calls");
    let mut complaints = Vec::new();
    for call in 1..=calls {
        let writer = Writer::new();
        let problems = Arc::new(Mutex::new(Vec::new()));
        let (memory, clock, told) =
            (writer.memory.clone(), writer.clock.clone(), Arc::clone(&problems));
        let early = on_memory(&memory, &clock).open_read_only().unwrap();
        let kept = early.clone();
        writer.disk.interrupt(writer.disk.calls() + call, move || {
            look(&early, &told);
            look(&on_memory(&memory, &clock).open_read_only().unwrap(), &told);
        });
        act(&writer);
        look(&kept, &problems);
        for problem in problems.lock().unwrap().drain(..) {
            complaints.push((call, problem));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn while_dead_records_are_overwritten() {
    look_during(|writer| writer.store.scrub().unwrap());
}

#[test]
fn while_segments_are_written_and_sealed() {
    look_during(|writer| {
        writer.write("second");
        writer.store.maintain().unwrap();
    });
}

#[test]
fn while_tombstone_logs_are_gone_through() {
    look_during(|writer| {
        for key in 0..KEYS {
            writer.images.invalidate(key.to_le_bytes()).unwrap();
        }
        writer.store.maintain().unwrap();
    });
}

#[test]
fn while_buckets_are_dropped() {
    look_during(|writer| {
        writer.clock.advance(hours(20));
        writer.store.maintain().unwrap();
    });
}

#[test]
fn while_the_store_is_closed_and_opened() {
    look_during(|writer| {
        writer.store.close().unwrap();
        let builder = quiet(Store::builder("/data"), &writer.clock).disk(writer.disk.clone());
        drop(open(builder, false));
    });
}
