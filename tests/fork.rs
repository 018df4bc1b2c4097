//! A process that forks: the child has all the memory of a store, but it is not the child's.
#![allow(clippy::unwrap_used, unsafe_code)]
#![cfg(not(any(shuttle, planted)))]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ebbtide::disk::{FaultyDisk, RealDisk};
use ebbtide::{
    Error, KeyspaceOptions, LogOptions, Outcome, Result, Retention, Row, Store, TryGetError,
};

/// After so many seconds a child that waits for something it does not have is ended.
const PATIENCE_S: u32 = 30;

/// Does this in a child, and gives the status with which it ended.
fn in_child(work: impl FnOnce()) -> i32 {
    status_of(begin_in_child(work))
}

/// Does this in a child, whose number it gives.
fn begin_in_child(work: impl FnOnce()) -> i32 {
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
    child
}

/// Waits for the end of a child.
fn status_of(child: i32) -> i32 {
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
        assert!(matches!(closed, Some(Err(Error::Forked))));
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

fn refused<T>(what: &str, done: Result<T>) {
    assert!(matches!(done, Err(Error::Forked)), "{what} is not refused");
}

/// It would write over what its parent writes, and show what its parent has invalidated since.
fn child_is_refused(open: impl Fn(&Path) -> Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let keyspace_options = || KeyspaceOptions::new(Retention::days(30));
    let images = store.keyspace("images", keyspace_options()).unwrap();
    let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
    images.insert("cat.jpg", "value").unwrap();
    let row = access.append(Row::anonymous().payload("first")).unwrap();
    let erased = images.invalidate("dog.jpg").unwrap();
    let fill = images.fill("owl.jpg");
    let streamed = |key: &str| {
        let mut value = images.fill(key).memory_limit_bytes(0).into_writer().unwrap();
        value.write_all(b"half of ").unwrap();
        value
    };
    let (more, whole) = (streamed("fox.jpg"), streamed("elk.jpg"));
    let mut rows = access.appender();
    rows.append(Row::anonymous().payload("second")).unwrap();
    store.sync().unwrap();
    let mut before = BTreeMap::new();
    files(dir.path(), &mut before);
    let mut held = Some((fill, more, whole));
    let ended = in_child(|| {
        let (fill, mut more, whole) = held.take().unwrap();
        refused("get", images.get("cat.jpg"));
        refused("get of an absent key", images.get("cow.jpg"));
        refused("get_many", images.get_many(["cat.jpg"]));
        refused("contains", images.contains("cat.jpg"));
        refused("lookup", images.lookup("cat.jpg"));
        refused("explain", images.explain("cat.jpg"));
        refused("list_tag", images.list_tag("animals"));
        refused("iter", images.iter().collect::<Result<Vec<_>>>());
        refused("insert", images.insert("cat.jpg", "another"));
        refused("insert_batch", images.insert_batch([("cat.jpg", "another")]));
        refused("fill", fill.commit("value"));
        assert!(more.write_all(b"it").is_err(), "more of a value is not refused");
        refused("fill that was streamed", whole.commit());
        let fetched = images.try_get_with("hen.jpg", || Ok::<_, Error>("value"));
        assert!(matches!(fetched, Err(TryGetError::Store(Error::Forked))), "{fetched:?}");
        refused("invalidate", images.invalidate("cat.jpg"));
        refused("invalidate_tag", images.invalidate_tag("animals"));
        refused("invalidate_all", images.invalidate_all());
        refused("erase", images.erase("cat.jpg").commit());
        refused("wait", erased.wait(std::time::Duration::ZERO));
        refused("append", access.append(Row::anonymous().payload("third")));
        refused("append to a block", rows.append(Row::anonymous().payload("third")));
        refused("flush", rows.flush());
        refused("row", access.get(row));
        refused("scan", access.scan(..));
        refused("keyspace", store.keyspace("thumbnails", keyspace_options()));
        refused("log", store.log("errors", LogOptions::new(Retention::days(30))));
        refused("sync", store.sync());
        refused("maintain", store.maintain());
        refused("drop_expired", store.drop_expired());
        refused("scrub", store.scrub());
        refused("verify", store.verify());
        refused("residue", store.residue());
        refused("ledger", store.ledger());
        refused("confirm_clock", store.confirm_clock());
        refused("reset_clock", store.reset_clock());
        refused("close", store.close());
    });
    assert_eq!(ended, 0, "the child ends in order");
    let mut after = BTreeMap::new();
    files(dir.path(), &mut after);
    assert!(before == after, "the child has written");
    let (fill, mut more, whole) = held.unwrap();
    more.write_all(b"it").unwrap();
    assert_eq!(more.commit().unwrap(), Outcome::Stored);
    assert_eq!(whole.commit().unwrap(), Outcome::Stored);
    assert_eq!(fill.commit("value").unwrap(), Outcome::Stored);
    assert_eq!(images.get("fox.jpg").unwrap().as_deref(), Some(&b"half of it"[..]));
    assert_eq!(images.get("cat.jpg").unwrap().as_deref(), Some(&b"value"[..]));
    assert!(store.verify().unwrap().problems.is_empty());
}

#[test]
fn a_child_is_refused_what_it_asks_of_its_parents_store() {
    child_is_refused(|dir| Store::builder(dir).background(false).open().unwrap());
}

#[test]
fn a_child_is_refused_what_it_asks_of_its_parents_mapped_store() {
    // SAFETY: nobody else knows the directory.
    child_is_refused(|dir| unsafe { Store::builder(dir).background(false).open_mapped().unwrap() });
}

#[test]
fn a_child_opens_a_store_of_its_own_and_its_own_child_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ended = in_child(|| {
        let store = Store::builder(dir.path()).background(false).open().unwrap();
        let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
        images.insert("cat.jpg", "value").unwrap();
        assert_eq!(in_child(|| refused("get", images.get("cat.jpg"))), 0);
        assert!(images.contains("cat.jpg").unwrap());
        store.close().unwrap();
    });
    assert_eq!(ended, 0, "the child ends in order");
    let store = Store::builder(dir.path()).background(false).open().unwrap();
    assert!(store.existing_keyspace("images").unwrap().contains("cat.jpg").unwrap());
}

/// As long as it lives, a child has a copy of all descriptors, that of the lock too.
#[test]
fn a_store_that_is_closed_is_free_though_a_child_lives() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::builder(dir.path()).background(false).open();
    let store = open().unwrap();
    let (mut own, mut of_child) = UnixStream::pair().unwrap();
    let child = begin_in_child(|| of_child.read_exact(&mut [0]).unwrap());
    assert!(matches!(open(), Err(Error::Locked { .. })));
    store.close().unwrap();
    drop(open().unwrap());
    own.write_all(&[1]).unwrap();
    assert_eq!(status_of(child), 0);
}

/// At each call that the parent makes of the disk, and so with each of its locks held, a child does not wait.
#[test]
fn a_child_that_was_forked_in_the_middle_of_a_call_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let builder = Store::builder(dir.path()).background(false).disk(disk.clone());
    let store = Arc::new(builder.open().unwrap());
    let options = || KeyspaceOptions::new(Retention::days(30));
    let images = store.keyspace("images", options()).unwrap();
    let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let fork_at_each_call_of = |work: &dyn Fn()| {
        let first = disk.calls() + 1;
        work();
        for call in first..=disk.calls() {
            let (store, images, access) = (Arc::clone(&store), images.clone(), access.clone());
            let asked = Arc::clone(&asked);
            disk.interrupt(disk.calls() + 1 + call - first, move || {
                let ended = in_child(|| {
                    refused("insert", images.insert("cat.jpg", "another"));
                    refused("insert_batch", images.insert_batch([("cat.jpg", "another")]));
                    refused("get", images.get("cat.jpg"));
                    refused("invalidate", images.invalidate("cat.jpg"));
                    refused("append", access.append(Row::anonymous().payload("another")));
                    refused("keyspace", store.existing_keyspace("images"));
                    refused("log", store.existing_log("access"));
                    refused("sync", store.sync());
                    refused("maintain", store.maintain());
                    refused("drop_expired", store.drop_expired());
                    refused("scrub", store.scrub());
                    refused("close", store.close());
                });
                assert_eq!(ended, 0, "the child ends in order");
                asked.fetch_add(1, Ordering::Relaxed);
            });
            work();
        }
    };
    fork_at_each_call_of(&|| images.insert("cat.jpg", "value").unwrap());
    fork_at_each_call_of(&|| images.insert_batch([("cat.jpg", "value")]).unwrap());
    fork_at_each_call_of(&|| assert!(!images.invalidate("dog.jpg").unwrap().widened()));
    fork_at_each_call_of(&|| {
        access.append(Row::anonymous().payload("row")).unwrap();
    });
    fork_at_each_call_of(&|| store.maintain().unwrap());
    fork_at_each_call_of(&|| store.scrub().unwrap());
    assert!(asked.load(Ordering::Relaxed) > 10, "{asked:?} children were asked");
    assert_eq!(images.get("cat.jpg").unwrap().as_deref(), Some(&b"value"[..]));
    assert!(store.verify().unwrap().problems.is_empty());
}
