//! A store whose every answer is held against what earlier calls have promised.
//!
//! What counts is what had been promised before a call began: what happens meanwhile may go either
//! way. Promises are noted between two steps of a schedule, so a plain lock keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Clock, Durability, Error, Keyspace, KeyspaceOptions, ManualClock, Outcome, Reason, Receipt,
    Result, Retention, Stat, Store, Value,
};

use crate::fixture::{self, files_of, value_of};
use crate::schedules::chance;

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

/// What is known of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    /// Nothing up to this number is seen: an invalidation of the key has returned.
    floor: u64,
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
    /// Nothing that carries a tag is seen up to this number.
    tag_floors: BTreeMap<&'static str, u64>,
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

    /// The number up to which a record of this number and key would be hidden.
    fn floor(&self, key: u64, seq: u64) -> u64 {
        let tag = self.tags.get(&seq);
        let of_tag = tag.and_then(|tag| self.tag_floors.get(tag)).copied().unwrap_or_default();
        self.of(key).floor.max(of_tag)
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
            writer.write_all(first).unwrap();
            writer.write_all(second).unwrap();
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
        assert!(seq > promised.floor(key, seq), "an invalidated fill was stored");
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
        self.hide(&[key], None, || self.images.invalidate(name(key)))
    }

    /// Hides all that carries the tag.
    pub(crate) fn invalidate_tag(&self) -> Result<Receipt> {
        let keys: Vec<u64> = (0..self.keys).collect();
        self.hide(&keys, Some(TAG), || self.images.invalidate_tag(TAG))
    }

    /// Erases a key, and denies it for longer than a scenario lasts.
    pub(crate) fn erase(&self, key: u64) -> Result<Receipt> {
        self.promises().may_be_denied.insert(key);
        let until = fixture::START + fixture::hours(1000);
        let erase = || self.images.erase(name(key)).deny_until(until).commit();
        let receipt = self.hide(&[key], None, erase)?;
        self.promises().denied.insert(key);
        Ok(receipt)
    }

    fn hide(
        &self,
        keys: &[u64],
        tag: Option<&'static str>,
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
                    promise.floor = promise.floor.max(floor);
                }
            });
        }
        if let Some(tag) = tag {
            let mut promises = self.promises();
            let of_tag = promises.tag_floors.entry(tag).or_default();
            *of_tag = floor.max(*of_tag);
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
        let Some(value) = value else {
            assert!(!self.must_be_seen(key, &before), "{} is gone: {before:?}", name(key));
            return Ok(None);
        };
        self.judge(key, value.stat(), now, &before);
        check_bytes(key, &value);
        self.saw(key, value.stat().sequence());
        Ok(Some(value))
    }

    /// True if a call that began with these promises had to find the key.
    fn must_be_seen(&self, key: u64, before: &Promises) -> bool {
        let (before, after) = (before.of(key), self.promise(key));
        let quiet = before.begun == before.returned && after.begun == before.begun;
        let stays = before.newest > before.reached && !before.may_go && !self.evicts;
        let in_time = self.clock.wall() < fixture::START + fixture::hours(16);
        quiet && stays && in_time
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
        assert!(seq > floor, "{key}, {seq}: was invalidated: {promised:?}");
        assert!(seq >= promised.newest, "{key}, {seq}: older than what was seen: {promised:?}");
        assert!(!superseded, "{key}, {seq}: had been superseded");
    }

    /// Notes what a power cut now would find, and what has been promised by now.
    pub(crate) fn cut(&self) {
        let mut promised = self.promises().clone();
        let disk = self.disk.fork();
        for (key, promise) in &mut promised.keys {
            // An invalidation that has begun by now may already be on the disk.
            promise.may_go |= self.promise(*key).begun > promise.returned;
        }
        self.cuts.lock().unwrap().push(Image { disk, promised });
    }

    /// From now on nothing may be written.
    pub(crate) fn freeze(&self) {
        let files = files_of(&self.disk);
        *self.frozen.lock().unwrap() = Some(files);
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Ends a scenario in which nothing is held any more: a last scrub leaves nothing of what cannot
    /// be seen, and takes nothing else.
    pub(crate) fn settle_erased(self) {
        self.store.maintain().unwrap();
        self.scrub().unwrap();
        self.check_erased(&self.disk.fork());
        self.settle();
    }

    /// Nothing is on the disk of a version that is not the one to be seen.
    fn check_erased(&self, disk: &MemoryDisk) {
        let live: BTreeSet<(u64, u64)> = (0..self.keys)
            .filter_map(|key| Some((key, version_of(&self.get(key).unwrap()?))))
            .collect();
        let files = files_of(disk);
        let written = self.written.lock().unwrap().clone();
        for (key, version) in written.difference(&live) {
            let value = value_of(*key, *version, LONGEST);
            let Some(needle) = value.get(..TOLD_APART) else { continue };
            for (path, bytes) in &files {
                let found = bytes.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "{}, {version}: still in {}", name(*key), path.display());
            }
        }
    }

    /// Ends the scenario: all answers must be the same after a close, or after the process died,
    /// and no promise may be broken by a power cut, now or at one of the moments noted.
    pub(crate) fn settle(self) {
        let answers: Vec<Option<u64>> = (0..self.keys).map(|key| self.answer(key)).collect();
        self.iterate().unwrap();
        self.check_walks(&self.store, &self.images, &answers);
        for image in std::mem::take(&mut *self.cuts.lock().unwrap()) {
            self.check_after_power_cut(&image.disk, &image.promised);
        }
        let ending = chance().below(4);
        if ending == 0 {
            let promised = self.promises().clone();
            self.check_after_power_cut(&self.disk, &promised);
            return;
        }
        if ending == 3 {
            return self.check_reopened(&self.disk.kill(), &answers);
        }
        self.store.close().unwrap();
        if ending == 2 {
            // What the next open finds by the sidecars alone.
            let index = Path::new("/data/keyspaces/images/INDEX");
            self.disk.write_file(index, b"").unwrap();
        }
        self.check_reopened(&self.disk, &answers);
    }

    /// However one goes through what is there, it is what the keys give, and nothing is damaged.
    fn check_walks(&self, store: &Store, images: &Keyspace, answers: &[Option<u64>]) {
        let there: BTreeSet<u64> = answers.iter().flatten().copied().collect();
        let walked: BTreeSet<u64> =
            images.iter().map(|entry| entry.unwrap().stat().sequence()).collect();
        assert_eq!(walked, there, "what iterating gives");
        for tag in [TAG, OTHER] {
            let tagged = self.promises().tags.clone();
            let carries = |seq: &&u64| tagged.get(seq) == Some(&tag);
            let there: Vec<u64> = there.iter().filter(carries).copied().collect();
            let listed = images.list_tag(tag).unwrap();
            let listed: Vec<u64> = listed.iter().map(|entry| entry.stat().sequence()).collect();
            assert_eq!(listed, there, "what the tag lists");
        }
        for (key, answer) in (0..).zip(answers) {
            let explained = images.explain(name(key)).unwrap();
            let visible = explained.reason == Reason::Visible;
            assert_eq!(visible, answer.is_some(), "{}: {explained}", name(key));
        }
        let problems = store.verify().unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        assert!(store.problems().is_empty(), "{:?}", store.problems());
        assert_eq!(store.stats().corrupt_reads, 0);
    }

    /// Ends a scenario that has closed the store: what was promised can be read after opening
    /// again.
    pub(crate) fn settle_closed(mut self) {
        let frozen = self.frozen.lock().unwrap().take().expect("nobody froze the files");
        assert!(frozen == files_of(&self.disk), "a file changed after the store was closed");
        let disk = self.disk.clone();
        (self.store, self.images) = self.open(&disk);
        self.promises().is_reopened = true;
        self.settle();
    }

    /// The answers after opening again are those there were.
    fn check_reopened(&self, disk: &MemoryDisk, answers: &[Option<u64>]) {
        let (store, images) = self.open(disk);
        assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
        let mut again = Vec::new();
        for (key, answer) in (0..).zip(answers) {
            let value = images.get(name(key)).unwrap();
            value.iter().for_each(|value| check_bytes(key, value));
            let seq = value.map(|value| value.stat().sequence());
            // After a call that failed it may be hidden or not, each time anew.
            let doubtful = self.promise(key).may_go && (seq.is_none() || answer.is_none());
            assert!(doubtful || seq == *answer, "{}: {answer:?}, now {seq:?}", name(key));
            again.push(seq);
        }
        self.check_walks(&store, &images, &again);
    }

    fn answer(&self, key: u64) -> Option<u64> {
        self.get(key).unwrap().map(|value| value.stat().sequence())
    }

    fn check_after_power_cut(&self, disk: &MemoryDisk, promised: &Promises) {
        let disk = disk.crash(&mut chance().choices());
        let (store, images) = self.open(&disk);
        let report = store.recovery_report();
        for key in 0..self.keys {
            let promise = promised.of(key);
            let value = images.get(name(key)).unwrap();
            if let Some(value) = &value {
                // An older version that was not hidden may be back, but none below a durable one.
                let mut durable = Promises { is_reopened: true, ..promised.clone() };
                let newest = promise.durable;
                durable.keys.insert(key, Promise { newest, ..promise });
                self.judge(key, value.stat(), self.clock.wall(), &durable);
                check_bytes(key, value);
            }
            let stays = promise.durable > promise.reached
                && promise.begun == promise.returned
                && !promise.may_go
                && !self.evicts
                && self.clock.wall() < fixture::START + fixture::hours(16);
            assert!(
                !stays || value.is_some(),
                "{} was durable: {promise:?}, {report:?}",
                name(key)
            );
        }
    }

    fn open(&self, disk: &MemoryDisk) -> (Store, Keyspace) {
        let store = fixture::open(fixture::on_memory(disk, &self.clock), self.mapped);
        let images = store.existing_keyspace("images").unwrap();
        (store, images)
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
