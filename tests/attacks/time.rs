//! Clocks that step, stand still, or were wrong from the beginning.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebbtide::disk::{Fault, FaultyDisk};
use ebbtide::{
    Clock, Keyspace, KeyspaceOptions, ManualClock, Outcome, Result, Retention, Row, Store,
    Timestamp,
};

use crate::fixture::{START, hours, minutes};
use crate::rig::{
    REFUSED, Rig, access, assert_sound, each_mode, images, put, rows, seen, stopped_at_each_call,
    with_each_call_failing,
};

const YEAR_2099: Timestamp = Timestamp::from_millis(4_070_908_800_000);
const YEAR_1970: Timestamp = Timestamp::from_millis(0);

/// A value and a row that say when they were written.
fn write(store: &Store, name: &str) {
    put(&images(store), name, &format!("value of {name}"), &[]);
    let visitor = access(store).pseudonym("198.18.0.7".parse().unwrap(), store.now()).unwrap();
    access(store).append(Row::new(visitor).payload(format!("row of {name}"))).unwrap();
}

fn is_seen(store: &Store, name: &str) -> bool {
    let value = seen(store, name).is_some();
    let log = store.existing_log("access").unwrap();
    let row = rows(&log).contains(&format!("row of {name}"));
    assert_eq!(value, row, "{name}");
    value
}

fn is_on_disk(rig: &Rig, name: &str) -> bool {
    let value = rig.on_disk(format!("value of {name}").as_bytes());
    let row = rig.on_disk(format!("row of {name}").as_bytes());
    assert_eq!(value, row, "{name}");
    value
}

/// Values that are kept for two weeks.
fn fortnightly(store: &Store) -> Keyspace {
    store.keyspace("fortnightly", KeyspaceOptions::new(Retention::days(14))).unwrap()
}

/// What of the days before must and must not be there, after ten minutes of a day.
fn check_days(rig: &Rig, store: &Store, day: u32) {
    for written in 0..day {
        let (age, name) = (day - written, format!("day-{written:02}"));
        assert!(!is_seen(store, &name), "{name} on day {day}");
        // An hour of agreement is six times ten minutes; a kill may take a little of it.
        let there = is_on_disk(rig, &name);
        assert!(there || day > 4, "{name} was destroyed on suspicion, day {day}");
        assert!(!there || age <= 6, "{name} is kept on day {day}");
        // What is written while the time lags behind lives shorter by the lag, and never longer.
        let seen = fortnightly(store).contains(&name).unwrap();
        let there = rig.on_disk(format!("fortnight of {name}").as_bytes());
        assert!(if age < 7 { seen } else { !seen || age < 14 }, "{name} for long on day {day}");
        assert!(if age < 7 { there } else { !there || age < 21 }, "{name} for long on day {day}");
    }
}

/// Each day the wall clock shows a step that nobody has confirmed, and the store is closed again before
/// an hour has passed.
#[test]
fn a_store_that_is_open_ten_minutes_a_day_forgets_all_the_same() {
    for mapped in crate::fixture::MODES {
        let mut rig = Rig::new(mapped);
        for day in 0_u32..30 {
            let store = rig.open();
            let today = format!("day-{day:02}");
            write(&store, &today);
            assert!(is_seen(&store, &today));
            fortnightly(&store).insert(&today, format!("fortnight of {today}")).unwrap();
            for _ in 0..10 {
                rig.clock.advance(minutes(1));
                store.maintain().unwrap();
            }
            check_days(&rig, &store, day);
            // Not every day ends in order.
            if day % 3 == 1 {
                rig = rig.kill();
            } else {
                store.close().unwrap();
            }
            drop(store);
            rig.clock.reboot(hours(24) - minutes(10));
        }
    }
}

#[test]
fn a_store_first_opened_in_2099_keeps_nothing_longer_once_the_clock_is_right() {
    for reboots in [false, true] {
        each_mode(|rig| {
            rig.clock.set_wall(YEAR_2099);
            let store = rig.open();
            write(&store, "future");
            store.close().unwrap();
            if reboots {
                rig.clock.reboot(minutes(1));
            }
            rig.clock.set_wall(START);
            let store = rig.open();
            assert!(store.now() >= YEAR_2099, "time does not go back by itself");
            store.reset_clock().unwrap();
            assert_eq!(store.now(), START);
            assert!(is_seen(&store, "future"), "a wrong year loses nothing");
            write(&store, "present");
            store.sync().unwrap();
            rig.everywhere(&store, |store| {
                assert_eq!(store.now(), START);
                assert!(is_seen(store, "future") && is_seen(store, "present"));
            });
            rig.clock.advance(hours(16));
            rig.everywhere(&store, |store| {
                assert!(!is_seen(store, "future") && !is_seen(store, "present"));
            });
            store.maintain().unwrap();
            assert!(!is_on_disk(rig, "future") && !is_on_disk(rig, "present"));
            assert_sound(&store);
        });
    }
}

/// Nobody resets the clock: what is measured is how long it has been there, not which year it is.
#[test]
fn a_store_first_opened_in_2099_forgets_in_time_though_nobody_resets_its_clock() {
    each_mode(|rig| {
        rig.clock.set_wall(YEAR_2099);
        let store = rig.open();
        write(&store, "future");
        rig.clock.set_wall(START);
        write(&store, "present");
        assert!(is_seen(&store, "future") && is_seen(&store, "present"));
        rig.clock.advance(hours(16));
        assert!(!is_seen(&store, "future") && !is_seen(&store, "present"));
        store.maintain().unwrap();
        assert!(!is_on_disk(rig, "future") && !is_on_disk(rig, "present"));
    });
}

/// A store that was written to in 2099, and whose clock is right again.
fn in_a_wrong_future(mapped: bool) -> (Rig, FaultyDisk, Store) {
    let rig = Rig::new(mapped);
    rig.clock.set_wall(YEAR_2099);
    let (disk, store) = rig.open_faulty();
    write(&store, "future");
    store.sync().unwrap();
    rig.clock.set_wall(START);
    (rig, disk, store)
}

/// The power goes while deadlines are being brought forward.
#[test]
fn a_power_cut_while_2099_is_corrected_keeps_nothing_longer() {
    for mapped in crate::fixture::MODES {
        stopped_at_each_call(
            || in_a_wrong_future(mapped),
            |store| drop(store.reset_clock()),
            |rig, what| {
                let store = rig.open();
                store.reset_clock().unwrap();
                assert_eq!(store.now(), START, "{what}");
                write(&store, "present");
                // The clock is shared with all the other stops.
                let clock = ManualClock::new(START + hours(16));
                let later = Rig { clock, ..rig.kill() };
                let store = later.open();
                store.confirm_clock().unwrap();
                store.maintain().unwrap();
                assert!(!is_seen(&store, "future") && !is_seen(&store, "present"), "{what}");
                assert!(!is_on_disk(&later, "future"), "{what}");
            },
        );
    }
}

/// No bucket of a store that has been set right stays longer than from then on.
#[track_caller]
pub(crate) fn assert_corrected(store: &Store, what: &str) {
    let stats = store.stats();
    let of_keyspaces = stats.keyspaces.iter().flat_map(|keyspace| &keyspace.buckets);
    let mut buckets = of_keyspaces.chain(stats.logs.iter().flat_map(|log| &log.buckets));
    assert!(buckets.all(|bucket| bucket.deadline <= START + hours(16)), "{what}: {stats:?}");
}

/// The next process finds the time before, or finishes what was begun, and upkeep drops nothing by a time
/// that is not believed any more.
#[test]
fn a_stop_while_2099_is_corrected_loses_nothing() {
    for mapped in crate::fixture::MODES {
        stopped_at_each_call(
            || in_a_wrong_future(mapped),
            |store| drop(store.reset_clock()),
            |rig, what| {
                let looking = rig.look();
                let is_torn = !looking.recovery_report().corrupt_records.is_empty();
                if is_torn && what.starts_with("Torn") {
                    // The sixteen bytes of a deadline lie in one sector, which no stop tears.
                    return;
                }
                assert!(is_seen(&looking, "future"), "{what}: to a process that looks");
                let store = rig.open();
                if store.now() == START {
                    assert_corrected(&looking, what);
                    assert_corrected(&store, what);
                }
                assert!(is_seen(&store, "future"), "{what}: at open");
                store.maintain().unwrap();
                assert!(is_seen(&store, "future"), "{what}: after upkeep");
                if store.now() == START {
                    assert_corrected(&rig.cut(0).open(), what);
                }
                store.reset_clock().unwrap();
                assert!(is_seen(&store, "future"), "{what}: corrected again");
                assert_corrected(&store, what);
                assert_sound(&store);
            },
        );
    }
}

/// The process goes on, by the time before or by the one that is right; then it is killed, or the power goes.
#[test]
fn an_error_while_2099_is_corrected_loses_nothing() {
    for (mapped, faults) in [(false, 1), (true, 1), (false, 2)] {
        for fault in [Fault::Error(ErrorKind::TimedOut), Fault::ErrorAfter(ErrorKind::TimedOut)] {
            for call in 1.. {
                let (rig, disk, store) = in_a_wrong_future(mapped);
                let reached = disk.calls() + call;
                (0..faults).for_each(|more| disk.inject(reached + more, fault));
                let result = store.reset_clock();
                let what = format!("{faults} times {fault:?} at call {call}, {result:?}");
                let is_over = disk.calls() < reached;
                disk.clear();
                let goes_on = store.stats().poisoned.is_none();
                let _ = store.maintain();
                assert!(is_seen(&store, "future"), "{what}: after upkeep");
                rig.clock.advance(hours(1));
                if goes_on {
                    write(&store, "later");
                    store.sync().unwrap();
                }
                for stopped in [rig.kill(), rig.cut(0), rig.cut(call)] {
                    let store = stopped.open();
                    store.maintain().unwrap();
                    assert!(is_seen(&store, "future"), "{what}: after a stop");
                    store.reset_clock().unwrap();
                    store.maintain().unwrap();
                    assert!(is_seen(&store, "future"), "{what}: corrected after a stop");
                    assert_eq!(is_seen(&store, "later"), goes_on, "{what}: what came later");
                }
                if is_over {
                    assert!(call > 5, "{call} calls");
                    break;
                }
            }
        }
    }
}

/// The header of a segment is written while its records are not durable yet. If that sync is lost they are too,
/// and no later one may say that they are safe.
#[test]
fn a_lost_sync_while_2099_is_corrected_is_not_made_up_for_by_another() {
    for mapped in crate::fixture::MODES {
        let mut lost = 0;
        let prepare = || {
            let rig = Rig::new(mapped);
            rig.clock.set_wall(YEAR_2099);
            let (disk, store) = rig.open_faulty();
            write(&store, "future");
            rig.clock.set_wall(START);
            (rig, disk, store)
        };
        let fault = Fault::SyncLost(ErrorKind::TimedOut);
        with_each_call_failing(fault, prepare, Store::reset_clock, |rig, store, result, call| {
            lost += u32::from(result.is_err());
            if store.sync().is_ok() {
                assert!(is_seen(&rig.cut(0).open(), "future"), "call {call}");
            }
        });
        assert!(lost > 1, "{lost}");
    }
}

/// A bucket whose drop failed stays, and is valid again once the clock is right: what was not synced yet still
/// has to be.
#[test]
fn a_drop_that_failed_in_2099_leaves_what_is_to_be_synced() {
    let there = |store: &Store| (seen(store, "present"), rows(&access(store)));
    for mapped in crate::fixture::MODES {
        let mut stayed = 0;
        let prepare = || {
            let rig = Rig::new(mapped);
            let (disk, store) = rig.open_faulty();
            write(&store, "present");
            rig.clock.set_wall(YEAR_2099);
            store.confirm_clock().unwrap();
            (rig, disk, store)
        };
        let fault = Fault::Error(ErrorKind::TimedOut);
        with_each_call_failing(fault, prepare, Store::drop_expired, |rig, store, _, call| {
            rig.clock.set_wall(START);
            if store.reset_clock().is_ok() && store.sync().is_ok() {
                let what = there(store);
                assert_eq!(there(&rig.cut(0).open()), what, "call {call}");
                store.close().unwrap();
                assert_eq!(there(&rig.cut(0).open()), what, "call {call}, closed");
                stayed += u32::from(what.0.is_some());
            }
        });
        assert!(stayed > 0);
    }
}

/// What says that a bucket leaves sooner cannot be read just when the bucket is met, and can a moment later.
#[test]
fn a_header_that_could_not_be_read_puts_no_deadline_off() {
    for mapped in crate::fixture::MODES {
        let (rig, _disk, store) = in_a_wrong_future(mapped);
        store.reset_clock().unwrap();
        drop(store);
        let opened = rig.each_faulty_opening(REFUSED, |_, store, call| {
            assert_corrected(store, &format!("call {call}"));
        });
        assert!(opened > 5, "{opened}");
    }
}

/// Both slots of STATE are gone. What was born in the future that was wrong says how it was corrected.
#[test]
fn a_corrected_future_does_not_come_back_when_the_time_is_lost() {
    // Also a future in which what is corrected lies no further ahead than its window.
    for ahead in [hours(24 * 3650), hours(10)] {
        each_mode(|rig| {
            rig.clock.set_wall(START + ahead);
            let store = rig.open();
            write(&store, "future");
            rig.clock.set_wall(START);
            store.reset_clock().unwrap();
            write(&store, "present");
            store.close().unwrap();
            drop(store);
            rig.change(std::path::Path::new("/data/STATE"), Vec::clear);
            let check = |store: &Store| {
                assert_eq!(store.now(), START);
                assert!(is_seen(store, "present") && is_seen(store, "future"));
            };
            check(&rig.look());
            let store = rig.open();
            check(&store);
            store.maintain().unwrap();
            check(&store);
        });
    }
}

/// Each step alone would be within what is believed at once; the budget is for a day of them.
#[test]
fn fifty_nine_minutes_every_minute_destroy_nothing() {
    for restarts in [false, true] {
        for mapped in crate::fixture::MODES {
            let mut rig = Rig::new(mapped);
            let mut store = rig.open();
            write(&store, "early");
            store.sync().unwrap();
            for minute in 0..50 {
                rig.clock.set_wall(rig.clock.wall() + minutes(59));
                store.maintain().unwrap();
                rig.clock.advance(minutes(1));
                store.maintain().unwrap();
                if restarts && minute % 5 == 0 {
                    let next = rig.kill();
                    drop(store);
                    rig = next;
                    store = rig.open();
                }
            }
            let now = store.now();
            assert!(now <= START + minutes(50) + minutes(62), "{now} after fifty minutes");
            assert!(!is_seen(&store, "early"), "hidden, in case the clock is right");
            assert!(is_on_disk(&rig, "early"));
            rig.clock.set_wall(START + minutes(50));
            assert!(is_seen(&store, "early"), "the clock was wrong, and nothing is lost");
            store.maintain().unwrap();
            assert!(is_on_disk(&rig, "early"));
            // And it is not kept for longer than its window either.
            rig.clock.advance(hours(15) + minutes(10));
            assert!(!is_seen(&store, "early"));
            store.maintain().unwrap();
            assert!(!is_on_disk(&rig, "early"));
        }
    }
}

/// The time was last written down at the last upkeep. Whenever the power goes, what had expired by then
/// is not read again, whatever the wall clock says after.
#[test]
fn what_had_expired_stays_so_after_a_power_cut_with_the_clock_at_1970() {
    // Upkeep comes as often as it should, or as seldom as it may.
    for pause in [20, 31, 45, 59, 60] {
        each_mode(|rig| {
            let store = rig.open();
            let pause = Duration::from_secs(pause);
            for round in 0_u32..64 {
                let key = format!("key-{round}");
                let almost = pause - Duration::from_millis(1);
                let fill = images(&store).fill(&key).expires_at(store.now() + almost);
                assert_eq!(fill.commit("value").unwrap(), Outcome::Stored);
                store.sync().unwrap();
                rig.clock.advance(almost);
                assert_eq!(seen(&store, &key), None);
                let stopped = rig.cut(u64::from(round % 3));
                let clock = ManualClock::new(YEAR_1970);
                clock.reboot(Duration::ZERO);
                let after = Rig { clock, ..stopped }.open();
                assert!(after.now() >= store.now(), "{pause:?}: {} was reached", store.now());
                assert_eq!(seen(&after, &key), None, "{pause:?}, round {round}");
                rig.clock.advance(Duration::from_millis(1));
                store.maintain().unwrap();
            }
        });
    }
}

/// The machine is up again at once, and the clock that went on while it was off is a little behind.
#[test]
fn what_had_expired_stays_so_after_a_power_cut_with_the_clock_a_little_behind() {
    for behind in [0, 5, 20, 59, 61, 4000].map(Duration::from_secs) {
        each_mode(|rig| {
            let store = rig.open();
            // The store is as old as the clock says, which then steps within what is believed, or is suspect.
            for ahead in [Duration::ZERO, minutes(20), hours(50)] {
                rig.clock.set_wall(rig.clock.wall() + ahead);
                store.maintain().unwrap();
                let key = format!("key-{}", ahead.as_secs());
                let soon = store.now() + Duration::from_secs(20);
                assert_eq!(
                    images(&store).fill(&key).expires_at(soon).commit("value").unwrap(),
                    Outcome::Stored
                );
                store.sync().unwrap();
                rig.clock.advance(Duration::from_secs(25));
                assert_eq!(seen(&store, &key), None);
                for seed in 0..3 {
                    let clock = ManualClock::new(Timestamp::from_millis(
                        (rig.clock.wall().as_millis()).saturating_sub(behind.as_millis() as u64),
                    ));
                    clock.reboot(Duration::from_secs(2));
                    let after = Rig { clock, ..rig.cut(seed) }.open();
                    assert_eq!(seen(&after, &key), None, "{behind:?} behind, {ahead:?} ahead");
                    assert!(after.now() >= store.now(), "{behind:?} behind, {ahead:?} ahead");
                }
            }
        });
    }
}

/// What is shown is what the time says, and that must not be another one after a stop.
#[test]
fn a_confirmation_that_fails_shows_nothing_as_expired_that_is_back_after_a_stop() {
    let faults = [Fault::Error, Fault::ErrorAfter, Fault::SyncLost];
    for fault in faults.map(|fault| fault(ErrorKind::TimedOut)) {
        for mapped in crate::fixture::MODES {
            let mut failed = 0;
            let prepare = || {
                let rig = Rig::new(mapped);
                let (disk, store) = rig.open_faulty();
                rig.clock.set_wall(YEAR_2099);
                store.maintain().unwrap();
                write(&store, "while");
                store.sync().unwrap();
                (rig, disk, store)
            };
            let show = |rig: &Rig, store: &Store, confirmed: Result<()>, call: u64| {
                failed += u32::from(confirmed.is_err());
                assert_eq!(store.now() >= YEAR_2099, confirmed.is_ok(), "{fault:?} at call {call}");
                assert_eq!(is_seen(store, "while"), confirmed.is_err(), "{fault:?} at call {call}");
                for stopped in [rig.kill(), rig.cut(0), rig.cut(call)] {
                    let now = stopped.open().now();
                    assert!(now >= store.now(), "{fault:?} at call {call}: {now}");
                }
                // It can be done again.
                store.confirm_clock().unwrap();
                assert!(!is_seen(&rig.cut(call).open(), "while"), "{fault:?} at call {call}");
            };
            with_each_call_failing(fault, prepare, Store::confirm_clock, show);
            assert!(failed > 0, "{fault:?}");
        }
    }
}

/// The wall clock says 2099 while things are stored. They go to the bucket of the time that is trusted.
#[test]
fn what_is_put_while_the_clock_is_suspect_lives_no_longer_than_its_window() {
    for believed in [false, true] {
        each_mode(|rig| {
            let store = rig.open();
            write(&store, "before");
            rig.clock.set_wall(YEAR_2099);
            assert!(!is_seen(&store, "before"), "hidden, in case the clock is right");
            write(&store, "while");
            let late = access(&store).append(Row::anonymous().at(YEAR_2099).payload("claimed"));
            assert!(access(&store).get(late.unwrap()).unwrap().unwrap().time() <= store.now());
            assert!(is_seen(&store, "while"), "it was born after the step");
            assert_eq!(store.now(), START);
            let gone_at = images(&store).stat("while").unwrap().unwrap().gone_at();
            assert!(gone_at <= START + hours(16), "{gone_at}");
            let of_the_future =
                |path: &std::path::PathBuf| path.to_str().unwrap().contains("/2099");
            assert!(!rig.disk.all_files().iter().any(of_the_future));
            store.sync().unwrap();
            // Opened again, nobody knows how long the clock has been there: more is hidden then.
            rig.everywhere(&store, |store| assert!(!is_seen(store, "before")));
            if believed {
                store.confirm_clock().unwrap();
            } else {
                rig.clock.set_wall(START);
                rig.everywhere(&store, |store| {
                    assert!(is_seen(store, "before") && is_seen(store, "while"));
                });
                rig.clock.advance(hours(16));
            }
            rig.everywhere(&store, |store| {
                assert!(!is_seen(store, "before") && !is_seen(store, "while"));
            });
            store.maintain().unwrap();
            assert!(!is_on_disk(rig, "before") && !is_on_disk(rig, "while"));
            write(&store, "after");
            assert!(is_seen(&store, "after"));
        });
    }
}

/// Lets a value that expires then be looked at, by this, at a call on the disk that something makes; gives what was
/// found, or nothing if it makes fewer calls.
fn look_at_call(
    rig: &Rig,
    call: u64,
    expires: Timestamp,
    look: impl Fn(&ManualClock, &Keyspace) -> Result<bool> + Send + 'static,
    act: impl Fn(&Store),
) -> Option<(Store, Result<bool>)> {
    let (disk, store) = rig.open_faulty();
    let images = images(&store);
    let fill = images.fill("key").expires_at(expires);
    assert_eq!(fill.commit("value").unwrap(), Outcome::Stored);
    store.maintain().unwrap();
    let found = Arc::new(Mutex::new(None));
    let (noted, clock) = (Arc::clone(&found), rig.clock.clone());
    let at = disk.calls() + call;
    disk.interrupt(at, move || *noted.lock().unwrap() = Some(look(&clock, &images)));
    act(&store);
    if disk.calls() < at {
        return None;
    }
    let found = found.lock().unwrap().take().unwrap();
    Some((store, found))
}

/// A value expires, and is looked at, at each call on the disk that closing makes. Then the clock is behind.
#[test]
fn what_is_read_as_expired_while_a_store_is_closed_stays_so() {
    each_mode(|rig| {
        let mut expired = 0;
        for call in 1.. {
            let rig = Rig::new(rig.mapped);
            let look = |clock: &ManualClock, images: &Keyspace| {
                clock.advance(hours(2));
                images.contains("key")
            };
            let close = |store: &Store| store.close().unwrap();
            let looked = look_at_call(&rig, call, START + hours(1), look, close);
            let Some((_store, found)) = looked else { break };
            rig.clock.set_wall(START);
            rig.clock.reboot(Duration::ZERO);
            if found.is_ok_and(|found| !found) {
                expired += 1;
                for after in [rig.kill(), rig.cut(0)] {
                    assert_eq!(seen(&after.open(), "key"), None, "call {call}");
                }
            }
        }
        assert!(expired > 3, "{expired}");
    });
}

/// The wall clock goes ahead by so little that it is believed, and back again, while a confirmation is being written
/// down. What was read as expired in between stays so.
#[test]
fn what_is_read_as_expired_while_the_clock_is_confirmed_stays_so() {
    each_mode(|rig| {
        let mut expired = 0;
        for call in 1.. {
            let rig = Rig::new(rig.mapped);
            let look = |clock: &ManualClock, images: &Keyspace| {
                clock.set_wall(START + minutes(20));
                let is_there = images.contains("key")?;
                clock.set_wall(START);
                assert_eq!(images.contains("key")?, is_there);
                Ok(is_there)
            };
            let confirm = |store: &Store| store.confirm_clock().unwrap();
            let looked = look_at_call(&rig, call, START + minutes(10), look, confirm);
            let Some((store, found)) = looked else { break };
            if !found.unwrap() {
                expired += 1;
                assert_eq!(seen(&store, "key"), None, "call {call}");
                assert!(store.now() >= START + minutes(20), "call {call}");
            }
        }
        assert!(expired > 0);
    });
}
