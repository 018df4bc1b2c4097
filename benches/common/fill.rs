//! Stores full of small records, left in order or by a process that was killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use ebbtide::{Keyspace, KeyspaceOptions, Store};

use super::{MovedClock, a_month, quiet_store};

/// The argument that makes a benchmark's program fill a store and wait for its death.
const FILL: &str = "--fill-and-wait";
/// Records handed over at a time.
const BATCH: u64 = 1000;
/// What a small record holds.
const SMALL: &[u8] = &[0x5a; 24];

/// The key of a small record.
pub(crate) fn small_key(number: u64) -> [u8; 16] {
    let mut key = *b"row-00000000-key";
    key[4..12].copy_from_slice(&number.to_be_bytes());
    key
}

/// Stores small records with the numbers from `first` on.
pub(crate) fn small_records(keyspace: &Keyspace, first: u64, count: u64) {
    let mut next = first;
    while next < first + count {
        let end = (next + BATCH).min(first + count);
        keyspace.insert_batch((next..end).map(|number| (small_key(number), SMALL))).unwrap();
        next = end;
    }
}

fn fill(path: &Path, records: u64) -> Store {
    let store = quiet_store(path, &MovedClock::default());
    let images = store.keyspace("images", KeyspaceOptions::new(a_month())).unwrap();
    small_records(&images, 0, records);
    store.sync().unwrap();
    store
}

/// Leaves a store that was closed.
pub(crate) fn closed_store(path: &Path, records: u64) {
    fill(path, records).close().unwrap();
}

/// Leaves a store whose process was killed after a sync: full segments are sealed, the last one is
/// not.
pub(crate) fn killed_store(path: &Path, records: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([FILL, path.to_str().unwrap(), &records.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "filled\n", "the child could not fill its store");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Does what [`killed_store`] asks of its child; false if this process is none.
pub(crate) fn is_child() -> bool {
    let args: Vec<String> = std::env::args().collect();
    let [_, mode, path, records] = args.as_slice() else { return false };
    if mode != FILL {
        return false;
    }
    let _store = fill(Path::new(path), records.parse().unwrap());
    println!("filled");
    // The end never comes: the parent kills before it closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
    true
}
