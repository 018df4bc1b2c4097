//! The shards, in groups that are made once something comes into them: an index of few keys is small.

use std::sync::OnceLock;

use super::SHARDS;
use super::shard::Shard;
use crate::sync::RwLock;

/// Shards that lie side by side: of ten million keys, lines of 2 MB, which stay in a processor's cache
/// while they are filled.
pub(super) const GROUP_SHARDS: usize = 64;
const GROUPS: usize = SHARDS.div_ceil(GROUP_SHARDS);

/// A group, if anything has ever come into it.
#[derive(Debug, Default)]
pub(super) struct Group(OnceLock<Box<[RwLock<Shard>; GROUP_SHARDS]>>);

impl Group {
    fn make(&self) -> &[RwLock<Shard>; GROUP_SHARDS] {
        self.0.get_or_init(|| Box::new(std::array::from_fn(|_| RwLock::new(Shard::default()))))
    }

    /// A shard, by its number in the group, of whoever has the group alone.
    pub(super) fn shard_mut(&mut self, at: usize) -> Option<&mut Shard> {
        self.make();
        Some(self.0.get_mut()?.get_mut(at)?.get_mut())
    }
}

/// All shards of an index.
#[derive(Debug)]
pub(super) struct Shards(Box<[Group; GROUPS]>);

impl Shards {
    /// None of them has been made.
    pub(super) fn new() -> Self {
        Self(Box::new(std::array::from_fn(|_| Group::default())))
    }

    /// A shard to read in: none if its group was never made, so that nothing can be in it.
    pub(super) fn get(&self, at: usize) -> Option<&RwLock<Shard>> {
        self.0.get(at / GROUP_SHARDS)?.0.get()?.get(at % GROUP_SHARDS)
    }

    /// A shard to write to.
    pub(super) fn make(&self, at: usize) -> Option<&RwLock<Shard>> {
        self.0.get(at / GROUP_SHARDS)?.make().get(at % GROUP_SHARDS)
    }

    /// The groups, each with the number of its first shard.
    pub(super) fn groups_mut(&mut self) -> impl Iterator<Item = (usize, &mut Group)> {
        (0..).step_by(GROUP_SHARDS).zip(self.0.iter_mut())
    }

    /// The shards of all groups that were made.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RwLock<Shard>> {
        self.0.iter().filter_map(|group| group.0.get()).flat_map(|group| group.iter())
    }

    /// Bytes of memory they take, without their lines.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0) + self.iter().count() * size_of::<RwLock<Shard>>()
    }
}
