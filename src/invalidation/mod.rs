//! What is to be invalidated, checked and hashed, before it is known where.

mod course;

use std::sync::Arc;

pub(crate) use course::Covered;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::tombstone::{Reach, Tombstone, TombstoneMode, TombstoneScope};
use crate::hash::KeyedHash;
use crate::options;
use crate::owner::Owned;
use crate::receipt::{Receipt, Target};
use crate::time::Timestamp;

/// The most keys or tags one invalidation takes.
const MAX_HASHES: usize = 1024;

/// One invalidation.
#[derive(Debug)]
pub(crate) struct Invalidation {
    target: Target,
    scope: TombstoneScope,
    mode: TombstoneMode,
    until_ms: u64,
    hashes: Vec<KeyedHash>,
}

impl Invalidation {
    /// Of these keys, all together.
    pub(crate) fn of_keys<K: AsRef<[u8]>>(engine: &Engine, keys: &[K]) -> Result<Self> {
        for key in keys {
            options::check_key(key.as_ref())?;
        }
        let hashes = keys.iter().map(|key| engine.hasher.key(key.as_ref())).collect();
        check_count("keys of an invalidation", engine, keys.len())?;
        Ok(Self::new(Target::Key, TombstoneScope::Keys, hashes))
    }

    /// Of all that carries one of these tags.
    pub(crate) fn of_tags<T: AsRef<[u8]>>(engine: &Engine, tags: &[T]) -> Result<Self> {
        for tag in tags {
            options::check_tag(tag.as_ref())?;
        }
        let hashes = tags.iter().map(|tag| engine.hasher.tag(tag.as_ref())).collect();
        check_count("tags of an invalidation", engine, tags.len())?;
        Ok(Self::new(Target::Tag, TombstoneScope::Tags, hashes))
    }

    /// Of everything.
    pub(crate) fn of_all() -> Self {
        Self::new(Target::All, TombstoneScope::All, Vec::new())
    }

    fn new(target: Target, scope: TombstoneScope, mut hashes: Vec<KeyedHash>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self { target, scope, mode: TombstoneMode::Hard, until_ms: 0, hashes }
    }

    /// Makes stale what it would hide.
    pub(crate) fn softly(self) -> Self {
        Self { mode: TombstoneMode::Soft, ..self }
    }

    /// Denies it too, up to this time. A time that has passed denies nothing.
    pub(crate) fn deny_until(self, until: Option<Timestamp>, now: Timestamp) -> Self {
        match until.filter(|until| *until > now) {
            Some(until) => Self { mode: TombstoneMode::Deny, until_ms: until.as_millis(), ..self },
            None => self,
        }
    }

    /// True if it denies.
    fn denies(&self) -> bool {
        self.mode == TombstoneMode::Deny
    }

    /// Lets a receipt follow what becomes of it in a keyspace or log. What is only stale is not erased.
    fn follow(&self, receipt: Receipt, core: Arc<dyn Owned>) -> Receipt {
        if self.mode == TombstoneMode::Soft {
            let gone_by = core.owner().last_deadline(receipt.sequence());
            return receipt.gone_by_then(gone_by);
        }
        receipt.follow(core)
    }

    /// The durable note of it.
    fn tombstone(&self, reach: Reach, floor: u64, at: Timestamp) -> Tombstone {
        Tombstone {
            scope: self.scope,
            mode: self.mode,
            reach,
            floor,
            at_ms: at.as_millis(),
            until_ms: self.until_ms,
            hashes: self.hashes.clone(),
        }
    }
}

/// An error unless so many fit into one tombstone: it is never split, so that all of it counts or
/// nothing.
fn check_count(what: &'static str, engine: &Engine, count: usize) -> Result<()> {
    Error::check_limit(what, 1, MAX_HASHES as u64, count as u64)?;
    let most = engine.write_side()?.tombstones.most_hashes();
    Error::check_limit(what, 1, most.min(MAX_HASHES) as u64, count as u64)
}
