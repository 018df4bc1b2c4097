//! What was written and not synced, after a power cut.

use super::*;

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
    let killed = disk.kill();
    assert_eq!(killed.read_file(path("/f")).unwrap(), b"new!");
    let file = killed.open(path("/f"), Access::ReadWrite).unwrap();
    file.forget_cached();
    assert_eq!(killed.read_file(path("/f")).unwrap(), b"new!");
    killed.let_forget();
    let map = file.map(8).unwrap();
    file.forget_cached();
    assert_eq!(killed.read_file(path("/f")).unwrap(), b"new!");
    drop(map);
    file.forget_cached();
    assert_eq!(killed.read_file(path("/f")).unwrap(), b"old\0");
    write(&file, 0, b"dirty").unwrap();
    file.forget_cached();
    assert_eq!(killed.read_file(path("/f")).unwrap(), b"dirty");
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
