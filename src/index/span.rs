//! Shards that one thread fills without locks, while nobody else has the index.

use super::shard::Shard;
use super::{Change, Index, Location, Window, counting, tag};
use crate::sync::RwLock;
use crate::sync::atomic::AtomicUsize;

/// Some shards that lie side by side.
#[derive(Debug)]
pub(crate) struct Span<'a> {
    first_shard: usize,
    shards: &'a mut [RwLock<Shard>],
    window: Window,
    /// Of the whole index.
    lines: &'a AtomicUsize,
}

impl<'a> Span<'a> {
    pub(super) fn new(
        first_shard: usize,
        shards: &'a mut [RwLock<Shard>],
        window: Window,
        lines: &'a AtomicUsize,
    ) -> Self {
        Self { first_shard, shards, window, lines }
    }

    /// The first of the shards.
    pub(crate) fn first_shard(&self) -> usize {
        self.first_shard
    }

    /// Changes the slot of a fingerprint, which has its shard in here, and gives what was there before.
    pub(crate) fn change(&mut self, fingerprint: u64, change: Change) -> Option<Location> {
        let at = Index::shard_of(fingerprint).checked_sub(self.first_shard)?;
        let shard = self.shards.get_mut(at)?.get_mut();
        let window = self.window;
        counting(self.lines, shard, |shard| shard.change(tag(fingerprint), window, |_| change)).0
    }
}
