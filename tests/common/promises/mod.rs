//! A store whose every answer is held against what earlier calls have promised.
//!
//! What counts is what had been promised before a call began: what happens meanwhile may go either
//! way. Promises are noted between two steps of a schedule, so a plain lock keeps them.

mod endings;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Clock, Durability, Error, FillWriter, Keyspace, KeyspaceOptions, Lookup, ManualClock, Outcome,
    Reason, Receipt, Result, Retention, Scope, Stat, Store, Value,
};

use crate::fixture::{self, value_of};

/// The tag of a fill, unless another one is asked for.
pub(crate) const TAG: &str = "tag";
/// Another one.
pub(crate) const OTHER: &str = "other";
/// Values shorter than this cannot be told from others on the disk.
const TOLD_APART: usize = 24;
/// The longest value; a segment of 4 KiB holds two of them.
const LONGEST: u64 = 1500;
/// Set in the version of an insert, which learns its sequence number from nobody.
const INSERTED: u64 = 1 << 63;

/// Up to which numbers something is hidden.
#[derive(Debug, Clone, Copy, Default)]
struct Floor {
    /// By those who take nothing stale.
    fresh: u64,
    /// By all.
    any: u64,
}

impl Floor {
    fn raise(&mut self, to: u64, softly: bool) {
        self.fresh = self.fresh.max(to);
        if !softly {
            self.any = self.any.max(to);
        }
    }
}

/// What is known of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    /// Invalidations of the key that have returned.
    floor: Floor,
    /// Nothing up to this number is sure to be seen, whatever tags it carries.
    reached: u64,
    /// Nothing below this number is seen: something as new has been seen or stored.
    newest: u64,
    /// A power cut leaves nothing below this number.
    durable: u64,
    /// Invalidations begun, and those that have returned.
    begun: u64,
    returned: u64,
    /// It may go by itself: evicted, or invalidated by a call that failed.
    may_go: bool,
}

#[derive(Debug, Clone, Default)]
struct Promises {
    keys: BTreeMap<u64, Promise>,
    /// Numbers of fills that were told that they are superseded.
    superseded: Vec<u64>,
    /// The tag of each fill's number.
    tags: BTreeMap<u64, &'static str>,
    /// Invalidations of tags that have returned.
    tag_floors: BTreeMap<&'static str, Floor>,
    /// The store has been opened again since.
    is_reopened: bool,
    /// Keys that may be denied by now, and those that are for certain.
    may_be_denied: BTreeSet<u64>,
    denied: BTreeSet<u64>,
}

impl Promises {
    fn of(&self, key: u64) -> Promise {
        self.keys.get(&key).copied().unwrap_or_default()
    }

    /// The numbers up to which a record of this number and key would be hidden.
    fn floor(&self, key: u64, seq: u64) -> Floor {
        let tag = self.tags.get(&seq);
        let mut floor = self.of(key).floor;
        if let Some(of_tag) = tag.and_then(|tag| self.tag_floors.get(tag)) {
            floor.raise(of_tag.fresh, true);
            floor.raise(of_tag.any, false);
        }
        floor
    }
}

/// What the disk held at a moment, and what had been promised by then.
struct Image {
    disk: MemoryDisk,
    promised: Promises,
}

/// A store under test with one keyspace.
pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: ManualClock,
    pub(crate) store: Store,
    pub(crate) images: Keyspace,
    mapped: bool,
    keys: u64,
    evicts: bool,
    promises: Mutex<Promises>,
    cuts: Mutex<Vec<Image>>,
    /// The files as they were when nothing was to be written any more.
    frozen: Mutex<Option<Vec<(PathBuf, Vec<u8>)>>>,
    next: std::sync::atomic::AtomicU64,
    /// Keys and versions that may have reached the disk.
    written: Mutex<BTreeSet<(u64, u64)>>,
}

/// The options of the keyspace: a window of 16 hours, small segments.
pub(crate) fn options() -> KeyspaceOptions {
    KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096)
}

fn name(key: u64) -> String {
    format!("key-{key}")
}

impl World {
    /// A new store for so many keys.
    pub(crate) fn new(mapped: bool, keys: u64, options: KeyspaceOptions) -> Self {
        let (disk, clock) = (MemoryDisk::new(1), fixture::clock());
        let store = fixture::open(fixture::on_memory(&disk, &clock), mapped);
        let images = store.keyspace("images", options).unwrap();
        Self {
            disk,
            clock,
            store,
            images,
            mapped,
            keys,
            evicts: false,
            promises: Mutex::default(),
            cuts: Mutex::default(),
            frozen: Mutex::default(),
            next: 0.into(),
            written: Mutex::default(),
        }
    }

    /// Records may be evicted.
    pub(crate) fn evicting(self) -> Self {
        Self { evicts: true, ..self }
    }

    /// Closes the store and opens it again.
    pub(crate) fn opened_again(self) -> Self {
        self.store.close().unwrap();
        let store = fixture::open(fixture::on_memory(&self.disk, &self.clock), self.mapped);
        let images = store.existing_keyspace("images").unwrap();
        Self { store, images, ..self }
    }

    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.promises.lock().unwrap()
    }

    fn promise(&self, key: u64) -> Promise {
        self.promises().of(key)
    }

    fn note(&self, key: u64, change: impl FnOnce(&mut Promise)) {
        change(self.promises().keys.entry(key).or_default());
    }

    fn saw(&self, key: u64, seq: u64) {
        self.note(key, |promise| promise.newest = promise.newest.max(seq));
    }

    fn writes(&self, key: u64, version: u64) -> Vec<u8> {
        self.written.lock().unwrap().insert((key, version));
        value_of(key, version, LONGEST)
    }

    /// Stores a new version of a key, with a number taken now.
    pub(crate) fn insert(&self, key: u64) -> Result<()> {
        // What is inserted after this has a higher number.
        let before = self.images.fill("number").sequence();
        let promised = self.promises().clone();
        let count = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let value = self.writes(key, INSERTED | count);
        self.check_denied(key, &promised, self.images.insert(name(key), value))?;
        self.saw(key, before + 1);
        Ok(())
    }

    /// Stores new versions of several keys with one call.
    pub(crate) fn insert_batch(&self, keys: &[u64]) -> Result<()> {
        let before = self.images.fill("number").sequence();
        let promised = self.promises().clone();
        let items: Vec<(String, Vec<u8>)> = keys
            .iter()
            .map(|key| {
                let count = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                (name(*key), self.writes(*key, INSERTED | count))
            })
            .collect();
        let inserted = self.images.insert_batch(items);
        if inserted.is_ok() {
            for key in keys {
                self.check_denied(*key, &promised, Ok(()))?;
                self.saw(*key, before + 1);
            }
        }
        inserted
    }

    /// Begins to fill a key with a new version that carries the tag; what it gives ends it.
    pub(crate) fn fill(
        &self,
        key: u64,
        durability: Durability,
    ) -> impl FnOnce() -> Result<Outcome> + '_ {
        self.fill_tagged(key, TAG, durability)
    }

    /// The same with a tag of choice.
    pub(crate) fn fill_tagged(
        &self,
        key: u64,
        tag: &'static str,
        durability: Durability,
    ) -> impl FnOnce() -> Result<Outcome> + '_ {
        let fill = self.images.fill(name(key)).tag(tag).durability(durability);
        let seq = fill.sequence();
        self.promises().tags.insert(seq, tag);
        let is_durable = durability == Durability::Sync;
        move || self.end_fill(key, seq, is_durable, |value| fill.commit(value))
    }

    /// Fills a key with a value that is written to a file of its own.
    pub(crate) fn stream(&self, key: u64) -> Result<Outcome> {
        let fill = self.images.fill(name(key)).tag(TAG).memory_limit_bytes(0);
        let seq = fill.sequence();
        self.promises().tags.insert(seq, TAG);
        let mut writer = fill.into_writer()?;
        self.end_fill(key, seq, true, |value| {
            let (first, second) = value.split_at(value.len() / 2);
            let write = |writer: &mut FillWriter, bytes: &[u8]| {
                let written = writer.write_all(bytes);
                // Its source is one of ours.
                written.map_err(|e| *e.into_inner().unwrap().downcast::<Error>().unwrap())
            };
            write(&mut writer, first)?;
            write(&mut writer, second)?;
            writer.commit()
        })
    }

    fn end_fill(
        &self,
        key: u64,
        seq: u64,
        is_durable: bool,
        commit: impl FnOnce(&[u8]) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let promised = self.promises().clone();
        let committed = commit(&self.writes(key, seq));
        let outcome = match self.check_denied(key, &promised, committed) {
            // Only where the clock was moved meanwhile.
            Err(Error::FillTimedOut { .. }) if self.clock.wall() > fixture::START => {
                self.promises().superseded.push(seq);
                return Ok(Outcome::Superseded);
            }
            outcome => outcome?,
        };
        if outcome == Outcome::Superseded {
            assert!(self.evicts || self.could_be_superseded(key, seq), "no reason to lose");
            self.promises().superseded.push(seq);
            return Ok(outcome);
        }
        assert!(seq > promised.floor(key, seq).fresh, "an invalidated fill was stored");
        assert!(seq >= promised.of(key).newest, "a fill was stored over what is newer");
        self.saw(key, seq);
        if is_durable {
            self.note(key, |promise| promise.durable = promise.durable.max(seq));
        }
        Ok(outcome)
    }

    /// Refused is only what may be denied, and nothing else is done with what is denied for certain.
    fn check_denied<T>(&self, key: u64, before: &Promises, result: Result<T>) -> Result<T> {
        match &result {
            Ok(_) => assert!(!before.denied.contains(&key), "{} is denied", name(key)),
            Err(Error::Denied { .. }) => {
                assert!(self.promises().may_be_denied.contains(&key), "{} is not", name(key));
            }
            Err(_) => {}
        }
        result
    }

    /// True if something newer exists for certain, or may do.
    fn could_be_superseded(&self, key: u64, seq: u64) -> bool {
        let promised = self.promise(key);
        let last = self.images.fill("number").sequence() - 1;
        last > seq || promised.begun > promised.returned
    }

    /// Fills a key without delay.
    pub(crate) fn write(&self, key: u64) -> Result<Outcome> {
        self.fill(key, Durability::Buffered)()
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let before = self.promises().clone();
        self.store.sync()?;
        for (key, promised) in before.keys {
            self.note(key, |promise| promise.durable = promise.durable.max(promised.newest));
        }
        Ok(())
    }

    /// Hides a key.
    pub(crate) fn invalidate(&self, key: u64) -> Result<Receipt> {
        self.hide(&[key], None, false, || self.images.invalidate(name(key)))
    }

    /// Makes a key stale.
    pub(crate) fn invalidate_soft(&self, key: u64) -> Result<Receipt> {
        self.hide(&[key], None, true, || self.images.invalidate_soft(name(key)))
    }

    /// Makes all stale that carries the tag.
    pub(crate) fn invalidate_tag_soft(&self) -> Result<Receipt> {
        self.hide(&self.all_keys(), Some(TAG), true, || self.images.invalidate_tag_soft(TAG))
    }

    /// Hides everything.
    pub(crate) fn invalidate_all(&self) -> Result<Receipt> {
        self.hide(&self.all_keys(), None, false, || self.images.invalidate_all())
    }

    /// Hides all that carries the tag.
    pub(crate) fn invalidate_tag(&self) -> Result<Receipt> {
        self.hide(&self.all_keys(), Some(TAG), false, || self.images.invalidate_tag(TAG))
    }

    /// Hides all that carries the tag, in all keyspaces and logs.
    pub(crate) fn invalidate_tag_everywhere(&self) -> Result<Receipt> {
        let call = || self.store.invalidate_tag(TAG, Scope::Everything);
        self.hide(&self.all_keys(), Some(TAG), false, call)
    }

    fn all_keys(&self) -> Vec<u64> {
        (0..self.keys).collect()
    }

    /// Erases a key, and denies it for longer than a scenario lasts.
    pub(crate) fn erase(&self, key: u64) -> Result<Receipt> {
        self.promises().may_be_denied.insert(key);
        let until = fixture::START + fixture::hours(1000);
        let erase = || self.images.erase(name(key)).deny_until(until).commit();
        let receipt = self.hide(&[key], None, false, erase)?;
        self.promises().denied.insert(key);
        Ok(receipt)
    }

    fn hide(
        &self,
        keys: &[u64],
        tag: Option<&'static str>,
        softly: bool,
        call: impl FnOnce() -> Result<Receipt>,
    ) -> Result<Receipt> {
        for key in keys {
            self.note(*key, |promise| promise.begun += 1);
        }
        let result = call();
        let floor = result.as_ref().map_or(0, Receipt::sequence);
        for key in keys {
            self.note(*key, |promise| {
                promise.returned += 1;
                promise.may_go |= result.is_err();
                promise.reached = promise.reached.max(floor);
                if tag.is_none() {
                    promise.floor.raise(floor, softly);
                }
            });
        }
        if let Some(tag) = tag {
            let mut promises = self.promises();
            promises.tag_floors.entry(tag).or_default().raise(floor, softly);
        }
        result
    }

    /// Erases what is dead, all but what is held.
    pub(crate) fn scrub(&self) -> Result<()> {
        self.store.scrub()
    }

    /// Reads a key.
    pub(crate) fn get(&self, key: u64) -> Result<Option<Value>> {
        let now = self.clock.wall();
        let before = self.promises().clone();
        let value = self.images.get(name(key))?;
        match &value {
            Some(value) => self.judge_value(key, value, now, &before),
            None => assert!(!self.must_be_seen(key, &before), "{} is gone: {before:?}", name(key)),
        }
        Ok(value)
    }

    /// Reads several keys with one call.
    pub(crate) fn get_many(&self, keys: &[u64]) -> Result<()> {
        let now = self.clock.wall();
        let before = self.promises().clone();
        let names: Vec<String> = keys.iter().map(|key| name(*key)).collect();
        for (key, value) in keys.iter().zip(self.images.get_many(&names)?) {
            match value {
                Some(value) => self.judge_value(*key, &value, now, &before),
                None => assert!(!self.must_be_seen(*key, &before), "{} is gone", name(*key)),
            }
        }
        Ok(())
    }

    /// Reads a key that may be stale.
    pub(crate) fn lookup(&self, key: u64) -> Result<()> {
        let now = self.clock.wall();
        let before = self.promises().clone();
        match self.images.lookup(name(key))? {
            Lookup::Fresh(value) => self.judge_value(key, &value, now, &before),
            Lookup::Stale(value) => {
                let seq = value.stat().sequence();
                assert!(seq > before.floor(key, seq).any, "{}, {seq}: was hidden", name(key));
                assert!(!self.must_be_seen(key, &before), "{} is stale", name(key));
                check_bytes(key, &value);
            }
            Lookup::Absent => {
                assert!(!self.must_be_seen(key, &before), "{} is gone: {before:?}", name(key));
            }
        }
        Ok(())
    }

    fn judge_value(&self, key: u64, value: &Value, now: ebbtide::Timestamp, before: &Promises) {
        self.judge(key, value.stat(), now, before);
        check_bytes(key, value);
        self.saw(key, value.stat().sequence());
    }

    /// True if a call that began with these promises had to find the key.
    fn must_be_seen(&self, key: u64, before: &Promises) -> bool {
        let (before, after) = (before.of(key), self.promise(key));
        let quiet = before.begun == before.returned && after.begun == before.begun;
        let stays = before.newest > before.reached && !before.may_go && !self.evicts;
        let in_time = self.clock.wall() < fixture::START + fixture::hours(16);
        quiet && stays && in_time
    }

    /// Reads all keys of a store that is opened to look at this one: what is there now, less what is
    /// invalidated from then on.
    pub(crate) fn look_on(&self, times: usize) -> Result<()> {
        let at_open = self.promises().clone();
        let store = fixture::on_memory(&self.disk, &self.clock).open_read_only()?;
        let images = store.existing_keyspace("images")?;
        for key in (0..self.keys).cycle().take(times * self.keys as usize) {
            let now = self.clock.wall();
            let floors = self.promises().clone();
            let value = images.get(name(key))?;
            if let Some(value) = value {
                let newest = Promise { newest: at_open.of(key).newest, ..floors.of(key) };
                let superseded = at_open.superseded.clone();
                let mut promised = Promises { superseded, ..floors };
                promised.keys.insert(key, newest);
                self.judge(key, value.stat(), now, &promised);
                check_bytes(key, &value);
            } else {
                let is_same = self.promise(key).newest == at_open.of(key).newest;
                let is_missing = is_same && self.must_be_seen(key, &at_open);
                assert!(!is_missing, "{} is not to be seen: {at_open:?}", name(key));
            }
        }
        assert!(store.problems().is_empty(), "{:?}", store.problems());
        let report = store.recovery_report();
        assert!(report.is_clean(), "{report:?}");
        let problems = store.verify()?.problems;
        assert!(problems.is_empty(), "{problems:?}");
        Ok(())
    }

    /// Asks why a key can be read, or why not.
    pub(crate) fn explain(&self, key: u64) -> Result<()> {
        let before = self.promises().clone();
        let explained = self.images.explain(name(key))?;
        assert_ne!(explained.reason, Reason::Damaged, "{}: {explained}", name(key));
        match explained.sequence.filter(|_| explained.reason == Reason::Visible) {
            Some(seq) => self.judge_seq(key, seq, &before),
            None => assert!(!self.must_be_seen(key, &before), "{}: {explained}", name(key)),
        }
        Ok(())
    }

    /// Lists what carries the tag.
    pub(crate) fn list_tag(&self) -> Result<()> {
        let now = self.clock.wall();
        let before = self.promises().clone();
        for entry in self.images.list_tag(TAG)? {
            assert_eq!(before.tags.get(&entry.stat().sequence()).copied().unwrap_or(TAG), TAG);
            self.judge(self.key_of(entry.key()), entry.stat(), now, &before);
        }
        Ok(())
    }

    /// Reads everything and compares every checksum.
    pub(crate) fn verify(&self) -> Result<()> {
        let begun = |promises: &Promises| promises.keys.values().map(|key| key.begun).sum::<u64>();
        let before = self.promises().clone();
        let mut problems = self.store.verify()?.problems;
        let quiet = before.keys.values().all(|key| key.begun == key.returned);
        if !quiet || begun(&before) != begun(&self.promises()) {
            // An invalidation is written to one region of its log first, and then to the other.
            problems.retain(|problem| problem.what != "an entry in one of two regions");
        }
        assert!(problems.is_empty(), "{problems:?}");
        Ok(())
    }

    fn key_of(&self, bytes: &[u8]) -> u64 {
        let key = (0..self.keys).find(|key| name(*key).as_bytes() == bytes);
        key.expect("a key that nobody wrote")
    }

    /// Goes through everything.
    pub(crate) fn iterate(&self) -> Result<()> {
        let mut entries = self.images.iter();
        loop {
            let now = self.clock.wall();
            let before = self.promises().clone();
            let Some(entry) = entries.next() else { return Ok(()) };
            let entry = entry?;
            self.judge(self.key_of(entry.key()), entry.stat(), now, &before);
        }
    }

    fn judge(&self, key: u64, stat: &Stat, now: ebbtide::Timestamp, promised: &Promises) {
        self.judge_seq(key, stat.sequence(), promised);
        assert!(now < stat.gone_at(), "{}: past its time", name(key));
    }

    fn judge_seq(&self, key: u64, seq: u64, promised: &Promises) {
        let floor = promised.floor(key, seq);
        // What has only superseded it for a while is not there after a stop.
        let may_be_back = promised.is_reopened && promised.of(key).may_go;
        let superseded = promised.superseded.contains(&seq) && !may_be_back;
        let (key, promised) = (name(key), promised.of(key));
        assert!(seq > floor.fresh, "{key}, {seq}: was invalidated: {promised:?}");
        assert!(seq >= promised.newest, "{key}, {seq}: older than what was seen: {promised:?}");
        assert!(!superseded, "{key}, {seq}: had been superseded");
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

/// The bytes are those of the version they begin with.
pub(crate) fn check_bytes(key: u64, value: &Value) {
    let version = version_of(value);
    assert!(version & INSERTED != 0 || version == value.stat().sequence(), "another's bytes");
    assert_eq!(value.as_ref(), value_of(key, version, LONGEST), "wrong bytes");
}

fn version_of(value: &Value) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}
