//! Disks that are full to the last block.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use crate::child::{images, opened};
use crate::fixture::MODES;
use crate::machine::Machine;

const KEYS: u32 = 10_000;

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn full_disks() {
    for file_system in ["ext4", "xfs"] {
        if Command::new(format!("mkfs.{file_system}")).arg("-V").output().is_err() {
            println!("!! SKIPPED: there is no mkfs.{file_system}");
            continue;
        }
        for mapped in MODES {
            let durable = invalidate_on_a_full_disk(file_system, mapped);
            println!("{file_system}, mapped {mapped}: {durable} of {KEYS} invalidations durable");
            assert_eq!(durable, KEYS);
        }
    }
}

/// Invalidates all keys while nothing more fits on the disk, then cuts the power. Gives how many keys are
/// gone after it.
fn invalidate_on_a_full_disk(file_system: &str, mapped: bool) -> u32 {
    let dir = tempfile::tempdir().unwrap();
    Machine::format(dir.path(), file_system);
    let machine = Machine::start(dir.path());
    let data = machine.mounted.join("data");
    let store = opened(&data, mapped);
    let kept = images(&store).unwrap();
    for key in 0..KEYS {
        kept.insert(key.to_le_bytes(), b"a small value").unwrap();
    }
    store.sync().unwrap();
    fill(&machine.mounted.join("filler"));
    for key in 0..KEYS {
        kept.invalidate(key.to_le_bytes()).unwrap();
    }
    let copy = dir.path().join("copy");
    machine.copy(&copy);
    drop((kept, store, machine));
    fs::rename(&copy, dir.path().join("image")).unwrap();

    let machine = Machine::start(dir.path());
    // The disk is still full.
    let store = opened(&machine.mounted.join("data"), mapped);
    let kept = images(&store).unwrap();
    (0..KEYS).filter(|key| kept.get(key.to_le_bytes()).unwrap().is_none()).count() as u32
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
