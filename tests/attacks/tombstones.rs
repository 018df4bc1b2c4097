//! The log of what was invalidated, torn or missing.

use std::cell::Cell;
use std::path::PathBuf;

use ebbtide::{Keyspace, Row, Store};

use crate::fixture::MODES;
use crate::rig::{Rig, access, each_mode, images, put, row, rows, seen, stopped_at_each_call};

/// Where the second copy of all entries begins, and where the first entry stands in each.
const REGION: usize = 2048;
const FIRST_ENTRY: usize = 512;
const ENTRY: usize = 64;

/// A note that takes three entries.
const LATER: [&str; 8] =
    ["later-0", "later-1", "later-2", "later-3", "later-4", "later-5", "later-6", "later-7"];

fn logs(rig: &Rig) -> Vec<PathBuf> {
    let mut logs = rig.files(".log");
    logs.retain(|path| path.starts_with("/data/tombstones"));
    logs
}

/// Values that are purged one by one, others for a later note, and one that is to stay.
fn fill(images: &Keyspace, purged: usize) {
    for number in 0..purged {
        put(images, &format!("purged-{number}"), "value", &[]);
    }
    LATER.iter().for_each(|key| put(images, key, "value", &[]));
    put(images, "kept", "value", &[]);
}

fn assert_purged(store: &Store, purged: usize, what: &str) {
    for number in 0..purged {
        assert_eq!(seen(store, &format!("purged-{number}")), None, "{what}: purged-{number}");
    }
}

/// How many values of the later note are left: all or none.
fn left_of_later(store: &Store, what: &str) -> usize {
    let left = LATER.iter().filter(|key| seen(store, key).is_some()).count();
    assert!(left == 0 || left == LATER.len(), "{what}: {left} of a note");
    left
}

/// Acknowledged notes share a page and a sector with a note that is being written when the power goes.
#[test]
fn a_page_with_acknowledged_tombstones_survives_a_later_group_that_is_torn() {
    let is_acknowledged = Cell::new(false);
    for mapped in MODES {
        for purged in [1, 7, 15] {
            stopped_at_each_call(
                || {
                    let rig = Rig::new(mapped);
                    let (disk, store) = rig.open_faulty();
                    fill(&images(&store), purged);
                    store.sync().unwrap();
                    for number in 0..purged {
                        images(&store).invalidate(format!("purged-{number}")).unwrap();
                    }
                    (rig, disk, store)
                },
                |store| is_acknowledged.set(images(store).invalidate_keys(LATER).is_ok()),
                |rig, what| {
                    let check = |rig: &Rig| {
                        let store = rig.open();
                        assert_purged(&store, purged, what);
                        assert_eq!(seen(&store, "kept").as_deref(), Some("value"), "{what}");
                        let left = left_of_later(&store, what);
                        assert!(left == 0 || !is_acknowledged.get(), "{what}: acknowledged");
                        left
                    };
                    // The device wrote the page without its older part, in one of the two places.
                    for region in [0, REGION] {
                        let torn = rig.kill();
                        torn.change(&logs(rig)[0], |bytes| {
                            let from = region + FIRST_ENTRY;
                            bytes[from..from + (purged + 3) * ENTRY].fill(0x5a);
                        });
                        check(&torn);
                    }
                    let left = check(rig);
                    assert_eq!(check(&rig.cut(0)), left, "{what}: what was seen as gone stays so");
                },
            );
        }
    }
}

/// In both places: then nobody knows what was meant, and nothing older is served.
#[test]
fn acknowledged_tombstones_torn_in_both_places_hide_everything_older() {
    each_mode(|rig| {
        for number in 0..3 {
            let rig = Rig::new(rig.mapped);
            let store = rig.open();
            fill(&images(&store), 3);
            for number in 0..3 {
                images(&store).invalidate(format!("purged-{number}")).unwrap();
            }
            store.sync().unwrap();
            images(&store).invalidate_keys(LATER).unwrap();
            let rig = rig.kill();
            rig.change(&logs(&rig)[0], |bytes| {
                for region in [0, REGION] {
                    let at = region + FIRST_ENTRY + number * ENTRY;
                    bytes[at..at + ENTRY].fill(0x5a);
                }
            });
            for round in 0..3 {
                let store = rig.open();
                assert_purged(&store, 3, "torn");
                assert_eq!((seen(&store, "kept"), left_of_later(&store, "torn")), (None, 0));
                put(&images(&store), "new", "value", &[]);
                assert_eq!(seen(&store, "new").as_deref(), Some("value"), "round {round}");
            }
        }
    });
}

/// After each note in turn, the newest file is lost, also just after it was begun.
#[test]
fn nothing_comes_back_when_the_newest_tombstone_log_is_missing() {
    for mapped in MODES {
        let rig = Rig::new(mapped);
        let store = rig.open();
        fill(&images(&store), 60);
        for number in 0..60 {
            row(&access(&store), &format!("row-{number}"), &[&format!("purged-{number}")]);
        }
        access(&store).append(Row::anonymous().payload("plain")).unwrap();
        store.sync().unwrap();
        let mut most = 0;
        for number in 0..60 {
            images(&store).invalidate(format!("purged-{number}")).unwrap();
            access(&store).invalidate_tag(format!("purged-{number}")).unwrap();
            for stopped in [rig.kill(), rig.cut(0), rig.cut(number)] {
                let files = logs(&stopped);
                most = most.max(files.len());
                let newest = files.last().unwrap();
                ebbtide::disk::Disk::remove_file(&stopped.disk, newest).unwrap();
                for round in 0..2 {
                    let store = stopped.open();
                    assert!(round == 1 || !store.recovery_report().is_clean(), "nobody is told");
                    let left: Vec<u64> = (0..=number)
                        .filter(|n| images(&store).contains(format!("purged-{n}")).unwrap())
                        .collect();
                    assert_eq!(left, [], "after {number}");
                    let left = rows(&access(&store));
                    assert!(
                        left.iter().all(|row| row == "plain" || after(row, number)),
                        "{left:?}"
                    );
                    store.maintain().unwrap();
                }
            }
        }
        assert!(most > 3, "{most} files");
    }
}

/// True if a row is of a later number.
fn after(row: &str, number: u64) -> bool {
    row.strip_prefix("row-").is_some_and(|of| of.parse::<u64>().unwrap() > number)
}
