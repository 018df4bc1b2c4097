//! What lives that ended badly, and damage, have left in every corner of a store: opening it clears up
//! what may go and serves what may be served, whichever call fails meanwhile; looking at it changes
//! nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/leftovers.rs"]
mod leftovers;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebbtide::disk::{Disk, Fault, FaultyDisk, MemoryDisk};
use ebbtide::{LogOptions, Retention, Row, Store, StoreBuilder};

use fixture::{MODES, files_of, hours, on_memory, open, quiet, try_open};
use leftovers::{
    Harm, NEW, check_cleared, check_served, files, keyspace, later, leave, look, work,
};

const HARMS: [Harm; 2] = [Harm::None, Harm::Records];

#[test]
fn what_is_left_over_is_cleared_and_told() {
    for mapped in MODES {
        for harm in HARMS {
            let (disk, clock) = (leave(harm), later());
            let store = open(on_memory(&disk, &clock), mapped);
            let report = store.recovery_report().clone();
            let lost = PathBuf::from("/data/logs/lost/LOG");
            assert!(report.corrupt_records.contains(&lost), "{report:?}");
            let harmed = report.corrupt_records.iter();
            assert_eq!(harmed.filter(|path| path.starts_with("/data/keyspaces/harmed")).count(), 1);
            assert!(report.torn_tails.contains(&PathBuf::from("/data/keyspaces/images/KEYSPACE")));
            check_served(&store, harm, true, "as opened");
            work(&store).unwrap();
            check_served(&store, harm, true, "at work");
            check_cleared(&store, &disk, "at work");
            store.close().unwrap();
            drop(store);
            let store = open(on_memory(&disk, &clock), mapped);
            check_served(&store, harm, true, "once more");
            let again = keyspace(&store, "harmed").unwrap().get("again").unwrap();
            assert_eq!(again.as_deref(), Some(&b"value"[..]), "it counts again");
            drop(again);
            let again = store.recovery_report();
            assert!(again.torn_tails.is_empty(), "{again:?}");
            // The rest of what belongs to nobody goes when its time has come.
            assert!(on_disk(&disk, "orphan") && on_disk(&disk, "lost"));
            store.close().unwrap();
            clock.advance(hours(8));
            let store = open(on_memory(&disk, &clock), mapped);
            store.maintain().unwrap();
            assert!(!on_disk(&disk, "orphan") && !on_disk(&disk, "lost"));
        }
    }
}

fn on_disk(disk: &MemoryDisk, name: &str) -> bool {
    let text = format!("{NEW}{name}");
    files_of(disk).iter().any(|(_, b)| b.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// One call fails while the store is opened and cleared up; then the same process goes on, if it could
/// open it, and the next one.
#[test]
fn a_call_that_fails_while_clearing_up_is_made_up_for() {
    let cases = [
        (Harm::None, Fault::Error(ErrorKind::TimedOut)),
        (Harm::None, Fault::ErrorAfter(ErrorKind::TimedOut)),
        (Harm::Records, Fault::Torn(ErrorKind::StorageFull)),
    ];
    for (harm, fault) in cases {
        let left = leave(harm);
        for call in 1.. {
            let (memory, clock) = (left.fork(), later());
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            disk.inject(call, fault);
            let what = format!("{harm:?}, {fault:?} at call {call}");
            let opened = try_open(over(&disk, &clock), call % 2 == 0);
            if let Ok(store) = &opened {
                check_served(store, harm, false, &what);
                let worked = work(store);
                assert!(disk.calls() >= call || worked.is_ok(), "{what}: {worked:?}");
                check_served(store, harm, false, &what);
                // What failed is tried again, unless writing has stopped.
                let _ = store.maintain();
                let _ = store.close();
            }
            let is_over = disk.calls() < call;
            assert!(!is_over || opened.is_ok(), "{what}: {:?}", opened.err());
            drop(opened);
            let memory = memory.kill();
            let store = open(on_memory(&memory, &clock), call % 2 == 0);
            work(&store).unwrap();
            check_served(&store, harm, false, &what);
            check_cleared(&store, &memory, &what);
            if is_over {
                println!("{harm:?}, {fault:?}: {} calls", call - 1);
                break;
            }
        }
    }
}

fn over(disk: &FaultyDisk, clock: &ebbtide::ManualClock) -> StoreBuilder {
    quiet(Store::builder("/data").disk(disk.clone()), clock)
}

/// Everything that looks, while each call on the disk fails in turn or finds nothing, as when the process
/// that writes has just removed it.
#[test]
fn looking_changes_nothing_whatever_fails() {
    let faults = [Fault::Error(ErrorKind::TimedOut), Fault::Error(ErrorKind::NotFound)];
    for harm in HARMS {
        let left = leave(harm);
        let before = files_of(&left);
        for fault in faults {
            for call in 1.. {
                let clock = later();
                let disk = FaultyDisk::new(Arc::new(left.clone()));
                disk.inject(call, fault);
                let what = format!("{harm:?}, {fault:?} at call {call}");
                if let Ok(store) = over(&disk, &clock).open_read_only() {
                    look(&store, harm, &what);
                }
                assert!(files_of(&left) == before, "{what}: something was changed");
                if disk.calls() < call {
                    break;
                }
            }
        }
        let store = on_memory(&left, &later()).open_read_only().unwrap();
        check_served(&store, harm, true, "nothing fails");
        let listed: Vec<PathBuf> = store.residue().unwrap().into_iter().map(|r| r.path).collect();
        assert!(before.iter().all(|(path, _)| listed.contains(path)));
        let problems = store.verify().unwrap().problems;
        for path in ["/data/logs/lost/LOG", "/data/keyspaces/images/KEYSPACE"] {
            assert!(problems.iter().any(|problem| problem.path == Path::new(path)), "{problems:?}");
        }
    }
}

/// Segments that are whole, in places that are not theirs: told, and nothing of them served; nor is what
/// they may have replaced.
#[test]
fn a_segment_in_a_place_that_is_not_its_own_is_not_served() {
    type Place = fn(&Path) -> PathBuf;
    let places: [(&str, Place); 5] = [
        ("another keyspace", |path| of_owner(path, "keyspaces/other")),
        ("a log", |path| of_owner(path, "logs/access")),
        ("another number", |path| path.with_file_name("0000000100000077.seg")),
        ("another bucket", |path| in_bucket(path, "20261121T220000000Z")),
        ("no bucket", |path| in_bucket(path, "20261121T213000000Z")),
    ];
    for mapped in MODES {
        for (what, place) in places {
            let (disk, clock) = (MemoryDisk::new(1), fixture::clock());
            let store = open(on_memory(&disk, &clock), mapped);
            clock.advance(hours(8));
            let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
            access.append(Row::anonymous().payload("row")).unwrap();
            for name in ["images", "other"] {
                keyspace(&store, name).unwrap().insert("key", name).unwrap();
            }
            store.close().unwrap();
            drop((access, store));
            let segment = files(&disk, "/data/keyspaces/images", ".seg").pop().unwrap();
            let bytes = disk.read_file(&segment).unwrap();
            let to = place(&segment);
            let _ = disk.create_dir(to.parent().unwrap());
            disk.write_file(&to, &bytes).unwrap();
            let store = open(on_memory(&disk, &clock), mapped);
            let told = &store.recovery_report().corrupt_records;
            let is_bucket = what == "no bucket";
            let expected = if is_bucket { to.parent().unwrap() } else { &to };
            assert_eq!(told, &[expected], "{what}");
            let get = |name: &str| keyspace(&store, name).unwrap().get("key").unwrap();
            // It may have replaced anything of the owner it lies with, but no rows.
            let hidden = if what == "another keyspace" { "other" } else { "images" };
            for name in ["images", "other"] {
                let is_hidden = name == hidden && what != "a log" && !is_bucket;
                let served = get(name).map(|value| value.to_vec());
                assert_eq!(served.as_deref(), (!is_hidden).then_some(name.as_bytes()), "{what}");
            }
            let access = store.existing_log("access").unwrap();
            assert_eq!(access.scan(..).unwrap().count(), 1, "{what}");
            let kept = store.residue().unwrap().into_iter().find(|item| item.path == *expected);
            assert!(!is_bucket || kept.unwrap().until.is_none(), "nothing says when it goes");
        }
    }
}

/// The same place with another owner.
fn of_owner(path: &Path, owner: &str) -> PathBuf {
    let bucket = path.parent().unwrap().file_name().unwrap();
    Path::new("/data").join(owner).join(bucket).join("0000000100000077.seg")
}

fn in_bucket(path: &Path, bucket: &str) -> PathBuf {
    path.parent().unwrap().with_file_name(bucket).join(path.file_name().unwrap())
}

/// Whatever lies in the trash goes, a long file piece by piece; what cannot be removed is told each time,
/// and holds nothing up.
#[test]
fn what_lies_in_the_trash_goes_whatever_it_is() {
    let (memory, clock) = (MemoryDisk::new(1), fixture::clock());
    drop(open(on_memory(&memory, &clock), false));
    let trash = Path::new("/data/trash");
    let bucket = trash.join("0000000000000001.20261121T130000000Z.0000000000000002");
    let stuck = trash.join("0000000000000001.20261121T130000000Z.0000000000000001");
    for dir in [&bucket, &bucket.join("empty"), &stuck, &stuck.join("mine")] {
        memory.create_dir(dir).unwrap();
    }
    let long = vec![7; 65 << 20];
    for name in ["long", "0000000000000001.segment.0000000000000001"] {
        memory.write_file(&trash.join(name), &long).unwrap();
    }
    memory.write_file(&bucket.join("0000000100000001.seg"), b"records").unwrap();
    memory.write_file(&stuck.join("mine/letter"), b"not ours").unwrap();
    for fault in [None, Some(Fault::Error(ErrorKind::TimedOut))] {
        let memory = memory.fork();
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let store = open(over(&disk, &clock), false);
        assert_eq!(store.stats().trash_items, 4);
        for call in 1..20 {
            if let Some(fault) = fault {
                disk.inject(disk.calls() + call, fault);
            }
            let _ = store.maintain();
        }
        disk.clear();
        let error = store.maintain().unwrap_err().to_string();
        assert!(error.contains(stuck.join("mine").to_str().unwrap()), "{error}");
        assert_eq!(files(&memory, "/data/trash", ""), [stuck.join("mine/letter")]);
        memory.remove_file(&stuck.join("mine/letter")).unwrap();
        store.maintain().unwrap();
        assert_eq!(store.stats().trash_items, 0);
        assert!(memory.read_dir(trash).unwrap().is_empty());
    }
}

/// Files change under a store that is open, by somebody's hand: `verify` names each, and its place.
#[test]
fn verify_names_what_was_changed_under_a_store_that_is_open() {
    type Change = fn(&mut Vec<u8>);
    let flip: Change = |bytes| bytes[40] ^= 1;
    let cases: [(&str, &str, Change, &str); 7] = [
        ("/data/keyspaces/images", ".seg", flip, "checksum of a segment header"),
        ("/data/keyspaces/images", ".seg", |bytes| bytes.truncate(1200), "file cut short"),
        ("/data/keyspaces/images", ".seg", |bytes| bytes[600] = 1, "zeros"),
        ("/data/keyspaces/images", ".idx", flip, "checksum"),
        ("/data/logs/access", "pseudonym.keys", flip, "checksum"),
        ("/data/tombstones", "spare", |bytes| bytes[3000] = 1, "zeros"),
        ("/data", "STORE", flip, "checksum"),
    ];
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), fixture::clock());
        let store = open(on_memory(&disk, &clock), mapped);
        for name in ["images", "other"] {
            keyspace(&store, name).unwrap().insert("key", [7; 700]).unwrap();
        }
        let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
        let visitor = access.pseudonym([198, 51, 100, 7].into(), store.now()).unwrap();
        access.append(Row::new(visitor).payload("row")).unwrap();
        clock.advance(hours(1));
        store.maintain().unwrap();
        assert_eq!(store.verify().unwrap().problems, []);
        for (dir, end, change, what) in cases {
            let path = files(&disk, dir, end).pop().unwrap();
            let whole = disk.read_file(&path).unwrap();
            let mut bytes = whole.clone();
            change(&mut bytes);
            disk.write_file(&path, &bytes).unwrap();
            let problems = store.verify().unwrap().problems;
            assert!(
                problems.iter().any(|p| p.path == path && p.what.contains(what)),
                "{problems:?}"
            );
            assert!(problems.iter().all(|p| p.path == path), "{end}: {problems:?}");
            disk.write_file(&path, &whole).unwrap();
        }
        let [own, other] = ["images", "other"]
            .map(|name| files(&disk, &format!("/data/keyspaces/{name}"), ".idx").pop().unwrap());
        let whole = disk.read_file(&own).unwrap();
        disk.write_file(&own, &disk.read_file(&other).unwrap()).unwrap();
        let problems = store.verify().unwrap().problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((&problems[0].path, problems[0].what), (&own, "sidecar of another segment"));
        disk.write_file(&own, &whole).unwrap();
        disk.remove_file(&files(&disk, "/data/logs/access", "pseudonym.keys")[0]).unwrap();
        let problems = store.verify().unwrap().problems;
        assert_eq!(problems.iter().map(|p| p.what).collect::<Vec<_>>(), ["it is missing"]);
    }
}

/// Blocks of rows that had been durable cannot be read, and nothing else tells where the others are: what
/// can be read is served, the rest told; where nothing can be, the file stays for its time all the same.
#[test]
fn rows_beside_those_that_are_lost_are_served() {
    for mapped in MODES {
        for (spoiled, head) in [(&[1][..], false), (&[0, 1, 2], false), (&[0, 1, 2], true)] {
            let (disk, clock) = (MemoryDisk::new(1), fixture::clock());
            let store = open(on_memory(&disk, &clock), mapped);
            let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
            for number in 0..3 {
                access.append(Row::anonymous().payload(format!("row-{number}"))).unwrap();
                store.sync().unwrap();
            }
            store.close().unwrap();
            drop((access, store));
            let segment = files(&disk, "/data/logs/access", ".seg").pop().unwrap();
            disk.write_file(&segment.with_extension("idx"), b"?").unwrap();
            let mut bytes = disk.read_file(&segment).unwrap();
            for number in spoiled {
                let text = format!("row-{number}");
                let at = bytes.windows(text.len()).position(|part| part == text.as_bytes());
                bytes[at.unwrap()] ^= 1;
            }
            if head {
                bytes[1024..1056].fill(0xee);
            }
            disk.write_file(&segment, &bytes).unwrap();
            for round in 0..2 {
                let store = open(on_memory(&disk, &clock), mapped);
                let access = store.existing_log("access").unwrap();
                let rows: Vec<_> = access.scan(..).unwrap().filter_map(Result::ok).collect();
                assert!(rows.iter().all(|row| !spoiled.contains(&(row.payload()[4] - b'0'))));
                assert_eq!(rows.len(), 3 - spoiled.len(), "{spoiled:?}");
                let is_told = !store.recovery_report().is_clean()
                    || !store.verify().unwrap().problems.is_empty();
                // What is left has been sealed by then.
                assert!(is_told || round == 1 && head, "{spoiled:?}");
                assert!(disk.read_file(&segment).is_ok(), "{spoiled:?}");
            }
            clock.advance(hours(16));
            open(on_memory(&disk, &clock), mapped).maintain().unwrap();
            assert!(disk.read_file(&segment).is_err());
        }
    }
}
