//! A store on a disk in memory, driven by operations, every answer of which is compared with the
//! models.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ebbtide::disk::{FaultyDisk, MemoryDisk};
use ebbtide::{
    Appender, Clock, Error, Keyspace, KeyspaceOptions, LedgerKind, Log, LogOptions, ManualClock,
    Retention, Store, Timestamp, Value,
};

use super::due::Reset;
use super::fills::OpenFill;
use super::keys::Moment;
use super::model::{Model, space_name};
use super::ops::{How, KEYS, KEYSPACES, Key, Op, Target};
use super::random::Random;
use super::traces::find;
use super::{HOUR, MINUTE, START, WINDOW};

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
    /// What a failed sync has lost is seen no more once a file is to be forgotten, as on ext4.
    pub(crate) forgets: bool,
}

pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) spaces: Vec<Keyspace>,
    pub(super) log: Log,
    pub(super) fills: Vec<OpenFill>,
    pub(super) appender: Option<Appender>,
    /// The rows it was given since it was last flushed.
    pub(super) taken: Vec<u32>,
}

/// A store under test, open or not.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) model: Model,
    pub(crate) disk: MemoryDisk,
    /// The disk that fails, and the call from which errors are to be expected.
    pub(super) faults: Option<(FaultyDisk, u64)>,
    pub(crate) clock: ManualClock,
    pub(super) opened: Option<Opened>,
    pub(super) held: Vec<(Value, u32)>,
    pub(super) last_now: u64,
    pub(super) limited: bool,
}

impl World {
    /// A store that is still to be made.
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(START));
        let disk = MemoryDisk::new(seed);
        if config.forgets {
            disk.let_forget();
        }
        Self::of(config, Model::new(), disk, clock)
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

    /// True if some of what the process has written may be seen no more once it has ended.
    fn may_lose(&self) -> bool {
        self.config.forgets && self.has_failed()
    }

    /// Nothing fails from now on.
    pub(crate) fn mend(&mut self) {
        self.faults = None;
    }

    pub(super) fn opened(&self) -> &Opened {
        self.opened.as_ref().expect("the store is open")
    }

    pub(super) fn opened_mut(&mut self) -> &mut Opened {
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
        let reached = self.model.reached_ms;
        assert!(self.last_now >= reached, "time went back from {reached} to {}", self.last_now);
        let (fills, appender, taken) = (Vec::new(), None, Vec::new());
        self.opened = Some(Opened { store, spaces, log, fills, appender, taken });
        Ok(())
    }

    pub(super) fn check_reports(&self) {
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

    pub(super) fn settle(&mut self) {
        self.probe();
        let moments = self.moments();
        for (space, moment) in (0..KEYSPACES).zip(moments) {
            for key in 0..KEYS {
                let Some(answer) = self.read_at(Key { space, key }, moment) else { continue };
                let durable = !self.has_failed();
                self.model.space(space).settle(key, answer, moment, durable);
            }
        }
        let [.., moment] = moments;
        if let Some(rows) = self.scan_all() {
            let durable = !self.has_failed();
            self.model.rows.settle(&rows, moment, durable);
        }
        self.read_all();
        self.model.may_lose &= self.has_failed();
    }

    /// What answers of a keyspace, or of the log, are judged by now.
    pub(super) fn moment(&self, space: u8) -> Moment {
        self.moments()[usize::from(space)]
    }

    /// The same of every keyspace, and last of the log.
    pub(super) fn moments(&self) -> [Moment; KEYSPACES as usize + 1] {
        let stats = self.store().stats();
        std::array::from_fn(|space| {
            let lossy = self.model.was_limited || (space == 0 && self.config.capacity.is_some());
            Moment { now: stats.now.as_millis(), suspect: stats.suspect_ms > 0, lossy }
        })
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
            Op::ResetClock => self.reset_clock(),
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
    pub(super) fn apply_outside(&mut self, op: &Op) {
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
    pub(super) fn check_now(&mut self) {
        if self.opened.is_some() {
            let now = self.now();
            assert!(now >= self.last_now, "time went back from {} to {now}", self.last_now);
            self.last_now = now;
            self.model.denials.pass(now);
        }
    }

    /// The segments in buckets.
    pub(super) fn segments(&self) -> BTreeSet<PathBuf> {
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|e| e == "seg");
        let in_trash = |path: &PathBuf| path.starts_with("/data/trash");
        let files = self.disk.all_files().into_iter();
        files.filter(|path| is_segment(path) && !in_trash(path)).collect()
    }

    /// Fails if a segment is back in its bucket that had left for certain.
    pub(super) fn check_left(&self) {
        if self.model.left.is_empty() {
            return;
        }
        let there = self.segments();
        let back = there.intersection(&self.model.left).next();
        assert_eq!(back, None, "it had left, and is back");
    }

    fn reset_clock(&mut self) {
        let (from, to) = (self.now(), self.clock.wall().as_millis());
        let certain = self.good(self.store().reset_clock(), "reset the clock").is_some();
        let waiting = self.opened().taken.clone();
        self.model.clock_reset(Reset { from, to, certain }, &waiting);
        if certain {
            assert_eq!(self.now(), to);
        }
        self.last_now = self.now();
    }

    pub(super) fn maintain(&mut self) {
        let (before, now) = (self.segments(), self.now());
        if self.good(self.store().maintain(), "maintain").is_some() {
            self.model.reached_ms = self.model.reached_ms.max(now);
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
        self.model.reached_ms = 0;
    }

    pub(super) fn reopen(&mut self, off_minutes: Option<u16>) {
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
        self.model.killed(self.may_lose());
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
        self.model.killed(self.may_lose());
    }

    /// Cuts the power.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        self.crash_by(&mut random.choices());
    }

    /// The same with what is left chosen by these answers.
    pub(crate) fn crash_by(&mut self, choices: &mut dyn FnMut(u32) -> u32) {
        self.model.highest_seq = self.model.highest_seq.max(self.highest_given());
        self.check_held();
        self.held.clear();
        self.disk = self.disk.crash(&mut |options: u32| choices(options));
        self.opened = None;
        self.model.crashed();
        self.clock.reboot(Duration::ZERO);
        self.check_left();
    }

    pub(super) fn highest_given(&self) -> u64 {
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
        let clock = self.clock.fork();
        clock.reboot(Duration::ZERO);
        let cut = Self { limited: self.limited, ..Self::of(config, model, disk, clock) };
        cut.check_left();
        cut
    }

    /// The state of the disk as if the process were killed now, while this goes on.
    pub(crate) fn killed_copy(&self) -> Self {
        let mut model = self.model.clone();
        model.killed(self.may_lose());
        model.highest_seq = model.highest_seq.max(self.highest_given());
        let copy = Self::of(self.config, model, self.disk.fork(), self.clock.fork());
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

/// A disk that fails from a call on, over this one.
pub(crate) fn faulty(disk: &MemoryDisk) -> FaultyDisk {
    FaultyDisk::new(Arc::new(disk.clone()))
}
