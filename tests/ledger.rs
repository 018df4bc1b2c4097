//! The ledger: births before buckets, drops that pair with them, a chain in which every change is
//! found, and nothing in it about anybody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/hooked.rs"]
mod hooked;

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ebbtide::disk::{Disk, EntryKind, Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    CheckpointCause, DropCause, Error, InvalidatedScope, Keyspace, KeyspaceOptions, LedgerEntry,
    LedgerKind, Log, LogOptions, ManualClock, Result, Retention, RetentionVerdict, Row, Store,
    StoreBuilder, Timestamp,
};

use fixture::{Random, START, clock, hours, minutes, on_memory, open, quiet, seed};
use hooked::{Answer, Call, HookedDisk};

const DIR: &str = "/data/ledger";
/// Bytes before the first entry of a file, and of an entry.
const HEADER_LEN: usize = 512;
const ENTRY_LEN: usize = 160;
/// Of a bucket of values and one of rows.
const SYNCS_OF_DROPS: u64 = 4;
const VISITOR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 77));

fn images(store: &Store) -> Keyspace {
    try_images(store).unwrap()
}

fn try_images(store: &Store) -> Result<Keyspace> {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.keyspace("images", options)
}

fn access(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(4096)).unwrap()
}

/// A row about a visitor, now.
fn visit(store: &Store) -> Result<()> {
    let log = store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(4096))?;
    let visitor = log.pseudonym(VISITOR, store.now())?;
    log.append(Row::new(visitor).payload("GET /")).map(drop)
}

fn log_file(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:010}.log"))
}

fn kinds(store: &Store) -> Vec<LedgerKind> {
    store.ledger().unwrap().iter().map(|entry| entry.kind).collect()
}

fn of_kind(store: &Store, wanted: impl Fn(LedgerKind) -> bool) -> Vec<LedgerEntry> {
    store.ledger().unwrap().into_iter().filter(|entry| wanted(entry.kind)).collect()
}

fn drops(store: &Store) -> Vec<LedgerEntry> {
    of_kind(store, |kind| matches!(kind, LedgerKind::BucketDropped(_)))
}

fn births(store: &Store) -> Vec<LedgerEntry> {
    of_kind(store, |kind| matches!(kind, LedgerKind::BucketBorn { .. }))
}

fn counted(store: &Store, wanted: InvalidatedScope) -> u64 {
    let counts = store.ledger().unwrap().into_iter().filter_map(|entry| match entry.kind {
        LedgerKind::Invalidated { scope, count } if scope == wanted => Some(count),
        _ => None,
    });
    counts.sum()
}

fn assert_whole(store: &Store) {
    let report = store.verify_ledger().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

/// The directories of buckets, by their names and that of their owner.
fn bucket_dirs(disk: &dyn Disk) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for parent in ["/data/keyspaces", "/data/logs"] {
        for owner in disk.read_dir(Path::new(parent)).unwrap_or_default() {
            let dir = Path::new(parent).join(&owner.name);
            let entries = disk.read_dir(&dir).unwrap_or_default();
            let buckets = entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory);
            found.extend(buckets.map(|bucket| (owner.name.clone(), bucket.name)));
        }
    }
    found
}

/// The form a time has in a bucket's name.
fn compact(at: Timestamp) -> String {
    at.to_string().replace(['-', ':', '.'], "")
}

/// Every bucket on the disk is open in the ledger, and nothing else is.
fn assert_paired(store: &Store, disk: &dyn Disk) {
    let mut open = BTreeMap::new();
    for entry in store.ledger().unwrap() {
        let bucket =
            || (entry.owner.clone().unwrap_or_default(), compact(entry.bucket_start.unwrap()));
        match entry.kind {
            LedgerKind::BucketBorn { .. } => {
                assert!(open.insert(bucket(), ()).is_none(), "born twice: {entry}");
            }
            LedgerKind::BucketDropped(_) => {
                assert!(open.remove(&bucket()).is_some(), "dropped twice: {entry}");
            }
            _ => {}
        }
    }
    let mut dirs = bucket_dirs(disk);
    dirs.sort();
    assert_eq!(open.into_keys().collect::<Vec<_>>(), dirs);
}

#[test]
fn a_life_leaves_its_entries() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let images = images(&store);
    images.insert("cat.jpg", b"bytes").unwrap();
    images.insert("dog.jpg", b"bytes").unwrap();
    visit(&store).unwrap();
    let _ = images.invalidate("cat.jpg").unwrap();
    let _ = images.invalidate_tag("pets").unwrap();
    let _ = images.invalidate_tag("cats").unwrap();
    assert_eq!(births(&store).len(), 2);
    store.maintain().unwrap();
    clock.advance(hours(15) + minutes(30));
    store.maintain().unwrap();
    let kinds = kinds(&store);
    let expected = [
        LedgerKind::Checkpoint(CheckpointCause::First),
        LedgerKind::Keyspace,
        LedgerKind::BucketBorn { found: false },
        LedgerKind::Log,
        LedgerKind::BucketBorn { found: false },
        LedgerKind::Scrubbed,
        LedgerKind::Invalidated { scope: InvalidatedScope::Key, count: 1 },
        LedgerKind::Invalidated { scope: InvalidatedScope::Tag, count: 2 },
        LedgerKind::BucketDropped(DropCause::Dropped),
        LedgerKind::BucketDropped(DropCause::Dropped),
        LedgerKind::KeysDestroyed { found: false },
    ];
    assert_eq!(kinds, expected);
    let drops = drops(&store);
    assert_eq!(drops[0].owner.as_deref(), Some("images"));
    assert_eq!((drops[0].records, drops[1].records), (Some(2), Some(1)));
    assert!(drops[0].bytes.unwrap() > 0);
    assert_eq!(drops[0].bucket_start.unwrap() + hours(16), drops[0].deadline.unwrap());
    assert_eq!(drops[0].at, drops[0].deadline.unwrap());
    let numbers: Vec<u64> = store.ledger().unwrap().iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=11).collect::<Vec<_>>());
    assert_eq!(store.ledger_head().unwrap().number, 11);
    assert_whole(&store);
    let files = disk.read_dir(Path::new("/data/ledger")).unwrap();
    let len = |name| disk.read_file(&Path::new("/data/ledger").join(name)).unwrap().len() as u64;
    let bytes: u64 = files.iter().map(|entry| len(&entry.name)).sum();
    assert_eq!((store.stats().ledger_bytes, files.len()), (bytes, 2));
    store.close().unwrap();
    let head = store.ledger_head();
    assert!(head.is_err(), "{head:?}");
    let looked = on_memory(&disk, &clock).open_read_only().unwrap();
    assert_eq!(looked.ledger_head().unwrap().number, 11);
    assert_eq!(self::kinds(&looked), expected);
    assert_whole(&looked);
    assert_eq!(looked.prove_retention(..).unwrap().verdict, RetentionVerdict::Kept);
}

#[test]
fn births_come_before_directories_whatever_fails() {
    let faults = [
        Fault::Error(ErrorKind::TimedOut),
        Fault::ErrorsFrom(ErrorKind::TimedOut),
        Fault::ErrorAfter(ErrorKind::TimedOut),
        Fault::Torn(ErrorKind::StorageFull),
    ];
    let mut choices = Random::new(seed("births_come_before_directories_whatever_fails"));
    for fault in faults {
        for call in 1.. {
            let (memory, clock) = (MemoryDisk::new(call), clock());
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            disk.inject(call, fault);
            let builder = || Store::builder("/data").disk(disk.clone());
            let worked = quiet(builder(), &clock).open().and_then(|store| work(&store, &clock));
            let is_over = disk.calls() < call;
            assert!(!is_over || worked.is_ok(), "{worked:?}");
            for cut in [
                memory.fork().kill(),
                memory.fork(),
                memory.crash(&mut |options: u32| choices.below(options.into()) as u32),
            ] {
                births_precede(&cut, &clock);
                let store = open(on_memory(&cut, &clock), false);
                assert_whole(&store);
                assert_paired(&store, &cut);
                work(&store, &clock).unwrap();
                assert_whole(&store);
                assert_paired(&store, &cut);
                store.close().unwrap();
                assert_whole(&on_memory(&cut, &clock).open_read_only().unwrap());
            }
            if is_over {
                break;
            }
        }
    }
}

/// Buckets of a keyspace and a log that are born and dropped, on both sides of a deadline.
fn work(store: &Store, clock: &ManualClock) -> Result<()> {
    try_images(store)?.insert("cat.jpg", b"bytes")?;
    visit(store)?;
    store.existing_keyspace("images")?.invalidate("dog.jpg").map(drop)?;
    store.maintain()?;
    clock.advance(hours(16));
    store.existing_keyspace("images")?.insert("cat.jpg", b"bytes")?;
    store.maintain()
}

/// Each bucket's directory has a birth that was durable before it, as a look from outside shows.
fn births_precede(disk: &MemoryDisk, clock: &ManualClock) {
    let dirs = bucket_dirs(disk);
    if dirs.is_empty() {
        return;
    }
    let store = on_memory(&disk.fork(), clock).open_read_only().unwrap();
    let born: Vec<String> =
        births(&store).iter().map(|entry| compact(entry.bucket_start.unwrap())).collect();
    for (_, bucket) in dirs {
        assert!(born.contains(&bucket), "{bucket} was made before its entry: {born:?}");
    }
}

#[test]
fn a_birth_that_cannot_be_written_does_not_happen() {
    let (memory, clock) = (MemoryDisk::new(1), clock());
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
    let images = images(&store);
    disk.inject(disk.calls() + 1, Fault::ErrorsFrom(ErrorKind::TimedOut));
    let error = images.insert("cat.jpg", b"bytes").unwrap_err();
    assert!(error.to_string().contains("ledger"), "{error}");
    assert!(bucket_dirs(&memory).is_empty());
    disk.clear();
    images.insert("cat.jpg", b"bytes").unwrap();
    images.insert("dog.jpg", b"bytes").unwrap();
    assert_eq!(births(&store).len(), 1);
    assert_whole(&store);
}

#[test]
fn a_drop_held_back_shows_as_late() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    images(&store).insert("cat.jpg", b"bytes").unwrap();
    visit(&store).unwrap();
    let verdict = |store: &Store| store.prove_retention(..).unwrap().verdict;
    assert_eq!(verdict(&store), RetentionVerdict::Kept);
    let deadline = births(&store)[0].deadline.unwrap();
    clock.advance(deadline.since(START) + minutes(2));
    let past = store.now().since(deadline);
    assert!(past > minutes(1), "{past:?}");
    let open = RetentionVerdict::Open { worst_late_ms: past.as_millis() as u64, buckets: 2 };
    assert_eq!(verdict(&store), open);
    let proof = store.prove_retention(deadline + minutes(1)..).unwrap();
    assert_eq!((proof.verdict, proof.owners.len()), (RetentionVerdict::Kept, 0));
    store.maintain().unwrap();
    let late = RetentionVerdict::Late { worst_late_ms: past.as_millis() as u64, buckets: 2 };
    assert_eq!(verdict(&store), late);
    let proof = store.prove_retention(deadline..=deadline).unwrap();
    assert_eq!(proof.owners.iter().map(|o| (o.due, o.dropped, o.late)).max(), Some((1, 1, 1)));
    store.close().unwrap();
    let looked = on_memory(&disk, &clock).open_read_only().unwrap();
    assert_eq!(verdict(&looked), late);
}

#[test]
fn a_drop_within_a_minute_of_the_deadline_is_kept() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    images(&store).insert("cat.jpg", b"bytes").unwrap();
    let deadline = births(&store)[0].deadline.unwrap();
    clock.advance(deadline.since(START) + minutes(1));
    assert_eq!(store.prove_retention(..).unwrap().verdict, RetentionVerdict::Kept);
    store.maintain().unwrap();
    let proof = store.prove_retention(..).unwrap();
    assert_eq!(proof.verdict, RetentionVerdict::Kept);
    assert_eq!((proof.owners[0].dropped, proof.owners[0].worst_late_ms), (1, 60_000));
}

/// A closed store with two ledger files and a few entries in the second.
fn closed() -> (MemoryDisk, ManualClock) {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    for _ in 0..11 {
        images(&store).insert("cat.jpg", b"bytes").unwrap();
        visit(&store).unwrap();
        clock.advance(hours(1));
    }
    store.close().unwrap();
    assert!(disk.read_file(&log_file(2)).is_ok() && disk.read_file(&log_file(3)).is_err());
    (disk, clock)
}

/// What is wrong, as a look from outside finds it: files and offsets.
fn problems(disk: &MemoryDisk, clock: &ManualClock) -> Vec<(PathBuf, u64)> {
    let store = on_memory(disk, clock).open_read_only().unwrap();
    let report = store.verify_ledger().unwrap();
    assert_eq!(store.verify().unwrap().problems.is_empty(), report.problems.is_empty());
    if !report.problems.is_empty() {
        assert_eq!(store.prove_retention(..).unwrap().verdict, RetentionVerdict::Broken);
    }
    let mut told = HashSet::new();
    for problem in &report.problems {
        assert!(told.insert(format!("{problem:?}")), "told twice: {problem:?}");
    }
    report.problems.into_iter().map(|problem| (problem.path, problem.offset)).collect()
}

#[test]
fn every_changed_byte_is_found_and_located() {
    let (disk, clock) = closed();
    assert_eq!(problems(&disk, &clock), []);
    for number in [1, 2] {
        let path = log_file(number);
        let whole = disk.read_file(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            disk.write_file(&path, &changed).unwrap();
            let found = problems(&disk, &clock);
            let place = if at < 512 { 0 } else { 512 + (at - 512) / 160 * 160 } as u64;
            assert!(found.contains(&(path.clone(), place)), "{number}, byte {at}: {found:?}");
        }
        disk.write_file(&path, &whole).unwrap();
    }
    assert_eq!(problems(&disk, &clock), []);
}

#[test]
fn every_cut_is_found_and_located() {
    let (disk, clock) = closed();
    for number in [1, 2] {
        let path = log_file(number);
        let whole = disk.read_file(&path).unwrap();
        for len in (0..whole.len()).step_by(7) {
            disk.write_file(&path, &whole[..len]).unwrap();
            let found = problems(&disk, &clock);
            assert!(found.iter().any(|(file, _)| *file == path), "{number}, {len}: {found:?}");
        }
        // Entries taken out at the end, and the file as long as it was.
        let used =
            whole.chunks(160).rposition(|chunk| chunk.iter().any(|byte| *byte != 0)).unwrap();
        let last = 512 + (used * 160 - 512) / 160 * 160;
        for place in (512..=last).step_by(160) {
            let mut cut = whole.clone();
            cut[place..].fill(0);
            disk.write_file(&path, &cut).unwrap();
            let found = problems(&disk, &clock);
            assert!(found.contains(&(path.clone(), place as u64)), "{number}, {place}: {found:?}");
        }
        disk.remove_file(&path).unwrap();
        assert_eq!(problems(&disk, &clock)[0], (path.clone(), 0));
        disk.write_file(&path, &whole).unwrap();
    }
    assert_eq!(problems(&disk, &clock), []);
}

#[test]
fn a_broken_ledger_is_kept_and_gone_on_from() {
    let damages: [fn(&MemoryDisk); 5] = [
        |disk| change(disk, 2, 512 + 160 + 40),
        |disk| change(disk, 1, 512 + 160 + 40),
        |disk| change(disk, 2, 20),
        |disk| disk.remove_file(&log_file(2)).unwrap(),
        |disk| {
            disk.remove_file(&log_file(1)).unwrap();
            disk.remove_file(&log_file(2)).unwrap();
        },
    ];
    for (at, damage) in damages.into_iter().enumerate() {
        let (disk, clock) = closed();
        damage(&disk);
        let before = problems(&disk, &clock);
        let files: Vec<_> = disk.all_files().into_iter().filter(|f| f.starts_with(DIR)).collect();
        let kept: Vec<_> = files.iter().map(|file| disk.read_file(file).unwrap()).collect();
        for round in 0..3 {
            let store = open(on_memory(&disk, &clock), false);
            assert_eq!(store.recovery_report().corrupt_records.is_empty(), before.is_empty());
            images(&store).insert("cat.jpg", b"bytes").unwrap();
            visit(&store).unwrap();
            clock.advance(hours(1));
            assert!(!store.verify_ledger().unwrap().problems.is_empty());
            assert_paired_if(at != 1, &store, &disk);
            if round == 1 {
                store.close().unwrap();
            }
            let found = problems(&disk.fork(), &clock);
            assert!(found.contains(&before[0]), "{at}: {before:?}, then {found:?}");
            let places: HashSet<_> = found.iter().collect();
            assert_eq!(places.len(), found.len(), "{at}: {found:?}");
        }
        for (file, bytes) in files.iter().zip(&kept) {
            let is_written = file.ends_with("spare") || at == 1 && *file == log_file(2);
            let now = disk.read_file(file);
            assert!(is_written || now.unwrap() == *bytes, "{at}: {} was changed", file.display());
        }
        let resumed = |kind| matches!(kind, LedgerKind::Checkpoint(CheckpointCause::Broken));
        let store = on_memory(&disk, &clock).open_read_only().unwrap();
        let resumed = of_kind(&store, resumed).len();
        assert_eq!(resumed, usize::from(at != 1), "once, unless the newest file is as it was");
    }
}

#[test]
fn a_missing_file_is_one_problem() {
    let (disk, clock) = closed();
    for _ in 0..3 {
        let store = open(on_memory(&disk, &clock), false);
        for _ in 0..20 {
            images(&store).insert("cat.jpg", b"bytes").unwrap();
            clock.advance(hours(1));
            store.maintain().unwrap();
        }
        store.close().unwrap();
    }
    assert!(disk.read_file(&log_file(4)).is_ok());
    assert_eq!(problems(&disk, &clock), []);
    for number in [1, 2, 3] {
        let disk = disk.fork();
        disk.remove_file(&log_file(number)).unwrap();
        assert_eq!(problems(&disk, &clock), [(log_file(number), 0)]);
    }
}

/// A birth that cannot be read any more leaves its drop alone.
fn assert_paired_if(is_readable: bool, store: &Store, disk: &dyn Disk) {
    let births = births(store).len();
    assert!(births > 0);
    if is_readable {
        let dirs = bucket_dirs(disk).len();
        assert!(births >= dirs.min(2), "{births} births, {dirs} buckets");
    }
}

fn change(disk: &MemoryDisk, number: u64, at: usize) {
    let mut bytes = disk.read_file(&log_file(number)).unwrap();
    bytes[at] ^= 1;
    disk.write_file(&log_file(number), &bytes).unwrap();
}

#[test]
fn a_store_without_its_ledger_begins_another() {
    let (disk, clock) = closed();
    let buckets = bucket_dirs(&disk).len();
    for file in disk.all_files().into_iter().filter(|file| file.starts_with(DIR)) {
        disk.remove_file(&file).unwrap();
    }
    let store = open(on_memory(&disk, &clock), false);
    let births = births(&store);
    assert_eq!(births.len(), buckets);
    assert!(births.iter().all(|e| e.kind == LedgerKind::BucketBorn { found: true }));
    assert!(!store.verify_ledger().unwrap().problems.is_empty());
    assert_eq!(store.prove_retention(..).unwrap().verdict, RetentionVerdict::Broken);
}

/// A file that was begun after a break says so, for as long as it is kept.
#[test]
fn a_break_is_told_until_what_was_written_behind_it_is_gone_too() {
    let (disk, clock) = closed();
    change(&disk, 2, HEADER_LEN + ENTRY_LEN + 40);
    let store = open(on_memory(&disk, &clock).ledger_retention(hours(24 * 3)), false);
    let mut told: Vec<Vec<(PathBuf, &str)>> = Vec::new();
    for _ in 0..24 * 12 {
        images(&store).insert("cat.jpg", b"bytes").unwrap();
        let _ = images(&store).invalidate("dog.jpg").unwrap();
        clock.advance(hours(1));
        store.maintain().unwrap();
        let problems = store.verify_ledger().unwrap().problems;
        let problems: Vec<_> = problems.into_iter().map(|p| (p.path, p.what)).collect();
        let verdict = store.prove_retention(..).unwrap().verdict;
        assert_eq!(verdict == RetentionVerdict::Broken, !problems.is_empty(), "{problems:?}");
        if told.last() != Some(&problems) {
            told.push(problems);
        }
    }
    let gone = "it goes on after a break in a file that is gone by now";
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].iter().all(|(path, _)| *path == log_file(2)), "{told:?}");
    assert_eq!(told[1], [(log_file(3), gone)]);
    assert_eq!(told[2], []);
}

/// Somebody puts the file back that was found changed: that it had been is told all the same.
#[test]
fn a_break_is_told_though_it_was_mended_by_hand() {
    let (disk, clock) = closed();
    let whole = disk.read_file(&log_file(2)).unwrap();
    change(&disk, 2, HEADER_LEN + ENTRY_LEN + 40);
    let before = problems(&disk, &clock);
    open(on_memory(&disk, &clock), false).close().unwrap();
    disk.write_file(&log_file(2), &whole).unwrap();
    let store = open(on_memory(&disk, &clock), false);
    let told = store.verify_ledger().unwrap().problems;
    let told: Vec<_> = told.into_iter().map(|p| (p.path, p.offset, p.what)).collect();
    assert_eq!(told, [(log_file(2), before[0].1, "the ledger was found broken here")]);
}

/// Two copies of a store go on differently; entries of one are put into the other, each whole in itself.
#[test]
fn entries_of_a_copy_do_not_fit() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    images(&store).insert("cat.jpg", b"bytes").unwrap();
    store.close().unwrap();
    let copy = disk.fork();
    for (disk, count) in [(&disk, 1), (&copy, 2)] {
        let store = open(on_memory(disk, &clock), false);
        for _ in 0..4 {
            (0..count).for_each(|_| drop(images(&store).invalidate("dog.jpg").unwrap()));
            clock.advance(minutes(1));
            store.maintain().unwrap();
        }
        store.close().unwrap();
    }
    let (whole, other) = [&disk, &copy].map(|d| d.read_file(&log_file(1)).unwrap()).into();
    let count = disk_entries(&whole);
    assert_eq!((count, disk_entries(&other)), (7, 7));
    let place = |index: usize| HEADER_LEN + index * ENTRY_LEN;
    for index in 3..count {
        let mut mixed = whole.clone();
        let entry = place(index)..place(index + 1);
        mixed[entry.clone()].copy_from_slice(&other[entry]);
        disk.write_file(&log_file(1), &mixed).unwrap();
        let found = problems(&disk, &clock);
        // The first of them fits to what is before it, and not to what is behind.
        let at = if index == 3 { index + 1 } else { index };
        assert_eq!(found[0], (log_file(1), place(at) as u64), "entry {index}: {found:?}");
    }
    disk.write_file(&log_file(1), &other).unwrap();
    let store = on_memory(&disk, &clock).open_read_only().unwrap();
    let told = store.verify_ledger().unwrap().problems;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].what, "not the entry that STATE names");
    assert_eq!(told[0].offset, place(count - 1) as u64);
}

/// Entries in the bytes of a file.
fn disk_entries(bytes: &[u8]) -> usize {
    let mut entries = bytes[HEADER_LEN..].chunks(ENTRY_LEN);
    entries.rposition(|entry| entry.iter().any(|byte| *byte != 0)).unwrap() + 1
}

/// One call fails while a bucket is made, for rows and for a value; the next attempt makes it, and it is
/// told once.
#[test]
fn a_birth_that_fails_and_is_tried_again_is_told_once() {
    for fault in [Fault::Error(ErrorKind::TimedOut), Fault::ErrorAfter(ErrorKind::TimedOut)] {
        for call in 1.. {
            let (memory, clock) = (MemoryDisk::new(call), clock());
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
            let _ = (images(&store), access(&store));
            let reached = disk.calls() + call;
            disk.inject(reached, fault);
            let write = || images(&store).insert("cat.jpg", b"bytes").and(visit(&store));
            let what = format!("{fault:?} at call {call}, {:?}", write());
            let is_over = disk.calls() < reached;
            disk.clear();
            match write() {
                Ok(()) => {
                    assert_eq!(births(&store).len(), 2, "{what}");
                    assert_paired(&store, &memory);
                    assert_whole(&store);
                    assert!(images(&store).contains("cat.jpg").unwrap(), "{what}");
                }
                Err(e) => assert!(matches!(e, Error::Poisoned { .. }), "{what}: {e}"),
            }
            drop(store);
            let store = open(on_memory(&memory.kill(), &clock), false);
            write_again(&store);
            assert_eq!(births(&store).len(), 2, "{what}, opened again");
            assert_whole(&store);
            if is_over {
                break;
            }
        }
    }
}

/// The disk is full at one call while a bucket is made, and nobody tries again before its time is over.
#[test]
fn a_bucket_that_could_not_be_made_does_not_stay_open() {
    for (rows, future) in [(false, false), (true, false), (true, true)] {
        for call in 1.. {
            let (memory, clock) = (MemoryDisk::new(call), clock());
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
            let (images, access) = (images(&store), access(&store));
            if future {
                clock.set_wall(START + hours(24 * 3650));
                store.confirm_clock().unwrap();
            }
            let reached = disk.calls() + call;
            disk.inject(reached, Fault::Error(ErrorKind::StorageFull));
            let made = match rows {
                true => access.pseudonym(VISITOR, store.now()).map(drop),
                false => images.insert("cat.jpg", b"bytes"),
            };
            let what = format!("rows {rows}, future {future}, call {call}, {made:?}");
            let is_over = disk.calls() < reached;
            disk.clear();
            if future {
                clock.set_wall(START);
                store.reset_clock().unwrap();
            } else {
                clock.advance(hours(16));
            }
            store.maintain().unwrap();
            assert_eq!(bucket_dirs(&memory), [], "{what}");
            assert!(memory.all_files().iter().all(|path| !path.ends_with("pseudonym.keys")));
            assert_eq!(births(&store).len(), drops(&store).len(), "{what}");
            assert!(!is_over || births(&store).len() == 1);
            assert_whole(&store);
            if is_over {
                break;
            }
        }
    }
}

fn write_again(store: &Store) {
    images(store).insert("cat.jpg", b"bytes").unwrap();
    visit(store).unwrap();
}

/// What lies beside its files is none of it, and what has been given up is removed.
#[test]
fn names_that_do_not_fit_are_passed_over() {
    let (disk, clock) = closed();
    let newest = disk.read_file(&log_file(2)).unwrap();
    for number in [0, 4, 99] {
        disk.write_file(&log_file(number), &newest).unwrap();
    }
    assert_eq!(problems(&disk, &clock), []);
    let store = open(on_memory(&disk, &clock), false);
    assert_whole(&store);
    assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
    let files: Vec<bool> = [0, 1, 2, 3, 4, 99].map(|n| disk.read_file(&log_file(n)).is_ok()).into();
    assert_eq!(files, [false, true, true, false, true, true], "the one below the oldest is gone");
}

#[test]
fn a_file_in_place_of_another_is_told() {
    let (disk, clock) = closed();
    let whole = [1, 2].map(|number| disk.read_file(&log_file(number)).unwrap());
    let others = MemoryDisk::new(9);
    let store = open(on_memory(&others, &clock), false);
    images(&store).insert("cat.jpg", b"bytes").unwrap();
    store.close().unwrap();
    let of_another_store = others.read_file(&log_file(1)).unwrap();
    for (number, bytes) in [(2, &whole[0]), (1, &whole[1]), (1, &of_another_store)] {
        disk.write_file(&log_file(number), bytes).unwrap();
        let found = problems(&disk, &clock);
        assert!(found.contains(&(log_file(number), 0)), "{number}: {found:?}");
        disk.write_file(&log_file(number), &whole[number as usize - 1]).unwrap();
    }
    for file in disk.all_files().iter().filter(|file| file.starts_with(DIR)) {
        disk.remove_file(file).unwrap();
    }
    disk.remove_dir(Path::new(DIR)).unwrap();
    let found = problems(&disk, &clock);
    assert_eq!(found[0], (log_file(1), 0), "all of it is gone");
}

#[test]
fn entries_leave_after_their_time_and_open_buckets_are_carried() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let builder = || on_memory(&disk, &clock).ledger_retention(hours(24 * 10));
    let store = open(builder(), false);
    let year = KeyspaceOptions::new(Retention::days(365)).segment_bytes(4096);
    store.keyspace("long", year).unwrap().insert("kept", b"bytes").unwrap();
    let born_by = births(&store)[0].number;
    clock.advance(minutes(30));
    for _ in 0..24 * 30 {
        images(&store).insert("cat.jpg", b"bytes").unwrap();
        let _ = images(&store).invalidate("dog.jpg").unwrap();
        clock.advance(hours(1));
        store.maintain().unwrap();
    }
    assert!(disk.read_file(&log_file(1)).is_err());
    assert_whole(&store);
    let entries = store.ledger().unwrap();
    assert!(entries[0].number > 100 && entries[0].at + hours(24 * 12) > store.now());
    let is_long = |entry: &LedgerEntry| entry.owner.as_deref() == Some("long");
    let assert_carried = |store: &Store| {
        let mut carried = of_kind(store, |kind| matches!(kind, LedgerKind::BucketCarried { .. }));
        carried.retain(is_long);
        assert!(!carried.is_empty());
        for entry in carried {
            assert_eq!(entry.kind, LedgerKind::BucketCarried { born_by });
        }
    };
    assert_carried(&store);
    assert_eq!(store.prove_retention(..).unwrap().verdict, RetentionVerdict::Kept);
    let counted_before = counted(&store, InvalidatedScope::Key);
    store.close().unwrap();
    let store = open(builder(), false);
    assert_whole(&store);
    assert_eq!(counted(&store, InvalidatedScope::Key), counted_before, "none is counted again");
    let missing = of_kind(&store, |kind| {
        kind == LedgerKind::BucketDropped(DropCause::FoundMissing)
            || kind == LedgerKind::BucketBorn { found: true }
    });
    assert_eq!(missing, []);
    // Carried once more, by a process that knows it from the entry that carries it.
    let oldest = store.ledger().unwrap()[0].number;
    for _ in 0..24 * 30 {
        images(&store).insert("cat.jpg", b"bytes").unwrap();
        let _ = images(&store).invalidate("dog.jpg").unwrap();
        clock.advance(hours(1));
        store.maintain().unwrap();
    }
    assert!(store.ledger().unwrap()[0].number > oldest + 100);
    assert_carried(&store);
    clock.advance(hours(24 * 366));
    store.confirm_clock().unwrap();
    store.maintain().unwrap();
    assert!(drops(&store).iter().any(is_long));
}

/// A file ends in a future that was wrong; those behind it leave in time, before and after an opening.
#[test]
fn a_file_that_ended_in_a_wrong_future_keeps_no_others() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let builder = || on_memory(&disk, &clock).ledger_retention(hours(24));
    let mut store = open(builder(), false);
    let files = || disk.all_files().iter().filter(|path| path.starts_with(DIR)).count();
    let work = |store: &Store, minutes_apart| {
        let _ = images(store).invalidate("dog.jpg").unwrap();
        clock.advance(minutes(minutes_apart));
        store.maintain().unwrap();
    };
    clock.set_wall(START + hours(24 * 3650));
    store.confirm_clock().unwrap();
    while disk.read_file(&log_file(2)).is_err() {
        work(&store, 2);
    }
    clock.set_wall(START);
    store.reset_clock().unwrap();
    for reopened in [false, true] {
        (0..200).for_each(|_| work(&store, 30));
        assert!(files() < 8, "{} files, opened again: {reopened}", files());
        assert!(disk.read_file(&log_file(1)).is_err());
        drop(store);
        store = open(builder(), false);
    }
}

#[test]
fn invalidations_are_counted_exactly_whenever_the_process_ends() {
    for steps in 0..12_u64 {
        let (mut disk, clock) = (MemoryDisk::new(steps), clock());
        let mut expected = [0, 0, 0];
        for round in 0..4 {
            let store = open(on_memory(&disk, &clock), round % 2 == 0);
            let images = images(&store);
            let held = images.fill("slow.jpg");
            for step in 0..steps {
                match step % 4 {
                    0 | 1 => drop(images.invalidate("cat.jpg").unwrap()),
                    2 => drop(images.invalidate_tag("pets").unwrap()),
                    _ => drop(images.invalidate_all().unwrap()),
                }
                expected[[0, 0, 1, 2][step as usize % 4]] += 1;
                if step == round * 2 {
                    clock.advance(minutes(1));
                    store.maintain().unwrap();
                }
            }
            drop(held);
            match round {
                0 => disk = disk.kill(),
                1 => store.close().unwrap(),
                2 => disk = disk.crash(&mut |_: u32| 0),
                _ => {
                    store.maintain().unwrap();
                    disk = disk.kill();
                }
            }
        }
        let store = open(on_memory(&disk, &clock), false);
        let scopes = [InvalidatedScope::Key, InvalidatedScope::Tag, InvalidatedScope::All];
        assert_eq!(scopes.map(|scope| counted(&store, scope)), expected, "{steps} steps");
        assert_whole(&store);
    }
}

/// A process ends while an invalidation is written, the next one while it opens, and then the power goes.
#[test]
fn an_invalidation_that_a_process_was_writing_is_counted_once_it_is_durable() {
    let (mut lost, mut kept) = (0, 0);
    for call in 1.. {
        let (memory, clock) = (MemoryDisk::new(call), clock());
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
        let images = images(&store);
        images.insert("cat.jpg", b"bytes").unwrap();
        store.sync().unwrap();
        let reached = disk.calls() + call;
        disk.inject(reached, Fault::ErrorsFrom(ErrorKind::TimedOut));
        let _ = images.invalidate("cat.jpg");
        let is_over = disk.calls() < reached;
        let left = memory.kill();
        for end in 1.. {
            let next = left.fork().kill();
            let disk = FaultyDisk::new(Arc::new(next.clone()));
            disk.inject(end, Fault::ErrorsFrom(ErrorKind::TimedOut));
            let builder = quiet(Store::builder("/data").disk(disk.clone()), &clock);
            drop(builder.open());
            let is_open = disk.calls() < end;
            let store = open(on_memory(&next.crash(&mut |_: u32| 0), &clock), false);
            let is_hidden = !try_images(&store).unwrap().contains("cat.jpg").unwrap();
            let count = counted(&store, InvalidatedScope::Key);
            assert_eq!(count, u64::from(is_hidden), "call {call}, the next process ends at {end}");
            *(if is_hidden { &mut kept } else { &mut lost }) += 1;
            if is_open {
                break;
            }
        }
        if is_over {
            break;
        }
    }
    assert!(lost > 0 && kept > 0, "{lost} lost, {kept} kept");
}

/// STATE names the newest entry, so that it is missed if it is gone. The time may have been written down
/// shortly before, which is no reason to wait.
#[test]
fn state_names_what_was_counted_before_its_tombstones_are_forgotten() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let images = images(&store);
    for rest_s in [0, 35, 26] {
        clock.advance(Duration::from_secs(rest_s));
        images.invalidate("cat.jpg").unwrap();
        store.maintain().unwrap();
    }
    assert_eq!(counted(&store, InvalidatedScope::Key), 3);
    let newest = store.ledger().unwrap().last().unwrap().number;
    let disk = disk.crash(&mut |_: u32| 0);
    let path = log_file(1);
    let mut bytes = disk.read_file(&path).unwrap();
    let mut entries = bytes[HEADER_LEN..].chunks_mut(ENTRY_LEN);
    entries.rfind(|entry| entry.iter().any(|byte| *byte != 0)).unwrap().fill(0);
    disk.write_file(&path, &bytes).unwrap();
    let store = open(on_memory(&disk, &clock), false);
    assert!(!store.verify_ledger().unwrap().problems.is_empty(), "entry {newest} is not missed");
}

/// Calls in a row fail while what there was is counted, and a few calls later the process ends.
#[test]
fn no_tombstone_is_forgotten_that_could_not_be_counted() {
    for (in_a_row, later) in (1..6).flat_map(|row| (0..8).map(move |later| (row, later))) {
        for call in 1.. {
            let (memory, clock) = (MemoryDisk::new(1), clock());
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
            let images = images(&store);
            (0..60).for_each(|_| drop(images.invalidate("cat.jpg").unwrap()));
            let reached = disk.calls() + call;
            let end = reached + in_a_row;
            (reached..end).for_each(|call| disk.inject(call, Fault::Error(ErrorKind::TimedOut)));
            disk.inject(end + later, Fault::ErrorsFrom(ErrorKind::TimedOut));
            let maintained = store.maintain();
            let is_over = disk.calls() < reached;
            let left = memory.kill();
            drop(store);
            let store = open(on_memory(&left, &clock), false);
            store.maintain().unwrap();
            let what = format!("{in_a_row} from {call} on, the end {later} later: {maintained:?}");
            assert_eq!(counted(&store, InvalidatedScope::Key), 60, "{what}");
            if is_over {
                break;
            }
        }
    }
}

/// The name of the next file cannot be synced, and the one before is forgotten.
#[test]
fn state_names_no_file_whose_name_is_not_durable() {
    let mut unnamed = 0;
    for entries in 1..40 {
        let (memory, clock) = (MemoryDisk::new(1), clock());
        let (builder, disk) = hooked(&memory, &clock);
        let store = open(builder.ledger_retention(hours(24)), false);
        let images = images(&store);
        for _ in 0..entries {
            let _ = images.invalidate("cat.jpg").unwrap();
            clock.advance(minutes(2));
            store.maintain().unwrap();
        }
        let files =
            || memory.all_files().iter().filter(|path| path.starts_with("/data/ledger")).count();
        let before = files();
        let _ = images.invalidate("cat.jpg").unwrap();
        clock.advance(hours(25));
        disk.before(|call, path| match call {
            Call::SyncDir if path.ends_with("ledger") => Answer::Fail,
            _ => Answer::Do,
        });
        unnamed += u32::from(store.maintain().is_err() && files() == before);
        let left = memory.crash(&mut |_: u32| 0);
        let store = open(on_memory(&left, &clock), false);
        assert_eq!(store.verify_ledger().unwrap().problems, [], "{entries} entries");
    }
    assert!(unnamed > 0);
}

#[test]
fn readers_letting_go_is_a_second_line() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), true);
    let images = images(&store);
    images.insert("cat.jpg", b"bytes").unwrap();
    store.sync().unwrap();
    let held = images.get("cat.jpg").unwrap().unwrap();
    clock.advance(hours(17));
    store.maintain().unwrap();
    let released = |kind| matches!(kind, LedgerKind::BucketReleased { .. });
    assert_eq!((drops(&store).len(), of_kind(&store, released).len()), (1, 0));
    assert_eq!(held.as_ref(), b"bytes");
    drop(held);
    store.maintain().unwrap();
    store.maintain().unwrap();
    let released = of_kind(&store, released);
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].kind, LedgerKind::BucketReleased { segments: 1 });
    assert_eq!(released[0].instance, drops(&store)[0].instance);
}

#[test]
fn keys_are_reported_destroyed_once_wherever_the_process_ends() {
    for call in 1.. {
        let (memory, clock) = (MemoryDisk::new(call), clock());
        let store = open(on_memory(&memory, &clock), false);
        visit(&store).unwrap();
        // A bucket that has no keys.
        images(&store).insert("cat.jpg", b"bytes").unwrap();
        store.close().unwrap();
        clock.advance(hours(17));
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        disk.inject(call, Fault::ErrorsFrom(ErrorKind::TimedOut));
        let opened = quiet(Store::builder("/data").disk(disk.clone()), &clock).open();
        let worked = opened.and_then(|store| store.maintain());
        let is_over = disk.calls() < call;
        let disk = memory.kill();
        for _ in 0..3 {
            let store = open(on_memory(&disk, &clock), false);
            store.maintain().unwrap();
            let destroyed = |kind| matches!(kind, LedgerKind::KeysDestroyed { .. });
            assert_eq!(of_kind(&store, destroyed).len(), 1, "call {call}");
            assert_eq!(drops(&store).len(), 2, "call {call}");
            assert_whole(&store);
            store.close().unwrap();
        }
        if is_over {
            worked.unwrap();
            break;
        }
    }
}

/// Opening finds buckets past their time, and one call of it fails, or does not know that it worked. What
/// could not be synced the next opening tells.
#[test]
fn a_drop_that_fails_at_open_is_told_once_and_by_its_deadline() {
    let mut uncertain = 0;
    for fault in [Fault::Error(ErrorKind::TimedOut), Fault::ErrorAfter(ErrorKind::TimedOut)] {
        for call in 1.. {
            let (memory, clock) = (MemoryDisk::new(call), clock());
            let store = open(on_memory(&memory, &clock), false);
            images(&store).insert("cat.jpg", b"bytes").unwrap();
            visit(&store).unwrap();
            store.close().unwrap();
            drop(store);
            clock.advance(hours(16));
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            disk.inject(call, fault);
            let opened = quiet(Store::builder("/data").disk(disk.clone()), &clock).open();
            let worked = opened.as_ref().map(Store::maintain);
            let is_over = disk.calls() < call;
            disk.clear();
            let what = format!("{fault:?} at call {call}, {worked:?}");
            if let Ok(store) = &opened {
                assert_eq!(store.maintain().err().map(|e| e.to_string()), None, "{what}");
                assert!(bucket_dirs(&memory).is_empty(), "{what}");
                if drops(store).len() == 2 {
                    assert_told_once(store, &what);
                } else {
                    uncertain += 1;
                }
            }
            drop(opened);
            let store = open(on_memory(&memory.kill(), &clock), false);
            assert_told_once(&store, &format!("{what}, opened again"));
            // What was not looked at is not called empty.
            assert!(drops(&store).iter().all(|drop| drop.records != Some(0)), "{what}");
            if is_over {
                break;
            }
        }
    }
    assert_eq!(uncertain, 2 * SYNCS_OF_DROPS);
}

/// From one call of the upkeep on, nothing works for a while: the entries of what was done wait, of what
/// could not be synced for the next opening.
#[test]
fn a_disk_that_fails_for_a_while_holds_no_entry_back_for_good() {
    let mut uncertain = 0;
    for call in 1.. {
        let (memory, clock) = (MemoryDisk::new(call), clock());
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
        images(&store).insert("cat.jpg", b"bytes").unwrap();
        visit(&store).unwrap();
        store.sync().unwrap();
        clock.advance(hours(16));
        let reached = disk.calls() + call;
        disk.inject(reached, Fault::ErrorsFrom(ErrorKind::TimedOut));
        let what = format!("call {call}, {:?}", store.maintain());
        let is_over = disk.calls() < reached;
        disk.clear();
        match store.maintain() {
            Ok(()) => {
                assert!(bucket_dirs(&memory).is_empty(), "{what}");
                if drops(&store).len() == 2 {
                    assert_told_once(&store, &what);
                } else {
                    uncertain += 1;
                }
                assert_whole(&store);
            }
            Err(e) => assert!(matches!(e, Error::Poisoned { .. }), "{what}: {e}"),
        }
        drop(store);
        let store = open(on_memory(&memory.kill(), &clock), false);
        store.maintain().unwrap();
        assert_told_once(&store, &format!("{what}, opened again"));
        assert_whole(&store);
        if is_over {
            break;
        }
    }
    assert_eq!(uncertain, SYNCS_OF_DROPS);
}

const TRASH: &str = "/data/trash";

fn hooked(memory: &MemoryDisk, clock: &ManualClock) -> (StoreBuilder, HookedDisk) {
    let disk = HookedDisk::new(memory);
    (quiet(Store::builder("/data").disk(disk.clone()), clock), disk)
}

/// A store with a bucket whose time is over.
fn with_a_due_bucket() -> (MemoryDisk, ManualClock, HookedDisk, Store) {
    let (memory, clock) = (MemoryDisk::new(1), clock());
    let (builder, disk) = hooked(&memory, &clock);
    let store = open(builder, false);
    visit(&store).unwrap();
    store.sync().unwrap();
    clock.advance(hours(17));
    (memory, clock, disk, store)
}

/// The second sync says that it worked; then the power goes, and the bucket is back.
#[test]
fn a_drop_whose_sync_failed_is_not_told_for_another_sync() {
    let (memory, clock, disk, store) = with_a_due_bucket();
    disk.forget_next_sync(TRASH);
    store.drop_expired().unwrap_err();
    for _ in 0..2 {
        store.maintain().unwrap();
        assert_eq!((bucket_dirs(&memory).len(), drops(&store).len()), (0, 0));
        let verdict = store.prove_retention(..).unwrap().verdict;
        assert!(matches!(verdict, RetentionVerdict::Open { buckets: 1, .. }), "{verdict:?}");
    }
    let cut = memory.crash(&mut |_: u32| 0);
    assert_eq!(bucket_dirs(&cut).len(), 1, "it is back");
    let store = open(on_memory(&cut, &clock), false);
    store.maintain().unwrap();
    assert_eq!((bucket_dirs(&cut).len(), drops(&store).len()), (0, 1));
    assert_whole(&store);
}

/// The process whose sync failed ends, the next one tells the ledger, and then the power goes. What has left stays
/// in the trash, or is given back before.
#[test]
fn a_drop_whose_sync_failed_is_not_told_by_the_next_process_before_it_is_durable() {
    for (dir, reaped) in
        [TRASH, "/data/logs/access"].into_iter().flat_map(|dir| [(dir, false), (dir, true)])
    {
        let (memory, clock, disk, store) = with_a_due_bucket();
        disk.forget_next_sync(dir);
        store.drop_expired().unwrap_err();
        if reaped {
            store.maintain().unwrap();
        }
        drop(store);
        let builder = quiet(Store::builder("/data").disk(disk.clone()), &clock);
        let store = open(builder, false);
        assert_eq!(drops(&store).len(), 1, "{dir}, {reaped}");
        store.maintain().unwrap();
        let cut = memory.crash(&mut |_: u32| 0);
        assert_eq!(bucket_dirs(&cut), [], "{dir}, {reaped}: it is back");
    }
}

/// A disk says that it has synced a drop, and has not.
#[test]
fn keys_that_are_back_are_not_told_destroyed_before_they_have_left_again() {
    let (memory, clock, disk, store) = with_a_due_bucket();
    disk.before(|call, path| match call {
        Call::SyncDir if path == Path::new(TRASH) => Answer::Pretend,
        _ => Answer::Do,
    });
    store.drop_expired().unwrap();
    let cut = memory.crash(&mut |_: u32| 0);
    assert_eq!(bucket_dirs(&cut).len(), 1, "it is back");
    let destroyed = |store: &Store| {
        let is_it = |kind| matches!(kind, LedgerKind::KeysDestroyed { .. });
        of_kind(store, is_it).len()
    };
    let store = open(on_memory(&cut, &clock), false);
    let keys = cut.all_files().iter().filter(|path| path.ends_with("pseudonym.keys")).count();
    assert_eq!((keys, destroyed(&store)), (1, 0));
    store.maintain().unwrap();
    assert_eq!(destroyed(&store), 1);
    drop(store);
    let store = open(on_memory(&cut, &clock), false);
    assert_eq!(destroyed(&store), drops(&store).len());
}

/// The sync of the name of a new file is lost, and the next one says that it worked.
#[test]
fn a_birth_in_a_file_whose_name_a_failed_sync_has_lost_comes_before_its_directory() {
    let (memory, clock) = (MemoryDisk::new(1), clock());
    let (builder, disk) = hooked(&memory, &clock);
    let store = open(builder, false);
    let images = images(&store);
    let round = || {
        let _ = images.invalidate("cat.jpg").unwrap();
        clock.advance(minutes(2));
        store.maintain().unwrap();
    };
    round();
    while store.ledger().unwrap().len() < entries_of(&memory) {
        round();
    }
    disk.forget_next_sync(DIR);
    images.insert("cat.jpg", b"bytes").unwrap();
    store.sync().unwrap();
    assert!(memory.read_file(&log_file(2)).is_ok());
    let cut = memory.crash(&mut |_: u32| 0);
    assert_eq!(bucket_dirs(&cut).len(), 1);
    births_precede(&cut, &clock);
}

/// The sync of its name is lost, its keys cannot be removed, and the next sync says that it worked.
#[test]
fn a_bucket_that_could_not_be_taken_back_does_not_leave_with_its_rows() {
    const OWNER: &str = "/data/logs/access";
    let (memory, clock) = (MemoryDisk::new(1), clock());
    let (builder, disk) = hooked(&memory, &clock);
    let store = open(builder, false);
    drop(access(&store));
    let [is_lost, is_kept, is_named] = [(); 3].map(|()| AtomicBool::new(false));
    disk.before(move |call, path| match call {
        Call::SyncDir if path == Path::new(OWNER) => {
            match (is_lost.swap(true, Ordering::Relaxed), is_named.load(Ordering::Relaxed)) {
                (false, _) => Answer::Fail,
                (true, false) => Answer::Pretend,
                (true, true) => Answer::Do,
            }
        }
        Call::RemoveFile if path.ends_with("pseudonym.keys") && is_lost.load(Ordering::Relaxed) => {
            if is_kept.swap(true, Ordering::Relaxed) {
                Answer::Do
            } else {
                Answer::Fail
            }
        }
        Call::Create if path.parent() == Some(Path::new(OWNER)) => {
            is_named.store(is_lost.load(Ordering::Relaxed), Ordering::Relaxed);
            Answer::Do
        }
        _ => Answer::Do,
    });
    visit(&store).unwrap_err();
    assert_eq!(bucket_dirs(&memory).len(), 1, "it could not be taken back");
    visit(&store).unwrap();
    store.sync().unwrap();
    let store = open(on_memory(&memory.crash(&mut |_: u32| 0), &clock), false);
    assert_eq!(access(&store).scan(..).unwrap().count(), 1);
}

/// The file with the birth is past its time before the drop is written down.
#[test]
fn a_bucket_whose_drop_is_not_written_yet_is_carried() {
    let (memory, clock) = (MemoryDisk::new(1), clock());
    let (builder, disk) = hooked(&memory, &clock);
    let store = open(builder.ledger_retention(hours(1)), false);
    images(&store).insert("cat.jpg", b"bytes").unwrap();
    while memory.read_file(&log_file(2)).is_err() {
        let _ = images(&store).invalidate("dog.jpg").unwrap();
        clock.advance(minutes(2));
        store.maintain().unwrap();
    }
    clock.advance(hours(16));
    disk.forget_next_sync(TRASH);
    store.maintain().unwrap_err();
    assert!(memory.read_file(&log_file(1)).is_err(), "it is forgotten");
    let verdict = store.prove_retention(..).unwrap().verdict;
    assert!(matches!(verdict, RetentionVerdict::Open { buckets: 1, .. }), "{verdict:?}");
    drop(store);
    let store = open(on_memory(&memory.kill(), &clock), false);
    assert_eq!(drops(&store).len(), 1);
    let verdict = store.prove_retention(..).unwrap().verdict;
    assert!(matches!(verdict, RetentionVerdict::Late { buckets: 1, .. }), "{verdict:?}");
}

/// What is born again in a bucket of which nobody knows whether it has left needs no other birth.
#[test]
fn a_bucket_that_left_uncertainly_and_is_made_again_is_told_once() {
    let (memory, clock) = (MemoryDisk::new(1), clock());
    clock.set_wall(START + hours(24 * 3650));
    let (builder, disk) = hooked(&memory, &clock);
    let store = open(builder, false);
    access(&store).pseudonym(VISITOR, store.now()).unwrap();
    clock.set_wall(START);
    disk.forget_next_sync(TRASH);
    store.reset_clock().unwrap_err();
    store.reset_clock().unwrap();
    clock.set_wall(START + hours(24 * 3650));
    store.confirm_clock().unwrap();
    visit(&store).unwrap();
    assert_eq!((births(&store).len(), drops(&store).len()), (1, 0));
    assert_paired(&store, &memory);
    clock.advance(hours(17));
    store.maintain().unwrap();
    assert_eq!((births(&store).len(), drops(&store).len()), (1, 1));
}

#[test]
fn a_bucket_that_somebody_has_removed_is_told_missing() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    images(&store).insert("cat.jpg", b"bytes").unwrap();
    let orphan = KeyspaceOptions::new(Retention::hours(16));
    store.keyspace("orphan", orphan).unwrap().insert("dog.jpg", b"bytes").unwrap();
    store.close().unwrap();
    drop(store);
    let bucket = |owner: &str| {
        let dir = Path::new("/data/keyspaces").join(owner);
        let name = bucket_dirs(&disk).into_iter().find(|(name, _)| name == owner).unwrap().1;
        dir.join(name)
    };
    for file in disk.all_files().iter().filter(|file| file.starts_with(bucket("images"))) {
        disk.remove_file(file).unwrap();
    }
    disk.remove_dir(&bucket("images")).unwrap();
    // Its bucket is there, though it is nobody's.
    disk.remove_file(Path::new("/data/keyspaces/orphan/KEYSPACE")).unwrap();
    for _ in 0..2 {
        let store = open(on_memory(&disk, &clock), false);
        assert!(!images(&store).contains("cat.jpg").unwrap());
        let drops = drops(&store);
        assert_eq!(drops.len(), 1);
        assert_eq!(drops[0].kind, LedgerKind::BucketDropped(DropCause::FoundMissing));
        let known = (drops[0].owner.as_deref(), drops[0].records, drops[0].bytes);
        assert_eq!(known, (Some("images"), None, None));
        let proof = store.prove_retention(..).unwrap();
        let counts = proof.owners.iter().map(|o| (o.due, o.dropped, o.missing, o.open));
        assert_eq!(counts.collect::<Vec<_>>(), [(1, 1, 1, 0)]);
        assert!(bucket("orphan").to_str().is_some());
    }
    clock.advance(hours(16));
    let store = open(on_memory(&disk, &clock), false);
    assert_eq!(drops(&store).len(), 2);
    assert!(bucket_dirs(&disk).is_empty());
}

/// Two buckets have left half an hour after their deadlines.
#[track_caller]
fn assert_told_once(store: &Store, what: &str) {
    let deadlines = |entries: Vec<LedgerEntry>| -> Vec<Option<Timestamp>> {
        entries.into_iter().map(|entry| entry.deadline).collect()
    };
    assert_eq!(deadlines(births(store)), deadlines(drops(store)), "{what}");
    let late = RetentionVerdict::Late { worst_late_ms: 30 * 60_000, buckets: 2 };
    assert_eq!(store.prove_retention(..).unwrap().verdict, late, "{what}");
}

#[test]
fn a_suspect_clock_is_written_down_once() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let suspect = |store: &Store| of_kind(store, |k| matches!(k, LedgerKind::ClockSuspect { .. }));
    let store = open(on_memory(&disk, &clock), false);
    images(&store).insert("cat.jpg", b"bytes").unwrap();
    clock.set_wall(START + hours(48));
    for _ in 0..3 {
        store.maintain().unwrap();
    }
    assert_eq!(suspect(&store).len(), 1);
    assert_eq!(suspect(&store)[0].kind, LedgerKind::ClockSuspect { ahead_ms: 48 * 3_600_000 });
    store.close().unwrap();
    let store = open(on_memory(&disk, &clock), false);
    store.maintain().unwrap();
    assert_eq!(suspect(&store).len(), 1);
    clock.set_wall(START + hours(96));
    store.maintain().unwrap();
    assert_eq!(suspect(&store).len(), 2);
}

#[test]
fn an_evicted_bucket_leaves_as_an_empty_one() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let images = images(&store);
    images.insert("cat.jpg", b"bytes").unwrap();
    let _ = images.invalidate_all().unwrap();
    clock.advance(hours(2));
    store.maintain().unwrap();
    store.maintain().unwrap();
    let drops = drops(&store);
    assert_eq!(drops.len(), 1);
    assert_eq!(drops[0].kind, LedgerKind::BucketDropped(DropCause::Emptied));
    assert_paired(&store, &disk);
}

/// A bucket is found in the trash of which no entry tells, and one call fails as that is done.
#[test]
fn the_bytes_of_a_bucket_that_could_not_be_looked_at_are_not_told_too_low() {
    let (memory, clock) = (MemoryDisk::new(1), clock());
    let (builder, disk) = hooked(&memory, &clock);
    let store = open(builder, false);
    images(&store).insert("cat.jpg", vec![1; 3000]).unwrap();
    store.sync().unwrap();
    clock.advance(hours(17));
    disk.forget_next_sync(TRASH);
    store.drop_expired().unwrap_err();
    let (mut told, mut unknown) = (0, 0);
    for call in 1.. {
        let left = memory.fork().kill();
        let disk = FaultyDisk::new(Arc::new(left.clone()));
        disk.inject(call, Fault::Error(ErrorKind::TimedOut));
        let store = quiet(Store::builder("/data").disk(disk.clone()), &clock).open();
        let is_over = disk.calls() < call;
        disk.clear();
        // Where the entry could not be written, it waits.
        if let Some(entry) = store.ok().and_then(|store| drops(&store).into_iter().next()) {
            let bytes = entry.bytes;
            assert!(bytes.is_none_or(|bytes| bytes >= 4096), "call {call}: {bytes:?}");
            unknown += u32::from(bytes.is_none());
            told += 1;
        }
        if is_over {
            break;
        }
    }
    assert!(told > unknown, "{unknown} of {told} do not say");
}

#[test]
fn there_is_nothing_personal_in_it() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let images = images(&store);
    let key = "someone-they-may-know.jpg";
    let mut fill = images.fill(key).tag("album-of-somebody").metadata("their-metadata");
    fill = fill.tag("another-tag");
    let _ = fill.commit(b"the-very-contents").unwrap();
    let visitor = access(&store).pseudonym(VISITOR, store.now()).unwrap();
    visit(&store).unwrap();
    let _ = images.invalidate(key).unwrap();
    let _ = images.invalidate_tag("album-of-somebody").unwrap();
    store.maintain().unwrap();
    let tombstones = disk.read_file(Path::new("/data/tombstones/0000000001.log")).unwrap();
    // Floor and owner are numbers of the store's own; the hashes begin behind them.
    let hashes: Vec<Vec<u8>> = [512 + 48, 512 + 64 + 48]
        .map(|at: usize| tombstones[at..at + 16].to_vec())
        .into_iter()
        .collect();
    assert!(hashes.iter().all(|hash| hash.iter().any(|byte| *byte != 0)));
    clock.advance(hours(17));
    store.maintain().unwrap();
    store.close().unwrap();
    let texts = [key, "album-of-somebody", "another-tag", "their-metadata", "the-very-contents"];
    let mut needles: Vec<Vec<u8>> = texts.map(|text| text.as_bytes()[..8].to_vec()).into();
    needles.push(visitor.id()[..8].to_vec());
    needles.push("198.18.0.77".into());
    needles.push(vec![255, 255, 198, 18, 0, 77]);
    needles.extend(hashes.iter().flat_map(|hash| [hash[..8].to_vec(), hash[8..].to_vec()]));
    for file in disk.all_files().into_iter().filter(|file| file.starts_with(DIR)) {
        let bytes = disk.read_file(&file).unwrap();
        for needle in &needles {
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "{needle:?} is in {}", file.display());
        }
    }
}

#[test]
fn a_full_disk_holds_back_births_and_no_drop() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let images = images(&store);
    images.insert("cat.jpg", b"bytes").unwrap();
    disk.set_capacity_bytes(Some(0));
    let bucket = bucket_dirs(&disk);
    // The drop goes on, also when the ledger's file and its spare are full.
    for hour in 0..60 {
        clock.advance(hours(1));
        store.maintain().unwrap();
        assert_eq!(bucket_dirs(&disk).contains(&bucket[0]), hour < 15, "{hour}");
        assert!(images.insert("cat.jpg", vec![1; 5000]).is_err());
        let _ = images.invalidate("dog.jpg").unwrap();
    }
    assert_whole(&store);
    disk.set_capacity_bytes(None);
    store.maintain().unwrap();
    images.insert("cat.jpg", b"bytes").unwrap();
    assert_whole(&store);
    assert!(
        drops(&store)
            .iter()
            .any(|entry| entry.kind == LedgerKind::BucketDropped(DropCause::Dropped))
    );
    assert_paired(&store, &disk);
}

/// The next file gets its name on a full disk, and the system says that it did not.
#[test]
fn a_file_that_was_named_though_the_system_says_it_was_not_is_gone_on_with() {
    let mut named = 0;
    for call in 1.. {
        let (memory, clock) = (MemoryDisk::new(1), clock());
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), false);
        let images = images(&store);
        let round = |full: bool| {
            let _ = images.invalidate("cat.jpg").unwrap();
            clock.advance(minutes(2));
            memory.set_capacity_bytes(full.then_some(0));
            store.maintain()
        };
        round(false).unwrap();
        while store.ledger().unwrap().len() < entries_of(&memory) {
            round(false).unwrap();
        }
        assert!(memory.read_file(&log_file(2)).is_err());
        let reached = disk.calls() + call;
        disk.inject(reached, Fault::ErrorAfter(ErrorKind::TimedOut));
        let worked = round(true);
        let is_over = disk.calls() < reached;
        disk.clear();
        named += u32::from(worked.is_err() && memory.read_file(&log_file(2)).is_ok());
        let what = format!("call {call}, {worked:?}");
        assert_eq!(store.verify_ledger().unwrap().problems, [], "{what}");
        memory.set_capacity_bytes(None);
        let _ = store.close();
        drop(store);
        let store = open(on_memory(&memory.kill(), &clock), false);
        assert_eq!(store.verify_ledger().unwrap().problems, [], "{what}, opened again");
        if is_over {
            break;
        }
    }
    assert!(named > 0, "{named}");
}

/// How many entries a file of the ledger takes.
fn entries_of(disk: &MemoryDisk) -> usize {
    (disk.read_file(&log_file(1)).unwrap().len() - HEADER_LEN) / ENTRY_LEN
}

#[test]
fn a_power_cut_anywhere_leaves_a_ledger_that_is_whole() {
    let mut choices = Random::new(seed("a_power_cut_anywhere_leaves_a_ledger_that_is_whole"));
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let mut store = open(on_memory(&disk, &clock), false);
    let mut disk = disk;
    for step in 0..150 {
        let images = images(&store);
        match choices.below(5) {
            0 => images.insert("cat.jpg", b"bytes").unwrap(),
            1 => visit(&store).unwrap(),
            2 => drop(images.invalidate("cat.jpg").unwrap()),
            3 => clock.advance(minutes(1 + choices.below(300))),
            _ => store.maintain().unwrap(),
        }
        let cut = disk.fork().crash(&mut |options: u32| choices.below(options.into()) as u32);
        assert_whole(&open(on_memory(&cut, &clock), false));
        if choices.once_in(6) {
            disk = if choices.once_in(2) {
                disk.kill()
            } else {
                disk.crash(&mut |options: u32| choices.below(options.into()) as u32)
            };
            store = open(on_memory(&disk, &clock), choices.once_in(2));
            assert_whole(&store);
            assert_paired(&store, &disk);
            assert!(store.recovery_report().corrupt_records.is_empty(), "step {step}");
        }
    }
}

#[test]
fn limits_of_a_file_are_checked() {
    let with = |bytes| {
        let builder: StoreBuilder = on_memory(&MemoryDisk::new(1), &clock());
        builder.ledger_file_bytes(bytes).open().is_ok()
    };
    assert!(with(4096) && with(5 * 1024) && with(64 << 20));
    assert!(!with(4095) && !with(2048) && !with(4100) && !with((64 << 20) + 1024));
}

/// Programs that read the ledger go by these names, and people by these words.
#[test]
fn every_kind_of_entry_has_its_name_and_its_words() {
    use LedgerKind::*;
    let invalidated = |scope| Invalidated { scope, count: 3 };
    let kinds = [
        (Checkpoint(CheckpointCause::First), "checkpoint: the ledger begins"),
        (Checkpoint(CheckpointCause::Full), "checkpoint: a new file, the last is full"),
        (
            Checkpoint(CheckpointCause::GivenUp),
            "checkpoint: a new file, a write to the last failed",
        ),
        (Checkpoint(CheckpointCause::Broken), "checkpoint: a new file, the chain before is broken"),
        (Keyspace, "keyspace: keyspace made"),
        (Log, "log: log made"),
        (BucketBorn { found: false }, "bucket-born: bucket born"),
        (BucketBorn { found: true }, "bucket-born: bucket found without its birth"),
        (BucketDropped(DropCause::Dropped), "bucket-dropped: bucket dropped"),
        (BucketDropped(DropCause::FoundAtOpen), "bucket-dropped: bucket found dropped at open"),
        (BucketDropped(DropCause::FoundMissing), "bucket-dropped: bucket found missing at open"),
        (BucketDropped(DropCause::Emptied), "bucket-dropped: empty bucket removed"),
        (
            BucketReleased { segments: 2 },
            "bucket-released: readers let go of the last of 2 segments",
        ),
        (invalidated(InvalidatedScope::Key), "invalidated: 3 invalidations of a key"),
        (invalidated(InvalidatedScope::Tag), "invalidated: 3 invalidations of a tag"),
        (invalidated(InvalidatedScope::All), "invalidated: 3 invalidations of everything"),
        (Scrubbed, "scrubbed: records scrubbed"),
        (KeysDestroyed { found: false }, "keys-destroyed: pseudonym keys destroyed"),
        (KeysDestroyed { found: true }, "keys-destroyed: pseudonym keys found destroyed"),
        (ClockSuspect { ahead_ms: 5 }, "clock-suspect: wall clock ahead by 5 ms, not believed"),
        (BucketCarried { born_by: 7 }, "bucket-carried: bucket still there, born by entry 7"),
    ];
    for (kind, words) in kinds {
        assert_eq!(format!("{}: {kind}", kind.name()), words);
    }
}
