//! What is measured of a layout, each in a process of its own so that none inherits another's heap.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::layout::{Layout, Location, POSITION_BITS};

/// Live records are spread over so many segments; as many are dropped one after another.
const SEGMENTS: u64 = 1000;
/// How often memory is looked at while the number of keys doubles.
const SAMPLES: u64 = 64;
/// Only puts slower than this can be the worst.
const SLOW: Duration = Duration::from_micros(5);

/// The figures of one run, in the order of the table's columns.
pub(crate) const COLUMNS: &[&str] = &[
    "get, ns",
    "miss, ns",
    "insert while growing, ns",
    "worst insert, µs",
    "replace, ns",
    "B a key, mean from n/2 to n",
    "the same, resident",
    "peak resident, B a key",
    "insert into freed slots, ns",
    "get after 1,000 drops, ns",
    "B a key then",
    "keys that collided",
];

pub(crate) fn measure(new: &dyn Fn() -> Box<dyn Layout>, keys: u64) -> Vec<f64> {
    let mut figures = Vec::new();
    reset_peak();
    let empty = resident_bytes("VmRSS");
    let layout = new();
    let filled = fill(&*layout, keys, empty);
    let peak = resident_bytes("VmHWM").saturating_sub(empty) as f64 / keys as f64;
    let gets = keys.clamp(1_000_000, 3_000_000);
    let mut random = Random(1);
    figures.push(each(gets, || {
        let key = random.below(keys);
        let found = layout.get(hash(key));
        assert!(found.is_some(), "key {key} of {keys} is lost");
    }));
    figures.push(each(gets, || {
        black_box(layout.get(hash(keys + (1 << 40) + random.below(keys))));
    }));
    figures.push(filled.each_ns);
    let replaces = gets.min(keys / 4);
    let replace = each(replaces, || {
        let key = random.below(keys);
        layout.put(hash(key), Location { ordinal: SEGMENTS as u32, ..location(key, keys) });
    });
    figures.push(worst_insert(new, keys).as_secs_f64() * 1e6);
    figures.push(replace);
    figures.extend([filled.mean_bytes, filled.mean_resident, peak]);

    let start = cpu_time();
    for segment in 0..SEGMENTS {
        layout.set_first_live(segment as u32 + 2);
        for key in keys + segment * keys / SEGMENTS..keys + (segment + 1) * keys / SEGMENTS {
            layout.put(hash(key), location(key, keys));
        }
    }
    figures.push(ns(cpu_time() - start, keys));
    figures.push(each(gets, || {
        let key = keys + random.below(keys);
        let found = layout.get(hash(key));
        assert!(found.is_some(), "key {key} of {keys} is lost after drops");
    }));
    figures.push(layout.memory_bytes() as f64 / keys as f64);
    figures.push(filled.collided as f64);
    figures
}

struct Filled {
    each_ns: f64,
    mean_bytes: f64,
    mean_resident: f64,
    collided: u64,
}

fn fill(layout: &dyn Layout, keys: u64, empty: u64) -> Filled {
    let mut collided = 0;
    let mut taken = Duration::ZERO;
    let (mut bytes, mut resident) = (0.0, 0.0);
    let mut put = |range: std::ops::Range<u64>| {
        let start = cpu_time();
        for key in range {
            let before = layout.put(hash(key), location(key, keys));
            collided += u64::from(before.is_some());
        }
        taken += cpu_time() - start;
    };
    put(0..keys / 2);
    let at = |sample: u64| keys / 2 + sample * (keys - keys / 2) / SAMPLES;
    for sample in 0..SAMPLES {
        put(at(sample)..at(sample + 1));
        let present = at(sample + 1) as f64;
        bytes += layout.memory_bytes() as f64 / present;
        resident += resident_bytes("VmRSS").saturating_sub(empty) as f64 / present;
    }
    Filled {
        each_ns: ns(taken, keys),
        mean_bytes: bytes / SAMPLES as f64,
        mean_resident: resident / SAMPLES as f64,
        collided,
    }
}

/// The worst single insert. The same inserts are slow each time, so of three fills an insert's least
/// time counts, which leaves out what other processes did to it.
fn worst_insert(new: &dyn Fn() -> Box<dyn Layout>, keys: u64) -> Duration {
    let mut slow: HashMap<u64, Duration> = slow_inserts(&*new(), keys).into_iter().collect();
    for _ in 0..2 {
        let again: HashMap<u64, Duration> = slow_inserts(&*new(), keys).into_iter().collect();
        slow.retain(|key, _| again.contains_key(key));
        for (key, time) in &mut slow {
            *time = (*time).min(again[key]);
        }
    }
    slow.into_values().max().unwrap_or(SLOW)
}

fn slow_inserts(layout: &dyn Layout, keys: u64) -> Vec<(u64, Duration)> {
    let mut slow = Vec::new();
    let mut last = Instant::now();
    for key in 0..keys {
        layout.put(hash(key), location(key, keys));
        let now = Instant::now();
        if now - last > SLOW {
            slow.push((key, now - last));
        }
        last = now;
    }
    slow
}

/// Nanoseconds that one of so many calls takes.
fn each(times: u64, mut call: impl FnMut()) -> f64 {
    let start = cpu_time();
    for _ in 0..times {
        call();
    }
    ns(cpu_time() - start, times)
}

/// What this thread has had of a processor: others that are busy do not count.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn ns(time: Duration, times: u64) -> f64 {
    time.as_nanos() as f64 / times as f64
}

fn location(key: u64, keys: u64) -> Location {
    let position = (key & ((1 << POSITION_BITS) - 1)) as u32;
    Location { ordinal: 1 + (key * SEGMENTS / keys) as u32, position }
}

/// Steele et al., "Fast splittable pseudorandom number generators" (2014).
fn hash(key: u64) -> u64 {
    let mut z = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.0 >> 32) * end) >> 32
    }
}

fn reset_peak() {
    // Where that is not possible the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn resident_bytes(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}
