//! Rows beside invalidations of their tag and beside erasing: those appended before are hidden and
//! erased, all others stay.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use ebbtide::disk::MemoryDisk;
use ebbtide::{Log, LogOptions, ManualClock, Retention, Row, Store};
use shuttle::thread;

use crate::fixture::{self, Random, files_of, hours, unless_closed};
use crate::schedules::{chance, scenarios};

scenarios! {
    rows_and_scrub: 40,
    collected_rows_and_scrub: 40,
    rows_and_drop: 40,
    rows_and_readers: 40,
    rows_and_close: 40,
}

const TAG: &str = "visitor";

/// What is known of a row.
#[derive(Debug, Clone, Copy)]
struct Known {
    tagged: bool,
    /// How many invalidations had begun when it was handed over, if none was under way.
    begun: Option<u64>,
    taken: bool,
    written: bool,
    hidden: bool,
}

#[derive(Debug, Clone, Default)]
struct Promises {
    rows: Vec<Known>,
    begun: u64,
    returned: u64,
}

/// A store under test with one log.
struct World {
    disk: MemoryDisk,
    clock: ManualClock,
    store: Store,
    log: Log,
    mapped: bool,
    promises: Mutex<Promises>,
}

/// What a row holds, from which it is known again.
fn payload(row: usize) -> Vec<u8> {
    let mut payload = (row as u64).to_le_bytes().to_vec();
    payload.extend(Random::new(row as u64).bytes(40));
    payload
}

impl World {
    fn new(mapped: bool) -> Self {
        let (disk, clock) = (MemoryDisk::new(1), fixture::clock());
        let store = fixture::open(fixture::on_memory(&disk, &clock), mapped);
        let options = LogOptions::new(Retention::hours(16)).segment_bytes(4096);
        let log = store.log("visits", options).unwrap();
        Self { disk, clock, store, log, mapped, promises: Mutex::default() }
    }

    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.promises.lock().unwrap()
    }

    /// A row to be handed over now, and its number.
    fn next(&self, tagged: bool) -> (usize, Row) {
        let mut promises = self.promises();
        let begun = (promises.begun == promises.returned).then_some(promises.begun);
        let known = Known { tagged, begun, taken: false, written: false, hidden: false };
        promises.rows.push(known);
        let number = promises.rows.len() - 1;
        let row = Row::anonymous().payload(payload(number));
        (number, if tagged { row.tag(TAG) } else { row })
    }

    fn append(&self, tagged: bool) -> ebbtide::Result<()> {
        let (number, row) = self.next(tagged);
        let id = self.log.append(row)?;
        let begun = {
            let row = &mut self.promises().rows[number];
            (row.taken, row.written) = (true, true);
            row.begun
        };
        let found = self.log.get(id);
        let after = self.promises().clone();
        if let (Ok(None), Some(begun)) = (&found, begun) {
            assert!(tagged && after.begun > begun, "row {number} is gone");
        }
        Ok(())
    }

    fn invalidate_tag(&self) -> ebbtide::Result<()> {
        let before = {
            let mut promises = self.promises();
            promises.begun += 1;
            promises.clone()
        };
        let result = self.log.invalidate_tag(TAG);
        let mut promises = self.promises();
        promises.returned += 1;
        for (row, before) in promises.rows.iter_mut().zip(before.rows) {
            row.hidden |= result.is_ok() && before.tagged && before.taken;
        }
        result.map(drop)
    }

    /// Goes through all rows of a store that is opened to look at this one.
    fn look_on(&self) -> ebbtide::Result<()> {
        let at_open = self.promises().clone();
        let store = fixture::on_memory(&self.disk, &self.clock).open_read_only()?;
        let log = store.existing_log("visits")?;
        for _ in 0..2 {
            self.scan_as_of(&log, &at_open)?;
        }
        assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
        self.check_quiet(&store);
        Ok(())
    }

    /// Goes through all rows: their numbers.
    fn scan(&self, log: &Log) -> ebbtide::Result<BTreeSet<usize>> {
        let known = self.promises().clone();
        self.scan_as_of(log, &known)
    }

    /// The same for a log that shows what was there when this had been promised, less what is
    /// invalidated from then on.
    fn scan_as_of(&self, log: &Log, known: &Promises) -> ebbtide::Result<BTreeSet<usize>> {
        let before = self.promises().clone();
        let mut seen = BTreeSet::new();
        for row in log.scan(..)? {
            let row = row?;
            let number = u64::from_le_bytes(row.payload()[..8].try_into().unwrap()) as usize;
            assert_eq!(row.payload().to_vec(), payload(number), "wrong bytes");
            assert!(seen.insert(number), "row {number} came twice");
            let hidden = before.rows.get(number).is_some_and(|row| row.hidden);
            assert!(!hidden, "row {number} was invalidated");
        }
        let after = self.promises().clone();
        let in_time = self.clock_is_early();
        for (number, row) in known.rows.iter().enumerate() {
            let stays = !row.tagged || row.begun == Some(after.begun);
            let must = row.written && stays && in_time;
            assert!(!must || seen.contains(&number), "row {number} is gone: {row:?}");
        }
        Ok(seen)
    }

    fn clock_is_early(&self) -> bool {
        use ebbtide::Clock;
        self.clock.wall() < fixture::START + hours(16)
    }

    /// Ends a scenario: a last scrub takes the rows that cannot be seen and no others, and they are the
    /// same after a stop.
    fn settle(self) {
        let there = self.scan(&self.log).unwrap();
        self.store.maintain().unwrap();
        self.store.scrub().unwrap();
        assert_eq!(self.scan(&self.log).unwrap(), there);
        self.check_erased(&there);
        self.check_quiet(&self.store);
        let disk = match chance().below(3) {
            0 => self.disk.crash(&mut chance().choices()),
            1 => self.disk.kill(),
            _ => {
                self.store.close().unwrap();
                self.disk.clone()
            }
        };
        self.check_reopened(&disk, &there);
    }

    fn check_quiet(&self, store: &Store) {
        let problems = store.verify().unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        assert!(store.problems().is_empty(), "{:?}", store.problems());
        assert_eq!(store.stats().corrupt_reads, 0);
    }

    fn check_reopened(&self, disk: &MemoryDisk, there: &BTreeSet<usize>) {
        let store = fixture::open(fixture::on_memory(disk, &self.clock), self.mapped);
        let log = store.existing_log("visits").unwrap();
        assert_eq!(self.scan(&log).unwrap(), *there);
        self.check_quiet(&store);
    }

    fn check_erased(&self, there: &BTreeSet<usize>) {
        let files = files_of(&self.disk);
        let rows = self.promises().rows.len();
        for number in (0..rows).filter(|number| !there.contains(number)) {
            let payload = payload(number);
            for (path, bytes) in &files {
                let found = bytes.windows(payload.len()).any(|window| window == payload);
                assert!(!found, "row {number}: still in {}", path.display());
            }
        }
    }
}

fn world(mapped: bool) -> World {
    let world = World::new(mapped);
    for tagged in [true, false, true] {
        world.append(tagged).unwrap();
    }
    if chance().once_in(2) {
        world.store.sync().unwrap();
    }
    world
}

fn rows_and_scrub(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            for tagged in [true, false, true] {
                world.append(tagged).unwrap();
            }
        });
        scope.spawn(|| {
            world.invalidate_tag().unwrap();
            world.store.scrub().unwrap();
        });
        scope.spawn(|| {
            world.scan(&world.log).unwrap();
            world.scan(&world.log).unwrap();
        });
    });
    world.settle();
}

fn collected_rows_and_scrub(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut appender = world.log.appender();
            for _ in 0..2 {
                let rows = [true, false, true].map(|tagged| {
                    let (number, row) = world.next(tagged);
                    appender.append(row).unwrap();
                    world.promises().rows[number].taken = true;
                    number
                });
                appender.flush().unwrap();
                rows.iter().for_each(|number| world.promises().rows[*number].written = true);
            }
        });
        scope.spawn(|| {
            world.invalidate_tag().unwrap();
            world.store.scrub().unwrap();
        });
        scope.spawn(|| {
            world.scan(&world.log).unwrap();
            world.store.scrub().unwrap();
            world.scan(&world.log).unwrap();
        });
    });
    world.settle();
}

fn rows_and_drop(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.clock.advance(hours(17));
            world.store.maintain().unwrap();
        });
        scope.spawn(|| {
            world.invalidate_tag().unwrap();
            world.store.scrub().unwrap();
        });
        scope.spawn(|| {
            world.scan(&world.log).unwrap();
        });
    });
    world.settle();
}

fn rows_and_readers(mapped: bool) {
    let world = world(mapped);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.append(true).unwrap();
            world.append(false).unwrap();
            world.store.sync().unwrap();
            world.invalidate_tag().unwrap();
            world.store.scrub().unwrap();
            world.clock.advance(hours(17));
            world.store.maintain().unwrap();
        });
        scope.spawn(|| {
            world.look_on().unwrap();
            world.look_on().unwrap();
        });
    });
    world.settle();
}

fn rows_and_close(mapped: bool) {
    let world = world(mapped);
    let closed = thread::scope(|scope| {
        scope.spawn(|| {
            unless_closed(world.append(true));
            unless_closed(world.append(false));
        });
        scope.spawn(|| {
            unless_closed(world.invalidate_tag());
            unless_closed(world.store.scrub());
        });
        scope.spawn(|| {
            unless_closed(world.scan(&world.log));
            // Its bucket has to be made.
            let hours_ago = fixture::START - hours(2);
            unless_closed(world.log.pseudonym([198, 51, 100, 7].into(), hours_ago));
        });
        let closing = scope.spawn(|| {
            world.store.close().unwrap();
            files_of(&world.disk)
        });
        closing.join().unwrap()
    });
    assert!(closed == files_of(&world.disk), "a file changed after the store was closed");
    let store = fixture::open(fixture::on_memory(&world.disk, &world.clock), world.mapped);
    let log = store.existing_log("visits").unwrap();
    World { store, log, ..world }.settle();
}
