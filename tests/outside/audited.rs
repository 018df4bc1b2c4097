//! The process whose system calls are audited, and its runs.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use ebbtide::{
    Durability, Error, Keyspace, KeyspaceOptions, Log, LogOptions, ManualClock, Retention, Row,
    Store,
};

use crate::audit::{Auditor, DURABLE, Figures, MARKS, SCRUB_BEGINS, SCRUB_ENDS};
use crate::fixture::{MODES, Random, clock, hours, quiet, seed, try_open, value_of};
use crate::trace::Trace;

const DIR: &str = "EBBTIDE_AUDIT_DIR";
const ROUNDS: u64 = 4;
const KEYS: u64 = 40;
const LONGEST: u64 = 20_000;
/// Longer than what is kept in memory, so that it goes to a file of its own.
const STREAMED: u64 = 40_000;
const SEGMENT_BYTES: u64 = 65_536;
const CAPACITY_BYTES: u64 = 1 << 20;
/// Scrubbing waits until it is asked for, so that its calls can be told apart.
const NEVER: u64 = 24 * 30;
const THREADS: u64 = 3;
/// How many syncs fail, one in each of so many runs of both kinds.
const FAILING_SYNCS: usize = 12;
const TRACED: &str = "trace=open,openat,openat2,creat,pwrite64,pwritev,pwritev2,write,fallocate,fsync,fdatasync,\
    sync_file_range,ftruncate,truncate,mmap,munmap,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,\
    rmdir,link,linkat,symlink,symlinkat";

// ---- the process ----

struct Work {
    marks: File,
    clock: ManualClock,
    /// Errors are answers, since calls are made to fail.
    may_fail: bool,
    /// A thread of the store's scrubs what an earlier process may have left, or goes on after a failure.
    scrubs_any_time: bool,
}

/// The work of the process, if this is it.
pub(crate) fn work() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let is = |name: &str| std::env::var(name).unwrap() == "true";
    let marks = OpenOptions::new().append(true).create(true).open(dir.join(MARKS)).unwrap();
    let (mapped, threads) = (is("EBBTIDE_AUDIT_MAPPED"), is("EBBTIDE_AUDIT_THREADS"));
    let may_fail = is("EBBTIDE_AUDIT_FAILS");
    let work = Work { marks, clock: clock(), may_fail, scrubs_any_time: threads || may_fail };
    if work.scrubs_any_time {
        work.mark(SCRUB_BEGINS);
    }
    for first in [0, ROUNDS / 2] {
        let builder = quiet(Store::builder(dir.join("data")), &work.clock);
        let opened = work.expect(try_open(builder.background(threads), mapped));
        let Some(store) = opened else { continue };
        for round in first..first + ROUNDS / 2 {
            if work.round(&store, round, threads).is_err() {
                break;
            }
        }
        work.expect(store.close());
    }
}

impl Work {
    fn mark(&self, mark: &str) {
        (&self.marks).write_all(format!("{mark}\n").as_bytes()).unwrap();
    }

    /// Marks that something is durable, if it is.
    fn is_durable<T>(&self, result: Result<T, Error>) {
        if self.expect(result).is_some() {
            self.mark(DURABLE);
        }
    }

    fn expect<T>(&self, result: Result<T, Error>) -> Option<T> {
        assert!(self.may_fail || result.is_ok(), "{:?}", result.err());
        result.ok()
    }

    fn round(&self, store: &Store, round: u64, threads: bool) -> Result<(), Error> {
        let options = |bytes| KeyspaceOptions::new(Retention::hours(16)).segment_bytes(bytes);
        let quiet = |options: KeyspaceOptions| options.erase_within(hours(NEVER));
        let images = store.keyspace("images", quiet(options(SEGMENT_BYTES)))?;
        let small = options(SEGMENT_BYTES).capacity_bytes(CAPACITY_BYTES);
        let small = store.keyspace("small", quiet(small))?;
        let access = LogOptions::new(Retention::hours(16)).segment_bytes(SEGMENT_BYTES);
        let access = store.log("access", access.erase_within(hours(NEVER)))?;
        std::thread::scope(|scope| {
            for thread in 0..if threads { THREADS } else { 1 } {
                let (images, small, access) = (&images, &small, &access);
                let mut choices = Random::new(round * THREADS + thread);
                scope.spawn(move || {
                    (0..2 * KEYS).for_each(|_| self.step(images, small, access, &mut choices));
                });
            }
        });
        self.is_durable(store.sync());
        self.mark(SCRUB_BEGINS);
        self.expect(store.scrub());
        if !self.scrubs_any_time {
            self.mark(SCRUB_ENDS);
        }
        if round % 2 == 1 {
            self.clock.advance(hours(17));
            for _ in 0..20 {
                self.expect(store.maintain());
            }
        }
        Ok(())
    }

    fn step(&self, images: &Keyspace, small: &Keyspace, access: &Log, choices: &mut Random) {
        let key = choices.below(KEYS);
        let name = key.to_le_bytes();
        match choices.below(10) {
            0..3 => {
                self.expect(small.insert(name, value_of(key, 1, LONGEST)));
            }
            3..5 => {
                let fill = images.fill(name).tag("tag").durability(Durability::Sync);
                self.is_durable(fill.commit(value_of(key, 2, LONGEST)));
            }
            5 => {
                let writer = images.fill(name).memory_limit_bytes(64).into_writer();
                let Some(mut writer) = self.expect(writer) else { return };
                for piece in value_of(key, 3, STREAMED).chunks(4096) {
                    let written = writer.write_all(piece);
                    assert!(self.may_fail || written.is_ok());
                }
                self.expect(writer.commit());
            }
            6 => {
                let row = Row::anonymous().tag("tag").payload(value_of(0, key, 300));
                self.expect(access.append(row));
            }
            7 => self.is_durable(images.invalidate(name)),
            8 if key < 4 => self.is_durable(images.invalidate_tag("tag")),
            8 => self.is_durable(access.invalidate_tag("tag")),
            _ => {
                self.expect(images.get(name));
            }
        }
    }
}

// ---- its runs ----

#[derive(Debug, Clone, Copy)]
struct Run {
    mapped: bool,
    threads: bool,
    /// Which call of `fdatasync` fails.
    failing: Option<u64>,
}

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn audited_calls() {
    let mut choices = Random::new(seed("audited_calls"));
    for mapped in MODES {
        let mut syncs = 0;
        for threads in [false, true] {
            let figures = Run { mapped, threads, failing: None }.go();
            println!("mapped {mapped}, threads {threads}: {figures:?}");
            figures.assert_all_was_there(mapped, threads);
            syncs = figures.syncs as u64;
        }
        let mut failed = 0;
        for at in 0..FAILING_SYNCS {
            let failing = Some(1 + choices.below(syncs / 3));
            failed += Run { mapped, threads: at % 2 == 1, failing }.go().failed_syncs;
        }
        println!("mapped {mapped}: {failed} failed syncs, none tried again");
        assert!(failed > 0);
    }
}

impl Run {
    /// Traces a process and audits its calls.
    fn go(self) -> Figures {
        let dir = tempfile::tempdir().unwrap();
        let dir_path = fs::canonicalize(dir.path()).unwrap();
        let trace = dir_path.join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-yy", "-s", "64", "-e", "signal=none", "-e", TRACED, "-o"]);
        command.arg(&trace);
        if let Some(at) = self.failing {
            command.args(["-e", &format!("inject=fdatasync:error=EIO:when={at}")]);
        }
        command
            .arg(std::env::current_exe().unwrap())
            .args(["is_audited", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, &dir_path)
            .env("EBBTIDE_AUDIT_MAPPED", self.mapped.to_string())
            .env("EBBTIDE_AUDIT_THREADS", self.threads.to_string())
            .env("EBBTIDE_AUDIT_FAILS", self.failing.is_some().to_string())
            // Cargo names directories in which each library would be looked for first.
            .env_remove("LD_LIBRARY_PATH");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?}: {said}");
        self.audit(&dir_path.join("data"), &fs::read_to_string(trace).unwrap())
    }

    fn audit(self, root: &Path, text: &str) -> Figures {
        let auditor = Auditor::audit(root, &Trace::parse(text), !self.threads);
        let found = auditor.violations.join("\n");
        assert!(found.is_empty(), "{self:?}: {} violations:\n{found}", auditor.violations.len());
        auditor.figures
    }
}

impl Figures {
    /// A rule about something that did not happen would have been kept by chance.
    fn assert_all_was_there(&self, mapped: bool, threads: bool) {
        let there = [
            self.segment_writes,
            self.scrub_writes,
            self.holes,
            self.syncs,
            self.dir_syncs,
            self.cuts,
            self.unlinked,
            self.parts,
            self.acknowledged,
        ];
        assert!(there.iter().all(|count| *count > 0), "{self:?}");
        assert_eq!(self.maps > 0, mapped, "{self:?}");
        assert!(self.failed_syncs == 0 && (threads || self.acknowledged > 20), "{self:?}");
    }
}
