//! What is counted. Every operation gets its store ready, does what happens once only, such as taking
//! memory for the first time, and then counts so many turns. Clock and keys are always the same, and
//! nothing runs in the background.

use std::hint::black_box;
use std::path::Path;

use ebbtide::{
    BootId, Clock, Keyspace, KeyspaceOptions, Log, LogOptions, Outcome, Row, Store, StoreBuilder,
    Timestamp,
};
use tempfile::TempDir;

use crate::callgrind::counted_by_callgrind;
use crate::common::cdn::key;
use crate::common::{a_month, noise, open_mapped_as, scratch};

/// An image of a usual size.
const IMAGE: usize = 24 * 1024;
/// A small record.
const SMALL: usize = 150;
/// Records of a batch.
const BATCH: usize = 1000;
/// What a row says.
const LINE: &str = "GET /photos/00000042.jpg?w=320 HTTP/1.1 200 24576 \"-\" \"Mozilla/5.0\"";

/// Something that is counted.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// What the table calls it.
    pub(crate) what: &'static str,
    /// By what the count is divided.
    pub(crate) times: u64,
    pub(crate) run: fn(u64),
}

const fn operation(name: &'static str, what: &'static str, times: u64, run: fn(u64)) -> Operation {
    Operation { name, what, times, run }
}

/// All that is counted. Of what makes tables grow, as many turns are counted as were done before, so
/// that each table doubles about once.
pub(crate) const OPERATIONS: &[Operation] = &[
    operation("get-mapped", "`get` of 24 KiB, mapped, value not looked at", 4_096, get_mapped),
    operation("get-small", "`get` of 150 B, mapped, value not looked at", 16_384, get_small),
    operation("get-position", "`get` of 24 KiB by position", 2_048, get_by_position),
    operation("miss", "`get` of an absent key", 65_536, miss),
    operation("insert", "`insert` of 24 KiB", 1_024, insert_image),
    operation("insert-small", "`insert` of 150 B", 20_000, insert_small),
    operation("insert-batch", "`insert_batch` of 1,000 of 150 B, a record", 20_000, insert_batch),
    operation("invalidate", "`invalidate`, durable", 512, invalidate),
    operation("invalidate-tag", "`invalidate_tag`, durable", 512, invalidate_tag),
    operation("append", "`Log::append` of a row", 4_096, append),
    operation("appender", "`Appender::append` of a row, writing included", 20_000, appender),
    operation("scan", "`Log::scan`, mapped, a row", 20_000, scan),
];

/// A clock that stands still, at noon of a day.
#[derive(Debug)]
struct StandingClock;

const NOON_MS: u64 = (20_000 * 24 + 12) * 3_600_000;

impl Clock for StandingClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(NOON_MS)
    }

    fn boot_ms(&self) -> u64 {
        1_000_000
    }

    fn boot_id(&self) -> BootId {
        [1; 16]
    }
}

fn builder(dir: &Path) -> StoreBuilder {
    Store::builder(dir.join("store")).clock(StandingClock).background(false)
}

/// A store, what is in it, and where it is.
struct Held<T> {
    store: Store,
    owner: T,
    dir: TempDir,
}

impl<T> Held<T> {
    fn reopened_store(self, open: fn(StoreBuilder) -> Store) -> (Store, TempDir) {
        self.store.close().unwrap();
        // What still belongs to the closed store keeps its files open.
        drop((self.store, self.owner));
        (open(builder(self.dir.path())), self.dir)
    }
}

impl Held<Keyspace> {
    fn new() -> Self {
        let dir = scratch();
        let store = builder(dir.path()).open().unwrap();
        let owner = store.keyspace("images", KeyspaceOptions::new(a_month())).unwrap();
        Self { store, owner, dir }
    }

    /// With so many values in it.
    fn filled(keys: &[String], value_len: usize) -> Self {
        let held = Self::new();
        let value = noise(value_len);
        held.owner.insert_batch(keys.iter().map(|key| (key, &value))).unwrap();
        held
    }

    /// Closed and opened again.
    fn reopened(self, open: fn(StoreBuilder) -> Store) -> Self {
        let (store, dir) = self.reopened_store(open);
        let owner = store.existing_keyspace("images").unwrap();
        Self { store, owner, dir }
    }
}

impl Held<Log> {
    fn new() -> Self {
        let dir = scratch();
        let store = builder(dir.path()).open().unwrap();
        let owner = store.log("access", LogOptions::new(a_month())).unwrap();
        Self { store, owner, dir }
    }

    /// Closed and opened again.
    fn reopened(self, open: fn(StoreBuilder) -> Store) -> Self {
        let (store, dir) = self.reopened_store(open);
        let owner = store.existing_log("access").unwrap();
        Self { store, owner, dir }
    }

    /// A row about a visitor as an image server writes it, so many milliseconds before noon.
    fn rows(&self) -> impl Fn(u64) -> Row + use<> {
        let now = self.store.now();
        let visitor = self.owner.pseudonym("198.18.0.7".parse().unwrap(), now).unwrap();
        move |before_ms| {
            let time = Timestamp::from_millis(NOON_MS - before_ms);
            Row::new(visitor).at(time).tag("photos/00000042.jpg").payload(LINE)
        }
    }
}

fn keys(first: u64, count: u64) -> Vec<String> {
    (first..first + count).map(key).collect()
}

/// Asks for all keys, and then counts so many turns of asking for one.
fn ask(images: &Keyspace, keys: &[String], times: u64, expected: bool) {
    let mut as_expected = 0;
    let mut ask = |turn: usize| {
        let value = images.get(&keys[turn % keys.len()]);
        // Moving it would cost more than asking does.
        as_expected += u64::from(matches!(black_box(&value), Ok(Some(_))) == expected);
    };
    (0..keys.len()).for_each(&mut ask);
    counted_by_callgrind(times, &mut ask);
    assert_eq!(as_expected, keys.len() as u64 + times);
}

fn get_mapped(times: u64) {
    let keys = keys(0, 1024);
    let held = Held::filled(&keys, IMAGE).reopened(open_mapped_as);
    ask(&held.owner, &keys, times, true);
}

fn get_small(times: u64) {
    let keys = keys(0, 16_384);
    let held = Held::filled(&keys, SMALL).reopened(open_mapped_as);
    ask(&held.owner, &keys, times, true);
}

fn get_by_position(times: u64) {
    let keys = keys(0, 1024);
    let held = Held::filled(&keys, IMAGE).reopened(|builder| builder.open().unwrap());
    ask(&held.owner, &keys, times, true);
}

fn miss(times: u64) {
    let held = Held::filled(&keys(0, 16_384), SMALL).reopened(open_mapped_as);
    ask(&held.owner, &keys(16_384, 16_384), times, false);
}

/// Inserts as many values as are counted after.
fn insert(value_len: usize, times: u64) {
    let (before, keys) = (keys(0, times), keys(times, times));
    let held = Held::<Keyspace>::new();
    let value = noise(value_len);
    before.iter().for_each(|key| held.owner.insert(key, &value).unwrap());
    counted_by_callgrind(times, &mut |turn| {
        held.owner.insert(&keys[turn], black_box(&value)).unwrap();
    });
    assert!(held.owner.contains(&keys[0]).unwrap());
}

fn insert_image(times: u64) {
    insert(IMAGE, times);
}

fn insert_small(times: u64) {
    insert(SMALL, times);
}

fn insert_batch(times: u64) {
    let (before, keys) = (keys(0, times), keys(times, times));
    let held = Held::<Keyspace>::new();
    let value = noise(SMALL);
    let insert = |keys: &[String]| {
        held.owner.insert_batch(keys.iter().map(|key| (key, black_box(&value)))).unwrap();
    };
    before.chunks(BATCH).for_each(insert);
    let batches: Vec<&[String]> = keys.chunks(BATCH).collect();
    counted_by_callgrind(batches.len() as u64, &mut |turn| insert(batches[turn]));
    assert!(held.owner.contains(&keys[0]).unwrap());
}

fn invalidate(times: u64) {
    let keys = keys(0, 2 * times);
    let held = Held::filled(&keys, SMALL);
    let (before, keys) = keys.split_at(times as usize);
    before.iter().for_each(|key| drop(held.owner.invalidate(key).unwrap()));
    counted_by_callgrind(times, &mut |turn| {
        black_box(held.owner.invalidate(&keys[turn]).unwrap());
    });
    assert!(!held.owner.contains(&keys[0]).unwrap());
}

fn invalidate_tag(times: u64) {
    let tags = keys(0, 2 * times);
    let held = Held::<Keyspace>::new();
    for tag in &tags {
        let fill = held.owner.fill(tag).tag(tag);
        assert_eq!(fill.commit(noise(SMALL)).unwrap(), Outcome::Stored);
    }
    let (before, tags) = tags.split_at(times as usize);
    before.iter().for_each(|tag| drop(held.owner.invalidate_tag(tag).unwrap()));
    counted_by_callgrind(times, &mut |turn| {
        black_box(held.owner.invalidate_tag(&tags[turn]).unwrap());
    });
    assert!(!held.owner.contains(&tags[0]).unwrap());
}

fn append(times: u64) {
    let held = Held::<Log>::new();
    let row = held.rows();
    let mut append = |_| {
        held.owner.append(row(0)).unwrap();
    };
    (0..times as usize).for_each(&mut append);
    counted_by_callgrind(times, &mut append);
    assert_eq!(held.owner.scan(..).unwrap().count() as u64, 2 * times);
}

fn appender(times: u64) {
    let held = Held::<Log>::new();
    let row = held.rows();
    let mut appender = held.owner.appender();
    (0..times).for_each(|_| appender.append(row(0)).unwrap());
    appender.flush().unwrap();
    counted_by_callgrind(times, &mut |_| appender.append(row(0)).unwrap());
    appender.flush().unwrap();
    assert_eq!(held.owner.scan(..).unwrap().count() as u64, 2 * times);
}

fn scan(times: u64) {
    let held = Held::<Log>::new();
    let row = held.rows();
    let mut appender = held.owner.appender();
    (0..times).rev().for_each(|before_ms| appender.append(row(before_ms)).unwrap());
    appender.flush().unwrap();
    let held = held.reopened(open_mapped_as);
    let read = || {
        held.owner.scan(..).unwrap().inspect(|row| assert!(black_box(row).is_ok())).count() as u64
    };
    assert_eq!(read(), times);
    let mut rows = 0;
    counted_by_callgrind(1, &mut |_| rows = read());
    assert_eq!(rows, times);
}
