//! Every limit, at it, one below and one above; and the errors that name what a caller got wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use std::fmt::Debug;
use std::ops::Bound;
use std::time::Duration;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Error, Keyspace, KeyspaceOptions, LogOptions, Result, Retention, Row, Store, StoreBuilder,
    Timestamp,
};

use fixture::{MODES, clock, minutes, on_memory, open, quiet, try_open};

/// A store in each mode.
fn each_mode(test: impl Fn(Store)) {
    for mapped in MODES {
        test(open(on_memory(&MemoryDisk::new(1), &clock()), mapped));
    }
}

fn month() -> KeyspaceOptions {
    KeyspaceOptions::new(Retention::days(30))
}

fn images(store: &Store) -> Keyspace {
    store.keyspace("images", month().max_value_bytes(5000)).unwrap()
}

#[track_caller]
fn refused<T: Debug>(result: Result<T>, what: &str, given: u64) {
    match result {
        Err(Error::Limit { what: told, min, max, given: told_given }) => {
            assert_eq!((told, told_given), (what, given));
            assert!(!(min..=max).contains(&given));
        }
        other => panic!("{what}, {given}: {other:?}"),
    }
}

#[test]
fn keys() {
    each_mode(|store| {
        let images = images(&store);
        let what = "key length in bytes";
        for len in [1, 2, 65_535, 65_536] {
            let key = vec![b'k'; len];
            images.insert(&key, b"v").unwrap();
            assert_eq!(images.get(&key).unwrap().unwrap().as_ref(), b"v");
            assert_eq!(images.iter().filter(|e| e.as_ref().unwrap().key() == key).count(), 1);
            images.invalidate(&key).unwrap();
            assert!(!images.contains(&key).unwrap());
        }
        for len in [0, 65_537] {
            let key = vec![b'k'; len];
            let given = len as u64;
            refused(images.insert(&key, b"v"), what, given);
            refused(images.insert_batch([(&key, b"v")]), what, given);
            refused(images.fill(&key).commit(b"v"), what, given);
            refused(images.get(&key), what, given);
            refused(images.stat(&key), what, given);
            refused(images.contains(&key), what, given);
            refused(images.invalidate(&key), what, given);
        }
    });
}

#[test]
fn values() {
    each_mode(|store| {
        let images = images(&store);
        for len in [0, 1, 4999, 5000] {
            let value = vec![7; len];
            images.insert("k", &value).unwrap();
            assert_eq!(images.get("k").unwrap().unwrap().as_ref(), value);
            assert_eq!(images.stat("k").unwrap().unwrap().value_len(), len as u64);
        }
        let long = vec![7; 5001];
        refused(images.insert("k", &long), "value length in bytes", 5001);
        refused(images.insert_batch([("a", &long)]), "value length in bytes", 5001);
        refused(images.fill("k").commit(&long), "value length in bytes", 5001);
        assert_eq!(images.get("k").unwrap().unwrap().len(), 5000, "the old value is still there");
        let first = images.insert_batch([("first", &b"v"[..]), ("second", &long[..])]);
        refused(first, "value length in bytes", 5001);
        assert!(!images.contains("first").unwrap(), "all are checked before the first is stored");
        store.keyspace("images", month().max_value_bytes(5001)).unwrap();
        images.insert("k", &long).unwrap();
    });
}

#[test]
fn tags_and_metadata() {
    each_mode(|store| {
        let images = images(&store);
        let with_tags = |count: usize, len: usize| {
            let fill = images.fill("k");
            (0..count).fold(fill, |fill, at| fill.tag(vec![b'a' + at as u8; len])).commit(b"v")
        };
        for count in [0, 1, 15, 16] {
            let _ = with_tags(count, 10).unwrap();
            assert_eq!(images.stat("k").unwrap().unwrap().tag_count(), count);
        }
        refused(with_tags(17, 10), "tags of a record", 17);
        for len in [1, 2, 1023, 1024] {
            let _ = with_tags(2, len).unwrap();
            images.invalidate_tag(vec![b'b'; len]).unwrap();
            assert!(!images.contains("k").unwrap());
        }
        for len in [0, 1025] {
            refused(with_tags(1, len), "tag length in bytes", len as u64);
            refused(images.invalidate_tag(vec![b'a'; len]), "tag length in bytes", len as u64);
        }
        for len in [0, 1, 65_535, 65_536] {
            let metadata = vec![b'm'; len];
            let _ = images.fill("m").metadata(&metadata).commit(b"v").unwrap();
            assert_eq!(images.get("m").unwrap().unwrap().metadata(), metadata);
        }
        let long = images.fill("m").metadata(vec![0; 65_537]).commit(b"v");
        refused(long, "metadata length in bytes", 65_537);
    });
}

#[test]
fn rows() {
    each_mode(|store| {
        let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
        for len in [0, 1, (1 << 20) - 1, 1 << 20] {
            let id = access.append(Row::anonymous().payload(vec![5; len])).unwrap();
            assert_eq!(access.get(id).unwrap().unwrap().payload().len(), len);
        }
        let long = Row::anonymous().payload(vec![5; (1 << 20) + 1]);
        refused(access.append(long.clone()), "payload length in bytes", (1 << 20) + 1);
        refused(access.appender().append(long), "payload length in bytes", (1 << 20) + 1);
        let tagged = |count| (0..count).fold(Row::anonymous(), |row, _| row.tag("t"));
        let id = access.append(tagged(16)).unwrap();
        assert_eq!(access.get(id).unwrap().unwrap().tag_count(), 16);
        refused(access.append(tagged(17)), "tags of a record", 17);
        refused(access.append(Row::anonymous().tag("")), "tag length in bytes", 0);
        let other = store.log("other", LogOptions::new(Retention::days(30))).unwrap();
        let visitor = other.pseudonym("198.51.100.7".parse().unwrap(), store.now()).unwrap();
        let foreign = access.append(Row::new(visitor));
        assert!(matches!(foreign, Err(Error::ForeignPseudonym { log }) if log == "access"));
        let mut appender = access.appender();
        for _ in 0..5000 {
            appender.append(Row::anonymous()).unwrap();
        }
        assert!(appender.buffered() < 5000, "a block has been written");
        appender.flush().unwrap();
        assert_eq!(access.scan(..).unwrap().count(), 4 + 1 + 5000);
        // A place that was never written is nobody's row, and no damage.
        let segment = id.to_string().split_once('-').unwrap().0.to_owned();
        for place in [format!("{segment}-ffffffff-0"), "ffff-8-0".to_owned()] {
            assert!(access.get(place.parse().unwrap()).unwrap().is_none(), "{place}");
        }
        assert!(store.problems().is_empty(), "{:?}", store.problems());
    });
}

#[test]
fn names() {
    each_mode(|store| {
        let longest = "a".repeat(64);
        for name in ["a", "0", "a-b_c", "9-", longest.as_str()] {
            store.keyspace(name, month()).unwrap();
            store.log(name, LogOptions::new(Retention::days(30))).unwrap();
        }
        let long = "a".repeat(65);
        for name in ["", "A", "-a", "_a", "a.b", "a/b", "..", "\u{e4}", "a b", "a\0", &long] {
            let keyspace = store.keyspace(name, month());
            assert!(matches!(keyspace, Err(Error::InvalidName { name: told }) if told == name));
            let log = store.log(name, LogOptions::new(Retention::days(30)));
            assert!(matches!(log, Err(Error::InvalidName { .. })));
        }
        let missing = store.existing_keyspace("nothing");
        assert!(
            matches!(missing, Err(Error::NotFound { what: "keyspace", name }) if name == "nothing")
        );
        let missing = store.existing_log("nothing");
        assert!(matches!(missing, Err(Error::NotFound { what: "log", .. })));
    });
}

#[test]
fn windows_and_widths() {
    each_mode(|store| {
        let make = |name: &str, retention| store.keyspace(name, KeyspaceOptions::new(retention));
        let window = "retention window in milliseconds";
        let shortest = minutes(16);
        make("shortest", Retention::window(shortest)).unwrap();
        make("longest", Retention::days(36_525)).unwrap();
        let below = shortest - Duration::from_millis(1);
        refused(make("x", Retention::window(below)), window, 959_999);
        let above = Duration::from_secs(86_400 * 36_525) + Duration::from_millis(1);
        refused(make("x", Retention::window(above)), window, above.as_millis() as u64);
        refused(make("x", Retention::days(0)), window, 0);
        let width = "bucket width in milliseconds";
        let wide = |count| Retention::hours(16).bucket_width(minutes(count));
        make("widest", wide(60)).unwrap();
        refused(make("x", wide(61)), width, 61 * 60_000);
        let narrow = |count| Retention::hours(4096).bucket_width(minutes(count));
        make("narrowest", narrow(60)).unwrap();
        refused(make("x", narrow(59)), width, 59 * 60_000);
        let odd = Retention::hours(16).bucket_width(Duration::from_millis(60_001));
        refused(make("x", odd), "bucket width beyond whole minutes, in milliseconds", 1);
        assert_eq!(store.keyspaces(), ["longest", "narrowest", "shortest", "widest"]);
    });
}

#[test]
fn ends_of_a_scan() {
    each_mode(|store| {
        let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
        let start = store.now().as_millis() - 5;
        let at = |ms: u64| Timestamp::from_millis(start + ms);
        let mut appender = access.appender();
        for ms in 0..5 {
            appender.append(Row::anonymous().at(at(ms)).payload([ms as u8])).unwrap();
        }
        appender.flush().unwrap();
        let check = |range: (Bound<Timestamp>, Bound<Timestamp>), expected: &[u8]| {
            let rows = access.scan(range).unwrap().map(|row| row.unwrap().payload()[0]);
            assert_eq!(rows.collect::<Vec<_>>(), expected, "{range:?}");
        };
        check((Bound::Included(at(1)), Bound::Included(at(3))), &[1, 2, 3]);
        check((Bound::Included(at(1)), Bound::Excluded(at(3))), &[1, 2]);
        check((Bound::Excluded(at(1)), Bound::Included(at(3))), &[2, 3]);
        check((Bound::Included(at(2)), Bound::Included(at(2))), &[2]);
        check((Bound::Excluded(at(1)), Bound::Excluded(at(2))), &[]);
        check((Bound::Unbounded, Bound::Excluded(at(2))), &[0, 1]);
        check((Bound::Included(at(3)), Bound::Unbounded), &[3, 4]);
        check((Bound::Unbounded, Bound::Excluded(Timestamp::from_millis(0))), &[]);
        check((Bound::Included(at(5)), Bound::Unbounded), &[]);
    });
}

#[test]
fn sizes_of_segments_and_capacities() {
    each_mode(|store| {
        let make = |options| store.keyspace("images", options);
        for bytes in [4096, 4097, (1 << 30) - 1, 1 << 30] {
            make(month().segment_bytes(bytes)).unwrap();
            store.log("l", LogOptions::new(Retention::days(30)).segment_bytes(bytes)).unwrap();
        }
        for bytes in [0, 4095, (1 << 30) + 1] {
            refused(make(month().segment_bytes(bytes)), "segment_bytes", bytes);
        }
        for bytes in [65_536, 65_537, u64::MAX] {
            make(month().capacity_bytes(bytes)).unwrap();
        }
        refused(make(month().capacity_bytes(65_535)), "capacity_bytes", 65_535);
        let both = |segment| month().capacity_bytes(1 << 20).segment_bytes(segment);
        make(both(65_536)).unwrap();
        refused(make(both(65_537)), "segment_bytes", 65_537);
        for bytes in [1, 2, (1 << 30) - 1, 1 << 30] {
            make(month().max_value_bytes(bytes)).unwrap();
        }
        for bytes in [0, (1 << 30) + 1] {
            refused(make(month().max_value_bytes(bytes)), "max_value_bytes", bytes);
        }
    });
}

#[test]
fn options_of_the_store() {
    let builder = || on_memory(&MemoryDisk::new(1), &clock());
    for mapped in MODES {
        let with =
            |change: &dyn Fn(StoreBuilder) -> StoreBuilder| try_open(change(builder()), mapped);
        let log = |bytes: u64| with(&|builder| builder.tombstone_log_bytes(bytes));
        for bytes in [4096, 5120, (64 << 20) - 1024, 64 << 20] {
            log(bytes).unwrap().close().unwrap();
        }
        for bytes in [0, 4095, (64 << 20) + 1] {
            refused(log(bytes), "tombstone_log_bytes", bytes);
        }
        refused(log(4097), "tombstone_log_bytes beyond whole KiB", 1);
        let interval = |ms: u64| with(&|builder| builder.sync_interval(Duration::from_millis(ms)));
        for ms in [10, 11, 3_599_999, 3_600_000] {
            interval(ms).unwrap().close().unwrap();
        }
        for ms in [0, 9, 3_600_001] {
            refused(interval(ms), "sync interval in milliseconds", ms);
        }
    }
}

#[test]
fn a_window_once_promised_is_kept() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        store.keyspace("images", month()).unwrap().insert("k", b"v").unwrap();
        store.log("access", LogOptions::new(Retention::days(30))).unwrap();
        for reopened in [false, true] {
            let store = match reopened {
                true => {
                    store.close().unwrap();
                    open(on_memory(&disk, &clock), mapped)
                }
                false => store.clone(),
            };
            let longer = Retention::days(31);
            match store.keyspace("images", KeyspaceOptions::new(longer)) {
                Err(Error::OptionsConflict { name, option: "window_ms", stored, given }) => {
                    assert_eq!((name.as_str(), given - stored), ("images", 86_400_000));
                }
                other => panic!("{other:?}"),
            }
            let wider = LogOptions::new(Retention::days(30).bucket_width(minutes(60)));
            let conflict = store.log("access", wider);
            let Err(Error::OptionsConflict { option: "width_ms", .. }) = conflict else {
                panic!("{conflict:?}");
            };
            let changed = month().segment_bytes(8192).capacity_bytes(1 << 20).max_value_bytes(9);
            let images = store.keyspace("images", changed).unwrap();
            refused(images.insert("k", [0; 10]), "value length in bytes", 10);
            assert_eq!(store.stats().keyspaces[0].capacity_bytes, Some(1 << 20));
            assert_eq!(images.get("k").unwrap().unwrap().as_ref(), b"v");
        }
    }
}

#[test]
fn an_empty_keyspace_takes_1_kib_and_a_half_of_memory_and_one_of_some_keys_160_more() {
    each_mode(|store| {
        let images = images(&store);
        let index_bytes = || store.stats().keyspaces[0].index_bytes;
        assert_eq!(index_bytes(), 1024 + 512);
        for key in 0..1000 {
            images.insert(format!("{key}"), b"v").unwrap();
        }
        let keys = 1000 * 64;
        assert!(((160 << 10)..(162 << 10) + keys).contains(&index_bytes()), "{}", index_bytes());
    });
}

#[test]
fn a_record_that_can_never_fit_is_refused() {
    each_mode(|store| {
        let options = month().segment_bytes(4096).capacity_bytes(65_536);
        let images = store.keyspace("images", options).unwrap();
        images.insert("small", b"v").unwrap();
        match images.insert("large", vec![0; 65_536]) {
            Err(Error::CapacityExceeded { capacity_bytes: 65_536, needed_bytes }) => {
                assert!(needed_bytes > 65_536);
            }
            other => panic!("{other:?}"),
        }
        assert!(images.contains("small").unwrap(), "nothing was evicted for it");
        images.insert("small", b"w").unwrap();
    });
}

#[test]
fn a_read_only_store_takes_nothing() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let builder = on_memory(&disk, &clock);
        let missing = builder.clone().open_read_only();
        assert!(matches!(missing, Err(Error::NotFound { what: "store", .. })), "{missing:?}");
        let store = open(builder.clone(), mapped);
        images(&store).insert("k", b"v").unwrap();
        store.log("access", LogOptions::new(Retention::days(30))).unwrap();
        let before: Vec<_> = disk.all_files().iter().map(|path| disk.read_file(path)).collect();
        let before: Vec<_> = before.into_iter().map(|bytes| bytes.unwrap()).collect();
        let reader = builder.open_read_only().unwrap();
        let images = images(&reader);
        let access = reader.existing_log("access").unwrap();
        assert_eq!(images.get("k").unwrap().unwrap().as_ref(), b"v");
        let refused = [
            images.insert("k", b"w").err(),
            images.insert_batch([("k", b"w")]).err(),
            images.fill("k").commit(b"w").err(),
            images.invalidate("k").err(),
            images.invalidate_tag("t").err(),
            images.invalidate_all().err(),
            access.append(Row::anonymous()).err(),
            access.pseudonym("198.51.100.7".parse().unwrap(), reader.now()).err(),
            reader.keyspace("new", month()).err(),
            reader.log("new", LogOptions::new(Retention::days(30))).err(),
            reader.sync().err(),
            reader.maintain().err(),
            reader.drop_expired().err(),
            reader.confirm_clock().err(),
            reader.reset_clock().err(),
        ];
        for (at, error) in refused.iter().enumerate() {
            assert!(matches!(error, Some(Error::ReadOnly)), "{at}: {error:?}");
        }
        assert!(images.contains("k").unwrap());
        reader.close().unwrap();
        let files = disk.all_files();
        let after: Vec<_> = files.iter().map(|path| disk.read_file(path).unwrap()).collect();
        assert!(before == after, "something was written");
    }
}

#[test]
fn a_closed_store_says_so() {
    each_mode(|store| {
        let images = images(&store);
        let access = store.log("access", LogOptions::new(Retention::days(30))).unwrap();
        images.insert("k", b"v").unwrap();
        let id = access.append(Row::anonymous()).unwrap();
        let fill = images.fill("k");
        let (mut iter, mut appender) = (images.iter(), access.appender());
        appender.append(Row::anonymous()).unwrap();
        store.close().unwrap();
        store.close().unwrap();
        let refused = [
            images.get("k").err(),
            images.stat("k").err(),
            images.insert("k", b"w").err(),
            images.insert_batch([("k", b"w")]).err(),
            fill.commit(b"w").err(),
            images.invalidate("k").err(),
            images.invalidate_all().err(),
            iter.next().unwrap().err(),
            access.get(id).err(),
            access.append(Row::anonymous()).err(),
            appender.flush().err(),
            access.scan(..).err(),
            store.keyspace("images", month()).err(),
            store.keyspace("new", month()).err(),
            store.log("new", LogOptions::new(Retention::days(30))).err(),
            store.sync().err(),
            store.maintain().err(),
            store.drop_expired().err(),
            store.confirm_clock().err(),
            store.reset_clock().err(),
            store.verify().err(),
        ];
        for (at, error) in refused.iter().enumerate() {
            assert!(matches!(error, Some(Error::Closed)), "{at}: {error:?}");
        }
    });
}

#[test]
fn a_second_opener_is_told_who_was_first() {
    for mapped in MODES {
        let dir = tempfile::tempdir().unwrap();
        let builder = || quiet(Store::builder(dir.path().join("data")), &clock());
        let store = open(builder(), mapped);
        match try_open(builder(), mapped) {
            Err(Error::Locked { path, pid }) => {
                assert_eq!((path, pid), (dir.path().join("data"), Some(std::process::id())));
            }
            other => panic!("{other:?}"),
        }
        builder().open_read_only().unwrap();
        store.close().unwrap();
        let second = open(builder(), mapped);
        drop(second);
        open(builder(), mapped).close().unwrap();
    }
}
