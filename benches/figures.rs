//! The ratios that the project promises, measured: what takes constant time, and what costs little
//! more than the bare system calls. Prints one table; `--quick` takes fewer rounds, and names of
//! figures, such as `drop` or `insert`, choose among them.
//!
//! Both sides of a ratio are measured in turn in one run, on the same disk and in the same state,
//! so that a slow or busy machine slows down both. Nothing is asserted.

// The first failure ends a benchmark.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ebbtide::{Keyspace, KeyspaceOptions, Outcome};

use common::cdn::key;
use common::fill::{closed_store, killed_store, small_key, small_records};
use common::report::{Report, Rounds, dirty_megabytes, in_turn, median, time};
use common::{DAY, MovedClock, Scene, a_month, copy_dir, noise, open_mapped, quiet_store, scratch};

const MINUTE: Duration = Duration::from_secs(60);
const MILLION: u64 = 1_000_000;
/// An image of a usual size.
const IMAGE: usize = 24 * 1024;

/// A figure: takes so many rounds and adds lines to the report.
type Figure = fn(&mut Report, usize);

const FIGURES: &[(&str, Figure)] = &[
    ("drop", drop_of_a_bucket),
    ("invalidate", invalidation),
    ("invalidate-tag", invalidation_of_a_tag),
    ("tags", reading_beside_tag_floors),
    ("insert", insertion),
    ("batch", small_batches),
    ("get", reading),
    ("open", opening),
];

fn main() {
    if common::fill::is_child() {
        return;
    }
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let rounds = if args.iter().any(|arg| arg == "--quick") { 3 } else { 15 };
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let mut report = Report::default();
    for (name, figure) in FIGURES {
        if wanted.is_empty() || wanted.contains(&&(*name).to_owned()) {
            figure(&mut report, rounds);
        }
    }
    report.print(scratch().path());
}

/// Stores so many small records and lets a month go by, less a minute.
fn fill_until_due(scene: &Scene, records: u64) {
    small_records(&scene.images, 0, records);
    let bucket = scene.store.stats().keyspaces[0].buckets[0].clone();
    // The day is over: its last segment is sealed.
    scene.clock.advance(DAY);
    scene.store.maintain().unwrap();
    scene.clock.advance(bucket.deadline.since(scene.store.now()) - MINUTE);
    scene.store.maintain().unwrap();
    assert!(scene.images.get(small_key(0)).unwrap().is_some());
}

/// From the moment a bucket is due to its being gone for good: with a million records and with one.
fn drop_of_a_bucket(report: &mut Report, rounds: usize) {
    let (many, one) = (Scene::new(), Scene::new());
    let drop_due = |scene: &Scene| {
        let taken = time(|| {
            scene.clock.advance(2 * MINUTE);
            assert_eq!(scene.store.drop_expired().unwrap(), 1);
            assert!(scene.images.get(small_key(0)).unwrap().is_none());
        });
        assert!(scene.store.stats().keyspaces[0].buckets.is_empty());
        scene.store.maintain().unwrap();
        taken
    };
    let mut times = Rounds::default();
    for _ in 0..rounds {
        let pair = in_turn(
            3,
            || {
                fill_until_due(&many, MILLION);
                drop_due(&many)
            },
            || {
                fill_until_due(&one, 1);
                drop_due(&one)
            },
        );
        times.push(pair);
    }
    let what = "drop of a bucket of 1,000,000 records";
    report.add(what, "of one record", &times, 1, Some(1.5));
}

/// A file as a tombstone log is one: of fixed length, written with zeros beforehand.
struct Bare {
    file: File,
    next: u64,
}

impl Bare {
    const LEN: u64 = 1 << 20;

    fn new(path: &Path) -> Self {
        let file = File::create_new(path).unwrap();
        file.write_all_at(&vec![0; Self::LEN as usize], 0).unwrap();
        file.sync_all().unwrap();
        Self { file, next: 0 }
    }

    /// Writes 64 bytes at two places and waits until they are on the disk.
    fn overwrite(&mut self) {
        let entry = [0xa5; 64];
        for half in [0, Self::LEN / 2] {
            self.file.write_all_at(&entry, half + self.next).unwrap();
        }
        self.file.sync_data().unwrap();
        self.next = (self.next + 64) % (Self::LEN / 2);
    }
}

/// A durable invalidation against the least that durability costs, on an idle disk and while half a
/// gigabyte of images waits to be written.
fn invalidation(report: &mut Report, rounds: usize) {
    const PAIRS: usize = 51;
    let scene = Scene::new();
    let mut bare = Bare::new(&scene.dir().join("bare"));
    let mut keys = 0;
    let mut round = || {
        in_turn(
            PAIRS,
            || {
                keys += 1;
                time(|| scene.images.invalidate(small_key(keys)).unwrap())
            },
            || time(|| bare.overwrite()),
        )
    };
    let _ = round();
    let mut idle = Rounds::default();
    for _ in 0..rounds {
        idle.push(round());
    }
    let against = "64 bytes at two places, fdatasync";
    report.add("durable invalidation", against, &idle, 1, Some(2.0));

    let blob = noise(IMAGE);
    let mut busy = Rounds::default();
    let mut waiting = Vec::new();
    for _ in 0..rounds {
        for number in 0..(512 << 20) / IMAGE as u64 {
            scene.images.insert(key(number), &blob).unwrap();
        }
        busy.push(round());
        waiting.extend(dirty_megabytes());
        scene.empty();
    }
    let what = "durable invalidation while 512 MiB wait";
    report.add(what, "the same, while 512 MiB wait", &busy, 1, Some(2.0));
    if !waiting.is_empty() {
        let figure = format!("{} MB", median(&waiting));
        report.note("waiting in the page cache after those", &figure);
    }
}

/// Hiding all renditions of an image, when there are many and when there is one. Both images are in
/// the store, and both calls come after the same: a sync, and an invalidation of something else, so
/// that neither pays for what the disk had to do before.
fn invalidation_of_a_tag(report: &mut Report, rounds: usize) {
    let scene = Scene::new();
    let store = |tag: &str, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let fill = scene.images.fill(small_key(number)).tag(tag);
            assert_eq!(fill.commit(b"rendition").unwrap(), Outcome::Stored);
        }
    };
    let hide = |tag: &str| time(|| scene.images.invalidate_tag(tag).unwrap());
    let mut times = Rounds::default();
    for round in 0..rounds as u64 {
        // The tags were not invalidated before: that is the dearer case.
        let [many, one, other] = ["many", "one", "other"].map(|n| format!("{n}-{round}"));
        store(&many, 0..MILLION);
        store(&one, MILLION..MILLION + 1);
        scene.store.sync().unwrap();
        hide(&other);
        let (of_many, of_one) = if round % 2 == 0 {
            let of_many = hide(&many);
            (of_many, hide(&one))
        } else {
            let of_one = hide(&one);
            (hide(&many), of_one)
        };
        times.push((of_many, of_one));
        for number in [0, MILLION - 1, MILLION] {
            assert!(scene.images.get(small_key(number)).unwrap().is_none());
        }
    }
    let what = "invalidation of a tag of 1,000,000 records";
    report.add(what, "of one record", &times, 1, Some(1.5));
}

/// Reading while 100,000 other tags are invalidated, and while none is.
fn reading_beside_tag_floors(report: &mut Report, rounds: usize) {
    const HELD: u64 = 4096;
    const FLOORS: u64 = 100_000;
    let dir = scratch();
    let make = |name: &str, floors: u64| {
        let path = dir.path().join(name);
        let store = quiet_store(&path, &MovedClock::default());
        let images = store.keyspace("images", KeyspaceOptions::new(a_month())).unwrap();
        for tags in [0, 1, 16] {
            for number in 0..HELD {
                let mut fill = images.fill(tagged_key(number, tags));
                for tag in 0..tags {
                    fill = fill.tag(format!("tag-{}-{tag}", number / 8));
                }
                assert_eq!(fill.commit(b"rendition").unwrap(), Outcome::Stored);
            }
        }
        let other_tags: Vec<String> = (0..floors).map(|number| format!("other-{number}")).collect();
        for tags in other_tags.chunks(1000) {
            images.invalidate_tags(tags).unwrap();
        }
        store.close().unwrap();
        path
    };
    let (beside, alone) = (make("beside", FLOORS), make("alone", 0));
    let (beside, alone) = (open_mapped(&beside), open_mapped(&alone));
    let [beside, alone] = [&beside, &alone].map(|store| store.existing_keyspace("images").unwrap());
    for tags in [0, 1, 16] {
        let keys: Vec<String> =
            (0..16 * HELD).map(|number| tagged_key(number * 7919 % HELD, tags)).collect();
        let from = |images: &Keyspace| {
            time(|| keys.iter().filter_map(|key| black_box(images.get(key).unwrap())).count())
        };
        let _ = (from(&beside), from(&alone));
        let mut times = Rounds::default();
        for _ in 0..rounds {
            times.push(in_turn(2, || from(&beside), || from(&alone)));
        }
        let what = format!("hit of a record with {tags} tags, 100,000 others invalidated");
        report.add(&what, "none invalidated", &times, keys.len() as u32, None);
    }
}

fn tagged_key(number: u64, tags: u64) -> String {
    format!("{}-{tags}", key(number))
}

/// Images into a cache against the same bytes into a plain file: of 24 KiB, and of a length that
/// lets the plain file's writes begin in the middle of a page, as those of most images would.
fn insertion(report: &mut Report, rounds: usize) {
    insertion_of(report, rounds, IMAGE, "insert of 24 KiB", Some(1.5));
    insertion_of(report, rounds, IMAGE - 77, "insert of 24,499 bytes", None);
}

/// Neither side is synced, and the file has been made before.
fn insertion_of(report: &mut Report, rounds: usize, len: usize, what: &str, goal: Option<f64>) {
    let count = (256 << 20) / len as u64;
    let scene = Scene::new();
    let path = scene.dir().join("plain");
    let blob = noise(len);
    let mut ours = || {
        scene.images.insert(key(count), &blob).unwrap();
        let taken = time(|| {
            for number in 0..count {
                scene.images.insert(key(number), black_box(&blob)).unwrap();
            }
        });
        scene.empty();
        taken
    };
    let mut plain = || {
        let file = File::create_new(&path).unwrap();
        file.write_all_at(&blob, 0).unwrap();
        let taken = time(|| {
            for number in 1..=count {
                file.write_all_at(black_box(&blob), number * len as u64).unwrap();
            }
        });
        std::fs::remove_file(&path).unwrap();
        taken
    };
    let _ = (ours(), plain());
    let mut times = Rounds::default();
    for _ in 0..rounds {
        times.push(in_turn(2, &mut ours, &mut plain));
    }
    report.add(what, "pwrite of the same bytes", &times, count as u32, goal);
}

/// Small records in batches of 1,000 against the same keys and values, put together and written.
fn small_batches(report: &mut Report, rounds: usize) {
    const BATCHES: u64 = 500;
    const BATCH: u64 = 1000;
    let scene = Scene::new();
    let path = scene.dir().join("plain");
    let value = noise(150);
    let batch = |number: u64| number * BATCH..(number + 1) * BATCH;
    let mut ours = || {
        scene.images.insert(key(0), &value).unwrap();
        let taken = time(|| {
            for number in 0..BATCHES {
                let items = batch(number).map(|number| (small_key(number), &value));
                scene.images.insert_batch(items).unwrap();
            }
        });
        scene.empty();
        taken
    };
    let mut plain = || {
        let file = File::create_new(&path).unwrap();
        let mut bytes = Vec::new();
        let mut end = 0;
        let taken = time(|| {
            for number in 0..BATCHES {
                bytes.clear();
                for number in batch(number) {
                    bytes.extend_from_slice(&small_key(number));
                    bytes.extend_from_slice(&value);
                }
                file.write_all_at(&bytes, end).unwrap();
                end += bytes.len() as u64;
            }
        });
        std::fs::remove_file(&path).unwrap();
        taken
    };
    let _ = (ours(), plain());
    let mut times = Rounds::default();
    for _ in 0..rounds {
        times.push(in_turn(2, &mut ours, &mut plain));
    }
    let what = "record of 150 bytes in a batch of 1,000";
    report.add(what, "pwrite of keys and values", &times, (BATCHES * BATCH) as u32, None);
}

/// What a hand-made cache would be: one file, and a table of where things are.
struct Plain {
    file: File,
    places: HashMap<String, (u64, usize)>,
}

impl Plain {
    fn new(path: &Path, blob: &[u8], count: u64) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let mut places = HashMap::new();
        for number in 0..count {
            let offset = number * blob.len() as u64;
            file.write_all_at(blob, offset).unwrap();
            places.insert(key(number), (offset, blob.len()));
        }
        Self { file, places }
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let (offset, len) = *self.places.get(key)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        Some(bytes)
    }
}

/// Images that are in the page cache, against a hand-made cache.
fn reading(report: &mut Report, rounds: usize) {
    const HELD: u64 = 4096;
    let dir = scratch();
    let blob = noise(IMAGE);
    let fill = |path: &Path| {
        let store = quiet_store(path, &MovedClock::default());
        let images = store.keyspace("images", KeyspaceOptions::new(a_month())).unwrap();
        for number in 0..HELD {
            images.insert(key(number), &blob).unwrap();
        }
        store.close().unwrap();
    };
    let (by_position, mapped) = (dir.path().join("by-position"), dir.path().join("mapped"));
    fill(&by_position);
    fill(&mapped);
    let plain = Plain::new(&dir.path().join("plain"), &blob, HELD);
    let by_position = quiet_store(&by_position, &MovedClock::default());
    let mapped = open_mapped(&mapped);
    let asked: Vec<String> = (0..4 * HELD).map(|number| key(number * 7919 % HELD)).collect();
    let absent: Vec<String> = (HELD..5 * HELD).map(key).collect();
    let each = asked.len() as u32;

    let from_plain =
        |keys: &[String]| time(|| keys.iter().filter_map(|key| black_box(plain.get(key))).count());
    for (name, store) in [("by position", &by_position), ("mapped", &mapped)] {
        let images = store.existing_keyspace("images").unwrap();
        let from_ours = |keys: &[String]| {
            time(|| keys.iter().filter_map(|key| black_box(images.get(key).unwrap())).count())
        };
        let _ = (from_ours(&asked), from_plain(&asked));
        for (what, keys) in [("hit of 24 KiB", &asked), ("miss", &absent)] {
            let mut times = Rounds::default();
            for _ in 0..rounds {
                times.push(in_turn(2, || from_ours(keys), || from_plain(keys)));
            }
            report.add(&format!("{what}, {name}"), "hash map and pread", &times, each, None);
        }
    }
    let images = mapped.existing_keyspace("images").unwrap();
    let mut times = Rounds::default();
    for _ in 0..rounds {
        times.push((read_all(&images, &asked), read_all_plain(&plain, &asked)));
    }
    let what = "hit of 24 KiB, mapped, all bytes looked at";
    report.add(what, "hash map and pread, the same", &times, each, None);
}

fn read_all(images: &Keyspace, keys: &[String]) -> Duration {
    time(|| {
        keys.iter().map(|key| sum(&images.get(key).unwrap().unwrap())).fold(0, u64::wrapping_add)
    })
}

fn read_all_plain(plain: &Plain, keys: &[String]) -> Duration {
    time(|| keys.iter().map(|key| sum(&plain.get(key).unwrap())).fold(0, u64::wrapping_add))
}

/// Looks at every byte, eight at a time.
fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).fold(0, u64::wrapping_add)
}

/// A million small records: how fast they are there again, and how much memory they take.
fn opening(report: &mut Report, rounds: usize) {
    let dir = scratch();
    let (clean, killed) = (dir.path().join("clean"), dir.path().join("killed"));
    closed_store(&clean, MILLION);
    killed_store(&killed, MILLION);
    let copy = dir.path().join("copy");
    let open = |path: &Path| {
        let start = Instant::now();
        let store = quiet_store(path, &MovedClock::default());
        let taken = start.elapsed();
        assert!(store.recovery_report().is_clean());
        let images = store.existing_keyspace("images").unwrap();
        assert!(images.get(small_key(MILLION - 1)).unwrap().is_some());
        (store, taken)
    };
    let mut times = Rounds::default();
    for _ in 0..rounds {
        copy_dir(&killed, &copy);
        let (store, after_kill) = open(&copy);
        drop(store);
        std::fs::remove_dir_all(&copy).unwrap();
        let (store, after_close) = open(&clean);
        store.close().unwrap();
        times.push((after_kill, after_close));
    }
    let what = "open of 1,000,000 records after a kill";
    report.add(what, "after a close", &times, 1, None);
    let (store, _) = open(&clean);
    let stats = store.stats();
    let keyspace = &stats.keyspaces[0];
    let per_key = keyspace.index_bytes as f64 / keyspace.keys as f64;
    report.note("memory of the index for a key, of 1,000,000", &format!("{per_key:.1} bytes"));
}
