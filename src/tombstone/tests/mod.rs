//! Tests of the log alone, on a disk in memory: files of 24 entries.

mod reading;

use std::path::Path;

use super::*;
use crate::disk::{Fault, FaultyDisk, MemoryDisk};
use crate::format::VERSION;
use crate::format::ledger::LedgerMark;
use crate::format::state::State;
use crate::format::tombstone::Regions;
use crate::sequence::first_of;
use crate::time::{BootId, EngineTime, Reading};

const DIR: &str = "/tombstones";
const FILE_LEN: u64 = 4096;
const IDENTITY: LogIdentity = LogIdentity { store_id: [7; 16], generation: 3, check_value: 9 };

struct Bench {
    memory: MemoryDisk,
    disk: FaultyDisk,
    state: Arc<StateFile>,
    log: TombstoneLog,
}

impl Bench {
    fn new() -> Self {
        let memory = MemoryDisk::new(1);
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        disk.create_dir(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let reading = Reading { wall_ms: 5, boot_ms: 5, boot_id: BootId::default() };
        let state = State {
            generation: IDENTITY.generation,
            clean: false,
            snapshot_id: [0; 16],
            oldest_log: 1,
            newest_log: 0,
            ledger: LedgerMark::default(),
            time: EngineTime::new(reading, 0).saved().clone(),
        };
        let state = Arc::new(StateFile::create(&disk, Path::new("/STATE"), state).unwrap());
        let log = log_on(&disk, &state);
        Self { memory, disk, state, log }
    }

    /// The log as it is read anew, all files that STATE names expected.
    fn found(&self) -> FoundLogs {
        let state = self.state.current();
        read(&self.disk, Some((state.oldest_log, state.newest_log)))
    }

    /// Of the oldest log.
    fn differences(&self) -> Vec<u64> {
        self.found().logs[0].differences(&self.disk).unwrap()
    }

    /// The same store after it was opened again.
    fn reopened(self) -> Self {
        let found = self.found();
        let log = log_on(&self.disk, &self.state);
        log.resume(&found).unwrap();
        Self { log, ..self }
    }

    fn commit(&self, count: u64) {
        let floor = self.found().tombstones().map(|t| t.floor).max().unwrap_or(0);
        (1..=count).for_each(|n| self.log.commit(tombstone(floor + n, 1)).unwrap());
    }

    /// Changes bytes of a log file.
    fn change(&self, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let path = Path::new(DIR).join(log_name(number));
        let mut bytes = self.memory.read_file(&path).unwrap();
        change(&mut bytes);
        self.memory.write_file(&path, &bytes).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = self.disk.read_dir(Path::new(DIR)).unwrap();
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }
}

fn log_on(disk: &FaultyDisk, state: &Arc<StateFile>) -> TombstoneLog {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    TombstoneLog::create(disk, PathBuf::from(DIR), Arc::clone(state), IDENTITY, FILE_LEN)
}

fn read(disk: &FaultyDisk, expected: Option<(u64, u64)>) -> FoundLogs {
    read_logs(disk, Path::new(DIR), expected, IDENTITY).unwrap()
}

fn tombstone(floor: u64, hashes: usize) -> Tombstone {
    Tombstone::sample(floor, hashes)
}

fn denial(floor: u64, until_ms: u64) -> Tombstone {
    Tombstone { mode: TombstoneMode::Deny, until_ms, ..tombstone(floor, 1) }
}

fn floors(found: &FoundLogs) -> Vec<u64> {
    found.tombstones().map(|tombstone| tombstone.floor).collect()
}

#[test]
fn what_is_committed_is_read_back_from_files_that_follow_each_other() {
    let bench = Bench::new();
    assert_eq!(bench.log.bytes(), FILE_LEN, "the spare alone");
    assert_eq!(bench.found().position().place(), (0, 0));
    bench.commit(24);
    assert_eq!(bench.found().range(), Some((1, 1)));
    bench.commit(6);
    let found = bench.found();
    assert_eq!(floors(&found), (1..=30).collect::<Vec<_>>());
    assert_eq!(found.range(), Some((1, 2)));
    assert_eq!(found.position().place(), (2, 6));
    assert!(!found.lost && found.damaged.is_empty() && found.torn.is_empty());
    assert_eq!(found.generation, IDENTITY.generation);
    assert_eq!(bench.state.current().newest_log, 2);
    assert_eq!(bench.log.bytes(), 3 * FILE_LEN);
}

#[test]
fn a_log_that_is_opened_again_goes_on_where_it_ended() {
    let bench = Bench::new();
    bench.commit(30);
    let bench = bench.reopened();
    bench.commit(18);
    assert_eq!(bench.found().range(), Some((1, 2)));
    let bench = bench.reopened();
    bench.commit(1);
    assert_eq!(bench.found().range(), Some((1, 3)));
    assert_eq!(floors(&bench.found()), (1..=49).collect::<Vec<_>>());
    assert_eq!(bench.log.bytes(), 4 * FILE_LEN);
}

#[test]
fn a_unit_is_not_split_between_files() {
    let bench = Bench::new();
    assert_eq!(bench.log.most_hashes(), 70);
    bench.commit(20);
    bench.log.commit(tombstone(21, 10)).unwrap();
    assert_eq!(bench.found().range(), Some((1, 1)), "four entries fill the file");
    let bench = Bench::new();
    bench.commit(20);
    bench.log.commit(tombstone(21, 11)).unwrap();
    assert_eq!(bench.found().range(), Some((1, 2)));
    bench.log.commit(tombstone(22, 70)).unwrap();
    assert_eq!(bench.found().range(), Some((1, 3)));
    let refused = bench.log.commit(tombstone(23, 71));
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
    assert_eq!(floors(&bench.found()), (1..=22).collect::<Vec<_>>());
}

#[test]
fn a_file_that_fails_is_given_up_for_the_next() {
    let bench = Bench::new();
    bench.commit(2);
    bench.log.ensure_spare().unwrap();
    bench.disk.inject(bench.disk.calls() + 1, Fault::Torn(io::ErrorKind::TimedOut));
    bench.log.commit(tombstone(3, 1)).unwrap();
    assert_eq!(bench.found().range(), Some((1, 2)));
    assert_eq!(floors(&bench.found()), [1, 2, 3]);
    bench.disk.inject(bench.disk.calls() + 1, Fault::ErrorsFrom(io::ErrorKind::TimedOut));
    assert!(bench.log.commit(tombstone(4, 1)).is_err());
    bench.disk.clear();
    bench.log.commit(tombstone(5, 1)).unwrap();
    assert_eq!(floors(&bench.found()), [1, 2, 3, 5]);
    let bench = bench.reopened();
    assert_eq!(floors(&bench.found()), [1, 2, 3, 5]);
}

#[test]
fn a_file_without_entries_that_state_names_is_gone_on_with() {
    let bench = Bench::new();
    bench.commit(1);
    log_on(&bench.disk, &bench.state).start_over(bench.found(), None).unwrap();
    let bench = bench.reopened();
    bench.commit(1);
    assert_eq!((floors(&bench.found()), bench.state.current().newest_log), (vec![1], 2));
}

/// One of the two slots of STATE has rotted, and the other is older.
#[test]
fn entries_in_a_file_that_state_does_not_name_stay() {
    let bench = Bench::new();
    bench.commit(25);
    bench.state.update(|state| state.newest_log = 1).unwrap();
    let bench = bench.reopened();
    bench.commit(24);
    assert_eq!(floors(&bench.found()), (1..=49).collect::<Vec<_>>());
    assert_eq!(bench.state.current().newest_log, 3);
}

/// The process ends while it goes on to the next file, and the next one does so too.
#[test]
fn nothing_is_written_to_a_file_that_state_does_not_name() {
    let mut unnamed = 0;
    for call in 1.. {
        let bench = Bench::new();
        bench.commit(24);
        bench.log.ensure_spare().unwrap();
        bench.disk.inject(bench.disk.calls() + call, Fault::ErrorsFrom(io::ErrorKind::TimedOut));
        if bench.log.commit(tombstone(25, 1)).is_ok() {
            break;
        }
        bench.disk.clear();
        let logs = |bench: &Bench| {
            bench.names().iter().filter(|name| name.ends_with(".log")).count() as u64
        };
        unnamed += u32::from(logs(&bench) > bench.state.current().newest_log);
        let bench = bench.reopened();
        bench.commit(1);
        assert_eq!(logs(&bench), bench.state.current().newest_log, "call {call}");
        assert_eq!(floors(&bench.found()).first(), Some(&1));
        assert!(floors(&bench.found()).last() >= Some(&25));
    }
    assert!(unnamed > 0);
}

#[test]
fn who_shared_a_write_that_failed_writes_again() {
    let bench = Bench::new();
    bench.log.ensure_spare().unwrap();
    bench.commit(4);
    let commit = |floor| bench.log.commit(tombstone(floor, 1));
    let before = bench.disk.calls();
    commit(5).unwrap();
    let calls = bench.disk.calls() - before;

    let (go_on, wait) = std::sync::mpsc::channel();
    let begun = bench.disk.calls();
    bench.disk.interrupt(begun + 1, move || wait.recv().unwrap());
    // Of what comes after the first of them: the write, opening the spare, and creating another.
    for call in [1, 2, 4] {
        bench.disk.inject(begun + calls + call, Fault::Error(io::ErrorKind::TimedOut));
    }
    std::thread::scope(|scope| {
        let first = scope.spawn(|| commit(6));
        while !bench.log.queue.lock().syncing {
            std::thread::yield_now();
        }
        let others = [7, 8].map(|floor| (floor, scope.spawn(move || commit(floor))));
        while bench.log.queue.lock().pending.len() < others.len() {
            std::thread::yield_now();
        }
        go_on.send(()).unwrap();
        first.join().unwrap().unwrap();
        let others = others.map(|(floor, thread)| (floor, thread.join().unwrap().is_ok()));
        let kept = others.iter().filter(|(_, kept)| *kept).map(|(floor, _)| *floor);
        let kept: Vec<_> = (1..=6).chain(kept).collect();
        assert_eq!(kept.len(), 7, "whoever wrote for both is told, the other tried again");
        assert_eq!(floors(&bench.found()), kept);
        assert!(bench.log.queue.lock().failed.is_empty());
    });
}

#[test]
fn there_is_no_file_behind_the_last_that_has_a_name() {
    let bench = Bench::new();
    bench.log.files.lock().newest = MAX_LOG_NUMBER - 1;
    (1..=24).for_each(|floor| bench.log.commit(tombstone(floor, 1)).unwrap());
    assert!(bench.names().contains(&log_name(MAX_LOG_NUMBER)));
    assert!(matches!(bench.log.commit(tombstone(25, 1)), Err(Error::Unsupported { .. })));
}

#[test]
fn a_closed_log_takes_nothing() {
    let bench = Bench::new();
    bench.commit(1);
    bench.log.close();
    assert!(matches!(bench.log.commit(tombstone(2, 1)), Err(Error::Closed)));
}

#[test]
fn files_are_forgotten_from_the_oldest_up_to_the_first_that_may_hide_something() {
    let bench = Bench::new();
    bench.commit(80);
    // They end at 24, 48 and 72; the fourth is being written.
    bench.log.forget_below(48, 0).unwrap();
    assert_eq!(bench.state.current().oldest_log, 2);
    assert_eq!(floors(&bench.found())[0], 25);
    let bench = bench.reopened();
    bench.log.forget_below(48, 0).unwrap();
    assert_eq!(bench.state.current().oldest_log, 2);
    bench.log.forget_below(49, 0).unwrap();
    assert_eq!(bench.found().range(), Some((3, 4)));
    bench.log.forget_below(1000, 0).unwrap();
    assert_eq!(bench.found().range(), Some((4, 4)));
    assert_eq!(bench.log.bytes(), 2 * FILE_LEN);
    assert!(!bench.names().contains(&log_name(1)));
    let bench = bench.reopened();
    assert_eq!(floors(&bench.found()), (73..=80).collect::<Vec<_>>());
}

#[test]
fn denials_outlive_their_file_until_they_are_over() {
    for (resumed, now_ms, kept) in
        [(false, 99, true), (true, 99, true), (false, 100, false), (true, 100, false)]
    {
        let mut bench = Bench::new();
        bench.log.commit(denial(1, 100)).unwrap();
        bench.commit(24);
        if resumed {
            bench = bench.reopened();
        }
        bench.log.forget_below(25, now_ms).unwrap();
        assert_eq!(bench.found().range(), Some((2, 2)));
        let denials: Vec<_> =
            bench.found().tombstones().filter(|t| t.mode == TombstoneMode::Deny).cloned().collect();
        assert_eq!(denials, if kept { vec![denial(1, 100)] } else { vec![] }, "at {now_ms}");
    }
}

#[test]
fn a_file_that_could_not_be_removed_is_tried_again_and_its_denials_stand_once() {
    let bench = Bench::new();
    bench.log.commit(denial(1, 100)).unwrap();
    bench.commit(24);
    let calls = bench.disk.calls();
    // Behind the denial, in two regions, and STATE.
    bench.disk.inject(calls + 6, Fault::Error(io::ErrorKind::TimedOut));
    assert!(bench.log.forget_below(25, 99).is_err());
    assert_eq!(bench.state.current().oldest_log, 2);
    assert!(bench.names().contains(&log_name(1)));
    bench.log.forget_below(25, 99).unwrap();
    assert!(!bench.names().contains(&log_name(1)));
    let found = bench.found();
    let denials = found.tombstones().filter(|t| t.mode == TombstoneMode::Deny);
    assert_eq!(denials.cloned().collect::<Vec<_>>(), [denial(1, 100)]);
}

#[test]
fn a_file_that_has_gone_already_is_forgotten() {
    let bench = Bench::new();
    bench.commit(80);
    bench.disk.remove_file(&Path::new(DIR).join(log_name(1))).unwrap();
    bench.log.forget_below(49, 0).unwrap();
    assert_eq!(bench.found().range(), Some((3, 4)));
}

#[test]
fn denials_are_not_moved_if_that_frees_less_than_half() {
    for (files, count, moved) in [(1, 12, true), (1, 13, false), (2, 24, true), (2, 25, false)] {
        let bench = Bench::new();
        (1..=count).for_each(|floor| bench.log.commit(denial(floor, 100)).unwrap());
        bench.commit(24 * files + 1 - count);
        bench.log.forget_below(24 * files + 1, 0).unwrap();
        let oldest = if moved { 1 + files } else { 1 };
        assert_eq!(bench.state.current().oldest_log, oldest, "{count}");
    }
}

#[test]
fn starting_over_keeps_denials_and_leaves_the_files_behind() {
    let bench = Bench::new();
    bench.log.commit(denial(1, 100)).unwrap();
    bench.commit(40);
    let log = log_on(&bench.disk, &bench.state);
    log.start_over(bench.found(), None).unwrap();
    let found = bench.found();
    assert_eq!((found.range(), bench.state.current().oldest_log), (Some((3, 3)), 3));
    assert_eq!(found.tombstones().cloned().collect::<Vec<_>>(), [denial(1, 100)]);
    assert_eq!(bench.names(), [log_name(3)]);
}
