//! Few threads on one store, under schedules that a model checker chooses: what a call promised
//! holds for every call that begins after it returned, and after every stop.
//!
//! The locks and atomics of the engine are shuttle's here, so this is compiled only with
//! `RUSTFLAGS="--cfg shuttle"`. A scenario is a function; its name in the list makes it two tests.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "interleavings/capacity.rs"]
mod capacity;
#[path = "interleavings/clock.rs"]
mod clock;
#[path = "interleavings/denials.rs"]
mod denials;
#[path = "interleavings/erasing.rs"]
mod erasing;
#[path = "common/fixture.rs"]
mod fixture;
#[path = "interleavings/flights.rs"]
mod flights;
#[path = "interleavings/leaving.rs"]
mod leaving;
#[path = "common/promises/mod.rs"]
mod promises;
#[path = "interleavings/reach.rs"]
mod reach;
#[path = "interleavings/readers.rs"]
mod readers;
#[path = "interleavings/rows.rs"]
mod rows;
#[path = "common/schedules.rs"]
mod schedules;
#[path = "interleavings/syncs.rs"]
mod syncs;

use ebbtide::{Durability, Outcome};
use shuttle::thread;

use fixture::{hours, unless_closed};
use promises::{World, check_bytes, options};
use schedules::{chance, scenarios};

scenarios! {
    fill_and_invalidation,
    fill_and_invalidation_of_its_tag,
    late_fill_and_inserts,
    held_values_and_drop,
    calls_and_close,
    upkeep_and_close,
    streams_and_close,
    invalidations_that_share_a_sync,
    syncs_that_are_shared,
    syncs_while_segments_are_sealed,
}

/// Something of each key to begin with, durable in half of the schedules.
fn world(mapped: bool, keys: u64) -> World {
    let world = World::new(mapped, keys, options());
    for key in 0..keys {
        world.insert(key).unwrap();
    }
    if chance().once_in(2) {
        world.sync().unwrap();
    }
    world
}

fn fill_and_invalidation(mapped: bool) {
    let world = world(mapped, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
        });
        scope.spawn(|| {
            world.invalidate(0).unwrap();
            world.get(0).unwrap();
        });
        scope.spawn(|| {
            for _ in 0..3 {
                world.get(0).unwrap();
            }
        });
    });
    world.settle();
}

fn fill_and_invalidation_of_its_tag(mapped: bool) {
    let world = World::new(mapped, 2, options());
    let _: Outcome = world.write(0).unwrap();
    let _: Outcome = world.write(1).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
            let _: Outcome = world.write(1).unwrap();
        });
        scope.spawn(|| {
            world.invalidate_tag().unwrap();
        });
        scope.spawn(|| {
            world.get(1).unwrap();
            world.get(0).unwrap();
        });
        scope.spawn(|| world.iterate().unwrap());
    });
    world.settle();
}

fn late_fill_and_inserts(mapped: bool) {
    let world = world(mapped, 1);
    let late = world.fill(0, Durability::Buffered);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _: Outcome = late().unwrap();
        });
        for _ in 0..2 {
            scope.spawn(|| world.insert(0).unwrap());
        }
        scope.spawn(|| {
            for _ in 0..3 {
                world.get(0).unwrap();
            }
        });
    });
    world.settle();
}

fn held_values_and_drop(mapped: bool) {
    let world = world(mapped, 2);
    let held = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let keys = [0, 1, 0, 1];
            let read = keys.map(|key| world.get(key).unwrap().map(|value| (key, value)));
            read.into_iter().flatten().collect::<Vec<_>>()
        });
        scope.spawn(|| {
            world.advance(hours(17));
            world.store.maintain().unwrap();
            world.iterate().unwrap();
        });
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
            world.get(0).unwrap();
        });
        reader.join().unwrap()
    });
    world.store.maintain().unwrap();
    held.iter().for_each(|(key, value)| check_bytes(*key, value));
    // As long as one of them is held, the store cannot be opened again.
    drop(held);
    world.settle();
}

fn calls_and_close(mapped: bool) {
    let world = world(mapped, 3);
    thread::scope(|scope| {
        scope.spawn(|| {
            unless_closed(world.write(0));
            unless_closed(world.insert(0));
        });
        scope.spawn(|| {
            unless_closed(world.invalidate(1));
            unless_closed(world.get(1));
        });
        scope.spawn(|| {
            for key in 0..3 {
                unless_closed(world.get(key));
            }
            if let Some(late) = unless_closed(world.store.keyspace("late", options())) {
                unless_closed(late.insert("key", "value"));
            }
        });
        scope.spawn(|| {
            world.store.close().unwrap();
            // Another process may have it now.
            world.freeze();
        });
    });
    world.settle_closed();
}

fn streams_and_close(mapped: bool) {
    let world = world(mapped, 2);
    thread::scope(|scope| {
        scope.spawn(|| {
            unless_closed(world.stream(0));
            unless_closed(world.stream(1));
        });
        scope.spawn(|| {
            unless_closed(world.stream(0));
        });
        scope.spawn(|| {
            world.store.close().unwrap();
            world.freeze();
            let mut files = world.disk.all_files();
            files.retain(|path| path.extension().is_some_and(|extension| extension == "part"));
            assert!(files.is_empty(), "{files:?}");
        });
    });
    world.settle_closed();
}

fn upkeep_and_close(mapped: bool) {
    let world = world(mapped, 3);
    world.advance(hours(17));
    world.insert(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            unless_closed(world.store.maintain());
        });
        scope.spawn(|| {
            unless_closed(world.store.confirm_clock());
            unless_closed(world.store.drop_expired());
        });
        scope.spawn(|| {
            unless_closed(world.store.reset_clock());
            unless_closed(world.store.keyspace("images", options().erase_within(hours(1))));
            unless_closed(world.sync());
        });
        scope.spawn(|| {
            world.store.close().unwrap();
            world.freeze();
        });
    });
    world.settle_closed();
}

fn invalidations_that_share_a_sync(mapped: bool) {
    let world = world(mapped, 3);
    // So many that the next ones fill the log, in some schedules.
    for _ in 0..chance().below(2) * (20 + chance().below(8)) {
        world.images.invalidate("other").unwrap();
    }
    thread::scope(|scope| {
        for key in [0, 1, 2] {
            let world = &world;
            scope.spawn(move || {
                world.invalidate(key).unwrap();
                world.cut();
            });
        }
    });
    world.settle();
}

fn syncs_that_are_shared(mapped: bool) {
    let world = world(mapped, 3);
    thread::scope(|scope| {
        for key in [0, 1] {
            let world = &world;
            scope.spawn(move || {
                let _: Outcome = world.fill(key, Durability::Sync)().unwrap();
                world.cut();
            });
        }
        scope.spawn(|| {
            let _: Outcome = world.write(2).unwrap();
            world.sync().unwrap();
            world.cut();
        });
        scope.spawn(|| {
            for key in [0, 2] {
                world.get(key).unwrap();
            }
        });
    });
    world.settle();
}

fn syncs_while_segments_are_sealed(mapped: bool) {
    let world = world(mapped, 2);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.advance(hours(1));
            world.store.maintain().unwrap();
        });
        for key in [0, 1] {
            let world = &world;
            scope.spawn(move || {
                let _: Outcome = world.write(key).unwrap();
                world.sync().unwrap();
                world.cut();
            });
        }
    });
    world.settle();
}
