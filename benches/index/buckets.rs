//! A table for each bucket with a filter before it; a search asks the filters, newest first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use crate::layout::{Layout, Location};
use crate::line::{Line, SixSlots};
use crate::table::{Table, Tuning};

/// So many segments are one bucket: thirty buckets when a thousand live.
const SEGMENTS_PER_BUCKET: u32 = 34;
/// Bits that a key sets, all in one word.
const FILTER_HASHES: u32 = 4;
const FILTER_BITS_PER_KEY: usize = 12;

#[derive(Debug)]
pub(crate) struct Buckets {
    shards: Vec<RwLock<VecDeque<Bucket>>>,
    first_live: AtomicU32,
    tuning: Tuning,
}

#[derive(Debug)]
struct Bucket {
    number: u32,
    filter: Box<[u64]>,
    table: Table<SixSlots>,
}

impl Bucket {
    /// The word of the filter, and the bits in it.
    fn bits(&self, fingerprint: u64) -> (usize, u64) {
        let mixed = fingerprint.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let word = ((mixed >> 32) * self.filter.len() as u64) >> 32;
        let bits = (0..FILTER_HASHES).map(|at| 1 << (mixed >> (6 * at) & 63));
        (word as usize, bits.fold(0, |all, bit: u64| all | bit))
    }

    fn may_hold(&self, fingerprint: u64) -> bool {
        let (word, bits) = self.bits(fingerprint);
        self.filter.get(word).is_some_and(|word| word & bits == bits)
    }

    fn put(&mut self, fingerprint: u64, location: Location, first_live: u32, tuning: &Tuning) {
        let (_, grew) = self.table.put(fingerprint, location, first_live, tuning);
        if grew {
            let slots = self.table.bytes() / size_of::<SixSlots>() * SixSlots::SLOTS;
            let words = (slots * FILTER_BITS_PER_KEY).div_ceil(64);
            self.filter = vec![0; words].into_boxed_slice();
            for fingerprint in self.table.fingerprints(first_live) {
                let (word, bits) = self.bits(fingerprint);
                self.filter[word] |= bits;
            }
        }
        let (word, bits) = self.bits(fingerprint);
        self.filter[word] |= bits;
    }
}

impl Buckets {
    pub(crate) fn new(tuning: Tuning) -> Self {
        let shards = (0..1 << tuning.shard_bits).map(|_| RwLock::default()).collect();
        Self { shards, first_live: AtomicU32::new(1), tuning }
    }

    fn shard(&self, hash: u64) -> &RwLock<VecDeque<Bucket>> {
        &self.shards[(hash >> (u64::BITS - self.tuning.shard_bits)) as usize]
    }

    fn fingerprint(hash: u64) -> u64 {
        hash & ((1 << SixSlots::FINGERPRINT_BITS) - 1)
    }

    fn first_live(&self) -> u32 {
        self.first_live.load(Ordering::Acquire)
    }
}

fn find(buckets: &VecDeque<Bucket>, fingerprint: u64, live: u32) -> Option<(usize, Location)> {
    let newest_first = buckets.iter().enumerate().rev();
    newest_first
        .filter(|(_, bucket)| bucket.may_hold(fingerprint))
        .find_map(|(at, bucket)| Some((at, bucket.table.get(fingerprint, live)?)))
}

impl Layout for Buckets {
    fn identity_bits(&self) -> u32 {
        self.tuning.shard_bits + SixSlots::FINGERPRINT_BITS
    }

    fn get(&self, hash: u64) -> Option<Location> {
        let shard = self.shard(hash).read();
        find(&shard, Self::fingerprint(hash), self.first_live()).map(|(_, location)| location)
    }

    fn put(&self, hash: u64, location: Location) -> Option<Location> {
        let mut shard = self.shard(hash).write();
        let first_live = self.first_live();
        let fingerprint = Self::fingerprint(hash);
        let number = location.ordinal / SEGMENTS_PER_BUCKET;
        while shard.front().is_some_and(|oldest| oldest.number < first_live / SEGMENTS_PER_BUCKET) {
            shard.pop_front();
        }
        let before = find(&shard, fingerprint, first_live);
        if shard.back().is_none_or(|newest| newest.number < number) {
            shard.push_back(Bucket { number, filter: Box::default(), table: Table::new() });
        }
        let newest = shard.len() - 1;
        if let Some((at, _)) = before
            && at != newest
        {
            shard[at].table.remove(fingerprint, first_live);
        }
        shard[newest].put(fingerprint, location, first_live, &self.tuning);
        before.map(|(_, location)| location)
    }

    fn set_first_live(&self, ordinal: u32) {
        self.first_live.fetch_max(ordinal, Ordering::AcqRel);
    }

    fn memory_bytes(&self) -> u64 {
        let of_bucket = |bucket: &Bucket| bucket.table.bytes() + size_of_val(&*bucket.filter);
        let of_shard = |shard: &VecDeque<Bucket>| {
            shard.iter().map(of_bucket).sum::<usize>() + shard.capacity() * size_of::<Bucket>()
        };
        let tables: usize = self.shards.iter().map(|shard| of_shard(&shard.read())).sum();
        (tables + size_of_val(&*self.shards)) as u64
    }
}
