//! A clock that is set back after things have left by it: what could not leave durably is not valid again, and
//! stays no longer for it.

use std::io::ErrorKind;

use ebbtide::disk::Fault;
use ebbtide::{Row, Store};

use crate::fixture::{MODES, START, hours};
use crate::leaving::opened;
use crate::rig::{Rig, access, images, put, rows, seen};

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

/// Sets the clock to when both versions were there, and looks at what every kind of stop leaves.
fn set_back(rig: &Rig, store: &Store, what: &str) {
    let is_old = |store: &Store| seen(store, "key").as_deref() == Some("old");
    rig.clock.set_wall(START + hours(6));
    store.reset_clock().unwrap();
    assert!(!is_old(store), "{what}");
    for seed in 0..8 {
        for stopped in [rig.cut(seed), rig.kill()] {
            let after = stopped.open();
            assert!(!is_old(&after), "{what}, {seed}: at open");
            after.maintain().unwrap();
            assert!(!is_old(&after), "{what}, {seed}: after upkeep");
            let of_a_log = rows(&access(&after));
            assert!(
                of_a_log.len() < 2 || of_a_log == ["old", "new"],
                "{what}, {seed}: {of_a_log:?}"
            );
            let proof = after.prove_retention(..).unwrap();
            let of_owners = proof.owners.iter().map(|owner| owner.worst_late_ms);
            let worst_ms = u128::from(of_owners.max().unwrap_or(0));
            assert!(worst_ms < hours(24).as_millis(), "{what}, {seed}: {proof:?}");
        }
        store.maintain().unwrap();
    }
}

/// The older version's bucket is back after a power cut, or was never moved; the newer one's has left.
#[test]
fn a_bucket_that_could_not_be_dropped_brings_no_older_version_back() {
    for mapped in MODES {
        for call in 1.. {
            let (rig, disk, store) = past_two_versions(mapped, Rig::open_faulty);
            let reached = disk.calls() + call;
            disk.inject(reached, Fault::Error(ErrorKind::TimedOut));
            let _ = store.drop_expired();
            let is_over = disk.calls() < reached;
            disk.clear();
            // What failed keeps others from leaving, once.
            store.drop_expired().unwrap();
            set_back(&rig, &store, &format!("call {call}"));
            if is_over {
                assert!(call > 10, "{call} calls");
                break;
            }
        }
    }
}

/// The same where what could not be synced counts as written from then on.
#[test]
fn a_drop_whose_sync_is_lost_brings_no_older_version_back() {
    for (mapped, dir) in
        MODES.into_iter().flat_map(|m| [(m, "/data/trash"), (m, "/data/keyspaces/images")])
    {
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

#[test]
fn a_bucket_that_could_not_be_dropped_at_open_brings_no_older_version_back() {
    for mapped in MODES {
        let (rig, _, store) = past_two_versions(mapped, Rig::open_faulty);
        drop(store);
        let opened = rig.each_faulty_opening(|rig, store, call| {
            set_back(rig, store, &format!("call {call}"));
        });
        assert!(opened > 5, "{opened}");
    }
}

/// A bucket of a future that was wrong, which is back after a power cut, is not there until that comes.
#[test]
fn a_bucket_of_a_wrong_future_that_could_not_be_dropped_does_not_stay() {
    for mapped in MODES {
        for call in 1.. {
            let rig = Rig::new(mapped);
            rig.clock.set_wall(START + hours(1000));
            let (disk, store) = rig.open_faulty();
            write(&store, "future");
            rig.clock.advance(hours(17));
            let reached = disk.calls() + call;
            disk.inject(reached, Fault::Error(ErrorKind::TimedOut));
            let _ = store.drop_expired();
            let is_over = disk.calls() < reached;
            disk.clear();
            rig.clock.set_wall(START);
            store.reset_clock().unwrap();
            for seed in 0..4 {
                let after = rig.cut(seed).open();
                let stats = after.stats();
                let of_images = stats.keyspaces.iter().flat_map(|keyspace| &keyspace.buckets);
                let mut buckets = of_images.chain(stats.logs.iter().flat_map(|log| &log.buckets));
                assert!(buckets.all(|b| b.deadline <= START + hours(16)), "{call}: {stats:?}");
            }
            if is_over {
                break;
            }
        }
    }
}

/// After an error the note that the time was set back stays. Keys that were made since are not of the wrong future.
#[test]
fn a_pseudonym_given_since_a_correction_that_failed_stays_the_same() {
    for mapped in MODES {
        let mut failed = 0;
        for call in 1.. {
            let rig = Rig::new(mapped);
            rig.clock.set_wall(START + hours(1000));
            let (disk, store) = rig.open_faulty();
            write(&store, "future");
            rig.clock.set_wall(START);
            let reached = disk.calls() + call;
            disk.inject(reached, Fault::Error(ErrorKind::TimedOut));
            let corrected = store.reset_clock();
            let is_over = disk.calls() < reached;
            disk.clear();
            rig.clock.advance(hours(1));
            let pseudonym =
                |store: &Store| access(store).pseudonym("198.18.0.7".parse().unwrap(), store.now());
            if store.now() == START + hours(1)
                && let Ok(given) = pseudonym(&store)
            {
                failed += u32::from(corrected.is_err());
                let after = rig.kill().open();
                after.maintain().unwrap();
                assert_eq!(pseudonym(&after).unwrap(), given, "call {call}, {corrected:?}");
            }
            if is_over {
                break;
            }
        }
        assert!(failed > 0);
    }
}
