//! Reading commands beside a process that drops, erases and forgets: nothing that is gone is shown, and
//! nothing is taken for damage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ebbtide::disk::FaultyDisk;
use ebbtide::{BootId, Clock, Lookup, ManualClock, Store, StoreBuilder, Timestamp};

use crate::fixture::{MODES, hours, quiet};
use crate::rig::{Rig, access, images, put, row};

/// A clock that lets the other process work at one of its readings: so a reader is interrupted between
/// finding and showing what it found.
#[derive(Debug, Clone)]
struct Interrupted {
    clock: ManualClock,
    left: Arc<AtomicU64>,
    writer: Arc<Writer>,
}

/// The process that writes, and what it does next.
struct Writer {
    store: Store,
    clock: ManualClock,
    step: Step,
    done: AtomicBool,
}

impl Writer {
    fn new(rig: &Rig, step: Step) -> Self {
        let store = rig.open();
        fill(&store);
        // There is a tombstone log that can be forgotten.
        images(&store).invalidate("another").unwrap();
        Self { store, clock: rig.clock.clone(), step, done: AtomicBool::new(false) }
    }

    fn work(&self) {
        (self.step)(&self.store, &self.clock);
        self.done.store(true, Ordering::SeqCst);
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// Something that takes all that is called old away.
type Step = fn(&Store, &ManualClock);

const STEPS: [(&str, Step); 6] = [
    ("purged", |store, _| forget(store)),
    ("purged and scrubbed", |store, _| {
        forget(store);
        store.scrub().unwrap();
    }),
    ("replaced and scrubbed", |store, _| {
        (0..KEYS).for_each(|number| put(&images(store), &key(number), NEW, &["new"]));
        access(store).erase_tag("old").unwrap();
        store.scrub().unwrap();
    }),
    ("dropped", |store, clock| {
        clock.advance(hours(16));
        store.drop_expired().unwrap();
    }),
    ("dropped and freed", |store, clock| {
        clock.advance(hours(16));
        store.maintain().unwrap();
    }),
    ("purged, and the notes forgotten", |store, clock| {
        forget(store);
        for number in 0..60 {
            images(store).invalidate(format!("never-{number}")).unwrap();
        }
        clock.advance(hours(17));
        store.maintain().unwrap();
        store.scrub().unwrap();
        store.maintain().unwrap();
        let stats = &store.stats().keyspaces[0];
        assert_eq!((stats.key_tombstones, stats.tag_tombstones), (0, 0), "some are not forgotten");
    }),
];

const KEYS: u32 = 3;
const OLD: &str = "an old value";
const NEW: &str = "a newer value";

fn key(number: u32) -> String {
    format!("key-{number}")
}

fn forget(store: &Store) {
    images(store).invalidate_tag("old").unwrap();
    images(store).invalidate(key(0)).unwrap();
    access(store).invalidate_tag("old").unwrap();
}

fn fill(store: &Store) {
    for number in 0..KEYS {
        put(&images(store), &key(number), OLD, &["old"]);
        row(&access(store), OLD, &["old"]);
    }
    store.sync().unwrap();
}

impl Clock for Interrupted {
    fn wall(&self) -> Timestamp {
        let before =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if before == Ok(1) {
            self.writer.work();
        }
        self.clock.wall()
    }

    fn boot_ms(&self) -> u64 {
        self.clock.boot_ms()
    }

    fn boot_id(&self) -> BootId {
        self.clock.boot_id()
    }
}

/// All commands that read, one after the other. What is begun after `is_gone` says so shows nothing old.
fn read_everything(store: &Store, is_gone: &dyn Fn() -> bool) {
    let (images, access) =
        (store.existing_keyspace("images").unwrap(), store.existing_log("access").unwrap());
    let shown = |gone: bool, bytes: &[u8]| {
        assert!(bytes == OLD.as_bytes() || bytes == NEW.as_bytes(), "{bytes:?}");
        assert!(!gone || bytes != OLD.as_bytes(), "what is gone is shown");
    };
    for number in 0..KEYS {
        let key = key(number);
        let gone = is_gone();
        images.get(&key).unwrap().iter().for_each(|value| shown(gone, value));
        let gone = is_gone();
        match images.lookup(&key).unwrap() {
            Lookup::Fresh(value) | Lookup::Stale(value) => shown(gone, &value),
            Lookup::Absent => {}
        }
        let gone = is_gone();
        let stat = images.stat(&key).unwrap();
        assert!(!gone || stat.is_none_or(|stat| stat.value_len() != OLD.len() as u64));
        images.explain(&key).unwrap();
    }
    let gone = is_gone();
    let many = images.get_many((0..KEYS).map(key)).unwrap();
    many.iter().flatten().for_each(|value| shown(gone, value));
    let mut iter = images.iter();
    loop {
        let gone = is_gone();
        let Some(entry) = iter.next() else { break };
        assert!(!gone || entry.unwrap().stat().value_len() != OLD.len() as u64, "listed");
    }
    let gone = is_gone();
    let listed = images.list_tag("old").unwrap();
    assert!(!gone || listed.is_empty());
    images.count_tag("old").unwrap();
    let mut scan = access.scan(..).unwrap();
    loop {
        let gone = is_gone();
        let Some(row) = scan.next() else { break };
        let row = row.unwrap();
        shown(gone, row.payload());
        let gone = is_gone();
        access.get(row.id()).unwrap().iter().for_each(|row| shown(gone, row.payload()));
    }
    inspect(store);
}

/// The commands that look at the store itself.
fn inspect(store: &Store) {
    store.stats();
    store.residue().unwrap();
    store.ledger().unwrap();
    store.prove_retention(..).unwrap();
    assert_eq!(store.verify().unwrap().problems, []);
    assert_eq!(store.verify_ledger().unwrap().problems, []);
    assert_eq!(store.problems(), []);
}

fn reader(rig: &Rig, clock: impl Clock + 'static) -> StoreBuilder {
    quiet(Store::builder("/data").disk(rig.disk.clone()), &rig.clock).clock(clock)
}

/// Readers opened before, with walks that are under way, and readers opened after.
#[test]
fn reading_commands_show_nothing_that_is_gone_after_a_drop_a_scrub_and_a_forget() {
    for mapped in MODES {
        for (name, step) in STEPS {
            let rig = Rig::new(mapped);
            let store = rig.open();
            fill(&store);
            println!("{name}, mapped {mapped}");
            let looking = rig.look();
            read_everything(&looking, &|| false);
            let (images, access) = (
                looking.existing_keyspace("images").unwrap(),
                looking.existing_log("access").unwrap(),
            );
            let (mut iter, mut scan) = (images.iter(), access.scan(..).unwrap());
            iter.next().unwrap().unwrap();
            scan.next().unwrap().unwrap();
            let held = images.get(key(1)).unwrap().unwrap();
            step(&store, &rig.clock);
            assert_eq!(held.as_ref(), OLD.as_bytes(), "a value held stays what it was");
            let listed = iter.map(Result::unwrap);
            assert_eq!(listed.filter(|e| e.stat().value_len() == OLD.len() as u64).count(), 0);
            assert_eq!(scan.map(Result::unwrap).count(), 0);
            read_everything(&looking, &|| true);
            read_everything(&rig.look(), &|| true);
            store.maintain().unwrap();
            read_everything(&looking, &|| true);
        }
    }
}

/// Lets the other process come in between at the first, second, third and so on of something that opening and
/// reading take, and fails unless there are so many of them at least.
fn interrupt_each(least: u64, reader: impl Fn(&Rig, &Arc<Writer>, u64) -> StoreBuilder) {
    for (name, step) in STEPS {
        for at in 1.. {
            let rig = Rig::new(at % 2 == 0);
            let writer = Arc::new(Writer::new(&rig, step));
            println!("{name} at {at}");
            let looking = reader(&rig, &writer, at).open_read_only().unwrap();
            read_everything(&looking, &|| writer.is_done());
            if !writer.is_done() {
                assert!(at > least, "{name}: {at}");
                break;
            }
            read_everything(&looking, &|| true);
        }
    }
}

#[test]
fn reading_commands_interrupted_at_the_clock_show_nothing_that_is_gone() {
    interrupt_each(20, |rig, writer, at| {
        let left = Arc::new(AtomicU64::new(at));
        let writer = Arc::clone(writer);
        reader(rig, Interrupted { clock: rig.clock.clone(), left, writer })
    });
}

#[test]
fn reading_commands_interrupted_at_the_disk_show_nothing_that_is_gone() {
    interrupt_each(100, |rig, writer, at| {
        let disk = FaultyDisk::new(Arc::new(rig.disk.clone()));
        let writer = Arc::clone(writer);
        disk.interrupt(at, move || writer.work());
        reader(rig, rig.clock.clone()).disk(disk)
    });
}

/// Both at work all the time, each round a window of its own.
#[test]
fn reading_commands_beside_a_live_process_find_nothing_wrong() {
    for mapped in MODES {
        let rig = Rig::new(mapped);
        let store = rig.open();
        fill(&store);
        let done = AtomicBool::new(false);
        let rounds = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let looking = rig.look();
                    for _ in 0..3 {
                        read_everything(&looking, &|| false);
                    }
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
            for round in 0..60_usize {
                let before = rounds.load(Ordering::SeqCst);
                let (_, step) = STEPS[round % STEPS.len()];
                step(&store, &rig.clock);
                fill(&store);
                if round % 10 == 0 {
                    // Let the reader come this far.
                    while rounds.load(Ordering::SeqCst) == before && !reader.is_finished() {
                        std::thread::yield_now();
                    }
                }
            }
            done.store(true, Ordering::SeqCst);
        });
    }
}
