//! Files that rot while a store is closed: whatever can be read then is right, and not older than what
//! was promised.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide::disk::{Fault, MemoryDisk};

use super::crashes::{OPENING_CALLS, config};
use super::generate::{self, Mood};
use super::ops::{KEYS, KEYSPACES, Key, Op};
use super::random::Random;
use super::world::{World, faulty};

const SECTOR: usize = 512;
/// Where records begin in a segment.
const RECORDS: usize = 1024;
/// Where entries begin in a region of a tombstone log, and how long they are.
const ENTRIES: usize = 512;
const ENTRY: usize = 64;
/// Entries of the longest tombstone of a workload. No later one says of the last that it was durable.
const LONGEST_UNIT: usize = 4;
/// What is tried on one store.
const TRIES: usize = 20;

/// Files of a disk by the ends of their names.
fn files(disk: &MemoryDisk, end: &str) -> Vec<PathBuf> {
    let is_wanted = |path: &PathBuf| path.to_string_lossy().ends_with(end);
    disk.all_files().into_iter().filter(is_wanted).collect()
}

fn change(disk: &MemoryDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.read_file(path).unwrap();
    change(&mut bytes);
    disk.write_file(path, &bytes).unwrap();
}

/// Spoils the beginning, so that nothing in the file is believed.
fn spoil_head(disk: &MemoryDisk, path: &Path) {
    change(disk, path, |bytes| bytes.iter_mut().take(ENTRY).for_each(|byte| *byte ^= 0xff));
}

/// Harms some of the bytes from `first` on.
fn harm(disk: &MemoryDisk, path: &Path, first: usize, random: &mut Random) {
    let siblings = files(disk, "");
    let other = &siblings[random.below(siblings.len() as u64) as usize];
    let other = disk.read_file(other).unwrap();
    change(disk, path, |bytes| {
        let len = bytes.len().saturating_sub(first).max(1) as u64;
        let at = first + random.below(len) as usize;
        let sector = at / SECTOR * SECTOR..(at / SECTOR + 1) * SECTOR;
        let from: Vec<u8> = match random.below(6) {
            0 => vec![0; SECTOR],
            1 => random.bytes(SECTOR),
            2 => other.get(sector.clone()).unwrap_or_default().to_vec(),
            _ => {
                let byte = bytes.get_mut(at);
                byte.into_iter().for_each(|byte| *byte ^= 1 << random.below(8));
                return;
            }
        };
        let to = bytes.iter_mut().skip(sector.start).take(SECTOR);
        to.zip(from).for_each(|(to, from)| *to = from);
    });
}

/// Harms a segment of which nothing else tells where its records are.
fn rot_segment(disk: &MemoryDisk, random: &mut Random) {
    let segments = files(disk, ".seg");
    let Some(segment) = segments.get(random.below(segments.len() as u64) as usize) else { return };
    files(disk, "INDEX").iter().for_each(|index| spoil_head(disk, index));
    let sidecar = segment.with_extension("idx");
    if disk.read_file(&sidecar).is_ok() {
        spoil_head(disk, &sidecar);
        harm(disk, segment, RECORDS, random);
    }
}

/// Harms a tombstone that a later one says was durable, in both places where it stands.
fn rot_tombstone(disk: &MemoryDisk, random: &mut Random) {
    files(disk, "INDEX").iter().for_each(|index| spoil_head(disk, index));
    let logs = files(disk, ".log");
    let logs: Vec<_> = logs.iter().filter(|path| path.starts_with("/data/tombstones")).collect();
    let Some(log) = logs.get(random.below(logs.len() as u64) as usize) else { return };
    change(disk, log, |bytes| {
        let region = bytes.len() / 2;
        let entries = bytes[ENTRIES..region].chunks(ENTRY);
        let count = entries.filter(|entry| entry.iter().any(|byte| *byte != 0)).count();
        if count <= LONGEST_UNIT {
            return;
        }
        let at = ENTRIES + ENTRY * random.below((count - LONGEST_UNIT) as u64) as usize;
        for start in [at, region + at] {
            bytes[start..start + ENTRY].fill(0);
        }
    });
}

/// Harms any file but the lock.
fn rot_any(disk: &MemoryDisk, random: &mut Random) {
    let mut files = files(disk, "");
    files.retain(|path| !path.ends_with("LOCK"));
    let path = &files[random.below(files.len() as u64) as usize];
    harm(disk, path, 0, random);
}

/// Harms all that tells the time, and how far numbers and files go.
fn rot_state(disk: &MemoryDisk) {
    disk.write_file(Path::new("/data/STATE"), &[]).unwrap();
}

impl World {
    /// Opens what has rotted, perhaps after an attempt in which a call fails, and fails if something can be
    /// read that must not be, or if what is written from then on is not kept.
    fn read_rotten(&mut self, random: &mut Random) {
        self.expect_losses();
        if random.once_in(2) {
            let disk = faulty(&self.disk);
            let kinds = [ErrorKind::TimedOut, ErrorKind::StorageFull];
            let kind = kinds[random.below(2) as usize];
            disk.inject(1 + random.below(OPENING_CALLS), Fault::Error(kind));
            self.fail_from(disk, 1);
        }
        // To refuse is right.
        let opened = self.start().is_ok() || {
            self.mend();
            self.start().is_ok()
        };
        if !opened {
            return;
        }
        for space in 0..KEYSPACES {
            for key in 0..KEYS {
                self.look_up(Key { space, key }, self.moment(space));
            }
        }
        let moment = self.moment(KEYSPACES);
        for row in self.scan_all().unwrap_or_default() {
            self.model.rows.check_row(&row, moment);
        }
        let anew = self.opened().spaces[1].insert("anew", "value");
        let is_kept = anew.is_ok() && self.store().sync().is_ok();
        self.mend();
        self.kill();
        self.start().expect("opens again");
        let found = self.opened().spaces[1].get("anew").unwrap();
        assert!(found.is_some() || !is_kept, "what was synced since is gone");
    }
}

/// Goes through the states of one seed, and counts them: one store, harmed in several ways.
pub(crate) fn run(seed: u64, states: &AtomicU64) {
    let random = &mut Random::new(seed);
    let mut world = World::new(config(random), seed);
    world.open().expect("opens");
    for op in generate::ops(random, Mood::Forgetful, 80) {
        world.apply(&op);
    }
    world.apply(&Op::LetGo);
    world.close();
    for _ in 0..TRIES {
        let mut rotten = world.killed_copy();
        match random.below(5) {
            0..2 => rot_segment(&rotten.disk, random),
            2 => rot_tombstone(&rotten.disk, random),
            3 => rot_state(&rotten.disk),
            _ => rot_any(&rotten.disk, random),
        }
        rotten.read_rotten(random);
        states.fetch_add(1, Ordering::Relaxed);
    }
}
