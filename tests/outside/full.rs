//! Disks that are full to the last block.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use ebbtide::{Keyspace, KeyspaceOptions, Log, Retention, Row, RowId, Store};

use crate::child::{access, images, opened};
use crate::fixture::{MODES, value_of};
use crate::machine::Machine;

/// So many are invalidated.
const KEYS: u64 = 10_000;
/// One in so many keys stays, beside those.
const STAYS: u64 = 11;
/// Keys and rows of others, of which none is invalidated.
const OTHERS: u64 = 1000;
const LONGEST: u64 = 300;

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn full_disks() {
    for file_system in ["ext4", "xfs"] {
        if Command::new(format!("mkfs.{file_system}")).arg("-V").output().is_err() {
            println!("!! SKIPPED: there is no mkfs.{file_system}");
            continue;
        }
        for mapped in MODES {
            invalidate_on_a_full_disk(file_system, mapped);
        }
    }
}

/// What was durable before the disk was full.
struct Durable {
    images: Keyspace,
    others: Keyspace,
    access: Log,
    rows: Vec<RowId>,
    /// Keys that stay, the oldest first.
    staying: Vec<u64>,
    going: Vec<u64>,
}

impl Durable {
    fn new(store: &Store) -> Self {
        let (images, others, access) = owners(store);
        let all = 0..KEYS * STAYS / (STAYS - 1);
        let (staying, going): (Vec<u64>, Vec<u64>) = all.clone().partition(|key| key % STAYS == 0);
        assert_eq!(going.len() as u64, KEYS);
        for key in all {
            images.insert(key.to_le_bytes(), value_of(key, 1, LONGEST)).unwrap();
        }
        let mut rows = Vec::new();
        for key in 0..OTHERS {
            others.insert(key.to_le_bytes(), value_of(key, 2, LONGEST)).unwrap();
            let row = Row::anonymous().payload(value_of(key, 3, LONGEST));
            rows.push(access.append(row).unwrap());
        }
        store.sync().unwrap();
        Self { images, others, access, rows, staying, going }
    }
}

fn owners(store: &Store) -> (Keyspace, Keyspace, Log) {
    let others = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(1 << 20);
    (images(store).unwrap(), store.keyspace("others", others).unwrap(), access(store).unwrap())
}

/// Those of these keys that are there; each must have its own bytes.
fn there(images: &Keyspace, keys: &[u64], version: u64) -> BTreeSet<u64> {
    let is_there = |key: &&u64| {
        let found = images.get(key.to_le_bytes()).unwrap();
        found.is_some_and(|value| {
            assert!(value[..] == value_of(**key, version, LONGEST), "{key} has another value");
            true
        })
    };
    keys.iter().filter(is_there).copied().collect()
}

/// Invalidates most keys while nothing more fits on the disk, then cuts the power: they are gone, and all
/// others are there but those of which the segment had to be evicted before.
fn invalidate_on_a_full_disk(file_system: &str, mapped: bool) {
    let dir = tempfile::tempdir().unwrap();
    Machine::format(dir.path(), file_system);
    let machine = Machine::start(dir.path());
    let store = opened(&machine.mounted.join("data"), mapped);
    let Durable { images, others, access, rows, staying, going } = Durable::new(&store);
    let segments = count_segments(&store);
    fill(&machine.mounted.join("filler"));
    let refused =
        [vec![0x5a; 1 << 20]].iter().filter(|value| images.insert("more", value).is_err()).count();
    assert_eq!(refused, 1, "the disk is not full");
    let mut widened = 0;
    for key in &going {
        widened += u64::from(images.invalidate(key.to_le_bytes()).unwrap().widened());
    }
    let stay = there(&images, &staying, 1);
    let evicted = store.stats().segments_evicted;
    let lost: Vec<u64> = staying.iter().filter(|key| !stay.contains(key)).copied().collect();
    println!(
        "{file_system}, mapped {mapped}: of {segments} segments {evicted} were evicted, with {} of {} keys that \
         were not invalidated; {widened} invalidations took everything",
        lost.len(),
        staying.len()
    );
    assert_eq!(widened, 0, "there were segments to be evicted");
    assert!(evicted > 0 && evicted < segments, "nothing had to make room, or nothing is left");
    // The oldest go first, and of a segment everything goes.
    assert_eq!(
        lost[..],
        staying[..lost.len()],
        "keys were lost with segments that are not the oldest"
    );
    let share = staying.len() as u64 * evicted / segments;
    assert!(lost.len() as u64 <= share + share / 8 + 1, "more was lost than what was evicted");

    let copy = dir.path().join("copy");
    machine.copy(&copy);
    drop((images, others, access, store, machine));
    fs::rename(&copy, dir.path().join("image")).unwrap();

    let machine = Machine::start(dir.path());
    // The disk is still full.
    let store = opened(&machine.mounted.join("data"), mapped);
    let (images, others, access) = owners(&store);
    let back = there(&images, &going, 1);
    assert!(back.is_empty(), "{} keys that were invalidated are back", back.len());
    assert_eq!(
        there(&images, &staying, 1),
        stay,
        "what was durable is gone, or what was evicted is back"
    );
    let all: Vec<u64> = (0..OTHERS).collect();
    assert_eq!(there(&others, &all, 2).len(), all.len(), "another keyspace had to give");
    for (key, id) in rows.iter().enumerate() {
        let row = access.get(*id).unwrap().unwrap_or_else(|| panic!("row {key} is gone"));
        assert!(row.payload()[..] == value_of(key as u64, 3, LONGEST), "row {key} is another");
    }
    let problems = store.verify().unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
    let problems = store.verify_ledger().unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
    println!(
        "{file_system}, mapped {mapped}: {} of {KEYS} invalidations durable, {} keys of the same keyspace, {} of \
         another and {} rows there",
        going.len(),
        stay.len(),
        all.len(),
        rows.len()
    );
}

/// How many segments the keyspace has of which keys are invalidated.
fn count_segments(store: &Store) -> u64 {
    let stats = store.stats();
    let images = stats.keyspaces.iter().find(|keyspace| keyspace.name == "images").unwrap();
    images.buckets.iter().map(|bucket| bucket.segments).sum()
}

/// Takes all room there is, down to single bytes.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut piece = vec![0x5a; 1 << 20];
    while !piece.is_empty() {
        match file.write_all(&piece) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
            Err(e) => panic!("{e}"),
        }
    }
    file.sync_all().unwrap();
}
