//! What is left in the files: nothing of what was dropped, and at no time an address or a tag; and
//! that a store can tell of each file why it is there, and until when.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ebbtide::disk::MemoryDisk;
use ebbtide::{Clock, Error, KeyspaceOptions, LogOptions, Residue, ResidueKind, ResidueOwner};
use ebbtide::{Retention, Row, Scope, Store, StoreBuilder};

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

/// Asserts that each file of the disk is explained once, and nothing else but held segments; gives
/// what was said of each.
#[track_caller]
fn explained(store: &Store, disk: &MemoryDisk) -> BTreeMap<PathBuf, Residue> {
    let residue = store.residue().unwrap();
    assert!(residue.is_sorted_by(|a, b| a.path < b.path), "each path once, in order");
    let (mut files, mut held) = (BTreeSet::new(), 0);
    for item in &residue {
        assert!(item.until.is_none_or(|until| until >= store.now()), "{item}");
        match disk.read_file(&item.path) {
            Ok(_) => {
                files.insert(item.path.clone());
            }
            Err(_) if item.kind == ResidueKind::Held => held += 1,
            Err(_) => assert_eq!(item.bytes, 0, "{item}"),
        }
    }
    assert_eq!(files, disk.all_files().into_iter().collect());
    let kinds = residue.iter().filter(|item| item.kind == ResidueKind::Held);
    assert_eq!(kinds.count(), held);
    let bytes = |item: &Residue| if files.contains(&item.path) { item.bytes } else { 0 };
    assert_eq!(residue.iter().map(bytes).sum::<u64>(), disk.used_bytes());
    residue.into_iter().map(|item| (item.path.clone(), item)).collect()
}

fn kinds(explained: &BTreeMap<PathBuf, Residue>) -> BTreeSet<ResidueKind> {
    explained.values().map(|item| item.kind).collect()
}

/// A store with segments in three buckets, several tombstone logs, and one bucket in the trash.
fn write_much(store: &Store, clock: &ebbtide::ManualClock) {
    write_marked(store, &mut || {});
    let images = store.existing_keyspace("images").unwrap();
    clock.advance(hours(8));
    write_marked(store, &mut || {});
    for number in 0..200 {
        images.invalidate(format!("{KEY}-{number}")).unwrap();
    }
    store.maintain().unwrap();
    clock.advance(hours(8) + minutes(1));
    write_marked(store, &mut || {});
    assert_eq!(store.drop_expired().unwrap(), 2);
}

#[test]
fn every_file_of_a_busy_store_is_explained() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        write_much(&store, &clock);
        let found = explained(&store, &disk);
        use ResidueKind::*;
        let expected = [
            Directory,
            Identity,
            State,
            Lock,
            Options,
            Bucket,
            Segment,
            Sidecar,
            PseudonymKeys,
            TombstoneLog,
            CurrentTombstoneLog,
            Ledger,
            Spare,
            Dropped,
        ];
        assert_eq!(kinds(&found), expected.into());
        let stats = store.stats();
        for item in found.values() {
            let buckets = match &item.owner {
                ResidueOwner::Keyspace(name) if name == "images" => &stats.keyspaces[0].buckets,
                ResidueOwner::Log(name) if name == "access" => &stats.logs[0].buckets,
                ResidueOwner::Store => {
                    assert_eq!(item.bucket, None, "{item}");
                    continue;
                }
                _ => panic!("{item}"),
            };
            let bucket = buckets.iter().find(|bucket| Some(bucket.start) == item.bucket);
            match (item.kind, bucket) {
                (Dropped, None) => assert_eq!(item.until, Some(store.now()), "{item}"),
                (Options | Directory, None) => assert_eq!(item.until, None, "{item}"),
                (_, Some(bucket)) => assert_eq!(item.until, Some(bucket.deadline), "{item}"),
                _ => panic!("{item}"),
            }
        }
        let text = found.values().find(|item| item.kind == Segment).unwrap().to_string();
        assert!(text.contains(".seg: segment of keyspace images, bucket 20"), "{text}");
        store.close().unwrap();
        assert!(matches!(store.residue(), Err(Error::Closed)));
    }
}

#[test]
fn nothing_stays_longer_than_was_said() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        write_much(&store, &clock);
        let mut found = explained(&store, &disk);
        let mut steps = 0;
        while let Some(until) = found.values().filter_map(|item| item.until).min() {
            clock.advance(until.since(store.now()));
            store.maintain().unwrap();
            let left = explained(&store, &disk);
            let due = found.values().filter(|item| item.until == Some(until));
            due.for_each(|item| assert!(!left.contains_key(&item.path), "{item}"));
            found = left;
            steps += 1;
        }
        assert!(steps >= 3, "the trash, and two buckets");
        use ResidueKind::*;
        let expected =
            [Directory, Identity, State, Lock, Options, CurrentTombstoneLog, Ledger, Spare];
        assert_eq!(kinds(&found), expected.into());
    }
}

#[test]
fn what_is_looked_at_read_only_is_explained_too() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    write_much(&store, &clock);
    let live = explained(&store, &disk);
    let looking = on_memory(&disk, &clock).open_read_only().unwrap();
    assert_eq!(explained(&looking, &disk), live);
    store.close().unwrap();
    let looking = on_memory(&disk, &clock).open_read_only().unwrap();
    let found = explained(&looking, &disk);
    assert_eq!(found[Path::new("/data/keyspaces/images/INDEX")].kind, ResidueKind::Index);
    clock.advance(hours(20));
    let found = explained(&looking, &disk);
    let due = found.values().filter(|item| item.until == Some(looking.now())).count();
    assert!(due > 10, "what is past its deadline is due now");
}

#[test]
fn what_is_left_over_or_foreign_is_told_apart() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    write_marked(&store, &mut || {});
    store.maintain().unwrap();
    let found = explained(&store, &disk);
    let segment = found.values().find(|item| item.kind == ResidueKind::Segment).unwrap();
    let bucket = segment.path.parent().unwrap().to_owned();
    let plant = |path: &Path| disk.write_file(path, b"?").unwrap();
    let ours = [
        (PathBuf::from("/data/keyspaces/images/0000000100000099.part"), ResidueKind::Part),
        (segment.path.with_extension("tmp"), ResidueKind::Temporary),
        (PathBuf::from("/data/STATE.tmp"), ResidueKind::Temporary),
        (PathBuf::from("/data/keyspaces/images/KEYSPACE.tmp"), ResidueKind::Temporary),
        (PathBuf::from("/data/tombstones/spare.tmp"), ResidueKind::Temporary),
        (PathBuf::from("/data/keyspaces/sync.tmp"), ResidueKind::Temporary),
    ];
    ours.iter().for_each(|(path, _)| plant(path));
    let foreign_dir = bucket.join("mine");
    ebbtide::disk::Disk::create_dir(&disk, &foreign_dir).unwrap();
    ebbtide::disk::Disk::create_dir(&disk, Path::new("/data/logs/lost")).unwrap();
    let no_name = Path::new("/data/logs/No-Name");
    ebbtide::disk::Disk::create_dir(&disk, no_name).unwrap();
    let foreign = [
        PathBuf::from("/data/stranger"),
        PathBuf::from("/data/trash.txt"),
        PathBuf::from("/data/keyspaces/stranger"),
        PathBuf::from("/data/keyspaces/images/LOG"),
        PathBuf::from("/data/tombstones/1.log"),
        PathBuf::from("/data/ledger/stranger"),
        PathBuf::from("/data/logs/access/INDEX"),
        PathBuf::from("/data/logs/access/0000000100000099.part"),
        foreign_dir.join("letter"),
        bucket.join("pseudonym.keys"),
        bucket.join("1.seg"),
    ];
    foreign.iter().for_each(|path| plant(path));
    let found = explained(&store, &disk);
    for (path, kind) in ours {
        assert_eq!(found[&path].kind, kind, "{}", found[&path]);
    }
    for path in &foreign {
        assert_eq!(found[path].kind, ResidueKind::Unknown, "{}", found[path]);
        assert_eq!(found[path].kind.why(), "not ours");
    }
    for dir in [&foreign_dir, no_name] {
        assert_eq!(found[dir].kind, ResidueKind::Unknown);
    }
    let text = found[Path::new("/data/stranger")].to_string();
    assert_eq!(text, "/data/stranger: unknown of store, 4096 bytes, without an end: not ours");
    assert_eq!(found[&foreign_dir.join("letter")].until, None);
    assert_eq!(found[&bucket.join("1.seg")].until, segment.until, "it goes with the bucket");
    assert_eq!(found[Path::new("/data/ledger/0000000001.log")].kind, ResidueKind::Ledger);
    assert_eq!(found[Path::new("/data/logs/lost")].kind, ResidueKind::Orphan);
}

#[test]
fn a_keyspace_without_options_is_an_orphan_until_its_segments_say() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    write_marked(&store, &mut || {});
    let before = explained(&store, &disk);
    store.close().unwrap();
    disk.write_file(Path::new("/data/keyspaces/images/KEYSPACE"), b"?").unwrap();
    let store = open(on_memory(&disk, &clock), false);
    let after = explained(&store, &disk);
    assert_eq!(after[Path::new("/data/keyspaces/images")].kind, ResidueKind::Orphan);
    let segments = |found: &BTreeMap<PathBuf, Residue>| -> Vec<(PathBuf, Option<_>)> {
        let segments = found.values().filter(|item| item.kind == ResidueKind::Segment);
        segments.map(|item| (item.path.clone(), item.until)).collect()
    };
    assert!(segments(&before).len() > 3);
    assert_eq!(segments(&after), segments(&before));
}

#[test]
fn a_segment_that_is_held_is_explained_though_it_has_no_name() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), true);
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    images.insert(KEY, VALUE).unwrap();
    store.sync().unwrap();
    let value = images.get(KEY).unwrap().unwrap();
    clock.advance(hours(17));
    store.maintain().unwrap();
    let found = explained(&store, &disk);
    let held: Vec<_> = found.values().filter(|item| item.kind == ResidueKind::Held).collect();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].owner, ResidueOwner::Keyspace("images".to_owned()));
    assert_eq!((held[0].bytes, held[0].until), (store.stats().pinned_bytes, None));
    assert!(held[0].bytes > 0);
    drop(value);
    store.maintain().unwrap();
    assert!(!kinds(&explained(&store, &disk)).contains(&ResidueKind::Held));
}

/// A denial may outlast all records: nothing says when the log goes that it stands in.
#[test]
fn logs_with_denials_have_no_end() {
    for everywhere in [false, true] {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), false);
        let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
        images.insert(KEY, VALUE).unwrap();
        let logs = |store: &Store| -> Vec<_> {
            let items = store.residue().unwrap().into_iter();
            items.filter(|i| i.kind == ResidueKind::TombstoneLog).map(|i| i.until).collect()
        };
        (0..30).for_each(|number: u8| drop(images.invalidate([number]).unwrap()));
        let bucket_end = store.stats().keyspaces[0].buckets[0].deadline;
        assert_eq!(logs(&store), [Some(bucket_end)]);
        let erase =
            if everywhere { store.erase_tag(TAG, Scope::Keyspaces) } else { images.erase(KEY) };
        erase.deny_until(store.now() + hours(100)).commit().unwrap();
        assert_eq!(logs(&store), [None]);
        clock.advance(hours(101));
        store.maintain().unwrap();
        store.maintain().unwrap();
        assert_eq!(logs(&store), []);
    }
}

/// A file stands where a directory of the store was.
#[test]
fn a_file_for_a_directory_is_not_ours() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    write_marked(&open(on_memory(&disk, &clock), false), &mut || {});
    let trash = Path::new("/data/trash");
    ebbtide::disk::Disk::remove_dir(&disk, trash).unwrap();
    disk.write_file(trash, b"?").unwrap();
    let looking = on_memory(&disk, &clock).open_read_only().unwrap();
    assert_eq!(explained(&looking, &disk)[trash].kind, ResidueKind::Unknown);
}
