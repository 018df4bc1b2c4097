//! Where records are: a hash map in shards.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock};

use xxhash_rust::xxh3::xxh3_64;

const SHARDS: usize = 256;

/// Where a record is.
#[derive(Clone, Copy)]
pub struct Place {
    pub day: u32,
    /// The offset divided by 8.
    pub position: u32,
}

/// The map's keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type Shard = RwLock<HashMap<u64, Place, BuildHasherDefault<Identity>>>;

pub struct Index {
    shards: Vec<Shard>,
}

impl Index {
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }

    pub fn get(&self, key: &[u8]) -> Option<Place> {
        let hash = xxh3_64(key);
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&hash).copied()
    }

    pub fn put(&self, key: &[u8], place: Place) {
        let hash = xxh3_64(key);
        let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(hash, place);
    }

    pub fn remove(&self, key: &[u8]) {
        let hash = xxh3_64(key);
        self.shard(hash).write().unwrap_or_else(PoisonError::into_inner).remove(&hash);
    }

    fn shard(&self, hash: u64) -> &Shard {
        // The map itself goes by the highest and the lowest bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}
