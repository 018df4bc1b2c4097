//! Names that come, go and move, after a power cut.

use super::*;

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
