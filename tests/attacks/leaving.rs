//! What leaves by the failure of a call, or while the store is being closed: it must not be back when the
//! power goes, nor take along what was durable.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use ebbtide::disk::{Fault, FaultyDisk, MemoryDisk};
use ebbtide::{FillWriter, Keyspace, KeyspaceOptions, Outcome, Retention, Scope, Store};

use crate::fixture::{MODES, hours, open, quiet, try_open};
use crate::hooked::{Answer, Call, HookedDisk};
use crate::rig::{Rig, each_mode, images, seen};

/// The least capacity of segments of 4 KiB.
pub(crate) const CAPACITY: u64 = 16 * 4096;

pub(crate) fn opened(rig: &Rig) -> (HookedDisk, FaultyDisk, Store) {
    let hooked = HookedDisk::new(&rig.disk);
    let disk = FaultyDisk::new(Arc::new(hooked.clone()));
    let store = open(quiet(Store::builder("/data").disk(disk.clone()), &rig.clock), rig.mapped);
    (hooked, disk, store)
}

fn is_in(path: &Path, part: &str) -> bool {
    path.to_str().is_some_and(|path| path.contains(part))
}

pub(crate) fn sized(store: &Store, capacity: u64) -> Keyspace {
    let options = KeyspaceOptions::new(Retention::hours(16)).segment_bytes(4096);
    store.keyspace("images", options.capacity_bytes(capacity).erase_within(hours(480))).unwrap()
}

/// One sync fails of a directory with this in its name, once a segment has been moved.
fn fail_one_eviction(hooked: &HookedDisk, unsynced: &'static str) {
    let (has_moved, has_failed) = (AtomicBool::new(false), AtomicBool::new(false));
    hooked.before(move |call, path| {
        if call == Call::Rename && is_in(path, ".seg") {
            has_moved.store(true, Ordering::Relaxed);
        }
        let may_fail = call == Call::SyncDir && is_in(path, unsynced);
        let fails = may_fail && has_moved.load(Ordering::Relaxed);
        match fails && !has_failed.swap(true, Ordering::Relaxed) {
            true => Answer::Fail,
            false => Answer::Do,
        }
    });
}

fn in_pieces(images: &Keyspace, key: &str) -> FillWriter {
    let mut writer = images.fill(key).memory_limit_bytes(0).into_writer().unwrap();
    writer.write_all(&[7; 5000]).unwrap();
    writer
}

/// The directory that an evicted segment was in, or the trash, could not be synced; whether another sync of it
/// writes anything or not. A second call fails too, so that the segment is still in the trash when room is
/// needed again.
#[test]
fn what_an_eviction_may_not_have_taken_is_hidden_before_the_next_one() {
    let dirs = ["/trash", "/images/"];
    let cases = dirs.into_iter().flat_map(|dir| [(dir, Answer::Do), (dir, Answer::Pretend)]);
    for (unsynced, later) in cases {
        each_mode(|rig| {
            let (hooked, _, store) = opened(rig);
            let images = sized(&store, 64 << 20);
            for version in ["old", "new", "another"] {
                images.insert(if version == "another" { "other" } else { "key" }, version).unwrap();
                rig.clock.advance(hours(1));
                store.maintain().unwrap();
            }
            sized(&store, CAPACITY);
            let moments: Arc<Mutex<Vec<MemoryDisk>>> = Arc::default();
            let (has_moved, has_failed) = (AtomicBool::new(false), AtomicBool::new(false));
            let stays_in_trash = AtomicBool::new(true);
            let (noted, memory) = (Arc::clone(&moments), rig.disk.clone());
            hooked.before(move |call, path| {
                if call == Call::Rename && is_in(path, ".seg") {
                    has_moved.store(true, Ordering::Relaxed);
                }
                let is_sync = call == Call::SyncDir && is_in(path, unsynced);
                if is_sync && has_moved.load(Ordering::Relaxed) {
                    return match has_failed.swap(true, Ordering::Relaxed) {
                        false => Answer::Fail,
                        true => later,
                    };
                } else if call == Call::RemoveFile
                    && is_in(path, "/trash/")
                    && stays_in_trash.swap(false, Ordering::Relaxed)
                {
                    return Answer::Fail;
                }
                if has_failed.load(Ordering::Relaxed) {
                    noted.lock().unwrap().push(memory.fork());
                }
                Answer::Do
            });
            let sizes = [3000, 3000, 12_000, 3000, 12_000];
            let refused =
                sizes.iter().filter(|len| images.insert("large", vec![1; **len]).is_err());
            assert!(refused.count() > 0);
            hooked.clear();
            let moments = std::mem::take(&mut *moments.lock().unwrap());
            assert!(!moments.is_empty());
            for (at, disk) in moments.into_iter().enumerate() {
                let then = rig.with(disk);
                if seen(&then.kill().open(), "key").as_deref() == Some("new") {
                    // Its newer version has not left yet.
                    continue;
                }
                for seed in 0..8 {
                    let seen = seen(&then.cut(seed).open(), "key");
                    assert_ne!(seen.as_deref(), Some("old"), "{unsynced}, {later:?}, {at}, {seed}");
                }
            }
        });
    }
}

/// The tombstone log has no room, and what would give it some cannot be moved away: the floor of everything needs none.
#[test]
fn an_invalidation_without_room_does_not_fail_for_an_eviction() {
    for unmoved in [Call::Rename, Call::SyncDir] {
        each_mode(|rig| {
            let (hooked, _, store) = opened(rig);
            let images = images(&store);
            images.insert("key", "value").unwrap();
            store.sync().unwrap();
            for _ in 0..24 {
                images.invalidate("another").unwrap();
            }
            rig.disk.set_capacity_bytes(Some(rig.disk.used_bytes()));
            hooked.before(move |call, path| {
                let fails = call == unmoved && !is_in(path, "tombstones");
                if fails { Answer::Fail } else { Answer::Do }
            });
            assert!(images.invalidate("key").unwrap().widened());
            for seed in 0..8 {
                assert_eq!(seen(&rig.cut(seed).open(), "key"), None, "{unmoved:?}, {seed}");
            }
        });
    }
}

/// The newer version was evicted before it was synced, and leaves no trace on the disk if the segment is back.
#[test]
fn a_sync_after_an_eviction_that_failed_brings_no_older_version_back() {
    for unsynced in ["/trash", "/images/"] {
        each_mode(|rig| {
            let (hooked, _, store) = opened(rig);
            let images = sized(&store, CAPACITY);
            images.insert("key", "old").unwrap();
            store.sync().unwrap();
            images.insert("key", "new").unwrap();
            fail_one_eviction(&hooked, unsynced);
            let large = || images.insert("large", vec![1; 12_000]);
            while large().is_ok() {}
            hooked.clear();
            store.sync().unwrap();
            for seed in 0..8 {
                let seen = seen(&rig.cut(seed).open(), "key");
                assert_ne!(seen.as_deref(), Some("old"), "{unsynced}, {seed}");
            }
        });
    }
}

/// What two keyspaces are to forget finds the disk full, and one of them cannot give anything up.
#[test]
fn a_keyspace_that_can_evict_nothing_keeps_no_other_from_making_room() {
    each_mode(|rig| {
        let (hooked, _, store) = opened(rig);
        let images = images(&store);
        let other = store.keyspace("aside", KeyspaceOptions::new(Retention::hours(16))).unwrap();
        for keyspace in [&other, &images] {
            let _ = keyspace.fill("key").tag("tag").commit("value").unwrap();
        }
        store.sync().unwrap();
        for _ in 0..24 {
            images.invalidate("another").unwrap();
        }
        rig.disk.set_capacity_bytes(Some(rig.disk.used_bytes()));
        hooked.before(|call, path| {
            let fails = call == Call::Rename && is_in(path, "/aside/");
            if fails { Answer::Fail } else { Answer::Do }
        });
        let receipt = store.invalidate_tag("tag", Scope::Keyspaces).unwrap();
        assert!(!receipt.widened(), "there was room once a segment had left");
    });
}

/// It had its name as a segment already when the directory that it came from could not be synced, so it was
/// removed, and nobody synced that in its bucket.
#[test]
fn a_refused_value_in_pieces_does_not_come_back_after_the_next_process() {
    each_mode(|rig| {
        let (hooked, _, store) = opened(rig);
        let writer = in_pieces(&images(&store), "key");
        let has_moved = AtomicBool::new(false);
        hooked.before(move |call, path| {
            if call == Call::Rename && is_in(path, ".part") {
                has_moved.store(true, Ordering::Relaxed);
            }
            let is_last = call == Call::SyncDir && path.ends_with("images");
            if is_last && has_moved.load(Ordering::Relaxed) { Answer::Fail } else { Answer::Do }
        });
        assert!(writer.commit().is_err());
        let rig = rig.kill();
        drop(store);
        let store = rig.open();
        assert!(images(&store).get("key").unwrap().is_none());
        let _ = images(&store).invalidate("key").unwrap();
        // So many that the log with its tombstone is full, and forgotten.
        for at in 0..60 {
            let _ = images(&store).invalidate(format!("other-{at}")).unwrap();
        }
        store.maintain().unwrap();
        for seed in 0..16 {
            let store = rig.cut(seed).open();
            assert!(images(&store).get("key").unwrap().is_none(), "cut {seed}");
        }
    });
}

/// A store that was closed while a key was invalidated: its slot is in the snapshot all the same. Then each call of
/// the opening fails in turn.
fn each_opening_of_what_was_closed_beside_an_invalidation(
    rig: &Rig,
    show: impl Fn(&Rig, &FaultyDisk, Store, u64),
) {
    let (hooked, _, store) = opened(rig);
    let images = images(&store);
    images.insert("key", "value-that-was-purged").unwrap();
    images.insert("other", "value").unwrap();
    let is_first = AtomicBool::new(true);
    hooked.before(move |call, path| {
        let is_written = call == Call::SyncDir && path.ends_with("images");
        if is_written && is_first.swap(false, Ordering::Relaxed) {
            let _ = images.invalidate("key").unwrap();
        }
        Answer::Do
    });
    store.close().unwrap();
    hooked.clear();
    let closed = rig.kill();
    let calls = closed.kill().open_faulty().0.calls();
    for call in 1..=calls {
        let rig = closed.kill();
        let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
        disk.inject(call, Fault::Error(ErrorKind::Other));
        let builder = quiet(Store::builder("/data").disk(disk.clone()), &rig.clock);
        if let Ok(store) = try_open(builder, rig.mapped) {
            show(&rig, &disk, store, call);
        }
    }
}

/// A build without debug assertions asks for the floor of a key only where it has to.
#[test]
fn a_slot_that_could_not_be_looked_at_as_a_snapshot_was_taken_up_shows_nothing_invalidated() {
    each_mode(|rig| {
        each_opening_of_what_was_closed_beside_an_invalidation(rig, |rig, disk, store, call| {
            let Ok(images) = store.existing_keyspace("images") else { return };
            assert!(images.get("key").unwrap().is_none(), "call {call}");
            disk.clear();
            if store.scrub().is_ok() {
                assert!(!rig.on_disk(b"value-that-was-purged"), "call {call}");
                assert!(images.get("key").unwrap().is_none(), "call {call}");
            }
        });
    });
}

/// Before it has been, the store is closed again.
#[test]
fn a_slot_that_could_not_be_looked_at_is_looked_at_after_the_next_close() {
    each_mode(|rig| {
        each_opening_of_what_was_closed_beside_an_invalidation(rig, |rig, disk, store, call| {
            disk.clear();
            if store.close().is_err() {
                return;
            }
            drop(store);
            let store = rig.open();
            assert_eq!(seen(&store, "key"), None, "call {call}");
            store.scrub().unwrap();
            assert!(!rig.on_disk(b"value-that-was-purged"), "call {call}");
        });
    });
}

/// The counts of its segment were in the snapshot before, and its slot was not.
#[test]
fn what_is_invalidated_while_a_snapshot_is_taken_is_erased() {
    let (keys, shard_groups) = (20, 4);
    for key in 0..shard_groups {
        each_mode(|rig| {
            let (hooked, disk, store) = opened(rig);
            let images = images(&store);
            for at in 0..keys {
                images.insert(format!("key-{at}"), format!("value-of-{at}-")).unwrap();
            }
            let inner = images.clone();
            hooked.before(move |call, path| {
                if call == Call::Create && path.ends_with("INDEX") {
                    let images = inner.clone();
                    // Once the first part of the index has been written.
                    disk.interrupt(disk.calls() + 2, move || {
                        let _ = images.invalidate(format!("key-{key}")).unwrap();
                    });
                }
                Answer::Do
            });
            store.close().unwrap();
            hooked.clear();
            let rig = rig.kill();
            let store = rig.open();
            assert_eq!(seen(&store, &format!("key-{key}")), None);
            store.scrub().unwrap();
            assert!(!rig.on_disk(format!("value-of-{key}-").as_bytes()), "key {key}");
            assert!(seen(&store, &format!("key-{}", keys - 1)).is_some());
        });
    }
}

/// One that is just being synced waits to be sealed no more, and a power cut may take it.
#[test]
fn a_snapshot_names_nothing_that_is_still_being_synced() {
    each_mode(|rig| {
        let (hooked, disk, store) = opened(rig);
        let images = images(&store);
        images.insert("key", "old").unwrap();
        store.sync().unwrap();
        let syncing: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
        let moment: Arc<Mutex<Option<MemoryDisk>>> = Arc::default();
        let (thread, noted, memory) = (Arc::clone(&syncing), Arc::clone(&moment), rig.disk.clone());
        let (inside, is_inside) = mpsc::channel::<()>();
        let is_inside = Mutex::new(is_inside);
        let (is_waited_for, writing) = (AtomicBool::new(false), store.clone());
        hooked.before(move |call, path| {
            if call == Call::Create && path.ends_with("INDEX") {
                images.insert("key", "new").unwrap();
                assert_eq!(in_pieces(&images, "other").commit().unwrap(), Outcome::Stored);
                is_waited_for.store(true, Ordering::Relaxed);
                let writing = writing.clone();
                let sync = thread::spawn(move || drop(writing.sync()));
                *thread.lock().unwrap() = Some(sync);
                is_inside.lock().unwrap().recv().unwrap();
            } else if call == Call::Rename
                && is_in(path, ".tmp")
                && is_waited_for.swap(false, Ordering::Relaxed)
            {
                // The other value has its sidecar, and next comes the sync of what was appended to.
                let (inside, noted, memory) = (inside.clone(), Arc::clone(&noted), memory.clone());
                let images = images.clone();
                disk.interrupt(disk.calls() + 1, move || {
                    inside.send(()).unwrap();
                    // The close waits for this; where it does not, it comes to its end.
                    let mut looks = 0..2000;
                    while looks.next().is_some() && images.get("key").is_ok() {
                        thread::yield_now();
                    }
                    *noted.lock().unwrap() = Some(memory.fork());
                });
            }
            Answer::Do
        });
        store.close().unwrap();
        hooked.clear();
        syncing.lock().unwrap().take().unwrap().join().unwrap();
        let then = rig.with(moment.lock().unwrap().take().unwrap());
        for seed in 0..8 {
            assert!(seen(&then.cut(seed).open(), "key").is_some(), "cut {seed}");
        }
    });
}

/// Waits for something for a while, since it may wait for us.
fn wait_for(is_there: impl Fn() -> bool) {
    let mut looks = 0..500;
    while looks.next().is_some() && !is_there() {
        thread::yield_now();
    }
}

/// A keyspace whose oldest segment leaves with the next records that are stored in it, and with it all that a
/// tombstone hides whose log is full.
fn about_to_evict(mapped: bool) -> (Rig, HookedDisk, FaultyDisk, Store) {
    let filled = |count: usize| {
        let rig = Rig::new(mapped);
        let (hooked, disk, store) = opened(&rig);
        let images = sized(&store, CAPACITY);
        images.insert("key", "gone").unwrap();
        images.insert("beside", vec![1; 1500]).unwrap();
        for at in 0..60 {
            let _ = images.invalidate(if at == 0 { "key" } else { "other" }).unwrap();
        }
        let fits = |at: &usize| {
            images.insert(format!("{at}"), vec![2; 1500]).unwrap();
            store.stats().segments_evicted == 0
        };
        let inserted = (0..count).take_while(fits).count();
        store.sync().unwrap();
        (inserted, (rig, hooked, disk, store))
    };
    let (count, _) = filled(100);
    filled(count).1
}

/// What hid a value was forgotten as soon as its segment had left in memory.
#[test]
fn nothing_is_forgotten_of_a_segment_whose_leaving_is_not_durable_yet() {
    for mapped in MODES {
        let (_rig, _, disk, store) = about_to_evict(mapped);
        let before = disk.calls();
        store.maintain().unwrap();
        for call in before + 1..=disk.calls() {
            let (rig, hooked, disk, store) = about_to_evict(mapped);
            let (is_leaving, is_over) =
                (Arc::new(AtomicBool::new(false)), Arc::<AtomicBool>::default());
            let (leaving, over) = (Arc::clone(&is_leaving), Arc::clone(&is_over));
            let has_moved = AtomicBool::new(false);
            hooked.before(move |call, path| {
                if call == Call::Rename && is_in(path, ".seg") {
                    has_moved.store(true, Ordering::Relaxed);
                }
                let is_sync = call == Call::SyncDir && path.ends_with("trash");
                if is_sync && has_moved.swap(false, Ordering::Relaxed) {
                    leaving.store(true, Ordering::Relaxed);
                    wait_for(|| over.load(Ordering::Relaxed));
                }
                Answer::Do
            });
            let images = store.existing_keyspace("images").unwrap();
            let (evicting, is_begun) = mpsc::channel();
            let leaving = Arc::clone(&is_leaving);
            disk.interrupt(call, move || {
                let insert =
                    move || (0..4).for_each(|_| images.insert("4", vec![3; 3000]).unwrap());
                evicting.send(thread::spawn(insert)).unwrap();
                wait_for(|| leaving.load(Ordering::Relaxed));
            });
            store.maintain().unwrap();
            let then = rig.with(rig.disk.fork());
            is_over.store(true, Ordering::Relaxed);
            is_begun.recv().unwrap().join().unwrap();
            for seed in 0..4 {
                assert_eq!(seen(&then.cut(seed).open(), "key"), None, "call {call}, cut {seed}");
            }
        }
    }
}
