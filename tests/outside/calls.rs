//! System calls that fail, or in the middle of which the process is killed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use crate::afterwards::check_afterwards;
use crate::child::{Child, IS_AHEAD, SEGMENT_BYTES};
use crate::counted::{Place, count_failed, places};
use crate::fixture::{MODES, Random, seed};
use crate::model::Model;
use crate::tree::copy;

/// Calls by which the engine changes or reads files, each kind by all of its names.
const CALLS: [&[&str]; 16] = [
    &["pwrite64", "pwritev"],
    &["fdatasync"],
    &["fsync"],
    &["open", "openat"],
    &["rename", "renameat", "renameat2"],
    &["unlink", "unlinkat"],
    &["mkdir", "mkdirat"],
    &["fallocate"],
    &["ftruncate"],
    &["pread64", "preadv"],
    &["getdents64"],
    &["statx", "fstat", "newfstatat"],
    &["madvise", "fadvise64"],
    &["statfs", "fstatfs"],
    &["flock"],
    &["mmap"],
];
/// What they fail with; the last one kills the process as the call begins.
const FAULTS: [&str; 10] = [
    "error=EIO",
    "error=ENOSPC",
    "error=EDQUOT",
    "error=EFBIG",
    "error=EMFILE",
    "error=ENFILE",
    "error=ENOMEM",
    "error=EINTR",
    "error=EAGAIN",
    KILL,
];
const KILL: &str = "signal=KILL";
const SIGKILL: i32 = 9;
const OPERATIONS: u64 = 60;

/// What became of the runs of a kind of calls.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    /// Runs in which a call was made to fail, by its name and what it was about.
    met: BTreeMap<String, u64>,
    /// Calls that were.
    failed_calls: u64,
    kills: u64,
    answered: u64,
    failed: u64,
    evicted: u64,
    /// What had been done and was not durable, and was lost.
    lost: u64,
}

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn failing_calls() {
    let rounds: usize = std::env::var("EBBTIDE_ROUNDS").ok().map_or(1, |n| n.parse().unwrap());
    let mut choices = Random::new(seed("failing_calls"));
    let mut tallies = CALLS.map(|_| Tally::default());
    for round in 0..rounds {
        for (at, tally) in tallies.iter_mut().enumerate() {
            for mapped in MODES {
                let scene = Scene::prepare(mapped, &mut choices);
                let own = scene.places.iter().filter(|place| CALLS[at].contains(&&*place.name));
                let own: Vec<&Place> = own.collect();
                // By position nothing is mapped, and no advice is given.
                if own.is_empty() {
                    continue;
                }
                let half = FAULTS.iter().skip((round + at + usize::from(mapped)) % 2).step_by(2);
                half.for_each(|fault| scene.fail(&own, fault, &mut choices, tally));
            }
        }
    }
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    for (names, tally) in CALLS.iter().zip(&tallies) {
        let met: Vec<_> = tally.met.iter().map(|(what, runs)| format!("{what} {runs}")).collect();
        println!(
            "{}: met {} times of {}, {} calls failed: {}",
            names.join(","),
            tally.met.values().sum::<u64>(),
            tally.runs,
            tally.failed_calls,
            met.join(", ")
        );
    }
    println!(
        "{} runs, {} killed, {} operations, {} of them failed, {} were not durable and lost, {} took something \
         else away",
        sum(|tally| tally.runs),
        sum(|tally| tally.kills),
        sum(|tally| tally.answered),
        sum(|tally| tally.failed),
        sum(|tally| tally.lost),
        sum(|tally| tally.evicted)
    );
    assert!(sum(|tally| tally.kills) > 0, "no process was killed");
    for (names, tally) in CALLS.iter().zip(&tallies) {
        assert!(!tally.met.is_empty(), "no {} has been made to fail", names.join(","));
    }
}

/// A store of some age, and what a process that goes on with it calls.
struct Scene {
    dir: tempfile::TempDir,
    model: Model,
    mapped: bool,
    seed: u64,
    places: Vec<Place>,
}

/// What a process left of a copy of the store.
struct Left {
    dir: tempfile::TempDir,
    model: Model,
    trace: String,
    signal: Option<i32>,
    notes: String,
}

impl Scene {
    fn prepare(mapped: bool, choices: &mut Random) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let seed = choices.next();
        let model = Model::default();
        let mut scene = Self { dir, model, mapped, seed, places: Vec::new() };
        let aged = scene.run(&[]);
        scene.model = aged.model;
        scene.dir = aged.dir;
        scene.seed = choices.next();
        let counted = scene.run(&[]);
        assert_eq!(counted.notes.matches("< failed").count(), 0, "nothing was made to fail");
        scene.places = places(&counted.trace, &data(counted.dir.path()));
        scene
    }

    /// Lets the process work on a copy of the store, its calls written down.
    fn run(&self, injected: &[String]) -> Left {
        let dir = tempfile::tempdir().unwrap();
        let data = data(dir.path());
        copy(&self.dir.path().join("data"), &data);
        let (notes, trace) = (dir.path().join("notes"), dir.path().join("trace"));
        let child = Child {
            dir: &data,
            notes: &notes,
            mapped: self.mapped,
            operations: OPERATIONS,
            segment_bytes: SEGMENT_BYTES,
        };
        let traced = format!("trace={}", CALLS.concat().join(","));
        let words = ["strace", "-f", "-qq", "-y", "-e", "signal=none", "-e", &traced, "-o"];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.push(trace.to_str().unwrap().to_owned());
        words.extend(injected.iter().flat_map(|what| ["-e".to_owned(), what.clone()]));
        // The same choices each time, so that the calls are those that were counted.
        let mut command: Command = child.command(&words, &self.model, &mut Random::new(self.seed));
        let output = command.env(IS_AHEAD, "1").output().unwrap();
        let signal = output.status.signal();
        let said = String::from_utf8_lossy(&output.stderr);
        let is_killed = injected.iter().any(|what| what.contains(KILL)) && signal == Some(SIGKILL);
        assert!(output.status.success() || is_killed, "{injected:?}: {}: {said}", output.status);
        let notes = fs::read_to_string(&notes).unwrap_or_default();
        let mut model = self.model.clone();
        model.take_notes(&notes);
        Left { dir, model, trace: fs::read_to_string(trace).unwrap(), signal, notes }
    }

    /// Lets a call fail, or the calls of its name from it on, all or some; then looks at what is left.
    fn fail(&self, places: &[&Place], fault: &str, choices: &mut Random, tally: &mut Tally) {
        let place = choose(places, choices);
        let step = ["", "+3", "+"][choices.below(3) as usize];
        // What is interrupted every time is tried again for ever, and an allocator that is refused memory
        // ends the process.
        let step = if fault == "error=EINTR" || place.name == "mmap" { "" } else { step };
        let injected = format!("inject={}:{fault}:when={}{step}", place.name, place.number);
        let mut left = self.run(std::slice::from_ref(&injected));
        let killed = left.signal == Some(SIGKILL);
        let failed_calls = count_failed(&left.trace, &data(left.dir.path())) + u64::from(killed);
        let what = format!("{} of {}", place.name, place.about);
        let [failed, evicted] =
            ["< failed", "> evicted\n"].map(|note| left.notes.matches(note).count() as u64);
        let answered = left.model.acknowledged - self.model.acknowledged - evicted;
        println!(
            "{what} {fault} from {}{step}, mapped {}: {failed_calls} calls failed; {answered} operations, \
             {failed} failed, {evicted} took something else away",
            place.number, self.mapped
        );
        tally.runs += 1;
        tally.kills += u64::from(killed);
        tally.failed_calls += failed_calls;
        tally.answered += answered;
        tally.failed += failed;
        tally.evicted += evicted;
        if failed_calls > 0 {
            *tally.met.entry(what).or_default() += 1;
        }
        check_afterwards(&data(left.dir.path()), self.mapped, &mut left.model);
        let lost = left.model.lost;
        tally.lost += lost;
        // What was done has been given to the system, which goes on.
        assert!(fault != KILL || lost == 0, "something was done, and is lost");
    }
}

/// Where the store is, as the system writes it.
fn data(dir: &Path) -> std::path::PathBuf {
    fs::canonicalize(dir).unwrap().join("data")
}

/// One of these, those that are rare as often as others: first what it calls and about what, then which.
fn choose<'a>(places: &[&'a Place], choices: &mut Random) -> &'a Place {
    let mut kinds: BTreeMap<(&str, &str), Vec<&'a Place>> = BTreeMap::new();
    for place in places {
        kinds.entry((&place.name, &place.about)).or_default().push(place);
    }
    let mut any = |count: usize| choices.below(count as u64) as usize;
    let kind = any(kinds.len());
    let kind = kinds.into_values().nth(kind).unwrap();
    kind[any(kind.len())]
}
