//! What is left in the files: nothing of what was dropped, and at no time an address or a tag.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ebbtide::disk::MemoryDisk;
use ebbtide::{Clock, KeyspaceOptions, LogOptions, Retention, Row, Store, StoreBuilder};

use fixture::{MODES, clock, hours, minutes, on_memory, open, quiet};

const V4: &str = "198.51.100.77";
const V6: &str = "2001:db8:77:88:99:aa:bb:cc";
const TAG: &str = "TAG-MARKED";
const KEY: &str = "KEY-MARKED";
const VALUE: &str = "VALUE-MARKED";
const METADATA: &str = "METADATA-MARKED";
const PAYLOAD: &str = "PAYLOAD-MARKED";

/// The forms of the addresses and the tag that must never be on the disk.
fn never() -> Vec<Vec<u8>> {
    let (v4, v6): (IpAddr, IpAddr) = (V4.parse().unwrap(), V6.parse().unwrap());
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4, v6) else { panic!("addresses of two kinds") };
    vec![
        V4.into(),
        V6.into(),
        v4.octets().to_vec(),
        v4.to_ipv6_mapped().octets().to_vec(),
        v4.octets().iter().rev().copied().collect(),
        v6.octets().to_vec(),
        TAG.into(),
    ]
}

fn after_the_drop() -> Vec<Vec<u8>> {
    [KEY, VALUE, METADATA, PAYLOAD].map(|text| text.as_bytes().to_vec()).to_vec()
}

#[track_caller]
fn assert_none(disk: &MemoryDisk, needles: &[Vec<u8>]) {
    for path in disk.all_files() {
        let bytes = disk.read_file(&path).unwrap();
        for needle in needles {
            let found = bytes.windows(needle.len()).position(|part| part == needle);
            assert_eq!(found, None, "{needle:?} in {}", path.display());
        }
    }
}

fn all_bytes(disk: &MemoryDisk) -> Vec<u8> {
    disk.all_files().iter().flat_map(|path| disk.read_file(path).unwrap()).collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|part| part == needle)
}

/// Writes marked records, rows and invalidations; calls back after every step.
fn write_marked(store: &Store, step: &mut dyn FnMut()) {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    let images = store.keyspace("images", options).unwrap();
    let access =
        store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(4096)).unwrap();
    for number in 0..30 {
        let fill = images.fill(format!("{KEY}-{number}")).tag(TAG).metadata(METADATA);
        let _ = fill.commit(format!("{VALUE}-{number}").repeat(20)).unwrap();
        step();
        let ip = if number % 2 == 0 { V4 } else { V6 };
        let visitor = access.pseudonym(ip.parse().unwrap(), store.now()).unwrap();
        step();
        access.append(Row::new(visitor).tag(TAG).payload(format!("{PAYLOAD}-{number}"))).unwrap();
        step();
    }
    let mut appender = access.appender();
    let visitor = access.pseudonym(V4.parse().unwrap(), store.now()).unwrap();
    for _ in 0..10 {
        appender.append(Row::new(visitor).tag(TAG).payload(PAYLOAD)).unwrap();
    }
    appender.flush().unwrap();
    images.invalidate(format!("{KEY}-3")).unwrap();
    images.insert(format!("{KEY}-4"), VALUE).unwrap();
    step();
    store.sync().unwrap();
    step();
}

#[test]
fn a_dropped_bucket_leaves_nothing() {
    for mapped in MODES {
        for reopen in [false, true] {
            let (disk, clock) = (MemoryDisk::new(1), clock());
            let mut store = open(on_memory(&disk, &clock), mapped);
            write_marked(&store, &mut || assert_none(&disk, &never()));
            let all = all_bytes(&disk);
            assert!(after_the_drop().iter().all(|needle| holds(&all, needle)), "the scan sees");
            store.existing_keyspace("images").unwrap().invalidate_tag(TAG).unwrap();
            assert_none(&disk, &never());
            if reopen {
                store.close().unwrap();
                assert_none(&disk, &never());
                store = open(on_memory(&disk, &clock), mapped);
            }
            clock.advance(hours(17));
            store.maintain().unwrap();
            assert_none(&disk, &never());
            assert_none(&disk, &after_the_drop());
            store.close().unwrap();
            assert_none(&disk, &after_the_drop());
            let store = open(on_memory(&disk, &clock), mapped);
            assert_none(&disk, &after_the_drop());
            assert!(store.verify().unwrap().problems.is_empty());
        }
    }
}

/// The keys of all log buckets, found by their magic, as the only 32 bytes of their kind.
fn keys(disk: &MemoryDisk) -> Vec<Vec<u8>> {
    let files = disk.all_files().into_iter().filter(|path| path.ends_with("pseudonym.keys"));
    files.map(|path| disk.read_file(&path).unwrap()[36..68].to_vec()).collect()
}

#[test]
fn keys_of_pseudonyms_die_with_their_bucket() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
        let ip = V4.parse().unwrap();
        let first = access.pseudonym(ip, store.now()).unwrap();
        assert_eq!(access.pseudonym(ip, store.now()).unwrap(), first);
        access.append(Row::new(first)).unwrap();
        let old = keys(&disk);
        assert_eq!(old.len(), 1);
        assert!(old[0].iter().any(|byte| *byte != 0));
        clock.advance(hours(1));
        let second = access.pseudonym(ip, store.now()).unwrap();
        assert_ne!(first.id(), second.id());
        assert!(first.id().iter().zip(second.id()).filter(|(a, b)| **a == *b).count() < 8);
        access.append(Row::new(second)).unwrap();
        assert_eq!(keys(&disk).len(), 2);
        clock.advance(hours(15) + minutes(5));
        store.maintain().unwrap();
        assert!(!holds(&all_bytes(&disk), &old[0]), "the key is still there");
        assert!(access.append(Row::new(first)).is_err());
        assert!(access.pseudonym(ip, fixture::START).is_err());
        assert!(access.append(Row::new(second)).is_ok(), "the next bucket has its own");
        assert!(clock.wall() > fixture::START);
    }
}

fn assert_private(path: &Path) {
    let mode = fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    if path.is_dir() {
        assert_eq!(mode, 0o700, "{}", path.display());
        for entry in fs::read_dir(path).unwrap() {
            assert_private(&entry.unwrap().path());
        }
    } else {
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn files_are_private() {
    for mapped in MODES {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let clock = clock();
        let builder = || -> StoreBuilder { quiet(Store::builder(&root), &clock) };
        let store = open(builder(), mapped);
        write_marked(&store, &mut || {});
        assert_private(&root);
        store.existing_keyspace("images").unwrap().invalidate_all().unwrap();
        store.maintain().unwrap();
        assert_private(&root);
        store.close().unwrap();
        assert_private(&root);
        let store = open(builder(), mapped);
        clock.advance(hours(17));
        store.maintain().unwrap();
        store.close().unwrap();
        assert_private(&root);
    }
}
