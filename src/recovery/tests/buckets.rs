//! Buckets as they are found: past their time, with something left over, or gone meanwhile.

use super::*;
use crate::disk::Access;
use crate::segment::load::read_header;
use crate::trash::trash_name;
use crate::{DropCause, LedgerKind};

/// The bytes of a bucket past its time are in nobody's way once the store is open, and the ledger says how
/// many records left, though none was read.
#[test]
fn a_bucket_past_its_time_leaves_at_open_and_is_counted() {
    for lost in [None, Some("idx"), Some("head")] {
        let bench = Bench::closed_with(["cat", "dog", "bird"]);
        let sidecar = bench.files("idx").remove(0);
        match lost {
            Some("idx") => bench.disk.remove_file(&sidecar).unwrap(),
            Some(_) => bench.change(&sidecar, |bytes| bytes[20] ^= 1),
            None => {}
        }
        bench.pass_days(DAYS + 1);
        let looking = bench.builder().open_read_only().unwrap();
        assert_eq!(get(&looking, "cat"), None);
        assert!(bench.files("seg")[0].starts_with(IMAGES), "who looks drops nothing");
        drop(looking);
        let store = bench.open();
        assert!(bench.files("seg").iter().all(|path| path.starts_with("/data/trash")));
        let entries = store.ledger().unwrap();
        let is_drop = |kind| matches!(kind, LedgerKind::BucketDropped(DropCause::Dropped));
        let drops: Vec<_> = entries.iter().filter(|entry| is_drop(entry.kind)).collect();
        let counted: Vec<_> = drops.iter().map(|drop| (drop.records, drop.bytes)).collect();
        assert_eq!(counted, [(lost.is_none().then_some(3), Some(4096))], "{lost:?}");
    }
}

fn owner_of(bench: &Bench, segment: &Path) -> u64 {
    let file = bench.disk.open(segment, Access::Read).unwrap();
    read_header(&*file, segment).unwrap().owner_id
}

/// Something of this owner is in the trash.
fn evict_from(bench: &Bench, owner_id: u64) {
    let evicted = Path::new("/data/trash").join(trash_name(owner_id, "segment", 0xff));
    bench.disk.write_file(&evicted, b"what was evicted").unwrap();
}

/// The process before may have ended between the two syncs of an eviction: what it moved from here must not be
/// back once it is gone from the trash.
#[test]
fn a_bucket_whose_owner_has_something_in_the_trash_is_synced() {
    for (evicts, is_its_own) in [(false, false), (true, false), (true, true)] {
        let bench = Bench::closed_with(["cat"]);
        let segment = bench.files("seg").remove(0);
        let own = owner_of(&bench, &segment);
        if evicts {
            let owner_id = if is_its_own { own } else { own + 1 };
            evict_from(&bench, owner_id);
        }
        let needed = needed_syncs(&bench, StoreBuilder::open);
        assert_eq!(needed.contains(segment.parent().unwrap()), is_its_own, "{evicts}");
        assert_eq!(needed_syncs(&bench, StoreBuilder::open_read_only), BTreeSet::new());
    }
}

/// A sync of the process before may have failed and lost what it was to write. After a close in order it has not.
#[test]
fn a_sync_that_may_follow_a_lost_one_has_something_to_write() {
    let bench = Bench::new();
    let store = bench.open();
    let log = visits(&store);
    let visitor = log.pseudonym(VISITOR, store.now()).unwrap();
    let killed = bench.killed(store);
    let bucket = killed.files("keys")[0].parent().unwrap().to_owned();
    let touched = |bench: &Bench| needed(bench, "create", StoreBuilder::open);
    let [in_bucket, in_owner] =
        [bucket.join("0000000000000000.tmp"), bucket.with_file_name("LOG.tmp")];
    let found = touched(&killed);
    assert!(found.contains(&in_bucket) && found.contains(&in_owner), "{found:?}");
    each_faulty_opening(&killed, StoreBuilder::open, |opened, _, call| {
        if matches!(opened, Err(Error::Io { operation: "create", path, .. }) if path == in_bucket) {
            let disk = FaultyDisk::new(Arc::new(killed.disk.fork()));
            disk.inject(call, Fault::Error(ErrorKind::StorageFull));
            let opened = killed.on(Store::builder("/data").disk(disk)).open();
            assert!(opened.is_ok(), "a full disk is no reason not to open: {opened:?}");
        }
    });
    let store = killed.open();
    let again = visits(&store);
    assert_eq!(again.pseudonym(VISITOR, store.now()).unwrap(), visitor);
    drop(again);
    store.close().unwrap();
    drop(store);
    let found = touched(&killed);
    assert!(!found.contains(&in_bucket) && !found.contains(&in_owner), "{found:?}");
    // Of one with rows, from which something may have left.
    let store = killed.open();
    append(&visits(&store), None, "row");
    store.sync().unwrap();
    let killed = killed.killed(store);
    assert!(!touched(&killed).contains(&in_bucket));
    let segment = killed.files("seg").remove(0);
    evict_from(&killed, owner_of(&killed, &segment));
    let found = touched(&killed);
    assert!(found.contains(&in_bucket) && !found.contains(&in_owner), "{found:?}");
}

/// A process ended while it evicted: nothing but the sidecar of a segment is left, or one that was begun.
#[test]
fn a_sidecar_without_its_segment_leaves_at_open() {
    let bench = Bench::closed_with(["cat"]);
    let sidecar = bench.files("idx").remove(0);
    let bytes = bench.disk.read_file(&sidecar).unwrap();
    let strays =
        ["00000001000000ff.idx", "00000001000000ff.tmp"].map(|n| sidecar.with_file_name(n));
    strays.iter().for_each(|stray| bench.disk.write_file(stray, &bytes).unwrap());
    drop(bench.builder().open_read_only().unwrap());
    assert!(strays.iter().all(|stray| bench.has(stray)), "who looks removes nothing");
    let store = bench.open();
    assert!(!strays.iter().any(|stray| bench.has(stray)));
    assert!(bench.has(&sidecar));
    assert_eq!(get(&store, "cat"), Some(value_of("cat")));
}

/// What the system does not let go of at open takes of the capacity.
#[test]
fn what_is_left_over_and_cannot_be_removed_is_counted() {
    let bench = Bench::closed_with(["cat"]);
    let used = |store: &Store| store.stats().keyspaces[0].used_bytes;
    let without = used(&Bench { disk: bench.disk.fork(), clock: bench.clock.clone() }.open());
    let bucket = bench.files("seg")[0].parent().unwrap().to_owned();
    let begun = bucket.join("00000001000000ff.tmp");
    let strays = [Path::new(IMAGES).join("0000000100000009.part"), begun];
    strays.iter().for_each(|path| bench.disk.write_file(path, &[7; 8192]).unwrap());
    let mut stayed = 0;
    each_faulty_opening(&bench, StoreBuilder::open, |opened, disk, call| {
        let Ok(store) = opened else { return };
        let left = strays.iter().filter(|path| disk.open(path, Access::Read).is_ok()).count();
        assert_eq!(used(&store), without + 8192 * left as u64, "call {call}");
        stayed += left;
    });
    assert_eq!(stayed, strays.len());
}

/// The header of a segment that was being born holds what another file held: what is in its bucket leaves by its
/// own time.
#[test]
fn a_header_of_another_segment_brings_no_deadline_forward() {
    let bench = Bench::closed_with(["early"]);
    let header = bench.disk.read_file(&bench.files("seg")[0]).unwrap()[..1024].to_vec();
    bench.pass_days(3);
    let store = bench.open();
    images(&store).insert("late", value_of("late")).unwrap();
    store.close().unwrap();
    drop(store);
    let late = bench.files("seg").pop().unwrap();
    let unborn = late.with_file_name("00000002000000ff.seg");
    bench.disk.write_file(&unborn, &header).unwrap();
    let store = bench.open();
    let stats = store.stats();
    let mut kept = stats.keyspaces[0].buckets.iter().map(|b| b.deadline.since(b.start));
    let window = Duration::from_secs(24 * 3600 * u64::from(DAYS));
    assert!(kept.all(|kept| kept == window), "{stats:?}");
    store.close().unwrap();
    drop((kept, store));
    // Nor does it where nothing else tells whose they are.
    bench.change(Path::new("/data/keyspaces/images/KEYSPACE"), |bytes| bytes.fill(0xee));
    bench.disk.write_file(&unborn, &header).unwrap();
    bench.pass_days(DAYS - 2);
    drop(bench.open());
    assert!(bench.has(&late), "it left as early as another");
    assert_eq!(
        bench.files("seg").iter().filter(|path| !path.starts_with("/data/trash")).count(),
        2
    );
}

/// Whoever looks meets a store that another process drops from, before any of its calls.
#[test]
fn what_leaves_while_somebody_looks_is_no_damage() {
    for call in 1.. {
        let bench = Bench::new();
        let store = bench.open();
        images(&store).insert("cat", value_of("cat")).unwrap();
        let log = visits(&store);
        let visitor = log.pseudonym(VISITOR, store.now()).unwrap();
        let _ = log.append(Row::new(visitor).payload("row")).unwrap();
        drop(log);
        bench.pass_days(1);
        images(&store).insert("dog", value_of("dog")).unwrap();
        store.sync().unwrap();
        let disk = FaultyDisk::new(Arc::new(bench.disk.clone()));
        let clock = bench.clock.clone();
        let writer = store.clone();
        disk.interrupt(call, move || {
            clock.advance(Duration::from_secs(24 * 3600 * u64::from(DAYS - 1) + 6 * 3600));
            writer.maintain().unwrap();
        });
        let looking = bench.on(Store::builder("/data").disk(disk.clone())).open_read_only();
        let looking = looking.unwrap_or_else(|e| panic!("before call {call}: {e}"));
        assert!(looking.recovery_report().is_clean(), "before call {call}");
        assert!(looking.verify().unwrap().problems.is_empty(), "before call {call}");
        assert_eq!(get(&looking, "dog"), Some(value_of("dog")), "before call {call}");
        if disk.calls() < call {
            break;
        }
        assert_eq!((get(&looking, "cat"), rows(&looking)), (None, Vec::new()));
    }
}

/// Nor is a segment that another process evicts to make room, before any call of whoever looks.
#[test]
fn what_is_evicted_while_somebody_looks_is_no_damage() {
    const KEPT: u32 = 12;
    const VALUE: [u8; 2500] = [7; 2500];
    for call in 1.. {
        let bench = Bench::new();
        let store = bench.open();
        let options = KeyspaceOptions::new(Retention::days(DAYS)).capacity_bytes(65_536);
        let keyspace = store.keyspace("images", options.segment_bytes(4096)).unwrap();
        for key in 1..=KEPT {
            keyspace.insert(key.to_string(), VALUE).unwrap();
        }
        store.sync().unwrap();
        let disk = FaultyDisk::new(Arc::new(bench.disk.clone()));
        let oldest = bench.files("seg").remove(0);
        let under = bench.disk.clone();
        disk.interrupt(call, move || {
            for key in KEPT + 1.. {
                if under.open(&oldest, Access::Read).is_err() {
                    break;
                }
                keyspace.insert(key.to_string(), VALUE).unwrap();
            }
        });
        let looking = bench.on(Store::builder("/data").disk(disk.clone())).open_read_only();
        let looking = looking.unwrap_or_else(|e| panic!("before call {call}: {e}"));
        assert!(looking.recovery_report().is_clean(), "before call {call}");
        let found = looking.existing_keyspace("images").unwrap().get(KEPT.to_string()).unwrap();
        assert_eq!(found.as_deref(), Some(&VALUE[..]), "before call {call}");
        if disk.calls() < call {
            break;
        }
    }
}

/// More segments than may stay open meanwhile.
#[test]
fn segments_are_taken_up_one_after_the_other() {
    const SEGMENTS: u64 = 80;
    let bench = Bench::new();
    let store = bench.open();
    let options = KeyspaceOptions::new(Retention::days(DAYS)).segment_bytes(4096);
    let keyspace = store.keyspace("images", options).unwrap();
    for key in 0..SEGMENTS {
        keyspace.insert(key.to_string(), [7; 2500]).unwrap();
    }
    drop(keyspace);
    store.close().unwrap();
    assert_eq!(bench.files("seg").len() as u64, SEGMENTS);
    for known in [true, false] {
        if !known {
            bench.disk.remove_file(Path::new(INDEX)).unwrap();
        }
        let disk = FaultyDisk::new(Arc::new(bench.disk.fork()));
        disk.limit_descriptors(70);
        let builder = bench.on(Store::builder("/data").disk(disk.clone()));
        let store = builder.open_with(true).unwrap();
        assert_eq!(key_count(&store), SEGMENTS);
        assert!(disk.open_files() < 10, "{} files", disk.open_files());
    }
}
