//! Logs: keys that are destroyed, buckets of one name, and pseudonyms at the turn of a day.

use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ebbtide::disk::{Access, Disk, Fault, MemoryDisk};
use ebbtide::{
    Clock, Error, KeyspaceOptions, Log, LogOptions, Pseudonym, Retention, Row, RowId, Store,
};

use crate::fixture::{MODES, clock, hours, minutes, open, quiet, try_open};
use crate::hooked::HookedDisk;
use crate::rig::{
    Rig, access, assert_sound, each_mode, images, put, row, rows, stopped_at_each_call,
    with_each_call_failing,
};

const VISITOR: &str = "198.18.0.77";

fn visitor() -> IpAddr {
    VISITOR.parse().unwrap()
}

/// A row about the visitor, and under which name.
fn visit(store: &Store, payload: &str) -> (RowId, Pseudonym) {
    let log = access(store);
    let subject = log.pseudonym(visitor(), store.now()).unwrap();
    (log.append(Row::new(subject).payload(payload)).unwrap(), subject)
}

fn keys_file(rig: &Rig) -> PathBuf {
    rig.files("pseudonym.keys").into_iter().find(|path| path.starts_with("/data/logs")).unwrap()
}

/// The key as it stands in its file.
fn key_bytes(rig: &Rig) -> Vec<u8> {
    rig.disk.read_file(&keys_file(rig)).unwrap()[28 + 8..28 + 40].to_vec()
}

/// However the drop is stopped, a bucket whose key is destroyed is not served, and one that is still
/// there has its key.
#[test]
fn a_bucket_does_not_outlive_its_destroyed_key() {
    for mapped in MODES {
        let key = std::cell::RefCell::new(Vec::new());
        stopped_at_each_call(
            || {
                let rig = Rig::new(mapped);
                let (disk, store) = rig.open_faulty();
                visit(&store, "row about somebody");
                store.sync().unwrap();
                *key.borrow_mut() = key_bytes(&rig);
                rig.clock.advance(hours(16));
                (rig, disk, store)
            },
            |store| drop(store.maintain()),
            |rig, what| {
                let in_place = rig.files(".seg").iter().any(|path| path.starts_with("/data/logs"));
                let has_key = rig.on_disk(&key.borrow());
                assert!(has_key || !in_place, "{what}: the key went before the bucket");
                let store = rig.open();
                assert!(rows(&access(&store)).is_empty(), "{what}");
                store.maintain().unwrap();
                assert!(!rig.on_disk(&key.borrow()), "{what}: the key is there");
                assert!(!rig.on_disk(b"row about somebody"), "{what}");
                assert_sound(&store);
            },
        );
    }
}

/// The key is destroyed, or half of it, and a power cut has brought the bucket's directory back before
/// its time is over.
#[test]
fn a_bucket_without_its_key_is_condemned_and_gets_no_other() {
    let destroyed: [fn(&Rig, &Path); 3] = [
        |rig, path| rig.change(path, |bytes| bytes.fill(0)),
        |rig, path| rig.change(path, Vec::clear),
        |rig, path| rig.disk.remove_file(path).unwrap(),
    ];
    for destroy in destroyed {
        each_mode(|rig| {
            let store = rig.open();
            let (id, before) = visit(&store, "row about somebody");
            store.sync().unwrap();
            drop(store);
            destroy(rig, &keys_file(rig));
            for round in 0..3 {
                let rig = if round == 1 { rig.kill() } else { rig.with(rig.disk.clone()) };
                let store = rig.open();
                assert!(access(&store).get(id).unwrap().is_none());
                assert!(rows(&access(&store)).iter().all(|row| row != "row about somebody"));
                store.maintain().unwrap();
                assert!(!rig.on_disk(b"row about somebody"), "what it said is gone with the key");
                let (other, after) = visit(&store, "another row");
                assert_ne!((id, before.id()), (other, after.id()));
                let subject = access(&store).get(other).unwrap().unwrap().subject();
                assert_eq!(subject, Some(after));
            }
        });
    }
}

/// Half of the key is wiped: the other copy still is the key, so it is wiped again with the bucket.
/// An earlier process made them, and the pages were taken for clean: on ext4 their blocks may stay marked as unwritten.
#[test]
fn keys_of_which_the_first_sync_was_lost_are_made_anew() {
    each_mode(|rig| {
        let store = rig.open();
        let first = access(&store).pseudonym(visitor(), store.now()).unwrap();
        drop(store);
        let path = keys_file(rig);
        let bytes = rig.disk.read_file(&path).unwrap();
        rig.change(&path, |bytes| bytes.fill(0));
        let file = rig.disk.open(&path, Access::ReadWrite).unwrap();
        file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
        file.lose_unsynced();
        drop(file);
        rig.disk.let_forget();
        let next = rig.kill();
        let store = next.open();
        let (row, pseudonym) = visit(&store, "a row");
        assert_ne!(pseudonym, first);
        store.sync().unwrap();
        let store = next.cut(0).open();
        let row = access(&store).get(row).unwrap().unwrap();
        assert_eq!(row.payload()[..], *b"a row");
    });
}

#[test]
fn a_half_wiped_key_in_the_trash_is_wiped_again() {
    each_mode(|rig| {
        let store = rig.open();
        visit(&store, "row about somebody");
        store.sync().unwrap();
        let key = key_bytes(rig);
        rig.clock.advance(hours(16));
        store.drop_expired().unwrap();
        let rig = rig.kill();
        let trashed = rig.files("pseudonym.keys").pop().unwrap();
        assert!(trashed.starts_with("/data/trash"));
        rig.change(&trashed, |bytes| bytes[..4096].fill(0));
        assert!(rig.on_disk(&key));
        let store = rig.open();
        store.maintain().unwrap();
        assert!(!rig.on_disk(&key) && rig.files("pseudonym.keys").is_empty());
        assert_eq!(store.stats().trash_items, 0);
    });
}

/// Two keyspaces and a log with buckets of one start are dropped together, and readers hold them.
#[test]
fn buckets_of_one_name_lie_in_the_trash_side_by_side() {
    each_mode(|rig| {
        let store = rig.open();
        let option = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(8192);
        let other = store.keyspace("other", option).unwrap();
        let images = images(&store);
        put(&images, "key", "a value of images", &[]);
        put(&other, "key", "a value of another", &[]);
        visit(&store, "row about somebody");
        store.sync().unwrap();
        let held = [images.get("key").unwrap().unwrap(), other.get("key").unwrap().unwrap()];
        rig.clock.advance(hours(16));
        assert_eq!(store.drop_expired().unwrap(), 3);
        let mut names = trashed(rig);
        assert_eq!(names.len(), 3, "{names:?}");
        names.iter_mut().for_each(|name| *name = name.split('.').nth(1).unwrap().to_owned());
        names.dedup();
        assert_eq!(names.len(), 1, "all of one start");
        assert_eq!(held[0].as_ref(), b"a value of images");
        assert_eq!(held[1].as_ref(), b"a value of another");
        for stopped in (0..6).map(|seed| rig.cut(seed)).chain([rig.kill()]) {
            let store = stopped.open();
            for name in ["images", "other"] {
                let keyspace = store.existing_keyspace(name).unwrap();
                assert!(keyspace.get("key").unwrap().is_none() && keyspace.iter().count() == 0);
            }
            assert!(rows(&access(&store)).is_empty());
            store.maintain().unwrap();
            assert_eq!((trashed(&stopped).len(), store.stats().trash_items), (0, 0));
            for needle in ["a value of", "row about"] {
                assert!(!stopped.on_disk(needle.as_bytes()), "{needle}");
            }
            assert_sound(&store);
        }
        store.maintain().unwrap();
        assert_eq!(held[0].as_ref(), b"a value of images");
        assert_eq!(held[1].as_ref(), b"a value of another");
        drop(held);
        store.maintain().unwrap();
        assert_eq!(store.stats().pinned_bytes, 0);
    });
}

/// What lies in the trash, by name.
fn trashed(rig: &Rig) -> Vec<String> {
    let entries = rig.disk.read_dir(Path::new("/data/trash")).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// A log whose buckets are days.
fn daily(store: &Store) -> Log {
    store.log("daily", LogOptions::new(Retention::days(30)).segment_bytes(8192)).unwrap()
}

/// Made a millisecond before midnight, used after it: the row lives and dies with the pseudonym's key.
#[test]
fn a_pseudonym_made_before_midnight_takes_its_row_to_the_day_of_its_key() {
    each_mode(|rig| {
        let day = hours(24).as_millis() as u64;
        let midnight = (rig.clock.wall().as_millis() / day + 1) * day;
        let midnight = ebbtide::Timestamp::from_millis(midnight);
        rig.clock.advance(midnight.since(rig.clock.wall()) - std::time::Duration::from_millis(1));
        let store = rig.open();
        let log = daily(&store);
        let before = log.pseudonym(visitor(), store.now()).unwrap();
        rig.clock.advance(std::time::Duration::from_millis(1));
        assert_eq!(store.now(), midnight);
        let mut appender = log.appender();
        appender.append(Row::new(before).payload("buffered")).unwrap();
        let across = log.append(Row::new(before).payload("across")).unwrap();
        rig.clock.advance(minutes(1));
        appender.flush().unwrap();
        let after = log.pseudonym(visitor(), store.now()).unwrap();
        assert_ne!(before.id(), after.id(), "nobody links the two days");
        let next = log.append(Row::new(after).payload("next day")).unwrap();
        store.sync().unwrap();
        assert_eq!(before.period() + hours(24), midnight);
        assert_eq!(after.period(), midnight);
        rig.everywhere(&store, |store| {
            let log = store.existing_log("daily").unwrap();
            let across = log.get(across).unwrap().unwrap();
            assert_eq!((across.time(), across.subject()), (midnight, Some(before)));
            assert_eq!(across.gone_at(), before.period() + hours(30 * 24));
            assert_eq!(log.get(next).unwrap().unwrap().subject(), Some(after));
            assert_eq!(rows(&log), ["across", "buffered", "next day"]);
        });
        // When the first day leaves, no trace of its pseudonym is left in what stays.
        rig.clock.advance(hours(29 * 24) - minutes(1));
        store.maintain().unwrap();
        assert_eq!(rows(&log), ["next day"]);
        assert!(!rig.on_disk(&before.id()) && rig.on_disk(&after.id()));
        let late = log.append(Row::new(before).payload("too late"));
        assert!(matches!(late, Err(Error::Expired { .. })), "{late:?}");
        let late = log.pseudonym(visitor(), midnight - minutes(1));
        assert!(matches!(late, Err(Error::Expired { .. })), "{late:?}");
    });
}

/// Somebody has put a link where the next bucket will be: its making fails, and nothing is touched behind it.
#[test]
fn a_link_in_place_of_a_bucket_leads_nowhere() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let theirs = outside.path().join("pseudonym.keys");
    fs::write(&theirs, "not ours").unwrap();
    let builder = quiet(Store::builder(dir.path().join("data")), &clock());
    let store = open(builder, false);
    let log = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
    let bucket = dir.path().join("data/logs/access/20261121T130000000Z");
    std::os::unix::fs::symlink(outside.path(), &bucket).unwrap();
    assert!(log.append(Row::anonymous().payload("row")).is_err());
    assert_eq!(fs::read(&theirs).unwrap(), b"not ours");
    fs::remove_file(&bucket).unwrap();
    log.append(Row::anonymous().payload("row")).unwrap();
    assert!(bucket.join("pseudonym.keys").exists());
}

/// The bucket of one hour cannot be moved, and that of the next is past its time too.
#[test]
fn a_bucket_that_cannot_be_dropped_keeps_no_later_one() {
    for mapped in MODES {
        let mut stayed = 0;
        let prepare = || {
            let rig = Rig::new(mapped);
            let (disk, store) = rig.open_faulty();
            for hour in ["first", "second"] {
                row(&access(&store), hour, &[]);
                rig.clock.advance(hours(1));
            }
            rig.clock.advance(hours(17));
            (rig, disk, store)
        };
        let fault = Fault::Error(ErrorKind::TimedOut);
        with_each_call_failing(fault, prepare, Store::drop_expired, |rig, _, dropped, call| {
            let segments = rig.files(".seg");
            let left = segments.iter().filter(|path| path.starts_with("/data/logs")).count();
            match dropped {
                Ok(_) => assert_eq!(left, 0, "call {call}"),
                Err(_) => stayed += u32::from(left == 1),
            }
        });
        // Where either of them cannot be moved.
        assert_eq!(stayed, 2);
    }
}

/// A log's bucket is due as the store is opened, its drop cannot be synced, and its segment is another store's.
#[test]
fn keys_do_not_stay_for_a_segment_that_belongs_elsewhere() {
    for mapped in MODES {
        let rig = Rig::new(mapped);
        let other = rig.with(MemoryDisk::new(2));
        let of_other = other.open();
        visit(&of_other, "row of another store");
        of_other.close().unwrap();
        let store = rig.open();
        visit(&store, "row about somebody");
        store.close().unwrap();
        let foreign = other.disk.read_file(&other.files(".seg")[0]).unwrap();
        rig.change(&rig.files(".seg")[0], |bytes| *bytes = foreign);
        let key = key_bytes(&rig);
        rig.clock.advance(hours(17));
        let mut back = 0;
        for after in 0..8 {
            let rig = rig.kill();
            let disk = HookedDisk::new(&rig.disk);
            disk.forget_sync("/data/trash", after);
            let builder = quiet(Store::builder("/data").disk(disk), &rig.clock);
            let opened = try_open(builder, mapped);
            let cut = rig.cut(0);
            let is_back = cut.files(".seg").iter().any(|path| path.starts_with("/data/logs"));
            if opened.is_ok() && is_back {
                back += 1;
                assert!(!cut.on_disk(&key), "after {after} others");
            }
        }
        assert!(back > 0);
    }
}
