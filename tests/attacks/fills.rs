//! Fills that come late: their bytes must not take the place of what is newer, nor that of what is gone.

use std::io::Write;

use ebbtide::{Fill, Keyspace, Outcome, Store};

use crate::fixture::{hours, minutes};
use crate::rig::{Rig, assert_sound, each_mode, images, options, put, seen};

const LATE: &str = "bytes that were asked for before";

/// How a fill ends: with a value in one piece, or in pieces that lie on the disk before it is committed.
type Finish = fn(Fill) -> Outcome;

fn at_once(fill: Fill) -> Outcome {
    fill.commit(LATE).unwrap()
}

fn in_pieces(fill: Fill) -> Outcome {
    let mut writer = fill.memory_limit_bytes(1).into_writer().unwrap();
    LATE.as_bytes().chunks(5).for_each(|piece| writer.write_all(piece).unwrap());
    writer.commit().unwrap()
}

fn each_finish(attack: impl Fn(&Rig, Finish)) {
    for finish in [at_once, in_pieces] as [Finish; 2] {
        each_mode(|rig| attack(rig, finish));
    }
}

/// A fill that may take as long as a fill may.
fn slow(images: &Keyspace) -> Fill {
    images.fill("key").tag("tag").time_limit(hours(24))
}

fn assert_gone(store: &Store) {
    assert_eq!(seen(store, "key"), None);
}

/// Everything is done to have the note forgotten: nothing is left that it could hide, its file is full,
/// and upkeep runs for hours.
#[test]
fn a_fill_begun_before_a_purge_is_not_stored_though_the_tombstone_could_be_forgotten() {
    let purges: [fn(&Keyspace); 4] = [
        |images| drop(images.invalidate("key").unwrap()),
        |images| drop(images.invalidate_tag("tag").unwrap()),
        |images| drop(images.invalidate_all().unwrap()),
        |images| drop(images.invalidate_tag_soft("tag").unwrap()),
    ];
    for purge in purges {
        each_finish(|rig, finish| {
            let store = rig.open();
            let fill = slow(&images(&store));
            purge(&images(&store));
            for round in 0..20 {
                for number in 0..10 {
                    images(&store).invalidate(format!("other-{number}")).unwrap();
                }
                if round % 4 == 0 {
                    put(&images(&store), "another", "value", &[]);
                }
                rig.clock.advance(hours(1));
                store.maintain().unwrap();
                store.scrub().unwrap();
            }
            assert_eq!(finish(fill), Outcome::Superseded);
            rig.everywhere(&store, assert_gone);
            store.maintain().unwrap();
            assert!(!rig.on_disk(LATE.as_bytes()));
            // Once nothing is under way, all of them may go.
            clear(rig, &store);
        });
    }
}

/// When nothing is left, notes are forgotten, and what comes then is stored.
fn clear(rig: &Rig, store: &Store) {
    rig.clock.advance(hours(17));
    store.maintain().unwrap();
    let stats = &store.stats().keyspaces[0];
    assert_eq!((stats.key_tombstones, stats.tag_tombstones), (0, 0));
    put(&images(store), "key", "new", &["tag"]);
    assert_eq!(seen(store, "key").as_deref(), Some("new"));
    assert_sound(store);
}

/// The numbers of fills that were under way when the process died are not given out again, and what
/// they had written is removed.
#[test]
fn a_fill_that_died_with_its_process_leaves_nothing() {
    each_mode(|rig| {
        let store = rig.open();
        let mut writer = slow(&images(&store)).memory_limit_bytes(1).into_writer().unwrap();
        writer.write_all(LATE.as_bytes()).unwrap();
        let begun = images(&store).fill("key").sequence();
        images(&store).invalidate("key").unwrap();
        for stopped in [rig.kill(), rig.cut(0), rig.cut(1)] {
            let store = stopped.open();
            assert_gone(&store);
            assert!(!stopped.on_disk(LATE.as_bytes()));
            assert!(images(&store).fill("key").sequence() > begun);
        }
        drop(writer);
    });
}

#[test]
fn an_older_fill_does_not_overtake_a_newer_insert() {
    each_finish(|rig, finish| {
        for pause in [minutes(0), minutes(90)] {
            let rig = Rig::new(rig.mapped);
            let store = rig.open();
            let fills = [slow(&images(&store)), slow(&images(&store))];
            put(&images(&store), "key", "newer", &["tag"]);
            store.sync().unwrap();
            // In the segment of the insert, and in a later one, where it would win by its place.
            rig.clock.advance(pause);
            store.maintain().unwrap();
            let check = |store: &Store| assert_eq!(seen(store, "key").as_deref(), Some("newer"));
            for fill in fills {
                assert_eq!(finish(fill), Outcome::Superseded);
                store.sync().unwrap();
                rig.everywhere(&store, check);
            }
            store.scrub().unwrap();
            assert!(!rig.on_disk(LATE.as_bytes()));
            assert_eq!(store.stats().superseded, 2);
            assert_sound(&store);
        }
    });
}

/// The winner is gone in all ways in which it can be, and the fill comes before or after.
#[test]
fn a_superseded_fill_does_not_surface_when_the_winners_bucket_leaves() {
    for before in [false, true] {
        each_finish(|rig, finish| {
            let store = rig.open();
            let fill = slow(&images(&store));
            put(&images(&store), "key", "newer", &[]);
            rig.clock.advance(hours(3));
            store.maintain().unwrap();
            let mut fill = Some(fill);
            if before {
                assert_eq!(finish(fill.take().unwrap()), Outcome::Superseded);
            }
            store.sync().unwrap();
            // A later bucket lives on, and in it would the bytes of the fill.
            put(&images(&store), "other", "value", &[]);
            store.sync().unwrap();
            rig.clock.advance(hours(13));
            store.maintain().unwrap();
            assert_eq!(
                rig.files(".seg").len(),
                1,
                "the winner's bucket has left, the other has not"
            );
            if let Some(fill) = fill {
                assert_eq!(finish(fill), Outcome::Superseded);
            }
            rig.everywhere(&store, assert_gone);
            store.scrub().unwrap();
            store.maintain().unwrap();
            assert!(!rig.on_disk(LATE.as_bytes()));
        });
    }
}

/// The same where the winner's segment was given up for want of room.
#[test]
fn a_superseded_fill_does_not_surface_when_the_winners_segment_was_evicted() {
    each_finish(|rig, finish| {
        let store = rig.open();
        let options = options().segment_bytes(4096).capacity_bytes(128 * 1024);
        let keyspace = store.keyspace("images", options).unwrap();
        let fills = [slow(&keyspace), slow(&keyspace)];
        put(&keyspace, "key", "newer", &[]);
        let [early, late] = fills;
        assert_eq!(finish(early), Outcome::Superseded);
        for number in 0..200 {
            put(&keyspace, &format!("other-{number}"), &"x".repeat(1000), &[]);
        }
        assert!(store.stats().segments_evicted > 0);
        assert_gone(&store);
        assert_eq!(finish(late), Outcome::Superseded);
        store.sync().unwrap();
        rig.everywhere(&store, assert_gone);
        assert!(!rig.on_disk(LATE.as_bytes()));
    });
}
