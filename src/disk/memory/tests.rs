//! What a disk in memory promises, above all about power cuts.

use std::collections::BTreeSet;

use super::*;

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
    assert_eq!(write(&file, 2, b"ab").unwrap(), 2);
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
fn synced_data_survives_every_crash() {
    let (disk, file) = with_file(b"");
    write(&file, 0, &[1; 1500]).unwrap();
    file.sync_data().unwrap();
    write(&file, 1500, &[2; 700]).unwrap();
    for contents in contents_after_crash(&disk) {
        assert!((1500..=2200).contains(&contents.len()));
        assert_eq!(contents[..1500], [1; 1500]);
    }
    file.sync_data().unwrap();
    assert_eq!(contents_after_crash(&disk).len(), 1);
}

#[test]
fn unsynced_data_is_kept_lost_cut_zeroed_or_garbage() {
    let (disk, file) = with_file(b"");
    write(&file, 0, &[1; 700]).unwrap();
    let found = contents_after_crash(&disk);
    let lens: BTreeSet<usize> = found.iter().map(Vec::len).collect();
    assert_eq!(lens, BTreeSet::from([0, SECTOR, 700]));
    assert!(found.contains(&vec![1; 700]) && found.contains(&vec![0; 700]));
    let last_lost = [vec![1; SECTOR], vec![0; 700 - SECTOR]].concat();
    assert!(found.contains(&last_lost));
    let garbage = |contents: &Vec<u8>| contents.iter().any(|&byte| byte > 1);
    assert!(found.iter().any(garbage));
}

#[test]
fn a_fresh_sector_may_show_what_another_file_holds_there() {
    let (disk, file) = with_file(&[1; SECTOR]);
    let other = [vec![3; SECTOR], vec![4; SECTOR]].concat();
    disk.write_file(path("/g"), &other).unwrap();
    write(&file, 0, &[2; 2 * SECTOR]).unwrap();
    let found = contents_after_crash(&disk);
    assert!(found.contains(&[vec![2; SECTOR], vec![4; SECTOR]].concat()));
    let durable = |contents: &Vec<u8>| contents[0] != 3;
    assert!(found.iter().all(durable), "what was durable is old or new");
    let outcomes = outcomes(&disk);
    assert!(outcomes.iter().all(|disk| disk.read_file(path("/g")).unwrap() == other));
}

#[test]
fn what_a_failed_sync_lost_stays_visible_until_the_power_is_cut() {
    let (disk, file) = with_file(b"old");
    let map = file.map(8).unwrap();
    write(&file, 0, b"new!").unwrap();
    file.lose_unsynced();
    file.sync_data().unwrap();
    let mut seen = [0; 4];
    map.raise_durable_len(4);
    assert!(map.copy(0, &mut seen) && &seen == b"new!");
    assert_eq!(disk.read_file(path("/f")).unwrap(), b"new!");
    assert_eq!(disk.kill().read_file(path("/f")).unwrap(), b"new!");
    let (disk, file) = with_file(b"old");
    write(&file, 0, b"new!").unwrap();
    file.lose_unsynced();
    file.sync_data().unwrap();
    assert_eq!(contents_after_crash(&disk), BTreeSet::from([b"old".to_vec()]));
    write(&file, 0, b"new!").unwrap();
    file.sync_data().unwrap();
    assert_eq!(contents_after_crash(&disk), BTreeSet::from([b"new!".to_vec()]));
}

#[test]
fn a_durable_sector_is_one_of_its_versions_whole() {
    let (disk, file) = with_file(&[1; 2 * SECTOR]);
    write(&file, 500, &[2; 100]).unwrap();
    write(&file, 0, &[3; 10]).unwrap();
    let mut first_versions = vec![[1; SECTOR]; 3];
    first_versions[1][500..].fill(2);
    first_versions[2][500..].fill(2);
    first_versions[2][..10].fill(3);
    let mut second_versions = [[1; SECTOR]; 2];
    second_versions[1][..88].fill(2);
    let expected: BTreeSet<Vec<u8>> = first_versions
        .iter()
        .flat_map(|first| second_versions.iter().map(|second| [*first, *second].concat()))
        .collect();
    assert_eq!(contents_after_crash(&disk), expected);
}

#[test]
fn an_unsynced_cut_may_be_undone() {
    let (disk, file) = with_file(&[1; 600]);
    file.set_len(10).unwrap();
    let found = contents_after_crash(&disk);
    assert!(found.contains(&vec![1; 600]) && found.contains(&vec![1; 10]));
    for contents in found {
        assert!([10, SECTOR, 600].contains(&contents.len()));
        assert_eq!(contents[..10], [1; 10]);
    }
    file.sync_data().unwrap();
    assert_eq!(contents_after_crash(&disk), BTreeSet::from([vec![1; 10]]));
}

#[test]
fn a_new_file_may_be_missing_until_its_directory_is_synced() {
    let disk = MemoryDisk::new(0);
    let file = disk.create(path("/a")).unwrap();
    write(&file, 0, b"x").unwrap();
    file.sync_data().unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&[], &["/a"]]));
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/a"]]));

    disk.create_dir(path("/d")).unwrap();
    disk.create(path("/d/b")).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/a"], &["/a", "/d/b"]]));
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let (disk, file) = with_file(b"old");
    drop(file);
    disk.remove_file(path("/f")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
    assert_eq!(names_after_crash(&disk), names(&[&[], &["/f"]]));
    let back = disk.fork().crash(&mut |_: u32| 0);
    assert_eq!(back.read_file(path("/f")).unwrap(), b"old");
    assert_eq!(back.used_bytes(), 4096);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&[]]));
}

#[test]
fn a_replacing_rename_leaves_the_old_or_the_new_file() {
    let (disk, _file) = with_file(b"old");
    disk.write_file(path("/tmp"), b"new").unwrap();
    disk.rename(path("/tmp"), path("/f")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/f", "/tmp"], &["/f"]]));
    let both = BTreeSet::from([b"old".to_vec(), b"new".to_vec()]);
    assert_eq!(contents_after_crash(&disk), both);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(contents_after_crash(&disk), BTreeSet::from([b"new".to_vec()]));
    assert_eq!(names_after_crash(&disk), names(&[&["/f"]]));
}

#[test]
fn a_rename_between_directories_is_durable_once_both_are_synced() {
    let (disk, _file) = with_file(b"x");
    disk.create_dir(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/f"), path("/d/g")).unwrap();
    let either = names(&[&["/f"], &["/d/g"]]);
    assert_eq!(names_after_crash(&disk), either);
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(names_after_crash(&disk), either);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/d/g"]]));
}

#[test]
fn a_reused_name_makes_the_rename_before_it_durable() {
    let (disk, _file) = with_file(b"first");
    disk.create_dir(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/f"), path("/d/g")).unwrap();
    disk.create(path("/f")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/d/g", "/f"]]));
}

#[test]
fn a_renamed_file_is_never_lost_with_a_directory() {
    let (disk, _file) = with_file(b"x");
    disk.create_dir(path("/new")).unwrap();
    disk.rename(path("/f"), path("/new/f")).unwrap();
    disk.sync_dir(path("/new")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/f"], &["/new/f"]]));
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/new/f"), path("/g")).unwrap();
    disk.remove_dir(path("/new")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/new/f"], &["/g"]]));
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/g"]]));
}

#[test]
fn directories_never_end_up_inside_each_other() {
    let disk = MemoryDisk::new(0);
    disk.create_dir(path("/x")).unwrap();
    disk.create_dir(path("/x/a")).unwrap();
    disk.write_file(path("/x/a/f"), b"").unwrap();
    disk.sync_dir(path("/x")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/x/a"), path("/a")).unwrap();
    disk.rename(path("/x"), path("/a/x")).unwrap();
    assert_eq!(names_after_crash(&disk), names(&[&["/x/a/f"], &["/a/f"]]));
}

#[test]
fn a_crashed_disk_and_its_files_are_dead() {
    let (disk, file) = with_file(b"x");
    let guard = disk.lock(path("/l")).unwrap();
    let new = disk.crash(&mut |_: u32| 1);
    assert_eq!(kind(file.sync_data()), io::ErrorKind::Other);
    assert_eq!(file.len().unwrap_err().to_string(), "the machine has lost power");
    assert_eq!(kind(disk.create(path("/g"))), io::ErrorKind::Other);
    assert_eq!(kind(disk.fill_random(&mut [0])), io::ErrorKind::Other);
    assert!(matches!(new.lock(path("/l")).unwrap(), LockOutcome::Acquired(_)));
    drop((guard, file));
    assert_eq!(new.read_file(path("/f")).unwrap(), b"x");
}

#[test]
fn killing_keeps_everything_in_place_but_not_durable() {
    let (disk, file) = with_file(b"old");
    write(&file, 0, b"new").unwrap();
    disk.create(path("/g")).unwrap();
    let _guard = disk.lock(path("/l")).unwrap();
    let new = disk.kill();
    assert_eq!(file.len().unwrap_err().to_string(), "the process was killed");
    assert_eq!(new.all_files(), [path("/f"), path("/g"), path("/l")]);
    assert_eq!(new.read_file(path("/f")).unwrap(), b"new");
    assert!(matches!(new.lock(path("/l")).unwrap(), LockOutcome::Acquired(_)));
    let both = BTreeSet::from([b"old".to_vec(), b"new".to_vec()]);
    assert_eq!(contents_after_crash(&new), both);
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

/// A disk with a durable file `/f` of three blocks of ones and half a block more.
fn with_blocks() -> (MemoryDisk, Arc<dyn DiskFile>) {
    with_file(&[1; 3 * 4096 + 2048])
}

#[test]
fn a_hole_is_zero_and_whole_blocks_of_it_are_given_back() {
    let (disk, file) = with_blocks();
    file.punch_hole(4095, 4098).unwrap();
    assert_eq!(disk.used_bytes(), 3 * 4096);
    assert_eq!(file.allocated_bytes().unwrap(), 3 * 4096);
    let mut expected = vec![1; 3 * 4096 + 2048];
    expected[4095..8193].fill(0);
    assert_eq!(disk.read_file(path("/f")).unwrap(), expected);
    file.punch_hole(4096, 4096).unwrap();
    file.punch_hole(0, 0).unwrap();
    file.punch_hole(1, 4095).unwrap();
    file.punch_hole(100_000, 1).unwrap();
    file.punch_hole(u64::MAX, u64::MAX).unwrap();
    assert_eq!(disk.used_bytes(), 3 * 4096);
    assert_eq!(file.len().unwrap(), 3 * 4096 + 2048);
    file.punch_hole(0, u64::MAX).unwrap();
    assert_eq!((disk.used_bytes(), file.len().unwrap()), (0, 3 * 4096 + 2048));
    assert_eq!(disk.read_file(path("/f")).unwrap(), vec![0; 3 * 4096 + 2048]);
    let reader = disk.open(path("/f"), Access::Read).unwrap();
    assert!(reader.punch_hole(0, 1).is_err());
}

#[test]
fn a_hole_takes_space_again_once_it_is_written_or_cut() {
    let (disk, file) = with_blocks();
    file.punch_hole(0, u64::MAX).unwrap();
    write(&file, 4095, b"ab").unwrap();
    assert_eq!(disk.used_bytes(), 2 * 4096);
    file.set_len(4096 * 2 + 1).unwrap();
    assert_eq!(disk.used_bytes(), 2 * 4096);
    file.set_len(4096).unwrap();
    assert_eq!(disk.used_bytes(), 4096);
    file.set_len(4096 * 3).unwrap();
    assert_eq!(disk.used_bytes(), 3 * 4096);
    file.punch_hole(0, u64::MAX).unwrap();
    disk.write_file(path("/f"), &[1; 4097]).unwrap();
    assert_eq!(disk.used_bytes(), 2 * 4096);
}

#[test]
fn a_full_disk_refuses_writes_into_holes() {
    let (disk, file) = with_blocks();
    file.punch_hole(4096, 2 * 4096).unwrap();
    disk.set_capacity_bytes(Some(3 * 4096));
    assert_eq!(write(&file, 4000, &[2; 3 * 4096]).unwrap(), 2 * 4096 - 4000);
    assert_eq!(disk.used_bytes(), 3 * 4096);
    assert_eq!(kind(write(&file, 2 * 4096, b"x")), io::ErrorKind::StorageFull);
    assert_eq!(kind(file.set_len(4 * 4096 + 1)), io::ErrorKind::StorageFull);
    assert_eq!(write(&file, 3 * 4096, &[2; 4096]).unwrap(), 4096);
    file.punch_hole(0, 4096).unwrap();
    assert_eq!(write(&file, 2 * 4096, &[2; 4096]).unwrap(), 4096);
    assert_eq!(disk.used_bytes(), 3 * 4096);
}

#[test]
fn a_power_cut_leaves_each_sector_of_a_hole_old_or_zero() {
    let (disk, file) = with_file(&[1; 4096]);
    file.punch_hole(0, 4096 + 512).unwrap();
    let mut states = BTreeSet::new();
    for after in [disk.fork().crash(&mut |_: u32| 0), disk.fork().crash(&mut |_: u32| 1)] {
        states.insert((after.read_file(path("/f")).unwrap(), after.used_bytes()));
    }
    assert_eq!(states, BTreeSet::from([(vec![1; 4096], 4096), (vec![0; 4096], 0)]));
    for after in outcomes(&disk) {
        let contents = after.read_file(path("/f")).unwrap();
        let whole = |sector: &[u8]| sector == [0; SECTOR] || sector == [1; SECTOR];
        assert!(contents.len() == 4096 && contents.chunks(SECTOR).all(whole));
        let zero = contents.iter().all(|&byte| byte == 0);
        assert_eq!(after.used_bytes(), if zero { 0 } else { 4096 });
    }
    file.sync_data().unwrap();
    assert_eq!(contents_after_crash(&disk), BTreeSet::from([vec![0; 4096]]));
    assert!(outcomes(&disk).iter().all(|disk| disk.used_bytes() == 0));
    write(&file, 10, b"x").unwrap();
    let used: BTreeSet<u64> = outcomes(&disk).iter().map(MemoryDisk::used_bytes).collect();
    assert_eq!(used, BTreeSet::from([0, 4096]));
}

#[test]
fn a_hole_outlives_a_fork_and_a_kill() {
    let (disk, file) = with_blocks();
    file.punch_hole(0, 4096).unwrap();
    let fork = disk.fork();
    write(&file, 0, b"x").unwrap();
    assert_eq!((disk.used_bytes(), fork.used_bytes()), (4 * 4096, 3 * 4096));
    let killed = fork.kill();
    assert_eq!(killed.used_bytes(), 3 * 4096);
    assert_eq!(killed.crash(&mut |_: u32| 0).used_bytes(), 4 * 4096);
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

#[test]
fn no_sequence_of_renames_loses_or_doubles_a_file() {
    let contents: Vec<Vec<u8>> = (0..4).map(|number| vec![number]).collect();
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let mut below = |limit: u8| {
            let mut byte = [0];
            random.fill(&mut byte);
            byte[0] % limit
        };
        let disk = MemoryDisk::new(0);
        contents.iter().for_each(|bytes| {
            disk.write_file(path(&format!("/file{}", bytes[0])), bytes).unwrap();
        });
        for step in 0..12 {
            let dir = |number: u8| ["/", "/a", "/b", "/a/c", "/b/c"][usize::from(number)];
            let (one, other) = (dir(below(5)), dir(below(5)));
            // Many of these fail, which is as good as doing nothing.
            let _ = match below(6) {
                0 => disk.create_dir(path(one)),
                1 => disk.sync_dir(path(one)),
                2 => disk.remove_dir(path(one)),
                3 => disk.rename(path(one), path(other)),
                _ => {
                    let files = disk.all_files();
                    let from = &files[usize::from(below(4))];
                    disk.rename(from, &path(other).join(step.to_string()))
                }
            };
        }
        let after = disk.crash(&mut |options: u32| u32::from(below(255)) % options);
        let read = |path: &PathBuf| after.read_file(path).unwrap();
        let mut found: Vec<Vec<u8>> = after.all_files().iter().map(read).collect();
        found.sort();
        assert_eq!(found, contents, "seed {seed}");
    }
}
