//! Scrubbing, stopped or failed at every call on the disk: what is dead stays dead, what is live is
//! all there, and the next scrub leaves nothing of what is dead on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{Capabilities, Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Error, Keyspace, KeyspaceOptions, Level, Log, LogOptions, Lookup, ManualClock, Outcome,
    Receipt, Retention, Row, RowId, Scope, Store,
};

use fixture::{MODES, Random, clock, hours, on_memory, open, quiet, seed};

/// Sealed or not; then by position or mapped.
const SHAPES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];
const LIVE_KEYS: [&str; 4] = ["live-plain", "live-tagged", "live-long", "owl"];
const DEAD_KEYS: [&str; 5] = ["dead-cat", "dead-long", "dead-dog", "dead-both", "dead-gnu"];
const LIVE_ROWS: [&str; 4] = ["live-row-a", "live-row-b", "live-row-c", "live-row-d"];
/// Tags that what is live carries, as the sidecars list them: of records, and of blocks of rows.
const LIVE_TAGS: usize = 2 + 3;

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(64 * 1024);
    store.keyspace("images", options).unwrap()
}

fn access(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(64 * 1024)).unwrap()
}

/// The bytes of a value, a row or metadata: recognisable, and long enough to fill blocks where the
/// name says so.
fn bytes_of(name: &str) -> Vec<u8> {
    let times = if name.ends_with("long") { 1500 } else { 20 };
    format!("<{name}>").repeat(times).into_bytes()
}

fn put(images: &Keyspace, key: &str, tags: &[&str]) {
    let fill = tags.iter().fold(images.fill(key), |fill, tag| fill.tag(tag));
    let _ = fill.metadata(format!("meta of {key}")).commit(bytes_of(key)).unwrap();
}

fn row(name: &str, tags: &[&str]) -> Row {
    tags.iter().fold(Row::anonymous(), |row, tag| row.tag(tag)).payload(bytes_of(name))
}

/// A store in which some things are dead and still on the disk.
struct Rig {
    memory: MemoryDisk,
    disk: FaultyDisk,
    clock: ManualClock,
    store: Store,
    mapped: bool,
    receipts: Vec<Receipt>,
}

fn rig(sealed: bool, mapped: bool, punches: bool) -> Rig {
    let (memory, clock) = (MemoryDisk::new(1), clock());
    if !punches {
        let mut capabilities = Capabilities::new("without holes");
        capabilities.overwrites_in_place = true;
        memory.set_capabilities(capabilities);
    }
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let store = open(quiet(Store::builder("/data").disk(disk.clone()), &clock), mapped);
    let (images, access) = (images(&store), access(&store));
    put(&images, "live-plain", &[]);
    put(&images, "dead-cat", &["cat"]);
    put(&images, "dead-long", &["cat", "big"]);
    put(&images, "live-tagged", &["sheep", "goat"]);
    put(&images, "dead-dog", &[]);
    put(&images, "dead-both", &["cat", "gnu"]);
    put(&images, "dead-gnu", &["gnu"]);
    put(&images, "live-long", &[]);
    let old = images.fill("owl").tag("old").commit(bytes_of("dead-owl")).unwrap();
    assert_eq!(old, Outcome::Stored);
    let mut appender = access.appender();
    for (name, tags) in [
        ("live-row-a", vec![]),
        ("dead-row-a", vec!["cat", "gnu"]),
        ("live-row-b", vec!["sheep", "goat"]),
        ("dead-row-long", vec!["cat"]),
    ] {
        appender.append(row(name, &tags)).unwrap();
    }
    drop(appender);
    // What comes next says that this is durable.
    store.sync().unwrap();
    access.append(row("dead-row-b", &["gnu"])).unwrap();
    access.append(row("live-row-c", &["sheep"])).unwrap();
    access.append(row("dead-row-c", &["rows"])).unwrap();
    access.append(row("live-row-d", &[])).unwrap();
    store.maintain().unwrap();
    if sealed {
        clock.advance(hours(2));
        store.maintain().unwrap();
    }
    images.insert("owl", bytes_of("owl")).unwrap();
    let receipts = vec![
        store.invalidate_tag("cat", Scope::Everything).unwrap(),
        store.invalidate_tag("gnu", Scope::Everything).unwrap(),
        images.invalidate("dead-dog").unwrap(),
        access.invalidate_tag("rows").unwrap(),
    ];
    store.sync().unwrap();
    Rig { memory, disk, clock, store, mapped, receipts }
}

impl Rig {
    fn reopen(&self, disk: &MemoryDisk) -> Store {
        open(on_memory(disk, &self.clock), self.mapped)
    }

    /// Makes the calls from this one on fail while it scrubs.
    fn stop_at(&self, call: u64) {
        self.disk.inject(call, Fault::ErrorsFrom(ErrorKind::Other));
        let _ = self.store.scrub();
    }

    /// The numbers of the calls that scrubbing makes, and one more.
    fn calls(sealed: bool, mapped: bool, punches: bool) -> std::ops::RangeInclusive<u64> {
        let rig = rig(sealed, mapped, punches);
        let first = rig.disk.calls() + 1;
        rig.store.scrub().unwrap();
        let end = rig.disk.calls() + 1;
        assert!(end > first + 20, "{first}..{end}");
        rig.receipts.iter().for_each(|receipt| assert_eq!(receipt.level(), Level::Scrubbed));
        assert_nothing_dead(&rig.memory, "without a stop");
        first..=end
    }
}

/// What can be read is what is live.
fn check(store: &Store, what: &str) {
    let images = store.existing_keyspace("images").unwrap();
    for key in LIVE_KEYS {
        let value = images.get(key).unwrap().unwrap_or_else(|| panic!("{what}: {key} is gone"));
        assert!(value.as_ref() == bytes_of(key), "{what}: wrong bytes of {key}");
    }
    for key in DEAD_KEYS {
        assert!(images.get(key).unwrap().is_none(), "{what}: {key} is back");
        assert!(matches!(images.lookup(key).unwrap(), Lookup::Absent), "{what}: {key}");
    }
    assert_eq!(images.iter().map(Result::unwrap).count(), LIVE_KEYS.len(), "{what}");
    for tag in ["cat", "big", "gnu", "old"] {
        assert_eq!(images.count_tag(tag).unwrap(), 0, "{what}: {tag}");
    }
    assert_eq!(images.count_tag("goat").unwrap(), 1, "{what}");
    let access = store.existing_log("access").unwrap();
    let rows: Vec<_> = access.scan(..).unwrap().map(Result::unwrap).collect();
    let mut found: Vec<_> = rows.iter().map(|row| row.payload().to_vec()).collect();
    let mut expected: Vec<_> = LIVE_ROWS.iter().map(|name| bytes_of(name)).collect();
    found.sort();
    expected.sort();
    assert!(found == expected, "{what}: {} rows", found.len());
    for row in rows {
        let again = access.get(row.id()).unwrap().unwrap();
        assert_eq!(again.payload(), row.payload(), "{what}: a row under another's id");
    }
    assert_eq!(store.problems(), [], "{what}");
}

/// A store just opened after a stop.
fn check_opened(store: &Store, what: &str) {
    let report = store.recovery_report();
    assert!(report.corrupt_records.is_empty(), "{what}: {report:?}");
    assert!(report.unknown_versions.is_empty(), "{what}: {report:?}");
    check(store, what);
    assert_whole(store, what);
}

fn assert_whole(store: &Store, what: &str) {
    let problems = store.verify().unwrap().problems;
    assert!(problems.is_empty(), "{what}: {problems:?}");
    assert!(store.verify_ledger().unwrap().problems.is_empty(), "{what}");
}

fn files(disk: &MemoryDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let files = disk.all_files().into_iter();
    files.map(|path| (path.clone(), disk.read_file(&path).unwrap())).collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// No byte of what is dead is in any file.
fn assert_nothing_dead(disk: &MemoryDisk, what: &str) {
    for (path, bytes) in files(disk) {
        assert!(!holds(&bytes, b"dead-"), "{what}: something dead is in {}", path.display());
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// The tags that a sidecar lists, by the page on the format: fingerprint and entry.
fn listed_tags(sidecar: &[u8]) -> Vec<(u32, u32)> {
    let (records, tags) = (long(sidecar, 40), long(sidecar, 48));
    let first = 72 + records.div_ceil(127) * 4096;
    let place = |tag: usize| first + tag / 510 * 4096 + 16 + tag % 510 * 8;
    let all = (0..tags).map(|tag| (word(sidecar, place(tag)), word(sidecar, place(tag) + 4)));
    all.filter(|tag| *tag != (0, u32::MAX)).collect()
}

/// The tags that any sidecar lists.
fn fingerprints(disk: &MemoryDisk) -> BTreeSet<u32> {
    let is_sidecar = |path: &Path| path.extension().is_some_and(|extension| extension == "idx");
    let sidecars = files(disk).into_iter().filter(|(path, _)| is_sidecar(path));
    sidecars.flat_map(|(_, bytes)| listed_tags(&bytes)).map(|(tag, _)| tag).collect()
}

/// The slots of an INDEX that name a record, by the page on the format.
fn filled_slots(index: &[u8]) -> usize {
    let (places, groups) = (long(index, 56), long(index, 64).div_ceil(64));
    let entries = 80 + 88 * places;
    let mut start = entries + 16 * groups;
    let mut filled = 0;
    for group in 0..groups {
        let end = start + long(index, entries + 16 * group + 8);
        for line in (start + 4 * 64..end).step_by(64) {
            filled +=
                (0..6).filter(|slot| !long(index, line + 8 * slot).is_multiple_of(1 << 28)).count();
        }
        start = end;
    }
    filled
}

/// What sidecars and INDEX of a closed store say is about what is live alone.
fn assert_caches_know_the_live_alone(disk: &MemoryDisk, what: &str) {
    let mut tags = 0;
    for (path, bytes) in files(disk) {
        let extension = path.extension().and_then(|extension| extension.to_str());
        assert!(!matches!(extension, Some("tmp" | "part")), "{what}: {}", path.display());
        if extension == Some("idx") {
            tags += listed_tags(&bytes).len();
        }
        if path.ends_with("INDEX") {
            assert_eq!(filled_slots(&bytes), LIVE_KEYS.len(), "{what}: slots");
        }
    }
    assert_eq!(tags, LIVE_TAGS, "{what}: tags in sidecars");
}

/// Scrubs a store that is in order, and checks that nothing dead is left then, nor comes back.
fn finish(rig: &Rig, disk: &MemoryDisk, store: &Store, what: &str) {
    store.scrub().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_nothing_dead(disk, what);
    check(store, what);
    assert_whole(store, what);
    store.close().unwrap();
    assert_caches_know_the_live_alone(disk, what);
    let store = rig.reopen(disk);
    assert!(store.recovery_report().is_clean(), "{what}: {:?}", store.recovery_report());
    check(&store, what);
    assert_nothing_dead(disk, what);
}

fn stopped_everywhere(name: &str, shapes: &[(bool, bool)], punches: bool, cuts: usize) {
    let mut choices = Random::new(seed(name));
    let mut stops = 0;
    for (sealed, mapped) in shapes.iter().copied() {
        for call in Rig::calls(sealed, mapped, punches) {
            let rig = rig(sealed, mapped, punches);
            rig.stop_at(call);
            let what = format!("sealed {sealed}, mapped {mapped}, stopped at {call}");
            let cut = |choices: &mut Random| rig.memory.fork().crash(&mut choices.choices());
            let mut disks = vec![rig.memory.fork().kill()];
            disks.extend((0..cuts).map(|_| cut(&mut choices)));
            for (at, disk) in disks.into_iter().enumerate() {
                let store = rig.reopen(&disk);
                check_opened(&store, &what);
                // Once more, before anything is erased again.
                let again = disk.fork().crash(&mut choices.choices());
                store.scrub().unwrap_or_else(|error| panic!("{what}: {error}"));
                let scrubbed = disk.fork().crash(&mut |_: u32| 0);
                finish(&rig, &disk, &store, &what);
                let live = fingerprints(&disk);
                // What a process that was killed overwrote of a sidecar may not be durable.
                let is_subset = at == 0 || fingerprints(&scrubbed).is_subset(&live);
                assert!(is_subset, "{what}: tags of what is dead");
                check_opened(&rig.reopen(&again), &what);
                stops += 1;
            }
        }
    }
    println!("{stops} stops");
}

#[test]
fn a_stop_between_any_two_calls_is_made_up_for() {
    stopped_everywhere("a_stop_between_any_two_calls_is_made_up_for", &SHAPES, true, 3);
}

#[test]
fn a_stop_where_holes_cannot_be_punched_is_made_up_for() {
    let shapes = [(false, true), (true, false)];
    stopped_everywhere("a_stop_where_holes_cannot_be_punched", &shapes, false, 1);
}

/// A call that fails is an error or none; if writing goes on, the next scrub does the rest, else
/// the next opening does.
#[test]
fn a_call_that_fails_is_made_up_for() {
    let faults = [
        Fault::Error(ErrorKind::StorageFull),
        Fault::Error(ErrorKind::Other),
        Fault::ErrorAfter(ErrorKind::Other),
        Fault::Torn(ErrorKind::Other),
        Fault::Short,
    ];
    let (mut failed, mut poisoned) = (0, 0);
    for (sealed, mapped) in [(false, false), (true, true)] {
        for call in Rig::calls(sealed, mapped, true) {
            for fault in faults {
                let what = format!("sealed {sealed}, mapped {mapped}, {fault:?} at {call}");
                let rig = rig(sealed, mapped, true);
                rig.disk.inject(call, fault);
                let result = rig.store.scrub();
                rig.disk.clear();
                failed += u32::from(result.is_err());
                assert!(
                    matches!(
                        result,
                        Ok(())
                            | Err(Error::Io { .. }
                                | Error::NoSpace { .. }
                                | Error::Poisoned { .. })
                    ),
                    "{what}: {result:?}"
                );
                check(&rig.store, &what);
                if result.is_ok() && rig.receipts.iter().all(|r| r.level() == Level::Scrubbed) {
                    assert_nothing_dead(&rig.memory, &what);
                }
                if rig.store.stats().poisoned.is_none() {
                    finish(&rig, &rig.memory, &rig.store, &what);
                    let levels = rig.receipts.iter().map(Receipt::level);
                    assert!(levels.min() >= Some(Level::Scrubbed), "{what}");
                    continue;
                }
                poisoned += 1;
                assert!(matches!(rig.store.scrub(), Err(Error::Poisoned { .. })), "{what}");
                let disk = rig.memory.kill();
                let store = rig.reopen(&disk);
                check_opened(&store, &what);
                finish(&rig, &disk, &store, &what);
            }
        }
    }
    println!("{failed} failed, {poisoned} poisoned");
    assert!(failed > 20 && poisoned > 0);
}

/// After a sync that failed, the page cache shows what is not on the disk. The next process erases once more
/// whatever may not have been, also what reads as zeros.
#[test]
fn what_a_failed_sync_has_lost_is_erased_again() {
    let mut choices = Random::new(seed("what_a_failed_sync_has_lost_is_erased_again"));
    let mut lost = 0;
    for (sealed, mapped) in SHAPES {
        for call in Rig::calls(sealed, mapped, true) {
            let what = format!("sealed {sealed}, mapped {mapped}, call {call}");
            let rig = rig(sealed, mapped, true);
            rig.disk.inject(call, Fault::SyncLost(ErrorKind::Other));
            let _ = rig.store.scrub();
            let disk = rig.memory.kill();
            let cut = |choices: &mut Random| disk.fork().crash(&mut choices.choices());
            lost += u32::from(rig.store.stats().poisoned.is_some());
            let store = rig.reopen(&disk);
            check_opened(&store, &what);
            store.scrub().unwrap_or_else(|error| panic!("{what}: {error}"));
            for _ in 0..4 {
                let disk = cut(&mut choices);
                assert_nothing_dead(&disk, &what);
                check_opened(&rig.reopen(&disk), &what);
            }
            finish(&rig, &disk, &store, &what);
        }
    }
    println!("{lost} syncs failed");
    assert!(lost >= 8, "{lost}");
}

/// A row carries two tags, and the second is invalidated in the middle of the pass that is to erase what the
/// first hides.
#[test]
fn a_pass_that_left_a_row_to_a_later_invalidation_is_not_complete() {
    for (sealed, mapped) in SHAPES {
        let mut late = 0;
        let calls = Rig::calls(sealed, mapped, true);
        for call in 1..=calls.end() - calls.start() {
            let rig = rig(sealed, mapped, true);
            let access = access(&rig.store);
            access.append(row("dead-row-d", &["cat", "late"])).unwrap();
            let receipt = access.invalidate_tag("cat").unwrap();
            rig.disk.interrupt(rig.disk.calls() + call, move || {
                let _ = access.invalidate_tag("late").unwrap();
            });
            rig.store.scrub().unwrap();
            let is_there = files(&rig.memory).iter().any(|(_, bytes)| holds(bytes, b"dead-row-d"));
            late += u32::from(is_there);
            let what = format!("sealed {sealed}, mapped {mapped}, call {call}");
            assert!(!is_there || receipt.level() < Level::Scrubbed, "{what}");
            rig.store.scrub().unwrap();
            assert_nothing_dead(&rig.memory, &what);
        }
        assert!(late > 0, "sealed {sealed}, mapped {mapped}: no pass was overtaken");
    }
}

/// Of two rows of a block one is left to a later invalidation, and the zeros over the other are lost: the next
/// process cannot tell, so both are erased together.
#[test]
fn a_block_with_a_row_that_is_left_is_not_begun() {
    let prepared = |mapped| {
        let rig = rig(false, mapped, true);
        let access = access(&rig.store);
        let mut appender = access.appender();
        for (name, tags) in [("dead-row-d", vec!["first"]), ("dead-row-e", vec!["first", "late"])] {
            appender.append(row(name, &tags)).unwrap();
        }
        drop(appender);
        rig.clock.advance(hours(2));
        rig.store.maintain().unwrap();
        let _ = access.invalidate_tag("first").unwrap();
        (rig, access)
    };
    for mapped in MODES {
        let (rig, _) = prepared(mapped);
        let first = rig.disk.calls();
        rig.store.scrub().unwrap();
        let count = rig.disk.calls() - first;
        let mut lost = 0;
        for late in (1..count).step_by(2) {
            for sync in late + 1..count + 3 {
                let (rig, access) = prepared(mapped);
                let first = rig.disk.calls();
                rig.disk.interrupt(first + late, move || {
                    drop(access.invalidate_tag("late"));
                });
                rig.disk.inject(first + sync, Fault::SyncLost(ErrorKind::Other));
                lost += u32::from(rig.store.scrub().is_err());
                let disk = rig.memory.kill();
                rig.reopen(&disk).scrub().unwrap();
                let what = format!("mapped {mapped}, late at {late}, sync lost from {sync}");
                assert_nothing_dead(&disk.fork().crash(&mut |_: u32| 0), &what);
            }
        }
        assert!(lost > 0);
    }
}

/// What rots before a process ends is listed by the walk of the next one, which cannot tell its tags.
#[test]
fn a_row_that_rotted_before_its_segment_was_walked_is_erased() {
    for mapped in MODES {
        let rig = rig(false, mapped, true);
        let access = access(&rig.store);
        access.append(row("dead-row-d", &["rotten"])).unwrap();
        rig.store.sync().unwrap();
        access.append(row("live-row-e", &[])).unwrap();
        rig.store.sync().unwrap();
        let disk = rig.memory.kill();
        let (path, mut bytes) =
            files(&disk).into_iter().find(|(_, bytes)| holds(bytes, b"dead-row-d")).unwrap();
        let at = bytes.windows(10).position(|window| window == b"dead-row-d").unwrap();
        bytes[at - 1] ^= 1;
        disk.write_file(&path, &bytes).unwrap();
        let store = rig.reopen(&disk);
        let receipt = store.existing_log("access").unwrap().invalidate_tag("rotten").unwrap();
        store.scrub().unwrap();
        let is_there = files(&disk).iter().any(|(_, bytes)| holds(bytes, b"dead-row-d"));
        assert!(!is_there, "mapped {mapped}: {:?}", receipt.level());
    }
}

#[test]
fn a_full_disk_is_scrubbed_and_gives_space_back() {
    for (sealed, mapped) in SHAPES {
        let rig = rig(sealed, mapped, true);
        let before = rig.memory.used_bytes();
        rig.memory.set_capacity_bytes(Some(before));
        rig.store.scrub().unwrap();
        assert_nothing_dead(&rig.memory, "on a full disk");
        assert!(rig.memory.used_bytes() + 8192 <= before, "no space came back");
        rig.receipts.iter().for_each(|receipt| assert_eq!(receipt.level(), Level::Scrubbed));
        check(&rig.store, "on a full disk");
    }
}

#[test]
fn held_values_delay_their_segment_alone_and_are_made_up_for() {
    for sealed in [false, true] {
        let rig = rig(sealed, true, true);
        let images = images(&rig.store);
        let held = images.get("live-long").unwrap().unwrap();
        rig.store.scrub().unwrap();
        assert!(rig.receipts[0].pinned() && rig.receipts[0].level() == Level::Hidden);
        assert_eq!(rig.receipts[3].level(), Level::Scrubbed, "rows are in other segments");
        check(&rig.store, "held");
        let killed = rig.memory.fork().kill();
        assert_eq!(held.as_ref(), bytes_of("live-long"));
        drop(held);
        let store = rig.reopen(&killed);
        check_opened(&store, "killed while it waited");
        finish(&rig, &killed, &store, "killed while it waited");
        let held = images.get("live-plain").unwrap().unwrap();
        rig.store.scrub().unwrap();
        assert!(!rig.receipts[0].pinned(), "whoever came later is not waited for");
        drop(held);
        assert_nothing_dead(&rig.memory, "let go of");
        finish(&rig, &rig.memory, &rig.store, "let go of");
    }
}

#[test]
fn a_store_that_is_closed_while_scrubbing_waits_is_scrubbed_by_the_next() {
    for sealed in [false, true] {
        let rig = rig(sealed, true, true);
        let held = images(&rig.store).get("live-long").unwrap().unwrap();
        rig.store.scrub().unwrap();
        rig.store.close().unwrap();
        assert_eq!(held.as_ref(), bytes_of("live-long"));
        drop(held);
        let store = rig.reopen(&rig.memory);
        check_opened(&store, "closed while it waited");
        finish(&rig, &rig.memory, &store, "closed while it waited");
    }
}

/// What leaves while it waits is not said to be scrubbed, and goes with its file.
#[test]
fn a_segment_that_leaves_while_it_waits_is_not_called_scrubbed() {
    for is_dropped in [true, false] {
        let rig = rig(true, true, true);
        let keyspace = images(&rig.store);
        let held = keyspace.get("live-long").unwrap().unwrap();
        rig.store.scrub().unwrap();
        let receipt = &rig.receipts[0];
        assert_eq!(receipt.level(), Level::Hidden);
        if is_dropped {
            rig.clock.advance(hours(14));
            assert!(rig.store.drop_expired().unwrap() > 0);
            assert!(files(&rig.memory).iter().any(|(_, bytes)| holds(bytes, b"dead-")));
            assert_eq!(receipt.level(), Level::Hidden, "it lies in the trash as it is");
        } else {
            let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(64 * 1024);
            rig.store.keyspace("images", options.capacity_bytes(1 << 20)).unwrap();
            for number in 0..40 {
                keyspace.insert(format!("more-{number}"), vec![1; 40_000]).unwrap();
            }
            assert!(keyspace.get("live-plain").unwrap().is_none(), "evicted");
        }
        rig.store.maintain().unwrap();
        assert_nothing_dead(&rig.memory, "unlinked");
        assert_eq!(held.as_ref(), bytes_of("live-long"));
        drop(held);
        rig.store.maintain().unwrap();
        assert!(receipt.level() > Level::Hidden, "evicted or dropped: {}", receipt.level());
        assert_whole(&rig.store, "left");
    }
}

/// The rows of a block are erased one by one; the others and all places stay.
#[test]
fn erased_rows_leave_their_block_as_it_is() {
    for mapped in MODES {
        for everywhere in [false, true] {
            let (memory, clock) = (MemoryDisk::new(1), clock());
            let store = open(on_memory(&memory, &clock), mapped);
            let access = access(&store);
            let mut appender = access.appender();
            for number in 0..60 {
                let name = format!("{}-{number}", if number % 3 == 0 { "dead" } else { "live" });
                let tag = if number % 3 == 0 { "cat" } else { "sheep" };
                appender.append(row(&name, &[tag])).unwrap();
            }
            appender.flush().unwrap();
            let scan = || access.scan(..).unwrap().map(Result::unwrap);
            let before: Vec<(RowId, Vec<u8>)> =
                scan().map(|row| (row.id(), row.payload().to_vec())).collect();
            assert_eq!(before.len(), 60);
            let receipt = match everywhere {
                true => store.erase_tag("cat", Scope::Everything).commit().unwrap(),
                false => access.erase_tag("cat").unwrap(),
            };
            assert_eq!(receipt.level(), Level::Hidden);
            store.maintain().unwrap();
            assert_eq!(receipt.level(), Level::Scrubbed);
            assert_nothing_dead(&memory, "erased");
            let check_rows = |access: &Log| {
                for (id, payload) in &before {
                    let read = access.get(*id).unwrap().map(|row| row.payload().to_vec());
                    let expected = (!holds(payload, b"dead-")).then(|| payload.clone());
                    assert_eq!(read, expected);
                }
            };
            check_rows(&access);
            assert_eq!(scan().count(), 40);
            assert_whole(&store, "erased");
            store.close().unwrap();
            let store = open(on_memory(&memory, &clock), mapped);
            check_rows(&store.existing_log("access").unwrap());
            assert_whole(&store, "opened again");
        }
    }
}

/// Rows that an appender holds were covered by an invalidation, and are written after it.
#[test]
fn rows_that_wait_in_an_appender_are_erased_once_they_are_written() {
    for mapped in MODES {
        let (memory, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&memory, &clock), mapped);
        let access = access(&store);
        access.append(row("live", &["sheep"])).unwrap();
        let mut appender = access.appender();
        appender.append(row("dead-row-a", &["cat"])).unwrap();
        let receipt = access.erase_tag("cat").unwrap();
        store.scrub().unwrap();
        assert_eq!(receipt.level(), Level::Hidden, "a row is still to be written");
        appender.flush().unwrap();
        assert_eq!(access.scan(..).unwrap().count(), 1);
        store.scrub().unwrap();
        assert_eq!(receipt.level(), Level::Scrubbed);
        assert_nothing_dead(&memory, "flushed and scrubbed");
    }
}

/// What is stale is still to be had, so it is not erased.
#[test]
fn what_is_stale_stays() {
    for mapped in MODES {
        let (memory, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&memory, &clock), mapped);
        let images = images(&store);
        put(&images, "one", &["cat"]);
        put(&images, "two", &[]);
        images.invalidate_tag_soft("cat").unwrap();
        images.invalidate_soft("two").unwrap();
        clock.advance(hours(2));
        store.maintain().unwrap();
        store.scrub().unwrap();
        for key in ["one", "two"] {
            assert!(images.get(key).unwrap().is_none());
            let Lookup::Stale(value) = images.lookup(key).unwrap() else { panic!("{key}") };
            assert_eq!(value.as_ref(), bytes_of(key));
        }
        assert!(images.invalidate("two").is_ok());
        store.scrub().unwrap();
        assert!(!files(&memory).iter().any(|(_, bytes)| holds(bytes, b"meta of two")));
    }
}

fn sidecars(disk: &MemoryDisk) -> Vec<PathBuf> {
    let is_sidecar = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "idx");
    disk.all_files().into_iter().filter(is_sidecar).collect()
}

fn change(disk: &MemoryDisk, path: &Path, how: impl Fn(&mut Vec<u8>)) {
    let mut bytes = disk.read_file(path).unwrap();
    how(&mut bytes);
    disk.write_file(path, &bytes).unwrap();
}

/// A sidecar that cannot be believed does not keep anything from being erased, nor does what it
/// said stay.
#[test]
fn a_segment_whose_sidecar_is_damaged_is_walked() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 4] = [
        |bytes| bytes[20] ^= 1,
        // The version word of another version.
        |bytes| bytes[8..12].copy_from_slice(&(9_u32 | !9 << 16).to_le_bytes()),
        |bytes| bytes[72 + 4] ^= 1,
        |bytes| bytes.truncate(100),
    ];
    for mapped in MODES {
        for (at, damage) in damages.iter().enumerate() {
            for reopened in [false, true] {
                let what = format!("damage {at}, mapped {mapped}, reopened {reopened}");
                let rig = rig(true, mapped, true);
                let found = sidecars(&rig.memory);
                assert!(found.len() >= 2, "{found:?}");
                found.iter().for_each(|path| change(&rig.memory, path, damage));
                if reopened {
                    let disk = rig.memory.kill();
                    let store = rig.reopen(&disk);
                    check_opened(&store, &what);
                    finish(&rig, &disk, &store, &what);
                } else {
                    finish(&rig, &rig.memory, &rig.store, &what);
                }
            }
        }
    }
}

/// A segment of another version is not served, left as it is, and does not disturb the rest.
#[test]
fn a_segment_of_another_version_is_left_alone() {
    let rig = rig(true, false, true);
    images(&rig.store).insert("new", "value").unwrap();
    rig.store.close().unwrap();
    let is_segment = |path: &PathBuf| {
        path.starts_with("/data/keyspaces") && path.extension().is_some_and(|e| e == "seg")
    };
    let path = rig.memory.all_files().into_iter().find(is_segment).unwrap();
    change(&rig.memory, &path, |bytes| {
        bytes[8..12].copy_from_slice(&(9_u32 | !9 << 16).to_le_bytes());
    });
    let before = rig.memory.read_file(&path).unwrap();
    let store = rig.reopen(&rig.memory);
    assert_eq!(store.recovery_report().unknown_versions, std::slice::from_ref(&path));
    let receipt = images(&store).invalidate("new").unwrap();
    store.scrub().unwrap();
    assert_eq!(rig.memory.read_file(&path).unwrap(), before);
    assert!(images(&store).get("new").unwrap().is_none());
    drop(receipt);
    for (path, bytes) in files(&rig.memory) {
        let is_row = path.starts_with("/data/logs");
        assert!(!(is_row && holds(&bytes, b"dead-")), "{}", path.display());
    }
}

/// What was to be overwritten and is not yet is no damage, also to a process that looks at the store as it was
/// closed.
#[test]
fn a_call_that_fails_before_a_close_leaves_no_damage() {
    for call in Rig::calls(true, false, true) {
        let rig = rig(true, false, true);
        rig.disk.inject(call, Fault::Error(ErrorKind::StorageFull));
        let _ = rig.store.scrub();
        rig.disk.clear();
        let _ = rig.store.close();
        let looking = on_memory(&rig.memory, &rig.clock).open_read_only().unwrap();
        assert_whole(&looking, &format!("failed at {call}"));
    }
}

/// As the store was opened, the bucket could not be dropped, so nothing in it has been taken up.
#[test]
fn what_is_past_its_time_and_could_not_be_dropped_is_erased_too() {
    for call in 1.. {
        let (memory, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&memory, &clock), false);
        put(&images(&store), "dead-cat", &[]);
        store.close().unwrap();
        drop(store);
        clock.advance(hours(20));
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        disk.inject(call, Fault::Error(ErrorKind::TimedOut));
        let opened = quiet(Store::builder("/data").disk(disk.clone()), &clock).open();
        let reached = disk.calls() >= call;
        disk.clear();
        if let Ok(store) = opened {
            store.scrub().unwrap();
            let in_place =
                memory.all_files().into_iter().filter(|path| !path.starts_with("/data/trash"));
            let bytes: Vec<u8> =
                in_place.flat_map(|path| memory.read_file(&path).unwrap()).collect();
            let value = bytes_of("dead-cat");
            assert!(!bytes.windows(value.len()).any(|part| part == value), "call {call}");
        }
        if !reached {
            break;
        }
    }
}
