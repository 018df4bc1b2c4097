//! Going through a keyspace.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::error::Result;
use crate::index::{Index, Location};
use crate::value::{Entry, Stat};

/// Iterates over the visible records of a keyspace. See [`Keyspace::iter`](super::Keyspace::iter).
#[derive(Debug)]
pub struct Iter {
    core: Arc<KeyspaceCore>,
    next_shard: usize,
    pending: Vec<(u64, Location)>,
}

impl Iter {
    pub(super) fn new(core: Arc<KeyspaceCore>) -> Self {
        Self { core, next_shard: 0, pending: Vec::new() }
    }

    fn entry(&self, fingerprint: u64, location: Location) -> Result<Option<Entry>> {
        let core = &self.core;
        core.owner.engine.check_open()?;
        let Some((segment, offset)) = core.resolve(location) else { return Ok(None) };
        match segment.read_prefix(offset) {
            Ok(view) => {
                let visible = view.head.hash.fingerprint() == fingerprint
                    && core.judge(&view, &segment)?.is_ok()
                    && core.still_named(fingerprint, location);
                Ok(visible.then(|| Entry::new(Stat::new(view, segment.deadline()))))
            }
            Err(damage) if core.still_named(fingerprint, location) => {
                core.miss(damage, &segment, offset)
            }
            Err(_) => Ok(None),
        }
    }
}

impl Iterator for Iter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            while let Some((fingerprint, location)) = self.pending.pop() {
                if let Some(entry) = self.entry(fingerprint, location).transpose() {
                    return Some(entry);
                }
            }
            let Some(shard) = self.core.index.next_filled(self.next_shard) else {
                // What comes into a shard that has been passed is not gone back to.
                self.next_shard = Index::SHARD_COUNT;
                return None;
            };
            self.pending = self.core.index.shard_entries(shard);
            self.next_shard = shard + 1;
        }
    }
}
