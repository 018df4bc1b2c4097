//! All workloads of a few steps of eight kinds, and the power cut between any two calls on the disk. Of
//! what may be left then, all is gone through: each set of unsynced names that are there, with each set
//! of unsynced files that are as new, and files torn in every way. Only where there are thousands of
//! ways to tear them, the rest is left to chance.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide::disk::{Fault, MemoryDisk};

use super::crashes::check_and_go_on;
use super::ops::{How, Key, Op, Target};
use super::random::Random;
use super::world::{Config, World, faulty};

/// Ways to tear the files of one power cut that are gone through one after the other.
const MOST: usize = 4096;
/// Ways of the rest.
const BY_CHANCE: u64 = 512;

const KEY: Key = Key { space: 0, key: 0 };

/// What a step is made of.
pub(crate) fn kinds() -> [(&'static str, Vec<Op>); 8] {
    let fill =
        Op::Begin { key: KEY, tags: 1, metadata: false, expires: None, sync: true, limit: 10 };
    [
        ("insert", vec![Op::Insert(KEY, 40)]),
        ("fill", vec![fill, Op::Commit(0, 40)]),
        ("append", vec![Op::Append { ip: 1, minutes_ago: 0, len: 8, tags: 1 }]),
        ("invalidate", vec![Op::InvalidateKey(KEY)]),
        ("forget", vec![Op::Forget(Target::Everywhere(1, true), How::Hide)]),
        ("scrub", vec![Op::Scrub]),
        ("reopen", vec![Op::Reopen]),
        ("expire", vec![Op::Advance(18 * 3600), Op::Maintain]),
    ]
}

/// The kinds of the steps, by number.
pub(crate) type Workload = Vec<usize>;

/// All workloads of one step up to so many.
pub(crate) fn workloads(most: usize) -> Vec<Workload> {
    let mut all: Vec<Workload> = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..most {
        let to = all.len();
        for at in from..to {
            for kind in 0..kinds().len() {
                let longer = all[at].iter().copied().chain([kind]).collect();
                all.push(longer);
            }
        }
        from = to;
    }
    all.split_off(1)
}

/// The world after a workload in which every call fails from this one on, and the calls there were.
fn world_after(workload: &[usize], stop: Option<u64>) -> (World, u64) {
    let config = Config {
        mapped: false,
        capacity: None,
        segment_bytes: 4096,
        verify_every_read: false,
        forgets: false,
    };
    let mut world = World::new(config, 1);
    let disk = faulty(&world.disk);
    stop.iter().for_each(|call| disk.inject(*call, Fault::ErrorsFrom(ErrorKind::TimedOut)));
    world.fail_from(disk.clone(), stop.unwrap_or(u64::MAX));
    world.open().unwrap();
    let kinds = kinds();
    let ops = workload.iter().flat_map(|kind| &kinds[*kind].1);
    for op in ops {
        if world.has_failed() {
            break;
        }
        world.apply(op);
    }
    (world, disk.calls())
}

/// Gives one answer after the other to each question, so that all combinations of the first few answers
/// are met.
struct Script {
    /// How many answers to a question are given at most.
    most: u32,
    /// Answers, and how many there are to the same question.
    answers: Vec<(u32, u32)>,
    asked: usize,
}

impl Script {
    fn new(most: u32) -> Self {
        Self { most, answers: Vec::new(), asked: 0 }
    }

    fn answer(&mut self, options: u32) -> u32 {
        if self.asked == self.answers.len() {
            self.answers.push((0, options.min(self.most)));
        }
        self.asked += 1;
        self.answers[self.asked - 1].0
    }

    /// Goes on to the next combination, if there is one.
    fn advance(&mut self) -> bool {
        self.answers.truncate(std::mem::take(&mut self.asked));
        while let Some((answer, options)) = self.answers.last_mut() {
            *answer += 1;
            if answer < options {
                return true;
            }
            self.answers.pop();
        }
        false
    }
}

/// What was gone through.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) cuts: AtomicU64,
    pub(crate) states: AtomicU64,
    /// Power cuts with more ways to tear files than are gone through one after the other.
    pub(crate) left_to_chance: AtomicU64,
}

/// One power cut, and the states that it and those before it have led to.
struct Cut<'a> {
    world: &'a World,
    model: String,
    seen: &'a mut HashSet<u64>,
    tally: &'a Tally,
}

impl Cut<'_> {
    fn go_through(mut self) {
        self.tally.cuts.fetch_add(1, Ordering::Relaxed);
        // The first two answers are always old and new, so that no file is torn.
        let mut whole = Script::new(2);
        loop {
            self.look(&mut |options| whole.answer(options));
            if !whole.advance() {
                break;
            }
        }
        let mut torn = Script::new(u32::MAX);
        for _ in 0..MOST {
            self.look(&mut |options| torn.answer(options));
            if !torn.advance() {
                return;
            }
        }
        self.tally.left_to_chance.fetch_add(1, Ordering::Relaxed);
        for seed in 0..BY_CHANCE {
            let mut random = Random::new(seed);
            self.look(&mut |options| random.below(options.into()) as u32);
        }
    }

    /// Checks what these answers leave, unless that was met before.
    fn look(&mut self, choices: &mut dyn FnMut(u32) -> u32) {
        let mut left = self.world.cut_by(choices, false);
        let hash = hash_of(&left.disk, &self.model);
        if self.seen.insert(hash) {
            self.tally.states.fetch_add(1, Ordering::Relaxed);
            left.config.mapped = hash.is_multiple_of(2);
            check_and_go_on(left, &[], None);
        }
    }
}

fn hash_of(disk: &MemoryDisk, model: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    for path in disk.all_files() {
        disk.read_file(&path).unwrap().hash(&mut hasher);
        path.hash(&mut hasher);
    }
    hasher.finish()
}

/// Cuts the power at every call of the last step: those before it are other workloads' last.
pub(crate) fn explore(workload: &[usize], tally: &Tally) {
    let (_, before) = world_after(&workload[..workload.len() - 1], None);
    let (whole, end) = world_after(workload, None);
    let mut seen = HashSet::new();
    let mut cut = |world: &World| {
        let model = format!("{:?}", world.model);
        Cut { world, model, seen: &mut seen, tally }.go_through();
    };
    for call in before + 1..=end {
        cut(&world_after(workload, Some(call)).0);
    }
    cut(&whole);
}
