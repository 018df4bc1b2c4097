//! Tests of the trash by itself: what it tells of what lies in it, and in which order that goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reaping::PIECE_BYTES;
use super::{Trash, TrashEvent, TrashItem, TrashedBucket, trash_name};
use crate::disk::{Access, Descriptors, Disk, Fault, FaultyDisk, MemoryDisk};
use crate::format::keys;
use crate::format::record::RecordKind;
use crate::format::segment_header::SegmentHeader;
use crate::pseudonym::KEYS_FILE;
use crate::segment::writer::SegmentWriter;
use crate::segment::{Segment, SegmentHost};
use crate::time::Timestamp;
use crate::twin_file::TwinFile;

const TRASH: &str = "/trash";
const BUCKET: TrashedBucket =
    TrashedBucket { owner_id: 7, start: Timestamp::from_millis(1_795_267_800_000), instance: 9 };

fn path_of(bucket: TrashedBucket) -> PathBuf {
    let name = trash_name(bucket.owner_id, &bucket.start.compact(), bucket.instance);
    Path::new(TRASH).join(name)
}

/// A trash with the bucket of a log in it, with its keys and another file.
fn trash_with_keys(disk: &MemoryDisk) -> PathBuf {
    let bucket = path_of(BUCKET);
    disk.create_dir(Path::new(TRASH)).unwrap();
    disk.create_dir(&bucket).unwrap();
    disk.write_file(&bucket.join("0.seg"), &[1; 5000]).unwrap();
    TwinFile::create(disk, &bucket.join(KEYS_FILE), keys::MAGIC, &[0xaa; 100]).unwrap();
    bucket
}

fn open(disk: impl Disk + 'static) -> Trash {
    Trash::open(Arc::new(disk), TRASH.into()).unwrap()
}

/// A segment without records, of which only this is to be told: that somebody holds it.
fn segment(disk: &MemoryDisk, bucket: &Path, number: u64) -> Arc<Segment> {
    let header = SegmentHeader {
        store_id: [0; 16],
        owner_id: BUCKET.owner_id,
        number,
        generation: 1,
        kind: RecordKind::Blob,
        salt: 1,
        bucket_start_ms: BUCKET.start.as_millis(),
        bucket_end_ms: BUCKET.start.as_millis() + 1,
        deadline_ms: BUCKET.start.as_millis() + 1,
        capacity: 4096,
    };
    let host = SegmentHost {
        descriptors: Arc::new(Descriptors::new(Arc::new(disk.clone()))),
        mapped: false,
        always_verify: false,
        lease: Arc::default(),
        read_at_ms: Arc::default(),
    };
    Arc::clone(SegmentWriter::create(disk, bucket, header, &host).unwrap().segment())
}

#[test]
fn keys_are_overwritten_before_anything_else_goes() {
    let disk = MemoryDisk::new(1);
    let bucket = trash_with_keys(&disk);
    let keys = disk.open(&bucket.join(KEYS_FILE), Access::Read).unwrap();
    let trash = open(disk.clone());
    assert_eq!(trash.buckets(), [(BUCKET, Some(8192 + 8192))]);
    assert!(trash.has_keys(BUCKET.owner_id, BUCKET.start));
    assert!(trash.reap_step().unwrap());
    assert_eq!(trash.take_events(), [TrashEvent::KeysDestroyed(BUCKET)]);
    assert!(!trash.has_keys(BUCKET.owner_id, BUCKET.start));
    let mut bytes = vec![0xff; keys.len().unwrap() as usize];
    assert_eq!(keys.read_at(&mut bytes, 0).unwrap(), bytes.len());
    assert!(!bytes.windows(2).any(|pair| pair == [0xaa; 2]));
    while trash.reap_step().unwrap() {}
    assert_eq!((trash.take_events(), trash.len()), (vec![], 0));
    assert!(disk.read_dir(Path::new(TRASH)).unwrap().is_empty());
}

/// Any call may fail: the name of the keys does not go before their bytes have, durably.
#[test]
fn keys_that_could_not_be_overwritten_keep_their_name() {
    let (kind, full) = (std::io::ErrorKind::TimedOut, std::io::ErrorKind::StorageFull);
    for fault in [Fault::Error(kind), Fault::SyncLost(kind), Fault::Torn(full)] {
        for call in 1.. {
            let disk = MemoryDisk::new(1);
            let bucket = trash_with_keys(&disk);
            for dir in [Path::new("/"), Path::new(TRASH), &bucket] {
                disk.sync_dir(dir).unwrap();
            }
            let keys = disk.open(&bucket.join(KEYS_FILE), Access::Read).unwrap();
            let faulty = FaultyDisk::new(Arc::new(disk.clone()));
            let trash = open(faulty.clone());
            let last = faulty.calls() + call;
            faulty.inject(last, fault);
            while trash.len() > 0 {
                let _ = trash.reap_step();
                let mut bytes = disk.read_file(&bucket.join(KEYS_FILE)).unwrap_or_default();
                if bytes.is_empty() {
                    let cut = disk.fork().crash(&mut |_: u32| 0);
                    bytes = cut.read_file(&bucket.join(KEYS_FILE)).unwrap_or_default();
                    let end = bytes.len();
                    bytes.resize(end + keys.len().unwrap() as usize, 0xff);
                    keys.read_at(&mut bytes[end..], 0).unwrap();
                    assert!(!bytes.windows(2).any(|pair| pair == [0xaa; 2]), "{fault:?} at {call}");
                }
            }
            if faulty.calls() < last {
                break;
            }
        }
    }
}

/// Any call may fail as the trash is opened.
#[test]
fn what_could_not_be_looked_at_is_measured_again() {
    let disk = MemoryDisk::new(1);
    trash_with_keys(&disk);
    let mut opened = 0;
    for call in 1.. {
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.inject(call, Fault::Error(std::io::ErrorKind::TimedOut));
        let trash = Trash::open(Arc::new(faulty.clone()), TRASH.into());
        if faulty.calls() < call {
            break;
        }
        if let Ok(trash) = trash {
            assert_eq!(trash.bytes(7), 8192 + 8192, "call {call}");
            opened += 1;
        }
    }
    assert!(opened > 0);
}

/// Of an owner that is lost, a bucket that somebody has renamed is moved here under that name.
#[test]
fn a_directory_that_is_not_named_like_a_bucket_is_measured_again() {
    let disk = MemoryDisk::new(1);
    let dir = Path::new(TRASH).join(trash_name(7, "renamed", 9));
    disk.create_dir(Path::new(TRASH)).unwrap();
    disk.create_dir(&dir).unwrap();
    disk.write_file(&dir.join("0.seg"), &[1; 5000]).unwrap();
    for call in 2..4 {
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.inject(call, Fault::Error(std::io::ErrorKind::TimedOut));
        let trash = open(faulty);
        assert_eq!(trash.bytes(7), 8192, "call {call}");
    }
    let trash = open(disk.clone());
    while trash.reap_step().unwrap() {}
    assert_eq!((trash.len(), disk.read_dir(Path::new(TRASH)).unwrap()), (0, vec![]));
}

#[test]
fn what_was_scrubbed_is_told_until_it_is_gone() {
    let disk = MemoryDisk::new(1);
    disk.create_dir(Path::new(TRASH)).unwrap();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let trash = open(faulty.clone());
    let push = |owner_id, scrubbed_through| {
        let bucket = TrashedBucket { owner_id, ..BUCKET };
        disk.create_dir(&path_of(bucket)).unwrap();
        let (path, segments) = (path_of(bucket), Vec::new());
        trash.push(TrashItem { path, owner_id, bytes: Some(10), segments, scrubbed_through });
    };
    push(7, 3);
    push(8, 5);
    assert!(trash.holds(7) && trash.holds(8) && !trash.holds(9));
    assert_eq!([3, 4].map(|pass| trash.is_scrubbed(7, pass)), [true, false]);
    assert_eq!([5, 6].map(|pass| trash.is_scrubbed(8, pass)), [true, false]);
    assert!(trash.is_scrubbed(9, u64::MAX));
    faulty.inject(faulty.calls() + 1, Fault::Error(std::io::ErrorKind::TimedOut));
    trash.reap_step().unwrap_err();
    assert!(trash.holds(7) && trash.holds(8), "what fails goes to the back");
    assert!(trash.reap_step().unwrap());
    assert!(trash.holds(7) && !trash.holds(8));
    assert!(!trash.reap_step().unwrap());
    assert!(!trash.holds(7) && trash.is_scrubbed(7, u64::MAX));
}

#[test]
fn only_a_bucket_is_told_as_one() {
    let name = trash_name(7, &BUCKET.start.compact(), 9);
    let cases = [
        (name.clone(), Some(BUCKET)),
        (trash_name(7, "segment", 9), None),
        (format!("{name}.1"), None),
        (format!("0{name}"), None),
        ("7".to_owned(), None),
        (String::new(), None),
    ];
    for (name, bucket) in cases {
        let path = Path::new(TRASH).join(&name);
        let segments = Vec::new();
        let item = TrashItem { path, owner_id: 7, bytes: Some(0), segments, scrubbed_through: 0 };
        assert_eq!(item.bucket(), bucket, "{name}");
    }
}

/// Readers let go of one segment of a bucket before the next one is freed, and somebody asks meanwhile.
#[test]
fn what_is_being_freed_still_counts() {
    let disk = MemoryDisk::new(1);
    let bucket = path_of(BUCKET);
    disk.create_dir(Path::new(TRASH)).unwrap();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let trash = Arc::new(open(faulty.clone()));
    disk.create_dir(&bucket).unwrap();
    let [first, second] = [1, 2].map(|number| segment(&disk, &bucket, number));
    let (path, segments) = (bucket, vec![Arc::clone(&first), Arc::clone(&second)]);
    let held = first.file_bytes() + second.file_bytes();
    trash.push(TrashItem { path, owner_id: 7, bytes: Some(held), segments, scrubbed_through: 0 });
    assert!(!trash.reap_step_of(8).unwrap());
    assert!(trash.reap_step_of(7).unwrap());
    assert_eq!((trash.pinned().len(), trash.take_events()), (1, vec![]));
    assert_eq!(trash.bytes(7), held, "one as part of the bucket, one as held");
    drop(first);
    let other = Arc::clone(&trash);
    faulty.interrupt(faulty.calls() + 1, move || {
        assert_eq!((other.pinned().len(), other.take_events()), (0, vec![]));
        assert_eq!((other.bytes(7), other.bytes(8)), (held / 2, 0));
        assert!(other.holds(7) && !other.is_scrubbed(7, 1));
    });
    while trash.reap_step().unwrap() {}
    assert_eq!((trash.pinned().len(), trash.take_events()), (1, vec![]));
    assert_eq!(trash.bytes(7), second.file_bytes());
    drop(second);
    assert!(!trash.reap_step().unwrap());
    assert_eq!(trash.take_events(), [TrashEvent::Released(BUCKET, 2, held)]);
    assert_eq!((trash.take_events(), trash.bytes(7)), (vec![], 0));
}

/// Any call may fail; what had been begun is tried again.
#[test]
fn what_a_reader_holds_is_never_cut() {
    for call in 1.. {
        let disk = MemoryDisk::new(1);
        let bucket = path_of(BUCKET);
        disk.create_dir(Path::new(TRASH)).unwrap();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        let trash = open(faulty.clone());
        disk.create_dir(&bucket).unwrap();
        let held = segment(&disk, &bucket, 1);
        let file = disk.open(held.path(), Access::ReadWrite).unwrap();
        let len = 2 * PIECE_BYTES;
        file.set_len(len).unwrap();
        let (path, segments) = (bucket, vec![Arc::clone(&held)]);
        trash.push(TrashItem {
            path,
            owner_id: 7,
            bytes: Some(len),
            segments,
            scrubbed_through: 0,
        });
        let last = faulty.calls() + call;
        faulty.inject(last, Fault::Error(std::io::ErrorKind::TimedOut));
        while trash.len() > 0 {
            let _ = trash.reap_step();
            assert_eq!(file.len().unwrap(), len, "call {call}");
        }
        assert_eq!(trash.pinned().len(), 1);
        if faulty.calls() < last {
            break;
        }
    }
}
