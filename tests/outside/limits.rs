//! A process that is allowed little: few open files, short files, little memory.

use std::fmt::{self, Display};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::afterwards::check_afterwards;
use crate::child::{Child, SEGMENT_BYTES};
use crate::fixture::{MODES, Random, seed};
use crate::model::Model;

const OPERATIONS: u64 = 400;
/// How many files may be open; with four there is none for the store.
const OPEN_FILES: [u64; 15] = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 48];
/// How long a file may become: around the lengths of what is small, and of segments.
const FILE_BYTES: [u64; 10] = [0, 4095, 4096, 8191, 8192, 10_000, 30_000, 65_535, 65_536, 1 << 20];
/// Memory beyond what the process needs to start.
const ROOM_KIB: [u64; 10] = [0, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384];
/// Memory with which nothing fails but to map a segment of [`LARGE_SEGMENT_BYTES`].
const AMPLE_KIB: u64 = 64 << 10;
/// With so much a store is opened.
const MOST_KIB: u64 = 1 << 20;
const LARGE_SEGMENT_BYTES: u64 = 256 << 20;
/// Fewer open files than there are segments, but as many as a store needs at a time.
const FEWER_THAN_SEGMENTS: u64 = 100;
const SMALL_SEGMENT_BYTES: u64 = 4096;
const SIGABRT: i32 = 6;
const SIGXFSZ: i32 = 25;

#[derive(Debug, Clone, Copy)]
enum Limit {
    OpenFiles(u64),
    /// With the signal that comes with it ignored, as servers do, or not.
    FileBytes(u64, bool),
    MemoryKib(u64),
}

impl Limit {
    /// What comes before the program to set the limit.
    fn words(self) -> Vec<String> {
        let words = match self {
            Self::OpenFiles(count) => format!("prlimit --nofile={count}"),
            Self::FileBytes(bytes, true) => {
                format!("env --ignore-signal=XFSZ prlimit --fsize={bytes}")
            }
            Self::FileBytes(bytes, false) => format!("prlimit --fsize={bytes}"),
            Self::MemoryKib(kib) => format!("prlimit --as={}", kib << 10),
        };
        words.split(' ').map(str::to_owned).collect()
    }

    /// What sort of limit it is, for which each counts by itself.
    fn sort(self) -> usize {
        match self {
            Self::OpenFiles(_) => 0,
            Self::FileBytes(_, true) => 1,
            Self::FileBytes(_, false) => 2,
            Self::MemoryKib(_) => 3,
        }
    }

    /// True if the process may have ended like this: by the signal for a file that is too long, or by
    /// an allocator that was refused memory. Any other end would be the engine's.
    fn explains(self, output: &Output, said: &str) -> bool {
        match (self, output.status.signal()) {
            (_, None) => output.status.success(),
            (Self::FileBytes(_, false), Some(signal)) => signal == SIGXFSZ,
            (Self::MemoryKib(_), Some(signal)) => {
                signal == SIGABRT && said.contains("memory allocation of")
            }
            _ => false,
        }
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenFiles(count) => write!(f, "{count} open files"),
            Self::FileBytes(bytes, true) => write!(f, "files of {bytes} B"),
            Self::FileBytes(bytes, false) => write!(f, "files of {bytes} B, or killed"),
            Self::MemoryKib(kib) => write!(f, "{kib} KiB of memory"),
        }
    }
}

/// What became of a process.
#[derive(Debug, Default)]
struct Tally {
    /// Runs that a limit was felt in, by its sort: it ended the process, or failed an operation or all.
    felt: [u64; 4],
    runs: u64,
    ended: u64,
    answered: u64,
    failed: u64,
    /// An invalidation could not be written down, and took segments or everything away instead.
    evicted: u64,
}

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn limits_of_a_process() {
    let mut choices = Random::new(seed("limits_of_a_process"));
    let mut tally = Tally::default();
    for mapped in MODES {
        let least = least_memory_kib(mapped, &mut choices);
        println!("mapped {mapped}: a process needs {least} KiB of memory to open a store");
        let files = OPEN_FILES.map(Limit::OpenFiles);
        let lengths = FILE_BYTES.map(|bytes| Limit::FileBytes(bytes, true));
        let deadly = FILE_BYTES.map(|bytes| Limit::FileBytes(bytes, false));
        let memory = ROOM_KIB.map(|room| Limit::MemoryKib(least + room));
        for limit in files.into_iter().chain(lengths).chain(deadly).chain(memory) {
            let run = Run { limit, mapped, segment_bytes: SEGMENT_BYTES };
            run.go(&mut choices, &mut tally);
        }
        let ample = Limit::MemoryKib(least + AMPLE_KIB);
        let run = Run { limit: ample, mapped, segment_bytes: LARGE_SEGMENT_BYTES };
        run.go_unharmed(&mut choices, &mut tally, "what cannot be mapped is read");
        let few = Limit::OpenFiles(FEWER_THAN_SEGMENTS);
        let run = Run { limit: few, mapped, segment_bytes: SMALL_SEGMENT_BYTES };
        run.go_unharmed(&mut choices, &mut tally, "not all files have to be open at a time");
    }
    let Tally { felt, runs, ended, answered, failed, evicted } = tally;
    println!("limits felt: {felt:?} of open files, lengths, deadly lengths, and memory");
    assert!(felt.iter().all(|count| *count > 0), "a limit that nothing has come to");
    assert!(failed < answered, "nothing works under a limit");
    println!(
        "{runs} runs, {ended} ended by the limit, {answered} operations, {failed} of them failed, \
         {evicted} took something else away"
    );
}

/// The least memory with which a process opens a store.
fn least_memory_kib(mapped: bool, choices: &mut Random) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let child = Child {
        dir: &dir.path().join("data"),
        notes: Path::new("/dev/stderr"),
        mapped,
        operations: 1,
        segment_bytes: SEGMENT_BYTES,
    };
    for kib in (4096..MOST_KIB).step_by(256) {
        let words = Limit::MemoryKib(kib).words();
        let output = child.command(&words, &Model::default(), choices).output().unwrap();
        if output.status.success() && output.stderr.starts_with(b"> ") {
            return kib;
        }
    }
    panic!("no store is opened with {MOST_KIB} KiB of memory");
}

#[derive(Debug, Clone, Copy)]
struct Run {
    limit: Limit,
    mapped: bool,
    segment_bytes: u64,
}

impl Run {
    /// The same, with a limit that must not be felt.
    fn go_unharmed(self, choices: &mut Random, tally: &mut Tally, what: &str) {
        let before = (tally.ended, tally.failed, tally.answered + OPERATIONS);
        self.go(choices, tally);
        assert_eq!((tally.ended, tally.failed, tally.answered), before, "{what}");
    }

    /// Lets a process work on a store of some age under the limit, then looks without it.
    fn go(self, choices: &mut Random, tally: &mut Tally) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let child = Child {
            dir: &data,
            // A pipe: a file would be limited too.
            notes: Path::new("/dev/stderr"),
            mapped: self.mapped,
            operations: OPERATIONS,
            segment_bytes: self.segment_bytes,
        };
        let mut model = Model::default();
        let mut free = Tally::default();
        self.work(child.command(&[], &model, choices), &mut model, &mut free);
        assert_eq!((free.ended, free.failed), (0, 0), "nothing was limited");
        let before = model.acknowledged;
        let command = child.command(&self.limit.words(), &model, choices);
        let mut own = Tally::default();
        self.work(command, &mut model, &mut own);
        // What was taken away instead is noted like an operation.
        own.answered = model.acknowledged - before - own.evicted;
        println!(
            "{}, mapped {}: {} operations, {} failed, {} took something else away{}",
            self.limit,
            self.mapped,
            own.answered,
            own.failed,
            own.evicted,
            if own.ended > 0 { ", ended" } else { "" }
        );
        check_afterwards(&data, self.mapped, &mut model);
        let is_felt = own.ended + own.failed > 0 || own.answered < OPERATIONS;
        tally.felt[self.limit.sort()] += u64::from(is_felt);
        tally.runs += 1;
        tally.ended += own.ended;
        tally.answered += own.answered;
        tally.failed += own.failed;
        tally.evicted += own.evicted;
    }

    fn work(self, mut command: Command, model: &mut Model, tally: &mut Tally) {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let is_note = |line: &&str| line.starts_with("> ") || line.starts_with("< ");
        let notes: String = text.split_inclusive('\n').filter(is_note).collect();
        tally.failed += notes.matches("< failed\n").count() as u64;
        tally.evicted += notes.matches("> evicted\n").count() as u64;
        tally.ended += u64::from(output.status.signal().is_some());
        let status = output.status;
        assert!(self.limit.explains(&output, &text), "{}: {status}: {text}", self.limit);
        model.take_notes(&notes);
    }
}
