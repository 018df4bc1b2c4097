//! Owners and what stands in their manifests.

use super::*;
use crate::Scope;
use crate::format::manifest::{KEYSPACE_MAGIC, OwnerManifest};
use crate::format::twin;

/// Puts the two slots of the manifest down anew.
fn put_manifests(bench: &Bench, change: impl Fn(u64, &mut OwnerManifest)) {
    bench.change(Path::new(MANIFEST), |bytes| {
        let twin = twin::decode(KEYSPACE_MAGIC, bytes);
        let (_, newest) = twin.newest().unwrap();
        for slot in 0..2 {
            let mut manifest = OwnerManifest::decode(&newest.payload).unwrap();
            change(slot, &mut manifest);
            let counter = newest.counter + slot;
            let slot_bytes = twin::encode_slot(KEYSPACE_MAGIC, counter, &manifest.encode());
            let at = slot as usize * twin::SLOT_LEN;
            bytes[at..at + twin::SLOT_LEN].copy_from_slice(&slot_bytes.unwrap());
        }
    });
}

#[test]
fn the_higher_floor_of_the_two_manifests_counts() {
    for slot_with_floor in 0..2 {
        let bench = Bench::closed_with(["cat"]);
        put_manifests(&bench, |slot, manifest| {
            manifest.floor = if slot == slot_with_floor { 1 << 41 } else { 0 };
        });
        assert_eq!(get(&bench.open(), "cat"), None, "in slot {slot_with_floor}");
    }
}

#[test]
fn a_manifest_of_which_one_copy_is_torn_is_written_anew() {
    let bench = Bench::closed_with(["cat"]);
    assert!(bench.open().recovery_report().is_clean());
    for at in [40, twin::SLOT_LEN + 40] {
        bench.change(Path::new(MANIFEST), |bytes| bytes[at] ^= 1);
        let torn = report(&[], &[Path::new(MANIFEST)], &[]);
        let looking = bench.builder().open_read_only().unwrap();
        assert_eq!(*looking.recovery_report(), torn);
        assert_eq!(get(&looking, "cat"), Some(value_of("cat")));
        drop(looking);
        let store = bench.open();
        assert_eq!(*store.recovery_report(), torn);
        assert_eq!(get(&store, "cat"), Some(value_of("cat")));
        drop(store);
        assert!(bench.open().recovery_report().is_clean());
    }
}

/// A keyspace whose manifest is gone, is unreadable or is another's is none: what it holds leaves at the
/// time its segments state.
#[test]
fn without_a_manifest_buckets_leave_at_their_own_time() {
    for what in ["missing", "unreadable", "another's"] {
        let bench = Bench::closed_with(["cat"]);
        match what {
            "missing" => bench.disk.remove_file(Path::new(MANIFEST)).unwrap(),
            "unreadable" => bench.change(Path::new(MANIFEST), |bytes| bytes.fill(0xee)),
            _ => put_manifests(&bench, |_, manifest| manifest.name = "other".to_owned()),
        }
        bench.disk.write_file(&Path::new(IMAGES).join("0000000100000009.part"), b"x").unwrap();
        let segment = bench.files("seg").remove(0);
        let store = bench.open();
        assert_eq!(store.keyspaces(), Vec::<String>::new(), "{what}");
        let corrupt: &[&Path] = if what == "missing" { &[] } else { &[Path::new(MANIFEST)] };
        assert_eq!(*store.recovery_report(), report(corrupt, &[], &[]), "{what}");
        assert!(bench.has(&segment) && bench.files("part").is_empty(), "{what}");
        drop(store);
        bench.pass_days(DAYS - 1);
        drop(bench.open());
        assert!(bench.has(&segment), "{what}: a day too soon");
        bench.pass_days(2);
        drop(bench.builder().open_read_only().unwrap());
        assert!(bench.has(&segment), "{what}: who looks drops nothing");
        bench.open().maintain().unwrap();
        assert_eq!(bench.files("seg"), Vec::<PathBuf>::new(), "{what}");
    }
}

/// What the system refuses to read may be there: no owner or bucket is given up for it.
/// Nor for damaged: behind the end of what was sealed lies what a refused write has left. And what was being born has
/// no sidecar, and never had.
#[test]
fn what_cannot_be_read_now_is_not_taken_for_missing() {
    let bench = Bench::new();
    let store = bench.open();
    images(&store).insert("cat", "value").unwrap();
    append(&visits(&store), None, "row");
    store.close().unwrap();
    let bench = bench.without_index();
    for segment in bench.files("seg") {
        bench.change(&segment, |bytes| bytes.extend([0x55; 40]));
        // As a power cut leaves one that is being born.
        bench.disk.write_file(&segment.with_file_name("0000000100000009.seg"), &[0; 512]).unwrap();
    }
    let check = |store: &Store, call: u64| {
        assert_eq!(get(store, "cat").as_deref(), Some("value"), "call {call}");
        assert_eq!(rows(store), ["row"], "call {call}");
    };
    let mut refused = 0;
    for call in 1.. {
        let disk = FaultyDisk::new(Arc::new(bench.disk.fork()));
        disk.inject(call, Fault::Error(ErrorKind::TimedOut));
        let builder = || bench.on(Store::builder("/data").disk(disk.clone()));
        match builder().open() {
            Ok(store) if disk.calls() < call => {
                drop(store);
                break;
            }
            Ok(store) => check(&store, call),
            Err(Error::Io { .. }) => refused += 1,
            Err(e) => panic!("call {call}: {e}"),
        }
        disk.clear();
        check(&builder().open().unwrap(), call);
    }
    assert!(refused > 10, "{refused}");
}

/// Without the newest log of tombstones nothing older than the opening counts as not invalidated, for
/// all openings to come; what is written from then on does.
#[test]
fn where_tombstones_may_be_lost_nothing_older_is_served() {
    let bench = Bench::new();
    let store = bench.open();
    images(&store).insert("cat", "old").unwrap();
    append(&visits(&store), Some("tag"), "tagged");
    append(&visits(&store), None, "plain");
    images(&store).invalidate("dog").unwrap();
    store.close().unwrap();
    bench.disk.remove_file(&bench.tombstone_logs()[0]).unwrap();

    let before = bench.disk.read_file(Path::new(MANIFEST)).unwrap();
    let looking = bench.builder().open_read_only().unwrap();
    assert_eq!((get(&looking, "cat"), rows(&looking)), (None, vec!["plain".to_owned()]));
    assert_eq!(bench.disk.read_file(Path::new(MANIFEST)).unwrap(), before);
    drop(looking);
    for opening in 0..3 {
        let store = bench.open();
        assert_eq!(get(&store, "cat"), None, "opening {opening}");
        let newer: Vec<_> = (0..opening).map(|n| format!("newer {n}")).collect();
        assert_eq!(rows(&store), [vec!["plain".to_owned()], newer].concat());
        assert_eq!(get(&store, "newer"), (opening > 0).then(|| format!("{}", opening - 1)));
        images(&store).insert("newer", opening.to_string()).unwrap();
        append(&visits(&store), Some("tag"), &format!("newer {opening}"));
        store.close().unwrap();
    }
}

/// What is denied stays so, each where it was meant: here, or everywhere.
#[test]
fn denials_are_taken_up_where_they_belong() {
    let bench = Bench::closed_with(["cat"]);
    let store = bench.open();
    let until = NOW + Duration::from_secs(3600);
    let _ = images(&store).erase("cat").deny_until(until).commit().unwrap();
    let _ = store.erase_tag("dog", Scope::Keyspaces).deny_until(until).commit().unwrap();
    store.close().unwrap();
    let store = bench.open();
    let other = store.keyspace("other", KeyspaceOptions::new(Retention::days(DAYS))).unwrap();
    for (keyspace, key, tag, is_denied) in [
        (images(&store), "cat", "bird", true),
        (images(&store), "bird", "dog", true),
        (images(&store), "bird", "cat", false),
        (other.clone(), "cat", "bird", false),
        (other, "bird", "dog", true),
    ] {
        let stored = keyspace.fill(key).tag(tag).commit("value");
        assert_eq!(matches!(stored, Err(Error::Denied { .. })), is_denied, "{key}, {tag}");
        assert_eq!(stored.is_err(), is_denied, "{key}, {tag}");
    }
}

/// What a lost segment of a log holds may be as old as anything, so no tombstone is forgotten; those of a
/// log of which nothing is lost are.
#[test]
fn tombstones_outlive_rows_that_cannot_be_read() {
    for what in ["nothing", "damaged", "foreign"] {
        let bench = Bench::new();
        let store = bench.open();
        visits(&store).invalidate_tag("tag").unwrap();
        for n in 0..200 {
            images(&store).invalidate(format!("bird {n}")).unwrap();
        }
        store.close().unwrap();
        let store = bench.open();
        append(&visits(&store), None, "row");
        store.close().unwrap();
        let segment = bench.files("seg").remove(0);
        bench.change(&segment, |bytes| match what {
            "damaged" => bytes[20] ^= 1,
            "foreign" => {
                let version = crate::format::version_word(crate::format::VERSION + 1);
                bytes[8..12].copy_from_slice(&version.to_le_bytes());
            }
            _ => {}
        });
        let before = bench.tombstone_logs().len();
        assert!(before > 3, "{before}");
        let store = bench.open();
        store.maintain().unwrap();
        let after = bench.tombstone_logs().len();
        assert_eq!(after < before, what == "nothing", "{what}: {after} of {before}");
    }
}

/// Tombstones may hide what a keyspace holds whose options cannot be read; where no bucket is left, nothing.
#[test]
fn tombstones_stay_while_there_are_buckets_without_options() {
    for has_bucket in [true, false] {
        let bench = Bench::new();
        let store = bench.open();
        let orphan = images(&store);
        if has_bucket {
            orphan.insert("cat", value_of("cat")).unwrap();
        }
        // Looked at after the other one.
        visits(&store);
        drop(orphan);
        store.close().unwrap();
        drop(store);
        bench.change(Path::new(MANIFEST), |bytes| bytes.fill(0xee));
        bench.change(Path::new("/data/logs/visits/LOG"), |bytes| bytes.fill(0xee));
        let store = bench.open();
        let other = store.keyspace("other", KeyspaceOptions::new(Retention::days(DAYS))).unwrap();
        for key in 0..200 {
            other.invalidate(key.to_string()).unwrap();
        }
        store.maintain().unwrap();
        assert_eq!(bench.tombstone_logs().len() > 2, has_bucket, "{:?}", bench.tombstone_logs());
    }
}

/// The name of a bucket was not durable when the last process ended, and its old one was.
#[test]
fn names_of_buckets_are_durable_once_the_owner_is_taken_up() {
    let bench = Bench::closed_with(["cat"]);
    let bucket = bench.files("seg")[0].parent().unwrap().to_owned();
    let aside = bucket.with_file_name("aside");
    bench.disk.rename(&bucket, &aside).unwrap();
    bench.disk.rename(&aside, &bucket).unwrap();
    for opened in [false, true] {
        let disk = bench.disk.fork();
        let stopped = Bench { disk, clock: bench.clock.clone() };
        let _store = opened.then(|| stopped.open());
        // Of the changes that are not durable only one has reached the disk.
        let loses = |which| {
            let mut changes = 0..;
            let disk = stopped.disk.fork().crash(&mut |_| u32::from(changes.next() == Some(which)));
            let cut = Bench { disk, clock: bench.clock.clone() };
            get(&cut.open(), "cat").is_none()
        };
        assert_eq!((0..4).any(loses), !opened);
    }
}
