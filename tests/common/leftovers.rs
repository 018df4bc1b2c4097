//! A store of which lives that ended badly, and damage, have left something in every corner, and what
//! clearing it up must come to.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use ebbtide::disk::{Disk, MemoryDisk};
use ebbtide::{
    Error, Keyspace, KeyspaceOptions, LedgerKind, Log, LogOptions, ManualClock, Result, Retention,
    Row, Store,
};

use super::fixture::{clock, hours, on_memory, open};

/// Of which nothing is wrong, of which a segment has rotted, and of which the options are gone.
const KEYSPACES: [&str; 4] = ["images", "harmed", "orphan", "emptied"];
const LOGS: [&str; 2] = ["access", "lost"];
/// What stands in the buckets that are past their time, and in the others.
pub(crate) const OLD: &str = "due-at-dawn-";
pub(crate) const NEW: &str = "not-due-before-noon-";
const PART: &str = "value-of-a-part";
const SECTOR: usize = 512;

/// What else has happened to the store, and whether it may have lost an invalidation by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Nothing.
    None,
    /// Tombstone log, ledger and STATE are gone.
    Records,
}

fn options() -> KeyspaceOptions {
    KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096)
}

pub(crate) fn keyspace(store: &Store, name: &str) -> Result<Keyspace> {
    store.keyspace(name, options())
}

fn log(store: &Store, name: &str) -> Result<Log> {
    store.log(name, LogOptions::new(Retention::hours(16)).segment_bytes(4096))
}

/// A key, and a row, in each keyspace and log.
fn write(store: &Store, stamp: &str) {
    for name in KEYSPACES {
        let value = format!("{stamp}{name}");
        let fill = keyspace(store, name).unwrap().fill(stamp).tag("tag");
        let _ = fill.commit(value.repeat(40)).unwrap();
    }
    for name in LOGS {
        let log = log(store, name).unwrap();
        let visitor = log.pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
        log.append(Row::new(visitor).payload(format!("{stamp}{name}"))).unwrap();
    }
}

fn change(disk: &MemoryDisk, path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.read_file(path).unwrap();
    how(&mut bytes);
    disk.write_file(path, &bytes).unwrap();
}

/// Files of a disk below a directory with this end of their names.
pub(crate) fn files(disk: &MemoryDisk, dir: &str, end: &str) -> Vec<PathBuf> {
    let mut files = disk.all_files();
    files.retain(|path| path.starts_with(dir) && path.to_str().unwrap().ends_with(end));
    files
}

/// The disk, and the time is [`later`].
pub(crate) fn leave(harm: Harm) -> MemoryDisk {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    write(&store, OLD);
    clock.advance(hours(8));
    write(&store, NEW);
    keyspace(&store, "images").unwrap().invalidate("gone").unwrap();
    store.maintain().unwrap();
    keyspace(&store, "emptied").unwrap().invalidate_all().unwrap();
    // A bucket that has keys, and no rows yet.
    clock.advance(hours(1));
    log(&store, "access").unwrap().pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
    store.sync().unwrap();
    store.close().unwrap();
    drop(store);
    plant(&disk);
    if harm == Harm::Records {
        remove_records(&disk);
    }
    disk
}

/// When it is opened again: what was written first is past its time.
pub(crate) fn later() -> ManualClock {
    let clock = clock();
    clock.advance(hours(16));
    clock
}

fn plant(disk: &MemoryDisk) {
    let newest = |owner: &str| files(disk, owner, ".seg").pop().unwrap();
    // A record that had been durable, and nothing else tells where it is.
    let harmed = newest("/data/keyspaces/harmed");
    change(disk, &harmed, |bytes| bytes[2 * SECTOR..3 * SECTOR].fill(0xee));
    disk.remove_file(&harmed.with_extension("idx")).unwrap();
    disk.write_file(&harmed.with_extension("idx"), b"?").unwrap();
    for owner in KEYSPACES {
        disk.remove_file(&Path::new("/data/keyspaces").join(owner).join("INDEX")).unwrap();
    }
    disk.remove_file(Path::new("/data/keyspaces/orphan/KEYSPACE")).unwrap();
    change(disk, Path::new("/data/logs/lost/LOG"), |bytes| bytes.fill(0xee));
    // One of the two places of a manifest, and of STATE, is torn.
    for path in ["/data/keyspaces/images/KEYSPACE", "/data/STATE"] {
        change(disk, Path::new(path), |bytes| bytes[4096..4096 + SECTOR].fill(0));
    }
    // Births that were not finished: a keyspace, a segment, and values in files of their own.
    disk.create_dir(Path::new("/data/keyspaces/unborn")).unwrap();
    disk.write_file(Path::new("/data/keyspaces/unborn/KEYSPACE.tmp"), b"?").unwrap();
    let bucket = newest("/data/keyspaces/images").parent().unwrap().to_owned();
    disk.write_file(&bucket.join("0000000100000099.seg"), &[0; 1024]).unwrap();
    for owner in ["images", "orphan"] {
        let part = format!("/data/keyspaces/{owner}/0000000100000098.part");
        disk.write_file(Path::new(&part), PART.as_bytes()).unwrap();
    }
    plant_in_trash(disk, &newest("/data/keyspaces/images"));
    disk.write_file(Path::new("/data/stranger"), b"not ours").unwrap();
    // Logs that had been forgotten, and spares that are not what they should be.
    for dir in ["/data/tombstones", "/data/ledger"] {
        disk.write_file(&Path::new(dir).join("0000000000.log"), b"?").unwrap();
    }
    change(disk, Path::new("/data/tombstones/spare"), |bytes| bytes[3000] = 1);
    disk.write_file(Path::new("/data/ledger/spare"), b"short").unwrap();
}

/// A segment, a directory with another in it, and something that no version would put there.
fn plant_in_trash(disk: &MemoryDisk, segment: &Path) {
    let segment = disk.read_file(segment).unwrap();
    disk.write_file(Path::new("/data/trash/0000000000000001.segment.01"), &segment).unwrap();
    disk.write_file(Path::new("/data/trash/stranger"), b"?").unwrap();
    let dir = Path::new("/data/trash/0000000000000001.20261121T130000000Z.02");
    disk.create_dir(dir).unwrap();
    disk.create_dir(&dir.join("empty")).unwrap();
    disk.write_file(&dir.join("0000000100000001.seg"), &segment).unwrap();
    disk.write_file(&dir.join("pseudonym.keys"), &[7; 8192]).unwrap();
}

fn remove_records(disk: &MemoryDisk) {
    for end in ["tombstones/0000000001.log", "ledger/0000000001.log", "STATE"] {
        for path in files(disk, "/data", end) {
            disk.remove_file(&path).unwrap();
        }
    }
}

/// What is done once the store is open: clearing up, and making use of what is there.
pub(crate) fn work(store: &Store) -> Result<()> {
    let mut first = store.maintain();
    // More than one tombstone log holds.
    let tags = (0..30).map(|tag| tag.to_string());
    let done = keyspace(store, "images").and_then(|images| images.invalidate_tags(tags));
    first = first.and(done.map(drop));
    for name in ["unborn", "harmed"] {
        first = first.and(keyspace(store, name).and_then(|space| space.insert("again", b"value")));
    }
    first.and(store.maintain())
}

/// Nothing is served that may not be; with `all`, everything is that must be, and no call fails.
#[track_caller]
pub(crate) fn check_served(store: &Store, harm: Harm, all: bool, what: &str) {
    for name in store.keyspaces() {
        let space = store.existing_keyspace(&name).unwrap();
        let (old, got) = (space.get(OLD), space.get(NEW));
        assert!(!matches!(old, Ok(Some(_))), "{what}: {name} serves what is past its time");
        assert!(!all || got.is_ok(), "{what}: {got:?}");
        let served = got.unwrap_or_default();
        let is_kept = name == "images" && harm == Harm::None;
        assert!(is_kept || served.is_none(), "{what}: {name} serves what may be outdated");
        assert!(!(all && is_kept) || served.is_some(), "{what}: {name} has lost a value");
        let expected = format!("{NEW}{name}").repeat(40);
        assert!(served.is_none_or(|served| served.as_ref() == expected.as_bytes()), "{what}");
    }
    let scan = store.existing_log("access").unwrap().scan(..);
    assert!(!all || scan.is_ok(), "{what}: {scan:?}");
    let rows: Vec<_> = scan.into_iter().flatten().collect();
    assert!(!all || rows.len() == 1, "{what}: {} rows", rows.len());
    for row in rows {
        assert!(!all || row.is_ok(), "{what}: {row:?}");
        let Ok(row) = row else { continue };
        assert!(row.payload() == format!("{NEW}access").as_bytes(), "{what}: another row");
    }
    for name in ["orphan", "lost"] {
        assert!(store.existing_keyspace(name).is_err() && store.existing_log(name).is_err());
    }
}

/// Nothing is left on the disk of what had to go, and all of what had to stay; the ledger says so, once
/// of each bucket.
#[track_caller]
pub(crate) fn check_cleared(store: &Store, disk: &MemoryDisk, what: &str) {
    let all: Vec<u8> =
        disk.all_files().iter().flat_map(|path| disk.read_file(path).unwrap()).collect();
    let is_there = |text: &str| all.windows(text.len()).any(|part| part == text.as_bytes());
    for name in KEYSPACES.iter().chain(&LOGS) {
        assert!(!is_there(&format!("{OLD}{name}")), "{what}: {name} is still on the disk");
    }
    assert!(!is_there(PART), "{what}: a part");
    assert!(!is_there(&format!("{NEW}emptied")), "{what}: what was invalidated");
    assert!(is_there(&format!("{NEW}orphan")) && is_there(&format!("{NEW}lost")), "{what}");
    let none: [PathBuf; 0] = [];
    assert_eq!(files(disk, "/data/trash", ""), none, "{what}");
    for end in ["KEYSPACE.tmp", "spare.tmp", "0000000000.log", "0000000100000099.seg"] {
        assert_eq!(files(disk, "/data", end), none, "{what}");
    }
    let entries = store.ledger().unwrap();
    let drops = entries.iter().filter(|e| matches!(e.kind, LedgerKind::BucketDropped(_)));
    let mut dropped: Vec<_> = drops.map(|entry| (entry.owner_id, entry.bucket_start)).collect();
    let count = dropped.len();
    dropped.sort_unstable();
    dropped.dedup();
    let told: Vec<String> = entries.iter().map(ToString::to_string).collect();
    assert_eq!(dropped.len(), count, "{what}: dropped twice: {told:#?}");
    assert!(matches!(keyspace(store, "orphan"), Err(Error::Corrupt { .. })), "{what}");
    assert!(matches!(log(store, "lost"), Err(Error::Corrupt { .. })), "{what}");
}

/// Looks at everything there is, and says so if it is not what it may be. Any call may fail.
pub(crate) fn look(store: &Store, harm: Harm, what: &str) {
    for name in store.keyspaces() {
        let space = store.existing_keyspace(&name).unwrap();
        let expected = format!("{NEW}{name}").repeat(40);
        if let Ok(Some(value)) = space.get(NEW) {
            assert_eq!((name.as_str(), harm), ("images", Harm::None), "{what}");
            assert!(value.as_ref() == expected.as_bytes(), "{what}");
        }
    }
    let _ = store.residue();
    let _ = (store.ledger(), store.prove_retention(..));
    assert!(!store.verify().unwrap().problems.is_empty(), "{what}: LOG cannot be read");
}
