//! Mistakes planted in the engine, each of which the simulator has to find: one that has never found
//! anything says nothing.
//!
//! The engine makes the mistakes only when compiled with `RUSTFLAGS="--cfg planted"`, and so does
//! this file. Each test has its thread make one, and goes through states, seed by seed, until one
//! shows a broken promise; it tells the seed and how many states it took. It has to be a promise that the
//! mistake breaks: a panic of the engine finds nothing. The last test goes through as many without a
//! mistake.
#![cfg(planted)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/fixture.rs"]
mod fixture;
#[path = "planted/promises.rs"]
mod promises;
#[path = "planted/scenarios.rs"]
mod scenarios;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use common::crashes;
use common::exhaustive::{Tally, explore, workloads};
use common::generate::Mood;
use common::rot;
use ebbtide::{Bug, plant};
use promises::Finding;
use promises::Promise::{self, Durable, Gone, Numbers, Sound, Time, Whole, Willing};
use scenarios::*;

/// The most states that it may take to find a mistake.
const MOST: u64 = 20_000;
/// Seeds with which nothing may be found, for each way to look.
const CLEAN_SEEDS: u64 = 12;

/// Goes through the states of a seed, counts them, and panics if a promise is broken.
type Run = fn(u64, &AtomicU64);

thread_local! {
    /// A panic on this thread is what is looked for, and says nothing.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// The file that this thread has panicked in.
    static FILE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn mixed(seed: u64, states: &AtomicU64) {
    crashes::run(seed, Some(Mood::Mixed), states);
}

fn forgetful(seed: u64, states: &AtomicU64) {
    crashes::run(seed, Some(Mood::Forgetful), states);
}

fn restless(seed: u64, states: &AtomicU64) {
    crashes::run(seed, Some(Mood::Restless), states);
}

fn crowded(seed: u64, states: &AtomicU64) {
    crashes::run(seed, Some(Mood::Crowded), states);
}

/// A workload of two steps for each seed.
fn short(seed: u64, states: &AtomicU64) {
    let tally = Tally::default();
    let workloads: Vec<_> = workloads(2).into_iter().filter(|steps| steps.len() == 2).collect();
    // Neighbours have little to do with each other.
    let workload = &workloads[seed as usize * 29 % workloads.len()];
    let explored = catch_unwind(AssertUnwindSafe(|| {
        explore(workload, &tally);
    }));
    states.fetch_add(tally.states.into_inner(), Ordering::Relaxed);
    explored.unwrap_or_else(|panic| resume_unwind(panic));
}

/// All that looks for mistakes.
const RUNS: [Run; 15] = [
    mixed,
    forgetful,
    restless,
    crowded,
    rot::run,
    short,
    keys_at_a_drop,
    expiry_with_a_rotten_state,
    invalidated_twice,
    many_tombstones,
    sync_that_is_lost,
    write_that_is_short,
    neighbours_of_the_erased,
    ledger_at_a_drop,
    versions_at_a_scrub,
];

/// Runs with a seed; gives what was found.
fn finding(run: Run, seed: u64, states: &AtomicU64) -> Option<Finding> {
    let found = catch_unwind(AssertUnwindSafe(|| run(seed, states))).err()?;
    let text = found.downcast_ref::<String>().cloned();
    let text = text.or_else(|| found.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(Finding { text: text.unwrap_or_default(), file: FILE.take() })
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Keeps what is looked for from being printed.
fn be_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                loud(panic);
            }
            let file = panic.location().map(|location| location.file().to_owned());
            FILE.set(file.unwrap_or_default());
        }));
    });
    IS_QUIET.set(true);
}

/// Looks for a mistake until it shows, and fails unless it is one of these promises that it breaks.
fn find(bug: Bug, run: Run, promises: &[Promise]) {
    be_quiet();
    plant(Some(bug));
    let states = AtomicU64::new(0);
    let mut seeds = (1..).take_while(|_| states.load(Ordering::Relaxed) < MOST);
    let found = seeds.find_map(|seed| Some((seed, finding(run, seed, &states)?)));
    plant(None);
    IS_QUIET.set(false);
    let count = states.into_inner();
    let Some((seed, found)) = found else { panic!("{bug:?} was not found in {count} states") };
    let what = format!("{bug:?}: seed {seed}, after {count} states: {found}");
    assert!(!found.is_of_the_engine(), "the engine panicked: {what}");
    assert!(found.is_about(promises), "not about {promises:?}: {what}");
    println!("{what}");
}

macro_rules! finds {
    ($($name:ident: $bug:ident, $run:expr, $promises:expr;)*) => {
        $(#[test]
        fn $name() {
            find(Bug::$bug, $run, &$promises);
        })*
    };
}

finds! {
    finds_a_sync_that_was_only_said_to_be_done: AcknowledgedUnsynced, mixed, [Durable, Sound];
    finds_a_birth_that_was_not_synced: BirthNotSynced, mixed, [Durable, Sound];
    finds_a_drop_that_was_not_synced: DropNotSynced, restless, [Gone, Sound];
    finds_a_drop_that_was_not_synced_in_short_workloads: DropNotSynced, short, [Gone, Sound];
    finds_tombstones_ordered_by_time: TombstonesByTime, invalidated_twice, [Gone];
    finds_a_tombstone_that_was_forgotten_early: TombstoneForgottenEarly, many_tombstones, [Gone];
    finds_a_tombstone_that_was_taken_as_empty: TombstoneTakenAsEmpty, rot::run, [Gone];
    finds_a_number_that_was_used_again: SequenceReused, mixed, [Numbers];
    finds_a_number_that_was_used_again_in_short_workloads: SequenceReused, short, [Numbers];
    finds_a_record_that_was_published_before_it_was_written: PublishedBeforeWritten, crowded, [Durable, Whole, Sound];
    finds_a_slice_beyond_what_is_durable: SliceBeyondDurable, mixed, [Whole];
    finds_a_sync_that_was_tried_again: SyncRetried, sync_that_is_lost, [Durable];
    finds_a_walk_that_looks_for_the_next_record: ResyncedByMagic, rot::run, [Gone];
    finds_a_checksum_without_salt: ChecksumUnsalted, forgetful, [Gone, Whole, Sound];
    finds_a_log_that_goes_on_behind_a_torn_end: AppendedAfterTornTail, forgetful, [Gone, Sound];
    finds_a_length_that_was_believed_unchecked: LengthBeforeChecksum, rot::run, [Gone, Whole];
    finds_one_page_too_many: PageEndOffByOne, neighbours_of_the_erased, [Whole];
    finds_a_clock_step_that_was_believed: ForwardStepBelieved, restless, [Time];
    finds_a_short_write_that_was_taken_for_whole: ShortWriteIgnored, write_that_is_short, [Whole];
    finds_a_full_disk_that_ends_invalidation: FullDiskPoisons, crowded, [Willing];
    finds_a_recovery_that_takes_back_what_the_last_one_said: RecoveryNotIdempotent, forgetful, [Gone];
    finds_bytes_erased_while_they_were_held: ScrubbedWhileHeld, neighbours_of_the_erased, [Whole];
    finds_a_record_erased_after_it_was_inserted_again: ReinsertedScrubbed, forgetful, [Durable];
    finds_a_state_that_is_kept_in_one_place: SingleSlotState, expiry_with_a_rotten_state, [Gone];
    finds_a_ledger_that_speaks_too_early: LedgerBeforeDrop, ledger_at_a_drop, [Gone];
    finds_a_key_that_was_not_overwritten: KeyOutlivesBucket, keys_at_a_drop, [Gone];
    finds_a_winner_that_was_passed_over: InvisibleSkipped, versions_at_a_scrub, [Gone];
}

#[test]
fn finds_nothing_where_nothing_is_planted() {
    let states = AtomicU64::new(0);
    if let (Some(run), Some(seed)) = (from_env("EBBTIDE_RUN"), from_env("EBBTIDE_SEED")) {
        return RUNS[run as usize](seed, &states);
    }
    be_quiet();
    let mut found = Vec::new();
    for (at, run) in RUNS.into_iter().enumerate() {
        let of_run = |seed| Some((at, seed, finding(run, seed, &states)?));
        found.extend((1..=CLEAN_SEEDS).filter_map(of_run));
    }
    IS_QUIET.set(false);
    assert!(found.is_empty(), "by run and seed: {found:#?}");
    println!("nothing in {} states", states.into_inner());
}
