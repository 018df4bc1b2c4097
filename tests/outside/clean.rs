//! Ten million reads of a store that nothing is wrong with.

use ebbtide::{KeyspaceOptions, Retention, Store};

use crate::fixture::{MODES, Random, clock, open, quiet, seed, value_of};

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
    }
}
