//! What is to be invalidated, checked and hashed, before it is known where.

use std::sync::Arc;

use crate::denials::Denials;
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
    pub(crate) target: Target,
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

    /// What it names.
    pub(crate) fn scope(&self) -> TombstoneScope {
        self.scope
    }

    /// True if it denies.
    pub(crate) fn denies(&self) -> bool {
        self.mode == TombstoneMode::Deny
    }

    /// Lets a receipt follow what becomes of it in a keyspace or log. What is only stale is not erased.
    pub(crate) fn follow(&self, receipt: Receipt, core: Arc<dyn Owned>) -> Receipt {
        if self.mode == TombstoneMode::Soft {
            let gone_by = core.owner().last_deadline();
            return receipt.gone_by_then(gone_by);
        }
        receipt.follow(core)
    }

    /// The durable note of it.
    pub(crate) fn tombstone(&self, reach: Reach, floor: u64, at: Timestamp) -> Tombstone {
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

    /// Denies in memory. Before the number of the floor is taken: whoever takes a higher one then
    /// meets the denial.
    pub(crate) fn begin_denial(&self, denials: &Denials) {
        if self.denies() {
            denials.begin(self.scope, &self.hashes, self.until_ms);
        }
    }

    /// Keeps the denial if it is durable, and lifts it if not.
    pub(crate) fn end_denial(&self, denials: &Denials, durable: bool) {
        match (self.denies(), durable) {
            (false, _) => {}
            (true, true) => denials.keep(self.scope, &self.hashes, self.until_ms),
            (true, false) => denials.lift(self.scope, &self.hashes, self.until_ms),
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
