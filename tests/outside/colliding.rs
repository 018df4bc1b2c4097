//! Keys of somebody who knows the secret, all of them in one shard of the index, beside keys of chance.

use std::path::Path;
use std::time::{Duration, Instant};

use ebbtide::{KeyspaceOptions, Retention, Store};
use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::fixture::{MODES, clock, open, quiet};

const KEYS: usize = 20_000;
const ROUNDS: usize = 5;
/// Where the key secret stands in STORE, and how long it is.
const SECRET: std::ops::Range<usize> = 52..244;
/// The upper bits of a hash choose the shard.
const SHARD_BITS: u32 = 12;

#[test]
#[ignore = "a rig: see tests/rigs/README.md"]
fn colliding_keys() {
    for mapped in MODES {
        let (mut chosen, mut random) = (Vec::new(), Vec::new());
        let (mut most, mut least) = (0, u64::MAX);
        for _ in 0..ROUNDS {
            let (took, index_bytes) = times(mapped, true);
            chosen.push(took);
            most = most.max(index_bytes);
            let (took, index_bytes) = times(mapped, false);
            random.push(took);
            least = least.min(index_bytes);
        }
        // One shard grows, and not all of them: the keys are what they were to be.
        assert!(most < least, "{most} B for keys of one shard, {least} B for others");
        for (what, of) in [("insert", 0), ("get", 1)] {
            let median = |times: &[[Duration; 2]]| {
                let mut times: Vec<_> = times.iter().map(|times| times[of]).collect();
                times.sort();
                times[ROUNDS / 2]
            };
            let (chosen, random) = (median(&chosen), median(&random));
            let ratio = chosen.as_secs_f64() / random.as_secs_f64();
            println!(
                "mapped {mapped}, {what}: {chosen:.1?} of one shard, {random:.1?} of all: {ratio:.2}"
            );
        }
    }
}

/// How long it takes to insert all keys, and to get them, and what the index takes; every one of them is there.
fn times(mapped: bool, chosen: bool) -> ([Duration; 2], u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = open(quiet(Store::builder(&path), &clock()), mapped);
    let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
    let keys = keys(&path, chosen);
    let begun = Instant::now();
    for key in &keys {
        images.insert(key, b"a small value").unwrap();
    }
    let inserted = begun.elapsed();
    let index_bytes = store.stats().keyspaces[0].index_bytes;
    store.sync().unwrap();
    let begun = Instant::now();
    for key in &keys {
        assert_eq!(images.get(key).unwrap().as_deref(), Some(&b"a small value"[..]));
    }
    ([inserted, begun.elapsed()], index_bytes)
}

fn keys(store: &Path, chosen: bool) -> Vec<[u8; 8]> {
    let file = std::fs::read(store.join("STORE")).unwrap();
    let secret = &file[SECRET];
    let in_shard = |key: &[u8; 8]| xxh3_128_with_secret(key, secret) >> (128 - SHARD_BITS) == 0;
    let all = (0_u64..).map(u64::to_le_bytes);
    all.filter(|key| !chosen || in_shard(key)).take(KEYS).collect()
}
