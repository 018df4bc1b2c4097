//! Running a scenario under many schedules of its threads, each of which can be had again.
//!
//! shuttle runs one thread at a time and decides at every lock and every atomic which one goes on.
//! A scenario must do the same things under the same decisions: its disk is in memory, its clock is
//! set by hand, and what it leaves to chance it asks [`chance`] for.

use std::env;

use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, Scheduler,
    UncontrolledNondeterminismCheckScheduler as RepeatingScheduler,
};
use shuttle::{Config, Runner};

use crate::fixture::{Random, seed};

/// Schedules of each kind for a scenario that does not say how many it gets. `EBBTIDE_SCHEDULES` says
/// so for all.
pub(crate) const SCHEDULES: usize = 150;
/// How many times at most a thread is stopped in favour of another in one schedule of the kind that
/// counts, less one. Few stops let a thread do much while another stands in the middle of a call.
const DEPTHS: [usize; 3] = [2, 3, 5];
/// Stack of each thread.
const STACK_BYTES: usize = 512 * 1024;
/// A schedule with more steps than this goes on for ever.
const MAX_STEPS: usize = 2_000_000;

/// Runs a scenario under schedules that follow from the seed, or under the one that
/// `EBBTIDE_SCHEDULE` holds. A failure prints its schedule.
pub(crate) fn explore(name: &str, count: usize, mapped: bool, scenario: fn(bool)) {
    if let Ok(schedule) = env::var("EBBTIDE_SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(schedule.trim()), mapped, scenario);
    }
    let given = env::var("EBBTIDE_SCHEDULES").ok().and_then(|text| text.parse().ok());
    let count = given.unwrap_or(count);
    let seed = seed(name);
    println!("{name}, mapped: {mapped}: EBBTIDE_SCHEDULES={count}; a failing schedule, given in");
    println!("EBBTIDE_SCHEDULE to this test alone, is run again");
    // Each of these is run twice and must ask for the same decisions, or none could be had again.
    run(RepeatingScheduler::new(RandomScheduler::new_from_seed(seed, 2)), mapped, scenario);
    run(RandomScheduler::new_from_seed(seed, count), mapped, scenario);
    for depth in DEPTHS {
        run(PctScheduler::new_from_seed(seed, depth, count), mapped, scenario);
    }
}

fn run(scheduler: impl Scheduler + 'static, mapped: bool, scenario: fn(bool)) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = shuttle::MaxSteps::FailAfter(MAX_STEPS);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    Runner::new(scheduler, config).run(move || scenario(mapped));
}

/// Chance that belongs to the schedule.
pub(crate) fn chance() -> Random {
    Random::new(thread_rng().next_u64())
}

/// Each scenario becomes a test in both modes; a number behind its name is that of its schedules of
/// each kind.
macro_rules! scenarios {
    ($($name:ident $(: $count:literal)?,)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use crate::schedules::{SCHEDULES, explore};

            const COUNT: usize = [$($count,)? SCHEDULES][0];

            #[test]
            fn by_position() {
                explore(stringify!($name), COUNT, false, super::$name);
            }

            #[test]
            fn mapped() {
                explore(stringify!($name), COUNT, true, super::$name);
            }
        }
    )*};
}

pub(crate) use scenarios;
