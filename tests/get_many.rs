//! Many keys at once: the same rules as for one, in the order asked for, in both modes.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use ebbtide::disk::MemoryDisk;
use ebbtide::{Error, Keyspace, KeyspaceOptions, Retention, Store, Value};
use fixture::{MODES, clock, hours, on_memory, open, quiet};

fn images(store: &Store) -> Keyspace {
    store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap()
}

fn bytes(values: Vec<Option<Value>>) -> Vec<Option<Vec<u8>>> {
    values.into_iter().map(|value| value.map(|value| value.to_vec())).collect()
}

fn one_by_one(images: &Keyspace, keys: &[String]) -> Vec<Option<Vec<u8>>> {
    bytes(keys.iter().map(|key| images.get(key).unwrap()).collect())
}

#[test]
fn the_same_as_one_by_one() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        for name in ["a", "b", "c", "d"] {
            let _ = images.fill(name).tag(name).commit(name).unwrap();
        }
        let _ = images.fill("e").expires_at(store.now() + hours(1)).commit(b"e").unwrap();
        store.sync().unwrap();
        images.insert("b", b"newer").unwrap();
        images.invalidate("a").unwrap();
        images.invalidate_tag("c").unwrap();
        images.invalidate_soft("d").unwrap();
        let keys = ["b", "a", "absent", "b", "c", "d", "e"].map(String::from);
        let expected = ["newer", "", "", "newer", "", "", "e"]
            .map(|value| if value.is_empty() { None } else { Some(value.as_bytes().to_vec()) });
        assert_eq!(bytes(images.get_many(&keys).unwrap()), expected);
        assert_eq!(one_by_one(&images, &keys), expected);
        assert!(images.get_many::<&str>([]).unwrap().is_empty());

        clock.advance(hours(2));
        assert!(images.get_many(["e"]).unwrap()[0].is_none());
        clock.advance(hours(24 * 30));
        assert!(images.get_many(&keys).unwrap().iter().all(Option::is_none));
    }
}

#[test]
fn reads_and_misses_count_as_for_get() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    let images = images(&store);
    images.insert("a", b"one").unwrap();
    let before = store.stats();
    images.get_many(["a", "b", "a"]).unwrap();
    let after = store.stats();
    assert_eq!((after.hits - before.hits, after.misses - before.misses), (2, 1));
}

#[test]
fn an_impossible_key_and_a_closed_store_are_errors() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        images.insert("a", b"one").unwrap();
        assert!(matches!(images.get_many(["a", ""]), Err(Error::Limit { .. })));
        store.close().unwrap();
        assert!(matches!(images.get_many(["a"]), Err(Error::Closed)));
    }
}

/// On a real disk, opened again, in several groups and with values far longer than the average.
#[test]
fn what_is_on_disk_comes_in_order() {
    for mapped in MODES {
        let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
        let builder = quiet(Store::builder(dir.path().join("data")), &clock);
        let store = open(builder.clone(), mapped);
        let images = images(&store);
        let len = |i: usize| if i.is_multiple_of(40) { 300_000 + i } else { i % 3_000 };
        for i in 0..600 {
            images.insert(i.to_string(), vec![i as u8; len(i)]).unwrap();
        }
        store.close().unwrap();

        let store = open(builder, mapped);
        let images = self::images(&store);
        let keys: Vec<String> = (0..700).rev().map(|i| i.to_string()).collect();
        let values = images.get_many(&keys).unwrap();
        for (i, value) in (0..700).rev().zip(values) {
            let expected = (i < 600).then(|| vec![i as u8; len(i)]);
            assert!(value.map(|value| value.to_vec()) == expected, "{i}");
        }
        store.close().unwrap();
    }
}
