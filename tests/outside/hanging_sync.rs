//! How long hot reads take while syncs hang.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ebbtide::{Durability, Keyspace, KeyspaceOptions, Outcome, Retention, Store};

use crate::fixture::{MODES, Random, try_open, value_of};

const DIR: &str = "EBBTIDE_HANGING_DIR";
const HANG_MS: u64 = 500;
const RUN: Duration = Duration::from_secs(6);
const READERS: u64 = 2;
const KEYS: u64 = 1000;
const LONGEST: u64 = 24_000;
/// What a thousandth of the reads may take longer than.
const BAR: Duration = Duration::from_millis(1);

// ---- the process ----

/// The work of the process, if this is it: some read, one stores durably, and the store's own thread syncs.
pub(crate) fn work() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let mapped = std::env::var("EBBTIDE_HANGING_MAPPED").unwrap() == "true";
    let store = try_open(Store::builder(dir.join("data")), mapped).unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
    for key in 0..KEYS {
        images.insert(key.to_le_bytes(), value_of(key, 1, LONGEST)).unwrap();
    }
    store.sync().unwrap();
    (0..KEYS).for_each(|key| assert_eq!(get(&images, key), value_of(key, 1, LONGEST)));

    let is_over = AtomicBool::new(false);
    let (mut reads, writes) = std::thread::scope(|scope| {
        let (images, is_over) = (&images, &is_over);
        let readers: Vec<_> = (0..READERS)
            .map(|seed| scope.spawn(move || read(images, Random::new(seed), is_over)))
            .collect();
        let writes = store_durably(images);
        is_over.store(true, Ordering::Relaxed);
        let reads = readers.into_iter().flat_map(|reader| reader.join().unwrap());
        (reads.collect::<Vec<_>>(), writes)
    });
    store.close().unwrap();
    reads.sort_unstable();
    let of = |share: f64| reads[((reads.len() - 1) as f64 * share) as usize];
    let shares = [of(0.5), of(0.99), of(0.999), of(1.0)].map(|ns| ns.to_string());
    let shortest = writes.iter().min().unwrap().as_millis();
    println!("\n= {} {} {} {shortest}", reads.len(), shares.join(" "), writes.len());
}

fn get(images: &Keyspace, key: u64) -> Vec<u8> {
    images.get(key.to_le_bytes()).unwrap().unwrap().to_vec()
}

/// Reads until the time is over; how long each read took, in nanoseconds.
fn read(images: &Keyspace, mut choices: Random, is_over: &AtomicBool) -> Vec<u32> {
    let mut times = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let key = choices.below(KEYS).to_le_bytes();
        let begun = Instant::now();
        let value = images.get(key).unwrap();
        times.push(begun.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
        assert!(value.is_some());
    }
    times
}

/// Stores durably for the time of a run; how long each time took.
fn store_durably(images: &Keyspace) -> Vec<Duration> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < RUN {
        let started = Instant::now();
        let fill = images.fill("written").durability(Durability::Sync);
        assert_eq!(fill.commit(b"again and again").unwrap(), Outcome::Stored);
        times.push(started.elapsed());
    }
    times
}

// ---- its runs ----

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn reads_while_syncs_hang() {
    let Some(hang) = std::env::var_os("EBBTIDE_HANG") else {
        panic!("EBBTIDE_HANG names the library that lets syncs hang");
    };
    for mapped in MODES {
        measure("syncs as they are", mapped, None);
        let shortest_ms = measure("syncs of 500 ms", mapped, Some(&hang));
        assert!(shortest_ms >= HANG_MS, "no sync has hung: {shortest_ms} ms");
    }
}

/// Runs the process, perhaps with syncs that hang, prints its figures, and gives the shortest time of a
/// durable fill.
fn measure(what: &str, mapped: bool, hang: Option<&OsStr>) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["reads_on", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir.path())
        .env("EBBTIDE_HANGING_MAPPED", mapped.to_string());
    if let Some(hang) = hang {
        command.env("LD_PRELOAD", hang).env("HANG_US", (HANG_MS * 1000).to_string());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("= ")).unwrap();
    let figures: Vec<u64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
    let [reads, p50, p99, p999, max, fills, shortest_ms] = figures[..] else { panic!("{line}") };
    let us = |ns: u64| ns as f64 / 1000.0;
    println!(
        "{what}, mapped {mapped}: {fills} durable fills of at least {shortest_ms} ms, {reads} reads: \
         p50 {} µs, p99 {} µs, p99.9 {} µs, longest {} µs; p99.9 within {BAR:?}: {}",
        us(p50),
        us(p99),
        us(p999),
        us(max),
        if Duration::from_nanos(p999) <= BAR { "yes" } else { "NO" },
    );
    shortest_ms
}
