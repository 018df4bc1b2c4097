//! What a disk in memory promises, above all about power cuts.

mod crashes;
mod holes;
mod names;

use std::collections::BTreeSet;

use super::*;
use crate::map::Map;

const SECTOR: usize = 512;

/// Goes through every sequence of answers there is.
#[derive(Default)]
struct Every {
    answers: Vec<(u32, u32)>,
    asked: usize,
}

impl CrashChoice for Every {
    fn pick(&mut self, options: u32) -> u32 {
        if self.asked == self.answers.len() {
            self.answers.push((0, options));
        }
        let (answer, known_options) = self.answers[self.asked];
        assert_eq!(known_options, options);
        self.asked += 1;
        answer
    }
}

impl Every {
    fn advance(&mut self) -> bool {
        self.asked = 0;
        while let Some((answer, options)) = self.answers.pop() {
            if answer + 1 < options {
                self.answers.push((answer + 1, options));
                return true;
            }
        }
        false
    }
}

/// Every state a crash may leave this disk in.
fn outcomes(disk: &MemoryDisk) -> Vec<MemoryDisk> {
    let mut every = Every::default();
    let mut found = Vec::new();
    loop {
        found.push(disk.fork().crash(&mut every));
        if !every.advance() {
            return found;
        }
    }
}

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn write(file: &Arc<dyn DiskFile>, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    file.write_at(&[IoSlice::new(bytes)], offset)
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().unwrap().kind()
}

/// A disk with a durable file `/f` of these bytes, open for writing.
fn with_file(bytes: &[u8]) -> (MemoryDisk, Arc<dyn DiskFile>) {
    let disk = MemoryDisk::new(7);
    disk.write_file(path("/f"), bytes).unwrap();
    let file = disk.open(path("/f"), Access::ReadWrite).unwrap();
    (disk, file)
}

fn contents_after_crash(disk: &MemoryDisk) -> BTreeSet<Vec<u8>> {
    outcomes(disk).iter().map(|disk| disk.read_file(path("/f")).unwrap()).collect()
}

fn names_after_crash(disk: &MemoryDisk) -> BTreeSet<Vec<String>> {
    let names = |disk: &MemoryDisk| -> Vec<String> {
        disk.all_files().iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    outcomes(disk).iter().map(names).collect()
}

fn names(lists: &[&[&str]]) -> BTreeSet<Vec<String>> {
    lists.iter().map(|list| list.iter().map(|name| (*name).to_owned()).collect()).collect()
}

#[test]
fn reads_see_writes_and_gaps_are_zero() {
    let (disk, file) = with_file(b"");
    assert!(file.is_empty().unwrap());
    assert_eq!(write(&file, 2, b"ab").unwrap(), 2);
    assert!(!file.is_empty().unwrap());
    assert_eq!(disk.read_file(path("/f")).unwrap(), b"\0\0ab");
    let mut buffer = [9; 3];
    assert_eq!(file.read_at(&mut buffer, 3).unwrap(), 1);
    assert_eq!(buffer, [b'b', 9, 9]);
    assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, u64::MAX).unwrap(), 0);
    assert_eq!(kind(write(&file, u64::MAX, b"a")), io::ErrorKind::FileTooLarge);
    assert_eq!(write(&file, 9, b"").unwrap(), 0);
    assert_eq!(file.len().unwrap(), 4);
    assert_eq!(file.allocated_bytes().unwrap(), 4096);
    file.set_len(1).unwrap();
    file.set_len(3).unwrap();
    assert_eq!(disk.read_file(path("f")).unwrap(), [0; 3]);
    let reader = disk.open(path("/f"), Access::Read).unwrap();
    assert!(write(&reader, 0, b"a").is_err() && reader.set_len(0).is_err());
}

#[test]
fn names_fail_as_on_a_real_disk() {
    use io::ErrorKind::*;
    let (disk, _file) = with_file(b"");
    disk.create_dir(path("/d")).unwrap();
    disk.create(path("/d/g")).unwrap();
    assert_eq!(kind(disk.create(path("/f"))), AlreadyExists);
    assert_eq!(kind(disk.create_dir(path("/d"))), AlreadyExists);
    assert_eq!(kind(disk.create_dir(path("/"))), AlreadyExists);
    assert_eq!(kind(disk.create(path("/x/y"))), NotFound);
    assert_eq!(kind(disk.create(path("/f/y"))), NotADirectory);
    assert_eq!(kind(disk.open(path("/x"), Access::Read)), NotFound);
    assert_eq!(kind(disk.open(path("/d"), Access::Read)), InvalidInput);
    assert_eq!(kind(disk.remove_file(path("/d"))), IsADirectory);
    assert_eq!(kind(disk.remove_dir(path("/f"))), NotADirectory);
    assert_eq!(kind(disk.remove_dir(path("/d"))), DirectoryNotEmpty);
    assert_eq!(kind(disk.read_dir(path("/f"))), NotADirectory);
    assert_eq!(kind(disk.sync_dir(path("/x"))), NotFound);
    assert_eq!(kind(disk.rename(path("/x"), path("/y"))), NotFound);
    assert_eq!(kind(disk.rename(path("/f"), path("/d"))), IsADirectory);
    assert_eq!(kind(disk.rename(path("/d"), path("/f"))), NotADirectory);
    assert_eq!(kind(disk.rename(path("/d"), path("/d/e"))), InvalidInput);
    disk.rename(path("/d/g"), path("/f")).unwrap();
    disk.rename(path("/f"), path("/f")).unwrap();
    disk.remove_dir(path("/d")).unwrap();
    assert_eq!(disk.all_files(), [path("/f")]);
    let entries = disk.read_dir(path("")).unwrap();
    assert_eq!(entries, [DirEntry { name: "f".into(), kind: EntryKind::File }]);
}

#[test]
fn a_fork_is_independent() {
    let (disk, file) = with_file(b"old");
    let _guard = disk.lock(path("/l")).unwrap();
    let fork = disk.fork();
    write(&file, 0, b"new").unwrap();
    assert_eq!(fork.read_file(path("/f")).unwrap(), b"old");
    fork.remove_file(path("/f")).unwrap();
    assert_eq!(disk.read_file(path("/f")).unwrap(), b"new");
    assert!(matches!(fork.lock(path("/l")).unwrap(), LockOutcome::Acquired(_)));
}

#[test]
fn a_full_disk_refuses_new_blocks_only() {
    let (disk, file) = with_file(&[1; 100]);
    disk.set_capacity_bytes(Some(3 * 4096 + 5));
    assert_eq!(disk.used_bytes(), 4096);
    assert_eq!(write(&file, 100, &[2; 20_000]).unwrap(), 3 * 4096 - 100);
    assert_eq!(disk.used_bytes(), 3 * 4096);
    assert_eq!(kind(write(&file, 3 * 4096, b"x")), io::ErrorKind::StorageFull);
    assert_eq!(kind(file.set_len(3 * 4096 + 1)), io::ErrorKind::StorageFull);
    assert_eq!(write(&file, 4096, &[3; 4096]).unwrap(), 4096);
    let other = disk.create(path("/g")).unwrap();
    assert_eq!(kind(write(&other, 0, b"x")), io::ErrorKind::StorageFull);
    file.sync_data().unwrap();
    assert!(matches!(disk.lock(path("/l")).unwrap(), LockOutcome::Acquired(_)));
    disk.rename(path("/g"), path("/h")).unwrap();
    disk.remove_file(path("/f")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.used_bytes(), 3 * 4096);
    assert_eq!(kind(write(&other, 0, b"x")), io::ErrorKind::StorageFull);
    drop(file);
    assert_eq!(disk.used_bytes(), 0);
    assert_eq!(kind(write(&other, 4 * 4096, b"x")), io::ErrorKind::StorageFull);
    assert_eq!(write(&other, 0, b"x").unwrap(), 1);
    disk.set_capacity_bytes(None);
    assert_eq!(write(&other, 4 * 4096, b"x").unwrap(), 1);
    assert_eq!(disk.used_bytes(), 5 * 4096);
}

#[test]
fn a_replaced_file_counts_while_it_is_open() {
    let (disk, file) = with_file(&[1; 100]);
    disk.write_file(path("/g"), b"x").unwrap();
    disk.rename(path("/g"), path("/f")).unwrap();
    assert_eq!(disk.used_bytes(), 2 * 4096);
    assert_eq!(file.len().unwrap(), 100);
    drop(file);
    assert_eq!(disk.used_bytes(), 4096);
}

#[test]
fn a_second_locker_learns_who_holds_it() {
    let disk = MemoryDisk::new(0);
    let LockOutcome::Acquired(guard) = disk.lock(path("/l")).unwrap() else { panic!() };
    let LockOutcome::Held(pid) = disk.lock(path("/l")).unwrap() else { panic!() };
    assert_eq!(pid, Some(std::process::id()));
    drop(guard);
    assert!(matches!(disk.lock(path("/l")).unwrap(), LockOutcome::Acquired(_)));
}

#[test]
fn maps_see_earlier_and_later_writes() {
    let (disk, file) = with_file(b"ab");
    let map = file.map(16).unwrap();
    let other = disk.open(path("/f"), Access::ReadWrite).unwrap();
    write(&other, 2, b"cd").unwrap();
    write(&file, 15, b"yz").unwrap();
    map.raise_durable_len(16);
    let window = map.window(Arc::default());
    assert_eq!(window[..], *b"abcd\0\0\0\0\0\0\0\0\0\0\0y");
    let _dead = disk.crash(&mut |_: u32| 0);
    assert_eq!(window[..4], *b"abcd");
}

#[test]
fn maps_see_what_is_erased_below_the_durable_length() {
    let (_disk, file) = with_file(b"abcdef");
    let map = file.map(16).unwrap();
    map.raise_durable_len(6);
    let window = |map: &Arc<Map>| map.window(Arc::default());
    let held = window(&map).slice(4..6);
    write(&file, 0, &[0; 2]).unwrap();
    assert_eq!(window(&map)[..], *b"\0\0cdef");
    file.punch_hole(2, 2).unwrap();
    assert_eq!(window(&map)[..], *b"\0\0\0\0ef");
    assert_eq!(held[..], *b"ef");
}

#[test]
fn capabilities_are_those_that_were_set() {
    let (disk, file) = with_file(&[1; 4096]);
    let found = disk.capabilities(path("/")).unwrap();
    assert_eq!(found.file_system, "memory");
    assert!(found.punches_holes && found.overwrites_in_place);
    assert_eq!(kind(disk.capabilities(path("/x"))), io::ErrorKind::NotFound);
    let mine = Capabilities::new("mine");
    disk.set_capabilities(mine.clone());
    assert_eq!(kind(file.punch_hole(0, 1)), io::ErrorKind::Unsupported);
    assert_eq!(disk.read_file(path("/f")).unwrap(), [1; 4096]);
    let after = disk.fork().kill().crash(&mut |_: u32| 1);
    assert_eq!(after.capabilities(path("/")).unwrap(), mine);
}

#[test]
fn random_bytes_depend_on_the_seed_only() {
    let draw = |seed| {
        let mut bytes = [0; 13];
        MemoryDisk::new(seed).fill_random(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
}
