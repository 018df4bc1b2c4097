//! Everything that a power cut may leave of any short workload.
//!
//! `EBBTIDE_STEPS` sets the length of the longest workloads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

use common::exhaustive::{Tally, explore, kinds, workloads};

/// The longest workloads by default.
const STEPS: usize = 1;

#[test]
fn whatever_a_power_cut_leaves_of_a_short_workload_is_right() {
    let steps = std::env::var("EBBTIDE_STEPS").ok().and_then(|text| text.parse().ok());
    let workloads = workloads(steps.unwrap_or(STEPS));
    let count = workloads.len();
    let (tally, left) = (Tally::default(), Mutex::new(workloads));
    let work = || {
        loop {
            let Some(workload) = left.lock().unwrap().pop() else { return };
            let names: Vec<_> = workload.iter().map(|kind| kinds()[*kind].0).collect();
            let explored = catch_unwind(AssertUnwindSafe(|| explore(&workload, &tally)));
            explored.unwrap_or_else(|panic| {
                eprintln!("after {names:?}");
                resume_unwind(panic)
            });
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let Tally { cuts, states, left_to_chance } = tally;
    println!(
        "{} states of {} power cuts in {count} workloads, {} with more ways to tear files than were tried",
        states.into_inner(),
        cuts.into_inner(),
        left_to_chance.into_inner()
    );
}
