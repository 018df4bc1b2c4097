//! What lives that ended badly, and damage, have left in every corner of a store: opening it clears up
//! what may go and serves what may be served, whichever call fails meanwhile; looking at it changes
//! nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/leftovers.rs"]
mod leftovers;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{Store, StoreBuilder};

use fixture::{MODES, files_of, hours, on_memory, open, quiet, try_open};
use leftovers::{Harm, NEW, check_cleared, check_served, keyspace, later, leave, work};

const HARMS: [Harm; 2] = [Harm::None, Harm::Records];

#[test]
fn what_is_left_over_is_cleared_and_told() {
    for mapped in MODES {
        for harm in HARMS {
            let (disk, clock) = (leave(harm), later());
            let store = open(on_memory(&disk, &clock), mapped);
            let report = store.recovery_report().clone();
            let lost = PathBuf::from("/data/logs/lost/LOG");
            assert!(report.corrupt_records.contains(&lost), "{report:?}");
            let harmed = report.corrupt_records.iter();
            assert_eq!(harmed.filter(|path| path.starts_with("/data/keyspaces/harmed")).count(), 1);
            assert!(report.torn_tails.contains(&PathBuf::from("/data/keyspaces/images/KEYSPACE")));
            check_served(&store, harm, true, "as opened");
            work(&store).unwrap();
            check_served(&store, harm, true, "at work");
            check_cleared(&store, &disk, "at work");
            store.close().unwrap();
            drop(store);
            let store = open(on_memory(&disk, &clock), mapped);
            check_served(&store, harm, true, "once more");
            let again = keyspace(&store, "harmed").unwrap().get("again").unwrap();
            assert_eq!(again.as_deref(), Some(&b"value"[..]), "it counts again");
            drop(again);
            let again = store.recovery_report();
            assert!(again.torn_tails.is_empty(), "{again:?}");
            // The rest of what belongs to nobody goes when its time has come.
            assert!(on_disk(&disk, "orphan") && on_disk(&disk, "lost"));
            store.close().unwrap();
            clock.advance(hours(8));
            let store = open(on_memory(&disk, &clock), mapped);
            store.maintain().unwrap();
            assert!(!on_disk(&disk, "orphan") && !on_disk(&disk, "lost"));
        }
    }
}

fn on_disk(disk: &MemoryDisk, name: &str) -> bool {
    let text = format!("{NEW}{name}");
    files_of(disk).iter().any(|(_, b)| b.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// One call fails while the store is opened and cleared up; then the same process goes on, if it could
/// open it, and the next one.
#[test]
fn a_call_that_fails_while_clearing_up_is_made_up_for() {
    let cases = [
        (Harm::None, Fault::Error(ErrorKind::TimedOut)),
        (Harm::None, Fault::ErrorAfter(ErrorKind::TimedOut)),
        (Harm::Records, Fault::Torn(ErrorKind::StorageFull)),
    ];
    for (harm, fault) in cases {
        let left = leave(harm);
        for call in 1.. {
            let (memory, clock) = (left.fork(), later());
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            disk.inject(call, fault);
            let what = format!("{harm:?}, {fault:?} at call {call}");
            let opened = try_open(over(&disk, &clock), call % 2 == 0);
            if let Ok(store) = &opened {
                check_served(store, harm, false, &what);
                let worked = work(store);
                assert!(disk.calls() >= call || worked.is_ok(), "{what}: {worked:?}");
                check_served(store, harm, false, &what);
                // What failed is tried again, unless writing has stopped.
                let _ = store.maintain();
                let _ = store.close();
            }
            let is_over = disk.calls() < call;
            assert!(!is_over || opened.is_ok(), "{what}: {:?}", opened.err());
            drop(opened);
            let memory = memory.kill();
            let store = open(on_memory(&memory, &clock), call % 2 == 0);
            work(&store).unwrap();
            check_served(&store, harm, false, &what);
            check_cleared(&store, &memory, &what);
            if is_over {
                println!("{harm:?}, {fault:?}: {} calls", call - 1);
                break;
            }
        }
    }
}

fn over(disk: &FaultyDisk, clock: &ebbtide::ManualClock) -> StoreBuilder {
    quiet(Store::builder("/data").disk(disk.clone()), clock)
}

/// Everything that looks, while each call on the disk fails in turn or finds nothing, as when the process
/// that writes has just removed it.
#[test]
fn looking_changes_nothing_whatever_fails() {
    let faults = [Fault::Error(ErrorKind::TimedOut), Fault::Error(ErrorKind::NotFound)];
    for harm in HARMS {
        let left = leave(harm);
        let before = files_of(&left);
        for fault in faults {
            for call in 1.. {
                let clock = later();
                let disk = FaultyDisk::new(Arc::new(left.clone()));
                disk.inject(call, fault);
                let what = format!("{harm:?}, {fault:?} at call {call}");
                if let Ok(store) = over(&disk, &clock).open_read_only() {
                    look(&store, harm, &what);
                }
                assert!(files_of(&left) == before, "{what}: something was changed");
                if disk.calls() < call {
                    break;
                }
            }
        }
        let store = on_memory(&left, &later()).open_read_only().unwrap();
        check_served(&store, harm, true, "nothing fails");
        let listed: Vec<PathBuf> = store.residue().unwrap().into_iter().map(|r| r.path).collect();
        assert!(before.iter().all(|(path, _)| listed.contains(path)));
        let problems = store.verify().unwrap().problems;
        for path in ["/data/logs/lost/LOG", "/data/keyspaces/images/KEYSPACE"] {
            assert!(problems.iter().any(|problem| problem.path == Path::new(path)), "{problems:?}");
        }
    }
}

fn look(store: &Store, harm: Harm, what: &str) {
    for name in store.keyspaces() {
        let space = store.existing_keyspace(&name).unwrap();
        let expected = format!("{NEW}{name}").repeat(40);
        if let Ok(Some(value)) = space.get(NEW) {
            assert_eq!((name.as_str(), harm), ("images", Harm::None), "{what}");
            assert!(value.as_ref() == expected.as_bytes(), "{what}");
        }
    }
    let _ = store.residue();
    let _ = (store.ledger(), store.prove_retention(..));
    assert!(!store.verify().unwrap().problems.is_empty(), "{what}: LOG cannot be read");
}
