//! What is denied: keys and tags of which nothing new is taken before some time.
//!
//! Without denials, asking costs one load.

use crate::sync::atomic::{AtomicU64, Ordering};

use crate::format::tombstone::{Tombstone, TombstoneMode, TombstoneScope};
use crate::hash::KeyedHash;
use crate::keyed_map::KeyedMap;
use crate::sync::RwLock;

/// The denials of a keyspace, or of all keyspaces of a store.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    maps: RwLock<Maps>,
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct Maps {
    keys: DenialMap,
    tags: DenialMap,
}

type DenialMap = KeyedMap<Denial>;

#[derive(Debug, Default)]
struct Denial {
    /// Up to when it is denied, durably; 0 if not at all.
    until_ms: u64,
    /// The same of denials that are not durable yet.
    pending: Vec<u64>,
}

impl Denial {
    fn until_ms(&self) -> u64 {
        self.pending.iter().copied().max().unwrap_or(0).max(self.until_ms)
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.pending.is_empty() && self.until_ms <= now_ms
    }

    fn take_pending(&mut self, until_ms: u64) {
        if let Some(at) = self.pending.iter().position(|pending| *pending == until_ms) {
            self.pending.swap_remove(at);
        }
    }
}

/// How many denials there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DenialCounts {
    pub(crate) keys: u64,
    pub(crate) tags: u64,
}

impl Denials {
    /// Denies in memory; [`Denials::keep`] or [`Denials::lift`] must follow.
    pub(crate) fn begin(&self, scope: TombstoneScope, hashes: &[KeyedHash], until_ms: u64) {
        self.change(scope, hashes, |denial| denial.pending.push(until_ms));
    }

    /// Notes that a denial is durable. None is ever shortened.
    pub(crate) fn keep(&self, scope: TombstoneScope, hashes: &[KeyedHash], until_ms: u64) {
        self.change(scope, hashes, |denial| {
            denial.take_pending(until_ms);
            denial.until_ms = denial.until_ms.max(until_ms);
        });
    }

    /// Remembers what a tombstone on disk denies.
    pub(crate) fn recall(&self, tombstone: &Tombstone) {
        if tombstone.mode == TombstoneMode::Deny {
            self.keep(tombstone.scope, &tombstone.hashes, tombstone.until_ms);
        }
    }

    /// Takes back a denial that could not be made durable.
    pub(crate) fn lift(&self, scope: TombstoneScope, hashes: &[KeyedHash], until_ms: u64) {
        self.change(scope, hashes, |denial| denial.take_pending(until_ms));
        self.forget_until(0);
    }

    /// True if nothing is denied.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Up to when this key, or something that carries these tags, is denied.
    pub(crate) fn until(
        &self,
        key: Option<KeyedHash>,
        tags: &[KeyedHash],
        now_ms: u64,
    ) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let maps = self.maps.read();
        let key = key.and_then(|key| maps.keys.get(&key));
        let tags = tags.iter().filter_map(|tag| maps.tags.get(tag));
        tags.chain(key).map(Denial::until_ms).filter(|until_ms| *until_ms > now_ms).max()
    }

    /// Forgets what is denied no longer.
    pub(crate) fn forget_until(&self, now_ms: u64) {
        let mut maps = self.maps.write();
        maps.keys.retain(|_, denial| !denial.is_over(now_ms));
        maps.tags.retain(|_, denial| !denial.is_over(now_ms));
        self.recount(&maps);
    }

    /// How many keys and tags are denied.
    pub(crate) fn counts(&self, now_ms: u64) -> DenialCounts {
        let maps = self.maps.read();
        let denied = |map: &DenialMap| {
            map.values().filter(|denial| denial.until_ms() > now_ms).count() as u64
        };
        DenialCounts { keys: denied(&maps.keys), tags: denied(&maps.tags) }
    }

    fn change(&self, scope: TombstoneScope, hashes: &[KeyedHash], change: impl Fn(&mut Denial)) {
        let mut maps = self.maps.write();
        let map = match scope {
            TombstoneScope::Keys => &mut maps.keys,
            TombstoneScope::Tags => &mut maps.tags,
            TombstoneScope::All => return,
        };
        for hash in hashes {
            change(map.entry(*hash).or_default());
        }
        self.recount(&maps);
    }

    fn recount(&self, maps: &Maps) {
        let count = maps.keys.len() + maps.tags.len();
        self.count.store(count as u64, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyedHash = KeyedHash(1);
    const TAG: KeyedHash = KeyedHash(2);

    #[test]
    fn denials_hold_until_their_time_and_are_never_shortened() {
        let denials = Denials::default();
        assert_eq!(denials.until(Some(KEY), &[TAG], 0), None);
        denials.keep(TombstoneScope::Keys, &[KEY], 100);
        denials.keep(TombstoneScope::Keys, &[KEY], 50);
        denials.keep(TombstoneScope::Tags, &[TAG], 200);
        assert_eq!(denials.until(Some(KEY), &[], 99), Some(100));
        assert_eq!(denials.until(Some(KEY), &[], 100), None);
        assert_eq!(denials.until(Some(KEY), &[TAG], 0), Some(200));
        assert_eq!(denials.until(Some(TAG), &[KEY], 0), None, "keys and tags are not mixed up");
        assert_eq!(denials.counts(150), DenialCounts { keys: 0, tags: 1 });
        denials.forget_until(200);
        assert!(denials.is_empty());
    }

    #[test]
    fn a_lifted_denial_leaves_those_before_it() {
        let denials = Denials::default();
        denials.keep(TombstoneScope::Keys, &[KEY], 100);
        denials.begin(TombstoneScope::Keys, &[KEY], 300);
        denials.begin(TombstoneScope::Keys, &[KEY], 300);
        denials.forget_until(1000);
        assert_eq!(denials.until(Some(KEY), &[], 0), Some(300));
        denials.lift(TombstoneScope::Keys, &[KEY], 300);
        assert_eq!(denials.until(Some(KEY), &[], 0), Some(300), "the other one is under way");
        denials.lift(TombstoneScope::Keys, &[KEY], 300);
        assert_eq!(denials.until(Some(KEY), &[], 0), Some(100));
        denials.begin(TombstoneScope::Tags, &[TAG], 400);
        denials.lift(TombstoneScope::Tags, &[TAG], 400);
        assert_eq!(denials.counts(0), DenialCounts { keys: 1, tags: 0 });
    }
}
