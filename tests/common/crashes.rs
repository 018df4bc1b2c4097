//! Random workloads, each life of which ends with its process or in a power cut, and recoveries that are
//! cut short in turn, or of which a call fails.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide::disk::Fault;

use super::generate::{self, Mood};
use super::ops::Op;
use super::random::Random;
use super::world::{Config, World, faulty};

/// How deep recoveries are cut short in turn.
const DEPTH: u32 = 3;
/// As many calls as nearly all openings make.
pub(crate) const OPENING_CALLS: u64 = 300;

/// How to open the store of a run.
pub(crate) fn config(random: &mut Random) -> Config {
    Config {
        mapped: random.once_in(2),
        // Room for 16 of the longest segments at least.
        capacity: random.once_in(4).then(|| 8192 * (16 + random.below(8))),
        segment_bytes: 4096 + 1024 * random.below(5),
        verify_every_read: random.once_in(2),
        forgets: false,
    }
}

/// Opens what a power cut left, checks it, and checks that opening again gives the same.
pub(crate) fn check_state(world: World, random: &mut Random) {
    // What is written from here on is on top of it.
    let more = if random.once_in(2) { 3 } else { 0 };
    let mood = Mood::any(random);
    let ops = generate::ops(random, mood, more);
    let mut power_cut = random.once_in(2).then(|| random.choices());
    check_and_go_on(
        world,
        &ops,
        power_cut.as_mut().map(|choices| choices as &mut dyn FnMut(u32) -> u32),
    );
}

/// The same with these steps, and then the end of the process, or a power cut with what is left chosen by
/// these answers.
pub(crate) fn check_and_go_on(
    mut world: World,
    ops: &[Op],
    power_cut: Option<&mut dyn FnMut(u32) -> u32>,
) {
    world.open().expect("opens after a power cut");
    for op in ops {
        world.apply(op);
    }
    match power_cut {
        Some(choices) => world.crash_by(choices),
        None => world.kill(),
    }
    world.open().expect("opens once more");
    // Closing it in order would take longer than opening it did, and nobody looks at what it leaves.
    world.kill();
}

/// Lets the power go at a random call of opening, or that call alone fail, and so on down.
fn cut_recovery(mut world: World, random: &mut Random, depth: u32, states: &AtomicU64) {
    let disk = faulty(&world.disk);
    let call = 1 + random.below(OPENING_CALLS);
    let is_end = random.once_in(2);
    let fault = if is_end { Fault::ErrorsFrom(ErrorKind::TimedOut) } else { fault(random) };
    disk.inject(call, fault);
    world.fail_from(disk, call);
    let opened = world.open();
    if !world.has_failed() {
        opened.expect("opens as long as no call fails");
    }
    // What opening made durable may not be known to the model: whatever it allows is right.
    cut(&world, random, depth, states);
}

/// Goes through some states that a power cut may leave now.
fn cut(world: &World, random: &mut Random, depth: u32, states: &AtomicU64) {
    for _ in 0..3 {
        check_state(world.cut(random), random);
        states.fetch_add(1, Ordering::Relaxed);
    }
    check_state(world.killed_copy(), random);
    states.fetch_add(1, Ordering::Relaxed);
    if depth < DEPTH {
        cut_recovery(stopped(world, random), random, depth + 1, states);
    }
}

/// A state that the end of the process leaves now, or a power cut.
fn stopped(world: &World, random: &mut Random) -> World {
    if random.once_in(2) { world.killed_copy() } else { world.cut(random) }
}

/// What goes wrong in a life: the power at some call, or mostly that call alone, and the life goes on.
fn fault(random: &mut Random) -> Fault {
    match random.below(12) {
        0 | 6..9 => Fault::Error(ErrorKind::TimedOut),
        1 => Fault::Error(ErrorKind::StorageFull),
        2 => Fault::Torn(ErrorKind::StorageFull),
        3 => Fault::Short,
        4..6 => Fault::SyncLost(ErrorKind::TimedOut),
        _ => Fault::ErrorsFrom(ErrorKind::TimedOut),
    }
}

/// Goes through the states of one seed, and counts them: a workload in several lives.
pub(crate) fn run(seed: u64, mood: Option<Mood>, states: &AtomicU64) {
    let random = &mut Random::new(seed);
    let mood = mood.unwrap_or_else(|| Mood::any(random));
    // Without a choice, which would be at the cost of all the others of these seeds.
    let config = Config { forgets: seed % 2 == 1, ..config(random) };
    let mut world = World::new(config, seed);
    for _ in 0..3 {
        let disk = faulty(&world.disk);
        let (call, fault) = (1 + random.below(300), fault(random));
        let is_end = matches!(fault, Fault::ErrorsFrom(_));
        disk.inject(call, fault);
        world.fail_from(disk, call);
        let opened = world.open();
        if !world.has_failed() {
            opened.expect("opens as long as no call fails");
        }
        for op in generate::ops(random, mood, 40) {
            if (world.has_failed() && is_end) || !world.is_open() {
                break;
            }
            world.apply(&op);
        }
        cut(&world, random, 0, states);
        world = stopped(&world, random);
    }
}

/// Runs this with a seed, and names the seed if it fails.
pub(crate) fn with_seed<T>(seed: u64, run: impl FnOnce(u64) -> T) -> T {
    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(value) => value,
        Err(panic) => {
            eprintln!("to see this failure alone, set EBBTIDE_SEED={seed}");
            resume_unwind(panic)
        }
    }
}
