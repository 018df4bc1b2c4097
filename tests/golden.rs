//! Stores kept as files. What was in those of format version 2 is still read, byte for byte; those of
//! version 1 are refused, and not changed.
//!
//! `tests/golden/v2/closed` was closed in order, `tests/golden/v2/killed` was not. They are written
//! by [`write_the_golden_stores`], which gives the same bytes every time:
//! `cargo test --test golden -- --ignored`. After a change of the format they stay as they are, and
//! stores of the new version go next to them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Error, KeyspaceOptions, LogOptions, Lookup, ManualClock, Outcome, Reason, Result, Retention,
    RetentionVerdict, Row, RowId, Scope, Store, StoreBuilder, Timestamp,
};

/// When the first record was written.
const START: Timestamp = Timestamp::from_millis(1_795_267_800_000);
const HOUR: Duration = Duration::from_secs(3600);
/// The root of the store on the disk in memory.
const ROOT: &str = "/data";
/// The pseudonym of 198.18.0.7 in the first bucket.
const VISITOR: &str = "7f80b669fae3c29aae851d6cf1f03089";
/// The pseudonym of `2001:db8::7` in the second.
const LATER_VISITOR: &str = "0a543cddeb1e7a04207ac0b9817f3c6d";

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
    let builder = Store::builder(path).clock(clock.clone()).background(false);
    builder.tombstone_log_bytes(4096).ledger_file_bytes(4096)
}

/// Everything that the format knows, written in a fixed order.
fn write(store: &Store, clock: &ManualClock) {
    write_plainly(store);
    invalidate_in_all_ways(store);
    leave_early(store);
    store.sync().unwrap();
    clock.advance(HOUR);
    // Seals and scrubs what was written, and drops the buckets that are due.
    store.maintain().unwrap();
    write_later(store);
    // Erases in the segments that are written to.
    store.scrub().unwrap();
    clock.advance(minutes(2));
    store.maintain().unwrap();
    write_last(store);
}

fn write_plainly(store: &Store) {
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
    access.append(Row::anonymous().tag("banned").payload("a row with a banned tag")).unwrap();
    let mut appender = access.appender();
    for at in 0..5 {
        let row = Row::anonymous().at(START - minutes(at)).payload(format!("block row {at}"));
        appender.append(if at == 3 { row.tag("banned").tag("kept") } else { row }).unwrap();
    }
    appender.flush().unwrap();
}

/// Softly, with a denial, and in all of a store.
fn invalidate_in_all_ways(store: &Store) {
    let images = store.existing_keyspace("images").unwrap();
    let emptied = store.existing_keyspace("emptied").unwrap();
    for (key, tag) in [
        ("soft", "fresh"),
        ("softly tagged", "aging"),
        ("everywhere", "everywhere"),
        ("erased", "kept"),
        ("banned", "banned"),
    ] {
        let _ = images.fill(key).tag("listed").tag(tag).commit(format!("value of {key}")).unwrap();
    }
    let _ = emptied.fill("elsewhere").tag("everywhere").commit(b"hidden there too").unwrap();
    images.invalidate_soft("soft").unwrap();
    images.invalidate_tag_soft("aging").unwrap();
    images.erase("erased").deny_until(START + 10 * HOUR).commit().unwrap();
    store.invalidate_tags(["everywhere", "b", "c", "d", "e"], Scope::Keyspaces).unwrap();
    let banned = store.erase_tag("banned", Scope::Everything);
    banned.deny_until(START + 12 * HOUR).commit().unwrap();
}

/// In buckets that are dropped an hour later.
fn leave_early(store: &Store) {
    let quarter = Retention::window(minutes(16));
    let brief = store.keyspace("brief", KeyspaceOptions::new(quarter).segment_bytes(4096)).unwrap();
    brief.insert("gone soon", b"dropped with its bucket").unwrap();
    let log = store.log("brief", LogOptions::new(quarter).segment_bytes(4096)).unwrap();
    let visitor = log.pseudonym("198.18.0.7".parse().unwrap(), store.now()).unwrap();
    log.append(Row::new(visitor).payload("dropped with its key")).unwrap();
}

fn write_later(store: &Store) {
    let images = store.existing_keyspace("images").unwrap();
    images.insert("long", long_value()).unwrap();
    let mut writer = images.fill("streamed").tag("listed").memory_limit_bytes(0);
    writer = writer.metadata("text/plain");
    let mut writer = writer.into_writer().unwrap();
    for part in long_value().chunks(700) {
        writer.write_all(part).unwrap();
    }
    assert_eq!(writer.commit().unwrap(), Outcome::Stored);
    images.insert("passing", b"scrubbed where it was written").unwrap();
    images.insert("staying", b"beside it").unwrap();
    images.invalidate("passing").unwrap();
    images.invalidate("batch 2").unwrap();
    let access = store.existing_log("access").unwrap();
    let visitor = access.pseudonym("2001:db8::7".parse().unwrap(), store.now()).unwrap();
    access.append(Row::new(visitor).tag("forgotten").payload("scrubbed as well")).unwrap();
    access.append(Row::new(visitor).payload("GET /")).unwrap();
    access.erase_tag("forgotten").unwrap();
}

/// What a store that is killed has not made durable.
fn write_last(store: &Store) {
    let images = store.existing_keyspace("images").unwrap();
    let _ = images.fill("hidden last").tag("listed").tag("late").commit(b"not scrubbed").unwrap();
    let _ = images.fill("last").tag("listed").commit(b"the last one").unwrap();
    images.invalidate_tag("late").unwrap();
    store.existing_log("access").unwrap().append(Row::anonymous().payload("the end")).unwrap();
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

fn golden_dir(version: &str, left: Left) -> PathBuf {
    let name = match left {
        Left::Closed => "closed",
        Left::Killed => "killed",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version).join(name)
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
fn open(dir: &Path, mode: Mode) -> (Store, ManualClock) {
    // Version control keeps no empty directories; the store makes those that it misses, but a
    // reader makes none.
    for name in ["trash", "logs", "keyspaces", "tombstones", "ledger"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let (opened, clock) = try_open(dir, mode);
    (opened.unwrap(), clock)
}

#[allow(unsafe_code)]
fn try_open(dir: &Path, mode: Mode) -> (Result<Store>, ManualClock) {
    let clock = ManualClock::new(START);
    clock.advance(2 * HOUR);
    let builder = builder(dir, &clock);
    let store = match mode {
        Mode::ReadOnly => builder.open_read_only(),
        Mode::Positional => builder.open(),
        // SAFETY: the directory belongs to this test alone.
        Mode::Mapped => unsafe { builder.open_mapped() },
    };
    (store, clock)
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
        plain("long", &long_value(), 32, HOUR),
        Expected { metadata: "text/plain", tags: 1, ..plain("streamed", &long_value(), 33, HOUR) },
        plain("staying", b"beside it", 35, HOUR),
        Expected { tags: 1, ..plain("last", b"the last one", 42, HOUR + minutes(2)) },
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
        row("0000000100000006-000000bd-4", "block row 4", START - minutes(4), None, 0),
        row("0000000100000006-000000bd-2", "block row 2", START - minutes(2), None, 0),
        row("0000000100000006-000000bd-1", "block row 1", START - minutes(1), None, 0),
        row("0000000100000006-00000080-0", "GET /img/cat.jpg", START, Some(VISITOR), 1),
        row("0000000100000006-00000095-0", "start", START, None, 0),
        row("0000000100000006-000000bd-0", "block row 0", START, None, 0),
        row("0000000100000017-00000095-0", "GET /", START + HOUR, Some(LATER_VISITOR), 0),
        row("0000000100000017-000000a7-0", "the end", START + HOUR + minutes(2), None, 0),
    ]
}

/// What is said of keys, and whether a stale value is given.
fn reasons() -> Vec<(&'static str, Reason)> {
    vec![
        ("plain", Reason::Visible),
        ("streamed", Reason::Visible),
        ("last", Reason::Visible),
        ("invalidated", Reason::Key),
        ("passing", Reason::Key),
        ("tagged", Reason::Erased),
        ("everywhere", Reason::Erased),
        ("banned", Reason::Erased),
        ("hidden last", Reason::Tag { index: 1 }),
        ("past", Reason::Expiry),
        ("soft", Reason::StaleKey),
        ("softly tagged", Reason::StaleTag { index: 1 }),
        ("erased", Reason::Denied),
        ("never", Reason::Absent),
    ]
}

fn check_reasons(store: &Store) {
    let images = store.existing_keyspace("images").unwrap();
    for (key, reason) in reasons() {
        assert_eq!(images.explain(key).unwrap().reason, reason, "{key}");
        match images.lookup(key).unwrap() {
            Lookup::Fresh(_) => assert_eq!(reason, Reason::Visible, "{key}"),
            Lookup::Stale(value) => {
                assert!(matches!(reason, Reason::StaleKey | Reason::StaleTag { .. }), "{key}");
                assert_eq!(value.as_ref(), format!("value of {key}").as_bytes());
            }
            Lookup::Absent => assert_ne!(reason, Reason::Visible, "{key}"),
        }
    }
    let erased = images.explain("erased").unwrap();
    assert_eq!(erased.denied_until, Some(START + 10 * HOUR));
    assert_eq!(erased.floor_at, Some(START));
    let listed = |tag| -> Vec<String> {
        let entries = images.list_tag(tag).unwrap();
        entries.iter().map(|entry| String::from_utf8(entry.key().to_vec()).unwrap()).collect()
    };
    assert_eq!(listed("listed"), ["streamed", "last"]);
    assert_eq!(listed("kept"), ["full"]);
    assert_eq!(listed("banned"), [""; 0]);
}

/// One line for each entry.
const LEDGER: &[&str] = &[
    "1 2026-11-21T13:30:00.000Z the ledger begins",
    "2 2026-11-21T13:30:00.000Z images keyspace made",
    "3 2026-11-21T13:30:00.000Z access log made",
    "4 2026-11-21T13:30:00.000Z emptied keyspace made",
    "5 2026-11-21T13:30:00.000Z images 2026-11-21T13:00:00.000Z bucket born, due 2026-11-22T05:00:00.000Z",
    "6 2026-11-21T13:30:00.000Z emptied 2026-11-21T13:00:00.000Z bucket born, due 2026-11-22T05:00:00.000Z",
    "7 2026-11-21T13:30:00.000Z access 2026-11-21T13:00:00.000Z bucket born, due 2026-11-22T05:00:00.000Z",
    "8 2026-11-21T13:30:00.000Z brief keyspace made",
    "9 2026-11-21T13:30:00.000Z brief 2026-11-21T13:30:00.000Z bucket born, due 2026-11-21T13:46:00.000Z",
    "10 2026-11-21T13:30:00.000Z brief log made",
    "11 2026-11-21T13:30:00.000Z brief 2026-11-21T13:30:00.000Z bucket born, due 2026-11-21T13:46:00.000Z",
    "12 2026-11-21T14:30:00.000Z brief 2026-11-21T13:30:00.000Z bucket dropped, due 2026-11-21T13:46:00.000Z, 1 records, 12288 bytes",
    "13 2026-11-21T14:30:00.000Z brief 2026-11-21T13:30:00.000Z bucket dropped, due 2026-11-21T13:46:00.000Z, 1 records, 12288 bytes",
    "14 2026-11-21T14:30:00.000Z emptied 2026-11-21T13:00:00.000Z records scrubbed, 2 records, 112 bytes",
    "15 2026-11-21T14:30:00.000Z images 2026-11-21T13:00:00.000Z records scrubbed, 6 records, 360 bytes",
    "16 2026-11-21T14:30:00.000Z access 2026-11-21T13:00:00.000Z records scrubbed, 2 records, 130 bytes",
    "17 2026-11-21T14:30:00.000Z 3 invalidations of a key",
    "18 2026-11-21T14:30:00.000Z 4 invalidations of a tag",
    "19 2026-11-21T14:30:00.000Z 1 invalidations of everything",
    "20 2026-11-21T14:30:00.000Z brief 2026-11-21T13:30:00.000Z pseudonym keys destroyed",
    "21 2026-11-21T14:30:00.000Z images 2026-11-21T14:00:00.000Z bucket born, due 2026-11-22T06:00:00.000Z",
    "22 2026-11-21T14:30:00.000Z access 2026-11-21T14:00:00.000Z bucket born, due 2026-11-22T06:00:00.000Z",
    "23 2026-11-21T14:30:00.000Z a new file, the last is full",
    "24 2026-11-21T14:30:00.000Z images 2026-11-21T13:00:00.000Z records scrubbed, 1 records, 32 bytes",
    "25 2026-11-21T14:30:00.000Z images 2026-11-21T14:00:00.000Z records scrubbed, 1 records, 56 bytes",
    "26 2026-11-21T14:30:00.000Z access 2026-11-21T14:00:00.000Z records scrubbed, 1 records, 56 bytes",
    "27 2026-11-21T14:32:00.000Z 2 invalidations of a key",
    "28 2026-11-21T14:32:00.000Z 1 invalidations of a tag",
];

fn check_ledger(store: &Store, left: Left) {
    let entries: Vec<String> = store.ledger().unwrap().iter().map(ToString::to_string).collect();
    let (known, later) = entries.split_at(LEDGER.len());
    assert_eq!(known, LEDGER);
    if left == Left::Closed {
        assert_eq!(later[0], "29 2026-11-21T14:32:00.000Z 1 invalidations of a tag");
    }
    let report = store.verify_ledger().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.entries, entries.len() as u64);
    let proof = store.prove_retention(..START + 2 * HOUR).unwrap();
    // Both were due at 13:46, and dropped at 14:30.
    let late = RetentionVerdict::Late { worst_late_ms: 44 * 60_000, buckets: 2 };
    assert_eq!(proof.verdict, late);
}

fn check_keyspaces(store: &Store) {
    assert_eq!(store.keyspaces(), ["brief", "emptied", "images"]);
    assert_eq!(store.logs(), ["access", "brief"]);
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
    for key in ["invalidated", "tagged", "past", "batch 2", "soft", "banned", "passing"] {
        assert!(images.get(key).unwrap().is_none(), "{key}");
    }
    let stats = store.stats();
    let images_stats = stats.keyspaces.iter().find(|stats| stats.name == "images").unwrap();
    assert_eq!((images_stats.key_tombstones, images_stats.tag_tombstones), (5, 9));
    assert_eq!((images_stats.denied_keys, images_stats.denied_tags), (1, 1));
    let buckets = images_stats.buckets.iter();
    let records: Vec<_> = buckets.map(|b| (b.start, b.segments, b.records, b.live)).collect();
    let (first, second) = (bucket(Duration::ZERO), bucket(HOUR));
    assert_eq!(records, [(first, 1, 15, 8), (second, 3, 6, 5)]);
    let brief = store.existing_keyspace("brief").unwrap();
    assert!(brief.get("gone soon").unwrap().is_none());
    assert_eq!(brief.iter().count(), 0);
    let emptied = store.existing_keyspace("emptied").unwrap();
    assert!(emptied.get("anything").unwrap().is_none());
    assert!(emptied.get("elsewhere").unwrap().is_none());
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
    let refused = images.insert("erased", b"again");
    assert!(matches!(refused, Err(Error::Denied { until }) if until == START + 10 * HOUR));
    let banned = images.fill("other").tag("banned").commit(b"again");
    assert!(matches!(banned, Err(Error::Denied { until }) if until == START + 12 * HOUR));
    store.scrub().unwrap();
    assert!(store.verify().unwrap().problems.is_empty(), "{:?}", store.verify());
    clock.advance(16 * HOUR);
    assert!(images.get("long").unwrap().is_none(), "its deadline has passed");
    store.maintain().unwrap();
    assert_eq!(access.scan(..).unwrap().count(), 0);
    store.close().unwrap();
}

fn check(left: Left, mode: Mode) {
    let dir = tempfile::tempdir().unwrap();
    let files = files_of(&golden_dir("v2", left));
    put_files(dir.path(), &files);
    let (store, clock) = open(dir.path(), mode);
    let report = store.recovery_report();
    assert!(report.is_clean(), "{report:?}");
    check_keyspaces(&store);
    check_reasons(&store);
    check_rows(&store);
    check_ledger(&store, left);
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

/// Everything in a directory and below it; of directories, that they are there.
fn tree_of(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut tree = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let bytes = path.is_file().then(|| fs::read(&path).unwrap());
            if bytes.is_none() {
                waiting.push(path.clone());
            }
            tree.insert(path, bytes);
        }
    }
    tree
}

#[test]
fn a_store_of_version_1_is_refused_and_not_changed() {
    for left in [Left::Closed, Left::Killed] {
        for mode in [Mode::ReadOnly, Mode::Positional, Mode::Mapped] {
            let dir = tempfile::tempdir().unwrap();
            put_files(dir.path(), &files_of(&golden_dir("v1", left)));
            let before = tree_of(dir.path());
            let (opened, _) = try_open(dir.path(), mode);
            let error = opened.expect_err("another version");
            assert!(matches!(error, Error::UnknownVersion { found: 1, known: 2, .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("written by an earlier version"), "{text}");
            assert!(!text.contains("newer"), "{text}");
            assert_eq!(tree_of(dir.path()), before, "{left:?} {mode:?}");
        }
    }
}

#[test]
#[ignore = "writes the golden stores anew"]
fn write_the_golden_stores() {
    for left in [Left::Closed, Left::Killed] {
        let dir = golden_dir("v2", left);
        let _ = fs::remove_dir_all(&dir);
        put_files(&dir, &made(left));
    }
}
