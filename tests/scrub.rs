//! Physical erasure: what is dead leaves the disk within its bound, nobody sees it go, and nothing
//! comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::io::Write;
use std::path::Path;

use ebbtide::disk::MemoryDisk;
use ebbtide::{Clock, Error, Keyspace, KeyspaceOptions, Level, ManualClock, Retention, Store};

use fixture::{MODES, clock, hours, minutes, on_memory, open, quiet};

fn images(store: &Store) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(256 * 1024);
    store.keyspace("images", options).unwrap()
}

fn on_disk(disk: &MemoryDisk, needle: &[u8]) -> bool {
    let holds = |path: &Path| {
        let bytes = disk.read_file(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    disk.all_files().iter().any(|path| holds(path))
}

fn insert(images: &Keyspace, key: &str, tag: &str, value: &str) {
    let fill = images.fill(key).tag(tag).metadata(format!("meta of {value}"));
    let _ = fill.commit(format!("value {value}").repeat(300)).unwrap();
}

fn assert_gone(disk: &MemoryDisk, key: &str, value: &str) {
    for needle in [key.to_owned(), format!("meta of {value}"), format!("value {value}")] {
        assert!(!on_disk(disk, needle.as_bytes()), "{needle} is still on the disk");
    }
}

/// A clock and a store whose upkeep runs when it is told to.
fn store(mapped: bool) -> (MemoryDisk, ManualClock, Store) {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), mapped);
    (disk, clock, store)
}

#[test]
fn what_is_dead_is_overwritten_within_the_bound() {
    for mapped in MODES {
        for sealed in [false, true] {
            let (disk, clock, store) = store(mapped);
            let images = images(&store);
            insert(&images, "cat-one", "cat", "one");
            insert(&images, "cat-two", "cat", "two");
            insert(&images, "dog-one", "dog", "three");
            insert(&images, "dog-two", "dog", "four");
            insert(&images, "dog-two", "dog", "five");
            insert(&images, "owl", "owl", "six");
            store.maintain().unwrap();
            if sealed {
                clock.advance(hours(1));
                store.maintain().unwrap();
            }
            let by_tag = images.invalidate_tag("cat").unwrap();
            let by_key = images.invalidate("dog-one").unwrap();
            assert_eq!((by_tag.level(), by_key.level()), (Level::Hidden, Level::Hidden));
            assert_eq!(by_tag.persist_by(), Some(by_tag.at() + hours(1)));
            assert!(on_disk(&disk, b"value one"));
            store.maintain().unwrap();
            clock.advance(minutes(30));
            store.maintain().unwrap();
            assert_gone(&disk, "cat-one", "one");
            assert_gone(&disk, "cat-two", "two");
            assert_gone(&disk, "dog-one", "three");
            assert_gone(&disk, "never", "four");
            assert_eq!((by_tag.level(), by_key.level()), (Level::Scrubbed, Level::Scrubbed));
            assert_eq!(by_tag.persist_by(), Some(by_tag.gone_by()));
            assert_eq!(images.get("dog-two").unwrap().unwrap().len(), 300 * "value five".len());
            assert!(images.get("owl").unwrap().is_some());
            for key in ["cat-one", "cat-two", "dog-one"] {
                assert!(images.get(key).unwrap().is_none());
            }
            assert!(store.verify().unwrap().problems.is_empty());
            assert_eq!(images.iter().count(), 2);
            store.close().unwrap();
            let store = open(on_memory(&disk, &clock), mapped);
            assert!(store.recovery_report().is_clean(), "{:?}", store.recovery_report());
            let again = store.existing_keyspace("images").unwrap();
            assert_eq!(again.iter().count(), 2);
            assert_gone(&disk, "cat-one", "one");
            clock.advance(hours(17));
            store.maintain().unwrap();
            assert!(store.verify().unwrap().problems.is_empty());
        }
    }
}

#[test]
fn the_bytes_are_gone_with_the_bucket_at_last() {
    for mapped in MODES {
        let (_, clock, store) = store(mapped);
        let images = images(&store);
        insert(&images, "cat", "cat", "one");
        let receipt = images.invalidate("cat").unwrap();
        store.scrub().unwrap();
        assert_eq!(receipt.level(), Level::Scrubbed);
        clock.advance(hours(17));
        store.maintain().unwrap();
        assert_eq!((receipt.level(), receipt.persist_by()), (Level::Unlinked, None));
    }
}

#[test]
fn a_held_value_delays_its_segment_and_shows() {
    let (disk, clock, store) = store(true);
    let images = images(&store);
    insert(&images, "cat", "cat", "one");
    insert(&images, "dog", "dog", "two");
    store.sync().unwrap();
    let held = images.get("dog").unwrap().unwrap();
    let receipt = images.invalidate("cat").unwrap();
    clock.advance(minutes(31));
    store.maintain().unwrap();
    assert_eq!(receipt.level(), Level::Hidden);
    assert!(receipt.pinned());
    let stats = store.stats();
    assert!(stats.pinned_bytes > 0);
    assert_eq!(stats.oldest_pin, Some(store.now()));
    assert!(!stats.pins_overdue);
    assert!(on_disk(&disk, b"value one"));
    assert!(images.get("cat").unwrap().is_none());
    assert!(images.get("dog").unwrap().is_some(), "others are still read");
    clock.advance(minutes(61));
    store.maintain().unwrap();
    assert!(store.stats().pins_overdue);
    let copy = held.to_owned();
    drop(held);
    store.maintain().unwrap();
    assert_eq!(receipt.level(), Level::Scrubbed);
    assert!(!receipt.pinned());
    assert_gone(&disk, "cat", "one");
    assert_eq!((store.stats().pinned_bytes, store.stats().oldest_pin), (0, None));
    assert_eq!(copy.as_ref(), "value two".repeat(300).as_bytes());
}

#[test]
fn what_is_known_of_records_delays_nothing() {
    let (disk, _, store) = store(true);
    let images = images(&store);
    insert(&images, "cat", "cat", "one");
    insert(&images, "dog", "dog", "two");
    store.sync().unwrap();
    let stat = images.stat("dog").unwrap().unwrap();
    let listed = images.list_tag("dog").unwrap();
    let all: Vec<_> = images.iter().map(Result::unwrap).collect();
    let receipt = images.invalidate("cat").unwrap();
    store.scrub().unwrap();
    assert_eq!((receipt.level(), store.stats().pinned_bytes), (Level::Scrubbed, 0));
    let scrubbed = store.stats().scrubbed_bytes;
    assert!((9 * 300..9 * 300 + 200).contains(&scrubbed), "{scrubbed}");
    assert_gone(&disk, "cat", "one");
    assert_eq!((stat.value_len(), listed.len(), all.len()), (9 * 300, 1, 2));
    assert_eq!(listed[0].key(), b"dog");
}

#[test]
fn a_held_value_keeps_its_own_bytes() {
    let (disk, _, store) = store(true);
    let images = images(&store);
    insert(&images, "cat", "cat", "one");
    store.sync().unwrap();
    let held = images.get("cat").unwrap().unwrap();
    images.invalidate("cat").unwrap();
    store.scrub().unwrap();
    assert_eq!(held.as_ref(), "value one".repeat(300).as_bytes());
    insert(&images, "cat", "cat", "new");
    store.scrub().unwrap();
    assert_eq!(held.as_ref(), "value one".repeat(300).as_bytes());
    drop(held);
    store.maintain().unwrap();
    assert_gone(&disk, "nobody", "one");
    assert!(images.get("cat").unwrap().is_some());
}

/// What replaced a record must be durable before the record is given up.
#[test]
fn a_power_cut_after_scrubbing_loses_no_version_that_was_replaced() {
    for mapped in MODES {
        let (disk, clock, store) = store(mapped);
        let images = images(&store);
        insert(&images, "cat", "cat", "one");
        store.sync().unwrap();
        insert(&images, "cat", "cat", "two");
        store.scrub().unwrap();
        assert_gone(&disk, "nobody", "one");
        let disk = disk.crash(&mut |_: u32| 0);
        drop(store);
        let store = open(on_memory(&disk, &clock), mapped);
        let images = store.existing_keyspace("images").unwrap();
        let value = images.get("cat").unwrap().unwrap();
        assert!(value.starts_with(b"value two"));
    }
}

/// A fill that began before the record which is erased must not take its place.
#[test]
fn an_old_fill_does_not_take_the_place_of_what_was_erased() {
    for mapped in MODES {
        let (disk, clock, store) = store(mapped);
        let images = images(&store);
        let fill = images.fill("cat").tag("other");
        insert(&images, "cat", "cat", "one");
        let receipt = images.invalidate_tag("cat").unwrap();
        store.scrub().unwrap();
        assert_eq!(receipt.level(), Level::Hidden, "the fill is still open");
        assert_eq!(fill.commit("late").unwrap(), ebbtide::Outcome::Superseded);
        store.scrub().unwrap();
        assert_eq!(receipt.level(), Level::Scrubbed);
        assert_gone(&disk, "nobody", "one");
        let disk = disk.kill();
        drop(store);
        let store = open(on_memory(&disk, &clock), mapped);
        assert!(store.existing_keyspace("images").unwrap().get("cat").unwrap().is_none());
    }
}

#[test]
fn half_of_the_blobs_invalidated_gives_half_of_the_space_back() {
    for mapped in MODES {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock();
        let root = dir.path().join("data");
        let store = open(quiet(Store::builder(&root), &clock), mapped);
        let images = images(&store);
        for number in 0..200 {
            let fill = images.fill(format!("key-{number}")).tag(format!("tag-{}", number % 2));
            let _ = fill.commit(vec![number as u8; 24 * 1024]).unwrap();
        }
        store.sync().unwrap();
        clock.advance(hours(1));
        store.maintain().unwrap();
        let before = allocated(&root);
        images.invalidate_tag("tag-1").unwrap();
        clock.advance(hours(1));
        store.maintain().unwrap();
        let after = allocated(&root);
        let freed = before - after;
        println!("{before} bytes before, {after} after");
        let punches = store.stats().capabilities.punches_holes;
        assert!(!punches || freed > 100 * 16 * 1024, "only {freed} bytes came back");
        assert_eq!(images.iter().count(), 100);
        let used = store.stats().keyspaces[0].used_bytes;
        store.close().unwrap();
        let store = open(quiet(Store::builder(&root), &clock), mapped);
        let again = store.stats().keyspaces[0].used_bytes;
        assert!(again.abs_diff(used) < used / 10, "{used} bytes before, {again} after");
        assert!(store.verify().unwrap().problems.is_empty());
    }
}

fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::symlink_metadata(path).unwrap();
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).unwrap();
    own + entries.map(|entry| allocated(&entry.unwrap().path())).sum::<u64>()
}

#[test]
fn a_receipt_waits_for_the_next_level_and_ends_with_the_store() {
    for mapped in MODES {
        let (_, clock, store) = store(mapped);
        let images = images(&store);
        insert(&images, "cat", "cat", "one");
        let receipt = images.invalidate("cat").unwrap();
        assert_eq!(receipt.wait(std::time::Duration::ZERO).unwrap(), Level::Hidden);
        let level = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| receipt.wait(minutes(60)).unwrap());
            while !waiting.is_finished() {
                clock.advance(minutes(30));
                store.maintain().unwrap();
            }
            waiting.join().unwrap()
        });
        assert!(level > Level::Hidden);
        insert(&images, "dog", "dog", "two");
        let receipt = images.invalidate("dog").unwrap();
        let closed = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| receipt.wait(minutes(60)));
            store.close().unwrap();
            waiting.join().unwrap()
        });
        assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
        assert!(matches!(receipt.wait(minutes(1)), Err(Error::Closed)));
    }
}

#[test]
fn erasing_goes_on_once_the_clock_has_been_set_right() {
    for mapped in MODES {
        let (disk, clock, store) = store(mapped);
        let images = images(&store);
        let right = clock.wall();
        clock.set_wall(right + hours(100_000));
        store.confirm_clock().unwrap();
        insert(&images, "cat", "cat", "one");
        images.invalidate("cat").unwrap();
        clock.advance(minutes(60));
        store.maintain().unwrap();
        assert_gone(&disk, "cat", "one");
        insert(&images, "dog", "dog", "two");
        images.invalidate("dog").unwrap();
        clock.set_wall(right);
        store.reset_clock().unwrap();
        insert(&images, "fox", "fox", "three");
        images.invalidate("fox").unwrap();
        for _ in 0..2 {
            clock.advance(minutes(30));
            store.maintain().unwrap();
        }
        assert_gone(&disk, "dog", "two");
        assert_gone(&disk, "fox", "three");
    }
}

#[test]
fn the_background_thread_erases_without_being_asked() {
    for mapped in MODES {
        let disk = MemoryDisk::new(1);
        let builder = Store::builder("/data").disk(disk.clone());
        let store = open(builder.sync_interval(std::time::Duration::from_millis(10)), mapped);
        let images = images(&store);
        insert(&images, "cat", "cat", "one");
        let receipt = images.erase("cat").commit().unwrap();
        assert!(receipt.sequence() > 0);
        assert!(receipt.wait(minutes(60)).unwrap() > Level::Hidden);
        // The thread goes on making and replacing other files.
        assert_gone(&disk.fork(), "cat", "one");
    }
}

#[test]
fn whole_blocks_come_back_from_the_segment_being_written_too() {
    for mapped in MODES {
        let (disk, _, store) = store(mapped);
        let images = images(&store);
        for key in ["cat", "dog", "owl"] {
            insert(&images, key, key, &key.repeat(20));
        }
        store.sync().unwrap();
        images.invalidate("dog").unwrap();
        let taken = || (disk.used_bytes(), store.stats().keyspaces[0].used_bytes);
        let before = taken();
        store.scrub().unwrap();
        let after = taken();
        assert!(before.0 >= after.0 + 3 * 4096, "{before:?}, then {after:?}");
        assert_eq!(before.0 - after.0, before.1 - after.1);
        assert_gone(&disk, "dog", &"dog".repeat(20));
    }
}

/// What has left stays on the disk until the trash is emptied, and receipts know.
#[test]
fn what_lies_in_the_trash_is_not_unlinked() {
    for mapped in MODES {
        let (_, clock, store) = store(mapped);
        let images = images(&store);
        insert(&images, "cat", "cat", "one");
        let receipt = images.invalidate("cat").unwrap();
        clock.advance(hours(17));
        assert_eq!(store.drop_expired().unwrap(), 1);
        assert_eq!((receipt.level(), store.stats().trash_items), (Level::Hidden, 1));
        store.maintain().unwrap();
        assert_eq!((receipt.level(), store.stats().trash_items), (Level::Unlinked, 0));
    }
}

#[test]
fn where_overwriting_proves_nothing_receipts_do_not_claim_it() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let mut capabilities = ebbtide::disk::Capabilities::new("copying");
    capabilities.punches_holes = false;
    disk.set_capabilities(capabilities.clone());
    let store = open(on_memory(&disk, &clock), true);
    assert_eq!(store.stats().capabilities, capabilities);
    let images = images(&store);
    insert(&images, "cat", "cat", "one");
    insert(&images, "large", "cat", &"one".repeat(20));
    let receipt = images.invalidate_tag("cat").unwrap();
    assert_eq!(receipt.persist_by(), Some(receipt.gone_by()));
    store.scrub().unwrap();
    assert_gone(&disk, "cat", "one");
    assert_gone(&disk, "large", &"one".repeat(20));
    assert_eq!(receipt.level(), Level::Hidden);
    clock.advance(hours(17));
    store.maintain().unwrap();
    assert_eq!(receipt.level(), Level::Unlinked);
}

#[test]
fn records_are_found_by_their_tags() {
    for mapped in MODES {
        let (_, clock, store) = store(mapped);
        let images = images(&store);
        for number in [3, 1, 2] {
            insert(&images, &format!("cat-{number}"), "cat", &"x".repeat(number));
        }
        insert(&images, "dog", "dog", "one");
        let keys = |tag: &str| -> Vec<String> {
            let entries = images.list_tag(tag).unwrap();
            entries.iter().map(|e| String::from_utf8(e.key().to_vec()).unwrap()).collect()
        };
        assert_eq!(keys("cat"), ["cat-3", "cat-1", "cat-2"], "the oldest first");
        assert_eq!(images.list_tag("cat").unwrap()[1].stat().value_len(), 7 * 300);
        insert(&images, "cat-3", "cat", "again");
        insert(&images, "cat-1", "dog", "again");
        assert_eq!(keys("cat"), ["cat-2", "cat-3"]);
        clock.advance(hours(1));
        store.maintain().unwrap();
        insert(&images, "cat-4", "cat", "late");
        assert_eq!(keys("cat"), ["cat-2", "cat-3", "cat-4"]);
        assert_eq!((images.count_tag("dog").unwrap(), images.count_tag("owl").unwrap()), (2, 0));
        images.invalidate("cat-2").unwrap();
        assert_eq!(keys("cat"), ["cat-3", "cat-4"]);
        images.invalidate_tag("cat").unwrap();
        assert_eq!(images.count_tag("cat").unwrap(), 0);
        for tag in ["", &"x".repeat(1025)] {
            assert!(matches!(images.list_tag(tag), Err(Error::Limit { .. })));
        }
    }
}

/// No later opening may erase what a value of an earlier one still shows.
#[test]
fn a_value_held_over_a_close_keeps_the_store_locked() {
    let (disk, clock, store) = store(true);
    let images = images(&store);
    insert(&images, "cat", "cat", "one");
    store.sync().unwrap();
    let held = images.get("cat").unwrap().unwrap();
    let copy = held.to_owned();
    images.invalidate("cat").unwrap();
    store.close().unwrap();
    let reopened = fixture::try_open(on_memory(&disk, &clock), false);
    assert!(matches!(reopened, Err(Error::Locked { .. })), "{reopened:?}");
    assert!(on_memory(&disk, &clock).open_read_only().is_ok());
    assert_eq!(held.as_ref(), "value one".repeat(300).as_bytes());
    drop(held);
    let store = open(on_memory(&disk, &clock), true);
    store.maintain().unwrap();
    assert_gone(&disk, "cat", "one");
    assert_eq!(copy.as_ref(), "value one".repeat(300).as_bytes());
}

/// A pass that had to leave something to the next one must not let the receipt forget it.
#[test]
fn what_a_later_pass_found_is_waited_for() {
    let (disk, _, store) = store(true);
    let images = images(&store);
    let fill = images.fill("cat");
    let _ = images.fill("cat").tag("t").commit(b"secret value").unwrap();
    store.sync().unwrap();
    let held = images.get("cat").unwrap().unwrap();
    let receipt = images.invalidate_tag("t").unwrap();
    store.scrub().unwrap();
    assert_eq!(receipt.level(), Level::Hidden);
    drop(fill);
    store.scrub().unwrap();
    assert!(on_disk(&disk, b"secret value"));
    assert_eq!(receipt.level(), Level::Hidden, "it is held");
    assert!(receipt.pinned());
    drop(held);
    store.scrub().unwrap();
    assert_eq!(receipt.level(), Level::Scrubbed);
    assert!(!on_disk(&disk, b"secret value"));
}

/// A value that has outgrown the memory lies on the disk before it is committed.
#[test]
fn a_value_being_written_holds_the_receipt_back() {
    let (disk, clock, store) = store(false);
    let images = images(&store);
    let mut writer = images.fill("cat").memory_limit_bytes(1).into_writer().unwrap();
    writer.write_all(b"secret value").unwrap();
    let receipt = images.erase("cat").commit().unwrap();
    // Its number is under way no longer, and its file is there.
    clock.advance(minutes(20));
    store.maintain().unwrap();
    assert!(on_disk(&disk, b"secret value"));
    assert_eq!(receipt.level(), Level::Hidden);
    drop(writer);
    store.maintain().unwrap();
    assert!(!on_disk(&disk, b"secret value"));
    assert_eq!(receipt.level(), Level::Unlinked);
}

#[test]
fn rows_are_erased_while_something_older_is_under_way() {
    let (disk, _, store) = store(false);
    let options = ebbtide::LogOptions::new(Retention::hours(16));
    let access = store.log("access", options).unwrap();
    let fill = images(&store).fill("cat");
    access.append(ebbtide::Row::anonymous().payload(b"secret row").tag("t")).unwrap();
    let receipt = access.erase_tag("t").unwrap();
    store.scrub().unwrap();
    assert!(!on_disk(&disk, b"secret row"));
    assert_eq!(receipt.level(), Level::Hidden, "what is under way may be a row");
    drop(fill);
    store.scrub().unwrap();
    assert_eq!(receipt.level(), Level::Scrubbed);
}

/// Any of them may have been meant by what was lost.
#[test]
fn a_held_row_delays_its_segment() {
    for mapped in MODES {
        let (disk, _, store) = store(mapped);
        let access = store.log("access", ebbtide::LogOptions::new(Retention::hours(16))).unwrap();
        let id = access.append(ebbtide::Row::anonymous().payload(b"plain row")).unwrap();
        access.append(ebbtide::Row::anonymous().payload(b"secret row").tag("t")).unwrap();
        store.sync().unwrap();
        let held = access.get(id).unwrap().unwrap();
        let receipt = access.invalidate_tag("t").unwrap();
        store.scrub().unwrap();
        assert_eq!((on_disk(&disk, b"secret row"), receipt.pinned()), (mapped, mapped));
        assert_eq!(held.payload().as_ref(), b"plain row");
        drop(held);
        store.scrub().unwrap();
        assert!(!on_disk(&disk, b"secret row") && !receipt.pinned());
        assert_eq!(receipt.level(), Level::Scrubbed);
    }
}

#[test]
fn rows_that_a_lost_tombstone_log_hides_are_erased() {
    for mapped in MODES {
        let (disk, clock, store) = store(mapped);
        let options = ebbtide::LogOptions::new(Retention::hours(16));
        let access = store.log("access", options).unwrap();
        access.append(ebbtide::Row::anonymous().payload(b"secret row").tag("t")).unwrap();
        access.append(ebbtide::Row::anonymous().payload(b"plain row")).unwrap();
        images(&store).invalidate("cat").unwrap();
        store.close().unwrap();
        let logs = disk.all_files().into_iter().filter(|path| path.starts_with("/data/tombstones"));
        logs.for_each(|path| disk.write_file(&path, b"?").unwrap());
        // The floor that stands in for it outlasts the opening that raised it.
        open(on_memory(&disk, &clock), mapped).close().unwrap();
        let store = open(on_memory(&disk, &clock), mapped);
        let access = store.existing_log("access").unwrap();
        let rows: Vec<_> = access.scan(..).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1, "what carries no tag cannot have been meant");
        drop(rows);
        store.scrub().unwrap();
        assert!(!on_disk(&disk, b"secret row"));
        assert!(on_disk(&disk, b"plain row"));
        assert!(store.verify().unwrap().problems.is_empty());
    }
}
