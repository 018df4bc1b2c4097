//! A store on a disk in memory, driven by operations, every answer of which is compared with the
//! models.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ebbtide::disk::{FaultyDisk, MemoryDisk};
use ebbtide::{
    Appender, Clock, Durability, Error, Fill, Keyspace, KeyspaceOptions, LedgerKind, Log,
    LogOptions, LogRow, Lookup, ManualClock, Outcome, Retention, Row, Store, Timestamp, Value,
};

use super::denials::DenialsModel;
use super::keys::{Answer, Is, KeyModel, Moment, Version};
use super::ops::{How, KEYS, KEYSPACES, Key, Op, TAGS, Target, bits};
use super::random::Random;
use super::rows::{RowModel, RowsModel, payload};
use super::traces::{Stamp, Trace, find};
use super::{HOUR, MINUTE, START, WIDTH, WINDOW};

/// How long the bytes of what is dead may stay.
const ERASE_WITHIN: Duration = Duration::from_millis(MINUTE);

/// How a store under test is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) mapped: bool,
    /// The capacity of the first keyspace.
    pub(crate) capacity: Option<u64>,
    pub(crate) segment_bytes: u64,
    pub(crate) verify_every_read: bool,
}

/// A value that was handed to the store.
#[derive(Debug, Clone)]
pub(super) struct Written {
    key: Key,
    len: u16,
    metadata: bool,
    /// The write failed, and may have left something.
    pub(super) failed: bool,
}

/// What is known of a store whether or not it is open.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    spaces: Vec<KeyModel>,
    pub(super) rows: RowsModel,
    pub(super) denials: DenialsModel,
    pub(super) written: Vec<Written>,
    pub(super) next_row: u32,
    pub(super) highest_seq: u64,
    /// What was found to be on the disk no more.
    pub(super) erased: BTreeSet<Trace>,
    /// The segments that have left their buckets for certain.
    left: BTreeSet<PathBuf>,
    /// The disk was full at some time, so that anything may have been evicted.
    was_limited: bool,
    /// A call failed while the store was opened. What could not be read of the ledger then counts as
    /// damaged for good.
    misread: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            spaces: (0..KEYSPACES).map(|_| KeyModel::new()).collect(),
            rows: RowsModel::default(),
            denials: DenialsModel::default(),
            erased: BTreeSet::new(),
            left: BTreeSet::new(),
            written: Vec::new(),
            next_row: 0,
            highest_seq: 0,
            was_limited: false,
            misread: false,
        }
    }

    /// The process ended.
    pub(crate) fn killed(&mut self) {
        self.spaces.iter_mut().for_each(KeyModel::killed);
    }

    /// The power was cut.
    pub(crate) fn crashed(&mut self) {
        self.spaces.iter_mut().for_each(KeyModel::crashed);
        self.rows.crashed();
    }

    fn synced(&mut self) {
        self.spaces.iter_mut().for_each(KeyModel::synced);
        self.rows.synced();
    }

    pub(super) fn space(&mut self, space: u8) -> &mut KeyModel {
        &mut self.spaces[usize::from(space)]
    }

    fn write(&mut self, key: Key, len: u16, metadata: bool) -> (u32, Vec<u8>) {
        let id = self.written.len() as u32;
        self.written.push(Written { key, len, metadata, failed: false });
        (id, value(id, key, len))
    }

    /// A write failed. `now` as in [`KeyModel::failed`].
    fn failed(&mut self, key: Key, version: Version, now: bool) {
        self.written[version.id as usize].failed = true;
        self.space(key.space).failed(key.key, version, now);
    }
}

/// The bytes of a version: its stamp, its key, and what follows from the number.
fn value(id: u32, key: Key, len: u16) -> Vec<u8> {
    let mut bytes = Trace { stamp: Stamp::Value, number: id }.to_bytes().to_vec();
    bytes.extend([key.space, key.key]);
    let len = usize::from(len).max(bytes.len());
    let mut random = Random::new(id.into());
    while bytes.len() < len {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn metadata(id: u32) -> Vec<u8> {
    Trace { stamp: Stamp::Metadata, number: id }.to_bytes().to_vec()
}

pub(super) fn key_bytes(key: u8) -> String {
    format!("key-{key}")
}

pub(super) fn tag_bytes(tag: u8) -> String {
    format!("tag-{tag}")
}

fn space_name(space: u8) -> String {
    format!("space-{space}")
}

fn deadline(bucket: u64) -> u64 {
    bucket / WIDTH * WIDTH + WINDOW
}

pub(super) struct OpenFill {
    fill: Fill,
    key: Key,
    tags: u8,
    metadata: bool,
    expires: Option<u64>,
    sync: bool,
    seq: u64,
    /// The boot time from which it is too late.
    over_ms: u64,
}

impl OpenFill {
    fn commit(self, bytes: &[u8], memory: Option<u16>) -> Result<Outcome, Error> {
        let Some(memory) = memory else { return self.fill.commit(bytes) };
        let mut writer = self.fill.memory_limit_bytes(memory.into()).into_writer()?;
        for piece in bytes.chunks(700) {
            writer
                .write_all(piece)
                .map_err(|e| e.downcast::<Error>().expect("an error of ours"))?;
        }
        writer.commit()
    }
}

pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) spaces: Vec<Keyspace>,
    pub(super) log: Log,
    pub(super) fills: Vec<OpenFill>,
    pub(super) appender: Option<Appender>,
    /// The rows it was given since it was last flushed, with their deadlines.
    taken: Vec<(u32, u64)>,
}

/// A store under test, open or not.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) model: Model,
    pub(crate) disk: MemoryDisk,
    /// The disk that fails, and the call from which errors are to be expected.
    faults: Option<(FaultyDisk, u64)>,
    pub(crate) clock: ManualClock,
    opened: Option<Opened>,
    pub(super) held: Vec<(Value, u32)>,
    last_now: u64,
    pub(super) limited: bool,
}

impl World {
    /// A store that is still to be made.
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(START));
        Self::of(config, Model::new(), MemoryDisk::new(seed), clock)
    }

    /// A store found on a disk.
    pub(crate) fn of(config: Config, model: Model, disk: MemoryDisk, clock: ManualClock) -> Self {
        let (faults, opened, held) = (None, None, Vec::new());
        Self { config, model, disk, faults, clock, opened, held, last_now: 0, limited: false }
    }

    /// Works through a disk that fails; errors are expected from this call on.
    pub(crate) fn fail_from(&mut self, disk: FaultyDisk, call: u64) {
        self.faults = Some((disk, call));
    }

    /// True if a call has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.faults.as_ref().is_some_and(|(disk, call)| disk.calls() >= *call)
    }

    /// Nothing fails from now on.
    pub(crate) fn mend(&mut self) {
        self.faults = None;
    }

    pub(super) fn opened(&self) -> &Opened {
        self.opened.as_ref().expect("the store is open")
    }

    fn opened_mut(&mut self) -> &mut Opened {
        self.opened.as_mut().expect("the store is open")
    }

    pub(crate) fn store(&self) -> &Store {
        &self.opened().store
    }

    /// Opens the store and settles what was in doubt.
    pub(crate) fn open(&mut self) -> Result<(), Error> {
        self.start()?;
        self.check_erased();
        self.model.misread |= self.has_failed();
        if !self.has_failed() {
            self.check_reports();
        }
        self.settle();
        Ok(())
    }

    /// Opens the store, and no more.
    #[allow(unsafe_code)]
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let builder = Store::builder("/data")
            .clock(self.clock.clone())
            .background(false)
            .tombstone_log_bytes(4096)
            .ledger_file_bytes(4096)
            .ledger_retention(Duration::from_secs(24 * 3600))
            .verify_every_read(self.config.verify_every_read);
        let builder = match &self.faults {
            Some((disk, _)) => builder.disk(disk.clone()),
            None => builder.disk(self.disk.clone()),
        };
        let store = if self.config.mapped {
            // SAFETY: the files are in the memory of this test alone.
            unsafe { builder.open_mapped() }?
        } else {
            builder.open()?
        };
        let window = Retention::window(Duration::from_millis(WINDOW));
        let mut spaces = Vec::new();
        for space in 0..KEYSPACES {
            let mut options = KeyspaceOptions::new(window)
                .segment_bytes(self.config.segment_bytes)
                .erase_within(ERASE_WITHIN);
            if let Some(capacity) = self.config.capacity.filter(|_| space == 0) {
                options = options.capacity_bytes(capacity);
            }
            spaces.push(store.keyspace(&space_name(space), options)?);
        }
        let options = LogOptions::new(window).segment_bytes(4096).erase_within(ERASE_WITHIN);
        let log = store.log("rows", options)?;
        self.last_now = store.now().as_millis();
        let (fills, appender, taken) = (Vec::new(), None, Vec::new());
        self.opened = Some(Opened { store, spaces, log, fills, appender, taken });
        Ok(())
    }

    fn check_reports(&self) {
        let report = self.store().recovery_report();
        let is_excused = |path: &Path| self.model.misread && path.starts_with("/data/ledger");
        assert!(report.corrupt_records.iter().all(|path| is_excused(path)), "{report:?}");
        assert!(report.unknown_versions.is_empty(), "{report:?}");
        let problems = self.store().verify();
        if !self.has_failed() {
            let problems = problems.unwrap().problems;
            assert!(problems.iter().all(|problem| is_excused(&problem.path)), "{problems:?}");
        }
        let Some(ledger) = self.good(self.store().ledger(), "read the ledger") else { return };
        let is_found = |kind| matches!(kind, LedgerKind::BucketBorn { found: true });
        let found = ledger.iter().find(|entry| is_found(entry.kind) && !self.model.misread);
        assert_eq!(found, None, "a bucket is there that never was, or had left");
    }

    fn settle(&mut self) {
        self.probe();
        for space in 0..KEYSPACES {
            let moment = self.moment(space);
            for key in 0..KEYS {
                let Some(answer) = self.read(Key { space, key }) else { continue };
                let durable = !self.has_failed();
                self.model.space(space).settle(key, answer, moment, durable);
            }
        }
        let moment = self.moment(KEYSPACES);
        if let Some(rows) = self.scan_all() {
            let durable = !self.has_failed();
            self.model.rows.settle(&rows, moment, durable);
        }
        self.read_all();
    }

    /// What answers of a keyspace, or of the log, are judged by now.
    pub(super) fn moment(&self, space: u8) -> Moment {
        let stats = self.store().stats();
        let lossy = self.model.was_limited || (space == 0 && self.config.capacity.is_some());
        Moment { now: stats.now.as_millis(), suspect: stats.suspect_ms > 0, lossy }
    }

    /// Takes a result that must be good unless a call of the disk has failed.
    pub(super) fn good<T>(&self, result: Result<T, Error>, what: &str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Closed) => panic!("{what}: the store is open"),
            Err(_) if self.has_failed() => None,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    /// Takes the result of a write, which may also be refused for want of space.
    pub(super) fn written<T>(&self, result: Result<T, Error>, space: u8, what: &str) -> Option<T> {
        match result {
            Err(Error::NoSpace { .. }) if self.limited => None,
            Err(Error::CapacityExceeded { .. })
                if space == 0 && self.config.capacity.is_some() && !self.held.is_empty() =>
            {
                None
            }
            result => self.good(result, what),
        }
    }

    /// The number before that of the next write. Numbers never come twice.
    pub(super) fn probe(&mut self) -> u64 {
        let seq = self.opened().spaces[0].fill("probe").sequence();
        assert!(seq > self.model.highest_seq, "{seq} is not above {}", self.model.highest_seq);
        self.model.highest_seq = seq;
        seq
    }

    /// The version a key gives, stale or not, checked; `None` if the disk refused.
    fn read(&self, key: Key) -> Option<Option<u32>> {
        let space = &self.opened().spaces[usize::from(key.space)];
        let name = key_bytes(key.key);
        let value = self.good(space.get(&name), "get")?;
        let id = value.as_ref().map(|value| self.identify(key, value));
        let model = &self.model.spaces[usize::from(key.space)];
        let answer = self.look_up(key)?;
        let fresh = matches!(answer, Answer::Fresh(_)).then(|| answer.id()).flatten();
        assert_eq!(fresh, id, "get and lookup of {key:?} do not agree");
        if let Some(stat) = self.good(space.stat(&name), "stat") {
            assert_eq!(stat.is_some(), id.is_some(), "get and stat of {key:?} do not agree");
            if let (Some(stat), Some(id)) = (stat, id) {
                let version = model.version(key.key, id).expect("checked");
                assert!(stat.sequence() >= version.seq, "{stat:?} of {version:?}");
                assert!(stat.sequence() <= self.model.highest_seq.max(version.seq) + 64);
                let gone_at = version.deadline.min(version.expires.unwrap_or(u64::MAX));
                assert_eq!(stat.gone_at().as_millis(), gone_at, "{version:?}");
            }
        }
        Some(answer.id())
    }

    /// What a look-up gives, checked; `None` if the disk refused.
    pub(super) fn look_up(&self, key: Key) -> Option<Answer> {
        let space = &self.opened().spaces[usize::from(key.space)];
        let moment = self.moment(key.space);
        let answer = match self.good(space.lookup(key_bytes(key.key)), "look up")? {
            Lookup::Fresh(value) => Answer::Fresh(self.identify(key, &value)),
            Lookup::Stale(value) => Answer::Stale(self.identify(key, &value)),
            Lookup::Absent => Answer::Absent,
        };
        self.model.spaces[usize::from(key.space)].check(key.key, answer, moment);
        Some(answer)
    }

    /// Which version a value is; fails if one byte of it is wrong.
    fn identify(&self, key: Key, found: &Value) -> u32 {
        let id = Trace::read(found).expect("a value carries its number").number;
        let written = self.model.written.get(id as usize).expect("a value somebody wrote");
        assert_eq!(written.key, key, "the value of another key");
        assert_eq!(found.as_ref(), value(id, key, written.len), "wrong bytes");
        let wanted = if written.metadata { metadata(id) } else { Vec::new() };
        assert_eq!(found.metadata(), wanted, "wrong metadata");
        id
    }

    /// Reads everything in every way there is.
    pub(crate) fn read_all(&self) {
        for space in 0..KEYSPACES {
            let keyspace = &self.opened().spaces[usize::from(space)];
            let mut seen = BTreeMap::new();
            for entry in keyspace {
                let Some(entry) = self.good(entry, "iterate") else { return };
                let key = String::from_utf8(entry.key().to_vec()).unwrap();
                let before = seen.insert(key, entry.stat().sequence());
                assert_eq!(before, None, "iteration gives a key twice");
            }
            let mut tagged = vec![Vec::new(); usize::from(TAGS)];
            for key in 0..KEYS {
                let found = self.read(Key { space, key }).flatten();
                let name = key_bytes(key);
                let Some(stat) = self.good(keyspace.stat(&name), "stat") else { return };
                let stat = stat.map(|stat| stat.sequence());
                assert_eq!(seen.remove(&name), stat, "iteration and stat of {name} do not agree");
                let model = &self.model.spaces[usize::from(space)];
                let version = found.filter(|_| stat.is_some());
                let version = version.and_then(|id| model.version(key, id));
                for tag in bits(version.map_or(0, |version| version.tags)) {
                    tagged[usize::from(tag)].push((stat, name.clone()));
                }
            }
            if !self.check_tagged(keyspace, tagged) {
                return;
            }
            assert!(seen.is_empty(), "iteration gives keys nobody wrote: {seen:?}");
        }
        self.check_rows((0, u64::MAX));
        for (id, row) in self.model.rows.placed() {
            let Some(found) = self.good(self.opened().log.get(id), "get row") else { return };
            self.model.rows.check_get(row, found.as_ref(), self.moment(KEYSPACES));
        }
    }

    /// Fails unless these are the records that are listed for each tag; false if the disk refused.
    fn check_tagged(&self, keyspace: &Keyspace, tagged: Vec<Vec<(Option<u64>, String)>>) -> bool {
        for (tag, mut wanted) in (0..TAGS).zip(tagged) {
            let name = tag_bytes(tag);
            let Some(listed) = self.good(keyspace.list_tag(&name), "list a tag") else {
                return false;
            };
            let Some(count) = self.good(keyspace.count_tag(&name), "count a tag") else {
                return false;
            };
            assert_eq!(count, listed.len() as u64, "count and list of {name} do not agree");
            let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
            let listed: Vec<_> =
                listed.iter().map(|e| (Some(e.stat().sequence()), text(e.key()))).collect();
            wanted.sort();
            assert_eq!(listed, wanted, "what is listed for {name}");
        }
        true
    }

    pub(super) fn scan_all(&self) -> Option<Vec<LogRow>> {
        let scan = self.good(self.opened().log.scan(..), "scan")?;
        let rows: Result<Vec<LogRow>, Error> = scan.collect();
        self.good(rows, "scan")
    }

    fn check_rows(&self, (first, last): (u64, u64)) {
        let range = Timestamp::from_millis(first)..=Timestamp::from_millis(last);
        let Some(scan) = self.good(self.opened().log.scan(range), "scan") else { return };
        let rows: Result<Vec<LogRow>, Error> = scan.collect();
        let Some(rows) = self.good(rows, "scan") else { return };
        self.model.rows.check_scan(&rows, (first, last), self.moment(KEYSPACES));
    }

    /// Does one step and checks what comes of it.
    pub(crate) fn apply(&mut self, op: &Op) {
        if std::env::var_os("EBBTIDE_TRACE").is_some() {
            let calls = self.faults.as_ref().map(|(disk, _)| disk.calls());
            eprintln!("{op:?}, after {calls:?} calls");
        }
        match op {
            Op::Insert(key, len) => self.insert(*key, *len),
            Op::Batch(space, items) => self.batch(*space, items),
            Op::Begin { .. } => self.begin(op),
            Op::Commit(which, len) => self.commit(*which, *len, None),
            Op::Stream(which, len, memory) => self.commit(*which, *len, Some(*memory)),
            Op::Abandon(which) => {
                let fills = &mut self.opened_mut().fills;
                if !fills.is_empty() {
                    let at = usize::from(*which) % fills.len();
                    drop(fills.remove(at));
                }
            }
            Op::InvalidateKey(key) => {
                self.forget(Target::Keys(key.space, 1 << key.key), How::Hide);
            }
            Op::InvalidateTag(space, tag) => {
                self.forget(Target::Tags(*space, 1 << tag), How::Hide);
            }
            Op::InvalidateAll(space) => self.forget(Target::All(*space), How::Hide),
            Op::Forget(target, how) => self.forget(*target, *how),
            Op::Read(key) => {
                self.read(*key);
            }
            Op::ReadAll => self.read_all(),
            Op::Hold(key) => self.hold(*key),
            Op::LetGo => {
                self.check_held();
                self.held.clear();
            }
            Op::Sync => {
                if self.good(self.store().sync(), "sync").is_some() {
                    self.model.synced();
                }
            }
            Op::Maintain => self.maintain(),
            Op::Scrub => self.scrub(),
            Op::ConfirmClock => {
                self.good(self.store().confirm_clock(), "confirm the clock");
            }
            Op::Append { ip, minutes_ago, len, tags } => {
                self.append(*ip, *minutes_ago, *len, *tags);
            }
            Op::AppendMany(ip, count, tags) => self.append_many(*ip, *count, *tags),
            Op::Buffer(ip, count, tags) => self.buffer(*ip, *count, *tags),
            Op::Flush => self.flush(),
            Op::Scan(ago, span) => {
                let first = self.now().saturating_sub(u64::from(*ago) * MINUTE);
                self.check_rows((first, first + u64::from(*span) * MINUTE));
            }
            outside => self.apply_outside(outside),
        }
        self.check_now();
    }

    /// Does a step that is not a call of the store, or that ends it.
    fn apply_outside(&mut self, op: &Op) {
        match op {
            Op::Advance(seconds) => self.clock.advance(Duration::from_secs((*seconds).into())),
            Op::SetWall(minutes) => {
                let by = Duration::from_millis(u64::from(minutes.unsigned_abs()) * MINUTE);
                let (wall, before) = (self.clock.wall(), self.now());
                self.clock.set_wall(if *minutes < 0 { wall - by } else { wall + by });
                assert!(self.now() <= before + HOUR, "more was believed than the budget allows");
            }
            Op::Reopen => self.reopen(None),
            Op::Reboot(minutes) => self.reopen(Some(*minutes)),
            Op::SegmentKib(kib) => {
                self.config.segment_bytes = u64::from(*kib) * 1024;
                self.reopen(None);
            }
            Op::Kill => {
                self.kill();
                self.open().expect("opens after a kill");
            }
            Op::Crash(seed, minutes) => {
                self.crash(&mut Random::new(*seed));
                self.clock.reboot(Duration::from_millis(u64::from(*minutes) * MINUTE));
                self.open().expect("opens after a power cut");
            }
            Op::LimitDisk(blocks) => {
                self.limited = true;
                self.model.was_limited = true;
                let limit = self.disk.used_bytes() + u64::from(*blocks) * 4096;
                self.disk.set_capacity_bytes(Some(limit));
            }
            Op::LiftLimit => {
                self.limited = false;
                self.disk.set_capacity_bytes(None);
            }
            op => unreachable!("{op:?} is done elsewhere"),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.store().now().as_millis()
    }

    /// While a store is open, its time never goes back.
    fn check_now(&mut self) {
        if self.opened.is_some() {
            let now = self.now();
            assert!(now >= self.last_now, "time went back from {} to {now}", self.last_now);
            self.last_now = now;
            self.model.denials.pass(now);
        }
    }

    fn version(&self, id: u32, seq: u64) -> Version {
        let deadline = deadline(self.now());
        Version { id, seq, tags: 0, deadline, expires: None, durable: false, acked: true }
    }

    /// Takes the result of a write that may be denied; `None` if it was.
    fn admitted<T>(&self, result: Result<T, Error>, denied: Is) -> Option<Result<T, Error>> {
        match result {
            Err(Error::Denied { until }) => {
                assert!(denied != Is::No, "denied until {until} for no reason");
                assert!(until.as_millis() > self.now(), "denied until {until}, which has passed");
                None
            }
            Ok(_) => {
                assert!(denied != Is::Yes, "what is denied was taken");
                Some(result)
            }
            Err(_) => Some(result),
        }
    }

    fn insert(&mut self, key: Key, len: u16) {
        let seq = self.probe() + 1;
        let (id, bytes) = self.model.write(key, len, false);
        let version = self.version(id, seq);
        let space = &self.opened().spaces[usize::from(key.space)];
        let result = space.insert(key_bytes(key.key), bytes);
        let denied = self.model.denials.check(key, 0, self.now());
        let Some(result) = self.admitted(result, denied) else { return };
        match self.written(result, key.space, "insert") {
            Some(()) => self.model.space(key.space).stored(key.key, version),
            None => self.model.failed(key, version, false),
        }
    }

    fn batch(&mut self, space: u8, items: &[(u8, u16)]) {
        let first = self.probe() + 1;
        let mut pairs = Vec::new();
        let mut versions = Vec::new();
        let mut denied = Is::No;
        for ((key, len), seq) in items.iter().zip(first..) {
            let key = Key { space, key: *key };
            let (id, bytes) = self.model.write(key, *len, false);
            pairs.push((key_bytes(key.key), bytes));
            versions.push((key, self.version(id, seq)));
            denied = denied.max(self.model.denials.check(key, 0, self.now()));
        }
        let result = self.opened().spaces[usize::from(space)].insert_batch(pairs);
        let Some(result) = self.admitted(result, denied) else { return };
        let stored = self.written(result, space, "insert a batch").is_some();
        for (key, version) in versions {
            if stored {
                self.model.space(space).stored(key.key, version);
            } else {
                self.model.failed(key, version, true);
            }
        }
    }

    fn begin(&mut self, op: &Op) {
        let Op::Begin { key, tags, metadata, expires, sync, limit } = *op else { return };
        let expires = expires.map(|minutes| self.now() + u64::from(minutes) * MINUTE);
        self.probe();
        let mut fill = self.opened().spaces[usize::from(key.space)].fill(key_bytes(key.key));
        let limit = Duration::from_millis(u64::from(limit.max(1)) * MINUTE);
        fill = fill.time_limit(limit);
        let seq = fill.sequence();
        assert!(seq > self.model.highest_seq);
        self.model.highest_seq = seq;
        for tag in bits(tags) {
            fill = fill.tag(tag_bytes(tag));
        }
        if let Some(expires) = expires {
            fill = fill.expires_at(Timestamp::from_millis(expires));
        }
        if sync {
            fill = fill.durability(Durability::Sync);
        }
        let over_ms = self.clock.boot_ms() + limit.as_millis() as u64;
        let fill = OpenFill { fill, key, tags, metadata, expires, sync, seq, over_ms };
        self.opened_mut().fills.push(fill);
    }

    fn commit(&mut self, which: u8, len: u16, memory: Option<u16>) {
        if self.opened().fills.is_empty() {
            return;
        }
        let at = usize::from(which) % self.opened().fills.len();
        let mut open = self.opened_mut().fills.remove(at);
        let (key, seq, tags, sync) = (open.key, open.seq, open.tags, open.sync);
        let (id, bytes) = self.model.write(key, len, open.metadata);
        if open.metadata {
            open.fill = open.fill.metadata(metadata(id));
        }
        let version = Version { tags, expires: open.expires, ..self.version(id, seq) };
        let superseded = self.model.space(key.space).supersedes(key.key, tags, seq);
        let denied = self.model.denials.check(key, tags, self.now());
        let is_over = self.clock.boot_ms() >= open.over_ms;
        let spills = memory.is_some_and(|memory| bytes.len() > usize::from(memory));
        let result = open.commit(&bytes, memory);
        if let Err(Error::FillTimedOut { .. }) = result {
            assert!(is_over, "{version:?} of {key:?} was in time");
            return;
        }
        assert!(!is_over || result.is_err(), "{version:?} of {key:?} was over");
        let Some(result) = self.admitted(result, denied) else { return };
        let stats = self.store().stats();
        let something_left = stats.buckets_dropped + stats.segments_evicted > 0;
        match self.written(result, key.space, "commit a fill") {
            Some(Outcome::Stored) => {
                assert_ne!(superseded, Some(true), "{version:?} of {key:?} came too late");
                self.model.space(key.space).stored(key.key, version);
                if sync || spills {
                    self.model.space(key.space).version_synced(key.key, id);
                }
            }
            Some(Outcome::Superseded) => {
                let wrong = superseded == Some(false) && !something_left && !self.has_failed();
                assert!(!wrong, "{version:?} of {key:?} was in time");
            }
            // A part for which there was no room is gone.
            None if spills && !self.has_failed() => {}
            None if superseded == Some(true) => self.model.written[id as usize].failed = true,
            None => self.model.failed(key, version, !spills || sync),
        }
    }

    fn hold(&mut self, key: Key) {
        let space = &self.opened().spaces[usize::from(key.space)];
        if let Some(Some(value)) = self.good(space.get(key_bytes(key.key)), "get") {
            let id = self.identify(key, &value);
            self.held.push((value, id));
        }
    }

    fn check_held(&self) {
        for (value, id) in &self.held {
            let key = self.model.written[*id as usize].key;
            assert_eq!(self.identify(key, value), *id, "a held value changed");
        }
    }

    /// The segments in buckets.
    fn segments(&self) -> BTreeSet<PathBuf> {
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|e| e == "seg");
        let in_trash = |path: &PathBuf| path.starts_with("/data/trash");
        let files = self.disk.all_files().into_iter();
        files.filter(|path| is_segment(path) && !in_trash(path)).collect()
    }

    /// Fails if a segment is back in its bucket that had left for certain.
    fn check_left(&self) {
        let there = self.segments();
        let back = there.intersection(&self.model.left).next();
        assert_eq!(back, None, "it had left, and is back");
    }

    fn maintain(&mut self) {
        let before = self.segments();
        if self.good(self.store().maintain(), "maintain").is_some() {
            if !self.has_failed() {
                let after = self.segments();
                self.model.left.extend(before.difference(&after).cloned());
            }
            let stats = self.store().stats();
            // A store that writes no more does the rest of the upkeep all the same.
            if stats.poisoned.is_none() {
                self.model.synced();
            }
            let first = &stats.keyspaces[0];
            if let Some(capacity) = first.capacity_bytes.filter(|_| self.held.is_empty()) {
                assert!(first.used_bytes <= capacity, "{first:?}");
            }
        }
    }

    fn append(&mut self, ip: u8, minutes_ago: i16, len: u16, tags: u8) {
        self.probe();
        let now = self.now();
        let ago = u64::from(minutes_ago.unsigned_abs()) * MINUTE;
        let at = if minutes_ago < 0 { now + ago } else { now - ago };
        let expired = deadline(at.min(now)) <= now;
        let Some(subject) = self.subject(ip, at, expired) else { return };
        let number = self.model.next_row;
        self.model.next_row += 1;
        let bucket = subject.map_or(at.min(now), |subject| subject.period().as_millis());
        let model = RowModel::new(number, at.min(now), subject, deadline(bucket));
        let model = RowModel { len, tags, ..model };
        let row = tagged_row(subject, tags);
        let row = row.at(Timestamp::from_millis(at)).payload(payload(number, len));
        match self.opened().log.append(row) {
            Err(Error::Expired { .. }) => assert!(expired, "{model:?} was not too late"),
            result => match self.written(result, KEYSPACES, "append") {
                Some(id) => {
                    assert!(!expired, "{model:?} was too late");
                    self.model.rows.appended(model, Some(id));
                }
                None => self.model.rows.failed(model),
            },
        }
    }

    /// The pseudonym of an address, `Some(None)` for nobody; `None` if there is none to be had.
    fn subject(&mut self, ip: u8, at: u64, expired: bool) -> Option<Option<ebbtide::Pseudonym>> {
        if ip == 0 {
            return Some(None);
        }
        let address = IpAddr::V4(Ipv4Addr::new(198, 18, 0, ip));
        let result = self.opened().log.pseudonym(address, Timestamp::from_millis(at));
        if let Err(Error::Expired { .. }) = result {
            assert!(expired, "a pseudonym for {at} was not too late");
            return None;
        }
        let pseudonym = self.written(result, KEYSPACES, "pseudonym")?;
        assert!(!expired, "a pseudonym for {at} was too late");
        let gone = deadline(pseudonym.period().as_millis());
        self.model.rows.pseudonym(ip, pseudonym, gone);
        Some(Some(pseudonym))
    }

    fn append_many(&mut self, ip: u8, count: u8, tags: u8) {
        self.probe();
        let now = self.now();
        let Some(subject) = self.subject(ip, now, false) else { return };
        let mut appender = self.opened().log.appender();
        let mut models = Vec::new();
        let mut flushed = true;
        for _ in 0..count {
            let (model, row) = self.row_of_now(subject, tags);
            models.push(model);
            flushed &= self.written(appender.append(row), KEYSPACES, "append").is_some();
        }
        flushed &= self.written(appender.flush(), KEYSPACES, "flush").is_some();
        drop(appender);
        for model in models {
            if flushed {
                self.model.rows.appended(model, None);
            } else {
                self.model.rows.failed(model);
            }
        }
    }

    fn row_of_now(&mut self, subject: Option<ebbtide::Pseudonym>, tags: u8) -> (RowModel, Row) {
        let (now, number) = (self.now(), self.model.next_row);
        self.model.next_row += 1;
        let model = RowModel::new(number, now, subject, deadline(now));
        (
            RowModel { len: 20, tags, ..model },
            tagged_row(subject, tags).payload(payload(number, 20)),
        )
    }

    fn buffer(&mut self, ip: u8, count: u8, tags: u8) {
        self.probe();
        let Some(subject) = self.subject(ip, self.now(), false) else { return };
        let log = self.opened().log.clone();
        let mut appender = self.opened_mut().appender.take().unwrap_or_else(|| log.appender());
        for _ in 0..count {
            let (model, row) = self.row_of_now(subject, tags);
            let (number, deadline) = (model.number, model.deadline);
            self.model.rows.failed(model);
            match appender.append(row) {
                // Of rows that were taken before.
                Err(Error::Expired { .. }) if !self.opened().taken.is_empty() => {}
                result => {
                    if self.written(result, KEYSPACES, "append").is_some() {
                        self.opened_mut().taken.push((number, deadline));
                    }
                }
            }
        }
        self.opened_mut().appender = Some(appender);
    }

    fn flush(&mut self) {
        let Some(mut appender) = self.opened_mut().appender.take() else { return };
        self.probe();
        let result = loop {
            match appender.flush() {
                // The bucket of these rows is gone, and they with it.
                Err(Error::Expired { .. }) => {}
                result => break result,
            }
        };
        if self.written(result, KEYSPACES, "flush").is_some() {
            assert_eq!(appender.buffered(), 0);
            let now = self.now();
            for (number, deadline) in std::mem::take(&mut self.opened_mut().taken) {
                if now < deadline {
                    self.model.rows.flushed(number);
                }
            }
        }
        self.opened_mut().appender = Some(appender);
    }

    /// Closes the store and leaves it so.
    pub(crate) fn close(&mut self) {
        self.model.highest_seq = self.model.highest_seq.max(self.highest_given());
        self.check_held();
        self.held.clear();
        let opened = self.opened.take().expect("the store is open");
        opened.store.close().expect("closes");
        self.model.synced();
    }

    /// From here on anything may be missing.
    pub(super) fn expect_losses(&mut self) {
        self.model.was_limited = true;
    }

    fn reopen(&mut self, off_minutes: Option<u16>) {
        let before = self.now();
        let opened = self.opened.take().expect("the store is open");
        // On a full disk the ledger may lack what the next open has to make up for.
        let closed = self.written(opened.store.close(), KEYSPACES, "close").is_some();
        // They stay valid over the close; the next opening writes to the files they lie in.
        self.check_held();
        self.held.clear();
        if let Some(stale) = opened.fills.into_iter().next() {
            let late = stale.fill.commit("late");
            assert!(matches!(late, Err(Error::Closed)), "{late:?}");
        }
        if closed {
            self.model.synced();
        }
        if let Some(minutes) = off_minutes {
            self.clock.reboot(Duration::from_millis(u64::from(minutes) * MINUTE));
        }
        self.model.killed();
        match self.open() {
            Ok(()) => assert!(!closed || self.now() >= before, "time went back over a close"),
            Err(_) if self.has_failed() => {}
            Err(error) => panic!("opens again: {error}"),
        }
    }

    /// Ends the process.
    pub(crate) fn kill(&mut self) {
        self.model.highest_seq = self.model.highest_seq.max(self.highest_given());
        self.check_held();
        self.held.clear();
        self.disk = self.disk.kill();
        self.opened = None;
        self.model.killed();
    }

    /// Cuts the power.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        self.model.highest_seq = self.model.highest_seq.max(self.highest_given());
        self.check_held();
        self.held.clear();
        self.disk = self.disk.crash(&mut random.choices());
        self.opened = None;
        self.model.crashed();
        self.check_left();
    }

    fn highest_given(&self) -> u64 {
        self.opened.as_ref().map_or(0, |opened| opened.spaces[0].fill("probe").sequence())
    }

    /// The state of the disk as if the power were cut now, while this goes on.
    pub(crate) fn cut(&self, random: &mut Random) -> Self {
        let mut choices = random.choices();
        self.cut_by(&mut choices, random.once_in(2))
    }

    /// The same with what is left chosen by these answers.
    pub(crate) fn cut_by(&self, choices: &mut dyn FnMut(u32) -> u32, mapped: bool) -> Self {
        let mut model = self.model.clone();
        model.crashed();
        model.highest_seq = model.highest_seq.max(self.highest_given());
        let disk = self.disk.fork().crash(&mut |options: u32| choices(options));
        let config = Config { mapped, ..self.config };
        let clock = ManualClock::new(self.clock.wall());
        clock.reboot(Duration::ZERO);
        let cut = Self { limited: self.limited, ..Self::of(config, model, disk, clock) };
        cut.check_left();
        cut
    }

    /// The state of the disk as if the process were killed now, while this goes on.
    pub(crate) fn killed_copy(&self) -> Self {
        let mut model = self.model.clone();
        model.killed();
        model.highest_seq = model.highest_seq.max(self.highest_given());
        let clock = ManualClock::new(self.clock.wall());
        clock.reboot(Duration::ZERO);
        let copy = Self::of(self.config, model, self.disk.fork(), clock);
        Self { limited: self.limited, ..copy }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// The end of a case: once everything is past its time, almost nothing is left on the disk.
    pub(crate) fn finish(mut self) {
        self.apply(&Op::LiftLimit);
        self.apply(&Op::LetGo);
        self.opened_mut().fills.clear();
        self.apply(&Op::Flush);
        self.apply(&Op::Maintain);
        self.apply(&Op::Scrub);
        self.read_all();
        // Far enough to make up for what was forgotten or suspect.
        for _ in 0..2 {
            self.clock.advance(Duration::from_secs(400 * 86_400));
            self.apply(&Op::Maintain);
        }
        self.read_all();
        let files = self.disk.all_files();
        let has_segments = files.iter().any(|path| path.extension().is_some_and(|e| e == "seg"));
        assert!(!has_segments, "segments past their time are left: {files:?}");
        assert_eq!(self.store().stats().trash_items, 0);
        // The ledger is kept for longer.
        let ledger = files.iter().filter(|path| path.starts_with("/data/ledger")).count();
        let used = self.disk.used_bytes().saturating_sub(4096 * ledger as u64);
        assert!(used <= 80 * 1024, "{used} bytes: {files:?}");
        assert!(files.len() - ledger <= 10, "{files:?}");
        let found = find(&self.disk);
        assert!(found.in_place.is_empty(), "something is left: {found:?}");
        self.apply(&Op::Reopen);
    }
}

fn tagged_row(subject: Option<ebbtide::Pseudonym>, tags: u8) -> Row {
    let row = subject.map_or_else(Row::anonymous, Row::new);
    bits(tags).fold(row, |row, tag| row.tag(tag_bytes(tag)))
}

/// A disk that fails from a call on, over this one.
pub(crate) fn faulty(disk: &MemoryDisk) -> FaultyDisk {
    FaultyDisk::new(Arc::new(disk.clone()))
}
