//! A read that has found its place, and into the middle of which something else comes: all that has been
//! looked at so far is given up, replaced or dropped before the next call on the disk.

use std::sync::{Arc, Mutex};

use ebbtide::disk::{Fault, FaultyDisk};
use ebbtide::{Level, Lookup, ManualClock, Receipt, Row, RowId, Store};

use crate::fixture::hours;
use crate::rig::{Rig, access, assert_sound, images, put};

/// Longer than what is read before its length is known, so that a get reads twice.
const VALUE: &str = "the value ";
const VALUE_TIMES: usize = 400;
const PAYLOAD: &str = "the payload ";
const PAYLOAD_TIMES: usize = 30;
const NEWER: &str = "what replaced it";

fn value() -> String {
    VALUE.repeat(VALUE_TIMES)
}

fn payload() -> String {
    PAYLOAD.repeat(PAYLOAD_TIMES)
}

/// A store with a value and a row.
struct Scene {
    rig: Rig,
    disk: FaultyDisk,
    store: Store,
    row: RowId,
}

/// How the store has come to hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Just written, and not durable yet.
    Written,
    /// By an earlier process.
    Found,
    /// The same, and compared with their checksums once.
    Compared,
}

impl Scene {
    fn new(mapped: bool, layout: Layout) -> Self {
        let rig = Rig::new(mapped);
        let (disk, store) = rig.open_faulty();
        put(&images(&store), "key", &value(), &["tag"]);
        let row = access(&store).append(Row::anonymous().tag("tag").payload(payload())).unwrap();
        if layout == Layout::Written {
            return Self { rig, disk, store, row };
        }
        store.close().unwrap();
        drop(store);
        let (disk, store) = rig.open_faulty();
        let scene = Self { rig, disk, store, row };
        if layout == Layout::Compared {
            READS.iter().for_each(|read| assert!(!(read.read)(&scene).is_empty()));
        }
        scene
    }
}

/// A way to read, and what it gives.
struct Read {
    name: &'static str,
    read: fn(&Scene) -> Vec<String>,
    /// What it reads.
    given: fn() -> String,
    /// True if that is the payload of the row.
    of_row: bool,
    /// True if what it reads is held at each of its calls on the disk.
    holds: bool,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const READS: [Read; 6] = [
    Read {
        name: "get",
        read: |scene| {
            let value = images(&scene.store).get("key").unwrap();
            value.iter().map(|value| text(value)).collect()
        },
        given: value,
        of_row: false,
        holds: true,
    },
    Read {
        name: "lookup",
        read: |scene| match images(&scene.store).lookup("key").unwrap() {
            Lookup::Fresh(value) | Lookup::Stale(value) => vec![text(&value)],
            Lookup::Absent => Vec::new(),
        },
        given: value,
        of_row: false,
        holds: true,
    },
    Read {
        name: "get of several",
        read: |scene| {
            let values = images(&scene.store).get_many(["another", "key"]).unwrap();
            values.iter().flatten().map(|value| text(value)).collect()
        },
        given: value,
        of_row: false,
        holds: true,
    },
    Read {
        name: "iteration",
        read: |scene| {
            let entries = images(&scene.store).iter().map(Result::unwrap);
            let lengths = entries.map(|entry| entry.stat().value_len());
            let of_len = |len| if len == NEWER.len() as u64 { NEWER.to_owned() } else { value() };
            lengths.map(of_len).collect()
        },
        given: value,
        of_row: false,
        holds: true,
    },
    Read {
        name: "get of a row",
        read: |scene| {
            let row = access(&scene.store).get(scene.row).unwrap();
            row.iter().map(|row| text(row.payload())).collect()
        },
        given: payload,
        of_row: true,
        holds: true,
    },
    Read {
        name: "scan",
        read: |scene| {
            let rows = access(&scene.store).scan(..).unwrap();
            rows.map(|row| text(row.unwrap().payload())).collect()
        },
        given: payload,
        of_row: true,
        // It begins with what segments list, and reads no row meanwhile.
        holds: false,
    },
];

/// What takes the value and the row away, with the receipts for them.
type Event = fn(&Store, &ManualClock) -> Receipts;

#[derive(Default)]
struct Receipts {
    value: Option<Receipt>,
    row: Option<Receipt>,
}

fn forgotten(store: &Store, value: Option<Receipt>) -> Receipts {
    Receipts { value, row: Some(access(store).invalidate_tag("tag").unwrap()) }
}

const REPLACED: &str = "replaced";
const EVENTS: [(&str, Event); 7] = [
    ("purged", |store, _| forgotten(store, Some(images(store).invalidate("key").unwrap()))),
    ("purged by tag", |store, _| {
        forgotten(store, Some(images(store).invalidate_tag("tag").unwrap()))
    }),
    ("purged with everything", |store, _| {
        forgotten(store, Some(images(store).invalidate_all().unwrap()))
    }),
    ("erased", |store, _| {
        let value = images(store).erase("key").commit().unwrap();
        Receipts { value: Some(value), row: Some(access(store).erase_tag("tag").unwrap()) }
    }),
    (REPLACED, |store, _| {
        put(&images(store), "key", NEWER, &[]);
        forgotten(store, None)
    }),
    ("dropped", |store, clock| {
        clock.advance(hours(16));
        assert_eq!(store.drop_expired().unwrap(), 2);
        Receipts::default()
    }),
    ("dropped and freed", |store, clock| {
        clock.advance(hours(16));
        store.maintain().unwrap();
        Receipts::default()
    }),
];

/// What is found in the middle of a read, once the event is over and a scrub has come by.
struct Middle {
    receipt: Option<Receipt>,
    level: Option<Level>,
    is_pinned: bool,
    is_on_disk: bool,
}

/// Reads, and lets the event happen before the call that is so many ahead, if there are so many. The call
/// before that one may give half of what it was asked for.
fn interrupt(
    scene: &Scene,
    read: &Read,
    event: Event,
    (call, is_short): (u64, bool),
) -> (Vec<String>, Option<Middle>) {
    let found = Arc::new(Mutex::new(None));
    let at = scene.disk.calls() + call;
    if is_short {
        scene.disk.inject(at - 1, Fault::Short);
    }
    let (store, rig) = (scene.store.clone(), scene.rig.with(scene.rig.disk.clone()));
    let (told, given, of_row) = (Arc::clone(&found), (read.given)(), read.of_row);
    scene.disk.interrupt(at, move || {
        let receipts = event(&store, &rig.clock);
        store.scrub().unwrap();
        let receipt = if of_row { receipts.row } else { receipts.value };
        *told.lock().unwrap() = Some(Middle {
            level: receipt.as_ref().map(Receipt::level),
            is_pinned: receipt.as_ref().is_some_and(Receipt::pinned),
            receipt,
            is_on_disk: rig.on_disk(given.as_bytes()),
        });
    });
    let shown = (read.read)(scene);
    let middle = found.lock().unwrap().take();
    (shown, middle)
}

fn lengths(shown: &[String]) -> Vec<usize> {
    shown.iter().map(String::len).collect()
}

/// One event at one call of one way to read; false if that makes fewer calls.
fn play(scene: &Scene, read: &Read, (name, event): (&str, Event), at: (u64, bool)) -> bool {
    let Scene { rig, store, .. } = scene;
    let (shown, middle) = interrupt(scene, read, event, at);
    let Some(middle) = middle else {
        assert!(!shown.is_empty() && shown.iter().all(|shown| *shown == (read.given)()));
        return false;
    };
    let is_replaced = name == REPLACED && !read.of_row;
    let may_show = |shown: &String| is_replaced && (shown == NEWER || *shown == (read.given)());
    assert!(shown.iter().all(may_show), "shown, and gone by then: {:?}", lengths(&shown));
    if read.holds && !name.starts_with("dropped") {
        assert!(middle.is_on_disk, "overwritten while it was read");
        assert!(middle.receipt.is_none() || middle.is_pinned, "nobody is said to hold it");
        assert!(middle.level.is_none_or(|level| level == Level::Hidden));
    }
    store.scrub().unwrap();
    store.maintain().unwrap();
    assert!(!rig.on_disk((read.given)().as_bytes()), "nobody holds it any more");
    assert!(middle.receipt.is_none_or(|receipt| receipt.level() >= Level::Scrubbed));
    assert_eq!(store.stats().corrupt_reads, 0, "taken for damage");
    assert_sound(store);
    true
}

#[test]
fn what_goes_in_the_middle_of_a_read_is_shown_whole_or_not_at_all() {
    for (mapped, layout) in [
        (false, Layout::Written),
        (false, Layout::Found),
        (false, Layout::Compared),
        // What is not durable yet is read by position there too.
        (true, Layout::Written),
    ] {
        for event in EVENTS {
            for read in &READS {
                for is_short in [false, true] {
                    let calls = (1..).take_while(|call| {
                        let scene = Scene::new(mapped, layout);
                        println!("{} {layout:?}, {} at {call}, {is_short}", event.0, read.name);
                        play(&scene, read, event, (*call, is_short))
                    });
                    assert!(calls.count() > 0, "{} makes no call", read.name);
                }
            }
        }
    }
}
