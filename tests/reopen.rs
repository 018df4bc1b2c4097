//! What a close leaves for the next open, and what an open does without it.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{Disk, Fault, FaultyDisk, MemoryDisk};
use ebbtide::{Keyspace, KeyspaceOptions, ManualClock, Retention, Store};
use fixture::{MODES, Random, clock, files_of, hours, on_memory, open, quiet, seed};

const INDEX: &str = "/data/keyspaces/images/INDEX";
/// Where the first record of a segment starts.
const SEGMENT_HEADER_LEN: usize = 1024;
const DAY_KEYS: u64 = 50;

fn images(store: &Store) -> Keyspace {
    store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap()
}

fn key(day: u64, number: u64) -> String {
    format!("{day}/{number}")
}

/// Fills so many days, a segment each, and closes the store.
fn closed(disk: &MemoryDisk, clock: &ManualClock, mapped: bool, days: u64) {
    let store = open(on_memory(disk, clock), mapped);
    let images = images(&store);
    for day in 0..days {
        for number in 0..DAY_KEYS {
            images.insert(key(day, number), key(day, number)).unwrap();
        }
        clock.advance(hours(24));
    }
    store.close().unwrap();
}

/// How many keys of a day are served, each with its own value.
fn served(images: &Keyspace, day: u64) -> u64 {
    let of = |number: u64| {
        let value = images.get(key(day, number)).unwrap();
        value.inspect(|value| assert_eq!(value[..], *key(day, number).as_bytes())).is_some()
    };
    (0..DAY_KEYS).map(|number| u64::from(of(number))).sum()
}

fn segments(disk: &MemoryDisk, extension: &str) -> Vec<PathBuf> {
    let is_one = |path: &Path| path.extension().is_some_and(|found| found == extension);
    files_of(disk).into_iter().map(|(path, _)| path).filter(|path| is_one(path)).collect()
}

/// Makes every sidecar unreadable, and the first record behind the header of every segment.
fn damage(disk: &MemoryDisk) {
    for path in segments(disk, "idx").into_iter().chain(segments(disk, "seg")) {
        let mut bytes = disk.read_file(&path).unwrap();
        let from =
            if path.extension().is_some_and(|e| e == "idx") { 0 } else { SEGMENT_HEADER_LEN };
        bytes[from..from + 32].fill(0xee);
        disk.write_file(&path, &bytes).unwrap();
    }
}

#[test]
fn after_a_close_the_index_is_taken_up_and_no_record_or_sidecar_is_read() {
    for mapped in MODES {
        for with_index in [true, false] {
            let (disk, clock) = (MemoryDisk::new(1), clock());
            closed(&disk, &clock, mapped, 3);
            damage(&disk);
            if !with_index {
                disk.remove_file(Path::new(INDEX)).unwrap();
            }
            let store = open(on_memory(&disk, &clock), mapped);
            let images = images(&store);
            let found: Vec<u64> = (0..3).map(|day| served(&images, day)).collect();
            // Without it the damage is met, and what it may have hidden is not served.
            let expected = if with_index { [DAY_KEYS - 1; 3] } else { [0; 3] };
            assert_eq!(found, expected, "mapped {mapped}, INDEX {with_index}");
        }
    }
}

/// Where the places of an index begin, and how long each is.
const PLACES: usize = 80;
const PLACE_LEN: usize = 88;

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Changes a word of an index, and makes its checksums right again.
fn forge(disk: &MemoryDisk, at: usize, value: u64) {
    let mut bytes = disk.read_file(Path::new(INDEX)).unwrap();
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let groups = word(&bytes, 64).div_ceil(64) as usize;
    let content = PLACES + PLACE_LEN * 3..PLACES + PLACE_LEN * 3 + 16 * groups;
    let hash = xxhash_rust::xxh3::xxh3_64(&bytes[PLACES..content.end]);
    bytes[72..80].copy_from_slice(&hash.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[16..PLACES]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    disk.write_file(Path::new(INDEX), &bytes).unwrap();
}

/// What an index says of its segments cannot be so, under right checksums: it is passed over, and made
/// anew from what is there.
#[test]
fn an_index_that_says_what_cannot_be_is_not_taken_up() {
    let (closed_disk, clock) = (MemoryDisk::new(1), clock());
    closed(&closed_disk, &clock, false, 3);
    let bytes = closed_disk.read_file(Path::new(INDEX)).unwrap();
    assert_eq!(word(&bytes, 56), 3, "a place for each segment");
    let second = PLACES + PLACE_LEN;
    let records = word(&bytes, second + 40);
    assert_eq!(records, DAY_KEYS);
    let forged = [
        ("nothing", 0, word(&bytes, 0)),
        ("another owner", 32, 1),
        ("an ordinal too high", 48, u64::from(u32::MAX)),
        ("length", second + 8, 1 << 40),
        ("salt", second + 16, 1),
        ("records", second + 40, 1 << 30),
        ("live records", second + 48, records + 1),
        ("tags", second + 56, 1 << 40),
        ("scrubbed records", second + 64, records + 1),
        ("holes", second + 72, 1 << 40),
        ("length of a sidecar", second + 80, 1 << 40),
    ];
    for mapped in MODES {
        for (what, at, value) in forged {
            let disk = closed_disk.fork();
            forge(&disk, at, value);
            let store = open(on_memory(&disk, &clock), mapped);
            let found: Vec<u64> = (0..3).map(|day| served(&images(&store), day)).collect();
            assert_eq!(found, [DAY_KEYS; 3], "{what}");
            drop(store);
            // Where nothing but the index tells where records are, it shows whether it was believed.
            let disk = closed_disk.fork();
            forge(&disk, at, value);
            damage(&disk);
            let store = open(on_memory(&disk, &clock), mapped);
            let found: Vec<u64> = (0..3).map(|day| served(&images(&store), day)).collect();
            let expected = if what == "nothing" { [DAY_KEYS - 1; 3] } else { [0; 3] };
            assert_eq!(found, expected, "{what}");
        }
    }
}

/// The index of a close before the last one means nothing, to the next open and to who looks.
#[test]
fn an_index_of_an_earlier_close_means_nothing() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        closed(&disk, &clock, mapped, 1);
        let earlier = disk.read_file(Path::new(INDEX)).unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        images(&store).insert(key(0, 0), b"newer").unwrap();
        images(&store).invalidate(key(0, 1)).unwrap();
        store.close().unwrap();
        disk.write_file(Path::new(INDEX), &earlier).unwrap();
        let looking = on_memory(&disk, &clock).open_read_only().unwrap();
        assert_eq!(looking.verify().unwrap().problems, []);
        for store in [looking, open(on_memory(&disk, &clock), mapped)] {
            let images = store.existing_keyspace("images").unwrap();
            assert_eq!(images.get(key(0, 0)).unwrap().as_deref(), Some(&b"newer"[..]));
            assert!(!images.contains(key(0, 1)).unwrap());
            assert!((2..DAY_KEYS).all(|number| images.contains(key(0, number)).unwrap()));
        }
    }
}

#[test]
fn buckets_that_expired_meanwhile_do_not_keep_the_index_from_being_taken_up() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        closed(&disk, &clock, mapped, 3);
        damage(&disk);
        clock.advance(hours(24 * 28));
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        let found: Vec<u64> = (0..3).map(|day| served(&images, day)).collect();
        assert_eq!(found, [0, 0, DAY_KEYS - 1], "mapped {mapped}");
        assert_eq!(store.stats().keyspaces[0].keys, DAY_KEYS, "mapped {mapped}");
    }
}

/// Its key was invalidated before it was inserted, while a fill had begun that was still open at the close.
#[test]
fn a_read_that_fails_as_a_snapshot_is_taken_up_takes_no_key_away() {
    for call in 1.. {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), false);
        let space = images(&store);
        space.insert("a", b"old").unwrap();
        let fill = space.fill("b");
        space.invalidate("a").unwrap();
        space.insert("a", b"new").unwrap();
        store.close().unwrap();
        drop((fill, space, store));
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.inject(call, Fault::Error(ErrorKind::TimedOut));
        let opened = quiet(Store::builder("/data").disk(faulty.clone()), &clock).open();
        let reached = faulty.calls() >= call;
        faulty.clear();
        if let Ok(store) = opened {
            let value = images(&store).get("a").unwrap();
            assert_eq!(value.as_deref(), Some(b"new".as_slice()), "call {call}");
        }
        if !reached {
            break;
        }
    }
}

/// Or inserts at the capacity would take what is not there.
#[test]
fn what_leaves_at_an_open_counts_until_its_space_is_given_back() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        closed(&disk, &clock, mapped, 3);
        clock.advance(hours(24 * 60));
        let store = open(on_memory(&disk, &clock), mapped);
        let used = || store.stats().keyspaces[0].used_bytes;
        let in_trash = || {
            let files =
                files_of(&disk).into_iter().filter(|(path, _)| path.starts_with("/data/trash"));
            files.map(|(_, bytes)| (bytes.len() as u64).next_multiple_of(4096)).sum::<u64>()
        };
        assert!(in_trash() > 3 * 4096, "{}", in_trash());
        assert_eq!(used(), in_trash(), "mapped {mapped}");
        store.maintain().unwrap();
        assert_eq!((used(), in_trash()), (0, 0), "mapped {mapped}");
    }
}

/// Enough records that all processors take part, most of them superseded, some invalidated.
#[test]
fn an_index_that_several_threads_make_anew_names_the_same_records() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let mut choices = Random::new(seed("an_index_that_several_threads_make_anew"));
    let store = open(on_memory(&disk, &clock), true);
    let images = images(&store);
    let keys = 40_000;
    let mut newest = vec![None; keys as usize];
    for version in 0..500_u64 {
        let batch: Vec<u64> = (0..1000).map(|_| choices.below(keys)).collect();
        images
            .insert_batch(batch.iter().map(|key| (key.to_le_bytes(), version.to_le_bytes())))
            .unwrap();
        batch.iter().for_each(|key| newest[*key as usize] = Some(version));
        if choices.once_in(10) {
            let gone = choices.below(keys);
            images.invalidate(gone.to_le_bytes()).unwrap();
            newest[gone as usize] = None;
        }
        if choices.once_in(50) {
            clock.advance(hours(24));
        }
    }
    store.sync().unwrap();
    let live = store.stats().keyspaces[0].keys;
    assert_eq!(live, newest.iter().flatten().count() as u64);
    let killed = disk.fork();
    drop(store);
    let store = open(on_memory(&killed, &clock), true);
    let images = store.existing_keyspace("images").unwrap();
    for (key, version) in newest.iter().enumerate() {
        let value = images.get((key as u64).to_le_bytes()).unwrap();
        let value = value.map(|value| u64::from_le_bytes(value[..].try_into().unwrap()));
        assert_eq!(value, *version, "key {key}");
    }
    assert_eq!(store.stats().keyspaces[0].keys, live);
}

/// Segment names and tombstone logs tell what was lost with it.
#[test]
fn a_state_that_cannot_be_read_is_told() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        closed(&disk, &clock, mapped, 1);
        let state = Path::new("/data/STATE");
        let mut bytes = disk.read_file(state).unwrap();
        bytes.fill(0xee);
        disk.write_file(state, &bytes).unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        assert_eq!(store.recovery_report().corrupt_records, [state]);
        assert_eq!(served(&images(&store), 0), DAY_KEYS);
    }
}

/// All that was stored has left, and nothing was invalidated.
#[test]
fn a_state_that_is_lost_is_told_where_only_the_ledger_knows_of_it() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        images(&store).insert("key", "value").unwrap();
        clock.advance(hours(24 * 40));
        store.maintain().unwrap();
        store.close().unwrap();
        let state = Path::new("/data/STATE");
        disk.remove_file(state).unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        assert_eq!(store.recovery_report().corrupt_records, [state]);
    }
}
