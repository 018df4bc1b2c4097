//! A sync that really fails: ext4 in a file that has no room to grow. The kernel takes the pages for clean
//! afterwards, and what they hold is read as if it were on the disk.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use ebbtide::{Keyspace, KeyspaceOptions, Retention, Store};

use crate::child::opened;
use crate::fixture::MODES;
use crate::machine::{Machine, run, unmount};

/// Room for the whole file system, and a copy of it.
const ROOM_BYTES: u64 = 200 << 20;
/// What it may still grow by when syncs are to fail.
const LEFT_BYTES: u64 = 1 << 20;
/// So many small commits go once through the journal, and have it take its room.
const COMMITS: u32 = 5_000;
const SMALL_KEYS: u32 = 100;
const SMALL_LEN: usize = 1_000;
/// Bytes of each of the records behind them.
const LARGE_LEN: usize = 64 << 10;
const BLOCK: usize = 4096;
const MOST_KEYS: u32 = 500;

/// A file system in memory, of so many bytes.
struct Memory<'a>(&'a Path);

impl Memory<'_> {
    fn limit(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        run(Command::new("mount").args(["-o", &size]).arg(self.0));
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn failed_syncs() {
    for mapped in MODES {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={ROOM_BYTES}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir.path()));
        let memory = Memory(dir.path());
        Machine::format(dir.path(), "ext4");
        let machine = Machine::start(dir.path());
        go_through_the_journal(&machine.mounted);
        let durable = fail_a_sync(&memory, &machine, mapped);
        let served = what_is_served(&opened(&machine.mounted.join("data"), mapped));
        let lost = durable.iter().find(|key| !served.contains(*key));
        assert_eq!(lost, None, "it was durable, and is gone");
        let copy = dir.path().join("copy");
        machine.copy(&copy);
        drop(machine);
        fs::rename(&copy, dir.path().join("image")).unwrap();

        let machine = Machine::start(dir.path());
        let after = what_is_served(&opened(&machine.mounted.join("data"), mapped));
        assert_eq!(after, served, "the next opening served what was not durable, or lost what was");
        println!(
            "mapped {mapped}: a sync failed after {} keys, {} are served",
            durable.len(),
            served.len()
        );
    }
}

/// One segment holds all, so that no other call fails before a sync does.
fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(32 << 20);
    store.keyspace("images", options).unwrap()
}

fn go_through_the_journal(mounted: &Path) {
    let mut file = File::create(mounted.join("warm")).unwrap();
    for _ in 0..COMMITS {
        file.write_all(&[0x5a; 64]).unwrap();
        file.sync_all().unwrap();
    }
}

fn value(key: u32, len: usize) -> Vec<u8> {
    key.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn insert(images: &Keyspace, key: u32, len: usize) -> bool {
    images.insert(key.to_le_bytes(), value(key, len)).is_ok()
}

/// The length of the segment.
fn segment_len(machine: &Machine) -> usize {
    let dir = machine.mounted.join("data/keyspaces/images");
    let dirs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = dirs.filter(|path| path.is_dir()).flat_map(|dir| fs::read_dir(dir).unwrap());
    files.map(|entry| entry.unwrap().metadata().unwrap().len()).max().unwrap() as usize
}

/// Stores until a sync fails. Gives the keys that were acknowledged as durable; the first half of the small
/// ones has been invalidated.
fn fail_a_sync(memory: &Memory<'_>, machine: &Machine, mapped: bool) -> Vec<u32> {
    let store = opened(&machine.mounted.join("data"), mapped);
    let images = images(&store);
    assert!((0..SMALL_KEYS).all(|key| insert(&images, key, SMALL_LEN)));
    let before = segment_len(machine);
    assert!(insert(&images, SMALL_KEYS, SMALL_LEN));
    let around = segment_len(machine) - before - SMALL_LEN;
    // A loop device takes a write that is cut short for whole, so each begins and ends with a block.
    let to_block = (BLOCK - (segment_len(machine) + around) % BLOCK) % BLOCK;
    assert!(insert(&images, SMALL_KEYS + 1, to_block));
    assert_eq!(segment_len(machine) % BLOCK, 0);
    store.sync().unwrap();
    for key in 0..SMALL_KEYS / 2 {
        images.invalidate(key.to_le_bytes()).unwrap();
    }
    let mut durable: Vec<u32> = (SMALL_KEYS / 2..SMALL_KEYS + 2).collect();
    let image = fs::metadata(machine.mounted.with_file_name("image")).unwrap();
    memory.limit(image.blocks() * 512 + LEFT_BYTES);
    let mut keys = SMALL_KEYS + 2..MOST_KEYS;
    let failed = loop {
        let key = keys.next().unwrap();
        assert!(insert(&images, key, LARGE_LEN - around));
        match store.sync() {
            Ok(()) => durable.push(key),
            Err(error) => break error,
        }
    };
    println!("mapped {mapped}: {failed}");
    assert!(store.sync().is_err() && !insert(&images, 0, SMALL_LEN), "a sync could only lie now");
    drop((images, store));
    memory.limit(ROOM_BYTES);
    durable
}

/// The keys that have a value, each of which must be its own.
fn what_is_served(store: &Store) -> Vec<u32> {
    let images = images(store);
    let mut served = Vec::new();
    for key in 0..MOST_KEYS {
        let Some(found) = images.get(key.to_le_bytes()).unwrap() else { continue };
        assert!(found[..] == value(key, found.len()), "{key} has another value");
        served.push(key);
    }
    assert!(served.iter().all(|key| *key >= SMALL_KEYS / 2), "what was invalidated is back");
    store.sync().unwrap();
    served
}
