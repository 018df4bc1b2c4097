//! Writes beside a clock that is set right: whatever they meet, it stays no longer than what is
//! written from then on.

use std::io::ErrorKind;
use std::sync::Arc;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{Clock, Error, Log, LogOptions, Outcome, Retention, Row, Store};
use shuttle::thread;

use crate::fixture::{self, hours};
use crate::promises::{World, options};
use crate::schedules::scenarios;

scenarios! {
    writes_and_a_clock_set_right,
    rows_and_a_clock_set_right,
    keys_and_a_confirmation,
}

const WINDOW_HOURS: u64 = 16;
const LATER_HOURS: u64 = 100_000;

/// A store whose time is years ahead of a clock that is right again.
fn world(mapped: bool) -> World {
    let world = World::new(mapped, 3, options());
    world.clock.set_wall(fixture::START + hours(LATER_HOURS));
    world.store.confirm_clock().unwrap();
    world.insert(0).unwrap();
    world.clock.set_wall(fixture::START);
    world
}

/// When all that has been written is over, nothing is left of it.
fn settle(world: World) {
    for bucket in buckets(&world) {
        assert!(bucket <= fixture::START + hours(WINDOW_HOURS), "{bucket}");
    }
    world.clock.advance(hours(WINDOW_HOURS));
    world.store.maintain().unwrap();
    assert!(buckets(&world).is_empty(), "{:?}", world.store.stats());
    world.settle();
}

fn buckets(world: &World) -> Vec<ebbtide::Timestamp> {
    let stats = world.store.stats();
    let keyspaces = stats.keyspaces.iter().flat_map(|keyspace| &keyspace.buckets);
    let logs = stats.logs.iter().flat_map(|log| &log.buckets);
    keyspaces.chain(logs).map(|bucket| bucket.deadline).collect()
}

fn writes_and_a_clock_set_right(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| world.store.reset_clock().unwrap());
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
        });
        scope.spawn(|| {
            world.insert(1).unwrap();
            let other = world.store.keyspace("others", options()).unwrap();
            other.insert("key", "value").unwrap();
            other.insert("key", "newer").unwrap();
        });
    });
    assert_eq!(world.store.now(), world.clock.wall());
    settle(world);
}

fn visits(store: &Store) -> Log {
    let options = LogOptions::new(Retention::hours(WINDOW_HOURS as u32)).segment_bytes(4096);
    store.log("visits", options).unwrap()
}

fn rows_and_a_clock_set_right(mapped: bool) {
    let world = world(mapped);
    let log = visits(&world.store);
    thread::scope(|scope| {
        scope.spawn(|| world.store.reset_clock().unwrap());
        scope.spawn(|| {
            log.append(Row::anonymous().payload("row")).unwrap();
            let mut appender = log.appender();
            appender.append(Row::anonymous().payload("collected")).unwrap();
            appender.flush().unwrap();
        });
        scope.spawn(|| {
            let ip = [198, 51, 100, 7].into();
            let subject = log.pseudonym(ip, world.store.now()).unwrap();
            match log.append(Row::new(subject).payload("of a visitor")) {
                // Its key left with a bucket that nothing had been written to.
                Ok(_) | Err(Error::Expired { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        });
    });
    settle(world);
}

/// As long as the clock is not set right to the end, the time is written down before a bucket of a log is made. It must
/// not be one from before the confirmation then.
fn keys_and_a_confirmation(mapped: bool) {
    let (disk, clock) = (MemoryDisk::new(1), fixture::clock());
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let builder = Store::builder("/data").disk(faulty.clone());
    let store = fixture::open(fixture::quiet(builder, &clock), mapped);
    clock.set_wall(fixture::START + hours(LATER_HOURS));
    store.confirm_clock().unwrap();
    visits(&store).append(Row::anonymous().payload("row")).unwrap();
    clock.set_wall(fixture::START);
    // STATE is written and synced, and nothing else.
    faulty.inject(faulty.calls() + 3, Fault::ErrorsFrom(ErrorKind::TimedOut));
    store.reset_clock().unwrap_err();
    faulty.clear();
    assert_eq!(store.now(), fixture::START);
    clock.set_wall(fixture::START + hours(WINDOW_HOURS - 1));
    thread::scope(|scope| {
        scope.spawn(|| store.confirm_clock().unwrap());
        scope.spawn(|| {
            visits(&store).pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
        });
    });
    let now = store.now();
    assert_eq!(now, clock.wall());
    let left = disk.fork().kill();
    assert!(fixture::on_memory(&left, &clock).open_read_only().unwrap().now() >= now);
}
