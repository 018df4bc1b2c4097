//! A process that only looks reads beside the one that writes: it shows nothing that has been invalidated,
//! whatever has become of the note of that, and takes nothing for damage that is only erased.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]
#![cfg(not(any(shuttle, planted)))]

#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/hooked.rs"]
mod hooked;
#[path = "attacks/rig.rs"]
mod rig;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use ebbtide::disk::{Fault, FaultyDisk};
use ebbtide::{Reason, Store};

use fixture::{open, quiet};
use hooked::{Answer, Call, HookedDisk};
use rig::{Rig, access, images, options, put, row};

/// Opens a store to look at it, through a disk that can be made to fail.
fn look_faulty(rig: &Rig) -> (FaultyDisk, Store) {
    let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
    let builder = quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
    (disk, builder.open_read_only().unwrap())
}

#[test]
fn a_tombstone_that_cannot_be_looked_for_fails_the_read() {
    for fault in [Fault::Error(ErrorKind::TimedOut), Fault::Short] {
        for call in 1.. {
            let rig = Rig::new(false);
            let store = rig.open();
            put(&images(&store), "secret", "value", &["tag"]);
            row(&access(&store), "value", &["tag"]);
            store.sync().unwrap();
            let (disk, looking) = look_faulty(&rig);
            let seen = looking.existing_keyspace("images").unwrap();
            let rows = looking.existing_log("access").unwrap();
            assert!(seen.get("secret").unwrap().is_some());
            images(&store).invalidate("secret").unwrap();
            access(&store).invalidate_tag("tag").unwrap();
            let reached = disk.calls() + call;
            disk.inject(reached, fault);
            let found = seen.get("secret");
            let scanned: Vec<_> = rows.scan(..).into_iter().flatten().collect();
            assert!(!matches!(found, Ok(Some(_))), "{fault:?} at {call}: {found:?}");
            assert!(scanned.iter().all(Result::is_err), "{fault:?} at {call}: {scanned:?}");
            if disk.calls() < reached {
                assert!(call > 4, "{call} calls");
                break;
            }
        }
    }
}

/// The reader keeps the file of the segment open, since it has read something of it before. It knows of a
/// tombstone log, or of none.
fn forget_beside_a_reader(has_log: bool) {
    let rig = Rig::new(false);
    let store = rig.open();
    let options = options().segment_bytes(4096).capacity_bytes(64 << 10);
    let small = store.keyspace("small", options).unwrap();
    small.insert("secret", b"a secret").unwrap();
    small.insert("other", b"another").unwrap();
    store.sync().unwrap();
    if has_log {
        small.invalidate("never there").unwrap();
    }
    let looking = rig.look();
    let seen = looking.existing_keyspace("small").unwrap();
    assert!(seen.get("other").unwrap().is_some());
    small.invalidate("secret").unwrap();
    let evict = |name: &str| {
        for number in 0..100 {
            small.insert(format!("{name} {number}"), vec![7; 1000]).unwrap();
        }
        store.maintain().unwrap();
    };
    evict("before");
    for number in 0..100 {
        small.invalidate(format!("never there {number}")).unwrap();
    }
    evict("after");
    assert!(rig.files("tombstones/0000000001.log").is_empty(), "it is forgotten");
    assert!(small.get("secret").unwrap().is_none());
    for key in ["secret", "other"] {
        assert!(seen.get(key).unwrap().is_none(), "{key} has left");
        assert_eq!(seen.explain(key).unwrap().reason, Reason::Absent);
    }
    assert_eq!(looking.problems(), []);
}

#[test]
fn what_was_invalidated_and_left_stays_gone_after_its_tombstone_is_forgotten() {
    [false, true].into_iter().for_each(forget_beside_a_reader);
}

/// The tombstone log and its spare fail, so the floor of the keyspace is what is written down.
#[test]
fn an_invalidation_that_only_the_manifest_tells_of_is_met() {
    let mut met = 0;
    for failing in 1..20 {
        let rig = Rig::new(false);
        let (disk, store) = rig.open_faulty();
        let images = images(&store);
        images.insert("secret", b"a secret").unwrap();
        store.sync().unwrap();
        let looking = rig.look();
        let seen = looking.existing_keyspace("images").unwrap();
        assert!(seen.get("secret").unwrap().is_some());
        let first = disk.calls() + 1;
        (first..first + failing).for_each(|call| {
            disk.inject(call, Fault::Error(ErrorKind::TimedOut));
        });
        let invalidated = images.invalidate("other");
        disk.clear();
        if invalidated.is_ok() && images.get("secret").unwrap().is_none() {
            assert!(seen.get("secret").unwrap().is_none(), "{failing} failing calls");
            met += 1;
        }
    }
    assert!(met > 0);
}

/// The next tombstone log had its name already when no other was to be had, and the one before it has room for a
/// short tombstone.
#[test]
fn a_tombstone_is_met_once_another_log_has_been_named() {
    for written in 0..64 {
        let rig = Rig::new(false);
        let hooked = HookedDisk::new(&rig.disk);
        let store =
            open(quiet(Store::builder("/data").disk(hooked.clone()), &rig.clock), rig.mapped);
        let other = store.keyspace("other", options()).unwrap();
        other.insert("secret", b"a secret").unwrap();
        store.sync().unwrap();
        (0..written).for_each(|_| drop(images(&store).invalidate("never there").unwrap()));
        store.maintain().unwrap();
        hooked.before(|call, path| {
            let is_in_log = path.to_str().is_some_and(|path| path.contains("/tombstones"));
            let fails = is_in_log && matches!(call, Call::SyncDir | Call::Create);
            if fails { Answer::Fail } else { Answer::Do }
        });
        let _ = images(&store).invalidate_keys((0..9).map(|number| format!("{number}"))).unwrap();
        hooked.clear();
        let looking = rig.look();
        let seen = looking.existing_keyspace("other").unwrap();
        assert!(seen.get("secret").unwrap().is_some());
        let _ = other.invalidate("secret").unwrap();
        assert!(seen.get("secret").unwrap().is_none(), "after {written} tombstones");
    }
}

/// A reader that opens the store is interrupted within each read of the tombstone log, at which the writer has
/// put a longer tombstone to one of the two regions; it is acknowledged once the store is open.
#[test]
fn a_tombstone_that_was_met_half_written_is_met_again() {
    for call in 1.. {
        let rig = Rig::new(false);
        let (disk, store) = rig.open_faulty();
        let images = images(&store);
        images.insert("secret", b"a secret").unwrap();
        store.sync().unwrap();
        (0..6).for_each(|number| drop(images.invalidate(format!("other {number}")).unwrap()));
        let reading = FaultyDisk::new(Arc::new(rig.disk.clone()));
        let (has_begun, begun) = channel::<()>();
        let (end, may_end) = channel::<()>();
        let writes = {
            let images = images.clone();
            move || {
                // The second of its calls is the write to the second region.
                disk.interrupt(disk.calls() + 2, move || {
                    has_begun.send(()).unwrap();
                    let _ = may_end.recv();
                });
                let others = (0..9).map(|number| format!("more {number}"));
                images.invalidate_keys(others.chain(["secret".to_owned()])).unwrap();
            }
        };
        let (send, receive) = channel();
        reading.inject(call, Fault::Short);
        reading.interrupt(call + 1, move || {
            send.send(thread::spawn(writes)).unwrap();
            begun.recv().unwrap();
        });
        let builder = quiet(Store::builder("/data").disk(reading.clone()), &rig.clock);
        let looking = builder.open_read_only().unwrap();
        drop(end);
        let Ok(writer) = receive.try_recv() else {
            assert!(call > 10, "{call} calls");
            break;
        };
        writer.join().unwrap();
        let seen = looking.existing_keyspace("images").unwrap();
        assert!(seen.get("secret").unwrap().is_none(), "interrupted at {call}");
    }
}

/// A reader is interrupted before each of its calls, also in the middle of a read, by a scrub of what it reads.
#[test]
fn what_is_scrubbed_while_it_is_read_is_not_called_damaged() {
    for is_short in [false, true] {
        for call in 1.. {
            let rig = Rig::new(false);
            let store = rig.open();
            let long = "a value ".repeat(400);
            put(&images(&store), "secret", &long, &["tag"]);
            row(&access(&store), &long, &["tag"]);
            store.sync().unwrap();
            let (disk, looking) = look_faulty(&rig);
            let seen = looking.existing_keyspace("images").unwrap();
            let rows = looking.existing_log("access").unwrap();
            let reached = disk.calls() + call;
            if is_short {
                disk.inject(reached - 1, Fault::Short);
            }
            disk.interrupt(reached, move || {
                images(&store).invalidate_tag("tag").unwrap();
                access(&store).invalidate_tag("tag").unwrap();
                store.scrub().unwrap();
            });
            seen.get("secret").unwrap();
            rows.scan(..).unwrap().for_each(|row| drop(row.unwrap()));
            assert_eq!(looking.problems(), [], "{call}, short {is_short}");
            if disk.calls() < reached {
                assert!(call > 10, "{call} calls");
                break;
            }
        }
    }
}
