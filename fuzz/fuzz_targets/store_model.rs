//! Any sequence of operations, restarts, kills and power cuts, against a model of what may be read.
//!
//! Whatever happens: the store opens, a read gives bytes that were written under that key and were
//! not replaced durably since, an acknowledged invalidation stays, nothing outlives its deadline, and
//! what was synced is there.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Clock, Durability, Fill, Keyspace, KeyspaceOptions, Log, LogOptions, ManualClock, Outcome,
    Retention, Row, RowId, Store, Timestamp,
};
use libfuzzer_sys::fuzz_target;

const KEYS: usize = 6;
const TAGS: usize = 3;
const SLACK: Duration = Duration::from_secs(2);
const MAX_OPERATIONS: usize = 80;

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
        .tombstone_log_bytes(4096);
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

    fn insert(&mut self, input: &mut Input<'_>) {
        let (key, order) = (input.below(KEYS), self.model.next());
        let value = Self::value(key, order, 12 * input.below(256));
        match self.images.insert(Self::key(key), &value) {
            Ok(()) => self.note_write(key, order, value, None),
            Err(e) => assert!(self.capacity.is_some(), "{e}"),
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
                    self.note_write(key, order, value, None);
                }
            }
            Err(e) => assert!(self.capacity.is_some(), "{e}"),
        }
    }

    fn begin_fill(&mut self, input: &mut Input<'_>) {
        let (key, tag, order) = (input.below(KEYS), input.below(TAGS), self.model.next());
        let fill = self.images.fill(Self::key(key)).tag(format!("tag {tag}"));
        self.fills.push(PendingFill { fill, key, tag, order });
    }

    fn commit_fill(&mut self, input: &mut Input<'_>) {
        if self.fills.is_empty() {
            return;
        }
        let PendingFill { mut fill, key, tag, order } =
            self.fills.remove(input.below(self.fills.len()));
        let sync = input.next() & 1 == 1;
        if sync {
            fill = fill.durability(Durability::Sync);
        }
        let value = Self::value(key, order, input.below(200));
        let newest = self.model.writes.get(&key).and_then(|writes| writes.last());
        let beaten = newest.is_some_and(|newest| newest.order > order)
            || self.model.floor(key, Some(tag)) > order;
        match fill.commit(&value) {
            Ok(Outcome::Stored) => {
                assert!(!beaten, "a fill that lost was stored");
                self.note_write(key, order, value, Some(tag));
                let stored = self.model.writes.get_mut(&key).and_then(|writes| writes.last_mut());
                stored.expect("just noted").certain = sync;
            }
            Ok(Outcome::Superseded) => {}
            Err(e) => assert!(self.capacity.is_some(), "{e}"),
        }
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
            _ => {
                self.images.invalidate_all().expect("invalidate_all");
                self.model.all_floor = floor;
            }
        }
    }

    fn check_key(&mut self, key: usize) {
        let got = self.images.get(Self::key(key)).expect("get");
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

    fn check(&mut self) {
        (0..KEYS).for_each(|key| self.check_key(key));
        self.check_rows();
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
        match input.below(20) {
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
            _ => self.stop(3, input),
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
