//! Any sequence of operations, restarts, kills and power cuts, against a model of what may be read.
//!
//! Whatever happens: the store opens, a read gives bytes that were written under that key and were
//! not replaced durably since, an acknowledged invalidation stays, nothing outlives its deadline, and
//! what was synced is there.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Clock, Durability, Error, Fill, Keyspace, KeyspaceOptions, Log, LogOptions, Lookup,
    ManualClock, Outcome, Reason, Retention, RetentionVerdict, Row, RowId, Scope, Store, Timestamp,
};
use libfuzzer_sys::fuzz_target;

const KEYS: usize = 6;
const TAGS: usize = 3;
const SLACK: Duration = Duration::from_secs(2);
const MAX_OPERATIONS: usize = 80;
/// What a fill is given if it asks for nothing else.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The input, taken byte by byte; zeros once it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.next()) % bound
    }
}

/// How long something may be read.
#[derive(Clone, Copy)]
struct Life {
    gone_at: Timestamp,
    /// True if engine and wall clock agreed when it was written.
    in_step: bool,
}

struct Write {
    order: u64,
    value: Vec<u8>,
    tag: Option<usize>,
    life: Life,
    /// True if no power cut can take it.
    certain: bool,
}

struct Written {
    payload: Vec<u8>,
    life: Life,
    certain: bool,
    lost: bool,
}

#[derive(Default)]
struct Model {
    order: u64,
    writes: BTreeMap<usize, Vec<Write>>,
    key_floors: [u64; KEYS],
    tag_floors: [u64; TAGS],
    all_floor: u64,
    soft_key_floors: [u64; KEYS],
    soft_tag_floors: [u64; TAGS],
    denied_keys: [Timestamp; KEYS],
    denied_tags: [Timestamp; TAGS],
    rows: BTreeMap<RowId, Written>,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn floor(&self, key: usize, tag: Option<usize>) -> u64 {
        let tag_floor = tag.map_or(0, |tag| self.tag_floors[tag]);
        self.key_floors[key].max(tag_floor).max(self.all_floor)
    }

    fn soft_floor(&self, key: usize, tag: Option<usize>) -> u64 {
        self.soft_key_floors[key].max(tag.map_or(0, |tag| self.soft_tag_floors[tag]))
    }

    fn denied_until(&self, key: usize, tag: Option<usize>) -> Timestamp {
        let by_tag = tag.map_or(Timestamp::default(), |tag| self.denied_tags[tag]);
        self.denied_keys[key].max(by_tag)
    }

    fn all_certain(&mut self) {
        self.writes.values_mut().flatten().for_each(|write| write.certain = true);
        self.rows.values_mut().for_each(|row| row.certain = true);
    }
}

struct PendingFill {
    fill: Fill,
    key: usize,
    tag: usize,
    order: u64,
    begun: Timestamp,
}

struct World {
    disk: MemoryDisk,
    clock: ManualClock,
    store: Store,
    images: Keyspace,
    access: Log,
    mapped: bool,
    capacity: Option<u64>,
    fills: Vec<PendingFill>,
    model: Model,
}

#[allow(unsafe_code)]
fn open(disk: &MemoryDisk, clock: &ManualClock, mapped: bool, capacity: Option<u64>) -> World {
    let builder = Store::builder("/data")
        .disk(disk.clone())
        .clock(clock.clone())
        .background(false)
        .tombstone_log_bytes(4096)
        .ledger_file_bytes(4096);
    let store = if mapped {
        // SAFETY: the disk in memory belongs to this run alone.
        unsafe { builder.open_mapped() }
    } else {
        builder.open()
    };
    let store = store.expect("a store opens after any stop");
    let mut options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    if let Some(bytes) = capacity {
        options = options.capacity_bytes(bytes);
    }
    let images = store.keyspace("images", options).expect("keyspace");
    let options = LogOptions::new(Retention::hours(32)).segment_bytes(4096);
    let access = store.log("access", options).expect("log");
    World {
        disk: disk.clone(),
        clock: clock.clone(),
        store,
        images,
        access,
        mapped,
        capacity,
        fills: Vec::new(),
        model: Model::default(),
    }
}

impl World {
    fn life(&self, gone_at: Timestamp) -> Life {
        let in_step = self.store.now() + SLACK >= self.clock.wall();
        Life { gone_at, in_step }
    }

    fn must_be_gone(&self, life: Life) -> bool {
        let wall_says = life.in_step && self.clock.wall() >= life.gone_at + SLACK;
        wall_says || self.store.now() >= life.gone_at
    }

    fn may_be_gone(&self, life: Life) -> bool {
        self.clock.wall().max(self.store.now()) + SLACK >= life.gone_at
    }

    fn key(key: usize) -> Vec<u8> {
        format!("key {key}").into_bytes()
    }

    fn value(key: usize, order: u64, len: usize) -> Vec<u8> {
        let text = format!("{key} at {order};");
        text.bytes().cycle().take(text.len() + len).collect()
    }

    fn note_write(&mut self, key: usize, order: u64, value: Vec<u8>, tag: Option<usize>) {
        let stat = self.images.stat(Self::key(key)).expect("stat");
        let gone_at = stat.expect("what was just stored is there").gone_at();
        let life = self.life(gone_at);
        let writes = self.model.writes.entry(key).or_default();
        writes.push(Write { order, value, tag, life, certain: false });
        writes.sort_by_key(|write| write.order);
    }

    /// An insert or fill of these was not taken.
    fn refused(&self, error: &Error, keys: &[(usize, Option<usize>)], begun: Timestamp) {
        match error {
            Error::Denied { until } => {
                let known = keys.iter().any(|(key, tag)| {
                    let by_key = self.model.denied_keys[*key] == *until;
                    by_key || tag.is_some_and(|tag| self.model.denied_tags[tag] == *until)
                });
                assert!(known, "nobody denied it until {until}");
            }
            Error::FillTimedOut { .. } => assert!(self.clock.wall() >= begun + TIME_LIMIT),
            e => assert!(self.capacity.is_some(), "{e}"),
        }
    }

    fn must_be_denied(&self, key: usize, tag: Option<usize>) -> bool {
        self.store.now() < self.model.denied_until(key, tag)
    }

    fn insert(&mut self, input: &mut Input<'_>) {
        let (key, order) = (input.below(KEYS), self.model.next());
        let value = Self::value(key, order, 12 * input.below(256));
        match self.images.insert(Self::key(key), &value) {
            Ok(()) => {
                assert!(!self.must_be_denied(key, None), "key {key} is denied");
                self.note_write(key, order, value, None);
            }
            Err(e) => self.refused(&e, &[(key, None)], self.clock.wall()),
        }
    }

    fn insert_batch(&mut self, input: &mut Input<'_>) {
        let first = input.below(KEYS);
        let items: Vec<_> = (0..3)
            .map(|at| {
                let (key, order) = ((first + at) % KEYS, self.model.next());
                (key, order, Self::value(key, order, input.below(40)))
            })
            .collect();
        let pairs = items.iter().map(|(key, _, value)| (Self::key(*key), value.clone()));
        match self.images.insert_batch(pairs) {
            Ok(()) => {
                for (key, order, value) in items {
                    assert!(!self.must_be_denied(key, None), "key {key} is denied");
                    self.note_write(key, order, value, None);
                }
            }
            Err(e) => {
                let keys: Vec<_> = items.iter().map(|(key, ..)| (*key, None)).collect();
                self.refused(&e, &keys, self.clock.wall());
            }
        }
    }

    fn begin_fill(&mut self, input: &mut Input<'_>) {
        let (key, tag, order) = (input.below(KEYS), input.below(TAGS), self.model.next());
        let fill = self.images.fill(Self::key(key)).tag(format!("tag {tag}"));
        let begun = self.clock.wall();
        self.fills.push(PendingFill { fill, key, tag, order, begun });
    }

    fn commit_fill(&mut self, input: &mut Input<'_>) {
        if self.fills.is_empty() {
            return;
        }
        let PendingFill { mut fill, key, tag, order, begun } =
            self.fills.remove(input.below(self.fills.len()));
        let how = input.next();
        let mut sync = how & 1 == 1;
        if sync {
            fill = fill.durability(Durability::Sync);
        }
        let value = Self::value(key, order, input.below(200));
        let memory_limit = input.below(256);
        let newest = self.model.writes.get(&key).and_then(|writes| writes.last());
        let beaten = newest.is_some_and(|newest| newest.order > order)
            || self.model.floor(key, Some(tag)) > order
            || self.model.soft_floor(key, Some(tag)) > order;
        let outcome = if how & 2 == 0 {
            fill.commit(&value)
        } else {
            // What goes to a file of its own is durable once it is stored.
            sync |= value.len() > memory_limit;
            Self::stream(fill.memory_limit_bytes(memory_limit), &value)
        };
        match outcome {
            Ok(Outcome::Stored) => {
                assert!(!beaten, "a fill that lost was stored");
                assert!(!self.must_be_denied(key, Some(tag)), "key {key} or tag {tag} is denied");
                self.note_write(key, order, value, Some(tag));
                let stored = self.model.writes.get_mut(&key).and_then(|writes| writes.last_mut());
                stored.expect("just noted").certain = sync;
            }
            // The clock may run past the limit of a fill.
            Ok(Outcome::Superseded) | Err(Error::FillTimedOut { .. }) => {}
            Err(e) => self.refused(&e, &[(key, Some(tag))], begun),
        }
    }

    fn stream(fill: Fill, value: &[u8]) -> Result<Outcome, Error> {
        let mut writer = fill.into_writer()?;
        for part in value.chunks(70) {
            if writer.write_all(part).is_err() {
                break;
            }
        }
        writer.commit()
    }

    fn append_row(&mut self, input: &mut Input<'_>) {
        let order = self.model.next();
        let payload = Self::value(99, order, 8 * input.below(256));
        let mut row = Row::anonymous();
        if input.next() & 1 == 1 {
            let ip = std::net::Ipv4Addr::new(198, 18, 0, input.next());
            let visitor = self.access.pseudonym(ip.into(), self.store.now()).expect("pseudonym");
            row = Row::new(visitor);
        }
        let id = self.access.append(row.tag("page").payload(&payload)).expect("append");
        let stored = self.access.get(id).expect("get").expect("what was just appended is there");
        assert_eq!(stored.payload().as_ref(), payload);
        let life = self.life(stored.gone_at());
        let row = Written { payload, life, certain: false, lost: false };
        assert!(self.model.rows.insert(id, row).is_none(), "a place was used twice");
    }

    fn invalidate(&mut self, scope: u8, input: &mut Input<'_>) {
        let floor = self.model.next();
        match scope {
            0 => {
                let key = input.below(KEYS);
                self.images.invalidate(Self::key(key)).expect("invalidate");
                self.model.key_floors[key] = floor;
            }
            1 => {
                let tag = input.below(TAGS);
                self.images.invalidate_tag(format!("tag {tag}")).expect("invalidate_tag");
                self.model.tag_floors[tag] = floor;
            }
            2 => {
                self.images.invalidate_all().expect("invalidate_all");
                self.model.all_floor = floor;
            }
            3 => {
                let key = input.below(KEYS);
                self.images.invalidate_soft(Self::key(key)).expect("invalidate_soft");
                self.model.soft_key_floors[key] = floor;
            }
            4 => {
                let tag = input.below(TAGS);
                let receipt = self.images.invalidate_tag_soft(format!("tag {tag}"));
                receipt.expect("invalidate_tag_soft");
                self.model.soft_tag_floors[tag] = floor;
            }
            _ => {
                let tag = input.below(TAGS);
                let scope =
                    if input.next() & 1 == 0 { Scope::Keyspaces } else { Scope::Everything };
                let receipt = self.store.invalidate_tag(format!("tag {tag}"), scope);
                receipt.expect("invalidate_tag");
                self.model.tag_floors[tag] = floor;
            }
        }
    }

    fn erase(&mut self, scope: u8, input: &mut Input<'_>) {
        let floor = self.model.next();
        let until = self.store.now() + Duration::from_secs(60 * u64::from(input.next()));
        match scope {
            0 => {
                let key = input.below(KEYS);
                let erase = self.images.erase(Self::key(key)).deny_until(until);
                erase.commit().expect("erase");
                self.model.key_floors[key] = floor;
                self.model.denied_keys[key] = self.model.denied_keys[key].max(until);
            }
            1 => {
                let tag = input.below(TAGS);
                let name = format!("tag {tag}");
                let erase = match input.below(3) {
                    0 => self.images.erase_tag(name),
                    1 => self.store.erase_tag(name, Scope::Keyspaces),
                    _ => self.store.erase_tag(name, Scope::Everything),
                };
                erase.deny_until(until).commit().expect("erase_tag");
                self.model.tag_floors[tag] = floor;
                self.model.denied_tags[tag] = self.model.denied_tags[tag].max(until);
            }
            _ => {
                if until.as_millis() % 120_000 == 0 {
                    self.access.erase_tag("page").expect("erase_tag");
                } else {
                    let receipt = self.store.invalidate_tag("page", Scope::Everything);
                    receipt.expect("invalidate_tag");
                }
                self.model.rows.values_mut().for_each(|row| row.lost = true);
            }
        }
    }

    fn check_key(&mut self, key: usize) {
        let looked = self.images.lookup(Self::key(key)).expect("lookup");
        let (got, is_stale) = match looked {
            Lookup::Fresh(value) => (Some(value), false),
            Lookup::Stale(value) => (Some(value), true),
            Lookup::Absent => (None, false),
        };
        let fresh = self.images.get(Self::key(key)).expect("get");
        assert_eq!(fresh.is_some(), got.is_some() && !is_stale, "get and lookup agree");
        let reason = self.images.explain(Self::key(key)).expect("explain").reason;
        assert_eq!(reason == Reason::Visible, fresh.is_some(), "{reason:?}");
        let explained_stale = matches!(reason, Reason::StaleKey | Reason::StaleTag { .. });
        assert_eq!(explained_stale, is_stale, "{reason:?}");
        let no_writes = Vec::new();
        let writes = self.model.writes.get(&key).unwrap_or(&no_writes);
        let mut explained = got.is_none() && self.capacity.is_some();
        let mut all_may_be_lost = true;
        let mut given = None;
        for (at, write) in writes.iter().enumerate().rev() {
            let hidden = write.order <= self.model.floor(key, write.tag);
            match &got {
                Some(got) if got.as_ref() == write.value => {
                    assert!(!hidden, "key {key}: what was invalidated is back");
                    let stale = write.order <= self.model.soft_floor(key, write.tag);
                    assert_eq!(is_stale, stale, "key {key}: soft invalidations");
                    assert!(!self.must_be_gone(write.life), "key {key}: past its deadline");
                    explained = true;
                    given = Some(at);
                }
                Some(_) => {}
                None => explained |= hidden || self.may_be_gone(write.life),
            }
            if write.certain {
                all_may_be_lost = false;
                break;
            }
        }
        explained |= got.is_none() && all_may_be_lost;
        assert!(explained, "key {key}: read {got:?}");
        let kept = match given {
            Some(at) => at + 1,
            // What would have been read if it were there is lost, and must not come back.
            None => {
                let is_lost = |write: &&Write| {
                    let hidden = write.order <= self.model.floor(key, write.tag);
                    !write.certain && !hidden && !self.may_be_gone(write.life)
                };
                writes.len() - writes.iter().rev().take_while(is_lost).count()
            }
        };
        self.model.writes.entry(key).or_default().truncate(kept);
    }

    fn check_rows(&mut self) {
        let ids: Vec<RowId> = self.model.rows.keys().copied().collect();
        let mut visible = 0;
        for id in ids {
            let got = self.access.get(id).expect("get");
            let row = &self.model.rows[&id];
            match got {
                Some(got) => {
                    visible += 1;
                    assert_eq!(got.payload().as_ref(), row.payload, "row {id}");
                    assert!(!row.lost, "row {id} was gone and is back");
                    assert!(!self.must_be_gone(row.life), "row {id}: past its deadline");
                }
                None => {
                    let may_be_gone = self.may_be_gone(row.life);
                    assert!(may_be_gone || row.lost || !row.certain, "row {id} is missing");
                    self.model.rows.get_mut(&id).expect("there").lost = true;
                }
            }
        }
        let scanned = self.access.scan(..).expect("scan").filter(|row| row.is_ok()).count();
        assert_eq!(scanned, visible, "the scan and the single reads agree");
    }

    /// The listing of a tag agrees with single reads.
    fn check_tag(&self, tag: usize) {
        let listed = self.images.list_tag(format!("tag {tag}")).expect("list_tag");
        let listed: Vec<_> = listed.iter().map(|entry| entry.key().to_vec()).collect();
        let carries = |key: &usize| {
            let Some(value) = self.images.get(Self::key(*key)).expect("get") else { return false };
            let writes = self.model.writes.get(key).into_iter().flatten();
            let mut known = writes.filter(|write| write.value == value.as_ref());
            known.any(|write| write.tag == Some(tag))
        };
        let expected: BTreeSet<_> = (0..KEYS).filter(carries).map(Self::key).collect();
        assert_eq!(listed.len(), expected.len(), "tag {tag}: nothing is listed twice");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected, "tag {tag}");
    }

    fn check_what_is_known(&self) {
        let ledger = self.store.verify_ledger().expect("verify_ledger");
        assert!(ledger.problems.is_empty(), "{:?}", ledger.problems);
        let proof = self.store.prove_retention(..).expect("prove_retention");
        assert_ne!(proof.verdict, RetentionVerdict::Broken);
        self.store.residue().expect("residue");
    }

    fn check(&mut self) {
        (0..KEYS).for_each(|key| self.check_key(key));
        (0..TAGS).for_each(|tag| self.check_tag(tag));
        self.check_rows();
        self.check_what_is_known();
        assert!(self.store.problems().is_empty(), "{:?}", self.store.problems());
    }

    /// Goes on with what another opener finds on this disk.
    fn reopen(&mut self, disk: MemoryDisk) {
        let mut next = open(&disk, &self.clock, self.mapped, self.capacity);
        next.model = std::mem::take(&mut self.model);
        *self = next;
        let report = self.store.recovery_report();
        assert!(report.corrupt_records.is_empty(), "{report:?}");
        assert!(report.unknown_versions.is_empty(), "{report:?}");
        self.check();
        let verified = self.store.verify().expect("verify");
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    }

    fn stop(&mut self, how: u8, input: &mut Input<'_>) {
        self.fills.clear();
        match how {
            0 => {
                self.mapped = !self.mapped;
                self.store.close().expect("close");
                self.model.all_certain();
                let disk = self.disk.clone();
                self.reopen(disk);
                assert!(self.store.recovery_report().is_clean());
            }
            1 => {
                let disk = self.disk.kill();
                self.reopen(disk);
            }
            2 => {
                let disk = self.disk.crash(&mut |options| u32::from(input.next()) % options);
                self.reopen(disk);
            }
            _ => {
                let off_for = Duration::from_secs(60 * u64::from(input.next()));
                let disk = self.disk.crash(&mut |options| u32::from(input.next()) % options);
                self.clock.reboot(off_for);
                self.reopen(disk);
            }
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        match input.below(28) {
            0..=2 => self.insert(input),
            3 => self.insert_batch(input),
            4 | 5 => self.begin_fill(input),
            6 => self.commit_fill(input),
            7 | 8 => self.append_row(input),
            9 => self.invalidate(0, input),
            10 => self.invalidate(1, input),
            11 => self.invalidate(2, input),
            12 => {
                self.store.sync().expect("sync");
                self.model.all_certain();
            }
            13 => {
                self.store.maintain().expect("maintain");
                self.model.all_certain();
            }
            14 => self.clock.advance(Duration::from_secs(60 * u64::from(input.next()))),
            15 => self.check(),
            16 => self.stop(0, input),
            17 => self.stop(1, input),
            18 => self.stop(2, input),
            19 => self.stop(3, input),
            20 => self.invalidate(3, input),
            21 => self.invalidate(4, input),
            22 => self.invalidate(5, input),
            23 => self.erase(0, input),
            24 => self.erase(1, input),
            25 => self.erase(2, input),
            _ => self.store.scrub().expect("scrub"),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.next();
    let clock = ManualClock::new(Timestamp::from_millis(1_795_267_800_000));
    let capacity = (flags & 2 != 0).then_some(16 * 4096 * 2);
    let mut world = open(&MemoryDisk::new(1), &clock, flags & 1 != 0, capacity);
    let mut operations = 0;
    while !input.0.is_empty() && operations < MAX_OPERATIONS {
        world.operate(&mut input);
        operations += 1;
    }
    world.check();
});
