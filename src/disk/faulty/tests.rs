//! Faults in each kind of call.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use super::super::{MemoryDisk, RealDisk};
use super::*;

const KIND: io::ErrorKind = io::ErrorKind::TimedOut;

fn wrapped() -> (FaultyDisk, MemoryDisk, Arc<dyn DiskFile>) {
    let memory = MemoryDisk::new(1);
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let file = disk.create(Path::new("/f")).unwrap();
    (disk, memory, file)
}

fn contents(memory: &MemoryDisk) -> Vec<u8> {
    memory.read_file(Path::new("/f")).unwrap()
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().unwrap().kind()
}

#[test]
fn calls_that_can_matter_are_counted() {
    let (disk, _, file) = wrapped();
    assert_eq!(disk.calls(), 1);
    disk.create_dir(Path::new("/d")).unwrap();
    disk.read_dir(Path::new("/")).unwrap();
    disk.open(Path::new("/f"), Access::Read).unwrap();
    disk.rename(Path::new("/d"), Path::new("/e")).unwrap();
    disk.remove_dir(Path::new("/e")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.lock(Path::new("/l")).unwrap();
    disk.remove_file(Path::new("/l")).unwrap();
    assert_eq!(disk.calls(), 9);
    file.write_at(&[IoSlice::new(b"ab")], 0).unwrap();
    file.read_at(&mut [0; 2], 0).unwrap();
    file.sync_data().unwrap();
    file.set_len(1).unwrap();
    file.map(1).unwrap();
    file.punch_hole(0, 1).unwrap();
    assert_eq!(disk.clone().calls(), 15);
    file.len().unwrap();
    file.is_empty().unwrap();
    file.allocated_bytes().unwrap();
    disk.fill_random(&mut [0; 2]).unwrap();
    disk.capabilities(Path::new("/")).unwrap();
    assert_eq!(disk.calls(), 15);
}

#[test]
fn an_error_hits_one_call_and_does_nothing() {
    let (disk, memory, file) = wrapped();
    disk.inject(2, Fault::Error(KIND));
    disk.inject(4, Fault::Error(io::ErrorKind::StorageFull));
    assert_eq!(kind(file.write_at(&[IoSlice::new(b"ab")], 0)), KIND);
    assert!(contents(&memory).is_empty());
    file.write_at(&[IoSlice::new(b"ab")], 0).unwrap();
    assert_eq!(kind(disk.create(Path::new("/g"))), io::ErrorKind::StorageFull);
    assert_eq!(memory.all_files(), [PathBuf::from("/f")]);
    file.sync_data().unwrap();
}

#[test]
fn errors_last_until_cleared() {
    let (disk, _, file) = wrapped();
    disk.inject(3, Fault::ErrorsFrom(KIND));
    file.sync_data().unwrap();
    assert_eq!(kind(file.sync_data()), KIND);
    assert_eq!(kind(disk.sync_dir(Path::new("/"))), KIND);
    disk.clear();
    file.sync_data().unwrap();
    disk.inject(1, Fault::ErrorsFrom(KIND));
    assert_eq!(kind(file.sync_data()), KIND);
}

#[test]
fn an_error_after_the_fact_leaves_the_effect() {
    let (disk, memory, file) = wrapped();
    disk.inject(2, Fault::ErrorAfter(KIND));
    assert_eq!(kind(file.write_at(&[IoSlice::new(b"ab")], 0)), KIND);
    assert_eq!(contents(&memory), b"ab");
}

#[test]
fn a_lost_sync_takes_what_was_unsynced_for_written() {
    let (disk, memory, file) = wrapped();
    let durable = || contents(&memory.fork().crash(&mut |_| 0));
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(&[IoSlice::new(b"ab")], 0).unwrap();
    file.sync_data().unwrap();
    disk.inject(5, Fault::SyncLost(KIND));
    file.write_at(&[IoSlice::new(b"cdef")], 0).unwrap();
    assert_eq!(kind(file.sync_data()), KIND);
    assert_eq!(contents(&memory), b"cdef");
    file.sync_data().unwrap();
    assert_eq!(durable(), b"ab", "the second sync succeeds and writes nothing");
    file.write_at(&[IoSlice::new(b"D")], 1).unwrap();
    file.sync_data().unwrap();
    assert_eq!((contents(&memory), durable()), (b"cDef".to_vec(), b"aD".to_vec()));
    assert_eq!(contents(&memory.fork().crash(&mut |_| 1)), b"aD");
}

#[test]
fn a_hole_is_punched_unless_that_fails() {
    let (disk, memory, file) = wrapped();
    file.write_at(&[IoSlice::new(b"abcd")], 0).unwrap();
    disk.inject(3, Fault::Error(KIND));
    disk.inject(4, Fault::Torn(KIND));
    disk.inject(5, Fault::ErrorAfter(KIND));
    assert_eq!(kind(file.punch_hole(0, 2)), KIND);
    assert_eq!(kind(file.punch_hole(0, 2)), KIND);
    assert_eq!(contents(&memory), b"abcd");
    assert_eq!(kind(file.punch_hole(0, 2)), KIND);
    assert_eq!(contents(&memory), b"\0\0cd");
}

#[test]
fn short_calls_handle_the_first_half() {
    let (disk, memory, file) = wrapped();
    (2..=6).for_each(|call| disk.inject(call, Fault::Short));
    let parts = [IoSlice::new(b"abc"), IoSlice::new(b"de"), IoSlice::new(b"f1")];
    assert_eq!(file.write_at(&parts, 0).unwrap(), 3);
    assert_eq!(file.write_at(&[IoSlice::new(b"d")], 3).unwrap(), 1);
    assert_eq!(contents(&memory), b"abcd");
    let mut buffer = [0; 4];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 2);
    assert_eq!(&buffer, b"ab\0\0");
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    file.sync_data().unwrap();
}

#[test]
fn a_torn_write_leaves_its_first_half() {
    let (disk, memory, file) = wrapped();
    disk.inject(2, Fault::Torn(KIND));
    disk.inject(3, Fault::Torn(KIND));
    let parts = [IoSlice::new(b"a"), IoSlice::new(b"bcd"), IoSlice::new(b"ef")];
    assert_eq!(kind(file.write_at(&parts, 0)), KIND);
    assert_eq!(contents(&memory), b"abc");
    assert_eq!(kind(file.set_len(0)), KIND);
    assert_eq!(contents(&memory), b"abc");
    disk.inject(4, Fault::Torn(KIND));
    assert_eq!(kind(file.write_at(&[IoSlice::new(b"word")], 0)), KIND);
    assert_eq!(contents(&memory), b"abc", "a word is written whole or not at all");
}

/// Runs `abort_child` with this fault in a process of its own; gives what the file holds then.
fn after_abort(fault: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "disk::faulty::tests::abort_child"])
        .env("EBBTIDE_TEST_ABORT_FILE", &path)
        .env("EBBTIDE_TEST_ABORT_FAULT", fault)
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    std::fs::read(path).unwrap()
}

#[test]
#[ignore = "aborts its process; run by the tests below"]
fn abort_child() {
    let Some(path) = std::env::var_os("EBBTIDE_TEST_ABORT_FILE") else { return };
    let torn = std::env::var_os("EBBTIDE_TEST_ABORT_FAULT").is_some_and(|fault| fault == "torn");
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    disk.inject(2, if torn { Fault::AbortTorn } else { Fault::Abort });
    let file = disk.create(Path::new(&path)).unwrap();
    file.write_at(&[IoSlice::new(b"abcdef")], 0).unwrap();
}

#[test]
fn an_abort_comes_before_the_effect() {
    assert_eq!(after_abort("plain"), b"");
}

#[test]
fn a_torn_abort_leaves_the_first_half() {
    assert_eq!(after_abort("torn"), b"abc");
}
