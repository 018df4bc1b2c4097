//! Erasing beside readers, and between a version and the one that replaces it.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ebbtide::disk::Fault;
use ebbtide::{Level, Store, Value};

use crate::fixture::{MODES, hours, minutes};
use crate::rig::{
    Rig, access, assert_sound, each_mode, images, put, row, seen, stopped_at_each_call,
};

/// A value that shows its version in each of its bytes.
fn value(version: u64) -> String {
    format!("<{version:06}>").repeat(50)
}

fn get(store: &Store, key: &str) -> Value {
    images(store).get(key).unwrap().unwrap()
}

/// Each growth of the durable part and each scrub gives readers another handle: it is the oldest that
/// has to be waited for, not the newest.
#[test]
fn scrubbing_waits_for_the_reader_of_a_handle_before_the_newest() {
    for scrub_between in [false, true] {
        let rig = Rig::new(true);
        let store = rig.open();
        put(&images(&store), "first", &value(1), &["a"]);
        put(&images(&store), "second", &value(2), &["b"]);
        store.sync().unwrap();
        let oldest = get(&store, "first");
        if scrub_between {
            images(&store).invalidate("second").unwrap();
            store.scrub().unwrap();
        } else {
            put(&images(&store), "third", &value(3), &[]);
            store.sync().unwrap();
        }
        put(&images(&store), "fourth", &value(4), &[]);
        store.sync().unwrap();
        let newest = get(&store, "fourth");
        let receipt = images(&store).invalidate("first").unwrap();
        store.scrub().unwrap();
        assert!(receipt.pinned());
        drop(newest);
        for _ in 0..3 {
            // Whoever comes now takes a newer handle, and lets go of it again.
            drop(get(&store, "fourth"));
            store.scrub().unwrap();
            assert_eq!(oldest.as_ref(), value(1).as_bytes());
            assert_eq!(receipt.level(), Level::Hidden);
            assert!(receipt.pinned() && rig.on_disk(value(1).as_bytes()));
        }
        // A part of it is enough.
        let part = oldest.bytes().slice(7..9);
        drop(oldest);
        store.scrub().unwrap();
        assert_eq!((&part[..], receipt.level()), (&value(1).as_bytes()[7..9], Level::Hidden));
        drop(part);
        store.scrub().unwrap();
        assert_eq!(receipt.level(), Level::Scrubbed);
        assert!(!rig.on_disk(value(1).as_bytes()));
        assert_eq!(get(&store, "fourth").as_ref(), value(4).as_bytes());
        assert_sound(&store);
    }
}

/// An iterator and scans have found the places of records, and come to read them when they have been erased.
#[test]
fn a_reader_that_found_its_place_before_the_scrub_finds_nothing_after() {
    each_mode(|rig| {
        let store = rig.open();
        let (images, access) = (images(&store), access(&store));
        for number in 0..200 {
            put(&images, &format!("key-{number}"), &value(number), &["old"]);
            row(&access, &value(number), &["old"]);
        }
        store.sync().unwrap();
        let mut iter = images.iter();
        // All rows have the same time, so the scan has them in hand after the first, and holds them.
        let (begun, mut under_way) = (access.scan(..).unwrap(), access.scan(..).unwrap());
        assert!(iter.next().is_some() && under_way.next().is_some());
        images.invalidate_tag("old").unwrap();
        access.invalidate_tag("old").unwrap();
        store.scrub().unwrap();
        assert!(!rig.on_disk(format!("key-{}", 7).as_bytes()), "no record is held");
        assert_eq!((iter.count(), begun.count(), under_way.count()), (0, 0, 0));
        store.scrub().unwrap();
        assert!(!rig.on_disk(value(7).as_bytes()));
        assert_sound(&store);
    });
}

/// The same for places that another record has taken over since.
#[test]
fn a_reader_that_found_its_place_before_it_was_replaced_gets_one_version_whole() {
    each_mode(|rig| {
        let store = rig.open();
        let images = images(&store);
        // Versions of different lengths, since an iterator shows no more of them.
        let of = |version: u64| value(version) + &"!".repeat(version as usize);
        let put_all = |version: u64| {
            for number in 0..100 {
                put(&images, &format!("key-{number}"), &of(version), &[]);
            }
            store.sync().unwrap();
        };
        put_all(1);
        let mut iter = images.iter();
        let first = iter.next().unwrap().unwrap();
        put_all(2);
        store.scrub().unwrap();
        let found: Vec<_> = iter.map(Result::unwrap).collect();
        assert!(found.len() > 50, "what is not come to yet is met");
        assert_eq!(first.stat().value_len(), of(1).len() as u64);
        for entry in &found {
            assert_eq!(entry.stat().value_len(), of(2).len() as u64);
            assert_eq!(images.get(entry.key()).unwrap().unwrap().as_ref(), of(2).as_bytes());
        }
        // Entries have bytes of their own, and hold nothing back.
        assert!(!rig.on_disk(value(1).as_bytes()));
        assert_sound(&store);
    });
}

/// Readers at work all the time, while versions are replaced, erased and invalidated: every value is
/// whole and not older than it may be, and nothing is taken for damage.
#[test]
fn a_scrub_beside_readers_is_not_taken_for_corruption() {
    const KEYS: u64 = 4;
    const ROUNDS: u64 = 150;
    each_mode(|rig| {
        let store = rig.open();
        let (images, access) = (images(&store), access(&store));
        let oldest: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let done = AtomicBool::new(false);
        let reads = [AtomicU64::new(0), AtomicU64::new(0)];
        let version_of = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).unwrap();
            let version: u64 = text[1..7].parse().unwrap();
            assert_eq!(text, value(version), "not whole");
            version
        };
        std::thread::scope(|scope| {
            let start = |reader: usize| {
                let (images, access, done, oldest) = (&images, &access, &done, &oldest);
                let reads = &reads[reader];
                scope.spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        for (key, oldest) in (0..KEYS).zip(oldest) {
                            let oldest = oldest.load(Ordering::SeqCst);
                            let name = format!("key-{key}");
                            let read = match reader {
                                0 => images.get(&name).unwrap(),
                                _ => images.get_many([&name]).unwrap().pop().unwrap(),
                            };
                            if let Some(read) = read {
                                assert!(version_of(&read) >= oldest, "{name} is an old one");
                            }
                        }
                        for row in access.scan(..).unwrap() {
                            version_of(row.unwrap().payload());
                        }
                        images.iter().for_each(|entry| drop(entry.unwrap()));
                        reads.fetch_add(1, Ordering::SeqCst);
                    }
                })
            };
            let readers = [start(0), start(1)];
            for round in 1..=ROUNDS {
                for (key, oldest) in (0..KEYS).zip(&oldest) {
                    put(&images, &format!("key-{key}"), &value(round), &["tag"]);
                    oldest.store(round, Ordering::SeqCst);
                    row(&access, &value(round), &["tag"]);
                }
                if round % 5 == 0 {
                    images.invalidate_tag("tag").unwrap();
                    access.invalidate_tag("tag").unwrap();
                    oldest.iter().for_each(|oldest| oldest.store(round + 1, Ordering::SeqCst));
                }
                store.scrub().unwrap();
                if round % 10 == 0 {
                    // Let both readers come this far.
                    for (reader, reads) in readers.iter().zip(&reads) {
                        let before = reads.load(Ordering::SeqCst);
                        while reads.load(Ordering::SeqCst) == before && !reader.is_finished() {
                            std::thread::yield_now();
                        }
                    }
                }
                if round % 40 == 0 {
                    rig.clock.advance(hours(1));
                    store.maintain().unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        assert_eq!(store.stats().corrupt_reads, 0);
        assert_sound(&store);
        assert!(store.stats().scrubbed_records > ROUNDS * KEYS);
    });
}

/// Not even a version that is being scrubbed when the power goes is lost, unless what replaced it is
/// there.
#[test]
fn a_power_cut_while_a_replaced_version_is_scrubbed_leaves_one_of_the_two() {
    for mapped in MODES {
        stopped_at_each_call(
            || {
                let rig = Rig::new(mapped);
                let (disk, store) = rig.open_faulty();
                put(&images(&store), "key", &value(1), &[]);
                store.sync().unwrap();
                rig.clock.advance(minutes(10));
                put(&images(&store), "key", &value(2), &[]);
                (rig, disk, store)
            },
            |store| drop(store.scrub()),
            |rig, what| {
                let store = rig.open();
                let found = seen(&store, "key");
                let is_one = [value(1), value(2)].into_iter().any(|one| found == Some(one));
                assert!(is_one, "{what}: {found:?}");
                assert!(store.recovery_report().corrupt_records.is_empty(), "{what}");
            },
        );
    }
}

/// A process ends at any call while it erases what a tag hides, and to the next one any call of its scrub is
/// refused: of what was given up, a walk past a sidecar that could not be read tells no tags.
#[test]
fn what_was_given_up_is_erased_though_its_sidecar_cannot_be_read() {
    each_mode(|rig| {
        let store = rig.open();
        put(&images(&store), "key", &value(1), &["a"]);
        store.close().unwrap();
        drop(store);
        let (_disk, store) = rig.open_faulty();
        images(&store).invalidate_tag("a").unwrap();
        drop(store);
        let rig = rig.kill();
        // Whether the scrub was done, and whether it came to the call that fails.
        let scrub = |rig: &Rig, at: u64, fault: Fault| {
            let (disk, store) = rig.open_faulty();
            let at = disk.calls() + at;
            disk.inject(at, fault);
            let done = store.scrub().is_ok();
            (done, disk.calls() >= at)
        };
        let (mut given_up, mut refused) = (0, 0);
        for end in 1.. {
            let stopped = rig.kill();
            let (_, is_stopped) = scrub(&stopped, end, Fault::ErrorsFrom(ErrorKind::Other));
            given_up += u32::from(is_stopped && stopped.on_disk(value(1).as_bytes()));
            for call in 1.. {
                let next = stopped.kill();
                let (done, is_met) = scrub(&next, call, Fault::Error(ErrorKind::StorageFull));
                let what = format!("stopped at {end}, refused at {call}");
                assert!(!done || !next.on_disk(value(1).as_bytes()), "{what}");
                refused += u32::from(!done);
                if !is_met {
                    break;
                }
            }
            if !is_stopped {
                break;
            }
        }
        assert!(given_up > 1 && refused > 1, "{given_up} {refused}");
    });
}
