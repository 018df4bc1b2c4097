//! Stores written by format version 1, kept as files: what was in them is still read, byte for byte.
//!
//! `tests/golden/v1/closed` was closed in order, `tests/golden/v1/killed` was not. They are written
//! by [`write_the_golden_stores`], which gives the same bytes every time:
//! `cargo test --test golden -- --ignored`. After a change of the format they stay as they are, and
//! stores of the new version go next to them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    KeyspaceOptions, LogOptions, ManualClock, Outcome, Retention, Row, RowId, Store, StoreBuilder,
    Timestamp,
};

/// When the first record was written.
const START: Timestamp = Timestamp::from_millis(1_795_267_800_000);
const HOUR: Duration = Duration::from_secs(3600);
/// The root of the store on the disk in memory.
const ROOT: &str = "/data";
/// The pseudonym of 198.18.0.7 in the first bucket.
const VISITOR: &str = "7f80b669fae3c29aae851d6cf1f03089";
/// The pseudonym of `2001:db8::7` in the second.
const LATER_VISITOR: &str = "da03a08204926fc0e2e5ac0eb9e07d87";

/// How a golden store was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Closed,
    Killed,
}

/// How a golden store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    ReadOnly,
    Positional,
    Mapped,
}

/// A record as it must be read. Its tags are kept as hashes, so only their number is.
struct Expected {
    key: &'static str,
    value: Vec<u8>,
    metadata: &'static str,
    tags: usize,
    sequence: u64,
    written_at: Timestamp,
    gone_at: Timestamp,
}

/// A row as it must be read.
struct ExpectedRow {
    id: &'static str,
    payload: String,
    time: Timestamp,
    subject: Option<&'static str>,
    tags: usize,
}

fn long_value() -> Vec<u8> {
    (0..3000_u32).map(|at| (at * 7 % 251) as u8).collect()
}

fn minutes(count: u32) -> Duration {
    count * Duration::from_secs(60)
}

/// The start of the bucket of an hour that holds [`START`] plus this.
fn bucket(after: Duration) -> Timestamp {
    let millis = (START + after).as_millis();
    Timestamp::from_millis(millis / 3_600_000 * 3_600_000)
}

fn builder(path: &Path, clock: &ManualClock) -> StoreBuilder {
    Store::builder(path).clock(clock.clone()).background(false).tombstone_log_bytes(4096)
}

/// Everything that the format knows, written in a fixed order.
fn write(store: &Store, clock: &ManualClock) {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    let images = store.keyspace("images", options).unwrap();
    let options = LogOptions::new(Retention::hours(16)).segment_bytes(4096);
    let access = store.log("access", options).unwrap();
    store.keyspace("emptied", KeyspaceOptions::new(Retention::hours(16))).unwrap();

    images.insert("plain", b"first").unwrap();
    images.insert("plain", b"second").unwrap();
    images.insert("invalidated", b"gone").unwrap();
    let stored = |outcome| assert_eq!(outcome, Outcome::Stored);
    stored(images.fill("tagged").tag("kept").tag("dropped").commit(b"hidden by its tag").unwrap());
    stored(
        images
            .fill("full")
            .tag("kept")
            .tag("cat.jpg")
            .metadata("image/jpeg")
            .expires_at(START + 5 * HOUR)
            .commit(b"with all there is")
            .unwrap(),
    );
    stored(images.fill("past").expires_at(START + minutes(1)).commit(b"expired").unwrap());
    images.insert("empty", b"").unwrap();
    images.insert_batch([("batch 1", "one"), ("batch 2", "two"), ("batch 3", "three")]).unwrap();
    images.invalidate("invalidated").unwrap();
    images.invalidate_tag("dropped").unwrap();
    let emptied = store.existing_keyspace("emptied").unwrap();
    emptied.insert("anything", b"hidden with everything").unwrap();
    emptied.invalidate_all().unwrap();
    emptied.insert("after", b"written after it").unwrap();

    let visitor = access.pseudonym("198.18.0.7".parse().unwrap(), store.now()).unwrap();
    access.append(Row::new(visitor).tag("cat.jpg").payload("GET /img/cat.jpg")).unwrap();
    access.append(Row::anonymous().payload("start")).unwrap();
    let mut appender = access.appender();
    for at in 0..3 {
        let row = Row::anonymous().at(START - minutes(at)).payload(format!("block row {at}"));
        appender.append(row).unwrap();
    }
    appender.flush().unwrap();
    store.sync().unwrap();

    clock.advance(HOUR);
    images.insert("long", long_value()).unwrap();
    images.insert("next segment", long_value()).unwrap();
    images.invalidate("batch 2").unwrap();
    let visitor = access.pseudonym("2001:db8::7".parse().unwrap(), store.now()).unwrap();
    access.append(Row::new(visitor).payload("GET /")).unwrap();
}

/// A golden store on a disk in memory, with its files.
fn made(left: Left) -> BTreeMap<PathBuf, Vec<u8>> {
    let disk = MemoryDisk::new(20_261_121);
    let clock = ManualClock::new(START);
    let store = builder(Path::new(ROOT), &clock).disk(disk.clone()).open().unwrap();
    write(&store, &clock);
    let disk = match left {
        Left::Closed => {
            store.close().unwrap();
            disk
        }
        Left::Killed => disk.kill(),
    };
    let files = disk.all_files().into_iter().filter(|path| !path.ends_with("LOCK"));
    files
        .map(|path| {
            let bytes = disk.read_file(&path).unwrap();
            (path.strip_prefix(ROOT).unwrap().to_owned(), bytes)
        })
        .collect()
}

fn golden_dir(left: Left) -> PathBuf {
    let name = match left {
        Left::Closed => "closed",
        Left::Killed => "killed",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

/// The files of a directory and all below it.
fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                files.insert(path.strip_prefix(dir).unwrap().to_owned(), bytes);
            }
        }
    }
    files
}

fn put_files(dir: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Opens a copy of a golden store an hour after it was left.
#[allow(unsafe_code)]
fn open(dir: &Path, mode: Mode) -> (Store, ManualClock) {
    // Version control keeps no empty directories; the store makes those that it misses, but a
    // reader makes none.
    for name in ["trash", "logs", "keyspaces", "tombstones"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let clock = ManualClock::new(START);
    clock.advance(2 * HOUR);
    let builder = builder(dir, &clock);
    let store = match mode {
        Mode::ReadOnly => builder.open_read_only(),
        Mode::Positional => builder.open(),
        // SAFETY: the directory belongs to this test alone.
        Mode::Mapped => unsafe { builder.open_mapped() },
    };
    (store.unwrap(), clock)
}

/// A sequence number of the first generation.
fn sequence(counter: u64) -> u64 {
    (1 << 40) + counter
}

fn expected() -> Vec<Expected> {
    let plain = |key, value: &[u8], counter, after| Expected {
        key,
        value: value.to_vec(),
        metadata: "",
        tags: 0,
        sequence: sequence(counter),
        written_at: START + after,
        gone_at: bucket(after) + 16 * HOUR,
    };
    vec![
        plain("plain", b"second", 1, Duration::ZERO),
        Expected {
            metadata: "image/jpeg",
            tags: 2,
            gone_at: START + 5 * HOUR,
            ..plain("full", b"with all there is", 4, Duration::ZERO)
        },
        plain("empty", b"", 6, Duration::ZERO),
        plain("batch 1", b"one", 7, Duration::ZERO),
        plain("batch 3", b"three", 9, Duration::ZERO),
        plain("long", &long_value(), 18, HOUR),
        plain("next segment", &long_value(), 19, HOUR),
    ]
}

fn expected_rows() -> Vec<ExpectedRow> {
    let row = |id, payload: &str, time, subject, tags| ExpectedRow {
        id,
        payload: payload.to_owned(),
        time,
        subject,
        tags,
    };
    vec![
        row("0000000100000003-000000a7-2", "block row 2", START - minutes(2), None, 0),
        row("0000000100000003-000000a7-1", "block row 1", START - minutes(1), None, 0),
        row("0000000100000003-00000080-0", "GET /img/cat.jpg", START, Some(VISITOR), 1),
        row("0000000100000003-00000095-0", "start", START, None, 0),
        row("0000000100000003-000000a7-0", "block row 0", START, None, 0),
        row("0000000100000006-00000080-0", "GET /", START + HOUR, Some(LATER_VISITOR), 0),
    ]
}

fn check_keyspaces(store: &Store) {
    assert_eq!(store.keyspaces(), ["emptied", "images"]);
    assert_eq!(store.logs(), ["access"]);
    let images = store.existing_keyspace("images").unwrap();
    for expected in expected() {
        let value = images.get(expected.key).unwrap().expect(expected.key);
        let stat = value.stat();
        assert_eq!(value.as_ref(), expected.value, "{}", expected.key);
        assert_eq!(value.metadata(), expected.metadata.as_bytes(), "{}", expected.key);
        assert_eq!(stat.tag_count(), expected.tags, "{}", expected.key);
        assert_eq!(stat.sequence(), expected.sequence, "{}", expected.key);
        assert_eq!(stat.written_at(), expected.written_at, "{}", expected.key);
        assert_eq!(stat.gone_at(), expected.gone_at, "{}", expected.key);
    }
    assert_eq!(images.iter().count(), expected().len());
    for key in ["invalidated", "tagged", "past", "batch 2"] {
        assert!(images.get(key).unwrap().is_none(), "{key}");
    }
    let stats = store.stats();
    let images_stats = stats.keyspaces.iter().find(|stats| stats.name == "images").unwrap();
    assert_eq!((images_stats.key_tombstones, images_stats.tag_tombstones), (2, 1));
    let emptied = store.existing_keyspace("emptied").unwrap();
    assert!(emptied.get("anything").unwrap().is_none());
    assert_eq!(emptied.get("after").unwrap().unwrap().as_ref(), b"written after it");
}

fn check_rows(store: &Store) {
    let access = store.existing_log("access").unwrap();
    let rows: Vec<_> = access.scan(..).unwrap().map(Result::unwrap).collect();
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let subject = row.subject().map(|subject| subject.to_string());
            let payload = String::from_utf8(row.payload().to_vec()).unwrap();
            (row.id().to_string(), payload, row.time(), subject, row.tag_count())
        })
        .collect();
    let expected: Vec<_> = expected_rows()
        .into_iter()
        .map(|row| {
            let subject = row.subject.map(str::to_owned);
            (row.id.to_owned(), row.payload, row.time, subject, row.tags)
        })
        .collect();
    assert_eq!(found, expected);
    for row in &rows {
        let id: RowId = row.id().to_string().parse().unwrap();
        assert_eq!(access.get(id).unwrap().unwrap().payload(), row.payload());
        assert_eq!(row.gone_at(), bucket(row.time().since(START)) + 16 * HOUR);
    }
}

/// The floors survive what comes after: fills that are older than an invalidation stay hidden, and
/// what is written now is seen.
fn check_that_it_goes_on(store: &Store, clock: &ManualClock) {
    let images = store.existing_keyspace("images").unwrap();
    images.insert("plain", b"third").unwrap();
    assert_eq!(images.get("plain").unwrap().unwrap().as_ref(), b"third");
    images.invalidate_tag("kept").unwrap();
    assert!(images.get("full").unwrap().is_none());
    let access = store.existing_log("access").unwrap();
    let again = access.pseudonym("198.18.0.7".parse().unwrap(), START).unwrap();
    assert_eq!(again.to_string(), VISITOR, "the key of the bucket is still there");
    assert!(store.verify().unwrap().problems.is_empty(), "{:?}", store.verify());
    clock.advance(16 * HOUR);
    assert!(images.get("long").unwrap().is_none(), "its deadline has passed");
    store.maintain().unwrap();
    assert_eq!(access.scan(..).unwrap().count(), 0);
    store.close().unwrap();
}

fn check(left: Left, mode: Mode) {
    let dir = tempfile::tempdir().unwrap();
    let files = files_of(&golden_dir(left));
    put_files(dir.path(), &files);
    let (store, clock) = open(dir.path(), mode);
    let report = store.recovery_report();
    assert!(report.is_clean(), "{report:?}");
    check_keyspaces(&store);
    check_rows(&store);
    if mode == Mode::ReadOnly {
        assert!(store.verify().unwrap().problems.is_empty(), "{:?}", store.verify());
        store.close().unwrap();
        assert_eq!(files_of(dir.path()), files, "a reader changes nothing");
    } else {
        check_that_it_goes_on(&store, &clock);
    }
}

#[test]
fn a_store_that_was_closed_is_read_in_every_mode() {
    for mode in [Mode::ReadOnly, Mode::Positional, Mode::Mapped] {
        check(Left::Closed, mode);
    }
}

#[test]
fn a_store_that_was_killed_is_read_in_every_mode() {
    for mode in [Mode::ReadOnly, Mode::Positional, Mode::Mapped] {
        check(Left::Killed, mode);
    }
}

#[test]
#[ignore = "writes the golden stores anew"]
fn write_the_golden_stores() {
    for left in [Left::Closed, Left::Killed] {
        let dir = golden_dir(left);
        let _ = fs::remove_dir_all(&dir);
        put_files(&dir, &made(left));
    }
}
