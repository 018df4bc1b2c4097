//! A keyspace at its capacity, and a disk that is full: what is evicted may go, the capacity holds, and
//! nothing comes back.

use ebbtide::{Error, Outcome, Result};
use shuttle::thread;

use crate::fixture::{hours, unless_closed};
use crate::promises::{World, options};
use crate::schedules::scenarios;

scenarios! {
    invalidation_sync_and_eviction,
    drop_and_writes_at_the_capacity,
    looks_and_eviction,
    reads_after_opening_and_eviction,
    streams_and_eviction,
    eviction_and_close,
    writes_and_invalidations_on_a_full_disk,
}

/// The least capacity there can be.
pub(crate) const CAPACITY: u64 = 16 * 4096;

/// A store at its capacity, and the bytes on its disk beside the records.
pub(crate) fn full_world(mapped: bool) -> (World, u64) {
    let world = World::new(mapped, 16, options().capacity_bytes(CAPACITY)).evicting();
    world.store.maintain().unwrap();
    let beside = world.disk.used_bytes();
    for key in (0..14).cycle().take_while(|_| world.store.stats().segments_evicted == 0) {
        world.insert(key).unwrap();
    }
    (world, beside)
}

/// Writes for which segments are evicted.
pub(crate) fn write_beyond_capacity(world: &World) {
    for key in [14, 15, 0, 1] {
        let _: Outcome = world.write(key).unwrap();
    }
}

/// It holds whatever the others have come to.
fn check_capacity(world: &World, beside: u64) {
    let used = world.disk.used_bytes() - beside;
    assert!(used <= CAPACITY, "{used} bytes are more than the capacity");
}

fn invalidation_sync_and_eviction(mapped: bool) {
    let (world, beside) = full_world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| write_beyond_capacity(&world));
        scope.spawn(|| {
            for key in [0, 13] {
                world.invalidate(key).unwrap();
            }
        });
        scope.spawn(|| {
            world.sync().unwrap();
            world.store.maintain().unwrap();
        });
        scope.spawn(|| {
            for key in [0, 1, 13] {
                world.get(key).unwrap();
                check_capacity(&world, beside);
            }
        });
    });
    world.settle();
}

/// What is dropped counts until it is given back, also while that is under way.
fn drop_and_writes_at_the_capacity(mapped: bool) {
    let (world, beside) = full_world(mapped);
    world.advance(hours(17));
    thread::scope(|scope| {
        scope.spawn(|| world.store.maintain().unwrap());
        scope.spawn(|| {
            for key in [14, 15, 0, 1] {
                let _: Outcome = world.write(key).unwrap();
                check_capacity(&world, beside);
            }
        });
    });
    world.settle();
}

fn looks_and_eviction(mapped: bool) {
    let (world, beside) = full_world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| write_beyond_capacity(&world));
        scope.spawn(|| {
            world.list_tag().unwrap();
            world.iterate().unwrap();
            check_capacity(&world, beside);
        });
        scope.spawn(|| {
            world.invalidate(12).unwrap();
            world.scrub().unwrap();
            check_capacity(&world, beside);
        });
        scope.spawn(|| {
            world.get_many(&[11, 12, 13, 14]).unwrap();
            check_capacity(&world, beside);
            assert_eq!(world.store.verify().unwrap().problems, []);
        });
    });
    world.settle();
}

/// The files of what is read have to be opened first.
fn reads_after_opening_and_eviction(mapped: bool) {
    let (world, _) = full_world(mapped);
    let world = world.opened_again();
    thread::scope(|scope| {
        scope.spawn(|| write_beyond_capacity(&world));
        scope.spawn(|| {
            for key in 0..14 {
                world.get(key).unwrap();
            }
        });
    });
    world.settle();
}

fn streams_and_eviction(mapped: bool) {
    let (world, beside) = full_world(mapped);
    thread::scope(|scope| {
        for keys in [[14, 0], [15, 1]] {
            let world = &world;
            scope.spawn(move || {
                for key in keys {
                    let _: Outcome = world.stream(key).unwrap();
                    check_capacity(world, beside);
                }
            });
        }
        scope.spawn(|| {
            for key in [2, 3] {
                let _: Outcome = world.write(key).unwrap();
                check_capacity(&world, beside);
            }
        });
        scope.spawn(|| world.store.maintain().unwrap());
    });
    world.settle();
}

fn eviction_and_close(mapped: bool) {
    let (world, _) = full_world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            for key in [14, 15, 0, 1] {
                unless_closed(world.write(key));
            }
        });
        scope.spawn(|| {
            unless_closed(world.stream(2));
            unless_closed(world.store.maintain());
        });
        scope.spawn(|| {
            world.store.close().unwrap();
            world.freeze();
        });
    });
    world.settle_closed();
}

/// A call that may find the disk full, and nothing else wrong.
fn unless_full<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::NoSpace { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

fn writes_and_invalidations_on_a_full_disk(mapped: bool) {
    let world = World::new(mapped, 8, options()).evicting();
    for key in 0..8 {
        world.insert(key).unwrap();
    }
    world.sync().unwrap();
    world.disk.set_capacity_bytes(Some(world.disk.used_bytes() + 4096));
    thread::scope(|scope| {
        scope.spawn(|| {
            for key in [0, 7, 1] {
                world.invalidate(key).unwrap();
                world.get(key).unwrap();
            }
        });
        scope.spawn(|| {
            for key in [0, 2, 3] {
                unless_full(world.write(key));
            }
            unless_full(world.stream(4));
        });
        scope.spawn(|| {
            unless_full(world.sync());
            unless_full(world.store.maintain());
            world.get(7).unwrap();
        });
    });
    world.disk.set_capacity_bytes(None);
    world.settle();
}
