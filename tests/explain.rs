//! Why a key's value can be read or not: each reason, with the numbers and times that belong to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fixture.rs"]
mod fixture;

use ebbtide::disk::MemoryDisk;
use ebbtide::{
    Explanation, Keyspace, KeyspaceOptions, ManualClock, Outcome, Reason, Retention, Scope, Store,
};

use fixture::{MODES, START, clock, hours, minutes, on_memory, open};

fn images(store: &Store) -> Keyspace {
    store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap()
}

fn put(keyspace: &Keyspace, key: &str, tags: &[&str]) {
    let fill = tags.iter().fold(keyspace.fill(key), ebbtide::Fill::tag);
    assert_eq!(fill.commit(key).unwrap(), Outcome::Stored);
}

fn explain(store: &Store, key: &str) -> Explanation {
    let explanation = store.existing_keyspace("images").unwrap().explain(key).unwrap();
    let visible = store.existing_keyspace("images").unwrap().get(key).unwrap().is_some();
    assert_eq!(visible, explanation.reason == Reason::Visible, "{key}: {explanation}");
    explanation
}

/// A store with a key for each reason but those of time and damage.
fn prepare(disk: &MemoryDisk, clock: &ManualClock, mapped: bool) -> Store {
    let store = open(on_memory(disk, clock), mapped);
    let images = images(&store);
    for key in ["purged", "again"] {
        put(&images, key, &[]);
    }
    clock.advance(minutes(1));
    images.invalidate_all().unwrap();
    clock.advance(minutes(1));
    for key in ["again", "key", "soft", "denied"] {
        put(&images, key, &[]);
    }
    put(&images, "tagged", &["a", "b", "c"]);
    put(&images, "softly-tagged", &["a", "s"]);
    put(&images, "denied-by-tag", &["a", "d"]);
    clock.advance(minutes(1));
    images.invalidate("key").unwrap();
    images.invalidate("never-stored").unwrap();
    store.invalidate_tags(["c", "x"], Scope::Keyspaces).unwrap();
    images.invalidate_soft("soft").unwrap();
    images.invalidate_tag_soft("s").unwrap();
    images.erase("denied").deny_until(START + hours(100)).commit().unwrap();
    images.erase("denied-unseen").deny_until(START + hours(100)).commit().unwrap();
    store.erase_tag("d", Scope::Keyspaces).deny_until(START + hours(200)).commit().unwrap();
    store.sync().unwrap();
    store
}

fn check(store: &Store) {
    let of = |key: &str| explain(store, key);
    let (written, hidden) = (START + minutes(2), START + minutes(3));
    let visible = of("again");
    assert_eq!((visible.written_at, visible.floor, visible.floor_at), (Some(written), None, None));
    assert_eq!(visible.gone_at, Some(START - minutes(30) + hours(16)));
    assert!(visible.to_string().starts_with("it can be read; its record has number "));

    let purged = of("purged");
    assert_eq!((purged.reason, purged.floor_at), (Reason::All, Some(START + minutes(1))));
    assert!(purged.floor.unwrap() > purged.sequence.unwrap());

    let key = of("key");
    assert_eq!((key.reason, key.floor_at), (Reason::Key, Some(hidden)));
    assert!(key.to_string().starts_with("its key was invalidated, at 2026-11-21T13:33:00"));
    let never = of("never-stored");
    assert_eq!((never.reason, never.sequence), (Reason::Key, None));
    assert!(never.floor > key.floor);

    let tagged = of("tagged");
    assert_eq!((tagged.reason, tagged.tags), (Reason::Tag { index: 2 }, 3));
    assert_eq!((tagged.written_at, tagged.floor_at), (Some(written), Some(hidden)));
    assert!(tagged.to_string().starts_with("tag 3 of 3 was invalidated, at "), "{tagged}");

    let soft = of("soft");
    assert_eq!((soft.reason, soft.floor_at), (Reason::StaleKey, Some(hidden)));
    assert!(soft.to_string().starts_with("stale: its key was softly invalidated"));
    assert_eq!(of("softly-tagged").reason, Reason::StaleTag { index: 1 });

    for key in ["denied", "denied-unseen"] {
        let denied = of(key);
        assert_eq!(
            (denied.reason, denied.denied_until),
            (Reason::Denied, Some(START + hours(100)))
        );
        assert!(denied.to_string().starts_with("it was erased, and is denied until 2026-11-25T"));
        assert_eq!(denied.floor_at, Some(hidden));
    }
    let denied = of("denied-by-tag");
    assert_eq!((denied.reason, denied.denied_until), (Reason::Denied, Some(START + hours(200))));
    assert!(denied.sequence.is_some());

    let absent = of("unheard-of");
    assert_eq!((absent.reason, absent.floor, absent.sequence), (Reason::Absent, None, None));
    assert!(absent.to_string().starts_with("there is no record of it"));
}

#[test]
fn each_reason_is_told_also_after_a_restart_and_read_only() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = prepare(&disk, &clock, mapped);
        check(&store);
        check(&on_memory(&disk, &clock).open_read_only().unwrap());
        let before = store.stats();
        store.existing_keyspace("images").unwrap().explain("again").unwrap();
        assert_eq!((store.stats().hits, store.stats().misses), (before.hits, before.misses));
        check(&open(on_memory(&disk.fork().kill(), &clock), mapped));
        store.close().unwrap();
        check(&open(on_memory(&disk, &clock), mapped));
    }
}

#[test]
fn a_reader_beside_the_writer_is_told_too() {
    let (disk, clock) = (MemoryDisk::new(1), clock());
    let store = open(on_memory(&disk, &clock), false);
    put(&images(&store), "key", &["t"]);
    let watching = on_memory(&disk, &clock).open_read_only().unwrap();
    assert_eq!(explain(&watching, "key").reason, Reason::Visible);
    images(&store).invalidate_tag_soft("t").unwrap();
    assert_eq!(explain(&watching, "key").reason, Reason::StaleTag { index: 0 });
    images(&store).invalidate("key").unwrap();
    assert_eq!(explain(&watching, "key").reason, Reason::Key);
    let until = START + hours(2);
    images(&store).erase("key").deny_until(until).commit().unwrap();
    assert_eq!(explain(&watching, "key").denied_until, Some(until));
    images(&store).invalidate_all().unwrap();
    assert_eq!(explain(&watching, "key").reason, Reason::All);
}

#[test]
fn time_is_a_reason() {
    for mapped in MODES {
        let (disk, clock) = (MemoryDisk::new(1), clock());
        let store = open(on_memory(&disk, &clock), mapped);
        let images = images(&store);
        let fill = images.fill("short").expires_at(START + minutes(5));
        assert_eq!(fill.commit("value").unwrap(), Outcome::Stored);
        put(&images, "long", &[]);
        clock.advance(minutes(5));
        let short = explain(&store, "short");
        assert_eq!((short.reason, short.gone_at), (Reason::Expiry, Some(START + minutes(5))));
        assert!(short.to_string().starts_with("its own expiry has passed"));
        assert_eq!(explain(&store, "long").reason, Reason::Visible);
        clock.advance(hours(16));
        let long = explain(&store, "long");
        assert_eq!(long.reason, Reason::Deadline);
        assert_eq!(long.gone_at, Some(START - minutes(30) + hours(16)));
        store.maintain().unwrap();
        assert_eq!(explain(&store, "long").reason, Reason::Absent);
    }
}

#[test]
fn damage_and_erased_bytes_are_told_apart() {
    for mapped in MODES {
        for (state, reason) in [(None, Reason::Damaged), (Some(*b"GONE"), Reason::Erased)] {
            let (disk, clock) = (MemoryDisk::new(1), clock());
            let store = open(on_memory(&disk, &clock), mapped);
            put(&images(&store), "key", &[]);
            store.close().unwrap();
            let segment = disk
                .all_files()
                .into_iter()
                .find(|path| path.extension().is_some_and(|extension| extension == "seg"));
            let segment = segment.unwrap();
            let mut bytes = disk.read_file(&segment).unwrap();
            match state {
                Some(state) => bytes[1024 + 4..1024 + 8].copy_from_slice(&state),
                None => bytes[1024 + 64] ^= 1,
            }
            disk.write_file(&segment, &bytes).unwrap();
            let store = open(on_memory(&disk, &clock), mapped);
            let explanation = explain(&store, "key");
            assert_eq!(explanation.reason, reason, "{explanation}");
            assert_eq!(explanation.damage.is_some(), reason == Reason::Damaged);
        }
    }
}
