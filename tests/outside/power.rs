//! Power cuts: what the disk holds at some moment is all there is.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::{Child, SEGMENT_BYTES, opened};
use crate::fixture::{MODES, Random, seed};
use crate::machine::{Machine, signal};
use crate::model::Model;

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn power_cuts() {
    let cuts: u32 = std::env::var("EBBTIDE_CUTS").ok().map_or(20, |cuts| cuts.parse().unwrap());
    let (mut done, mut lost) = (0, 0);
    for file_system in ["ext4", "xfs"] {
        let mkfs = Command::new(format!("mkfs.{file_system}")).arg("-V").output();
        if mkfs.is_err() {
            println!("!! SKIPPED: there is no mkfs.{file_system}");
            continue;
        }
        for mapped in MODES {
            let model = cut_power(file_system, mapped, cuts);
            done += model.acknowledged;
            lost += model.lost;
        }
    }
    assert!(done > u64::from(cuts), "the power goes before anything is done");
    // Else the power was not cut, but the file system unmounted.
    assert!(lost > 0, "nothing that was not durable has been lost");
}

/// Gives what is known of the store at the end.
fn cut_power(file_system: &str, mapped: bool, cuts: u32) -> Model {
    let mut choices = Random::new(seed("power_cuts"));
    let dir = tempfile::tempdir().unwrap();
    let (notes, copy) = (dir.path().join("notes"), dir.path().join("copy"));
    Machine::format(dir.path(), file_system);
    let mut model = Model::default();
    for cut in 0..cuts {
        let machine = Machine::start(dir.path());
        let data = machine.mounted.join("data");
        let child = Child {
            dir: &data,
            notes: &notes,
            mapped,
            operations: u64::MAX,
            segment_bytes: SEGMENT_BYTES,
        };
        let mut child = child.command(&[], &model, &mut choices).spawn().unwrap();
        let until = Instant::now() + Duration::from_micros(20_000 + choices.below(300_000));
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        assert!(child.try_wait().unwrap().is_none(), "the process ended by itself");
        signal(child.id(), "-STOP");
        machine.copy(&copy);
        model.take_notes(&fs::read_to_string(&notes).unwrap_or_default());
        let _ = child.kill();
        child.wait().unwrap();
        drop(machine);
        fs::rename(&copy, dir.path().join("image")).unwrap();
        fs::remove_file(&notes).unwrap_or_default();

        let machine = Machine::start(dir.path());
        let store = opened(&machine.mounted.join("data"), mapped);
        model.check(&store);
        assert!(store.verify().unwrap().problems.is_empty());
        assert!(store.verify_ledger().unwrap().problems.is_empty());
        if choices.once_in(3) {
            store.maintain().unwrap();
            model.check(&store);
            store.close().unwrap();
        }
        println!("cut {cut}: {} operations", model.acknowledged);
    }
    let Model { acknowledged, failed, lost, .. } = &model;
    println!(
        "{file_system}, mapped {mapped}: {cuts} power cuts, {acknowledged} operations, {failed} failed, \
         {lost} were not durable and lost"
    );
    assert_eq!(*failed, 0, "nothing failed but the power");
    model
}
