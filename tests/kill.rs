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
    Durability, Error, Fill, InvalidatedScope, Keyspace, KeyspaceOptions, LedgerKind, Log,
    LogOptions, Lookup, ManualClock, Outcome, Retention, RetentionVerdict, Row, RowId, Scope,
    Store, StoreBuilder, Timestamp,
};

use fixture::{Random, START, clock, minutes, open, quiet, seed, value_of};

/// Kills each test brings about.
const KILLS: u32 = 110;
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
            0..20 => {
                let version = self.next_version();
                self.note(&format!("> insert {key_number} {version}"));
                let value = value_of(key_number, version, LONGEST);
                let result = images.insert(key(key_number), value);
                self.note(stored(result, |()| "< stored"));
            }
            20..32 => self.fill(images, key_number),
            32..38 => self.stream(images, key_number),
            38..45 => {
                let set = self.tag_set();
                self.note(&format!("> begin {key_number} {set}"));
                let mut fill = with_tags(images.fill(key(key_number)), set);
                if self.choices.below(4) > 0 {
                    fill = fill.time_limit(Duration::from_secs(86_400));
                }
                self.held = Some((key_number, fill));
                self.note("< ok");
            }
            45..52 => self.commit_held(),
            52..57 => self.batch(images),
            57..77 => self.forget(store, images, access, key_number),
            77..80 => {
                self.note("> sync");
                store.sync().unwrap();
                self.note_head(store);
            }
            80..89 => self.row(store, access),
            89..93 => {
                let by_ms = (1 + self.choices.below(50)) * 60_000;
                self.note(&format!("> advance {by_ms}"));
                self.clock.advance(Duration::from_millis(by_ms));
                self.note("< ok");
            }
            93..96 => {
                self.note("> scrub");
                store.scrub().unwrap();
                self.note("< ok");
            }
            _ => {
                self.note("> maintain");
                store.maintain().unwrap();
                self.note_head(store);
            }
        }
    }

    fn tag_set(&mut self) -> u64 {
        self.choices.below(1 << TAGS) & self.choices.below(1 << TAGS)
    }

    /// Notes what the ledger's newest durable entry is.
    fn note_head(&mut self, store: &Store) {
        let head = store.ledger_head().unwrap();
        let hash: String = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        self.note(&format!("< head {} {hash}", head.number));
    }

    /// One of all the ways to hide something.
    fn forget(&mut self, store: &Store, images: &Keyspace, access: &Log, key_number: u64) {
        let tag_number = self.choices.below(TAGS);
        let set = self.tag_set().max(1);
        let forgotten = match self.choices.below(20) {
            0..6 => {
                self.note(&format!("> invalidate {key_number}"));
                images.invalidate(key(key_number))
            }
            6..8 => {
                self.note(&format!("> invalidate_tags {set}"));
                images.invalidate_tags(tags_of(set))
            }
            8..10 => {
                self.note(&format!("> invalidate_everywhere {}", 1 << tag_number));
                store.invalidate_tag(tag(tag_number), Scope::Everything)
            }
            10..12 => {
                self.note(&format!("> invalidate_rows {}", 1 << tag_number));
                access.invalidate_tag(tag(tag_number))
            }
            12..14 => {
                self.note(&format!("> soft {key_number}"));
                images.invalidate_soft(key(key_number))
            }
            14..16 => {
                self.note(&format!("> soft_tag {}", 1 << tag_number));
                images.invalidate_tag_soft(tag(tag_number))
            }
            16..19 => {
                let until = store.now() + minutes(1 + self.choices.below(200));
                self.note(&format!("> erase {key_number} {}", until.as_millis()));
                images.erase(key(key_number)).deny_until(until).commit()
            }
            _ => {
                self.note("> invalidate_all");
                images.invalidate_all()
            }
        };
        forgotten.unwrap();
        self.note("< ok");
    }

    /// A value longer than the memory allowed, so that it goes to a file of its own.
    fn stream(&mut self, images: &Keyspace, key_number: u64) {
        let (version, set) = (self.next_version(), self.tag_set());
        let is_aborted = self.choices.once_in(4);
        let verb = if is_aborted { "abort" } else { "fill" };
        self.note(&format!("> {verb} {key_number} {version} {set} {}", u64::MAX));
        let fill = with_tags(images.fill(key(key_number)), set).memory_limit_bytes(64);
        let mut writer = fill.into_writer().unwrap();
        for piece in value_of(key_number, version, LONGEST).chunks(200) {
            writer.write_all(piece).unwrap();
        }
        if is_aborted {
            writer.abort();
            self.note("< ok");
        } else {
            self.note(stored(writer.commit(), outcome));
        }
    }

    fn fill(&mut self, images: &Keyspace, key_number: u64) {
        let (version, set) = (self.next_version(), self.tag_set());
        let expires_ms = match self.choices.once_in(4) {
            true => self.clock_ms() + (1 + self.choices.below(300)) * 60_000,
            false => u64::MAX,
        };
        self.note(&format!("> fill {key_number} {version} {set} {expires_ms}"));
        let mut fill = with_tags(images.fill(key(key_number)), set).metadata(b"meta");
        if expires_ms != u64::MAX {
            fill = fill.expires_at(Timestamp::from_millis(expires_ms));
        }
        if self.choices.once_in(4) {
            fill = fill.durability(Durability::Sync);
        }
        let result = fill.commit(value_of(key_number, version, LONGEST));
        self.note(stored(result, outcome));
    }

    fn commit_held(&mut self) {
        let Some((key_number, fill)) = self.held.take() else { return };
        let version = self.next_version();
        self.note(&format!("> commit {key_number} {version}"));
        let result = fill.commit(value_of(key_number, version, LONGEST));
        self.note(stored(result, outcome));
    }

    fn batch(&mut self, images: &Keyspace) {
        let count = 2 + self.choices.below(6);
        let items: Vec<(u64, u64)> =
            (0..count).map(|_| (self.choices.below(KEYS), self.next_version())).collect();
        let text: Vec<String> = items.iter().map(|(k, v)| format!("{k} {v}")).collect();
        self.note(&format!("> batch {}", text.join(" ")));
        let pairs = items.iter().map(|(k, v)| (key(*k), value_of(*k, *v, LONGEST)));
        let result = images.insert_batch(pairs);
        self.note(stored(result, |()| "< stored"));
    }

    fn row(&mut self, store: &Store, access: &Log) {
        let version = self.next_version();
        let visitor = self.choices.below(4);
        let set = if visitor == 0 { 0 } else { self.tag_set() };
        self.note(&format!("> row {version} {visitor} {set}"));
        let pseudonym = access.pseudonym(ip(visitor), store.now()).unwrap();
        let row = match visitor {
            0 => Row::anonymous(),
            _ => Row::new(pseudonym),
        };
        let row = tags_of(set).iter().fold(row, |row, tag| row.tag(tag));
        let id = access.append(row.payload(value_of(0, version, LONGEST_ROW))).unwrap();
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
    tags: u64,
    gone_ms: u64,
    is_stale: bool,
}

#[derive(Debug)]
struct HeldFill {
    key: u64,
    tags: u64,
    /// Something that must win over it came in between.
    covered: bool,
}

#[derive(Debug)]
struct RowKnown {
    id: RowId,
    pseudonym: Option<String>,
    gone_ms: u64,
    tags: u64,
    /// An invalidation that covers it was cut off.
    maybe_gone: bool,
}

#[derive(Debug, Default)]
struct Denial {
    until_ms: u64,
    /// One that was cut off may have set this time.
    maybe_until_ms: u64,
}

#[derive(Debug, Default)]
struct Model {
    elapsed_ms: u64,
    /// What a key may hold: one state, and a second one if the last operation was cut off.
    keys: BTreeMap<u64, Vec<Option<Record>>>,
    denials: BTreeMap<u64, Denial>,
    held: Option<HeldFill>,
    rows: BTreeMap<u64, RowKnown>,
    /// Rows whose append was cut off, with their tags.
    maybe_rows: BTreeMap<u64, u64>,
    /// Rows that an invalidation has hidden.
    dead_rows: BTreeSet<u64>,
    pseudonyms: BTreeMap<(u64, u64), String>,
    /// Values of keys that may have been written and have no expiry of their own: version and key.
    written: BTreeMap<u64, u64>,
    /// Buckets that something was stored in, by their owner and start.
    buckets: BTreeSet<(&'static str, u64)>,
    /// Heads of the ledger, by their numbers.
    heads: BTreeMap<u64, String>,
    /// Acknowledged invalidations of keys, tags and everything.
    invalidations: [u64; 3],
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
            "insert" => self.put(number(1), number(2), 0, u64::MAX, answer),
            "fill" => {
                assert_ne!(answer, Some("superseded"));
                self.put(number(1), number(2), number(3), number(4), answer);
            }
            "abort" => {
                self.version = self.version.max(number(2));
                self.written.insert(number(2), number(1));
            }
            "begin" => {
                self.held = Some(HeldFill { key: number(1), tags: number(2), covered: false });
            }
            "commit" => self.commit(number(2), answer),
            "batch" => self.batch(&intent[1..], answer),
            "row" => self.row(number(1), number(2), number(3), answer),
            "advance" => self.elapsed_ms += number(1),
            "open" | "close" => self.held = None,
            "sync" | "maintain" | "scrub" => self.head(answer),
            _ => self.forget(intent[0], &number, answer),
        }
    }

    fn commit(&mut self, version: u64, answer: Option<&str>) {
        let held = self.held.take().unwrap();
        self.version = self.version.max(version);
        if answer == Some("stored") {
            assert!(!held.covered, "a fill was stored over what came in between");
        }
        if !matches!(answer, Some("superseded" | "late")) {
            self.put(held.key, version, held.tags, u64::MAX, answer);
        }
    }

    fn batch(&mut self, items: &[&str], answer: Option<&str>) {
        let items: Vec<(u64, u64)> = items
            .chunks(2)
            .map(|pair| (pair[0].parse().unwrap(), pair[1].parse().unwrap()))
            .collect();
        if answer == Some("denied") {
            self.version = self.version.max(items.iter().map(|item| item.1).max().unwrap());
            let now_ms = self.now_ms();
            let may_be = |item: &&(u64, u64)| self.may_be_denied(item.0, now_ms);
            let maybe: Vec<_> = items.iter().filter(may_be).collect();
            assert!(!maybe.is_empty(), "nothing of a batch was denied");
            return;
        }
        for (key, version) in items {
            self.put(key, version, 0, u64::MAX, answer);
        }
    }

    fn may_be_denied(&self, key: u64, now_ms: u64) -> bool {
        let denial = self.denials.get(&key);
        denial.is_some_and(|denial| denial.until_ms.max(denial.maybe_until_ms) > now_ms)
    }

    fn head(&mut self, answer: Option<&str>) {
        let Some(answer) = answer else { return };
        let parts: Vec<&str> = answer.split(' ').collect();
        if let ["head", number, hash] = parts[..]
            && number != "0"
        {
            self.heads.insert(number.parse().unwrap(), hash.to_owned());
        }
    }

    fn forget(&mut self, verb: &str, number: &dyn Fn(usize) -> u64, answer: Option<&str>) {
        let scope = match verb {
            "invalidate" | "soft" | "erase" => 0,
            "invalidate_all" => 2,
            _ => 1,
        };
        self.invalidations[scope] += u64::from(answer.is_some());
        let any = |set: u64| move |_: u64, tags: u64| tags & set != 0;
        match verb {
            "invalidate" => self.hide(answer, false, |key, _| key == number(1)),
            "soft" => self.hide(answer, true, |key, _| key == number(1)),
            "invalidate_tags" => self.hide(answer, false, any(number(1))),
            "soft_tag" => self.hide(answer, true, any(number(1))),
            "invalidate_all" => self.hide(answer, false, |_, _| true),
            "invalidate_rows" => self.hide_rows(answer, number(1)),
            "invalidate_everywhere" => {
                self.hide(answer, false, any(number(1)));
                self.hide_rows(answer, number(1));
            }
            "erase" => {
                self.hide(answer, false, |key, _| key == number(1));
                let denial = self.denials.entry(number(1)).or_default();
                let until_ms = match answer {
                    Some(_) => &mut denial.until_ms,
                    None => &mut denial.maybe_until_ms,
                };
                *until_ms = number(2).max(*until_ms);
            }
            other => panic!("{other}"),
        }
    }

    fn put(&mut self, key: u64, version: u64, tags: u64, until: u64, answer: Option<&str>) {
        self.version = self.version.max(version);
        let now_ms = self.now_ms();
        if answer == Some("denied") {
            assert!(self.may_be_denied(key, now_ms), "key {key} is not denied");
            let denial = self.denials.get_mut(&key).unwrap();
            denial.until_ms = denial.until_ms.max(denial.maybe_until_ms);
            return;
        }
        if let Some(denial) = self.denials.get_mut(&key).filter(|_| answer.is_some()) {
            assert!(denial.until_ms <= now_ms, "key {key} was denied and stored");
            *denial = Denial::default();
        }
        if until == u64::MAX {
            self.written.insert(version, key);
        }
        if answer.is_some() {
            self.buckets.insert(("images", self.bucket_ms()));
        }
        if answer.is_none() && self.denials.get(&key).is_some_and(|d| d.until_ms > now_ms) {
            return;
        }
        let gone_ms = self.gone_ms().min(until);
        let record = Record { version, tags, gone_ms, is_stale: false };
        if let Some(held) = self.held.as_mut().filter(|held| held.key == key) {
            held.covered = true;
        }
        let states = self.keys.entry(key).or_insert_with(|| vec![None]);
        if answer.is_some() {
            states.clear();
        }
        states.push(Some(record));
    }

    /// Hides, or lets be stale, what this applies to.
    fn hide(&mut self, answer: Option<&str>, softly: bool, applies: impl Fn(u64, u64) -> bool) {
        if let Some(held) = &mut self.held {
            held.covered |= applies(held.key, held.tags);
        }
        for (key, states) in &mut self.keys {
            let mut changed = Vec::new();
            for state in states.iter_mut() {
                let Some(record) = state.as_ref().filter(|record| applies(*key, record.tags))
                else {
                    continue;
                };
                let after = softly.then(|| Record { is_stale: true, ..record.clone() });
                match answer {
                    Some(_) => *state = after,
                    None => changed.push(after),
                }
            }
            states.extend(changed);
            states.dedup();
        }
    }

    fn hide_rows(&mut self, answer: Option<&str>, set: u64) {
        if answer.is_none() {
            let covered = self.rows.values_mut().filter(|row| row.tags & set != 0);
            covered.for_each(|row| row.maybe_gone = true);
            return;
        }
        let certain = self.rows.iter().filter(|(_, row)| row.tags & set != 0);
        self.dead_rows.extend(certain.map(|(number, _)| *number));
        let doubtful = self.maybe_rows.iter().filter(|(_, tags)| **tags & set != 0);
        self.dead_rows.extend(doubtful.map(|(number, _)| *number));
        self.rows.retain(|_, row| row.tags & set == 0);
        self.maybe_rows.retain(|_, tags| *tags & set == 0);
    }

    fn row(&mut self, version: u64, visitor: u64, tags: u64, answer: Option<&str>) {
        self.version = self.version.max(version);
        let Some(answer) = answer else {
            self.maybe_rows.insert(version, tags);
            return;
        };
        self.buckets.insert(("access", self.bucket_ms()));
        let parts: Vec<&str> = answer.split(' ').collect();
        let pseudonym = parts[2].to_owned();
        let known = self.pseudonyms.entry((visitor, self.bucket_ms())).or_insert(pseudonym.clone());
        assert_eq!(*known, pseudonym, "one address, one bucket, two pseudonyms");
        let row = RowKnown {
            id: parts[1].parse().unwrap(),
            pseudonym: (visitor != 0).then_some(pseudonym),
            gone_ms: self.gone_ms(),
            tags,
            maybe_gone: false,
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
            let (value, is_stale) = match images.lookup(key(number)).unwrap() {
                Lookup::Fresh(value) => (Some(value), false),
                Lookup::Stale(value) => (Some(value), true),
                Lookup::Absent => (None, false),
            };
            let fresh = images.get(key(number)).unwrap();
            assert_eq!(fresh.is_some(), value.is_some() && !is_stale, "key {number}: stale");
            assert_eq!(fresh.is_some(), listed.contains(&key(number)), "key {number}: iter");
            assert_eq!(fresh.is_some(), images.contains(key(number)).unwrap());
            let found = states.iter().find(|state| match (state, &value) {
                (None, None) => true,
                (Some(record), Some(value)) => {
                    record.is_stale == is_stale
                        && value_of(number, record.version, LONGEST) == value.as_ref()
                }
                _ => false,
            });
            let Some(found) = found.cloned() else {
                let version = value.map(|value| value.as_ref()[..8].to_vec());
                panic!("key {number}: {states:?} expected, {version:?} found, stale {is_stale}");
            };
            if let (Some(record), Some(value)) = (&found, &value) {
                assert_eq!(value.stat().gone_at().as_millis(), record.gone_ms);
                assert_eq!(value.stat().tag_count(), record.tags.count_ones() as usize);
            }
            *states = vec![found];
        }
    }

    fn check_rows(&mut self, access: &Log, now_ms: u64) {
        let dead_rows = &mut self.dead_rows;
        self.rows.retain(|version, row| {
            let read = access.get(row.id).unwrap();
            if now_ms >= row.gone_ms {
                assert!(read.is_none(), "an expired row is read");
                return false;
            }
            if row.maybe_gone && read.is_none() {
                dead_rows.insert(*version);
                return false;
            }
            row.maybe_gone = false;
            let read = read.unwrap_or_else(|| panic!("row {version} is gone"));
            assert_eq!(read.payload().as_ref(), value_of(0, *version, LONGEST_ROW));
            assert_eq!(read.tag_count(), row.tags.count_ones() as usize);
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
            assert_eq!(row.payload().as_ref(), value_of(0, version, LONGEST_ROW));
            assert!(seen.insert(version), "row {version} twice");
            let expected =
                self.rows.contains_key(&version) || self.maybe_rows.contains_key(&version);
            assert!(expected, "row {version} out of nowhere");
        }
        let missing: Vec<_> = self.rows.keys().filter(|row| !seen.contains(row)).collect();
        assert!(missing.is_empty(), "not scanned: {missing:?}");
    }

    /// What a store that was opened for writing must be, beside what can be read in it.
    fn check_writable(&mut self, store: &Store, dir: &Path) {
        let problems = store.verify().unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        self.check_ledger(store, dir);
        let files = files(&dir.join("data"));
        let is_part =
            |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "part");
        assert_eq!(files.iter().find(is_part), None);
        let now_ms = self.now_ms();
        self.denials.retain(|_, denial| denial.until_ms.max(denial.maybe_until_ms) > now_ms);
        let Ok(images) = store.existing_keyspace("images") else { return };
        for (number, denial) in self.denials.iter().filter(|(_, d)| d.until_ms > now_ms) {
            match images.insert(key(*number), "denied") {
                Err(Error::Denied { until }) => assert!(until.as_millis() >= denial.until_ms),
                other => panic!("key {number} is denied: {other:?}"),
            }
        }
    }

    /// The chain is whole and goes on from every head that was seen, and each bucket on the disk is
    /// open in it, and none else.
    fn check_ledger(&self, store: &Store, dir: &Path) {
        let report = store.verify_ledger().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let proof = store.prove_retention(..).unwrap();
        assert_ne!(proof.verdict, RetentionVerdict::Broken);
        let (mut hashes, mut open) = (BTreeMap::new(), BTreeSet::new());
        for entry in store.ledger().unwrap() {
            let hash: String = entry.hash.iter().map(|byte| format!("{byte:02x}")).collect();
            hashes.insert(entry.number, hash);
            let bucket = || {
                let start = entry.bucket_start.unwrap().to_string().replace(['-', ':', '.'], "");
                (entry.owner.clone().unwrap_or_default(), start)
            };
            match entry.kind {
                LedgerKind::BucketBorn { .. } => assert!(open.insert(bucket()), "born: {entry}"),
                LedgerKind::BucketDropped(_) => assert!(open.remove(&bucket()), "dropped: {entry}"),
                _ => {}
            }
        }
        for (number, hash) in &self.heads {
            assert_eq!(hashes.get(number), Some(hash), "entry {number}");
        }
        let mut dirs = BTreeSet::new();
        for owner in ["keyspaces/images", "logs/access"] {
            let entries = fs::read_dir(dir.join("data").join(owner)).into_iter().flatten();
            let entries = entries.map(Result::unwrap).filter(|entry| entry.path().is_dir());
            let name = owner.split('/').next_back().unwrap().to_owned();
            dirs.extend(entries.map(|e| (name.clone(), e.file_name().into_string().unwrap())));
        }
        // Of a bucket whose making was cut off there may be no directory.
        assert_eq!(open, dirs);
    }

    /// After all upkeep: what was due has left and stands in the ledger, and every invalidation is
    /// counted.
    fn check_maintained(&mut self, store: &Store) {
        let now_ms = self.now_ms();
        let (mut dropped, mut counts) = (BTreeSet::new(), [0; 3]);
        for entry in store.ledger().unwrap() {
            match entry.kind {
                LedgerKind::BucketDropped(_) => {
                    let start_ms = entry.bucket_start.unwrap().as_millis();
                    dropped.insert((entry.owner.unwrap_or_default(), start_ms));
                }
                LedgerKind::Invalidated { scope, count } => {
                    let scope = match scope {
                        InvalidatedScope::Key => 0,
                        InvalidatedScope::Tag => 1,
                        _ => 2,
                    };
                    counts[scope] += count;
                }
                _ => {}
            }
        }
        for (owner, start_ms) in &self.buckets {
            let bucket = ((*owner).to_owned(), *start_ms);
            let is_due = start_ms + WINDOW_MS <= now_ms;
            assert!(!is_due || dropped.contains(&bucket), "{bucket:?} has no entry");
        }
        for (scope, (counted, acknowledged)) in counts.iter().zip(self.invalidations).enumerate() {
            assert!(*counted >= acknowledged, "scope {scope}: {counted} of {acknowledged}");
        }
    }

    /// After a scrub, nothing of what is dead is in any file. The model knows what every key holds.
    fn check_erased(&self, dir: &Path) {
        let live: BTreeSet<u64> =
            self.keys.values().flatten().flatten().map(|record| record.version).collect();
        let values = self.written.iter().filter(|(version, _)| !live.contains(version));
        let values = values.map(|(version, key)| value_of(*key, *version, LONGEST));
        let rows = self.dead_rows.iter().map(|version| value_of(0, *version, LONGEST_ROW));
        let mut needles = BTreeMap::new();
        for value in values.chain(rows).filter(|value| value.len() >= NEEDLE.end) {
            let version = u64::from_le_bytes(value[..8].try_into().unwrap());
            needles.insert(value[NEEDLE].to_vec(), version);
        }
        let firsts: std::collections::HashSet<[u8; 4]> =
            needles.keys().map(|needle| needle[..4].try_into().unwrap()).collect();
        for path in files(&dir.join("data")) {
            let bytes = fs::read(&path).unwrap();
            for window in bytes.windows(NEEDLE.len()) {
                let first: [u8; 4] = window[..4].try_into().unwrap();
                if firsts.contains(&first)
                    && let Some(version) = needles.get(window)
                {
                    panic!("version {version} is dead and in {}", path.display());
                }
            }
        }
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
