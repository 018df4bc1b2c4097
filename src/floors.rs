//! The floors of an owner: up to which sequence number a key, a tag or everything is invisible.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::tombstone::TombstoneScope;
use crate::hash::KeyedHash;
use crate::sync::RwLock;

/// All floors of an owner, in memory.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    floors: RwLock<Maps>,
    /// Not below any floor: what lies above needs no look-up.
    highest: AtomicU64,
    highest_tag: AtomicU64,
}

#[derive(Debug, Default)]
struct Maps {
    all: u64,
    keys: FloorMap,
    tags: FloorMap,
}

type FloorMap = HashMap<KeyedHash, u64, BuildHasherDefault<PassThrough>>;

/// Takes a keyed hash as it is.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How many floors there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FloorCounts {
    pub(crate) keys: u64,
    pub(crate) tags: u64,
}

impl Floors {
    /// Raises floors; none is ever lowered.
    pub(crate) fn raise(&self, scope: TombstoneScope, hashes: &[KeyedHash], floor: u64) {
        let mut maps = self.floors.write();
        let map = match scope {
            TombstoneScope::All => {
                maps.all = maps.all.max(floor);
                self.highest.fetch_max(floor, Ordering::AcqRel);
                return;
            }
            TombstoneScope::Keys => &mut maps.keys,
            TombstoneScope::Tags => {
                self.highest_tag.fetch_max(floor, Ordering::AcqRel);
                &mut maps.tags
            }
        };
        for hash in hashes {
            let entry = map.entry(*hash).or_insert(0);
            *entry = floor.max(*entry);
        }
        self.highest.fetch_max(floor, Ordering::AcqRel);
    }

    /// The floor of everything.
    pub(crate) fn all(&self) -> u64 {
        self.floors.read().all
    }

    /// The floor of a key, if one lies at or above this number.
    pub(crate) fn of_key(&self, hash: KeyedHash, seq: u64) -> Option<u64> {
        if self.highest.load(Ordering::Acquire) < seq {
            return None;
        }
        self.floors.read().keys.get(&hash).copied().filter(|floor| *floor >= seq)
    }

    /// The floor of everything, if it lies at or above this number.
    pub(crate) fn of_all(&self, seq: u64) -> Option<u64> {
        if self.highest.load(Ordering::Acquire) < seq {
            return None;
        }
        Some(self.all()).filter(|floor| *floor >= seq)
    }

    /// The highest floor of these tags, if one lies at or above this number.
    pub(crate) fn of_tags(&self, tags: &[KeyedHash], seq: u64) -> Option<u64> {
        if tags.is_empty() || self.highest_tag.load(Ordering::Acquire) < seq {
            return None;
        }
        let maps = self.floors.read();
        let floors = tags.iter().filter_map(|tag| maps.tags.get(tag).copied());
        floors.filter(|floor| *floor >= seq).max()
    }

    /// The keys whose floor lies above this number.
    pub(crate) fn keys_above(&self, seq: u64) -> Vec<KeyedHash> {
        let maps = self.floors.read();
        maps.keys.iter().filter(|(_, floor)| **floor > seq).map(|(hash, _)| *hash).collect()
    }

    /// Forgets floors below the mark: nothing they could hide exists any more.
    pub(crate) fn forget_below(&self, mark: u64) {
        let mut maps = self.floors.write();
        maps.keys.retain(|_, floor| *floor >= mark);
        maps.tags.retain(|_, floor| *floor >= mark);
    }

    /// How many floors there are.
    pub(crate) fn counts(&self) -> FloorCounts {
        let maps = self.floors.read();
        FloorCounts { keys: maps.keys.len() as u64, tags: maps.tags.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_only_rise_and_are_forgotten_below_the_mark() {
        let floors = Floors::default();
        let key = KeyedHash(1);
        floors.raise(TombstoneScope::Keys, &[key], 10);
        floors.raise(TombstoneScope::Keys, &[key], 5);
        assert_eq!(floors.of_key(key, 10), Some(10));
        assert_eq!(floors.of_key(key, 11), None);
        assert_eq!(floors.of_key(KeyedHash(2), 1), None);
        floors.raise(TombstoneScope::Tags, &[KeyedHash(7)], 20);
        assert_eq!(floors.of_tags(&[KeyedHash(6), KeyedHash(7)], 3), Some(20));
        assert_eq!(floors.of_all(1), None);
        floors.raise(TombstoneScope::All, &[], 15);
        assert_eq!(floors.of_all(15), Some(15));
        floors.forget_below(10);
        assert_eq!(floors.of_key(key, 10), Some(10), "at the mark it may still hide something");
        floors.forget_below(11);
        assert_eq!(floors.of_key(key, 10), None);
    }
}
