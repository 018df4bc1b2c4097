//! System calls that fail, or in the middle of which the process is killed.

use std::fs;

use std::os::unix::process::ExitStatusExt;

use crate::child::{Child, SEGMENT_BYTES, opened};
use crate::fixture::{MODES, Random, seed};
use crate::model::Model;

/// Calls by which the engine changes or reads files, some of them by several names, and how many of them
/// a program makes before its `main`. Not `mmap`: an allocator that is refused ends the process.
const CALLS: [(&str, u64); 13] = [
    ("pwrite64,pwritev", 0),
    ("fdatasync", 0),
    ("fsync", 0),
    ("openat", 15),
    ("rename,renameat,renameat2", 0),
    ("unlink,unlinkat", 0),
    ("mkdir,mkdirat", 0),
    ("fallocate", 0),
    ("ftruncate", 0),
    ("pread64,preadv", 4),
    ("getdents64", 0),
    ("statx,fstat,newfstatat", 15),
    ("madvise,fadvise64", 0),
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
    "signal=KILL",
];
const OPERATIONS: u64 = 60;

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn failing_calls() {
    let rounds: u64 = std::env::var("EBBTIDE_ROUNDS").ok().map_or(1, |n| n.parse().unwrap());
    let mut choices = Random::new(seed("failing_calls"));
    let (mut runs, mut kills, mut acknowledged) = (0, 0, 0);
    for _ in 0..rounds {
        for (calls, before) in CALLS {
            for fault in FAULTS {
                let mapped = MODES[runs % 2];
                let (killed, done) = fail(calls, before, fault, mapped, &mut choices);
                runs += 1;
                kills += u32::from(killed);
                acknowledged += done;
            }
        }
    }
    println!("{runs} runs, {kills} killed, {acknowledged} operations");
}

/// Lets a process work on a store of some age while calls fail, from one on or now and then.
fn fail(calls: &str, before: u64, fault: &str, mapped: bool, choices: &mut Random) -> (bool, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (data, notes) = (dir.path().join("data"), dir.path().join("notes"));
    let mut model = Model::default();
    let child = Child {
        dir: &data,
        notes: &notes,
        mapped,
        operations: OPERATIONS,
        segment_bytes: SEGMENT_BYTES,
    };
    assert!(child.command(&[], &model, choices).status().unwrap().success());
    model.take_notes(&fs::read_to_string(&notes).unwrap());
    fs::remove_file(&notes).unwrap();

    let reach = [8, 40, 200][choices.below(3) as usize];
    let from = 1 + before + choices.below(reach);
    let step = ["", "+3", "+"][choices.below(3) as usize];
    // What is interrupted every time is tried again for ever.
    let step = if fault == "error=EINTR" { "" } else { step };
    let injected = format!("inject={calls}:{fault}:when={from}{step}");
    let trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &injected].map(str::to_owned);
    let output = child.command(&trace, &model, choices).output().unwrap();
    let killed = output.status.signal().is_some() || output.status.code() == Some(137);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(killed || output.status.success(), "{calls} {fault} from {from}{step}: {said}");
    model.take_notes(&fs::read_to_string(&notes).unwrap_or_default());
    println!(
        "{calls} {fault} from {from}{step}, mapped {mapped}: {} operations",
        model.acknowledged
    );
    let store = opened(&data, mapped);
    store.maintain().unwrap();
    model.check(&store);
    (killed, model.acknowledged)
}
