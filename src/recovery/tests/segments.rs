//! Segments as they are found.

use super::*;
use crate::SegmentDump;
use crate::format::record::RecordKind;
use crate::format::segment_header::SegmentHeader;
use crate::format::{VERSION, version_word};
use crate::segment::writer::segment_name;

/// A segment that is not the one its name and place say is not taken up, whatever else is right in it.
#[test]
fn a_segment_at_a_place_that_is_not_its_own_is_not_taken_up() {
    for what in ["nothing", "store", "owner", "kind", "number", "bucket"] {
        let bench = Bench::closed_with(["cat"]).without_index();
        let segment = bench.files("seg").remove(0);
        bench.change(&segment, |bytes| {
            let mut header = SegmentHeader::decode(bytes).unwrap();
            match what {
                "store" => header.store_id[0] ^= 1,
                "owner" => header.owner_id ^= 1,
                "kind" => header.kind = RecordKind::Rows,
                "number" => header.number += 1,
                "bucket" => header.bucket_start_ms += 3_600_000,
                _ => {}
            }
            let header = header.encode();
            bytes[..512].copy_from_slice(&header[..512]);
        });
        let store = bench.open();
        if what == "nothing" {
            assert!(store.recovery_report().is_clean());
            assert_eq!(get(&store, "cat"), Some(value_of("cat")));
        } else {
            assert_eq!(*store.recovery_report(), report(&[&segment], &[], &[]), "{what}");
            assert_eq!(get(&store, "cat"), None, "{what}");
            assert!(!bench.has(&segment), "{what}: what it holds is nobody's");
        }
    }
}

/// What a lost segment may have superseded is not served, and what is written since is, however often
/// it is opened again.
#[test]
fn where_a_segment_is_lost_nothing_older_is_served() {
    for sealed in [true, false] {
        let mut bench = Bench::new();
        let store = bench.open();
        images(&store).insert("cat", "old").unwrap();
        bench.pass_days(1);
        images(&store).insert("cat", "new").unwrap();
        store.sync().unwrap();
        if sealed {
            store.close().unwrap();
            bench = bench.without_index();
        } else {
            bench = bench.killed(store);
        }
        let newest = bench.files("seg").remove(1);
        bench.change(&newest, |bytes| bytes[20] ^= 1);
        let looking = bench.builder().open_read_only().unwrap();
        assert_eq!(get(&looking, "cat"), None);
        drop(looking);
        assert!(bench.has(&newest));
        let store = bench.open();
        assert_eq!(store.recovery_report().corrupt_records, std::slice::from_ref(&newest));
        assert_eq!(get(&store, "cat"), None);
        assert!(!bench.has(&newest));
        images(&store).insert("dog", "since").unwrap();
        store.close().unwrap();
        let store = bench.open();
        assert!(store.recovery_report().is_clean());
        assert_eq!((get(&store, "cat"), get(&store, "dog").as_deref()), (None, Some("since")));
    }
}

/// A lost segment of before a floor that was raised for an earlier loss hides nothing more.
#[test]
fn a_segment_from_before_the_last_loss_hides_nothing_written_since() {
    let bench = Bench::closed_with(["cat"]).without_index();
    let segment = bench.files("seg").remove(0);
    let bytes = bench.disk.read_file(&segment).unwrap();
    bench.change(&segment, |bytes| bytes[20] ^= 1);
    let store = bench.open();
    images(&store).insert("dog", "since").unwrap();
    store.close().unwrap();
    // It lies there again, as if removing it had not lasted.
    bench.disk.write_file(&segment, &bytes).unwrap();
    bench.change(&segment, |bytes| bytes[20] ^= 1);
    let store = bench.open();
    assert_eq!(store.recovery_report().corrupt_records, [segment]);
    assert_eq!((get(&store, "cat"), get(&store, "dog").as_deref()), (None, Some("since")));
    store.close().unwrap();
    assert_eq!(get(&bench.open(), "dog").as_deref(), Some("since"));
}

/// A floor of an earlier loss says nothing of what is lost later.
#[test]
fn a_segment_lost_after_the_last_loss_hides_what_is_older() {
    let bench = Bench::closed_with(["cat"]).without_index();
    let spoil = |at: usize| bench.change(&bench.files("seg")[at], |bytes| bytes[20] ^= 1);
    spoil(0);
    let store = bench.open();
    images(&store).insert("dog", "old").unwrap();
    bench.pass_days(1);
    images(&store).insert("dog", "new").unwrap();
    store.close().unwrap();
    bench.disk.remove_file(Path::new(INDEX)).unwrap();
    spoil(1);
    assert_eq!(get(&bench.open(), "dog"), None);
}

#[test]
fn a_segment_of_another_version_is_left_alone_and_nothing_older_is_served() {
    let bench = Bench::new();
    let store = bench.open();
    images(&store).insert("cat", "value").unwrap();
    bench.pass_days(1);
    images(&store).insert("dog", "value").unwrap();
    append(&visits(&store), None, "row");
    images(&store).invalidate("bird").unwrap();
    store.close().unwrap();
    let bench = bench.without_index();
    let segments = bench.files("seg");
    let foreign = [&segments[1], &segments[2]];
    for path in foreign {
        bench.change(path, |bytes| {
            bytes[8..12].copy_from_slice(&version_word(VERSION + 1).to_le_bytes());
        });
    }
    let store = bench.open();
    let unknown: Vec<&Path> = foreign.iter().map(|path| path.as_path()).collect();
    assert_eq!(*store.recovery_report(), report(&[], &[], &unknown));
    assert_eq!((get(&store, "cat"), get(&store, "dog")), (None, None));
    assert_eq!(rows(&store), Vec::<String>::new());
    // It may be older than any tombstone: none is forgotten.
    let before = bench.tombstone_logs().len();
    for n in 0..200 {
        images(&store).invalidate(format!("bird {n}")).unwrap();
    }
    store.maintain().unwrap();
    assert!(bench.tombstone_logs().len() >= before + 200 / 24);
    assert!(foreign.iter().all(|path| bench.has(path)));
}

/// Another segment beside this one, without records.
fn write_unborn(bench: &Bench, segment: &Path, number: u64) -> PathBuf {
    let path = segment.with_file_name(segment_name(number));
    let mut bytes = bench.disk.read_file(segment).unwrap();
    let header = SegmentHeader { number, ..SegmentHeader::decode(&bytes).unwrap() };
    bytes.fill(0);
    bytes[..1024].copy_from_slice(&header.encode());
    bench.disk.write_file(&path, &bytes).unwrap();
    path
}

/// Segments that never held anything and values that were being written are removed, by who may write.
#[test]
fn what_was_never_born_is_removed() {
    let bench = Bench::new();
    let store = bench.open();
    images(&store).insert("cat", "value").unwrap();
    store.sync().unwrap();
    images(&store).insert("dog", "knows that the cat is durable").unwrap();
    let bench = bench.killed(store);
    let segment = bench.files("seg").remove(0);
    let bucket = segment.parent().unwrap();
    let blank = bucket.join("0000000100000041.seg");
    let part = Path::new(IMAGES).join("0000000100000043.part");
    let strange = Path::new(IMAGES).join("0000000100000044.part");
    bench.disk.write_file(&blank, &[0; 1024]).unwrap();
    let empty = write_unborn(&bench, &segment, 0x1_0000_0042);
    bench.disk.write_file(&part, b"half a value").unwrap();
    bench.disk.create_dir(&strange).unwrap();
    let left = [&blank, &empty, &part];

    let looking = bench.builder().open_read_only().unwrap();
    assert_eq!(get(&looking, "cat").as_deref(), Some("value"));
    drop(looking);
    assert!(left.iter().all(|path| bench.has(path)));
    assert!(!bench.has(segment.with_extension("idx")));
    let store = bench.open();
    assert_eq!(get(&store, "cat").as_deref(), Some("value"));
    assert_eq!(*store.recovery_report(), report(&[], &[&empty], &[]));
    assert_eq!(left.map(|path| bench.has(path)), [false; 3]);
    assert!(bench.disk.read_dir(&strange).is_ok());
    assert!(bench.has(segment.with_extension("idx")), "what was open is sealed");
}

/// Unless it leaves sooner than its directory alone could say, and holds nothing else.
#[test]
fn a_bucket_of_segments_without_records_stays_if_its_directory_says_when_it_leaves() {
    for (leaves_sooner, others) in
        [false, true].into_iter().flat_map(|sooner| ["none", "whole", "lost"].map(|o| (sooner, o)))
    {
        let bench = Bench::new();
        bench.pass_days(100);
        let store = bench.open();
        images(&store).insert("cat", "value").unwrap();
        if leaves_sooner {
            bench.clock.set_wall(NOW);
            store.reset_clock().unwrap();
        }
        store.close().unwrap();
        drop(store);
        let segment = bench.files("seg").remove(0);
        let unborn = write_unborn(&bench, &segment, 0x1_0000_0042);
        match others {
            "none" => [segment.clone(), segment.with_extension("idx")]
                .iter()
                .for_each(|path| bench.disk.remove_file(path).unwrap()),
            "lost" => bench.change(&segment, |bytes| bytes.fill(0xee)),
            _ => {}
        }
        let bench = bench.without_index();
        let store = bench.open();
        let what = format!("leaves sooner: {leaves_sooner}, others: {others}");
        let is_dropped = bench.disk.read_dir(unborn.parent().unwrap()).is_err();
        assert_eq!(is_dropped, leaves_sooner && others == "none", "{what}");
        assert!(!bench.has(&unborn), "{what}");
        assert_eq!(get(&store, "cat").is_some(), others == "whole", "{what}");
    }
}

#[test]
fn a_record_that_was_not_written_whole_is_cut_off_and_told() {
    let bench = Bench::new();
    let store = bench.open();
    images(&store).insert("cat", "value").unwrap();
    store.sync().unwrap();
    images(&store).insert("dog", "never synced").unwrap();
    let bench = bench.killed(store);
    let segment = bench.files("seg").remove(0);
    bench.change(&segment, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end - 3..=end].fill(0x55);
    });
    let torn = report(&[], &[&segment], &[]);
    assert_eq!(*bench.builder().open_read_only().unwrap().recovery_report(), torn);
    let store = bench.open();
    assert_eq!(*store.recovery_report(), torn);
    assert_eq!((get(&store, "cat").as_deref(), get(&store, "dog")), (Some("value"), None));
    drop(store);
    assert!(bench.open().recovery_report().is_clean());
}

#[test]
fn a_sealed_segment_that_was_cut_is_told() {
    for cut in [0, 8] {
        let bench = Bench::closed_with(["cat", "dog"]).without_index();
        let segment = bench.files("seg").remove(0);
        bench.change(&segment, |bytes| bytes.truncate(bytes.len() - cut));
        let store = bench.open();
        let corrupt: &[&Path] = if cut == 0 { &[] } else { &[&segment] };
        assert_eq!(*store.recovery_report(), report(corrupt, &[], &[]));
        assert_eq!(get(&store, "cat"), Some(value_of("cat")));
        assert_eq!(get(&store, "dog").is_some(), cut == 0);
    }
}

/// A record that was durable is lost in a segment that nobody had sealed: of a keyspace nothing older is
/// served, the readable part neither; of a log the rows that can be read are.
#[test]
fn where_a_durable_record_is_lost_rows_beside_it_are_served() {
    let bench = Bench::new();
    let store = bench.open();
    for what in ["one", "two", "three"] {
        images(&store).insert(what, value_of(what)).unwrap();
        append(&visits(&store), None, what);
        store.sync().unwrap();
    }
    let bench = bench.killed(store);
    let segments = bench.files("seg");
    for segment in &segments {
        let dump = SegmentDump::open_on(&bench.disk, segment).unwrap();
        let second = dump.into_iter().nth(1).unwrap().unwrap().offset as usize;
        bench.change(segment, |bytes| bytes[second + 8] ^= 1);
    }
    let store = bench.open();
    let paths: Vec<&Path> = segments.iter().map(PathBuf::as_path).collect();
    assert_eq!(*store.recovery_report(), report(&paths, &[], &[]));
    assert_eq!(["one", "two", "three"].map(|key| get(&store, key)), [None, None, None]);
    assert_eq!(rows(&store), ["one"]);
}

/// All that was found of a segment that was open has been made durable, so that what it replaced may be
/// given up.
#[test]
fn what_was_found_of_an_open_segment_is_durable() {
    let bench = Bench::new();
    let store = bench.open();
    for value in ["old", "new"] {
        images(&store).insert("cat", value).unwrap();
    }
    let bench = bench.killed(store);
    let store = bench.open();
    store.scrub().unwrap();
    assert_eq!(store.stats().scrubbed_records, 1);
}
