//! Shards that one thread fills without locks, while nobody else has the index.

use super::shard::Shard;
use super::shards::Group;
use super::{Census, Change, Index, Location, Window, tag};

/// Some shards that lie side by side.
#[derive(Debug)]
pub(crate) struct Span<'a> {
    first_shard: usize,
    group: &'a mut Group,
    window: Window,
    /// Of the whole index.
    census: &'a Census,
}

impl<'a> Span<'a> {
    pub(super) fn new(
        first_shard: usize,
        group: &'a mut Group,
        window: Window,
        census: &'a Census,
    ) -> Self {
        Self { first_shard, group, window, census }
    }

    /// The first of the shards.
    pub(crate) fn first_shard(&self) -> usize {
        self.first_shard
    }

    /// Changes the slot of a fingerprint, which has its shard in here, and gives what was there before.
    pub(crate) fn change(&mut self, fingerprint: u64, change: Change) -> Option<Location> {
        let at = Index::shard_of(fingerprint);
        let shard = self.group.shard_mut(at.checked_sub(self.first_shard)?)?;
        let window = self.window;
        let put = |shard: &mut Shard| shard.change(tag(fingerprint), window, |_| change);
        self.census.counting(at, shard, put).0
    }
}
