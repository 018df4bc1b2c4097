//! A segment file looked into by itself, whole and damaged: what it says, where that ends, and why.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use ebbtide::{Error, KeyspaceOptions, LogOptions, RecordInfo, Retention, Row, SegmentDump, Store};

use fixture::{START, clock, hours, open, quiet};

const HEADER_LEN: usize = 1024;
const VALUE_LEN: usize = 500;

/// A closed store with a segment of three records, and one of a block of two rows.
fn segments(dir: &Path) -> [PathBuf; 2] {
    let store = open(quiet(Store::builder(dir), &clock()), false);
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    for key in ["one", "two", "three"] {
        let fill = images.fill(key).tag("a").tag("b").metadata(b"metadata");
        let _ = fill.commit(vec![7; VALUE_LEN]).unwrap();
    }
    let access = store.log("access", LogOptions::new(Retention::hours(16))).unwrap();
    let mut appender = access.appender();
    for payload in ["GET /", "GET /favicon.ico"] {
        appender.append(Row::anonymous().payload(payload)).unwrap();
    }
    appender.flush().unwrap();
    drop(appender);
    store.close().unwrap();
    ["keyspaces/images", "logs/access"].map(|owner| {
        let buckets = fs::read_dir(dir.join(owner)).unwrap().map(|entry| entry.unwrap().path());
        let bucket = buckets.into_iter().find(|path| path.is_dir()).unwrap();
        let files = fs::read_dir(bucket).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap()
    })
}

/// All records up to the first error.
fn records(path: &Path) -> (Vec<RecordInfo>, Option<Error>) {
    let mut dump = SegmentDump::open(path).unwrap();
    let (mut records, mut error) = (Vec::new(), None);
    for record in &mut dump {
        match record {
            Ok(record) => records.push(record),
            Err(e) => error = Some(e),
        }
    }
    assert!(dump.next().is_none(), "nothing follows the end");
    (records, error)
}

#[test]
fn a_whole_segment_says_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let [blobs, rows] = segments(&dir.path().join("data"));
    let dump = SegmentDump::open(&blobs).unwrap();
    let info = dump.info().clone();
    assert!(format!("{dump:?}").contains(&format!("{info:?}")), "{dump:?}");
    assert_eq!(
        (info.rows, info.generation, info.deadline),
        (false, 1, info.bucket_start + hours(16))
    );
    assert!(info.bucket_start <= START && info.capacity_bytes >= info.len_bytes);
    let (found, error) = records(&blobs);
    assert!(error.is_none(), "{error:?}");
    let keys: Vec<&[u8]> = found.iter().map(|record| record.key.as_slice()).collect();
    assert_eq!(keys, [&b"one"[..], b"two", b"three"]);
    assert!(found.is_sorted_by(|a, b| a.sequence < b.sequence && a.offset < b.offset));
    for record in &found {
        let lens = (record.tag_count, record.metadata_len, record.value_len);
        assert_eq!((lens, record.problem), ((2, 8, VALUE_LEN as u64), None));
        assert_eq!(record.written_at, START);
    }
    assert_eq!(found[0].offset, HEADER_LEN as u64);
    assert_eq!(found[1].offset, found[0].offset + found[0].len_bytes);
    assert!(SegmentDump::open(&rows).unwrap().info().rows);
    let (found, error) = records(&rows);
    assert!(error.is_none() && found.len() == 1 && found[0].key.is_empty(), "{found:?}, {error:?}");
}

/// What is changed about a segment file.
type Change = fn(&mut Vec<u8>);

#[test]
fn a_file_that_is_no_segment_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let [blobs, _] = segments(&dir.path().join("data"));
    let whole = fs::read(&blobs).unwrap();
    let cases: [(&str, Change); 5] = [
        ("too short", |bytes| bytes.truncate(100)),
        ("too short", Vec::clear),
        ("not a file of this kind", |bytes| bytes[0] ^= 1),
        ("checksum of a segment header", |bytes| bytes[40] ^= 1),
        ("version", |bytes| bytes[8..12].copy_from_slice(&(3_u32 | !3 << 16).to_le_bytes())),
    ];
    for (what, change) in cases {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&blobs, &bytes).unwrap();
        match SegmentDump::open(&blobs).unwrap_err() {
            Error::UnknownVersion { path, found: 3, known: 2 } => {
                assert_eq!((path, what), (blobs.clone(), "version"));
            }
            Error::Corrupt { path, offset: 0, what: told } => {
                assert_eq!(path, blobs);
                assert!(told.contains(what), "{told}, not {what}");
            }
            other => panic!("{what}: {other}"),
        }
    }
    fs::remove_file(&blobs).unwrap();
    assert!(matches!(SegmentDump::open(&blobs), Err(Error::Io { operation: "open", .. })));
}

/// The second record of three is damaged: in its value it is told and passed over, in its head it is the
/// end of what can be found.
#[test]
fn a_damaged_record_is_told_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let [blobs, _] = segments(&dir.path().join("data"));
    let whole = fs::read(&blobs).unwrap();
    let second = records(&blobs).0[1].clone();
    let start = second.offset as usize;
    let last = start + second.len_bytes as usize - 1;
    for (at, found) in [(start, 1), (start + 8, 1), (last - 20, 3)] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&blobs, &bytes).unwrap();
        let (records, error) = records(&blobs);
        assert_eq!(records.len(), found, "byte {at}: {error:?}");
        match error {
            None => assert!(records[1].problem.is_some() && records[2].problem.is_none()),
            Some(Error::Corrupt { path, offset, .. }) => {
                assert_eq!((path, offset), (blobs.clone(), second.offset), "byte {at}");
            }
            Some(other) => panic!("byte {at}: {other}"),
        }
    }
    fs::write(&blobs, &whole[..start + 40]).unwrap();
    let (records, error) = records(&blobs);
    assert_eq!(records.len(), 1);
    assert!(matches!(error, Some(Error::Corrupt { offset, .. }) if offset == second.offset));
}
