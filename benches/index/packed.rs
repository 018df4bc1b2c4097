//! Sharded tables of packed lines: slots of 10, 9 and 8 bytes.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use crate::layout::{Layout, Location};
use crate::line::Line;
use crate::table::{Table, Tuning};

#[derive(Debug)]
pub(crate) struct Packed<L> {
    shards: Vec<RwLock<Table<L>>>,
    first_live: AtomicU32,
    tuning: Tuning,
}

impl<L: Line> Packed<L> {
    pub(crate) fn new(tuning: Tuning) -> Self {
        let shards = (0..1 << tuning.shard_bits).map(|_| RwLock::new(Table::new())).collect();
        Self { shards, first_live: AtomicU32::new(1), tuning }
    }

    fn shard(&self, hash: u64) -> &RwLock<Table<L>> {
        &self.shards[(hash >> (u64::BITS - self.tuning.shard_bits)) as usize]
    }

    fn fingerprint(hash: u64) -> u64 {
        hash & ((1 << L::FINGERPRINT_BITS) - 1)
    }

    fn first_live(&self) -> u32 {
        self.first_live.load(Ordering::Acquire)
    }
}

impl<L: Line> Layout for Packed<L> {
    fn identity_bits(&self) -> u32 {
        self.tuning.shard_bits + L::FINGERPRINT_BITS
    }

    fn get(&self, hash: u64) -> Option<Location> {
        self.shard(hash).read().get(Self::fingerprint(hash), self.first_live())
    }

    fn put(&self, hash: u64, location: Location) -> Option<Location> {
        let mut shard = self.shard(hash).write();
        shard.put(Self::fingerprint(hash), location, self.first_live(), &self.tuning).0
    }

    fn set_first_live(&self, ordinal: u32) {
        self.first_live.fetch_max(ordinal, Ordering::AcqRel);
    }

    fn memory_bytes(&self) -> u64 {
        let tables: usize = self.shards.iter().map(|shard| shard.read().bytes()).sum();
        (tables + size_of_val(&*self.shards)) as u64
    }
}
