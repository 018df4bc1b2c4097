//! A process that forks: the child has all the memory of a store, but it is not the child's.
#![allow(clippy::unwrap_used, unsafe_code)]
#![cfg(not(any(shuttle, planted)))]

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ebbtide::{Error, KeyspaceOptions, LogOptions, Outcome, Retention, Row, Store};

/// After so many seconds a child that waits for something it does not have is ended.
const PATIENCE_S: u32 = 30;

/// Does this in a child, and gives the status with which it ended.
fn in_child(work: impl FnOnce()) -> i32 {
    // SAFETY: it has no preconditions; what is forbidden to the child of a process with threads is not done,
    // as the locks of the allocator and of the standard streams are not kept over a fork by glibc.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it has no preconditions.
        unsafe { libc::alarm(PATIENCE_S) };
        let done = catch_unwind(AssertUnwindSafe(work));
        // SAFETY: it has no preconditions, and nothing of the test goes on in the child.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: the place for the status is there until it returns.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

fn files(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
}

/// With the thread that does upkeep, which the child does not have, or without.
fn child_drops(background: bool) {
    let dir = tempfile::tempdir().unwrap();
    let builder = || Store::builder(dir.path()).background(background);
    let store = builder().open().unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
    images.insert("cat.jpg", "value").unwrap();
    store.sync().unwrap();
    let mut before = BTreeMap::new();
    files(dir.path(), &mut before);
    let mut handles = Some((images, store));
    let ended = in_child(|| {
        let closed = handles.as_ref().map(|(_, store)| store.close());
        assert!(matches!(closed, Some(Err(Error::Unsupported { .. }))));
        drop(handles.take());
    });
    assert_eq!(ended, 0, "the child ends in order");
    if !background {
        let mut after = BTreeMap::new();
        files(dir.path(), &mut after);
        assert!(before == after, "the child has written");
    }
    assert!(matches!(builder().open(), Err(Error::Locked { .. })), "the lock is still held");
    let (images, store) = handles.unwrap();
    images.invalidate("cat.jpg").unwrap();
    drop((images, store));
    let store = builder().open().unwrap();
    assert!(store.existing_keyspace("images").unwrap().get("cat.jpg").unwrap().is_none());
}

#[test]
fn a_child_that_drops_the_store_leaves_it_to_its_parent() {
    child_drops(false);
}

#[test]
fn a_child_that_drops_the_store_does_not_wait_for_a_thread_of_its_parent() {
    child_drops(true);
}

#[test]
fn a_child_that_drops_what_is_being_written_leaves_it_to_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).background(false).open().unwrap();
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
    let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
    access.append(Row::anonymous().payload("first")).unwrap();
    let mut value = images.fill("cat.jpg").memory_limit_bytes(0).into_writer().unwrap();
    value.write_all(b"half of ").unwrap();
    let mut rows = access.appender();
    rows.append(Row::anonymous().payload("second")).unwrap();
    let mut before = BTreeMap::new();
    files(dir.path(), &mut before);
    assert!(before.keys().any(|path| path.extension().is_some_and(|name| name == "part")));
    let mut held = Some((value, rows));
    assert_eq!(in_child(|| drop(held.take())), 0, "the child ends in order");
    let mut after = BTreeMap::new();
    files(dir.path(), &mut after);
    assert!(before == after, "the child has written");
    let (mut value, mut rows) = held.unwrap();
    rows.flush().unwrap();
    value.write_all(b"it").unwrap();
    assert_eq!(value.commit().unwrap(), Outcome::Stored);
    assert_eq!(images.get("cat.jpg").unwrap().as_deref(), Some(&b"half of it"[..]));
    let payloads = access.scan(..).unwrap().map(|row| row.unwrap().payload().to_vec());
    assert_eq!(payloads.collect::<Vec<_>>(), [&b"first"[..], b"second"]);
    assert!(store.verify().unwrap().problems.is_empty());
}
