//! Power cuts between any two calls of the disk, again and again during recovery, and calls that
//! fail: whatever is left, the store opens, gives nothing that was invalidated or is past its time,
//! and has everything that was acknowledged as durable.
//!
//! `EBBTIDE_CRASH_STATES` sets the number of states, `EBBTIDE_FIRST_SEED` where to begin;
//! `EBBTIDE_SEED` goes through the states of one seed, as a failure prints it, and `EBBTIDE_SEEDS` through
//! those of so many, in one thread: processes side by side are faster than threads of one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::io::ErrorKind;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::crashes::{self, check_state, config, with_seed};
use common::everything;
use common::generate::{self, Mood};
use common::ops::{Key, Op};
use common::random::Random;
use common::rot;
use common::world::{Config, World, faulty};
use ebbtide::disk::Fault;
use faults::FAULTS;

/// States gone through by default.
const STATES: u64 = 5_000;
/// States with something rotten.
const ROTTEN: u64 = 2_000;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs this with one seed after the other until it has counted so many states, or with the one seed
/// that is asked for.
fn run_seeds(wanted: u64, run: impl Fn(u64, &AtomicU64) + Sync) {
    let first = from_env("EBBTIDE_FIRST_SEED").unwrap_or(1);
    let (states, next_seed) = (AtomicU64::new(0), AtomicU64::new(first));
    if let Some(seed) = from_env("EBBTIDE_SEED") {
        return run(seed, &states);
    }
    let run_next =
        || with_seed(next_seed.fetch_add(1, Ordering::Relaxed), |seed| run(seed, &states));
    if let Some(seeds) = from_env("EBBTIDE_SEEDS") {
        (0..seeds).for_each(|_| run_next());
    } else {
        let wanted = from_env("EBBTIDE_CRASH_STATES").unwrap_or(wanted);
        let work = || {
            while states.load(Ordering::Relaxed) < wanted {
                run_next();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
    }
    let seeds = next_seed.into_inner() - first;
    println!("{} states from {seeds} seeds, from {first} on", states.into_inner());
}

#[test]
fn every_power_cut_leaves_a_store_that_keeps_its_word() {
    run_seeds(STATES, |seed, states| crashes::run(seed, None, states));
}

#[test]
fn what_rots_while_a_store_is_closed_hides_and_brings_nothing_back() {
    run_seeds(ROTTEN, rot::run);
}

#[test]
fn many_power_cuts_of_one_store_leave_no_heap_of_files() {
    let random = &mut Random::new(5);
    let config = Config { capacity: None, ..config(random) };
    let mut world = World::new(config, 5);
    let mut most = 0;
    for cycle in 0..300 {
        world.open().unwrap();
        for op in generate::ops(random, Mood::Mixed, 12) {
            world.apply(&op);
        }
        world.clock.advance(Duration::from_secs(1800));
        world.apply(&Op::Maintain);
        let mut files = world.disk.all_files();
        // The ledger is kept for years.
        files.retain(|path| !path.starts_with("/data/ledger"));
        most = most.max(files.len());
        assert!(files.len() < 150, "{} files after {cycle} power cuts: {files:#?}", files.len());
        world.crash(random);
        world.clock.reboot(Duration::from_secs(60));
    }
    println!("at most {most} files");
    world.open().unwrap();
    world.finish();
}

/// Runs the workload with one fault, then without: first as the process goes on, then opened again.
fn survive(fault: Fault, call: u64, mapped: bool) -> bool {
    let mut world = World::new(everything::config(mapped), 1);
    let disk = faulty(&world.disk);
    disk.inject(call, fault);
    world.fail_from(disk.clone(), call);
    let _ = world.open();
    for op in everything::ops() {
        if !world.is_open() {
            break;
        }
        world.apply(&op);
    }
    let reached = world.has_failed();
    let random = &mut Random::new(call);
    for _ in 0..2 {
        check_state(world.cut(random), random);
    }
    world.kill();
    world.mend();
    world.open().expect("opens once the fault is gone");
    world.apply(&Op::Insert(Key { space: 1, key: 0 }, 64));
    world.apply(&Op::Append { ip: 1, minutes_ago: 0, len: 64, tags: 0 });
    world.apply(&Op::InvalidateKey(Key { space: 0, key: 0 }));
    world.apply(&Op::Sync);
    // What the process before had not synced, this one has built upon.
    world.crash_by(&mut |_: u32| 0);
    world.open().expect("opens once the power is back");
    world.apply(&Op::Maintain);
    world.finish();
    reached
}

#[test]
fn any_one_failing_call_is_survived() {
    let (runs, next) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        while let Some(fault) = FAULTS.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            for call in 1.. {
                let reached = catch_unwind(|| survive(*fault, call, call % 2 == 0));
                let reached = reached.unwrap_or_else(|panic| {
                    eprintln!("{fault:?} at call {call}");
                    resume_unwind(panic)
                });
                runs.fetch_add(1, Ordering::Relaxed);
                if !reached {
                    break;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    println!("{} runs", runs.into_inner());
}

#[test]
fn any_one_failing_call_of_a_recovery_is_survived() {
    let random = &mut Random::new(3);
    let config = Config { capacity: None, ..config(random) };
    let before = everything::killed(config);
    let faults = [
        Fault::Error(ErrorKind::TimedOut),
        Fault::Torn(ErrorKind::TimedOut),
        Fault::Short,
        Fault::SyncLost(ErrorKind::TimedOut),
    ];
    for fault in faults {
        for call in 1.. {
            if std::env::var_os("EBBTIDE_TRACE").is_some() {
                eprintln!("{fault:?} at call {call}");
            }
            let mut world = before.killed_copy();
            let disk = faulty(&world.disk);
            disk.inject(call, fault);
            world.fail_from(disk, call);
            let opened = world.open();
            if !world.has_failed() {
                break;
            }
            if opened.is_ok() {
                world.apply(&Op::Insert(Key { space: 0, key: 5 }, 64));
                world.apply(&Op::Sync);
                world.apply(&Op::InvalidateTag(0, 1));
            }
            for _ in 0..4 {
                check_state(world.cut(random), random);
            }
            world.kill();
            world.mend();
            world.open().expect("opens once the fault is gone");
            world.read_all();
        }
    }
}
