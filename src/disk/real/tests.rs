//! A disk of the operating system, in a temporary directory.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::super::write_all_at;
use super::*;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    (dir, path)
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().unwrap().kind()
}

fn refused(path: &Path) -> bool {
    let refusals = [
        kind(RealDisk.open(path, Access::Read)),
        kind(RealDisk.open(path, Access::ReadWrite)),
        kind(RealDisk.lock(path)),
    ];
    refusals.iter().all(|&kind| kind == io::ErrorKind::InvalidInput)
}

#[test]
fn what_is_too_long_for_one_call_is_written_whole() {
    let (_dir, path) = scratch();
    let file = RealDisk.create(&path).unwrap();
    let value: Vec<u8> = (0..5 * MAX_CALL_BYTES / 2).map(|at| (at / 3) as u8).collect();
    let mut parts = [IoSlice::new(b"head"), IoSlice::new(&value), IoSlice::new(b"tail")];
    assert_eq!(file.write_at(&parts, 7).unwrap(), MAX_CALL_BYTES);
    write_all_at(&*file, &mut parts, 7).unwrap();
    let written = std::fs::read(&path).unwrap();
    assert_eq!(written[7..], [b"head", &value[..], b"tail"].concat());
}

#[test]
fn what_is_written_is_read_back() {
    let (_dir, path) = scratch();
    let file = RealDisk.create(&path).unwrap();
    assert!(file.is_empty().unwrap());
    let parts = [IoSlice::new(b"ab"), IoSlice::new(b"cde")];
    assert_eq!(file.write_at(&parts, 1).unwrap(), 5);
    file.sync_data().unwrap();
    RealDisk.sync_dir(path.parent().unwrap()).unwrap();
    assert!(file.allocated_bytes().unwrap() > 0);

    let reader = RealDisk.open(&path, Access::Read).unwrap();
    let mut buffer = [9; 8];
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 6);
    assert_eq!(&buffer[..6], b"\0abcde");
    assert_eq!(reader.read_at(&mut buffer, 6).unwrap(), 0);
    assert!(reader.write_at(&parts, 0).is_err());

    file.set_len(2).unwrap();
    assert_eq!(reader.len().unwrap(), 2);
}

#[test]
fn only_the_owner_gets_access() {
    let (_dir, path) = scratch();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    RealDisk.create_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    RealDisk.create(&path.join("file")).unwrap();
    assert_eq!(mode(&path.join("file")), 0o600);
    RealDisk.lock(&path.join("lock")).unwrap();
    assert_eq!(mode(&path.join("lock")), 0o600);
}

#[test]
fn nothing_that_exists_is_created_again() {
    let (dir, path) = scratch();
    RealDisk.create(&path).unwrap();
    assert_eq!(kind(RealDisk.create(&path)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(RealDisk.create_dir(&path)), io::ErrorKind::AlreadyExists);
    let link = dir.path().join("link");
    symlink("nowhere", &link).unwrap();
    assert_eq!(kind(RealDisk.create(&link)), io::ErrorKind::AlreadyExists);
}

#[test]
fn links_are_refused() {
    let (dir, path) = scratch();
    RealDisk.create(&path).unwrap();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(refused(&link));
    assert_eq!(RealDisk.open(&link, Access::Read).unwrap_err().to_string(), "not a regular file");
}

#[test]
fn a_directory_is_not_listed_through_a_link() {
    let (dir, path) = scratch();
    RealDisk.create_dir(&path).unwrap();
    RealDisk.create(&path.join("file")).unwrap();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(kind(RealDisk.read_dir(&link)), io::ErrorKind::NotADirectory);
    // Where it is meant to be followed, as the store's own path is, it is said so.
    assert_eq!(RealDisk.read_dir(&link.join(".")).unwrap().len(), 1);
}

#[test]
fn a_file_with_another_name_is_not_written_to() {
    let (dir, path) = scratch();
    let other = dir.path().join("other");
    std::fs::write(&path, "somebody else's").unwrap();
    std::fs::hard_link(&path, &other).unwrap();
    assert_eq!(kind(RealDisk.open(&other, Access::ReadWrite)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(RealDisk.lock(&other)), io::ErrorKind::InvalidInput);
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody else's");
    RealDisk.open(&other, Access::Read).unwrap();
    std::fs::remove_file(&path).unwrap();
    RealDisk.open(&other, Access::ReadWrite).unwrap();
}

#[test]
fn fifos_sockets_and_directories_are_refused_without_waiting() {
    let (dir, path) = scratch();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(refused(&path));
    assert!(RealDisk.sync_dir(&path).is_err());
    assert!(refused(dir.path()));
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(refused(&socket));
}

#[test]
fn a_directory_is_listed_in_order_with_kinds() {
    let (dir, _) = scratch();
    RealDisk.create(&dir.path().join("b")).unwrap();
    RealDisk.create_dir(&dir.path().join("c")).unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    let found = RealDisk.read_dir(dir.path()).unwrap();
    let kinds: Vec<_> = found.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    let expected = [("a", EntryKind::Other), ("b", EntryKind::File), ("c", EntryKind::Directory)];
    assert_eq!(kinds, expected);
}

#[test]
fn a_second_locker_learns_who_holds_it() {
    let (_dir, path) = scratch();
    std::fs::write(&path, "4294967295 and more\n").unwrap();
    let LockOutcome::Acquired(guard) = RealDisk.lock(&path).unwrap() else { panic!() };
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    let LockOutcome::Held(pid) = RealDisk.lock(&path).unwrap() else { panic!() };
    assert_eq!(pid, Some(std::process::id()));
    drop(guard);
    assert!(matches!(RealDisk.lock(&path).unwrap(), LockOutcome::Acquired(_)));
}

#[test]
fn random_bytes_differ() {
    let (mut a, mut b) = ([0; 16], [0; 16]);
    RealDisk.fill_random(&mut a).unwrap();
    RealDisk.fill_random(&mut b).unwrap();
    assert_ne!(a, b);
}

#[test]
fn a_map_shows_writes_made_after_it() {
    let (_dir, path) = scratch();
    let file = RealDisk.create(&path).unwrap();
    let map = file.map(4096).unwrap();
    file.write_at(&[IoSlice::new(b"abc")], 0).unwrap();
    map.raise_durable_len(3);
    let window = map.window(Arc::default());
    assert_eq!(window, b"abc"[..]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_hole_reads_as_zeros_and_gives_its_blocks_back() {
    const LEN: usize = 256 << 10;
    let (dir, path) = scratch();
    let file = RealDisk.create(&path).unwrap();
    file.write_at(&[IoSlice::new(&[7; LEN])], 0).unwrap();
    file.sync_data().unwrap();
    let before = file.allocated_bytes().unwrap();
    file.punch_hole(0, 0).unwrap();
    if !RealDisk.capabilities(dir.path()).unwrap().punches_holes {
        return;
    }
    file.punch_hole(1, LEN as u64 / 2).unwrap();
    file.sync_data().unwrap();
    let mut expected = vec![7; LEN];
    expected[1..=LEN / 2].fill(0);
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    assert!(file.allocated_bytes().unwrap() < before);
    let reader = RealDisk.open(&path, Access::Read).unwrap();
    assert!(reader.punch_hole(0, 1).is_err());
}

#[test]
fn a_map_shows_what_is_erased_below_the_durable_length() {
    let (_dir, path) = scratch();
    let file = RealDisk.create(&path).unwrap();
    let map = file.map(4096).unwrap();
    file.write_at(&[IoSlice::new(b"abc")], 0).unwrap();
    map.raise_durable_len(3);
    file.write_at(&[IoSlice::new(&[0; 2])], 0).unwrap();
    assert_eq!(map.window(Arc::default()), b"\0\0c"[..]);
}

#[test]
fn process_ids_are_parsed_strictly() {
    assert_eq!(parse_pid(b"17\n23\n"), Some(17));
    assert_eq!(parse_pid(b""), None);
    assert_eq!(parse_pid(b"\xff\n"), None);
    assert_eq!(parse_pid(b"99999999999\n"), None);
}
