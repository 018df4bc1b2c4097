//! Nothing is read from its deadline on, whether or not any upkeep has run, and nothing goes before.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Clock, Error, Keyspace, KeyspaceOptions, Log, LogOptions, Retention, Row, Store, Timestamp,
};

use fixture::{MODES, Random, clock, hours, minutes, on_memory, open, seed};

const MS: Duration = Duration::from_millis(1);
const HOUR_MS: u64 = 3_600_000;

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.keyspace("images", options).unwrap()
}

fn access(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(4096)).unwrap()
}

fn bucket_files(disk: &MemoryDisk, owner: &str) -> Vec<PathBuf> {
    let below = |path: &PathBuf| {
        path.starts_with(Path::new("/data").join(owner)) && path.components().count() > 5
    };
    disk.all_files().into_iter().filter(below).collect()
}

#[test]
fn every_way_of_reading_ends_at_the_deadline() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (images, access) = (images(&store), access(&store));
        for number in 0..20 {
            images.insert(format!("key-{number}"), b"value").unwrap();
        }
        let ids: Vec<_> =
            (0..20).map(|_| access.append(Row::anonymous().payload("row")).unwrap()).collect();
        let gone_at = images.stat("key-0").unwrap().unwrap().gone_at();
        assert_eq!(gone_at.as_millis(), 1_795_267_800_000 / HOUR_MS * HOUR_MS + 16 * HOUR_MS);
        assert_eq!(access.get(ids[0]).unwrap().unwrap().gone_at(), gone_at);
        let (mut iter, mut scan) = (images.iter(), access.scan(..).unwrap());
        iter.next().unwrap().unwrap();
        scan.next().unwrap().unwrap();
        let held = images.get("key-1").unwrap().unwrap();

        clock.advance(gone_at.since(clock.wall()) - MS);
        assert_eq!(images.get("key-0").unwrap().unwrap().as_ref(), b"value");
        assert!(images.stat("key-0").unwrap().is_some() && images.contains("key-0").unwrap());
        assert!(access.get(ids[3]).unwrap().is_some());
        iter.next().unwrap().unwrap();
        scan.next().unwrap().unwrap();
        store.maintain().unwrap();
        assert!(images.contains("key-0").unwrap());

        clock.advance(MS);
        assert!(images.get("key-0").unwrap().is_none());
        assert!(images.stat("key-0").unwrap().is_none() && !images.contains("key-0").unwrap());
        assert!(access.get(ids[3]).unwrap().is_none());
        assert!(iter.next().is_none(), "an open iterator goes on past the deadline");
        assert!(scan.next().is_none(), "an open scan goes on past the deadline");
        assert_eq!(images.iter().count() + access.scan(..).unwrap().count(), 0);
        store.maintain().unwrap();
        assert!(bucket_files(&disk, "keyspaces").is_empty());
        assert!(bucket_files(&disk, "logs").is_empty());
        assert_eq!(store.stats().buckets_dropped, 2);
        store.close().unwrap();
        assert_eq!(held.as_ref(), b"value", "a value held outlives everything");
    }
}

#[test]
fn windows_of_one_store_do_not_mix() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let short = store.keyspace("short", KeyspaceOptions::new(Retention::hours(16))).unwrap();
        let long = store.keyspace("long", KeyspaceOptions::new(Retention::days(30))).unwrap();
        for number in 0..30 {
            short.insert(format!("s{number}"), b"SHORTLIVED").unwrap();
            long.insert(format!("l{number}"), b"LONGLIVED").unwrap();
        }
        store.maintain().unwrap();
        let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        for path in disk.all_files() {
            let bytes = disk.read_file(&path).unwrap();
            assert!(!(has(&bytes, b"SHORTLIVED") && has(&bytes, b"LONGLIVED")), "{path:?}");
        }
        clock.advance(hours(16));
        store.maintain().unwrap();
        assert!(!short.contains("s0").unwrap() && long.contains("l0").unwrap());
        let all: Vec<u8> =
            disk.all_files().iter().flat_map(|path| disk.read_file(path).unwrap()).collect();
        assert!(!has(&all, b"SHORTLIVED") && has(&all, b"LONGLIVED"));
        clock.advance(hours(30 * 24));
        store.maintain().unwrap();
        assert!(!long.contains("l0").unwrap());
    }
}

#[test]
fn a_record_lives_between_window_less_width_and_window() {
    let mut choices = Random::new(seed("a_record_lives_between_window_less_width_and_window"));
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        for number in 0..100 {
            let born = clock.wall();
            let key = format!("key-{number}");
            images.insert(&key, b"value").unwrap();
            let gone_at = images.stat(&key).unwrap().unwrap().gone_at();
            assert!(gone_at > born + hours(15) && gone_at <= born + hours(16));
            clock.advance(Duration::from_millis(choices.below(2 * HOUR_MS)));
            if choices.once_in(5) {
                store.maintain().unwrap();
            }
            for entry in images.iter() {
                assert!(entry.unwrap().stat().written_at() + hours(16) > clock.wall());
            }
        }
    }
}

#[test]
fn an_expiry_of_its_own_comes_first_and_never_later() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        let at = clock.wall() + minutes(5);
        let _ = images.fill("soon").expires_at(at).commit(b"value").unwrap();
        let _ = images.fill("late").expires_at(at + hours(1000)).commit(b"value").unwrap();
        let _ = images.fill("past").expires_at(Timestamp::from_millis(0)).commit(b"v").unwrap();
        assert!(!images.contains("past").unwrap());
        assert_eq!(images.stat("soon").unwrap().unwrap().gone_at(), at);
        assert!(images.stat("late").unwrap().unwrap().gone_at() <= clock.wall() + hours(16));
        clock.advance(minutes(5) - MS);
        assert!(images.get("soon").unwrap().is_some());
        clock.advance(MS);
        assert!(images.get("soon").unwrap().is_none() && images.get("late").unwrap().is_some());
    }
}

#[test]
fn a_step_of_the_clock_hides_and_destroys_only_later() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let (images, access) = (images(&store), access(&store));
        images.insert("old", b"value").unwrap();
        let id = access.append(Row::anonymous().payload("row")).unwrap();
        let right = clock.wall();
        clock.set_wall(right + hours(100));
        assert!(images.get("old").unwrap().is_none() && access.get(id).unwrap().is_none());
        images.insert("new", b"value").unwrap();
        assert!(images.contains("new").unwrap(), "born after the step");
        store.maintain().unwrap();
        clock.set_wall(right);
        assert!(images.contains("old").unwrap() && access.get(id).unwrap().is_some(), "back again");

        clock.set_wall(right + hours(100));
        assert!(!images.contains("old").unwrap());
        clock.advance(minutes(59));
        store.maintain().unwrap();
        assert!(!bucket_files(&disk, "keyspaces").is_empty(), "destroyed before the grace");
        assert_eq!(store.stats().suspect_ms, 100 * HOUR_MS);
        clock.advance(minutes(1));
        store.maintain().unwrap();
        assert!(
            bucket_files(&disk, "keyspaces").is_empty() && bucket_files(&disk, "logs").is_empty()
        );

        images.insert("confirmed", b"value").unwrap();
        clock.set_wall(clock.wall() + hours(100));
        store.maintain().unwrap();
        assert!(!bucket_files(&disk, "keyspaces").is_empty());
        store.confirm_clock().unwrap();
        store.maintain().unwrap();
        assert!(bucket_files(&disk, "keyspaces").is_empty());
        assert_eq!(store.now(), clock.wall());
    }
}

#[test]
fn a_clock_that_was_wrong_in_the_future_is_set_right() {
    for mapped in MODES {
        let disk = MemoryDisk::new(1);
        let right = fixture::START;
        let clock = ebbtide::ManualClock::new(right + hours(24 * 3650));
        let store = open(on_memory(&disk, &clock), mapped);
        let (images, access) = (images(&store), access(&store));
        images.insert("future", b"value").unwrap();
        access.append(Row::anonymous().payload("row")).unwrap();
        clock.set_wall(right);
        assert!(store.now() > right + hours(24 * 3000), "time does not go back by itself");
        store.reset_clock().unwrap();
        assert_eq!(store.now(), right);
        let gone_at = images.stat("future").unwrap().unwrap().gone_at();
        assert!(gone_at <= right + hours(16), "{gone_at}");
        images.insert("now", b"value").unwrap();
        store.close().unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        assert_eq!(store.now(), right);
        let images = store.existing_keyspace("images").unwrap();
        assert_eq!(images.stat("future").unwrap().unwrap().gone_at(), gone_at);
        clock.advance(hours(16));
        assert!(!images.contains("future").unwrap() && !images.contains("now").unwrap());
        store.maintain().unwrap();
        assert!(
            bucket_files(&disk, "keyspaces").is_empty() && bucket_files(&disk, "logs").is_empty()
        );
    }
}

/// One call fails while the clock is set right; it is set right once more, by this process or the next.
#[test]
fn setting_the_clock_right_may_fail_and_be_tried_again() {
    for fault in [Fault::Error(ErrorKind::TimedOut), Fault::ErrorAfter(ErrorKind::TimedOut)] {
        for call in 1.. {
            let (memory, right) = (MemoryDisk::new(call), fixture::START);
            let clock = ebbtide::ManualClock::new(right + hours(24 * 3650));
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let builder = fixture::quiet(Store::builder("/data").disk(disk.clone()), &clock);
            let store = open(builder, call % 2 == 0);
            images(&store).insert("future", b"value").unwrap();
            access(&store).append(Row::anonymous().payload("row")).unwrap();
            // A bucket with keys alone, which cannot say another deadline.
            clock.advance(hours(1));
            access(&store).pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
            store.sync().unwrap();
            clock.set_wall(right);
            let reached = disk.calls() + call;
            disk.inject(reached, fault);
            let what = format!("{fault:?} at call {call}, {:?}", store.reset_clock());
            let is_over = disk.calls() < reached;
            disk.clear();
            match store.reset_clock() {
                Ok(()) => assert_set_right(&store, &what),
                Err(e) => assert!(matches!(e, Error::Poisoned { .. }), "{what}: {e}"),
            }
            drop(store);
            let disk = memory.kill();
            let store = open(on_memory(&disk, &clock), call % 2 == 0);
            store.reset_clock().unwrap();
            assert_set_right(&store, &what);
            clock.advance(hours(16));
            store.maintain().unwrap();
            let left = [bucket_files(&disk, "keyspaces"), bucket_files(&disk, "logs")].concat();
            assert!(left.is_empty(), "{what}: {left:?}");
            if is_over {
                break;
            }
        }
    }
}

/// It is the right time, and nothing stays for longer than from now on.
#[track_caller]
fn assert_set_right(store: &Store, what: &str) {
    assert_eq!(store.now(), fixture::START, "{what}");
    let stat = images(store).stat("future").unwrap();
    assert!(stat.is_some_and(|stat| stat.gone_at() <= fixture::START + hours(16)), "{what}");
    let buckets = store.stats().logs.iter().flat_map(|log| log.buckets.clone()).collect::<Vec<_>>();
    assert!(buckets.iter().all(|b| b.deadline <= fixture::START + hours(16)), "{what}");
}

/// Their bucket is made when the clock has been set right.
#[test]
fn rows_collected_in_a_wrong_future_leave_like_those_of_now() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let access = access(&store);
        let right = clock.wall();
        clock.set_wall(right + hours(24 * 3650));
        store.confirm_clock().unwrap();
        let mut appender = access.appender();
        appender.append(Row::anonymous().payload("row")).unwrap();
        clock.set_wall(right);
        store.reset_clock().unwrap();
        appender.flush().unwrap();
        let rows: Vec<_> = access.scan(..).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1);
        assert!(rows[0].gone_at() <= right + hours(16), "{}", rows[0].gone_at());
        drop((rows, appender));
        store.close().unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        assert_eq!(store.now(), right);
        clock.advance(hours(16));
        store.maintain().unwrap();
        assert!(bucket_files(&disk, "logs").is_empty());
    }
}

/// They are written while their bucket of that future is there, after it has been dropped, or where it was
/// never made, or had nothing but keys and left when the clock was set right.
#[test]
fn rows_collected_in_a_wrong_future_are_not_there_for_longer() {
    for mapped in MODES {
        for (of_somebody, beside_others) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            for hours_later in [10, 15, 16, 17] {
                flush_after_a_wrong_future(mapped, of_somebody, beside_others, hours_later);
            }
        }
    }
}

fn flush_after_a_wrong_future(mapped: bool, of_somebody: bool, beside_others: bool, later: u64) {
    let what = format!("{later} h later, of somebody {of_somebody}, beside {beside_others}");
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), mapped);
    let (access, right) = (access(&store), clock.wall());
    clock.set_wall(right + hours(24 * 3650));
    store.confirm_clock().unwrap();
    let visitor = || access.pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
    let row = || if of_somebody { Row::new(visitor()) } else { Row::anonymous() };
    if beside_others {
        let _ = access.append(row().payload("written")).unwrap();
    }
    let mut appender = access.appender();
    appender.append(row().payload("collected")).unwrap();
    clock.set_wall(right);
    store.reset_clock().unwrap();
    clock.advance(hours(later));
    store.maintain().unwrap();
    let flushed = appender.flush();
    let rows: Vec<_> = access.scan(..).unwrap().map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| row.gone_at() <= right + hours(16)), "{what}: {rows:?}");
    let is_kept = rows.iter().any(|row| row.payload()[..] == b"collected"[..]);
    assert_eq!(is_kept, later < 16 && (!of_somebody || beside_others), "{what}: {flushed:?}");
    assert_eq!(flushed.is_ok(), is_kept, "{what}: {flushed:?}");
    drop(rows);
    clock.advance(hours(16_u64.saturating_sub(later)));
    assert_eq!(access.scan(..).unwrap().count(), 0, "{what}");
    store.maintain().unwrap();
    assert!(bucket_files(&disk, "logs").is_empty(), "{what}");
}

/// It holds neither a block for each bucket nor the tombstones since the first. Late rows are still collected.
#[test]
fn an_appender_that_is_never_flushed_holds_little() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let builder = on_memory(&disk, &clock).tombstone_log_bytes(4096);
        let store = open(builder, mapped);
        let (access, images) = (access(&store), images(&store));
        let mut appender = access.appender();
        for hour in 0_u64..200 {
            // Now and then nothing comes for longer than rows are kept.
            clock.advance(if hour % 50 == 20 { hours(20) } else { hours(1) });
            for late in [0, 2, 15] {
                let row = Row::anonymous().at(store.now() - hours(late)).payload("row");
                appender.append(row).unwrap();
            }
            for number in 0..20 {
                images.invalidate(format!("never-{hour}-{number}")).unwrap();
            }
            store.maintain().unwrap();
            assert!(appender.buffered() <= 3, "{} rows, hour {hour}", appender.buffered());
            let files = disk.all_files();
            let logs = files.iter().filter(|path| path.starts_with("/data/tombstones")).count();
            assert!(logs <= 4, "{logs} tombstone logs, hour {hour}");
        }
        appender.flush().unwrap();
        let kept = access.scan(..).unwrap().count();
        assert!((28..=32).contains(&kept), "{kept} rows");
    }
}

/// What is no longer kept does not keep the rest from being written.
#[test]
fn rows_behind_others_that_are_no_longer_kept_are_written() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let access = access(&store);
        let mut appender = access.appender();
        let late = store.now() - hours(15);
        appender.append(Row::anonymous().at(late).payload("late")).unwrap();
        appender.append(Row::anonymous().payload("now")).unwrap();
        clock.advance(hours(2));
        drop(appender);
        let rows: Vec<_> = access.scan(..).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].payload()[..], b"now"[..]);
    }
}

#[test]
fn a_bucket_of_a_wrong_future_is_not_written_to_once_its_time_comes() {
    // Also where nothing has been written since, and where that bucket is past its time by then.
    let cases = MODES
        .into_iter()
        .flat_map(|mapped| [(mapped, 5, true), (mapped, 5, false), (mapped, 17, false)]);
    for (mapped, ahead, writes_meanwhile) in cases {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        let right = clock.wall();
        clock.set_wall(right + hours(ahead));
        store.confirm_clock().unwrap();
        images.insert("key", b"from a wrong future").unwrap();
        clock.set_wall(right);
        store.reset_clock().unwrap();
        let lowered = images.stat("key").unwrap().unwrap().gone_at();
        if writes_meanwhile {
            images.insert("key", b"older").unwrap();
        }
        clock.advance(hours(ahead));
        images.insert("key", b"newest").unwrap();
        let gone_at = images.stat("key").unwrap().unwrap().gone_at();
        assert_eq!(gone_at, lowered + hours(ahead), "it lives as long as any other");
        clock.advance(lowered.since(clock.wall()));
        store.maintain().unwrap();
        store.close().unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        assert_eq!(images.get("key").unwrap().as_deref(), Some(&b"newest"[..]));
        assert!(store.recovery_report().is_clean());
        clock.advance(gone_at.since(clock.wall()));
        assert!(!images.contains("key").unwrap());
    }
}

/// Its bucket left with that future. The one that is there when its time comes starts at the same moment.
#[test]
fn a_pseudonym_of_a_wrong_future_is_not_taken_once_its_time_comes() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let log = access(&store);
        let pseudonym = || log.pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
        let right = clock.wall();
        clock.set_wall(right + hours(5));
        store.confirm_clock().unwrap();
        let of_future = pseudonym();
        clock.set_wall(right);
        store.reset_clock().unwrap();
        clock.advance(hours(5));
        let present = pseudonym();
        assert_eq!(present.period(), of_future.period());
        assert_ne!(present, of_future);
        let refused = log.append(Row::new(of_future).payload("of the future"));
        assert!(matches!(refused, Err(Error::Expired { .. })), "{refused:?}");
        let _ = log.append(Row::new(present).payload("of now")).unwrap();
        assert_eq!(log.scan(..).unwrap().count(), 1);
    }
}

#[test]
fn a_closed_store_forgets_when_it_is_opened() {
    for mapped in MODES {
        for kill in [false, true] {
            let (mut disk, clock) = (MemoryDisk::new(1), clock());
            let store = open(on_memory(&disk, &clock), mapped);
            let (images, access) = (images(&store), access(&store));
            images.insert("key", b"value").unwrap();
            let id = access.append(Row::anonymous().payload("row")).unwrap();
            if kill {
                disk = disk.kill();
            } else {
                store.close().unwrap();
            }
            drop(store);
            clock.advance(hours(16));
            let store = open(on_memory(&disk, &clock), mapped);
            assert!(!store.existing_keyspace("images").unwrap().contains("key").unwrap());
            assert!(store.existing_log("access").unwrap().get(id).unwrap().is_none());
            assert!(bucket_files(&disk, "keyspaces").is_empty());
            store.maintain().unwrap();
            assert_eq!(store.stats().trash_items, 0);
        }
    }
}

#[test]
fn a_machine_that_was_off_hides_at_once_and_destroys_after_the_grace() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        images(&store).insert("key", b"value").unwrap();
        store.close().unwrap();
        clock.reboot(hours(50));
        let store = open(on_memory(&disk, &clock), mapped);
        assert!(!images(&store).contains("key").unwrap());
        store.maintain().unwrap();
        assert!(!bucket_files(&disk, "keyspaces").is_empty());
        clock.advance(hours(1));
        store.maintain().unwrap();
        assert!(bucket_files(&disk, "keyspaces").is_empty());
    }
}

#[test]
fn rows_late_early_and_across_midnight() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let access = access(&store);
        let now = clock.wall();
        let late = access.append(Row::anonymous().at(now - hours(10)).payload("late")).unwrap();
        let late = access.get(late).unwrap().unwrap();
        assert_eq!(late.time(), now - hours(10));
        assert!(late.gone_at() <= now + hours(6));
        let early = access.append(Row::anonymous().at(now + hours(10)).payload("early")).unwrap();
        assert_eq!(access.get(early).unwrap().unwrap().time(), now, "the future is now");
        let expired = access.append(Row::anonymous().at(now - hours(17)));
        assert!(matches!(expired, Err(Error::Expired { .. })), "{expired:?}");
        let ip = "198.51.100.7".parse().unwrap();
        assert!(matches!(access.pseudonym(ip, now - hours(17)), Err(Error::Expired { .. })));

        let before = access.pseudonym(ip, now).unwrap();
        clock.advance(hours(1));
        let after = access.pseudonym(ip, clock.wall()).unwrap();
        assert_ne!(before.id(), after.id());
        let id = access.append(Row::new(before).payload("across")).unwrap();
        let row = access.get(id).unwrap().unwrap();
        assert_eq!(row.subject(), Some(before));
        assert_eq!(row.gone_at(), before.period() + hours(16), "it goes with its key");
        assert_eq!(access.pseudonym(ip, now).unwrap(), before, "asked again for then");
        let rows: Vec<_> = access.scan(..).unwrap().map(|row| row.unwrap().time()).collect();
        assert!(rows.is_sorted() && rows.len() == 3, "{rows:?}");
        clock.advance(hours(16));
        let gone = access.append(Row::new(before).payload("too late"));
        assert!(matches!(gone, Err(Error::Expired { .. })), "{gone:?}");
    }
}

#[test]
fn a_value_held_stays_what_it_was() {
    for mapped in MODES {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock();
        let store = open(fixture::quiet(Store::builder(dir.path().join("data")), &clock), mapped);
        let images = images(&store);
        let value = Random::new(1).bytes(3000);
        images.insert("key", &value).unwrap();
        store.sync().unwrap();
        let held = images.get("key").unwrap().unwrap();
        let bytes = held.bytes();
        images.insert("key", b"other").unwrap();
        images.invalidate("key").unwrap();
        clock.advance(hours(17));
        store.maintain().unwrap();
        assert_eq!((held.as_ref(), bytes.as_ref()), (&value[..], &value[..]));
        assert_eq!(store.stats().pinned_bytes > 0, mapped);
        store.close().unwrap();
        drop((store, images));
        assert_eq!((held.as_ref(), bytes.as_ref()), (&value[..], &value[..]));
        drop(held);
        assert_eq!(bytes.as_ref(), value);
    }
}
