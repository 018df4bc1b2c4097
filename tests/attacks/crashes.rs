//! What a crash leaves lying about, and what must not be believed of it.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ebbtide::disk::{Disk, Fault, FaultyDisk, MemoryDisk};
use ebbtide::{Durability, Error, KeyspaceOptions, Outcome, Retention, Store};

use crate::fixture::{MODES, Random, hours, minutes, on_memory, open, quiet, seed};
use crate::rig::{
    REFUSED, Rig, access, assert_sound, each_mode, images, options, put, row, seen,
    with_each_call_failing,
};

/// The machine goes on, and so does its page cache: what a failed sync left there is seen by the next
/// process, and must be durable by the time it can be built upon.
#[test]
fn what_is_served_after_a_failed_sync_and_a_reopen_outlasts_a_power_cut() {
    let kind = ErrorKind::Other;
    let faults = [Fault::Error(kind), Fault::ErrorAfter(kind), Fault::SyncLost(kind)];
    for fault in faults {
        let failures = Cell::new(0);
        for call in 1..8 {
            each_mode(|rig| {
                let (disk, store) = rig.open_faulty();
                put(&images(&store), "key", "durable", &[]);
                row(&access(&store), "durable", &[]);
                store.sync().unwrap();
                put(&images(&store), "key", "after", &[]);
                put(&images(&store), "other", "after", &[]);
                row(&access(&store), "after", &[]);
                disk.inject(disk.calls() + call, fault);
                let failed = store.sync().is_err();
                disk.clear();
                failures.set(failures.get() + u32::from(failed));
                if failed {
                    // A sync is not tried again, since it could only lie.
                    assert!(store.sync().is_err() && images(&store).insert("x", "y").is_err());
                    images(&store).invalidate("other").unwrap();
                }
                let rig = rig.kill();
                drop(store);
                let store = rig.open();
                assert_eq!(store.stats().poisoned, None);
                let served = ["key", "other"].map(|key| seen(&store, key));
                assert!(served[0].is_some());
                assert!(!failed || served[1].is_none(), "what was purged is back");
                let rows = crate::rig::rows(&access(&store));
                for seed in 0..4 {
                    let store = rig.cut(seed).open();
                    assert_eq!(["key", "other"].map(|key| seen(&store, key)), served);
                    assert_eq!(crate::rig::rows(&access(&store)), rows);
                }
            });
        }
        assert!(failures.get() > 1, "no sync failed by {fault:?}");
    }
}

/// A write breaks off, by any fault after which writing goes on, and the record after it is acknowledged
/// as durable: nothing that was not finished may stand between it and the recovery.
#[test]
fn a_hole_from_an_unfinished_write_does_not_hide_an_acknowledged_record() {
    let faults = [
        Fault::Torn(ErrorKind::StorageFull),
        Fault::Error(ErrorKind::StorageFull),
        Fault::ErrorAfter(ErrorKind::StorageFull),
        Fault::Torn(ErrorKind::Interrupted),
        Fault::Torn(ErrorKind::Other),
        Fault::Short,
    ];
    let unfinished: [fn(&Store) -> bool; 3] = [
        |store| images(store).insert("first", vec![1; 1500]).is_ok(),
        |store| {
            let batch = (0..5).map(|number| (format!("batch-{number}"), vec![1; 700]));
            images(store).insert_batch(batch).is_ok()
        },
        |store| {
            let fill = images(store).fill("first").memory_limit_bytes(100);
            let mut writer = fill.into_writer().unwrap();
            let written = (0..15).all(|_| writer.write_all(&[1; 100]).is_ok());
            written && writer.commit().is_ok_and(|outcome| outcome == Outcome::Stored)
        },
    ];
    let (acknowledged, failed) = (Cell::new(0), Cell::new(0));
    for fault in faults {
        for (at, write) in unfinished.iter().enumerate() {
            for call in 1..8 {
                each_mode(|rig| {
                    let (disk, store) = rig.open_faulty();
                    put(&images(&store), "before", "value", &[]);
                    store.sync().unwrap();
                    disk.inject(disk.calls() + call, fault);
                    let is_whole = write(&store);
                    disk.clear();
                    // One that is still being written, and takes its place in the order before.
                    let fill = images(&store).fill("open").memory_limit_bytes(1);
                    let mut unfinished = fill.into_writer();
                    if let Ok(writer) = &mut unfinished {
                        let _ = writer.write_all(b"not finished");
                    }
                    let fill = images(&store).fill("second").durability(Durability::Sync);
                    let Ok(Outcome::Stored) = fill.commit("acknowledged") else { return };
                    acknowledged.set(acknowledged.get() + 1);
                    failed.set(failed.get() + u32::from(!is_whole));
                    for stopped in (0..6).map(|seed| rig.cut(seed)).chain([rig.kill()]) {
                        let what = format!("{fault:?} at {call}, write {at}");
                        let store = stopped.open();
                        let second = seen(&store, "second");
                        assert_eq!(second.as_deref(), Some("acknowledged"), "{what}");
                        assert_eq!(seen(&store, "before").as_deref(), Some("value"), "{what}");
                        assert_eq!(seen(&store, "open"), None, "{what}");
                        let first = images(&store).get("first").unwrap();
                        assert!(first.is_none_or(|first| first[..] == [1; 1500]), "{what}");
                        assert!(store.recovery_report().corrupt_records.is_empty(), "{what}");
                    }
                });
            }
        }
    }
    println!("{failed:?} writes failed, {acknowledged:?} were acknowledged behind them");
    assert!(failed.get() > 50 && acknowledged.get() > failed.get());
}

/// What lies in the store, but for the ledger, which is kept for years.
fn files(rig: &Rig) -> usize {
    rig.disk.all_files().iter().filter(|path| !path.starts_with("/data/ledger")).count()
}

/// Power cuts and kills, one after the other, some of them with something stored or purged before, by
/// position and mapped in turn.
#[test]
fn ten_thousand_crashes_leave_no_heap_of_segments() {
    const CRASHES: u32 = 10_000;
    /// A window of sixteen hours passes in so many of them.
    const WINDOW: u32 = 16 * 3;
    let mut choices = Random::new(seed("ten_thousand_crashes_leave_no_heap_of_segments"));
    let mut rig = Rig::new(false);
    let mut most = 0;
    for number in 0..CRASHES {
        // The ledger is read whole at every opening: two days of it are enough.
        let builder = on_memory(&rig.disk, &rig.clock).ledger_retention(hours(48));
        let store = open(builder, number / 8 % 2 == 0);
        let images = images(&store);
        match number % 8 {
            0 => put(&images, "key", &format!("value-{number}"), &["tag"]),
            1 => row(&access(&store), "row", &["tag"]),
            2 => drop(images.invalidate("key").unwrap()),
            3 => put(&images, &format!("key-{number}"), "value", &[]),
            4 => drop(images.fill("unfinished").memory_limit_bytes(1).into_writer().unwrap()),
            _ => {}
        }
        if number % 3 == 0 {
            store.sync().unwrap();
        }
        rig.clock.advance(minutes(20));
        if number % 5 < 2 {
            store.maintain().unwrap();
        }
        let disk = match choices.below(3) {
            0 => rig.disk.kill(),
            1 => rig.disk.crash(&mut |_: u32| 0),
            _ => rig.disk.crash(&mut choices.choices()),
        };
        drop(store);
        rig = rig.with(disk);
        most = most.max(files(&rig));
        // At most a segment and its sidecar for every opening that stored something, and three for each
        // bucket of the log, within the window.
        let bound = (2 * WINDOW / 4 + 3 * 17 + 40) as usize;
        assert!(files(&rig) < bound, "{} files after {number} crashes", files(&rig));
    }
    println!("at most {most} files");
    // Once nothing is stored any more, nothing is left.
    rig.clock.advance(hours(17));
    let store = rig.open();
    store.maintain().unwrap();
    assert!(rig.files(".seg").is_empty() && rig.files(".idx").is_empty());
    assert_sound(&store);
}

/// Crashes so close together that no window helps: those that leave nothing to keep leave no files, and
/// those that do are held to the capacity.
#[test]
fn crashes_one_after_the_other_are_held_to_the_capacity() {
    const CAPACITY: u64 = 256 * 1024;
    for mapped in MODES {
        for stores in [false, true] {
            let mut rig = Rig::new(mapped);
            let mut first = 0;
            for number in 0..500_u64 {
                let store = rig.open();
                let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
                let keyspace = store.keyspace("images", options.capacity_bytes(CAPACITY)).unwrap();
                if stores {
                    put(&keyspace, &format!("key-{number}"), &format!("value-{number}"), &[]);
                    let disk = rig.disk.kill();
                    drop(store);
                    rig = rig.with(disk);
                    let store = rig.look();
                    assert!(store.stats().keyspaces[0].used_bytes <= CAPACITY);
                    let newest = seen(&store, &format!("key-{number}"));
                    assert_eq!(newest, Some(format!("value-{number}")));
                } else {
                    put(&keyspace, "key", "value", &[]);
                    let disk = rig.disk.crash(&mut |_: u32| 0);
                    drop(store);
                    rig = rig.with(disk);
                    if number == 10 {
                        first = files(&rig);
                    }
                    assert!(number < 10 || files(&rig) <= first + 2, "crash {number}");
                }
            }
            assert!(files(&rig) < 100, "{} files", files(&rig));
        }
    }
}

/// The rest of the trash directory's life is in the hands of whoever opens next.
#[test]
fn a_bucket_that_a_power_cut_brings_back_from_the_trash_is_dropped_again() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "key", "value to be gone", &[]);
        store.sync().unwrap();
        let before = rig.kill();
        rig.clock.advance(hours(16));
        store.maintain().unwrap();
        assert!(!rig.on_disk(b"value to be gone"));
        // The directory entry is back with all of its bytes; STATE knows how late it is.
        let path = before.files(".seg").remove(0);
        let bytes = before.disk.read_file(&path).unwrap();
        let after = rig.kill();
        let bucket = path.parent().unwrap();
        after.disk.create_dir(bucket).unwrap();
        after.disk.write_file(&path, &bytes).unwrap();
        let clock = ebbtide::ManualClock::new(ebbtide::Timestamp::from_millis(0));
        clock.reboot(minutes(1));
        let after = Rig { clock, ..after };
        let store = after.open();
        assert_eq!(seen(&store, "key"), None);
        store.maintain().unwrap();
        assert!(!after.on_disk(b"value to be gone"));
        store.keyspace("images", options()).unwrap();
    });
}

/// The directories above a store are made with it, and are as durable as what is put into it.
#[test]
fn a_store_below_directories_that_were_missing_outlasts_a_power_cut() {
    for path in ["/srv/cache/images/data", "/srv/data", "/data"] {
        each_mode(|rig| {
            let open = |disk: &MemoryDisk| {
                open(quiet(Store::builder(path).disk(disk.clone()), &rig.clock), rig.mapped)
            };
            let store = open(&rig.disk);
            put(&images(&store), "key", "value", &[]);
            store.sync().unwrap();
            let store = open(&rig.cut(0).disk);
            assert_eq!(seen(&store, "key").as_deref(), Some("value"), "{path}");
        });
    }
}

/// Cutting off a torn end fails to become durable, and the next process on the same machine finds nothing
/// left to cut off: a power cut must not bring back what a scrub said is on the disk no more.
#[test]
fn a_torn_end_stays_cut_off_though_the_sync_of_the_cut_failed() {
    const TORN: &[u8] = b"never acknowledged as durable";
    let rig = Rig::new(false);
    let store = rig.open();
    put(&images(&store), "key", "durable", &[]);
    store.sync().unwrap();
    images(&store).insert("torn", TORN).unwrap();
    let torn = rig.kill();
    drop(store);
    let holds = |disk: &MemoryDisk, path: &PathBuf| {
        disk.read_file(path).is_ok_and(|bytes| bytes.windows(TORN.len()).any(|part| part == TORN))
    };
    let segment = torn.disk.all_files().into_iter().find(|path| holds(&torn.disk, path)).unwrap();
    let mut bytes = torn.disk.read_file(&segment).unwrap();
    let before_key = bytes.windows(4).rposition(|part| part == b"torn").unwrap() - 1;
    bytes[before_key] ^= 1;
    torn.disk.write_file(&segment, &bytes).unwrap();
    let mut cuts = 0;
    for call in 1..80 {
        let rig = torn.kill();
        let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
        disk.inject(call, Fault::SyncLost(ErrorKind::TimedOut));
        drop(quiet(Store::builder("/data").disk(disk), &rig.clock).open());
        cuts += u32::from(!holds(&rig.disk, &segment) && holds(&rig.cut(0).disk, &segment));
        let next = rig.kill();
        let store = next.open();
        store.scrub().unwrap();
        assert_eq!(seen(&store, "key").as_deref(), Some("durable"));
        assert_eq!(seen(&store, "torn"), None);
        assert!(!holds(&next.cut(0).disk, &segment), "call {call}");
    }
    assert!(cuts > 0, "no cut was lost");
}

/// A batch that a full disk refuses halfway leaves whole records behind the end of its segment, which are cut off as
/// that is sealed. One sync of the sealing is lost, whether what was stored before had been durable or not.
#[test]
fn what_a_refused_batch_left_stays_cut_off_and_stops_no_later_scrub() {
    const LEFT: &[u8] = b"refused halfway";
    for (mapped, is_durable) in
        MODES.into_iter().flat_map(|mapped| [(mapped, false), (mapped, true)])
    {
        let prepare = || {
            let rig = Rig::new(mapped);
            let (disk, store) = rig.open_faulty();
            let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(256 * 1024);
            let images = store.keyspace("images", options).unwrap();
            put(&images, "key", "stored", &[]);
            if is_durable {
                store.sync().unwrap();
            }
            rig.disk.set_capacity_bytes(Some(rig.disk.used_bytes() + 2 * 4096));
            let batch = (0..60).map(|number| (format!("refused-{number}"), LEFT.repeat(30)));
            assert!(matches!(images.insert_batch(batch), Err(Error::NoSpace { .. })));
            rig.disk.set_capacity_bytes(None);
            put(&images, "next", "in another segment", &[]);
            assert!(rig.on_disk(LEFT));
            (rig, disk, store)
        };
        let lost = Fault::SyncLost(ErrorKind::TimedOut);
        with_each_call_failing(lost, prepare, Store::sync, |rig, store, synced, call| {
            let what = format!("mapped: {mapped}, durable: {is_durable}, call {call}");
            if synced.is_ok() {
                let images = store.existing_keyspace("images").unwrap();
                images.invalidate("key").unwrap();
                assert!(store.scrub().is_ok(), "{what}");
            }
            if rig.on_disk(LEFT) {
                // It was not sealed: nobody has been told anything of that segment.
                return;
            }
            let next = rig.kill();
            let store = next.open();
            store.scrub().unwrap();
            assert!(!next.on_disk(LEFT) && !next.cut(0).on_disk(LEFT), "{what}");
        });
    }
}

/// A power cut leaves anything in the sector that a record ends in: by chance the last byte of it, but not the
/// zeros behind that.
#[test]
fn a_record_of_which_only_the_zeros_at_its_end_were_not_written_is_torn() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "key", "durable", &[]);
        row(&access(&store), "durable", &[]);
        store.sync().unwrap();
        put(&images(&store), "torn", "torn-value", &[]);
        row(&access(&store), "torn-rows", &[]);
        let rig = rig.kill();
        drop(store);
        let segments = rig.files(".seg");
        assert_eq!(segments.len(), 2);
        for (segment, last) in segments.iter().zip([b"torn-value".as_slice(), b"torn-rows"]) {
            rig.change(segment, |bytes| {
                let end =
                    bytes.windows(last.len()).rposition(|part| part == last).unwrap() + last.len();
                assert!(end % 8 > 0 && bytes[end] == 0, "there are such zeros");
                bytes[end] = 0xe7;
            });
        }
        let store = rig.open();
        assert_eq!(store.recovery_report().torn_tails, segments);
        rig.everywhere(&store, |store| {
            assert_sound(store);
            assert_eq!(seen(store, "key").as_deref(), Some("durable"));
            assert_eq!(seen(store, "torn"), None);
            assert_eq!(crate::rig::rows(&access(store)), ["durable"]);
        });
    });
}

/// A power cut has taken the beginning of the only record in its segment, and any call of the opening that
/// removes it fails.
#[test]
fn what_a_power_cut_has_torn_does_not_outlast_a_scrub() {
    const TORN: &[u8] = b"torn-value";
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "key", "torn-value", &[]);
        let rig = rig.kill();
        drop(store);
        rig.change(&rig.files(".seg")[0], |bytes| bytes[1024..1088].fill(0));
        let mut stayed = 0;
        rig.each_faulty_opening(REFUSED, |rig, store, call| {
            stayed += u32::from(rig.on_disk(TORN));
            if store.scrub().is_ok() {
                assert!(!rig.on_disk(TORN), "call {call}");
                assert!(!rig.cut(0).on_disk(TORN), "call {call}: it is back");
            }
        });
        assert!(stayed > 0, "no call removes it");
    });
}

/// It lies beside a segment that is whole, and the process that removed it ended before its scrub.
#[test]
fn what_an_earlier_process_removed_does_not_outlast_a_scrub() {
    const TORN: &[u8] = b"torn-value";
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "whole", "value", &[]);
        store.close().unwrap();
        drop(store);
        let store = rig.open();
        put(&images(&store), "key", "torn-value", &[]);
        let rig = rig.kill();
        drop(store);
        let torn = rig.files(".seg").into_iter().find(|path| rig.find(path, TORN).is_some());
        rig.change(&torn.unwrap(), |bytes| bytes[1024..1088].fill(0));
        for closes in [false, true] {
            let rig = rig.kill();
            let store = rig.open();
            if closes {
                store.close().unwrap();
            }
            let next = rig.kill();
            assert!(!next.on_disk(TORN) && next.cut(0).on_disk(TORN), "removed, not durably");
            next.open().scrub().unwrap();
            assert!(!next.cut(0).on_disk(TORN), "it is back, closed: {closes}");
        }
    });
}

/// A power cut while a sidecar was being written leaves anything in its file, which the next process has no
/// use for.
#[test]
fn a_sidecar_that_was_being_written_does_not_outlast_a_scrub() {
    const STALE: &[u8] = b"bytes of another file";
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "key", "value", &[]);
        row(&access(&store), "row", &[]);
        store.close().unwrap();
        drop(store);
        for segment in rig.files(".seg") {
            rig.disk.write_file(&segment.with_extension("tmp"), STALE).unwrap();
        }
        assert!(rig.on_disk(STALE));
        let store = rig.open();
        store.scrub().unwrap();
        assert!(!rig.on_disk(STALE));
        assert!(!rig.cut(0).on_disk(STALE), "it is back");
        assert_eq!(seen(&store, "key").as_deref(), Some("value"));
    });
}
