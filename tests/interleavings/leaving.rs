//! Records that are hidden and leave while somebody reads them: what hid them is forgotten soon after.

use std::time::Duration;

use ebbtide::Outcome;
use shuttle::thread;

use crate::capacity::{CAPACITY, write_beyond_capacity};
use crate::fixture::hours;
use crate::promises::{World, options};
use crate::schedules::scenarios;

scenarios! {
    hidden_values_and_drop,
    hidden_values_and_eviction,
}

/// Two values in one segment, and their tag invalidated.
fn hide(world: &World) {
    for key in [0, 1] {
        let _: Outcome = world.write(key).unwrap();
    }
    world.invalidate_tag().unwrap();
}

fn read(world: &World) {
    for key in [0, 1, 0, 1] {
        world.get(key).unwrap();
    }
    world.iterate().unwrap();
    for key in [0, 1] {
        world.explain(key).unwrap();
    }
}

fn hidden_values_and_drop(mapped: bool) {
    let world = World::new(mapped, 2, options());
    hide(&world);
    thread::scope(|scope| {
        scope.spawn(|| read(&world));
        scope.spawn(|| {
            world.advance(hours(17));
            world.store.maintain().unwrap();
        });
    });
    world.settle();
}

fn hidden_values_and_eviction(mapped: bool) {
    let world = World::new(mapped, 16, options().capacity_bytes(CAPACITY)).evicting();
    hide(&world);
    world.sync().unwrap();
    for key in (2..14).cycle().take(12) {
        world.insert(key).unwrap();
    }
    assert_eq!(world.store.stats().segments_evicted, 0);
    thread::scope(|scope| {
        scope.spawn(|| read(&world));
        scope.spawn(|| {
            write_beyond_capacity(&world);
            world.advance(Duration::from_secs(120));
            world.store.maintain().unwrap();
        });
    });
    assert!(world.store.stats().segments_evicted > 0);
    world.settle();
}
