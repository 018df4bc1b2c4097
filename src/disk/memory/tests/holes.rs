//! Holes, and the room they give back.

use super::*;

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
