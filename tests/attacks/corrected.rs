//! What the next processes make of a future that was corrected, and of what is past its time, when they cannot read
//! something, are stopped, or find less than there was.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebbtide::disk::{Fault, FaultyDisk};
use ebbtide::{Clock, DropCause, LedgerKind, Pseudonym, Result, Row, Store};

use crate::fixture::{MODES, START, hours, minutes, quiet, try_open};
use crate::hooked::{Answer, Call, HookedDisk};
use crate::rig::{REFUSED, Rig, access, images, put, seen, with_each_call_failing};
use crate::time::assert_corrected;

/// A future that was wrong.
const FUTURE: u64 = 1000;
const OF_IMAGES: &str = "/data/keyspaces/images";
const MANIFEST: &str = "/data/keyspaces/images/KEYSPACE";

/// A store with an older version of a key in the bucket of a future that was wrong, and the newer one in the present
/// one. Both leave at the same time.
fn with_two_versions(rig: &Rig) -> Store {
    rig.clock.set_wall(START + hours(FUTURE));
    let store = rig.open();
    put(&images(&store), "key", "old", &[]);
    store.sync().unwrap();
    rig.clock.set_wall(START);
    store.reset_clock().unwrap();
    put(&images(&store), "key", "new", &[]);
    store.sync().unwrap();
    store
}

fn visitor(store: &Store) -> Result<Pseudonym> {
    access(store).pseudonym("198.18.0.7".parse().unwrap(), store.now())
}

/// The clock is wrong once more as the store is opened, so the newer version leaves, and is set back then. The
/// bucket of the older one says when it leaves, but cannot be read just then.
#[test]
fn a_header_that_could_not_be_read_brings_no_older_version_back() {
    for mapped in MODES {
        let rig = Rig::new(mapped);
        let store = with_two_versions(&rig);
        rig.clock.set_wall(START + hours(100));
        store.confirm_clock().unwrap();
        drop(store);
        let opened = rig.each_faulty_opening(REFUSED, |rig, store, call| {
            rig.clock.set_wall(START + hours(1));
            store.reset_clock().unwrap();
            assert_ne!(seen(store, "key").as_deref(), Some("old"), "call {call}");
            for stopped in [rig.kill(), rig.cut(0), rig.cut(call)] {
                assert_ne!(seen(&stopped.open(), "key").as_deref(), Some("old"), "call {call}");
            }
            rig.clock.set_wall(START + hours(100));
        });
        assert!(opened > 5, "{opened}");
    }
}

/// What is due only since the time was written down is not dropped yet: if the power goes in the middle and the clock
/// with it, an older version would be valid without the newer one.
#[test]
fn what_becomes_due_while_a_store_is_opened_does_not_leave_half() {
    for mapped in MODES {
        let rig = Rig::new(mapped);
        let store = with_two_versions(&rig);
        rig.clock.advance(hours(15) + minutes(25));
        drop(store);
        for call in 1.. {
            let clock = ebbtide::ManualClock::new(rig.clock.wall());
            let left = Rig { clock: clock.clone(), ..rig.kill() };
            let (hooked, has_passed) = (HookedDisk::new(&left.disk), AtomicBool::new(false));
            hooked.before(move |call, path| {
                let is_met = call == Call::SyncDir && path == Path::new(OF_IMAGES);
                if is_met && !has_passed.swap(true, Ordering::Relaxed) {
                    clock.advance(minutes(10));
                }
                Answer::Do
            });
            let disk = FaultyDisk::new(Arc::new(hooked));
            disk.inject(call, Fault::ErrorsFrom(ErrorKind::Other));
            let builder = quiet(Store::builder("/data").disk(disk.clone()), &left.clock);
            drop(try_open(builder, mapped));
            for seed in 0..4 {
                let after = Rig { clock: ebbtide::ManualClock::new(START), ..left.cut(seed) };
                after.clock.reboot(minutes(0));
                let found = seen(&after.open(), "key");
                assert_ne!(found.as_deref(), Some("old"), "call {call}, {seed}");
            }
            if disk.calls() < call {
                break;
            }
        }
    }
}

/// The keys of a future that was wrong could not be dropped, and the power goes while rows are written to them.
#[test]
fn keys_beside_a_segment_that_was_being_born_leave_with_a_correction() {
    for mapped in MODES {
        let mut unborn = 0;
        // Calls of the correction that fail, and calls of the flush from which on all do.
        for stop in 1..12 {
            let prepare = || {
                let rig = Rig::new(mapped);
                rig.clock.set_wall(START + hours(FUTURE));
                let (disk, store) = rig.open_faulty();
                visitor(&store).unwrap();
                (rig, disk, store)
            };
            for call in 1.. {
                let (rig, disk, store) = prepare();
                let mut rows = access(&store).appender();
                rows.append(Row::new(visitor(&store).unwrap()).payload("row")).unwrap();
                rig.clock.set_wall(START);
                let reached = disk.calls() + call;
                disk.inject(reached, REFUSED);
                let corrected = store.reset_clock();
                let is_over = disk.calls() < reached;
                disk.clear();
                if is_over {
                    break;
                }
                if corrected.is_ok() || store.now() != START {
                    continue;
                }
                disk.inject(disk.calls() + stop, Fault::ErrorsFrom(ErrorKind::Other));
                let _ = rows.flush();
                for seed in 0..4 {
                    let after = rig.cut(seed);
                    unborn += u32::from(!after.files(".seg").is_empty());
                    let what = format!("call {call}, {stop}, {seed}");
                    let next = after.open();
                    assert_corrected(&next, &what);
                    next.maintain().unwrap();
                    drop(next);
                    assert_corrected(&after.kill().open(), &what);
                }
            }
        }
        assert!(unborn > 0);
    }
}

/// The first row of a bucket was refused, so that the deadline stands in the header of a segment which the next
/// process removes.
#[test]
fn keys_alone_do_not_outlast_a_correction_with_the_segment_that_was_corrected() {
    let prepare = |mapped| {
        let rig = Rig::new(mapped);
        rig.clock.set_wall(START + hours(FUTURE));
        let (disk, store) = rig.open_faulty();
        visitor(&store).unwrap();
        (rig, disk, store)
    };
    let append = |store: &Store| {
        let row = Row::new(visitor(store)?).payload("row");
        access(store).append(row).map(drop)
    };
    for mapped in MODES {
        let mut refused = 0;
        with_each_call_failing(
            REFUSED,
            || prepare(mapped),
            append,
            |rig, store, appended, call| {
                rig.clock.set_wall(START);
                if appended.is_ok() || store.reset_clock().is_err() {
                    return;
                }
                refused += 1;
                let killed = rig.kill();
                // The second process may meet an error, and end before its first upkeep.
                let opened = killed.each_faulty_opening(REFUSED, |second, _, fault| {
                    let third = second.kill().open();
                    assert_corrected(&third, &format!("call {call}, then {fault}"));
                });
                assert!(opened > 5, "{opened}");
            },
        );
        assert!(refused > 0);
    }
}

fn closed_with_a_value(mapped: bool) -> Rig {
    let rig = Rig::new(mapped);
    let store = rig.open();
    put(&images(&store), "key", "value", &[]);
    store.close().unwrap();
    rig
}

/// Nothing but its directory tells that a bucket without an owner is there.
#[test]
fn a_bucket_without_an_owner_is_not_called_missing_while_it_cannot_be_looked_for() {
    for mapped in MODES {
        let rig = closed_with_a_value(mapped);
        rig.change(Path::new(MANIFEST), |bytes| bytes.fill(0xee));
        let opened = rig.each_faulty_opening(REFUSED, |rig, store, call| {
            assert_eq!(rig.files(".seg").len(), 1);
            let entries = store.ledger().unwrap();
            let missing = LedgerKind::BucketDropped(DropCause::FoundMissing);
            assert!(entries.iter().all(|entry| entry.kind != missing), "call {call}: {entries:?}");
        });
        assert!(opened > 5, "{opened}");
    }
}

/// What leaves unread is counted by its sidecars, if they can be found.
#[test]
fn a_bucket_that_could_not_be_listed_is_not_called_empty() {
    for mapped in MODES {
        let rig = closed_with_a_value(mapped);
        rig.clock.advance(hours(17));
        let mut unknown = 0;
        rig.each_faulty_opening(REFUSED, |_, store, call| {
            let entries = store.ledger().unwrap();
            let dropped = LedgerKind::BucketDropped(DropCause::Dropped);
            for entry in entries.iter().filter(|entry| entry.kind == dropped) {
                assert!(entry.records.is_none_or(|records| records == 1), "call {call}: {entry:?}");
                assert!(entry.bytes.is_none_or(|bytes| bytes > 0), "call {call}: {entry:?}");
                unknown += u32::from(entry.records.is_none());
            }
        });
        assert!(unknown > 0);
    }
}

/// The header of its only segment cannot be read, so nothing could say that it leaves sooner.
#[test]
fn a_bucket_of_a_wrong_future_that_cannot_be_read_is_not_called_empty() {
    for mapped in MODES {
        let rig = Rig::new(mapped);
        rig.clock.set_wall(START + hours(FUTURE));
        let store = rig.open();
        access(&store).append(Row::anonymous().payload("row")).unwrap();
        store.close().unwrap();
        let segment = rig.files(".seg").remove(0);
        rig.change(&segment, |bytes| bytes[..64].fill(0xee));
        let store = rig.open();
        rig.clock.set_wall(START);
        store.reset_clock().unwrap();
        store.maintain().unwrap();
        let mut entries = store.ledger().unwrap();
        entries.retain(|entry| entry.kind == LedgerKind::BucketDropped(DropCause::Dropped));
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert!(entries.iter().all(|entry| entry.records != Some(0)), "{entries:?}");
        assert!(entries.iter().all(|entry| entry.bytes != Some(0)), "{entries:?}");
    }
}
