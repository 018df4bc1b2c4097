//! A disk without room: inserts are refused, and everything that forgets goes on.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{Disk, EntryKind, Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Error, Fill, FillWriter, Keyspace, KeyspaceOptions, ManualClock, Outcome, Reason, Retention,
    Store,
};

use fixture::{MODES, Random, clock, hours, on_memory, open, quiet, seed, value_of};

const SEGMENT: u64 = 8192;

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(SEGMENT);
    store.keyspace("images", options).unwrap()
}

fn limited(store: &Store, capacity: u64) -> Keyspace {
    let options =
        KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096).capacity_bytes(capacity);
    store.keyspace("images", options).unwrap()
}

/// Inserts until the disk is full; gives how many went in.
fn fill_up(images: &Keyspace) -> u64 {
    for number in 0.. {
        match images.insert(format!("key-{number}"), value_of(number, 0, 900)) {
            Ok(()) => {}
            Err(Error::NoSpace { .. }) => return number,
            Err(other) => panic!("{other}"),
        }
    }
    0
}

/// A store with 64 KiB to spare that has just become full, and its number of keys.
fn full_store(mapped: bool) -> (MemoryDisk, ManualClock, Store, u64) {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), mapped);
    let images = images(&store);
    images.insert("first", b"value").unwrap();
    store.sync().unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes() + 64 * 1024));
    let count = fill_up(&images);
    assert!(count > 40, "{count}");
    (disk, clock, store, count)
}

#[test]
fn inserts_are_refused_and_the_rest_goes_on() {
    for mapped in MODES {
        let (disk, clock, store, count) = full_store(mapped);
        let images = images(&store);
        for number in 0..count {
            let value = images.get(format!("key-{number}")).unwrap().unwrap();
            assert_eq!(value.as_ref(), value_of(number, 0, 900));
        }
        images.invalidate("key-0").unwrap();
        assert!(images.get("key-0").unwrap().is_none());
        assert!(matches!(images.insert("big", vec![1; 9000]), Err(Error::NoSpace { .. })));
        clock.advance(hours(17));
        assert!(images.get("key-1").unwrap().is_none());
        store.maintain().unwrap();
        assert!(store.stats().poisoned.is_none());
        images.insert("big", vec![1; 9000]).unwrap();
        assert_eq!(images.get("big").unwrap().unwrap().len(), 9000);
        store.close().unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        assert!(store.existing_keyspace("images").unwrap().contains("big").unwrap());
        assert!(store.verify().unwrap().problems.is_empty());
    }
}

#[test]
fn a_thousand_invalidations_on_a_full_disk_hold() {
    for mapped in MODES {
        let mut choices = Random::new(seed("a_thousand_invalidations_on_a_full_disk_hold"));
        let (mut disk, clock, store, count) = full_store(mapped);
        disk.set_capacity_bytes(Some(disk.used_bytes()));
        let images = images(&store);
        let mut widened = 0;
        for number in 0..1000 {
            let receipt = images.invalidate(format!("key-{}", number % count.max(1))).unwrap();
            widened += u32::from(receipt.widened());
            assert!(images.get(format!("key-{}", number % count)).unwrap().is_none());
        }
        println!("{widened} of 1000 widened");
        for _ in 0..5 {
            let crashed =
                disk.fork().crash(&mut |options: u32| choices.below(options.into()) as u32);
            let store = open(on_memory(&crashed, &clock), mapped);
            let images = store.existing_keyspace("images").unwrap();
            for number in 0..count.min(1000) {
                assert!(images.get(format!("key-{number}")).unwrap().is_none(), "key-{number}");
            }
            assert!(store.recovery_report().corrupt_records.is_empty());
        }
        disk = disk.crash(&mut |options: u32| choices.below(options.into()) as u32);
        disk.set_capacity_bytes(None);
        let store = open(on_memory(&disk, &clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        for number in 0..count {
            assert!(images.get(format!("key-{number}")).unwrap().is_none());
        }
        images.insert("key-0", b"again").unwrap();
        assert_eq!(images.get("key-0").unwrap().unwrap().as_ref(), b"again");
        store.maintain().unwrap();
        store.close().unwrap();
    }
}

/// A batch that was refused halfway leaves whole records behind: none of them may come back over
/// what was stored after it.
#[test]
fn what_a_refused_batch_left_behind_does_not_win() {
    for mapped in MODES {
        for spare_blocks in 1..6 {
            let (disk, clock) = (MemoryDisk::new(1), clock());
            let store = open(on_memory(&disk, &clock), mapped);
            let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(256 * 1024);
            let images = store.keyspace("images", options).unwrap();
            images.insert("zz", b"opens the segment").unwrap();
            disk.set_capacity_bytes(Some(disk.used_bytes() + spare_blocks * 4096));
            let batch = (0..60).map(|number| (format!("k{number:02}"), vec![1_u8; 500]));
            assert!(matches!(images.insert_batch(batch), Err(Error::NoSpace { .. })));
            disk.set_capacity_bytes(None);
            // Of the same length as the first of the batch, for a key that came second.
            images.insert("k01", vec![2_u8; 500]).unwrap();
            let disk = disk.kill();
            drop(store);
            let store = open(on_memory(&disk, &clock), mapped);
            let images = store.existing_keyspace("images").unwrap();
            assert_eq!(images.get("k01").unwrap().unwrap().as_ref(), vec![2_u8; 500]);
        }
    }
}

/// Whole blocks of the files below a directory.
fn blocks(disk: &MemoryDisk, dir: &Path) -> u64 {
    let entries = disk.read_dir(dir).unwrap_or_default();
    entries
        .iter()
        .map(|entry| match entry.kind {
            EntryKind::Directory => blocks(disk, &dir.join(&entry.name)),
            _ => (disk.read_file(&dir.join(&entry.name)).unwrap().len() as u64)
                .next_multiple_of(4096),
        })
        .sum()
}

/// What the keyspace takes: its buckets and all of the trash, which is all its own here.
fn taken(disk: &MemoryDisk) -> u64 {
    let keyspace = Path::new("/data/keyspaces/images");
    let buckets = disk.read_dir(keyspace).unwrap();
    let buckets = buckets.iter().filter(|entry| entry.kind == EntryKind::Directory);
    buckets.map(|entry| blocks(disk, &keyspace.join(&entry.name))).sum::<u64>()
        + blocks(disk, Path::new("/data/trash"))
}

#[test]
fn the_capacity_holds_at_every_step() {
    let mut choices = Random::new(seed("the_capacity_holds_at_every_step"));
    for mapped in MODES {
        for capacity in [64 * 1024, 100_000, 300_000] {
            let (disk, clock) = (MemoryDisk::new(1), clock());
            let store = open(on_memory(&disk, &clock), mapped);
            let images = limited(&store, capacity);
            let mut held = Vec::new();
            for step in 0..400 {
                let number = choices.below(200);
                match choices.below(20) {
                    0 => store.sync().unwrap(),
                    1 => store.maintain().unwrap(),
                    2 => drop(images.invalidate(format!("key-{number}")).unwrap()),
                    3 => held.clear(),
                    4 => held.extend(images.get(format!("key-{number}")).unwrap()),
                    5 => clock.advance(fixture::minutes(20)),
                    6 => {
                        let batch = (0..10).map(|n| (format!("key-{n}"), value_of(n, step, 300)));
                        // Values held may pin what would have to go.
                        let _ = images.insert_batch(batch);
                    }
                    _ => {
                        let value =
                            value_of(number, step, if choices.once_in(9) { 9000 } else { 700 });
                        match images.insert(format!("key-{number}"), value) {
                            Err(Error::CapacityExceeded { .. }) => held.clear(),
                            stored => stored.unwrap(),
                        }
                    }
                }
                let taken = taken(&disk);
                assert!(taken <= capacity, "step {step}: {taken} of {capacity}");
                assert!(taken <= store.stats().keyspaces[0].used_bytes, "step {step}");
            }
            assert!(store.stats().segments_evicted > 0);
        }
    }
}

/// Small records with many tags, whose sidecars take as much as they do, behind large ones, and beside
/// values that are put down in pieces.
#[test]
fn the_capacity_holds_whatever_is_written_side_by_side() {
    const CAPACITY: u64 = 1 << 20;
    let mut choices = Random::new(seed("the_capacity_holds_whatever_is_written_side_by_side"));
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(CAPACITY / 16);
        let images = store.keyspace("images", options.capacity_bytes(CAPACITY)).unwrap();
        let mut writer: Option<FillWriter> = None;
        for step in 0..10_000 {
            match (choices.below(150), &mut writer) {
                (0, _) => {
                    let value = value_of(step, 0, CAPACITY / 16);
                    images.insert(format!("key-{step}"), value).unwrap();
                }
                (1, None) => {
                    let fill = images.fill(format!("key-{step}")).memory_limit_bytes(0);
                    writer = Some(fill.into_writer().unwrap());
                }
                (1, full) if choices.once_in(4) => drop(full.take().unwrap().commit().unwrap()),
                (1..4, Some(writer)) => writer.write_all(&value_of(step, 0, 20_000)).unwrap(),
                _ => {
                    let tagged = |fill: Fill, tag| fill.tag(format!("{step}-{tag}"));
                    let fill = (0..16).fold(images.fill(step.to_string()), tagged);
                    assert_eq!(fill.commit(b"v").unwrap(), Outcome::Stored);
                }
            }
            let (taken, used) = (taken(&disk), store.stats().keyspaces[0].used_bytes);
            assert!(taken <= used && used <= CAPACITY, "step {step}: {taken}, {used} used");
        }
        assert!(store.stats().segments_evicted > 0);
    }
}

/// Sidecars that have lost their segment.
fn lone_sidecars(disk: &MemoryDisk) -> Vec<PathBuf> {
    let files = disk.all_files();
    let is_sidecar = |path: &&PathBuf| path.extension().is_some_and(|is| is == "idx");
    let is_alone = |path: &&PathBuf| !files.contains(&path.with_extension("seg"));
    files.iter().filter(is_sidecar).filter(is_alone).cloned().collect()
}

/// As a power cut leaves it that undoes the removal of a sidecar, and not that of its segment.
#[test]
fn a_sidecar_that_has_lost_its_segment_goes_with_the_next_opening() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = limited(&store, 100_000);
        for number in 0..10 {
            images.insert(format!("key-{number}"), value_of(number, 0, 3000)).unwrap();
        }
        store.close().unwrap();
        let files = disk.all_files();
        let segment = files.iter().find(|path| path.extension().is_some_and(|is| is == "seg"));
        disk.remove_file(segment.unwrap()).unwrap();
        assert_eq!(lone_sidecars(&disk), [segment.unwrap().with_extension("idx")]);
        let store = open(on_memory(&disk, &clock), mapped);
        assert_eq!(lone_sidecars(&disk), Vec::<PathBuf>::new());
        store.close().unwrap();
    }
}

#[test]
fn a_segment_that_is_evicted_while_it_is_sealed_leaves_no_sidecar() {
    for mapped in MODES {
        let mut calls = 0;
        for call in 0.. {
            let (disk, clock) = (MemoryDisk::new(1), clock());
            let faulty = FaultyDisk::new(Arc::new(disk.clone()));
            let store = open(quiet(Store::builder("/data").disk(faulty.clone()), &clock), mapped);
            let images = limited(&store, 64 * 1024);
            for number in 0..8 {
                images.insert(format!("key-{number}"), value_of(number, 0, 3000)).unwrap();
            }
            let (first, other) = (faulty.calls() + 1, images.clone());
            faulty.interrupt(first + call, move || {
                for number in 0..20 {
                    other.insert(format!("more-{number}"), value_of(number, 1, 3000)).unwrap();
                }
            });
            store.sync().unwrap();
            if faulty.calls() < first + call {
                break;
            }
            assert_eq!(lone_sidecars(&disk), Vec::<PathBuf>::new(), "call {call}");
            assert!(taken(&disk) <= 64 * 1024, "call {call}");
            calls = call;
        }
        assert!(calls > 10, "{calls}");
    }
}

/// Whatever looks at all segments holds one at a time: what is evicted beside it frees its space, and
/// nothing more has to go.
#[test]
fn nothing_is_evicted_in_vain_beside_what_looks_at_all_segments() {
    const CAPACITY: u64 = 16 << 16;
    type Look = fn(&Store, &Keyspace);
    let looks: [(&str, Look); 4] = [
        ("scrub", |store, _| store.scrub().unwrap()),
        ("tag", |_, images| drop(images.list_tag("all").unwrap())),
        ("verify", |store, _| drop(store.verify().unwrap())),
        ("explain", |_, images| {
            assert_eq!(images.explain("nothing").unwrap().reason, Reason::Absent)
        }),
    ];
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let cache = |store: &Store| {
        let options = KeyspaceOptions::new(Retention::hours(16)).capacity_bytes(CAPACITY);
        store.keyspace("images", options.segment_bytes(CAPACITY / 16)).unwrap()
    };
    let builder = |disk| quiet(Store::builder("/data").disk(disk), &clock);
    let store = open(builder(FaultyDisk::new(Arc::new(disk.clone()))), false);
    let images = cache(&store);
    for number in 0..400 {
        let fill = images.fill(number.to_string()).tag("all");
        assert_eq!(fill.commit(value_of(number, 0, 9000)).unwrap(), Outcome::Stored);
    }
    for number in (0..400).step_by(9) {
        images.invalidate(number.to_string()).unwrap();
    }
    store.close().unwrap();
    for mapped in MODES {
        for (name, look) in looks {
            let mut calls = 0;
            for call in 1.. {
                let copy = disk.fork();
                let faulty = FaultyDisk::new(Arc::new(copy.clone()));
                let store = open(builder(faulty.clone()), mapped);
                let images = cache(&store);
                let (first, other) = (faulty.calls(), images.clone());
                faulty.interrupt(first + call, move || {
                    for number in 0..20 {
                        other.insert(format!("more-{number}"), value_of(number, 1, 9000)).unwrap();
                    }
                });
                look(&store, &images);
                let stats = store.stats();
                if first + call > faulty.calls() {
                    break;
                }
                assert!((1..4).contains(&stats.segments_evicted), "{name}, call {call}: {stats:?}");
                assert_eq!(store.verify().unwrap().problems, [], "{name}, call {call}");
                assert_eq!(lone_sidecars(&copy), Vec::<PathBuf>::new(), "{name}, call {call}");
                calls = call;
            }
            println!("{name}, mapped: {mapped}: {calls} calls");
            assert!(calls > 10);
        }
    }
}

/// A reading process has not opened the file of a segment yet when the writing one evicts it.
#[test]
fn what_another_process_has_evicted_is_a_miss() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let images = limited(&store, 100_000);
    for number in 0..30 {
        images.insert(format!("key-{number}"), value_of(number, 0, 1500)).unwrap();
    }
    store.sync().unwrap();
    let reading = on_memory(&disk, &clock).open_read_only().unwrap();
    let seen = reading.existing_keyspace("images").unwrap();
    for number in 0..30 {
        images.insert(format!("more-{number}"), value_of(number, 1, 1500)).unwrap();
    }
    for number in 0..30 {
        let key = format!("key-{number}");
        assert_eq!(seen.get(&key).unwrap().is_some(), images.contains(&key).unwrap(), "{key}");
        seen.explain(&key).unwrap();
    }
    assert!(seen.iter().all(|entry| entry.is_ok()));
}

#[test]
fn the_oldest_go_first_and_a_smaller_capacity_is_reached_while_serving() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = limited(&store, 400_000);
        for number in 0..150 {
            images.insert(format!("key-{number}"), value_of(number, 0, 1500)).unwrap();
        }
        store.close().unwrap();
        let before = taken(&disk);
        let store = open(on_memory(&disk, &clock), mapped);
        let images = limited(&store, 100_000);
        assert_eq!(images.get("key-149").unwrap().unwrap().as_ref(), value_of(149, 0, 1500));
        store.maintain().unwrap();
        let after = taken(&disk);
        assert!(after <= 100_000 && after < before, "{before} to {after}");
        let kept: Vec<u64> =
            (0..150).filter(|number| images.contains(format!("key-{number}")).unwrap()).collect();
        assert!(kept.len() > 10, "{kept:?}");
        assert_eq!(kept, (150 - kept.len() as u64..150).collect::<Vec<_>>(), "the newest are kept");
        images.insert("new", b"value").unwrap();
        assert!(images.contains("new").unwrap());
    }
}

/// Nothing has been synced yet when the oldest segment has to go, and one call fails meanwhile: what is
/// not evicted after all is made durable by the next sync like everything else.
#[test]
fn an_eviction_that_fails_is_made_up_for() {
    for fault in [Fault::Error(ErrorKind::TimedOut), Fault::ErrorAfter(ErrorKind::TimedOut)] {
        for call in 1.. {
            let (memory, clock) = (MemoryDisk::new(call), clock());
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let builder = quiet(Store::builder("/data").disk(disk.clone()), &clock);
            let store = open(builder, call % 2 == 0);
            let images = limited(&store, 64 * 1024);
            let insert = |number: u64| images.insert(format!("key-{number}"), vec![7; 900]);
            (0..12).for_each(|number| insert(number).unwrap());
            assert_eq!(store.stats().segments_evicted, 0);
            let reached = disk.calls() + call;
            disk.inject(reached, fault);
            let failed = (12..28).find_map(|number| insert(number).err().map(|e| (number, e)));
            let is_over = disk.calls() < reached;
            disk.clear();
            let what = format!("{fault:?} at call {call}, {failed:?}");
            let failed = failed.map(|(number, _)| number);
            assert_durable(&store, &memory, failed, &what);
            for number in 28..48 {
                insert(number).unwrap_or_else(|e| panic!("{what}: {e}"));
            }
            assert!(store.stats().segments_evicted > 3, "{what}");
            assert_durable(&store, &memory, failed, &what);
            assert!(images.contains("key-47").unwrap(), "{what}");
            if is_over {
                break;
            }
        }
    }
}

/// After a sync, a power cut takes nothing away, and brings back nothing but what may not have failed.
#[track_caller]
fn assert_durable(store: &Store, disk: &MemoryDisk, failed: Option<u64>, what: &str) {
    let kept = |store: &Store| -> Vec<u64> {
        let images = store.existing_keyspace("images").unwrap();
        (0..48).filter(|number| images.contains(format!("key-{number}")).unwrap()).collect()
    };
    store.sync().unwrap_or_else(|e| panic!("{what}: {e}"));
    let synced = kept(store);
    assert!(synced.len() > 8, "{what}: {synced:?}");
    let cut = disk.fork().crash(&mut |_: u32| 0);
    let mut left = kept(&open(on_memory(&cut, &clock()), false));
    left.retain(|number| failed != Some(*number) || synced.contains(number));
    assert_eq!(left, synced, "{what}");
}
