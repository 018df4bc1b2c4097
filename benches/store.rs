//! How long the engine's operations take, each as a user meets it: an image server that caches
//! renditions and writes an access log.
//!
//! Sizes, popularity and rows are those of real systems, see `tests/data/README.md`; everything is
//! written to real files. Unless said otherwise nothing runs in the background, so that only the
//! call itself is measured.

// The first failure ends a benchmark, and criterion's macros make undocumented functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group};
use ebbtide::{KeyspaceOptions, LogOptions, Row, Store, Timestamp};

use common::access;
use common::cdn::{self, Blobs, key};
use common::fill::{closed_store, killed_store, small_key, small_records};
use common::{
    DAY, MovedClock, Random, Scene, a_month, copy_dir, open_mapped, quiet_store, scratch,
};

/// A cache that is full: for every segment that is begun an old one is evicted.
fn full_cache() -> Scene {
    Scene::with(KeyspaceOptions::new(a_month()).capacity_bytes(1 << 30))
}

/// A group whose operations take long to prepare.
fn slow_group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_secs(1));
    group
}

/// A rendition goes into a full cache: one image after a miss, or many small ones at once, such as
/// thumbnails.
fn insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert");
    let scene = full_cache();
    let mut blobs = Blobs::new(1);
    let mean = (0..10_000).map(|_| blobs.next_len() as u64).sum::<u64>() / 10_000;
    group.throughput(Throughput::Bytes(mean));
    let mut next = 0;
    group.bench_function("one image of a CDN's sizes", |b| {
        b.iter(|| {
            next += 1;
            scene.images.insert(key(next), blobs.next()).unwrap();
        });
    });

    let scene = full_cache();
    let value = common::noise(150);
    let mut next = 0;
    group.throughput(Throughput::Elements(1000));
    group.bench_function("batch of 1,000 records of 150 bytes", |b| {
        b.iter(|| {
            let batch = (next..next + 1000).map(|number| (small_key(number), &value));
            scene.images.insert_batch(batch).unwrap();
            next += 1000;
        });
    });
    group.finish();
}

/// An image server answers from its cache: 10,000 images, asked for by a CDN's popularity, all in
/// the page cache. And it finds that it has to render: a miss.
fn get(c: &mut Criterion) {
    const HELD: u64 = 10_000;
    let dir = scratch();
    let path = dir.path().join("store");
    let store = quiet_store(&path, &MovedClock::default());
    let images = store.keyspace("images", KeyspaceOptions::new(a_month())).unwrap();
    let mut blobs = Blobs::new(2);
    for number in 0..HELD {
        images.insert(key(number), blobs.next()).unwrap();
    }
    store.close().unwrap();
    let asked: Vec<String> = cdn::requests(HELD, 1 << 16, 3).into_iter().map(key).collect();
    let absent: Vec<String> = (HELD..HELD + (1 << 16)).map(key).collect();

    let mut group = c.benchmark_group("get");
    for mode in ["by position", "mapped"] {
        let store = if mode == "mapped" {
            open_mapped(&path)
        } else {
            quiet_store(&path, &MovedClock::default())
        };
        let images = store.existing_keyspace("images").unwrap();
        for (name, keys) in [("hit", &asked), ("miss", &absent)] {
            let mut keys = keys.iter().cycle();
            group.bench_function(BenchmarkId::new(name, mode), |b| {
                b.iter(|| images.get(black_box(keys.next().unwrap())).unwrap());
            });
        }
        store.close().unwrap();
    }
    group.finish();
}

/// An image is deleted or replaced at its origin, and must not be served any more, not even after
/// a power cut: one rendition, or all renditions of it by their tag.
fn invalidate(c: &mut Criterion) {
    const TAGGED: u64 = 10_000;
    let mut group = slow_group(c, "invalidate");
    let scene = Scene::new();
    small_records(&scene.images, 0, 100_000);
    scene.store.sync().unwrap();
    let mut next = 0;
    group.bench_function("one key, durably", |b| {
        b.iter(|| {
            next = (next + 1) % 100_000;
            scene.images.invalidate(small_key(next)).unwrap()
        });
    });

    let scene = Scene::new();
    for number in 0..TAGGED {
        let fill = scene.images.fill(small_key(number)).tag("photo");
        assert_eq!(fill.commit(b"rendition").unwrap(), ebbtide::Outcome::Stored);
    }
    scene.store.sync().unwrap();
    group.bench_function("a tag of 10,000 records, durably", |b| {
        b.iter(|| scene.images.invalidate_tag("photo").unwrap());
    });
    group.finish();
}

/// The day comes on which a month-old day of images must be gone: from the call to the drop being
/// durable. Their space is given back later.
fn drop_bucket(c: &mut Criterion) {
    let mut group = slow_group(c, "drop a bucket");
    for records in [1, 1_000, 50_000] {
        let scene = Scene::new();
        group.bench_function(BenchmarkId::from_parameter(records), |b| {
            b.iter_custom(|iterations| {
                let mut taken = Duration::ZERO;
                for _ in 0..iterations {
                    small_records(&scene.images, 0, records);
                    scene.clock.advance(DAY);
                    scene.store.maintain().unwrap();
                    scene.clock.advance(30 * DAY);
                    let start = Instant::now();
                    assert_eq!(scene.store.drop_expired().unwrap(), 1);
                    taken += start.elapsed();
                    scene.store.maintain().unwrap();
                }
                taken
            });
        });
    }
    group.finish();
}

/// The server is started again, in an orderly way or after it was killed.
fn open(c: &mut Criterion) {
    const RECORDS: u64 = 200_000;
    let dir = scratch();
    let mut group = slow_group(c, "open 200,000 records");
    let clean = dir.path().join("clean");
    closed_store(&clean, RECORDS);
    group.bench_function("after a close", |b| {
        b.iter_batched(|| (), |()| open_quiet(&clean), BatchSize::PerIteration);
    });
    let killed = dir.path().join("killed");
    killed_store(&killed, RECORDS);
    let copy = dir.path().join("copy");
    group.bench_function("after a kill", |b| {
        b.iter_batched(
            || {
                let _ = std::fs::remove_dir_all(&copy);
                copy_dir(&killed, &copy);
            },
            |()| open_quiet(&copy),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn open_quiet(path: &Path) -> Store {
    quiet_store(path, &MovedClock::default())
}

/// Every request leaves a row about a pseudonym, tagged with what was asked for; later all rows are
/// read in time order, say for the month's figures.
fn log(c: &mut Criterion) {
    const ROWS: u64 = 100_000;
    let requests = access::requests();
    let scene = Scene::new();
    let log = scene.store.log("access", LogOptions::new(a_month())).unwrap();
    let now = scene.store.now();
    let rows: Vec<Row> = requests
        .iter()
        .map(|request| {
            let visitor = log.pseudonym(request.client, now).unwrap();
            Row::new(visitor).tag(&request.path).payload(&request.rest)
        })
        .collect();

    let mut group = c.benchmark_group("log");
    group.measurement_time(Duration::from_secs(2)).throughput(Throughput::Elements(1));
    let mut clients = requests.iter().cycle();
    group.bench_function("pseudonym", |b| {
        b.iter(|| log.pseudonym(clients.next().unwrap().client, now).unwrap());
    });
    let mut next = rows.iter().cycle();
    group.bench_function("append one row", |b| {
        b.iter_batched(
            || next.next().unwrap().clone(),
            |row| log.append(row).unwrap(),
            BatchSize::SmallInput,
        );
    });
    let mut next = rows.iter().cycle();
    let mut appender = log.appender();
    group.bench_function("append a row through an appender", |b| {
        b.iter_batched(
            || next.next().unwrap().clone(),
            |row| appender.append(row).unwrap(),
            BatchSize::SmallInput,
        );
    });
    drop(appender);
    group.finish();

    let mut group = slow_group(c, "log");
    let scanned = scene.store.log("scanned", LogOptions::new(a_month())).unwrap();
    let mut appender = scanned.appender();
    let mut random = Random::new(4);
    for number in 0..ROWS {
        let request = &requests[random.below(requests.len() as u64) as usize];
        let at = Timestamp::from_millis(now.as_millis() - 100 * (ROWS - number));
        let visitor = scanned.pseudonym(request.client, at).unwrap();
        let row = Row::new(visitor).tag(&request.path).payload(&request.rest);
        appender.append(row.at(at)).unwrap();
    }
    appender.flush().unwrap();
    scene.store.sync().unwrap();
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("scan 100,000 rows", |b| {
        b.iter(|| scanned.scan(..).unwrap().map(|row| row.unwrap().payload().len()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, insert, get, invalidate, drop_bucket, open, log);

fn main() {
    if common::fill::is_child() {
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
