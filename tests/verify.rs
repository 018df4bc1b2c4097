//! What `verify` looks at, and where it says that something is wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{Keyspace, KeyspaceOptions, Log, LogOptions, Retention, Row, Store};

use fixture::{MODES, clock, on_memory, open, quiet};

/// Where the first record of a segment starts.
const SEGMENT_HEADER_LEN: usize = 1024;

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.keyspace("images", options).unwrap()
}

fn access(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16))).unwrap()
}

fn segments(disk: &MemoryDisk) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|is| is == "seg");
    disk.all_files().into_iter().filter(is_segment).collect()
}

/// The problems of a store that is opened to be looked at: where, and what.
fn problems(disk: &MemoryDisk) -> Vec<(PathBuf, u64, String)> {
    let store = on_memory(disk, &clock()).open_read_only().unwrap();
    let report = store.verify().unwrap();
    report.problems.into_iter().map(|is| (is.path, is.offset, is.what.to_string())).collect()
}

/// Runs with one byte of a file changed.
fn with_change<T>(disk: &MemoryDisk, path: &Path, at: usize, run: impl FnOnce() -> T) -> T {
    let bytes = disk.read_file(path).unwrap();
    let mut changed = bytes.clone();
    changed[at] ^= 0x40;
    disk.write_file(path, &changed).unwrap();
    let seen = run();
    disk.write_file(path, &bytes).unwrap();
    seen
}

#[test]
fn it_counts_what_it_has_looked_at() {
    for mapped in MODES {
        let disk = MemoryDisk::new(1);
        let store = open(on_memory(&disk, &clock()), mapped);
        let (images, access) = (images(&store), access(&store));
        assert_eq!((images.name(), access.name()), ("images", "access"));
        for key in 0..30_u8 {
            images.insert([key], [key; 300]).unwrap();
        }
        access.append(Row::anonymous().payload("row")).unwrap();
        store.close().unwrap();
        let store = open(on_memory(&disk, &clock()), mapped);
        let mut shown = 0;
        let report = store.verify_with(|_, bytes| shown += bytes).unwrap();
        assert_eq!((report.records, report.problems_left_out), (31, 0));
        let segments = segments(&disk);
        assert!(segments.len() > 2);
        let all: u64 = segments.iter().map(|path| disk.read_file(path).unwrap().len() as u64).sum();
        assert!(report.bytes > 30 * 300 && report.bytes < all, "{report:?}");
        assert!(shown >= report.bytes, "{shown}");
        // Of LOCK nothing can be said.
        let files = disk.all_files();
        assert_eq!(report.files, files.len() as u64 - 1, "{files:#?}");
    }
}

/// Behind values, between rows, and in what has been erased.
#[test]
fn a_byte_that_means_nothing_and_is_not_zero_is_named() {
    let disk = MemoryDisk::new(1);
    let store = open(on_memory(&disk, &clock()), false);
    let (images, access) = (images(&store), access(&store));
    for key in ["a", "bc", "erased", "defghi"] {
        images.insert(key, format!("value of {key}")).unwrap();
    }
    let mut rows = access.appender();
    for tag in ["kept", "erased", "t", "erased", "kept"] {
        rows.append(Row::anonymous().tag(tag).payload(format!("row of {tag}"))).unwrap();
    }
    rows.flush().unwrap();
    images.invalidate("erased").unwrap();
    access.invalidate_tag("erased").unwrap();
    store.scrub().unwrap();
    store.close().unwrap();
    assert_eq!(problems(&disk), []);
    for path in segments(&disk) {
        let bytes = disk.read_file(&path).unwrap();
        let zeros = (SEGMENT_HEADER_LEN..bytes.len()).filter(|at| bytes[*at] == 0);
        let (mut named, mut all) = (0, 0);
        for at in zeros {
            let found = with_change(&disk, &path, at, || problems(&disk));
            assert_eq!(found.first().map(|(path, ..)| path), Some(&path), "byte {at}: {found:?}");
            all += 1;
            if found[0].2.contains("zeros") {
                assert_eq!(found, [(path.clone(), at as u64, found[0].2.clone())]);
                named += 1;
            }
        }
        println!("{}: {named} of {all} zeros named", path.display());
        assert!(named > 50, "{named} of {all} in {}", path.display());
    }
}

/// A process ends in the middle of a call while a log of tombstones is full and another is begun. The next one
/// mends what counts.
#[test]
fn what_a_process_that_was_killed_leaves_is_no_problem() {
    for call in 1.. {
        let memory = MemoryDisk::new(1);
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let builder = quiet(Store::builder("/data").disk(disk.clone()), &clock());
        let store = builder.tombstone_log_bytes(4096).open().unwrap();
        let images = images(&store);
        let ends = disk.calls() + call;
        disk.inject(ends, Fault::Torn(ErrorKind::Other));
        disk.inject(ends + 1, Fault::ErrorsFrom(ErrorKind::Other));
        let done = (0..30_u8).all(|key| images.invalidate([key]).is_ok());
        let killed = memory.fork().kill();
        if done {
            let files = killed.all_files();
            assert!(files.contains(&PathBuf::from("/data/tombstones/0000000002.log")), "{files:?}");
            break;
        }
        drop(on_memory(&killed, &clock()).open().unwrap());
        assert_eq!(problems(&killed), [], "ended at call {call}");
    }
}

#[test]
fn the_slot_that_is_wrong_is_named() {
    let disk = MemoryDisk::new(1);
    let store = open(on_memory(&disk, &clock()), false);
    images(&store).insert("a", b"one").unwrap();
    store.close().unwrap();
    for name in ["STORE", "STATE"] {
        let path = Path::new("/data").join(name);
        let slot_len = disk.read_file(&path).unwrap().len() / 2;
        for slot in [0, slot_len] {
            let found = with_change(&disk, &path, slot + 8, || problems(&disk));
            let places: Vec<_> = found.iter().map(|(path, at, _)| (path, *at as usize)).collect();
            assert_eq!(places, [(&path, slot)], "{found:?}");
        }
    }
}
