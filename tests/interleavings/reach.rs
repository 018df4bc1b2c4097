//! Invalidations that reach everything, or not all the way: what they promise of one key they promise
//! of all.

use ebbtide::Outcome;
use shuttle::thread;

use crate::promises::{TAG, World, options};
use crate::schedules::scenarios;
use crate::world;

scenarios! {
    batches_and_everything,
    writes_and_a_tag_everywhere,
    fresh_and_stale,
}

fn batches_and_everything(mapped: bool) {
    let world = world(mapped, 3);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.insert_batch(&[0, 1, 2, 0]).unwrap();
            world.get_many(&[0, 1, 2]).unwrap();
        });
        scope.spawn(|| {
            world.invalidate_all().unwrap();
            world.get_many(&[2, 1]).unwrap();
        });
        scope.spawn(|| {
            let _: Outcome = world.write(1).unwrap();
            world.iterate().unwrap();
        });
    });
    world.settle_erased();
}

fn writes_and_a_tag_everywhere(mapped: bool) {
    let world = world(mapped, 2);
    let others = world.store.keyspace("others", options()).unwrap();
    let fill = || {
        let _: Outcome = others.fill("key").tag(TAG).commit("value").unwrap();
    };
    fill();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
            let _: Outcome = world.write(1).unwrap();
            world.get_many(&[0, 1]).unwrap();
        });
        scope.spawn(|| {
            let receipt = world.invalidate_tag_everywhere().unwrap();
            let stat = others.stat("key").unwrap();
            assert!(stat.is_none_or(|stat| stat.sequence() > receipt.sequence()), "elsewhere");
        });
        scope.spawn(|| {
            fill();
            world.list_tag().unwrap();
        });
    });
    world.settle();
}

/// Three threads of which one makes stale what the second makes new; the third looks on.
fn fresh_and_stale(mapped: bool) {
    let world: World = world(mapped, 2);
    let _: Outcome = world.write(1).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            world.invalidate_soft(0).unwrap();
            world.lookup(0).unwrap();
            world.invalidate_tag_soft().unwrap();
            world.lookup(1).unwrap();
        });
        scope.spawn(|| {
            let _: Outcome = world.write(0).unwrap();
            world.insert(1).unwrap();
            world.invalidate(1).unwrap();
            world.lookup(1).unwrap();
        });
        scope.spawn(|| {
            for key in [0, 1, 0, 1] {
                world.get(key).unwrap();
                world.lookup(key).unwrap();
            }
        });
    });
    world.lookup(0).unwrap();
    world.lookup(1).unwrap();
    world.settle();
}
