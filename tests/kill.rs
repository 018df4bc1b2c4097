//! A process that is killed at any disk call, over and over on one directory: what it had been told
//! was done is done, and nothing hidden comes back.
//!
//! The test runs itself as a child whose disk aborts the process at the n-th call. The child notes
//! in a file what it begins and what it was told; the parent keeps a model of it.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebbtide::disk::{Fault, FaultyDisk, RealDisk};
use ebbtide::{
    Durability, Fill, Keyspace, KeyspaceOptions, Log, LogOptions, ManualClock, Outcome, Retention,
    Row, RowId, Store, StoreBuilder, Timestamp,
};

use fixture::{Random, START, clock, minutes, open, quiet, seed, value_of};

/// Kills each test brings about.
const KILLS: u32 = 110;
const KEYS: u64 = 24;
const TAGS: u64 = 5;
const LONGEST: u64 = 700;
const HOUR_MS: u64 = 3_600_000;
const WINDOW_MS: u64 = 16 * HOUR_MS;
const DIR: &str = "EBBTIDE_KILL_DIR";

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.keyspace("images", options).unwrap()
}

fn access(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(4096)).unwrap()
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

fn ip(number: u64) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(198, 51, 100, number as u8).into()
}

fn at(elapsed_ms: u64) -> ManualClock {
    let clock = clock();
    clock.advance(Duration::from_millis(elapsed_ms));
    clock
}

// ---- the child ----

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

struct Child {
    notes: File,
    clock: ManualClock,
    choices: Random,
    version: u64,
    held: Option<(u64, Fill)>,
}

impl Child {
    fn note(&mut self, line: &str) {
        self.notes.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn step(&mut self, store: &Store, images: &Keyspace, access: &Log) {
        let key_number = self.choices.below(KEYS);
        match self.choices.below(100) {
            0..26 => {
                let version = self.next_version();
                self.note(&format!("> insert {key_number} {version}"));
                let value = value_of(key_number, version, LONGEST);
                images.insert(key(key_number), value).unwrap();
                self.note("< ok");
            }
            26..42 => self.fill(images, key_number),
            42..50 => {
                let tag_number = self.choices.below(TAGS);
                self.note(&format!("> begin {key_number} {tag_number}"));
                let fill = images.fill(key(key_number)).tag(tag(tag_number));
                self.held = Some((key_number, fill));
                self.note("< ok");
            }
            50..58 => self.commit_held(),
            58..64 => self.batch(images),
            64..72 => {
                self.note(&format!("> invalidate {key_number}"));
                images.invalidate(key(key_number)).unwrap();
                self.note("< ok");
            }
            72..77 => {
                let tag_number = self.choices.below(TAGS);
                self.note(&format!("> invalidate_tag {tag_number}"));
                images.invalidate_tag(tag(tag_number)).unwrap();
                self.note("< ok");
            }
            77 => {
                self.note("> invalidate_all");
                images.invalidate_all().unwrap();
                self.note("< ok");
            }
            78..82 => {
                self.note("> sync");
                store.sync().unwrap();
                self.note("< ok");
            }
            82..91 => self.row(store, access),
            91..96 => {
                let by_ms = (1 + self.choices.below(50)) * 60_000;
                self.note(&format!("> advance {by_ms}"));
                self.clock.advance(Duration::from_millis(by_ms));
                self.note("< ok");
            }
            _ => {
                self.note("> maintain");
                store.maintain().unwrap();
                self.note("< ok");
            }
        }
    }

    fn fill(&mut self, images: &Keyspace, key_number: u64) {
        let version = self.next_version();
        let tag_number = self.choices.below(TAGS);
        let expires_ms = match self.choices.once_in(4) {
            true => self.clock_ms() + (1 + self.choices.below(300)) * 60_000,
            false => u64::MAX,
        };
        self.note(&format!("> fill {key_number} {version} {tag_number} {expires_ms}"));
        let mut fill = images.fill(key(key_number)).tag(tag(tag_number)).metadata(b"meta");
        if expires_ms != u64::MAX {
            fill = fill.expires_at(Timestamp::from_millis(expires_ms));
        }
        if self.choices.once_in(4) {
            fill = fill.durability(Durability::Sync);
        }
        let outcome = fill.commit(value_of(key_number, version, LONGEST)).unwrap();
        assert_eq!(outcome, Outcome::Stored);
        self.note("< ok");
    }

    fn commit_held(&mut self) {
        let Some((key_number, fill)) = self.held.take() else { return };
        let version = self.next_version();
        self.note(&format!("> commit {key_number} {version}"));
        match fill.commit(value_of(key_number, version, LONGEST)).unwrap() {
            Outcome::Stored => self.note("< stored"),
            Outcome::Superseded => self.note("< superseded"),
        }
    }

    fn batch(&mut self, images: &Keyspace) {
        let count = 2 + self.choices.below(6);
        let items: Vec<(u64, u64)> =
            (0..count).map(|_| (self.choices.below(KEYS), self.next_version())).collect();
        let text: Vec<String> = items.iter().map(|(k, v)| format!("{k} {v}")).collect();
        self.note(&format!("> batch {}", text.join(" ")));
        images
            .insert_batch(items.iter().map(|(k, v)| (key(*k), value_of(*k, *v, LONGEST))))
            .unwrap();
        self.note("< ok");
    }

    fn row(&mut self, store: &Store, access: &Log) {
        let version = self.next_version();
        let visitor = self.choices.below(4);
        self.note(&format!("> row {version} {visitor}"));
        let pseudonym = access.pseudonym(ip(visitor), store.now()).unwrap();
        let row = match visitor {
            0 => Row::anonymous(),
            _ => Row::new(pseudonym).tag("a"),
        };
        let id = access.append(row.payload(value_of(0, version, 100))).unwrap();
        self.note(&format!("< row {id} {pseudonym}"));
    }

    fn clock_ms(&self) -> u64 {
        ebbtide::Clock::wall(&self.clock).as_millis()
    }
}

// ---- the model ----

#[derive(Debug, Clone, PartialEq)]
struct Record {
    version: u64,
    tag: Option<u64>,
    gone_ms: u64,
}

#[derive(Debug)]
struct HeldFill {
    key: u64,
    tag: u64,
    /// Something that must win over it came in between.
    covered: bool,
}

#[derive(Debug)]
struct RowKnown {
    id: RowId,
    pseudonym: Option<String>,
    gone_ms: u64,
}

#[derive(Debug, Default)]
struct Model {
    elapsed_ms: u64,
    /// What a key may hold: one state, and a second one if the last operation was cut off.
    keys: BTreeMap<u64, Vec<Option<Record>>>,
    held: Option<HeldFill>,
    rows: BTreeMap<u64, RowKnown>,
    /// Rows whose append was cut off.
    maybe_rows: BTreeSet<u64>,
    pseudonyms: BTreeMap<(u64, u64), String>,
    version: u64,
    acknowledged: u64,
}

impl Model {
    fn now_ms(&self) -> u64 {
        START.as_millis() + self.elapsed_ms
    }

    fn bucket_ms(&self) -> u64 {
        self.now_ms() / HOUR_MS * HOUR_MS
    }

    fn gone_ms(&self) -> u64 {
        self.bucket_ms() + WINDOW_MS
    }

    fn take_notes(&mut self, notes: &str) {
        // A line without its end was being written when the process died.
        let lines: Vec<&str> =
            notes.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        let mut next = 0;
        while let Some(line) = lines.get(next) {
            let intent: Vec<&str> = line.strip_prefix("> ").unwrap().split(' ').collect();
            let answer = lines.get(next + 1).map(|line| line.strip_prefix("< ").unwrap());
            self.apply(&intent, answer);
            next += 2;
        }
        self.held = None;
    }

    fn apply(&mut self, intent: &[&str], answer: Option<&str>) {
        let number = |at: usize| intent[at].parse::<u64>().unwrap();
        self.acknowledged += u64::from(answer.is_some());
        match intent[0] {
            "insert" => self.put(number(1), number(2), None, u64::MAX, answer),
            "fill" => self.put(number(1), number(2), Some(number(3)), number(4), answer),
            "begin" => {
                self.held = Some(HeldFill { key: number(1), tag: number(2), covered: false });
            }
            "commit" => {
                let held = self.held.take().unwrap();
                self.version = self.version.max(number(2));
                if answer == Some("stored") {
                    assert!(!held.covered, "a fill was stored over what came in between");
                }
                if answer != Some("superseded") {
                    self.put(held.key, number(2), Some(held.tag), u64::MAX, answer);
                }
            }
            "batch" => {
                for pair in intent[1..].chunks(2) {
                    let (key, version) = (pair[0].parse().unwrap(), pair[1].parse().unwrap());
                    self.put(key, version, None, u64::MAX, answer);
                }
            }
            "invalidate" => self.hide(answer, |key, _| key == number(1)),
            "invalidate_tag" => self.hide(answer, |_, tag| tag == Some(number(1))),
            "invalidate_all" => self.hide(answer, |_, _| true),
            "row" => self.row(number(1), number(2), answer),
            "advance" => self.elapsed_ms += number(1),
            "open" | "close" => self.held = None,
            "sync" | "maintain" => {}
            other => panic!("{other}"),
        }
    }

    fn put(&mut self, key: u64, version: u64, tag: Option<u64>, until: u64, answer: Option<&str>) {
        self.version = self.version.max(version);
        let record = Record { version, tag, gone_ms: self.gone_ms().min(until) };
        if let Some(held) = self.held.as_mut().filter(|held| held.key == key) {
            held.covered = true;
        }
        let states = self.keys.entry(key).or_insert_with(|| vec![None]);
        if answer.is_some() {
            states.clear();
        }
        states.push(Some(record));
    }

    fn hide(&mut self, answer: Option<&str>, applies: impl Fn(u64, Option<u64>) -> bool) {
        if let Some(held) = &mut self.held {
            held.covered |= applies(held.key, Some(held.tag));
        }
        for (key, states) in &mut self.keys {
            let hidden = |state: &Option<Record>| {
                state.as_ref().is_some_and(|record| applies(*key, record.tag))
            };
            if !states.iter().any(hidden) {
                continue;
            }
            if answer.is_some() {
                states.retain(|state| !hidden(state));
            }
            states.push(None);
        }
    }

    fn row(&mut self, version: u64, visitor: u64, answer: Option<&str>) {
        self.version = self.version.max(version);
        let Some(answer) = answer else {
            self.maybe_rows.insert(version);
            return;
        };
        let parts: Vec<&str> = answer.split(' ').collect();
        let pseudonym = parts[2].to_owned();
        let known = self.pseudonyms.entry((visitor, self.bucket_ms())).or_insert(pseudonym.clone());
        assert_eq!(*known, pseudonym, "one address, one bucket, two pseudonyms");
        let row = RowKnown {
            id: parts[1].parse().unwrap(),
            pseudonym: (visitor != 0).then_some(pseudonym),
            gone_ms: self.gone_ms(),
        };
        self.rows.insert(version, row);
    }

    /// Compares an open store with what may be there, and takes over what is.
    fn check(&mut self, store: &Store) {
        let report = store.recovery_report();
        assert!(report.corrupt_records.is_empty(), "{report:?}");
        assert!(report.unknown_versions.is_empty(), "{report:?}");
        let now_ms = self.now_ms();
        if let Ok(images) = store.existing_keyspace("images") {
            self.check_images(&images, now_ms);
        } else {
            let certain = |states: &Vec<Option<Record>>| states.iter().all(Option::is_some);
            assert!(!self.keys.values().any(certain), "the keyspace is gone");
        }
        match store.existing_log("access") {
            Ok(access) => self.check_rows(&access, now_ms),
            Err(_) => assert!(self.rows.is_empty(), "the log is gone"),
        }
    }

    fn check_images(&mut self, images: &Keyspace, now_ms: u64) {
        let listed: BTreeSet<String> = images
            .iter()
            .map(|entry| String::from_utf8(entry.unwrap().key().to_vec()).unwrap())
            .collect();
        for number in 0..KEYS {
            let states = self.keys.entry(number).or_insert_with(|| vec![None]);
            states.iter_mut().for_each(|state| {
                if state.as_ref().is_some_and(|record| record.gone_ms <= now_ms) {
                    *state = None;
                }
            });
            let value = images.get(key(number)).unwrap();
            assert_eq!(value.is_some(), listed.contains(&key(number)), "key {number}: iter");
            assert_eq!(value.is_some(), images.contains(key(number)).unwrap());
            let found = states.iter().find(|state| match (state, &value) {
                (None, None) => true,
                (Some(record), Some(value)) => {
                    value_of(number, record.version, LONGEST) == value.as_ref()
                }
                _ => false,
            });
            let Some(found) = found.cloned() else {
                let version = value.map(|value| value.as_ref()[..8].to_vec());
                panic!("key {number}: {states:?} expected, {version:?} found");
            };
            if let (Some(record), Some(value)) = (&found, &value) {
                assert_eq!(value.stat().gone_at().as_millis(), record.gone_ms);
                assert_eq!(value.stat().tag_count(), usize::from(record.tag.is_some()));
            }
            *states = vec![found];
        }
    }

    fn check_rows(&mut self, access: &Log, now_ms: u64) {
        self.rows.retain(|version, row| {
            let read = access.get(row.id).unwrap();
            if now_ms >= row.gone_ms {
                assert!(read.is_none(), "an expired row is read");
                return false;
            }
            let read = read.unwrap_or_else(|| panic!("row {version} is gone"));
            assert_eq!(read.payload().as_ref(), value_of(0, *version, 100));
            assert_eq!(read.subject().map(|subject| subject.to_string()), row.pseudonym);
            true
        });
        let mut seen = BTreeSet::new();
        let mut last = Timestamp::default();
        for row in access.scan(..).unwrap() {
            let row = row.unwrap();
            assert!(row.time() >= last, "out of order");
            last = row.time();
            let version = u64::from_le_bytes(row.payload()[..8].try_into().unwrap());
            assert_eq!(row.payload().as_ref(), value_of(0, version, 100));
            assert!(seen.insert(version), "row {version} twice");
            let expected = self.rows.contains_key(&version) || self.maybe_rows.contains(&version);
            assert!(expected, "row {version} out of nowhere");
        }
        let missing: Vec<_> = self.rows.keys().filter(|row| !seen.contains(row)).collect();
        assert!(missing.is_empty(), "not scanned: {missing:?}");
    }
}

// ---- the parent ----

fn run(name: &str, mapped: bool) {
    let mut choices = Random::new(seed(name));
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    let mut model = Model::default();
    let (mut kills, mut runs) = (0, 0);
    while kills < KILLS {
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
        for run in 0..100 {
            let _ = fs::remove_file(&notes);
            let mut child = child_of(dir.path(), &model, mapped, &mut choices, u64::MAX)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let until = Instant::now() + Duration::from_micros(choices.below(200_000));
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            let _ = child.kill();
            kills += u32::from(child.wait().unwrap().signal().is_some());
            model.take_notes(&fs::read_to_string(&notes).unwrap_or_default());
            check(dir.path(), &mut model, mapped, &mut choices, run);
        }
        println!("{kills} kills, {} operations", model.acknowledged);
    }
}

/// Looks at the store as it was left, and sometimes takes it up as well.
fn check(dir: &Path, model: &mut Model, mapped: bool, choices: &mut Random, run: u32) {
    println!("run {run}");
    let clock = at(model.elapsed_ms);
    match builder(dir, &clock).open_read_only() {
        Ok(store) => model.check(&store),
        Err(ebbtide::Error::NotFound { .. }) => {}
        Err(error) => assert_eq!(model.acknowledged, 0, "{error}"),
    }
    if choices.once_in(3) {
        let store = open(builder(dir, &clock), mapped);
        model.check(&store);
        let problems = store.verify().unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        if choices.once_in(2) {
            store.maintain().unwrap();
            model.check(&store);
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
