//! A clock that is set back after things have left by it: what could not leave durably is not valid again, and
//! stays no longer for it.

use std::path::Path;
use std::sync::Arc;

use ebbtide::disk::FaultyDisk;
use ebbtide::{Log, LogOptions, Retention, Row, Store, Timestamp};

use crate::fixture::{MODES, START, hours, minutes, quiet, try_open};
use crate::hooked::{Answer, Call, HookedDisk};
use crate::leaving::opened;
use crate::rig::{REFUSED, Rig, access, images, put, rows, seen, with_each_call_failing};
use crate::time::assert_corrected;

const VISITOR: &str = "198.18.0.7";

fn write(store: &Store, version: &str) {
    put(&images(store), "key", version, &[]);
    access(store).append(Row::anonymous().payload(version)).unwrap();
    store.sync().unwrap();
}

/// A store in which a value was replaced after five hours, and whose clock says that both are past their time.
fn past_two_versions<D>(mapped: bool, open: impl FnOnce(&Rig) -> (D, Store)) -> (Rig, D, Store) {
    let rig = Rig::new(mapped);
    let (disk, store) = open(&rig);
    write(&store, "old");
    rig.clock.advance(hours(5));
    write(&store, "new");
    rig.clock.advance(hours(17));
    (rig, disk, store)
}

/// What could not leave counts as due when it was due by its birth.
#[track_caller]
fn assert_hardly_late(store: &Store, what: &str) {
    let proof = store.prove_retention(..).unwrap();
    let late = proof.owners.iter().map(|owner| u128::from(owner.worst_late_ms));
    assert!(late.max().unwrap_or(0) < hours(24).as_millis(), "{what}: {proof:?}");
}

/// Sets the clock to when both versions were there, and looks at what every kind of stop leaves.
fn set_back(rig: &Rig, store: &Store, what: &str) {
    let is_old = |store: &Store| seen(store, "key").as_deref() == Some("old");
    assert_hardly_late(store, what);
    rig.clock.set_wall(START + hours(6));
    store.reset_clock().unwrap();
    assert!(!is_old(store), "{what}");
    for seed in 0..8 {
        for stopped in [rig.cut(seed), rig.kill()] {
            let what = format!("{what}, {seed}");
            let after = stopped.open();
            assert!(!is_old(&after), "{what}: at open");
            after.maintain().unwrap();
            assert!(!is_old(&after), "{what}: after upkeep");
            let found = rows(&access(&after));
            assert!(found.len() < 2 || found == ["old", "new"], "{what}: {found:?}");
            assert_hardly_late(&after, &what);
        }
        store.maintain().unwrap();
    }
}

/// The older version's bucket is back after a power cut, or was never moved; the newer one's has left.
#[test]
fn a_bucket_that_could_not_be_dropped_brings_no_older_version_back() {
    for mapped in MODES {
        let mut failed = 0;
        let prepare = || past_two_versions(mapped, Rig::open_faulty);
        with_each_call_failing(
            REFUSED,
            prepare,
            Store::drop_expired,
            |rig, store, dropped, call| {
                failed += u32::from(dropped.is_err());
                // What failed keeps others from leaving, once.
                store.drop_expired().unwrap();
                set_back(rig, store, &format!("call {call}"));
            },
        );
        assert!(failed > 5, "{failed}");
    }
}

/// The same where what could not be synced counts as written from then on.
#[test]
fn a_drop_whose_sync_is_lost_brings_no_older_version_back() {
    for dir in ["/data/trash", "/data/keyspaces/images"] {
        for mapped in MODES {
            let (rig, hooked, store) = past_two_versions(mapped, |rig| {
                let (hooked, _, store) = opened(rig);
                (hooked, store)
            });
            hooked.forget_next_sync(dir);
            store.drop_expired().unwrap_err();
            store.drop_expired().unwrap();
            set_back(&rig, &store, dir);
        }
    }
}

#[test]
fn a_bucket_that_could_not_be_dropped_at_open_brings_no_older_version_back() {
    for mapped in MODES {
        let (rig, _, store) = past_two_versions(mapped, Rig::open_faulty);
        drop(store);
        let opened = rig.each_faulty_opening(REFUSED, |rig, store, call| {
            set_back(rig, store, &format!("call {call}"));
        });
        assert!(opened > 5, "{opened}");
    }
}

/// The older version's bucket cannot be moved as long as the process lives, and the newer one's has left. If another call
/// fails too, that is so all the same, or the store is not opened.
#[test]
fn a_bucket_that_cannot_be_moved_brings_no_older_version_back() {
    let old = Path::new("/data/keyspaces/images/20261121T130000000Z");
    for mapped in MODES {
        let (left, _, store) = past_two_versions(mapped, Rig::open_faulty);
        drop(store);
        let (mut opened, mut refused) = (0, 0);
        for call in 1.. {
            let rig = left.kill();
            let hooked = HookedDisk::new(&rig.disk);
            hooked.before(move |call, path| match call {
                Call::Rename if path == old => Answer::Fail,
                _ => Answer::Do,
            });
            let disk = FaultyDisk::new(Arc::new(hooked));
            disk.inject(call, REFUSED);
            let builder = quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
            let store = try_open(builder, mapped);
            let is_over = disk.calls() < call;
            disk.clear();
            let Ok(store) = store else {
                refused += 1;
                continue;
            };
            opened += 1;
            assert_hardly_late(&store, &format!("call {call}"));
            rig.clock.set_wall(START + hours(6));
            let _ = store.reset_clock();
            assert_eq!(store.now(), START + hours(6));
            for stopped in [rig.kill(), rig.cut(0), rig.cut(call)] {
                let found = seen(&stopped.open(), "key");
                assert_ne!(found.as_deref(), Some("old"), "call {call}");
            }
            if is_over {
                break;
            }
        }
        assert!(opened > 5 && refused > 5, "{opened}, {refused}");
    }
}

/// A store with something of a future that was wrong.
fn in_a_wrong_future(mapped: bool) -> (Rig, FaultyDisk, Store) {
    let rig = Rig::new(mapped);
    rig.clock.set_wall(START + hours(1000));
    let (disk, store) = rig.open_faulty();
    write(&store, "future");
    (rig, disk, store)
}

/// A bucket of a future that was wrong, which is back after a power cut, is not there until that comes.
#[test]
fn a_bucket_of_a_wrong_future_that_could_not_be_dropped_does_not_stay() {
    for mapped in MODES {
        let prepare = || {
            let (rig, disk, store) = in_a_wrong_future(mapped);
            rig.clock.advance(hours(17));
            (rig, disk, store)
        };
        with_each_call_failing(REFUSED, prepare, Store::drop_expired, |rig, store, _, call| {
            rig.clock.set_wall(START);
            store.reset_clock().unwrap();
            for seed in 0..4 {
                assert_corrected(&rig.cut(seed).open(), &format!("call {call}, {seed}"));
            }
        });
    }
}

/// After an error the note that the time was set back stays. Keys that were made since are not of the wrong future.
#[test]
fn a_pseudonym_given_since_a_correction_that_failed_stays_the_same() {
    let pseudonym = |store: &Store| access(store).pseudonym(VISITOR.parse().unwrap(), store.now());
    for mapped in MODES {
        let mut failed = 0;
        let prepare = || {
            let (rig, disk, store) = in_a_wrong_future(mapped);
            rig.clock.set_wall(START);
            (rig, disk, store)
        };
        with_each_call_failing(
            REFUSED,
            prepare,
            Store::reset_clock,
            |rig, store, corrected, call| {
                rig.clock.advance(hours(1));
                if store.now() == START + hours(1)
                    && let Ok(given) = pseudonym(store)
                {
                    failed += u32::from(corrected.is_err());
                    let after = rig.kill().open();
                    after.maintain().unwrap();
                    assert_eq!(pseudonym(&after).unwrap(), given, "call {call}, {corrected:?}");
                }
            },
        );
        assert!(failed > 0);
    }
}

/// Keys of the wrong future whose leaving may not be durable. No segment says when they leave.
#[test]
fn keys_of_a_wrong_future_that_could_not_be_dropped_do_not_stay() {
    for mapped in MODES {
        let mut failed = 0;
        let prepare = || {
            let rig = Rig::new(mapped);
            rig.clock.set_wall(START + hours(1000));
            let (disk, store) = rig.open_faulty();
            access(&store).pseudonym(VISITOR.parse().unwrap(), store.now()).unwrap();
            rig.clock.set_wall(START);
            (rig, disk, store)
        };
        with_each_call_failing(REFUSED, prepare, Store::reset_clock, |rig, store, result, call| {
            failed += u32::from(result.is_err());
            store.reset_clock().unwrap();
            for seed in 0..8 {
                assert_corrected(&rig.cut(seed).open(), &format!("call {call}, {seed}"));
            }
        });
        assert!(failed > 5, "{failed}");
    }
}

/// Buckets of this log span 93 minutes and stay for sixteen of these and twelve minutes.
fn uneven(store: &Store) -> Log {
    store.log("uneven", LogOptions::new(Retention::window(hours(25)))).unwrap()
}

/// The clock was ahead by sixteen buckets, so the one that was written to then leaves in the middle of its own time.
#[test]
fn a_pseudonym_stays_the_same_though_the_bucket_of_a_wrong_future_leaves_in_its_period() {
    let pseudonym = |store: &Store| {
        let visitor = VISITOR.parse().unwrap();
        uneven(store).pseudonym(visitor, store.now())
    };
    for mapped in MODES {
        let rig = Rig::new(mapped);
        let width = minutes(93);
        let present = START.as_millis() - START.as_millis() % width.as_millis() as u64;
        let period = Timestamp::from_millis(present) + 16 * width;
        rig.clock.set_wall(period + minutes(20));
        let store = rig.open();
        let of_the_future = pseudonym(&store).unwrap();
        uneven(&store).append(Row::new(of_the_future).payload("row")).unwrap();
        store.sync().unwrap();
        rig.clock.set_wall(START);
        store.reset_clock().unwrap();
        rig.clock.advance(period.since(START) + minutes(1));
        let given = pseudonym(&store).unwrap();
        assert_ne!(given.id(), of_the_future.id());
        let again = rig.each_faulty_opening(REFUSED, |_, store, call| match pseudonym(store) {
            Ok(again) => assert_eq!(again, given, "call {call}"),
            Err(e) => assert!(store.stats().poisoned.is_some(), "call {call}: {e}"),
        });
        assert!(again > 5, "{again}");
        rig.clock.advance(minutes(12));
        store.maintain().unwrap();
        assert_eq!(store.stats().logs[0].buckets.len(), 1);
        assert_eq!(pseudonym(&store).unwrap(), given);
        assert_eq!(pseudonym(&rig.kill().open()).unwrap(), given);
        rig.clock.advance(width);
        assert_ne!(pseudonym(&store).unwrap().period(), given.period());
    }
}
