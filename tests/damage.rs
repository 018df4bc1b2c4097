//! Every byte of a store flipped, every file cut at every length, and files made to hurt: errors and
//! misses, never a wrong byte, an older version or an invalidated record; and `verify` tells of each flip.
//!
//! The default run takes a bit of every byte and every length of a closed store once, half of them in
//! each mode, and a sample of a killed one that moves with the seed; where there is nothing but zeros far
//! and wide, it verifies every flip, and opens one in eight, and takes one length in eight.
//! `EBBTIDE_DAMAGE=all` takes all bits and all lengths of both in each mode.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;
#[path = "damage/flips.rs"]
mod flips;
#[path = "damage/sample.rs"]
mod sample;

use std::path::Path;

use ebbtide::Error;
use ebbtide::disk::Disk;

use fixture::{MODES, clock, minutes, on_memory, open, try_open};
use flips::{cut_everything, examined, flip_everything};
use sample::{builder, is_ledger_file, make};

#[test]
fn an_undamaged_store_gives_everything() {
    for closed in [true, false] {
        let sample = make(closed);
        for mapped in MODES {
            let disk = sample.disk.fork();
            let store = open(builder(&disk), mapped);
            assert!(!sample.read_keys(&store, false));
            assert!(!sample.read_rows(&store));
            assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
            assert!(store.verify().unwrap().problems.is_empty());
        }
    }
}

#[test]
fn flips_of_a_closed_store_by_position() {
    flip_everything(true, false);
}

#[test]
fn flips_of_a_closed_store_mapped() {
    flip_everything(true, true);
}

#[test]
fn flips_of_a_killed_store_by_position() {
    flip_everything(false, false);
}

#[test]
fn flips_of_a_killed_store_mapped() {
    flip_everything(false, true);
}

#[test]
fn cuts_by_position() {
    cut_everything(true, false);
    cut_everything(false, false);
}

#[test]
fn cuts_mapped() {
    cut_everything(true, true);
    cut_everything(false, true);
}

/// Puts a version that nobody knows in place of the one at an offset.
fn set_version(bytes: &mut [u8], offset: usize) {
    let version = 3_u32;
    bytes[offset + 8..offset + 12].copy_from_slice(&(version | (!version << 16)).to_le_bytes());
}

#[test]
fn an_unknown_version_is_told_and_left_alone() {
    let sample = make(true);
    for (path, bytes) in sample.files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut changed = bytes.clone();
        set_version(&mut changed, 0);
        let is_segment = name.ends_with(".seg");
        match name.as_str() {
            "STORE" | "STATE" | "KEYSPACE" | "LOG" | "pseudonym.keys" => {
                set_version(&mut changed, 4096);
            }
            _ if is_ledger_file(&path) => {
                let disk = sample.with(&path, &changed);
                sample.expect_broken_ledger(&disk, &path);
                assert_eq!(disk.read_file(&path).unwrap(), changed, "{name} was touched");
                continue;
            }
            _ if name.ends_with(".log") => set_version(&mut changed, bytes.len() / 2),
            _ if is_segment => {}
            _ => continue,
        }
        for mapped in MODES {
            let disk = sample.with(&path, &changed);
            match try_open(builder(&disk), mapped) {
                Ok(store) => {
                    assert!(is_segment, "{name} of another version was opened");
                    assert_eq!(
                        store.recovery_report().unknown_versions,
                        std::slice::from_ref(&path)
                    );
                    if path.starts_with("/data/keyspaces") {
                        let images = store.existing_keyspace("images").unwrap();
                        assert_eq!(images.iter().count(), 0, "it may have newer versions");
                    }
                }
                Err(Error::UnknownVersion { path: told, found: 3, known: 2 }) => {
                    assert!(!is_segment);
                    assert_eq!(told, path);
                }
                Err(other) => panic!("{name}: {other}"),
            }
            assert_eq!(disk.read_file(&path).unwrap(), changed, "{name} was touched");
        }
    }
}

#[test]
fn huge_lengths_and_counts_are_refused() {
    for closed in [true, false] {
        let sample = make(closed);
        for (path, bytes) in sample.files() {
            // Every aligned word of the first 128 bytes, which is where lengths and counts stand.
            for at in (16..bytes.len().min(128)).step_by(4) {
                let mut changed = bytes.clone();
                changed[at..at + 4].fill(0xff);
                for mapped in MODES {
                    let disk = sample.with(&path, &changed);
                    let what = format!("{} word {at}", path.display());
                    examined(&what, || sample.examine(&disk, &path, mapped, false));
                }
            }
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + 100_000, 0xff);
            let disk = sample.with(&path, &longer);
            let what = format!("{} made longer", path.display());
            examined(&what, || sample.examine(&disk, &path, false, true));
        }
    }
}

#[test]
fn directories_for_files_and_files_for_directories() {
    for closed in [true, false] {
        let sample = make(closed);
        for (path, _) in sample.files() {
            for mapped in MODES {
                let disk = sample.disk.fork();
                disk.remove_file(&path).unwrap();
                disk.create_dir(&path).unwrap();
                // Without a file, what was in it cannot be missed: older versions are no surprise.
                let what = format!("a directory {}", path.display());
                examined(&what, || {
                    if let Ok(store) = try_open(builder(&disk), mapped) {
                        sample.read_keys(&store, true);
                        sample.read_rows(&store);
                        store.verify().unwrap();
                    }
                });
            }
        }
    }
}

#[test]
fn unknown_names_are_ignored() {
    let sample = make(true);
    let bucket =
        sample.files().into_iter().find(|(path, _)| path.to_str().unwrap().ends_with(".seg"));
    let bucket = bucket.unwrap().0.parent().unwrap().to_owned();
    for mapped in MODES {
        let disk = sample.disk.fork();
        for dir in [
            "/data",
            "/data/keyspaces",
            "/data/keyspaces/images",
            "/data/tombstones",
            "/data/ledger",
        ] {
            disk.write_file(&Path::new(dir).join("stranger"), b"?").unwrap();
            disk.create_dir(&Path::new(dir).join("Strange-Directory")).unwrap();
        }
        disk.write_file(&bucket.join("1.seg"), b"?").unwrap();
        disk.write_file(&bucket.join("zzzzzzzzzzzzzzzz.seg"), b"?").unwrap();
        disk.create_dir(Path::new("/data/keyspaces/images/20261399T000000000Z")).unwrap();
        let store = open(builder(&disk), mapped);
        assert!(!sample.read_keys(&store, false));
        assert!(!sample.read_rows(&store));
        assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
        assert_eq!(store.keyspaces(), ["images"]);
        store.maintain().unwrap();
        store.close().unwrap();
        assert_eq!(disk.read_file(Path::new("/data/stranger")).unwrap(), b"?");
    }
}

#[test]
fn a_spare_that_rotted_is_cleared_before_it_is_used() {
    let sample = make(true);
    for dir in ["ledger", "tombstones"] {
        let spare = Path::new("/data").join(dir).join("spare");
        let mut bytes = sample.disk.read_file(&spare).unwrap();
        bytes[3000] ^= 4;
        let disk = sample.with(&spare, &bytes);
        let before = disk.all_files();
        let clock = clock();
        clock.advance(minutes(100));
        let store = open(on_memory(&disk, &clock), false);
        let images = store.existing_keyspace("images").unwrap();
        let is_begun =
            |path: &std::path::PathBuf| path.parent() == spare.parent() && !before.contains(path);
        let mut begun = 0;
        for _ in 0..40 {
            clock.advance(minutes(60));
            images.insert("key", b"value").unwrap();
            images.invalidate("key").unwrap();
            store.maintain().unwrap();
            if disk.all_files().iter().any(is_begun) {
                begun += 1;
                assert_eq!(store.verify().unwrap().problems, []);
            }
        }
        assert!(begun > 0, "{dir}");
        store.close().unwrap();
        let store = on_memory(&disk, &clock).open_read_only().unwrap();
        assert_eq!(store.verify().unwrap().problems, []);
    }
}
