//! A process that is killed at any disk call, over and over on one directory: what it had been told
//! was done is done, and nothing hidden comes back.
//!
//! The test runs itself as a child whose disk aborts the process at the n-th call. The child notes
//! in a file what it begins and what it was told; the parent keeps a model of it.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "kill/child.rs"]
mod child;
#[path = "common/fixture.rs"]
mod fixture;
#[path = "kill/model.rs"]
mod model;

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebbtide::disk::{Fault, FaultyDisk, RealDisk};
use ebbtide::{
    Error, Fill, Keyspace, KeyspaceOptions, Log, LogOptions, ManualClock, Outcome, Retention,
    Store, StoreBuilder,
};

use child::Child;
use fixture::{Random, clock, minutes, open, quiet, seed};
use model::Model;

/// Kills each test brings about, unless `EBBTIDE_KILLS` says how many.
const KILLS: u32 = 110;
/// Of processes that are killed from outside, by position and mapped.
const RUNS_FROM_OUTSIDE: u32 = 100;
const SIGKILL: i32 = 9;
const KEYS: u64 = 24;
const TAGS: u64 = 5;
const LONGEST: u64 = 700;
const LONGEST_ROW: u64 = 100;
/// What is looked for of a dead value: noise, so that it stands nowhere else.
const NEEDLE: std::ops::Range<usize> = 8..24;
const HOUR_MS: u64 = 3_600_000;
const WINDOW_MS: u64 = 16 * HOUR_MS;
const DIR: &str = "EBBTIDE_KILL_DIR";

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.keyspace("images", options.erase_within(minutes(20))).unwrap()
}

fn access(store: &Store) -> Log {
    let options = LogOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.log("access", options.erase_within(minutes(20))).unwrap()
}

fn builder(dir: &Path, clock: &ManualClock) -> StoreBuilder {
    quiet(Store::builder(dir.join("data")), clock)
}

fn key(number: u64) -> String {
    format!("key-{number}")
}

fn tag(number: u64) -> String {
    format!("tag-{number}")
}

/// The tags of a set, a bit for each.
fn tags_of(set: u64) -> Vec<String> {
    (0..TAGS).filter(|number| set & (1 << number) != 0).map(tag).collect()
}

fn with_tags(fill: Fill, set: u64) -> Fill {
    tags_of(set).iter().fold(fill, |fill, tag| fill.tag(tag))
}

/// The answer to something that stores: its outcome, or that it is denied.
fn stored<T>(result: Result<T, Error>, what: impl Fn(T) -> &'static str) -> &'static str {
    match result {
        Ok(done) => what(done),
        Err(Error::Denied { .. }) => "< denied",
        Err(Error::FillTimedOut { .. }) => "< late",
        Err(error) => panic!("{error}"),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Stored => "< stored",
        Outcome::Superseded => "< superseded",
    }
}

fn ip(number: u64) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(198, 51, 100, number as u8).into()
}

fn at(elapsed_ms: u64) -> ManualClock {
    let clock = clock();
    clock.advance(Duration::from_millis(elapsed_ms));
    clock
}

/// Runs only as a child of the tests below.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let fault = if number("EBBTIDE_KILL_TORN") == 1 { Fault::AbortTorn } else { Fault::Abort };
    disk.inject(number("EBBTIDE_KILL_AT"), fault);
    let dir = PathBuf::from(dir);
    let notes = OpenOptions::new().append(true).create(true).open(dir.join("notes")).unwrap();
    let clock = at(number("EBBTIDE_KILL_ELAPSED"));
    let mapped = number("EBBTIDE_KILL_MAPPED") == 1;
    let builder = builder(&dir, &clock).disk(disk);
    let mut child = Child {
        notes,
        clock,
        choices: Random::new(number("EBBTIDE_KILL_SEED")),
        version: number("EBBTIDE_KILL_VERSION"),
        held: None,
    };
    for _ in 0..2 {
        child.note("> open");
        let store = open(builder.clone(), mapped);
        let (images, access) = (images(&store), access(&store));
        child.note("< opened");
        for _ in 0..90 {
            child.step(&store, &images, &access);
        }
        child.held = None;
        child.note("> close");
        store.close().unwrap();
        child.note("< closed");
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn run(name: &str, mapped: bool) {
    let mut choices = Random::new(seed(name));
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    let mut model = Model::default();
    let (mut kills, mut runs) = (0, 0);
    let wanted = std::env::var("EBBTIDE_KILLS").map_or(KILLS, |wanted| wanted.parse().unwrap());
    while kills < wanted {
        runs += 1;
        let reach = [60, 300, 1200, 2500][choices.below(4) as usize];
        let reach = choices.below(reach);
        let _ = fs::remove_file(&notes);
        let output =
            child_of(dir.path(), &model, mapped, &mut choices, 1 + reach).output().unwrap();
        let killed = output.status.signal().is_some();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(killed || output.status.success(), "run {runs}: {text}");
        kills += u32::from(killed);
        model.take_notes(&fs::read_to_string(&notes).unwrap_or_default());
        check(dir.path(), &mut model, mapped, &mut choices, runs);
    }
    let store = open(builder(dir.path(), &at(model.elapsed_ms)), mapped);
    model.check(&store);
    store.maintain().unwrap();
    store.scrub().unwrap();
    model.check_writable(&store, dir.path());
    model.check_maintained(&store);
    store.close().unwrap();
    model.check_erased(dir.path());
    println!("{name}: {kills} kills in {runs} runs, {} operations", model.acknowledged);
}

/// The child that goes on with this store and dies at a disk call of this number.
fn child_of(
    dir: &Path,
    model: &Model,
    mapped: bool,
    choices: &mut Random,
    dies_at: u64,
) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env("EBBTIDE_KILL_AT", dies_at.to_string())
        .env("EBBTIDE_KILL_TORN", choices.below(2).to_string())
        .env("EBBTIDE_KILL_SEED", choices.next().to_string())
        .env("EBBTIDE_KILL_ELAPSED", model.elapsed_ms.to_string())
        .env("EBBTIDE_KILL_VERSION", model.version.to_string())
        .env("EBBTIDE_KILL_MAPPED", u8::from(mapped).to_string());
    command
}

/// Kills from outside, at moments that are no disk call. Run by `tests/rigs/kill`, since when they
/// come cannot be repeated.
#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn killed_from_outside() {
    for mapped in fixture::MODES {
        let mut choices = Random::new(seed("killed_from_outside"));
        let dir = tempfile::tempdir().unwrap();
        let notes = dir.path().join("notes");
        let mut model = Model::default();
        let mut kills = 0;
        let said = dir.path().join("said");
        for run in 0..RUNS_FROM_OUTSIDE {
            let _ = fs::remove_file(&notes);
            let mut child = child_of(dir.path(), &model, mapped, &mut choices, u64::MAX)
                .stdout(Stdio::null())
                .stderr(fs::File::create(&said).unwrap())
                .spawn()
                .unwrap();
            let until = Instant::now() + Duration::from_micros(choices.below(200_000));
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            let _ = child.kill();
            let status = child.wait().unwrap();
            let is_killed = status.signal() == Some(SIGKILL);
            // One that has failed, or crashed, was not killed.
            let said = || fs::read_to_string(&said).unwrap();
            assert!(is_killed || status.success(), "run {run}: {status}: {}", said());
            kills += u32::from(is_killed);
            model.take_notes(&fs::read_to_string(&notes).unwrap_or_default());
            check(dir.path(), &mut model, mapped, &mut choices, run);
        }
        println!("{kills} kills, {} operations", model.acknowledged);
        assert!(kills > RUNS_FROM_OUTSIDE / 2, "most processes ended by themselves");
        assert!(
            model.acknowledged > u64::from(kills),
            "processes are killed before they do anything"
        );
    }
}

/// Looks at the store as it was left, and sometimes takes it up as well.
fn check(dir: &Path, model: &mut Model, mapped: bool, choices: &mut Random, run: u32) {
    println!("run {run}");
    let clock = at(model.elapsed_ms);
    match builder(dir, &clock).open_read_only() {
        Ok(store) => model.check(&store),
        Err(Error::NotFound { .. }) => {}
        Err(error) => assert_eq!(model.acknowledged, 0, "{error}"),
    }
    if choices.once_in(3) {
        let store = open(builder(dir, &clock), mapped);
        model.check(&store);
        model.check_writable(&store, dir);
        if choices.once_in(2) {
            store.maintain().unwrap();
            model.check(&store);
            model.check_maintained(&store);
            store.scrub().unwrap();
            model.check(&store);
            model.check_erased(dir);
        }
        if choices.once_in(2) {
            model.elapsed_ms += minutes(30).as_millis() as u64;
            clock.advance(minutes(30));
            model.check_images(&images(&store), model.now_ms());
        }
        store.close().unwrap();
    }
}

#[test]
fn killed_by_position() {
    run("killed_by_position", false);
}

#[test]
fn killed_mapped() {
    run("killed_mapped", true);
}
