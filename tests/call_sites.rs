//! All places in the engine that call the disk are met by the workloads each call of which is failed in
//! turn, in `tests/crash.rs`, `tests/leftovers.rs` and `tests/corners.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::duplicate_mod)]

mod common;
#[path = "common/corners.rs"]
mod corners;
#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/leftovers.rs"]
mod leftovers;

use std::backtrace::Backtrace;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::everything;
use common::world::{World, faulty};
use corners::{CORNERS, Corner, Scene};
use ebbtide::Store;
use ebbtide::disk::{FaultyDisk, MemoryDisk};
use fixture::{open, quiet};
use leftovers::{Harm, later, leave, look, work};

/// Calls that are followed; the workload takes fewer.
const CALLS: u64 = 5_000;
/// What a call on the disk looks like in the source.
const CALLS_ON: [&str; 3] = ["disk.", "disk().", "file."];
const METHODS: [&str; 14] = [
    "create_dir",
    "read_dir",
    "open",
    "create",
    "rename",
    "remove_file",
    "remove_dir",
    "sync_dir",
    "lock",
    "read_at",
    "write_at",
    "sync_data",
    "punch_hole",
    "set_len",
];
/// The disk itself, the command, and what the fuzzer calls.
const NOT_OURS: [&str; 3] = ["bin/", "disk/", "fuzzing/"];
const FUNCTIONS: [&str; 3] = ["read_full_at", "write_all_at", "touch_dir"];

/// A file below `src`, and a line.
type Site = (String, u32);

/// The place in the engine that this backtrace was taken below.
fn site(backtrace: &Backtrace) -> Option<Site> {
    let text = backtrace.to_string();
    let mut places = text.lines().filter_map(|line| line.trim().strip_prefix("at "));
    places.find_map(|place| {
        let (_, rest) = place.rsplit_once("/src/").or_else(|| place.split_once("src/"))?;
        let mut parts = rest.split(':');
        let (file, line) = (parts.next()?, parts.next()?.parse().ok()?);
        let is_ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file).exists();
        (is_ours && !file.starts_with("disk/")).then(|| (file.to_owned(), line))
    })
}

/// What has been met so far.
type Met = Arc<Mutex<BTreeSet<Site>>>;

/// Notes down where this world calls the disk from, from now on.
fn follow(world: &mut World, met: &Met) -> FaultyDisk {
    let disk = faulty(&world.disk);
    note_calls(&disk, met);
    world.fail_from(disk.clone(), u64::MAX);
    disk
}

fn note_calls(disk: &FaultyDisk, met: &Met) {
    for call in 1..CALLS {
        let met = Arc::clone(met);
        disk.interrupt(call, move || {
            met.lock().unwrap().extend(site(&Backtrace::force_capture()));
        });
    }
}

/// Looks at what is left over, or clears it up.
fn meet_leftovers(met: &Met, harm: Harm, looks: bool, mapped: bool) {
    let memory: MemoryDisk = leave(harm);
    let disk = FaultyDisk::new(Arc::new(memory));
    note_calls(&disk, met);
    let builder = quiet(Store::builder("/data").disk(disk.clone()), &later());
    if looks {
        look(&builder.open_read_only().unwrap(), harm, "nothing fails");
    } else {
        work(&open(builder, mapped)).unwrap();
    }
    assert!(disk.calls() < CALLS);
}

/// Does the work of a corner; what it is about after another call has failed too.
fn meet_corner(met: &Met, corner: &Corner) {
    let left = (corner.prepare)();
    for mapped in [false, true] {
        let scene = Scene::new(&left, mapped);
        note_calls(&scene.disk, met);
        (corner.work)(&scene).unwrap();
        let calls = scene.disk.calls();
        assert!(calls < CALLS);
        for fault in corner.after {
            for call in scene.calls_before() + 1..=calls {
                let scene = Scene::new(&left, mapped);
                note_calls(&scene.disk, met);
                scene.disk.inject(call, *fault);
                let _ = (corner.work)(&scene);
            }
        }
    }
}

/// The places that the workloads call the disk from.
fn met() -> BTreeSet<Site> {
    let met = Met::default();
    for mapped in [false, true] {
        let mut world = World::new(everything::config(mapped), 1);
        let disk = follow(&mut world, &met);
        world.open().unwrap();
        for op in everything::ops() {
            world.apply(&op);
        }
        let mut killed = everything::killed(everything::config(mapped)).killed_copy();
        let recovering = follow(&mut killed, &met);
        killed.open().unwrap();
        assert!(disk.calls().max(recovering.calls()) < CALLS);
        for harm in [Harm::None, Harm::Records] {
            [false, true].into_iter().for_each(|looks| meet_leftovers(&met, harm, looks, mapped));
        }
    }
    CORNERS.iter().for_each(|corner| meet_corner(&met, corner));
    met.lock().unwrap().clone()
}

/// All source files of the engine, but the disk's own.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The places in a source that call the disk.
fn written(source: &str) -> Vec<u32> {
    let shipped = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let methods = METHODS.iter().flat_map(|method| CALLS_ON.map(|on| format!("{on}{method}(")));
    let calls: Vec<String> =
        methods.chain(FUNCTIONS.map(|function| format!("{function}("))).collect();
    let has_call = |line: &str| {
        let line = line.trim();
        !line.starts_with("//") && !line.contains("fn ") && calls.iter().any(|c| line.contains(c))
    };
    let lines = shipped.lines().zip(1..);
    lines.filter(|(line, _)| has_call(line)).map(|(_, number)| number).collect()
}

#[test]
fn which_places_that_call_the_disk_are_met() {
    let met = met();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths.sort();
    let mut missed: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut count = 0;
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        if NOT_OURS.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        for line in written(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            let near = (line.saturating_sub(3))..=(line + 3);
            if !met.iter().any(|(file, at)| *file == name && near.contains(at)) {
                missed.entry(name.clone()).or_default().push(line);
            }
        }
    }
    let missing = missed.values().map(Vec::len).sum::<usize>();
    println!("{} of {count} places are met", count - missing);
    assert!(missed.is_empty(), "not met: {missed:#?}");
}
