//! The keys of a log's buckets as they are found: missing, damaged, or without rows and an owner.

use super::*;
use crate::disk::Access;
use crate::{DropCause, LedgerKind};

/// What stands of the keys of a log's bucket, and with which rows.
struct Keys {
    what: &'static str,
    change: fn(&Bench, &Path),
    has_rows: bool,
}

/// Rows whose subjects cannot be told any more are condemned, and that is told; a bucket that has no rows
/// yet was being made.
#[test]
fn a_bucket_without_its_keys_leaves() {
    let remove: fn(&Bench, &Path) = |bench, path| bench.disk.remove_file(path).unwrap();
    let spoil: fn(&Bench, &Path) = |bench, path| bench.change(path, |bytes| bytes.fill(0xee));
    let tear: fn(&Bench, &Path) = |bench, path| bench.change(path, |bytes| bytes[4096..].fill(0));
    let cases = [
        Keys { what: "as they were", change: |_, _| (), has_rows: true },
        Keys { what: "as they were", change: |_, _| (), has_rows: false },
        Keys { what: "missing", change: remove, has_rows: true },
        Keys { what: "missing", change: remove, has_rows: false },
        Keys { what: "spoilt", change: spoil, has_rows: true },
        Keys { what: "spoilt", change: spoil, has_rows: false },
        Keys { what: "torn", change: tear, has_rows: true },
        Keys { what: "torn", change: tear, has_rows: false },
    ];
    for Keys { what, change, has_rows } in cases {
        let (bench, visitor) = closed_with_visitor(has_rows);
        let paths = bench.files("keys");
        let bucket = paths[0].parent().unwrap();
        change(&bench, &paths[0]);

        let stays = what == "as they were" || (what == "torn" && has_rows);
        let told: &[&Path] = if stays || !has_rows { &[] } else { &[bucket] };
        let expected = if stays && has_rows { &["row"][..] } else { &[] };
        let looking = bench.builder().open_read_only().unwrap();
        assert_eq!(*looking.recovery_report(), report(told, &[], &[]), "{what}, {has_rows}");
        assert_eq!(rows(&looking), expected, "{what}, {has_rows}");
        drop(looking);
        let store = bench.open();
        assert_eq!(*store.recovery_report(), report(told, &[], &[]), "{what}, {has_rows}");
        assert_eq!(rows(&store), expected, "{what}, {has_rows}");
        assert_eq!(bench.disk.read_dir(bucket).is_ok(), stays, "{what}, {has_rows}");
        let later = visits(&store).pseudonym(VISITOR, store.now()).unwrap();
        assert_eq!(later == visitor, stays, "{what}, {has_rows}");
    }
}

/// No segment says whose they are and when they are to go.
#[test]
fn keys_without_rows_and_an_owner_leave_at_open() {
    let bench = Bench::new();
    let store = bench.open();
    visits(&store).pseudonym(VISITOR, store.now()).unwrap();
    bench.pass_days(1);
    let log = visits(&store);
    let known = log.pseudonym(VISITOR, store.now()).unwrap();
    let _ = log.append(Row::new(known).payload("row")).unwrap();
    drop(log);
    store.close().unwrap();
    drop(store);
    bench.change(Path::new("/data/logs/visits/LOG"), |bytes| bytes.fill(0xee));
    let of_kind = |store: &Store, is_it: fn(&LedgerKind) -> bool| {
        store.ledger().unwrap().iter().filter(|entry| is_it(&entry.kind)).count()
    };
    let looking = bench.builder().open_read_only().unwrap();
    assert_eq!(bench.files("keys").len(), 2, "who looks drops nothing");
    drop(looking);
    let destroyed = |kind: &LedgerKind| matches!(kind, LedgerKind::KeysDestroyed { .. });
    for _ in 0..2 {
        // The first process, and the next, end before they have destroyed them.
        let killed = bench.killed(bench.open());
        let store = killed.open();
        let are_told = of_kind(&store, destroyed) > 0;
        assert_eq!(are_told, killed.files("keys").len() == 1, "while they are there");
    }
    for _ in 0..2 {
        let store = bench.open();
        store.maintain().unwrap();
        assert_eq!(bench.files("keys").len(), 1, "with rows they stay for as long as these");
        let found = |kind: &LedgerKind| *kind == LedgerKind::BucketDropped(DropCause::FoundAtOpen);
        assert_eq!(of_kind(&store, found), 1);
        assert_eq!(of_kind(&store, destroyed), 1);
        store.close().unwrap();
    }
    bench.pass_days(DAYS + 1);
    let store = bench.open();
    store.maintain().unwrap();
    assert_eq!(bench.files("keys"), [] as [PathBuf; 0]);
    let dropped = LedgerKind::BucketDropped(DropCause::Dropped);
    let entries = store.ledger().unwrap();
    let records = entries.iter().filter(|entry| entry.kind == dropped).map(|entry| entry.records);
    assert_eq!(records.collect::<Vec<_>>(), [Some(1)], "the rows said whose they were");
}

/// Of two logs without options whose keys are of one moment, nothing says which are whose: but they are two, and the
/// ledger says of each that they are destroyed.
#[test]
fn keys_of_one_moment_and_two_lost_logs_are_told_apart() {
    let bench = Bench::new();
    let store = bench.open();
    let others = store.log("others", LogOptions::new(Retention::days(DAYS))).unwrap();
    for log in [visits(&store), others] {
        log.pseudonym(VISITOR, store.now()).unwrap();
    }
    store.close().unwrap();
    drop(store);
    for log in ["visits", "others"] {
        let options = Path::new("/data/logs").join(log).join("LOG");
        bench.change(&options, |bytes| bytes.fill(0xee));
    }
    let store = bench.open();
    store.maintain().unwrap();
    assert_eq!(bench.files("keys"), [] as [PathBuf; 0]);
    let entries = store.ledger().unwrap();
    let of = |is_it: fn(&LedgerKind) -> bool| -> BTreeSet<_> {
        entries.iter().filter(|e| is_it(&e.kind)).map(|entry| entry.instance.unwrap()).collect()
    };
    let dropped = of(|kind| matches!(kind, LedgerKind::BucketDropped(DropCause::FoundAtOpen)));
    let destroyed = of(|kind| matches!(kind, LedgerKind::KeysDestroyed { .. }));
    assert_eq!((dropped.len(), dropped), (2, destroyed));
}

/// Nor does a file say so in which a segment was being born. One with rows stays, also if it cannot be looked at.
#[test]
fn keys_beside_a_segment_that_was_being_born_leave_without_an_owner() {
    let (bench, _) = closed_with_visitor(true);
    let header = bench.disk.read_file(&bench.files("seg")[0]).unwrap()[..1024].to_vec();
    bench.pass_days(1);
    let store = bench.open();
    visits(&store).pseudonym(VISITOR, store.now()).unwrap();
    store.close().unwrap();
    drop(store);
    bench.change(Path::new("/data/logs/visits/LOG"), |bytes| bytes.fill(0xee));
    let keys = bench.files("keys");
    let [with_rows, alone] = &keys[..] else { panic!("{keys:?}") };
    for unborn in [&header[..0], &[0; 1024], &header] {
        let disk = bench.disk.fork();
        disk.write_file(&alone.with_file_name("00000002000000ff.seg"), unborn).unwrap();
        let bench = Bench { disk, clock: bench.clock.clone() };
        let mut left = 0;
        each_faulty_opening(&bench, StoreBuilder::open, |opened, disk, call| {
            let Ok(store) = opened else { return };
            assert!(disk.open(with_rows, Access::Read).is_ok(), "call {call}");
            left += u32::from(disk.open(alone, Access::Read).is_err());
            drop(store);
        });
        assert!(left > 5, "{left}");
    }
}

/// The process before may have ended while it made keys: who writes makes them durable before anything is said
/// under them.
#[test]
fn keys_without_rows_are_synced() {
    for has_rows in [false, true] {
        let (bench, _) = closed_with_visitor(has_rows);
        let keys = bench.files("keys").remove(0);
        let bucket = keys.parent().unwrap().to_owned();
        let needed = needed_syncs(&bench, StoreBuilder::open);
        assert_eq!([needed.contains(&keys), needed.contains(&bucket)], [!has_rows; 2]);
        assert_eq!(needed_syncs(&bench, StoreBuilder::open_read_only), BTreeSet::new());
    }
}

#[test]
fn keys_of_another_version_are_refused_and_left_alone() {
    let (bench, _) = closed_with_visitor(true);
    let paths = bench.files("keys");
    let version = crate::format::version_word(crate::format::VERSION + 1).to_le_bytes();
    bench.change(&paths[0], |bytes| {
        bytes[8..12].copy_from_slice(&version);
        bytes[4096 + 8..4096 + 12].copy_from_slice(&version);
    });
    assert!(matches!(bench.builder().open(), Err(Error::UnknownVersion { .. })));
    assert!(bench.has(&paths[0]));
}
