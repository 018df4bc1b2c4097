//! Stores that are opened to look at one that is being written to.

use ebbtide::Outcome;
use shuttle::thread;

use crate::fixture::hours;
use crate::schedules::scenarios;
use crate::world;

scenarios! {
    readers_and_writes,
    readers_and_upkeep,
}

fn readers_and_writes(mapped: bool) {
    let world = world(mapped, 3);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
            world.invalidate(1).unwrap();
            let _: Outcome = world.stream(2).unwrap();
            world.sync().unwrap();
            world.invalidate_tag().unwrap();
            let _: Outcome = world.write(1).unwrap();
        });
        scope.spawn(|| {
            world.look_on(2).unwrap();
            world.look_on(1).unwrap();
        });
    });
    world.settle();
}

fn readers_and_upkeep(mapped: bool) {
    let world = world(mapped, 3);
    let _: Outcome = world.write(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            world.invalidate_tag().unwrap();
            world.insert(1).unwrap();
            world.scrub().unwrap();
            world.advance(hours(17));
            world.store.maintain().unwrap();
            world.insert(2).unwrap();
        });
        scope.spawn(|| {
            world.look_on(2).unwrap();
            world.look_on(1).unwrap();
        });
    });
    world.settle();
}
