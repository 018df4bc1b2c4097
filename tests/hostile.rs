//! Opening a directory that somebody has made to hurt takes at most 64 MiB of memory, and 64 B a record;
//! what is not read, however long it says that it is, takes none. An allocator that counts tells.
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)]

#[path = "common/fixture.rs"]
mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ebbtide::{
    KeyspaceOptions, LogOptions, Result, Retention, Row, Store, StoreBuilder, VerifyReport,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use fixture::{clock, quiet, try_open, value_of};

/// What opening may take, whatever it finds.
const BASE: usize = 64 << 20;
/// What it may take besides for each record that is there.
const PER_RECORD: usize = 64;
const TEBIBYTE: u64 = 1 << 40;

/// Bytes in use, and the most there were.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// One test at a time, as all of them count the same bytes.
static TURN: Mutex<()> = Mutex::new(());

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn add(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        add(len.saturating_sub(layout.size()));
        LIVE.fetch_sub(layout.size().saturating_sub(len), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, len) }
    }
}

/// The most memory that something took at a time.
fn most<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let result = run();
    (result, MOST.load(Ordering::Relaxed) - before)
}

fn builder(dir: &Path) -> StoreBuilder {
    quiet(Store::builder(dir), &clock())
}

/// Opens a copy of a directory in which something was changed, to look at it and to write, and fails if
/// that takes too much. That it is refused is right.
#[track_caller]
fn open_within(made: &Path, change: impl Fn(&Path), records: usize, what: &str) {
    type Open = fn(StoreBuilder) -> Result<Store>;
    let ways: [(&str, Open); 3] = [
        ("to look", StoreBuilder::open_read_only),
        ("by position", |builder| try_open(builder, false)),
        ("mapped", |builder| try_open(builder, true)),
    ];
    for (how, open) in ways {
        let dir = tempfile::tempdir().unwrap();
        let hostile = dir.path().join("data");
        copy(made, &hostile);
        change(&hostile);
        let begun = Instant::now();
        let (opened, took) = most(|| open(builder(&hostile)));
        let ms = begun.elapsed().as_millis();
        println!("{what}, {how}: opened {}, {took} B, {ms} ms", opened.is_ok());
        assert!(took <= BASE + PER_RECORD * records, "{what}, {how}: {took} B");
    }
}

/// A small store with everything in it, closed.
fn small(dir: &Path) {
    let store = builder(dir).open().unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
    for key in 0..20_u64 {
        let _ = images.fill(key.to_le_bytes()).tag("tag").commit(value_of(key, 0, 100)).unwrap();
        let visitor = access.pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
        access.append(Row::new(visitor).tag("tag").payload("row")).unwrap();
    }
    images.invalidate(7_u64.to_le_bytes()).unwrap();
    store.close().unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("LOCK") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn find(dir: &Path, end: &str) -> PathBuf {
    let is_wanted = |path: &PathBuf| path.to_string_lossy().ends_with(end);
    files(dir).into_iter().find(is_wanted).unwrap_or_else(|| panic!("no {end}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn writable(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Puts a checksum at 12 right that covers what follows up to here.
fn repair(file: &File, end: usize) {
    let mut bytes = vec![0; end];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let crc = crc32fast::hash(&bytes[16..]);
    file.write_all_at(&crc.to_le_bytes(), 12).unwrap();
}

fn made(make: impl Fn(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    make(&dir.path().join("data"));
    dir
}

#[test]
fn files_that_say_to_be_huge_take_no_memory() {
    let _turn = TURN.lock().unwrap();
    let dir = made(small);
    let made = dir.path().join("data");
    for path in files(&made) {
        let name = path.strip_prefix(&made).unwrap();
        // The most that the format allows of the logs, and far beyond it.
        for len in [64 << 20, TEBIBYTE] {
            let change = |hostile: &Path| writable(&hostile.join(name)).set_len(len).unwrap();
            open_within(&made, change, 40, &format!("{} of {len} B", name.display()));
        }
    }
}

#[test]
fn a_huge_segment_that_was_never_sealed_takes_no_memory() {
    let _turn = TURN.lock().unwrap();
    let dir = made(small);
    let change = |hostile: &Path| {
        let segment = find(hostile, ".seg");
        fs::remove_file(segment.with_extension("idx")).unwrap();
        writable(&segment).set_len(TEBIBYTE).unwrap();
    };
    open_within(&dir.path().join("data"), change, 40, "a segment of 1 TiB without a sidecar");
}

/// Its header tells its length, and is there.
#[test]
fn a_record_whose_file_was_cut_meanwhile_takes_no_memory() {
    const LONG: usize = 64 << 20;
    let _turn = TURN.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = builder(&dir.path().join("data")).open().unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    images.insert("long", vec![7; LONG]).unwrap();
    store.sync().unwrap();
    let (value, took) = most(|| images.get("long").unwrap().unwrap());
    assert!(took >= LONG, "{took} B, so this counts");
    drop(value);
    writable(&find(dir.path(), ".seg")).set_len(8192).unwrap();
    let (value, took) = most(|| images.get("long"));
    println!("a record of {LONG} B in a file of 8192: {value:?}, {took} B");
    assert!(took < LONG / 8, "{took} B");
    assert!(!matches!(value, Ok(Some(_))));
}

#[test]
fn a_sidecar_of_2_to_the_60_records_takes_no_memory() {
    let _turn = TURN.lock().unwrap();
    let dir = made(small);
    // The count of entries, and that of tags.
    for at in [40, 48] {
        for len in [8 << 10, TEBIBYTE] {
            let change = |hostile: &Path| {
                fs::remove_file(find(hostile, "INDEX")).unwrap();
                let sidecar = writable(&find(hostile, ".idx"));
                sidecar.write_all_at(&(1_u64 << 60).to_le_bytes(), at).unwrap();
                repair(&sidecar, 72);
                sidecar.set_len(len).unwrap();
            };
            let what = format!("a sidecar of {len} B that counts 2^60 at {at}");
            open_within(&dir.path().join("data"), change, 40, &what);
        }
    }
}

#[test]
fn an_index_with_room_for_many_more_keys_than_there_are_takes_no_memory() {
    let _turn = TURN.lock().unwrap();
    let dir = made(small);
    let made = dir.path().join("data");
    open_within(&made, |hostile| add_lines(hostile, 4 << 20), 40, "an index of 256 MiB of nothing");
}

#[test]
fn an_index_that_opening_would_not_read_takes_no_memory_to_verify() {
    let _turn = TURN.lock().unwrap();
    let dir = made(small);
    let made = dir.path().join("data");
    add_lines(&made, 4 << 20);
    let store = builder(&made).open_read_only().unwrap();
    let (report, took) = most(|| store.verify().unwrap());
    assert_eq!(report.problems, []);
    assert!(took <= BASE, "{took} B");
}

#[test]
fn of_a_store_that_is_rotten_all_over_only_so_many_problems_are_listed() {
    let _turn = TURN.lock().unwrap();
    let records = 2 * VerifyReport::MAX_PROBLEMS + 1;
    let value = *b"sound to the end";
    let dir = made(|dir| {
        let store = builder(dir).open().unwrap();
        let options = KeyspaceOptions::new(Retention::hours(16));
        let images = store.keyspace("images", options).unwrap();
        for key in 0..records {
            images.insert(key.to_le_bytes(), value).unwrap();
        }
        store.close().unwrap();
    });
    let made = dir.path().join("data");
    for path in files(&made).iter().filter(|path| path.extension().is_some_and(|e| e == "seg")) {
        let mut bytes = fs::read(path).unwrap();
        let ends: Vec<usize> = (value.len()..=bytes.len())
            .filter(|end| bytes[end - value.len()..*end] == value)
            .collect();
        ends.into_iter().for_each(|end| bytes[end - 1] ^= 1);
        fs::write(path, bytes).unwrap();
    }
    let report = builder(&made).open_read_only().unwrap().verify().unwrap();
    assert_eq!(report.problems.len(), VerifyReport::MAX_PROBLEMS);
    assert_eq!(report.problems_left_out, (records - VerifyReport::MAX_PROBLEMS) as u64);
}

/// Gives the last group of an index a shard with so many empty lines; all hashes fit.
fn add_lines(dir: &Path, lines: u64) {
    let path = find(dir, "INDEX");
    let bytes = fs::read(&path).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let last = 80 + 88 * word(56) as usize + 63 * 16;
    let mut counts = vec![0; 256];
    counts[252..].copy_from_slice(&(lines as u32).to_le_bytes());
    let mut hasher = Xxh3::new();
    hasher.update(&counts);
    let zeros = [0; 4096];
    (0..lines * 64 / zeros.len() as u64).for_each(|_| hasher.update(&zeros));
    let file = writable(&path);
    let start = bytes.len() as u64 - word(last + 8);
    let len = 256 + lines * 64;
    file.write_all_at(&counts, start).unwrap();
    file.set_len(start + len).unwrap();
    file.write_all_at(&hasher.digest().to_le_bytes(), last as u64).unwrap();
    file.write_all_at(&len.to_le_bytes(), last as u64 + 8).unwrap();
    let mut content = vec![0; last + 16 - 80];
    file.read_exact_at(&mut content, 80).unwrap();
    file.write_all_at(&xxh3_64(&content).to_le_bytes(), 72).unwrap();
    repair(&file, 80);
}

/// Half a million of the shortest records there are, with and without what is kept beside them.
#[test]
fn the_shortest_records_take_64_bytes_each() {
    const RECORDS: usize = 500_000;
    let _turn = TURN.lock().unwrap();
    let dir = made(|dir| {
        let store = builder(dir).open().unwrap();
        let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(128 << 20);
        let images = store.keyspace("images", options).unwrap();
        let keys: Vec<[u8; 4]> = (0..RECORDS as u32).map(u32::to_le_bytes).collect();
        for some in keys.chunks(1000) {
            images.insert_batch(some.iter().map(|key| (key, b""))).unwrap();
        }
        store.close().unwrap();
    });
    for removed in [&[][..], &["INDEX"], &["INDEX", ".idx"]] {
        let change = |hostile: &Path| {
            removed.iter().for_each(|end| fs::remove_file(find(hostile, end)).unwrap());
        };
        let what = format!("{RECORDS} records without {removed:?}");
        open_within(&dir.path().join("data"), change, RECORDS, &what);
    }
}

/// Whether STATE is there to tell which logs there are, or not.
#[test]
fn a_file_with_the_last_name_of_a_log_keeps_no_store_from_opening() {
    let _turn = TURN.lock().unwrap();
    for lost in [false, true] {
        let made = made(small);
        let dir = &made.path().join("data");
        let strays = ["tombstones", "ledger"].map(|logs| dir.join(logs).join("9999999999.log"));
        for stray in &strays {
            fs::write(stray, "?").unwrap();
        }
        if lost {
            fs::remove_file(dir.join("STATE")).unwrap();
        }
        for _ in 0..2 {
            let store = builder(dir).open().unwrap();
            let images = store.existing_keyspace("images").unwrap();
            images.invalidate("any").unwrap();
            store.close().unwrap();
        }
    }
}
