//! What the attacks share: a store on a disk in memory, all ways of stopping it and looking again, and
//! what a reader may see then.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{
    Keyspace, KeyspaceOptions, Log, LogOptions, Lookup, ManualClock, Outcome, Reason, Retention,
    Row, Store,
};

use crate::fixture::{MODES, Random, clock, on_memory, open, quiet, try_open};

/// A call that fails once.
pub(crate) const REFUSED: Fault = Fault::Error(ErrorKind::TimedOut);
/// Power cuts tried each time, all of them leaving as little as may be left the first time.
const CUTS: u64 = 4;

/// A disk and a clock, and how the store on it is opened.
pub(crate) struct Rig {
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: ManualClock,
    pub(crate) mapped: bool,
}

/// Plays an attack by position and mapped.
pub(crate) fn each_mode(attack: impl Fn(&Rig)) {
    for mapped in MODES {
        attack(&Rig::new(mapped));
    }
}

impl Rig {
    pub(crate) fn new(mapped: bool) -> Self {
        Self { disk: MemoryDisk::new(1), clock: clock(), mapped }
    }

    /// The same machine with another disk.
    pub(crate) fn with(&self, disk: MemoryDisk) -> Self {
        Self { disk, clock: self.clock.clone(), mapped: self.mapped }
    }

    pub(crate) fn open(&self) -> Store {
        open(on_memory(&self.disk, &self.clock), self.mapped)
    }

    /// Opens the store through a disk that can be made to fail.
    pub(crate) fn open_faulty(&self) -> (FaultyDisk, Store) {
        let disk = FaultyDisk::new(Arc::new(self.disk.clone()));
        let builder = quiet(Store::builder("/data").disk(disk.clone()), &self.clock);
        (disk, open(builder, self.mapped))
    }

    /// Opens the store as it is again and again, each time with this fault at another call, and shows each that
    /// opens all the same; gives how many did.
    pub(crate) fn each_faulty_opening(
        &self,
        fault: Fault,
        mut show: impl FnMut(&Self, &Store, u64),
    ) -> u32 {
        let mut opened = 0;
        for call in 1.. {
            let rig = self.kill();
            let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
            disk.inject(call, fault);
            let builder = quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
            let store = try_open(builder, rig.mapped);
            let is_over = disk.calls() < call;
            disk.clear();
            if let Ok(store) = store {
                show(&rig, &store, call);
                opened += 1;
            }
            if is_over {
                return opened;
            }
        }
        opened
    }

    pub(crate) fn look(&self) -> Store {
        on_memory(&self.disk, &self.clock).open_read_only().unwrap()
    }

    /// The machine after its power was cut now, with the least that can be left, or by chance.
    pub(crate) fn cut(&self, seed: u64) -> Self {
        let mut choices = Random::new(seed);
        let mut pick =
            |options: u32| if seed == 0 { 0 } else { choices.below(options.into()) as u32 };
        self.with(self.disk.fork().crash(&mut pick))
    }

    pub(crate) fn kill(&self) -> Self {
        self.with(self.disk.fork().kill())
    }

    /// Checks a store as it is, opened after a kill and after power cuts, read-only, and closed and
    /// opened again, before and after upkeep and scrubbing.
    pub(crate) fn everywhere(&self, store: &Store, check: impl Fn(&Store)) {
        check(store);
        check(&self.look());
        let mut stopped = vec![self.kill()];
        stopped.extend((0..CUTS).map(|seed| self.cut(seed)));
        let closed = self.kill();
        closed.open().close().unwrap();
        check(&closed.look());
        stopped.push(closed);
        for rig in stopped {
            let store = rig.open();
            check(&store);
            store.maintain().unwrap();
            check(&store);
            store.scrub().unwrap();
            check(&store);
            drop(store);
            check(&rig.open());
        }
    }

    /// Files of the store whose names end like this.
    pub(crate) fn files(&self, end: &str) -> Vec<PathBuf> {
        let mut files = self.disk.all_files();
        files.retain(|path| path.to_str().unwrap().ends_with(end));
        files
    }

    /// True if these bytes stand in any file.
    pub(crate) fn on_disk(&self, needle: &[u8]) -> bool {
        self.disk.all_files().iter().any(|path| self.find(path, needle).is_some())
    }

    /// Where these bytes stand in a file.
    pub(crate) fn find(&self, path: &Path, needle: &[u8]) -> Option<usize> {
        let bytes = self.disk.read_file(path).unwrap();
        bytes.windows(needle.len()).position(|window| window == needle)
    }

    /// Changes a file, durably.
    pub(crate) fn change(&self, path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.disk.read_file(path).unwrap();
        how(&mut bytes);
        self.disk.write_file(path, &bytes).unwrap();
    }
}

/// Stops a process at each call on the disk that something makes in turn, and gives what a kill and
/// power cuts leave.
pub(crate) fn stopped_at_each_call(
    prepare: impl Fn() -> (Rig, FaultyDisk, Store),
    act: impl Fn(&Store),
    check: impl Fn(&Rig, &str),
) {
    let (_rig, disk, store) = prepare();
    let first = disk.calls() + 1;
    act(&store);
    let end = disk.calls() + 1;
    assert!(end > first, "nothing was done on the disk");
    for call in first..=end {
        for fault in [Fault::ErrorsFrom(ErrorKind::Other), Fault::Torn(ErrorKind::Other)] {
            let (rig, disk, store) = prepare();
            disk.inject(call, fault);
            if matches!(fault, Fault::Torn(_)) {
                disk.inject(call + 1, Fault::ErrorsFrom(ErrorKind::Other));
            }
            act(&store);
            let what = format!("{fault:?} at {call} of {first}..{end}");
            check(&rig.kill(), &what);
            (0..CUTS).for_each(|seed| check(&rig.cut(seed + call * CUTS), &what));
        }
    }
}

/// Lets each call that `act` makes fail in turn, and shows what comes of it once none fails any more.
pub(crate) fn with_each_call_failing<T>(
    fault: Fault,
    prepare: impl Fn() -> (Rig, FaultyDisk, Store),
    act: impl Fn(&Store) -> T,
    mut show: impl FnMut(&Rig, &Store, T, u64),
) {
    for call in 1.. {
        let (rig, disk, store) = prepare();
        let reached = disk.calls() + call;
        disk.inject(reached, fault);
        let result = act(&store);
        let is_over = disk.calls() < reached;
        disk.clear();
        show(&rig, &store, result, call);
        if is_over {
            break;
        }
    }
}

pub(crate) fn options() -> KeyspaceOptions {
    KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192)
}

pub(crate) fn images(store: &Store) -> Keyspace {
    store.keyspace("images", options()).unwrap()
}

pub(crate) fn access(store: &Store) -> Log {
    store.log("access", LogOptions::new(Retention::hours(16)).segment_bytes(8192)).unwrap()
}

pub(crate) fn put(images: &Keyspace, key: &str, value: &str, tags: &[&str]) {
    let fill = tags.iter().fold(images.fill(key), |fill, tag| fill.tag(tag));
    assert_eq!(fill.commit(value).unwrap(), Outcome::Stored, "{key}");
}

pub(crate) fn row(log: &Log, payload: &str, tags: &[&str]) {
    let row = tags.iter().fold(Row::anonymous(), |row, tag| row.tag(tag));
    log.append(row.payload(payload)).unwrap();
}

/// The payloads of all rows that can be read.
pub(crate) fn rows(log: &Log) -> Vec<String> {
    let rows = log.scan(..).unwrap();
    rows.map(|row| String::from_utf8(row.unwrap().payload().to_vec()).unwrap()).collect()
}

/// What a key gives, the same in all ways of reading; stale values count.
pub(crate) fn given(images: &Keyspace, key: &str) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let got = images.get(key).unwrap().map(|value| text(&value));
    let many = images.get_many([key]).unwrap().pop().unwrap().map(|value| text(&value));
    assert_eq!(got, many, "{key}: many at once");
    assert_eq!(got.is_some(), images.contains(key).unwrap(), "{key}: contains");
    let stat = images.stat(key).unwrap();
    assert_eq!(got.as_ref().map(|text| text.len() as u64), stat.map(|stat| stat.value_len()));
    let listed: Vec<u64> = images
        .iter()
        .map(Result::unwrap)
        .filter(|entry| entry.key() == key.as_bytes())
        .map(|entry| entry.stat().value_len())
        .collect();
    let expected: Vec<u64> = got.iter().map(|text| text.len() as u64).collect();
    assert_eq!(listed, expected, "{key}: iteration");
    let reason = images.explain(key).unwrap().reason;
    assert_eq!(got.is_some(), reason == Reason::Visible, "{key}: {reason:?}");
    match images.lookup(key).unwrap() {
        Lookup::Fresh(value) => assert_eq!(Some(text(&value)), got, "{key}: lookup"),
        Lookup::Stale(value) => {
            assert_eq!(got, None, "{key}: stale and fresh");
            return Some(text(&value));
        }
        Lookup::Absent => assert_eq!(got, None, "{key}: lookup"),
    }
    got
}

/// What a key of the keyspace of the attacks gives.
pub(crate) fn seen(store: &Store, key: &str) -> Option<String> {
    given(&store.existing_keyspace("images").unwrap(), key)
}

/// Fails unless a store says that nothing is wrong.
pub(crate) fn assert_sound(store: &Store) {
    assert_eq!(store.problems(), []);
    assert_eq!(store.verify().unwrap().problems, []);
}
