//! The standard library's map behind the same locks: what one gets without any work. Nothing dead
//! leaves it by itself.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use crate::layout::{Layout, Location};

const SHARD_BITS: u32 = 8;

/// The keys are hashes already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        // The map looks at the topmost bits, which are the same all over a shard.
        self.0 = hash.rotate_left(SHARD_BITS);
    }
}

type Shard = HashMap<u64, u64, BuildHasherDefault<AsIs>>;

pub(crate) struct Map {
    shards: Vec<RwLock<Shard>>,
    first_live: AtomicU32,
}

impl Map {
    pub(crate) fn new() -> Self {
        let shards = (0..1 << SHARD_BITS).map(|_| RwLock::default()).collect();
        Self { shards, first_live: AtomicU32::new(1) }
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[(hash >> (u64::BITS - SHARD_BITS)) as usize]
    }

    fn live(&self, packed: u64) -> Option<Location> {
        let location = Location { ordinal: (packed >> 32) as u32, position: packed as u32 };
        (location.ordinal >= self.first_live.load(Ordering::Acquire)).then_some(location)
    }
}

impl Layout for Map {
    fn identity_bits(&self) -> u32 {
        u64::BITS
    }

    fn get(&self, hash: u64) -> Option<Location> {
        let packed = self.shard(hash).read().get(&hash).copied();
        packed.and_then(|packed| self.live(packed))
    }

    fn put(&self, hash: u64, location: Location) -> Option<Location> {
        let packed = u64::from(location.ordinal) << 32 | u64::from(location.position);
        let before = self.shard(hash).write().insert(hash, packed);
        before.and_then(|packed| self.live(packed))
    }

    /// Goes through the whole map, since nothing else would ever free a place.
    fn set_first_live(&self, ordinal: u32) {
        self.first_live.fetch_max(ordinal, Ordering::AcqRel);
        let chosen = ordinal as usize % 16;
        for shard in self.shards.iter().skip(chosen).step_by(16) {
            shard.write().retain(|_, packed| (*packed >> 32) as u32 >= ordinal);
        }
    }

    fn memory_bytes(&self) -> u64 {
        // Buckets are a power of two, filled to seven eighths, each with a byte of control.
        let bytes = |shard: &Shard| match shard.capacity() {
            0 => 0,
            capacity => (capacity * 8 / 7).next_power_of_two() * 17 + 16,
        };
        let tables: usize = self.shards.iter().map(|shard| bytes(&shard.read())).sum();
        (tables + size_of_val(&*self.shards)) as u64
    }
}
