//! Erasing beside everything else: nobody sees a record go, nothing comes back, and in the end nothing
//! is left of what is dead.

use ebbtide::{Durability, Outcome, Value};
use shuttle::thread;

use crate::capacity::{full_world, write_beyond_capacity};
use crate::fixture::{hours, unless_closed};
use crate::promises::{OTHER, World, check_bytes, options};
use crate::schedules::{chance, scenarios};

scenarios! {
    scrub_and_get: 40,
    scrub_and_values_held: 40,
    scrub_and_walks: 40,
    scrub_and_late_fill: 40,
    scrub_and_sealing: 40,
    scrub_and_streams: 40,
    scrub_and_successors: 40,
    scrub_and_new_keys,
    scrub_and_drop: 40,
    scrub_and_eviction: 40,
    scrub_and_close: 40,
}

/// Records in the segments that the scenarios write to: with the tag, with another, and with none, the
/// first of them replaced in half of the schedules, all of them durable in half.
fn world(mapped: bool) -> World {
    let world = World::new(mapped, 3, options());
    fill(&world);
    world
}

fn fill(world: &World) {
    if chance().once_in(2) {
        world.insert(0).unwrap();
    }
    let _: Outcome = world.write(0).unwrap();
    let _: Outcome = world.fill_tagged(1, OTHER, Durability::Buffered)().unwrap();
    world.insert(2).unwrap();
    if chance().once_in(2) {
        world.sync().unwrap();
    }
}

/// One of the ways in which a record becomes dead.
fn let_one_die(world: &World) {
    match chance().below(4) {
        0 => drop(world.invalidate_tag().unwrap()),
        1 => drop(world.invalidate(0).unwrap()),
        2 => drop(world.write(0).unwrap()),
        _ => world.insert(0).unwrap(),
    }
}

fn scrub_and_get(mapped: bool) {
    let world = world(mapped);
    if chance().once_in(2) {
        let_one_die(&world);
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let_one_die(&world);
            world.get(0).unwrap();
        });
        scope.spawn(|| {
            world.scrub().unwrap();
            world.scrub().unwrap();
        });
        for keys in [[0, 1, 0], [2, 0, 0]] {
            let world = &world;
            scope.spawn(move || {
                for key in keys {
                    world.get(key).unwrap();
                }
            });
        }
    });
    world.settle_erased();
}

/// As many live as there are, but for a moment: one has died before, and another is written.
fn scrub_and_new_keys(mapped: bool) {
    let world = World::new(mapped, 2, options());
    let _: Outcome = world.write(0).unwrap();
    world.sync().unwrap();
    world.invalidate(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| world.scrub().unwrap());
        scope.spawn(|| {
            let _: Outcome = world.write(1).unwrap();
        });
    });
    world.settle_erased();
}

fn scrub_and_values_held(mapped: bool) {
    let world = world(mapped);
    let held = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let read = [0, 1, 2, 0].map(|key| (key, world.get(key).unwrap()));
            world.scrub().unwrap();
            let held = read.into_iter().filter_map(|(key, value)| Some((key, value?)));
            held.collect::<Vec<(u64, Value)>>()
        });
        scope.spawn(|| {
            let_one_die(&world);
            world.scrub().unwrap();
        });
        scope.spawn(|| {
            let value = world.get(0).unwrap();
            world.sync().unwrap();
            value.iter().for_each(|value| check_bytes(0, value));
        });
        reader.join().unwrap()
    });
    world.scrub().unwrap();
    held.iter().for_each(|(key, value)| check_bytes(*key, value));
    drop(held);
    world.settle_erased();
}

fn scrub_and_walks(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            let_one_die(&world);
            world.scrub().unwrap();
        });
        scope.spawn(|| {
            world.iterate().unwrap();
            world.list_tag().unwrap();
        });
        scope.spawn(|| {
            for key in [0, 2, 0] {
                world.explain(key).unwrap();
            }
        });
        scope.spawn(|| world.verify().unwrap());
    });
    world.settle_erased();
}

fn scrub_and_late_fill(mapped: bool) {
    let world = World::new(mapped, 3, options());
    let late = world.fill_tagged(0, OTHER, Durability::Buffered);
    fill(&world);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.invalidate_tag().unwrap();
            world.scrub().unwrap();
        });
        scope.spawn(|| {
            let _: Outcome = late().unwrap();
            world.get(0).unwrap();
        });
        scope.spawn(|| {
            let later = world.fill_tagged(0, OTHER, Durability::Buffered);
            world.get(0).unwrap();
            let _: Outcome = later().unwrap();
        });
    });
    world.settle_erased();
}

fn scrub_and_sealing(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            for key in [0, 1, 0, 2] {
                let _: Outcome = world.write(key).unwrap();
            }
        });
        scope.spawn(|| {
            world.sync().unwrap();
            world.advance(hours(1));
            world.store.maintain().unwrap();
        });
        scope.spawn(|| {
            world.invalidate(1).unwrap();
            world.scrub().unwrap();
            world.cut();
        });
    });
    world.settle_erased();
}

fn scrub_and_streams(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _: Outcome = world.stream(0).unwrap();
            world.get(0).unwrap();
        });
        scope.spawn(|| {
            let_one_die(&world);
            world.get(0).unwrap();
        });
        scope.spawn(|| {
            world.scrub().unwrap();
            world.get(0).unwrap();
            world.scrub().unwrap();
        });
    });
    world.settle_erased();
}

/// What replaced a record is durable before the record goes, at every moment.
fn scrub_and_successors(mapped: bool) {
    let world = world(mapped);
    world.sync().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
            world.insert(2).unwrap();
            world.cut();
        });
        scope.spawn(|| {
            let _: Outcome = world.write(1).unwrap();
            let _: Outcome = world.write(0).unwrap();
            world.cut();
        });
        scope.spawn(|| {
            world.scrub().unwrap();
            world.cut();
            world.scrub().unwrap();
            world.cut();
        });
    });
    world.settle_erased();
}

fn scrub_and_drop(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.advance(hours(17));
            world.store.maintain().unwrap();
        });
        scope.spawn(|| {
            let_one_die(&world);
            world.scrub().unwrap();
        });
        scope.spawn(|| {
            let read = [0, 1].map(|key| (key, world.get(key).unwrap()));
            world.list_tag().unwrap();
            read.iter().for_each(|(key, value)| {
                value.iter().for_each(|value| check_bytes(*key, value));
            });
        });
    });
    world.settle_erased();
}

fn scrub_and_eviction(mapped: bool) {
    let (world, _) = full_world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| write_beyond_capacity(&world));
        scope.spawn(|| {
            for key in [0, 13] {
                world.invalidate(key).unwrap();
            }
            world.scrub().unwrap();
        });
        scope.spawn(|| {
            for key in [0, 1, 13] {
                world.get(key).unwrap();
            }
            world.scrub().unwrap();
        });
    });
    world.settle_erased();
}

fn scrub_and_close(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            unless_closed(world.invalidate_tag());
            unless_closed(world.scrub());
        });
        scope.spawn(|| {
            unless_closed(world.write(1));
            unless_closed(world.scrub());
        });
        scope.spawn(|| {
            for key in [0, 1] {
                unless_closed(world.get(key));
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
