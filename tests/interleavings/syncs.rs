//! A call of one thread that fails, beside another that makes something durable, or that closes the store.

use std::io::ErrorKind;
use std::sync::Arc;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{Clock, Durability, Keyspace, LogOptions, ManualClock, Retention, Row, Store};
use shuttle::thread;

use crate::capacity::CAPACITY;
use crate::fixture::{self, files_of, hours, unless_closed};
use crate::promises::options;
use crate::schedules::{chance, scenarios};

scenarios! {
    sync_beside_a_sync_that_fails: 40,
    sync_beside_a_scrub_that_fails: 40,
    sync_beside_a_correction_that_fails: 40,
    durable_write_beside_an_eviction_that_fails: 40,
    last_resort_and_close: 40,
}

const LOST: Fault = Fault::SyncLost(ErrorKind::TimedOut);

/// A store on a disk that can be made to fail.
struct Bench {
    memory: MemoryDisk,
    disk: FaultyDisk,
    clock: ManualClock,
    mapped: bool,
}

impl Bench {
    fn new(mapped: bool) -> (Self, Store) {
        let (memory, clock) = (MemoryDisk::new(1), fixture::clock());
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let builder = fixture::quiet(Store::builder("/data").disk(disk.clone()), &clock);
        let store = fixture::open(builder, mapped);
        (Self { memory, disk, clock, mapped }, store)
    }

    /// One of the next calls goes wrong.
    fn inject(&self, fault: Fault, among: u64) {
        self.disk.inject(self.disk.calls() + 1 + chance().below(among), fault);
    }

    /// The store after a power cut that leaves the least.
    fn cut(&self) -> Store {
        let left = self.memory.crash(&mut |_: u32| 0);
        fixture::open(fixture::on_memory(&left, &self.clock), self.mapped)
    }

    /// Stores a value durably beside something else; if that is said to have worked, it is there after a power cut.
    fn store_beside(&self, images: &Keyspace, other: impl FnOnce() + Send) {
        let is_durable = thread::scope(|scope| {
            scope.spawn(other);
            let fill = images.fill("new").durability(Durability::Sync);
            scope.spawn(move || fill.commit("value").is_ok()).join().unwrap()
        });
        if is_durable {
            assert!(self.cut().keyspace("images", options()).unwrap().contains("new").unwrap());
        }
    }
}

/// One thread takes a segment out to seal it, and its sync is lost: no other may be told that all is durable.
fn sync_beside_a_sync_that_fails(mapped: bool) {
    const ROWS: usize = 6;
    let (bench, store) = Bench::new(mapped);
    let options = LogOptions::new(Retention::hours(16)).segment_bytes(4096);
    let log = store.log("visits", options.clone()).unwrap();
    for _ in 0..ROWS {
        log.append(Row::anonymous().payload(vec![1; 1500])).unwrap();
    }
    bench.inject(LOST, 4);
    let closes = chance().once_in(4);
    let is_durable = thread::scope(|scope| {
        let first = scope.spawn(|| store.sync().is_ok());
        let second =
            scope.spawn(|| if closes { store.close().is_ok() } else { store.sync().is_ok() });
        let first = first.join().unwrap();
        first | second.join().unwrap()
    });
    if is_durable {
        let store = bench.cut();
        let log = store.log("visits", options).unwrap();
        let rows = log.scan(..).unwrap().map(|row| row.unwrap()).count();
        assert_eq!(rows, ROWS, "closes {closes}");
    }
}

/// The sync of a scrub is lost, of the file that is written to.
fn sync_beside_a_scrub_that_fails(mapped: bool) {
    let (bench, store) = Bench::new(mapped);
    let images = store.keyspace("images", options()).unwrap();
    images.insert("dead", vec![1; 500]).unwrap();
    store.sync().unwrap();
    images.invalidate("dead").unwrap();
    bench.inject(LOST, 8);
    bench.store_beside(&images, || drop(store.scrub()));
}

/// The sync of a deadline that is brought forward is lost, in the file that is written to.
fn sync_beside_a_correction_that_fails(mapped: bool) {
    let (bench, store) = Bench::new(mapped);
    let right = bench.clock.wall();
    bench.clock.set_wall(right + hours(100_000));
    store.confirm_clock().unwrap();
    let images = store.keyspace("images", options()).unwrap();
    images.insert("early", "value").unwrap();
    bench.clock.set_wall(right);
    bench.inject(LOST, 10);
    bench.store_beside(&images, || drop(store.reset_clock()));
}

/// Its segment leaves before it is synced, and may be back with the older version alone.
fn durable_write_beside_an_eviction_that_fails(mapped: bool) {
    let (bench, store) = Bench::new(mapped);
    let options = options().capacity_bytes(CAPACITY);
    let images = store.keyspace("images", options.clone()).unwrap();
    images.insert("key", "old").unwrap();
    store.sync().unwrap();
    bench.inject(Fault::Error(ErrorKind::TimedOut), 16);
    let is_durable = thread::scope(|scope| {
        scope.spawn(|| (0..3).all(|_| images.insert("large", vec![1; 30_000]).is_ok()));
        let fill = images.fill("key").durability(Durability::Sync);
        scope.spawn(move || fill.commit("new").is_ok()).join().unwrap()
    });
    if is_durable {
        let value = bench.cut().keyspace("images", options).unwrap().get("key").unwrap();
        assert_ne!(value.as_deref(), Some(b"old".as_slice()));
    }
}

/// The tombstone log is full, and so is the disk: what is left writes to other files, and nothing once the store is
/// closed.
fn last_resort_and_close(mapped: bool) {
    let (bench, store) = Bench::new(mapped);
    let images = store.keyspace("images", options()).unwrap();
    for _ in 0..24 {
        images.invalidate("key").unwrap();
    }
    if chance().once_in(2) {
        images.insert("key", "value").unwrap();
    }
    bench.memory.set_capacity_bytes(Some(bench.memory.used_bytes()));
    let closed = thread::scope(|scope| {
        scope.spawn(|| drop(unless_closed(images.invalidate("key"))));
        let close = || {
            let _ = store.close();
            files_of(&bench.memory)
        };
        scope.spawn(close).join().unwrap()
    });
    assert!(closed == files_of(&bench.memory), "a file changed after the store was closed");
}
