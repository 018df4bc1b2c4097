//! Denials beside writes: what an erasure denies is refused from the moment it returned, and nothing
//! slips in beside it.

use std::sync::Mutex;

use ebbtide::disk::MemoryDisk;
use ebbtide::{Durability, Error, Keyspace, Outcome, Scope};
use shuttle::thread;

use crate::fixture::{self, START, hours};
use crate::promises::{World, options};
use crate::schedules::{chance, scenarios};

scenarios! {
    denial_and_writes: 40,
    denial_everywhere: 40,
}

fn unless_denied<T>(result: ebbtide::Result<T>) {
    match result {
        Ok(_) | Err(Error::Denied { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

fn denial_and_writes(mapped: bool) {
    let world = World::new(mapped, 2, options());
    if chance().once_in(2) {
        let _: Outcome = world.write(0).unwrap();
    }
    let early = world.fill(0, Durability::Buffered);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.erase(0).unwrap();
            assert!(world.get(0).unwrap().is_none());
            unless_denied(world.insert(0));
            assert!(world.get(0).unwrap().is_none());
        });
        scope.spawn(|| {
            unless_denied(early());
            unless_denied(world.insert(0));
        });
        scope.spawn(|| {
            unless_denied(world.write(0));
            let _: Outcome = world.write(1).unwrap();
            unless_denied(world.stream(0));
        });
        scope.spawn(|| {
            world.get(0).unwrap();
            world.store.scrub().unwrap();
        });
    });
    assert!(world.get(0).unwrap().is_none());
    world.settle_erased();
}

/// Two keyspaces and a tag that is denied in both with one call.
fn denial_everywhere(mapped: bool) {
    let (disk, clock) = (MemoryDisk::new(1), fixture::clock());
    let store = fixture::open(fixture::on_memory(&disk, &clock), mapped);
    let images = store.keyspace("images", options()).unwrap();
    let thumbs = store.keyspace("thumbs", options()).unwrap();
    let denied = Mutex::new(false);
    let put = |keyspace: &Keyspace, key: &str| {
        let before = *denied.lock().unwrap();
        match keyspace.fill(key).tag("cat").commit("bytes of the cat") {
            Ok(outcome) => assert!(!before || outcome == Outcome::Superseded, "{key} is denied"),
            Err(Error::Denied { until }) => assert_eq!(until, START + hours(2)),
            Err(other) => panic!("{other}"),
        }
    };
    let look = |keyspace: &Keyspace, key: &str| {
        let before = *denied.lock().unwrap();
        let found = keyspace.get(key).unwrap();
        assert!(!before || found.is_none(), "{key} was erased");
        assert!(!before || keyspace.list_tag("cat").unwrap().is_empty(), "the tag was erased");
    };
    put(&images, "a");
    put(&thumbs, "a");
    thread::scope(|scope| {
        scope.spawn(|| {
            let erase = store.erase_tag("cat", Scope::Keyspaces).deny_until(START + hours(2));
            erase.commit().unwrap();
            *denied.lock().unwrap() = true;
            store.maintain().unwrap();
        });
        scope.spawn(|| {
            put(&images, "a");
            put(&thumbs, "b");
            look(&thumbs, "b");
        });
        scope.spawn(|| {
            put(&thumbs, "a");
            look(&images, "a");
        });
        scope.spawn(|| {
            images.insert("d", b"of nobody").unwrap();
            look(&thumbs, "a");
        });
    });
    for _ in 0..2 {
        put(&images, "b");
        put(&thumbs, "c");
        assert_eq!(
            images.list_tag("cat").unwrap().len() + thumbs.list_tag("cat").unwrap().len(),
            0
        );
        assert_eq!(thumbs.iter().count(), 0);
    }
    store.scrub().unwrap();
    for (path, bytes) in fixture::files_of(&disk) {
        let left = bytes.windows(16).any(|window| window == b"bytes of the cat");
        assert!(!left, "still in {}", path.display());
    }
    let disk = if chance().once_in(2) { disk.kill() } else { disk.crash(&mut chance().choices()) };
    let store = fixture::open(fixture::on_memory(&disk, &clock), mapped);
    for name in ["images", "thumbs"] {
        let keyspace = store.existing_keyspace(name).unwrap();
        assert!(keyspace.list_tag("cat").unwrap().is_empty());
        put(&keyspace, "a");
    }
}
