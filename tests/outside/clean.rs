//! Ten million reads of a store that nothing is wrong with.

use std::fs;
use std::path::{Path, PathBuf};

use ebbtide::{KeyspaceOptions, Retention, Store};

use crate::fixture::{MODES, Random, clock, open, quiet, seed, value_of};
use crate::tree::below;

const READS: u64 = 10_000_000;
const KEYS: u64 = 20_000;
const LONGEST: u64 = 1000;

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn clean_reads() {
    for mapped in MODES {
        let dir = tempfile::tempdir().unwrap();
        let builder = || quiet(Store::builder(dir.path().join("data")), &clock());
        let store = open(builder(), mapped);
        let options = KeyspaceOptions::new(Retention::days(30)).segment_bytes(1 << 20);
        let images = store.keyspace("images", options).unwrap();
        for key in 0..KEYS {
            images.insert(key.to_le_bytes(), value_of(key, 0, LONGEST)).unwrap();
        }
        store.close().unwrap();

        let store = open(builder().verify_every_read(true), mapped);
        let images = store.existing_keyspace("images").unwrap();
        let values: Vec<Vec<u8>> = (0..KEYS).map(|key| value_of(key, 0, LONGEST)).collect();
        let random = &mut Random::new(seed("clean reads"));
        let mut complaints = 0;
        for _ in 0..READS {
            let key = random.below(KEYS);
            let is_right = |value: &[u8]| *value == *values[key as usize];
            match images.get(key.to_le_bytes()) {
                Ok(Some(value)) if is_right(&value) => {}
                _ => complaints += 1,
            }
        }
        complaints += store.problems().len() + store.verify().unwrap().problems.len();
        println!("mapped {mapped}: {complaints} complaints in {READS} reads, all verified");
        assert_eq!(complaints, 0);
        store.close().unwrap();
        assert!(complains_of_rot(dir.path(), mapped), "a changed byte is not complained about");
    }
}

/// Changes a byte in the middle of a segment; true if one value cannot be read any more.
fn complains_of_rot(dir: &Path, mapped: bool) -> bool {
    let is_segment = |path: &&PathBuf| path.extension().is_some_and(|found| found == "seg");
    let data = dir.join("data");
    let segment = below(&data).iter().find(is_segment).map(|name| data.join(name)).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let builder = quiet(Store::builder(&data), &clock()).verify_every_read(true);
    let store = open(builder, mapped);
    let images = store.existing_keyspace("images").unwrap();
    let is_right = |key: &u64| {
        let found = images.get(key.to_le_bytes());
        found.is_ok_and(|value| value.is_some_and(|v| v[..] == value_of(*key, 0, LONGEST)))
    };
    let wrong = (0..KEYS).filter(|key| !is_right(key)).count();
    println!("mapped {mapped}: {wrong} wrong after a byte was changed");
    wrong == 1
}
