//! Keys of one hash: a miss is allowed, another key's bytes never are.

use std::collections::BTreeMap;

use crate::disk::MemoryDisk;
use crate::hash::keeping;
use crate::keyspace::Keyspace;
use crate::options::KeyspaceOptions;
use crate::retention::Retention;
use crate::store::Store;
use crate::time::{ManualClock, Timestamp};

const KEYS: u64 = 40;
const ROUNDS: u64 = 600;
/// What is kept of the hashes: nothing; 3 bits; 5 bits; all but what the index goes by; everything.
const KEPT: [u128; 5] = [0, 0x7 << 125, 0x1f << 123, u128::MAX >> 52, u128::MAX];

fn open(disk: &MemoryDisk, mapped: bool) -> Store {
    let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
    let builder = Store::builder("/data").disk(disk.clone()).clock(clock).background(false);
    builder.tombstone_log_bytes(4096).open_with(mapped).unwrap()
}

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.keyspace("images", options).unwrap()
}

/// What each key may say, newest first of all; nothing if it was invalidated.
#[derive(Default)]
struct Model {
    newest: BTreeMap<u64, Option<Vec<u8>>>,
    hits: u64,
}

impl Model {
    fn look(&mut self, images: &Keyspace, key: u64) {
        let Some(value) = images.get(key.to_be_bytes()).unwrap() else { return };
        assert_eq!(Some(Some(value.as_ref())), self.newest.get(&key).map(Option::as_deref));
        self.hits += 1;
    }

    fn look_everywhere(&mut self, images: &Keyspace) {
        (0..KEYS).for_each(|key| self.look(images, key));
        for entry in images.iter() {
            let entry = entry.unwrap();
            let key = u64::from_be_bytes(entry.key().try_into().unwrap());
            assert!(self.newest[&key].is_some(), "{key} is invalidated");
        }
        let keys: Vec<_> = (0..KEYS).map(u64::to_be_bytes).collect();
        for (key, value) in (0..KEYS).zip(images.get_many(&keys).unwrap()) {
            let Some(value) = value else { continue };
            assert_eq!(Some(Some(value.as_ref())), self.newest.get(&key).map(Option::as_deref));
        }
    }
}

/// Goes through operations chosen from a seed; gives how many reads found something.
fn run(mapped: bool) -> u64 {
    let mut disk = MemoryDisk::new(3);
    let mut store = open(&disk, mapped);
    let mut model = Model::default();
    let mut choice = 7_u64;
    for round in 0..ROUNDS {
        choice = choice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let key = (choice >> 33) % KEYS;
        let images = images(&store);
        match (choice >> 50) % 16 {
            0 | 1 => {
                images.invalidate(key.to_be_bytes()).unwrap();
                model.newest.insert(key, None);
            }
            2 => store.scrub().unwrap(),
            3 => {
                store.close().unwrap();
                drop(images);
                store = open(&disk, mapped);
            }
            4 => {
                disk = disk.kill();
                drop(images);
                store = open(&disk, mapped);
            }
            _ => {
                let value = [key.to_be_bytes(), round.to_be_bytes()].concat();
                images.insert(key.to_be_bytes(), &value).unwrap();
                model.newest.insert(key, Some(value));
            }
        }
        model.look_everywhere(&self::images(&store));
    }
    model.hits
}

#[test]
fn keys_of_one_hash_are_never_served_as_each_other() {
    for mapped in [false, true] {
        let hits = KEPT.map(|bits| keeping(bits, || run(mapped)));
        println!("mapped {mapped}: {hits:?} hits with ever more of the hash");
        assert!(hits.iter().all(|hits| *hits > 0));
        assert!(hits.iter().all(|some| *some <= hits[KEPT.len() - 1]), "{hits:?}");
    }
}
