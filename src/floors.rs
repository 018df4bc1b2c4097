//! The floors of an owner: up to which sequence number a key, a tag or everything is invisible, or,
//! with soft floors, stale.

use std::collections::HashMap;

use crate::format::sidecar::tag_fingerprint;
use crate::format::tombstone::{Tombstone, TombstoneMode, TombstoneScope};
use crate::hash::KeyedHash;
use crate::keyed_map::KeyedMap;
use crate::planted::{Bug, is_planted};
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A floor: what it covers is hidden up to this sequence number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) seq: u64,
    /// The engine's time of the invalidation; 0 if it is not known.
    pub(crate) at_ms: u64,
}

/// All floors of an owner, in memory.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    floors: RwLock<Maps>,
    /// Not below any hard floor: what lies above needs no look-up.
    highest: AtomicU64,
    /// The floor of everything, which is asked for at every read.
    all: AtomicU64,
    highest_tag: AtomicU64,
    /// How often a hard floor of a tag, of all tags or of everything has been raised.
    shared_raises: AtomicU64,
    /// Not below any soft floor.
    highest_soft: AtomicU64,
}

#[derive(Debug, Default)]
struct Maps {
    all: Floor,
    all_tags: Floor,
    keys: FloorMap,
    tags: FloorMap,
    soft_keys: FloorMap,
    soft_tags: FloorMap,
}

type FloorMap = KeyedMap<Floor>;

/// How many floors there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FloorCounts {
    pub(crate) keys: u64,
    pub(crate) tags: u64,
}

impl Floor {
    /// A floor that does not say when it was raised.
    pub(crate) fn undated(seq: u64) -> Self {
        Self { seq, at_ms: 0 }
    }

    fn raise(&mut self, other: Self) {
        let is_older = is_planted(Bug::TombstonesByTime) && other.at_ms <= self.at_ms;
        if other.seq > self.seq && !is_older {
            *self = other;
        }
    }
}

/// Floors of tags and of everything at some moment.
#[derive(Debug)]
pub(crate) struct SharedFloors {
    /// How often one had been raised by then. Numbers do not say it: they are taken before.
    pub(crate) raises: u64,
    pub(crate) all: u64,
    pub(crate) highest_tag: u64,
    all_tags: u64,
    tags: HashMap<u32, u64>,
}

impl SharedFloors {
    /// True if a tag of this fingerprint has a floor at or above this number.
    pub(crate) fn may_cover(&self, fingerprint: u32, seq: u64) -> bool {
        self.all_tags >= seq || self.tags.get(&fingerprint).is_some_and(|floor| *floor >= seq)
    }
}

impl Floors {
    /// Raises floors; none is ever lowered.
    pub(crate) fn raise(&self, scope: TombstoneScope, hashes: &[KeyedHash], floor: Floor) {
        let mut maps = self.floors.write();
        self.highest.fetch_max(floor.seq, Ordering::AcqRel);
        let map = match scope {
            TombstoneScope::All => {
                self.shared_raises.fetch_add(1, Ordering::AcqRel);
                self.all.fetch_max(floor.seq, Ordering::AcqRel);
                return maps.all.raise(floor);
            }
            TombstoneScope::Keys => &mut maps.keys,
            TombstoneScope::Tags => {
                self.shared_raises.fetch_add(1, Ordering::AcqRel);
                self.highest_tag.fetch_max(floor.seq, Ordering::AcqRel);
                &mut maps.tags
            }
        };
        raise_each(map, hashes, floor);
    }

    /// Raises soft floors: what they cover is stale.
    pub(crate) fn raise_soft(&self, scope: TombstoneScope, hashes: &[KeyedHash], floor: Floor) {
        let mut maps = self.floors.write();
        self.highest_soft.fetch_max(floor.seq, Ordering::AcqRel);
        match scope {
            TombstoneScope::Keys => raise_each(&mut maps.soft_keys, hashes, floor),
            TombstoneScope::Tags => raise_each(&mut maps.soft_tags, hashes, floor),
            // There is no soft floor of everything: what claims to be one hides.
            TombstoneScope::All => {
                self.highest.fetch_max(floor.seq, Ordering::AcqRel);
                self.shared_raises.fetch_add(1, Ordering::AcqRel);
                self.all.fetch_max(floor.seq, Ordering::AcqRel);
                maps.all.raise(floor);
            }
        }
    }

    /// Raises the floor of whatever carries any tag: for a log that cannot know which tags were
    /// invalidated.
    pub(crate) fn raise_all_tags(&self, floor: Floor) {
        let mut maps = self.floors.write();
        self.shared_raises.fetch_add(1, Ordering::AcqRel);
        self.highest_tag.fetch_max(floor.seq, Ordering::AcqRel);
        maps.all_tags.raise(floor);
    }

    /// Raises the floors that a tombstone names.
    pub(crate) fn apply(&self, tombstone: &Tombstone) {
        let floor = Floor { seq: tombstone.floor, at_ms: tombstone.at_ms };
        match tombstone.mode {
            TombstoneMode::Soft => self.raise_soft(tombstone.scope, &tombstone.hashes, floor),
            TombstoneMode::Hard | TombstoneMode::Deny => {
                self.raise(tombstone.scope, &tombstone.hashes, floor);
            }
        }
    }

    /// The floor of everything.
    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Acquire)
    }

    /// The floor of everything, and since when it is there.
    pub(crate) fn floor_of_all(&self) -> Floor {
        self.floors.read().all
    }

    /// The floor of a key, at or above this number.
    pub(crate) fn floor_of_key(&self, hash: KeyedHash, seq: u64) -> Option<Floor> {
        covering(&self.floors.read().keys, hash, seq)
    }

    /// The floor of a tag, at or above this number.
    pub(crate) fn floor_of_tag(&self, hash: KeyedHash, seq: u64) -> Option<Floor> {
        covering(&self.floors.read().tags, hash, seq)
    }

    /// The soft floor of a key, at or above this number.
    pub(crate) fn soft_floor_of_key(&self, hash: KeyedHash, seq: u64) -> Option<Floor> {
        covering(&self.floors.read().soft_keys, hash, seq)
    }

    /// The soft floor of a tag, at or above this number.
    pub(crate) fn soft_floor_of_tag(&self, hash: KeyedHash, seq: u64) -> Option<Floor> {
        covering(&self.floors.read().soft_tags, hash, seq)
    }

    /// The floor of a key, if one lies at or above this number.
    pub(crate) fn of_key(&self, hash: KeyedHash, seq: u64) -> Option<u64> {
        if self.highest.load(Ordering::Acquire) < seq {
            return None;
        }
        self.floor_of_key(hash, seq).map(|floor| floor.seq)
    }

    /// The floor of everything, if it lies at or above this number.
    pub(crate) fn of_all(&self, seq: u64) -> Option<u64> {
        Some(self.all()).filter(|floor| *floor >= seq)
    }

    /// The highest floor of these tags, if one lies at or above this number.
    pub(crate) fn of_tags(&self, tags: &[KeyedHash], seq: u64) -> Option<u64> {
        if tags.is_empty() || self.highest_tag() < seq {
            return None;
        }
        let maps = self.floors.read();
        let floors = tags.iter().filter_map(|tag| covering(&maps.tags, *tag, seq));
        floors.chain([maps.all_tags]).map(|floor| floor.seq).filter(|floor| *floor >= seq).max()
    }

    /// The floors that hide records without naming their keys, as a pass over segments looks for what
    /// they hide.
    pub(crate) fn shared(&self) -> SharedFloors {
        let maps = self.floors.read();
        let raises = self.shared_raises.load(Ordering::Acquire);
        let mut tags = HashMap::with_capacity(maps.tags.len());
        for (tag, floor) in &maps.tags {
            let highest: &mut u64 = tags.entry(tag_fingerprint(*tag)).or_default();
            *highest = floor.seq.max(*highest);
        }
        let all_tags = maps.all_tags.seq;
        let highest_tag = tags.values().copied().fold(all_tags, u64::max);
        SharedFloors { raises, all: maps.all.seq, highest_tag, all_tags, tags }
    }

    /// A number not below the floor of any tag.
    pub(crate) fn highest_tag(&self) -> u64 {
        self.highest_tag.load(Ordering::Acquire)
    }

    /// The highest soft floor of a key or these tags, if one lies at or above this number. Costs one
    /// load where no soft floor does.
    pub(crate) fn of_soft(
        &self,
        hash: Option<KeyedHash>,
        tags: &[KeyedHash],
        seq: u64,
    ) -> Option<u64> {
        if self.highest_soft.load(Ordering::Acquire) < seq {
            return None;
        }
        let maps = self.floors.read();
        let of_key = hash.and_then(|hash| covering(&maps.soft_keys, hash, seq));
        let of_tags = tags.iter().filter_map(|tag| covering(&maps.soft_tags, *tag, seq));
        of_tags.chain(of_key).map(|floor| floor.seq).max()
    }

    /// The keys whose hard floor lies above this number.
    pub(crate) fn keys_above(&self, seq: u64) -> Vec<KeyedHash> {
        let maps = self.floors.read();
        maps.keys.iter().filter(|(_, floor)| floor.seq > seq).map(|(hash, _)| *hash).collect()
    }

    /// Forgets floors below the mark: nothing they could hide exists any more.
    pub(crate) fn forget_below(&self, mark: u64) {
        let mut maps = self.floors.write();
        let Maps { keys, tags, soft_keys, soft_tags, .. } = &mut *maps;
        for map in [keys, tags, soft_keys, soft_tags] {
            map.retain(|_, floor| floor.seq >= mark);
        }
    }

    /// Bytes of memory the floors take, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let maps = self.floors.read();
        let all = [&maps.keys, &maps.tags, &maps.soft_keys, &maps.soft_tags];
        // A hash map keeps an eighth of its places free, and a byte for each.
        let places = |map: &FloorMap| (map.capacity() * 8).div_ceil(7);
        let place_len = size_of::<(KeyedHash, Floor)>() + 1;
        all.into_iter().map(|map| (places(map) * place_len) as u64).sum()
    }

    /// How many floors there are, soft ones included.
    pub(crate) fn counts(&self) -> FloorCounts {
        let maps = self.floors.read();
        FloorCounts {
            keys: (maps.keys.len() + maps.soft_keys.len()) as u64,
            tags: (maps.tags.len() + maps.soft_tags.len()) as u64,
        }
    }
}

fn raise_each(map: &mut FloorMap, hashes: &[KeyedHash], floor: Floor) {
    for hash in hashes {
        map.entry(*hash).or_default().raise(floor);
    }
}

fn covering(map: &FloorMap, hash: KeyedHash, seq: u64) -> Option<Floor> {
    map.get(&hash).copied().filter(|floor| floor.seq >= seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tombstone::Reach;

    fn at(seq: u64) -> Floor {
        Floor { seq, at_ms: seq * 10 }
    }

    #[test]
    fn floors_only_rise_and_are_forgotten_below_the_mark() {
        let floors = Floors::default();
        let key = KeyedHash(1);
        floors.raise(TombstoneScope::Keys, &[key], at(10));
        floors.raise(TombstoneScope::Keys, &[key], at(5));
        assert_eq!(floors.of_key(key, 10), Some(10));
        assert_eq!(floors.floor_of_key(key, 3), Some(at(10)), "with the time that belongs to it");
        assert_eq!(floors.of_key(key, 11), None);
        assert_eq!(floors.of_key(KeyedHash(2), 1), None);
        floors.raise(TombstoneScope::Tags, &[KeyedHash(7)], at(20));
        assert_eq!(floors.of_tags(&[KeyedHash(6), KeyedHash(7)], 3), Some(20));
        assert_eq!(floors.of_all(1), None);
        floors.raise(TombstoneScope::All, &[], at(15));
        assert_eq!(floors.of_all(15), Some(15));
        floors.forget_below(10);
        assert_eq!(floors.of_key(key, 10), Some(10), "at the mark it may still hide something");
        floors.forget_below(11);
        assert_eq!(floors.of_key(key, 10), None);
    }

    #[test]
    fn soft_floors_are_kept_apart() {
        let floors = Floors::default();
        let (key, tag) = (KeyedHash(1), KeyedHash(2));
        assert_eq!(floors.of_soft(Some(key), &[tag], 1), None);
        floors.raise_soft(TombstoneScope::Keys, &[key], at(10));
        floors.raise_soft(TombstoneScope::Tags, &[tag], at(20));
        assert_eq!(floors.of_soft(Some(key), &[], 10), Some(10));
        assert_eq!(floors.of_soft(Some(key), &[], 11), None);
        assert_eq!(floors.of_soft(None, &[tag], 20), Some(20));
        assert_eq!(floors.of_soft(Some(tag), &[key], 1), None, "keys and tags are not mixed up");
        assert_eq!((floors.of_key(key, 1), floors.of_tags(&[tag], 1)), (None, None));
        assert!(floors.keys_above(0).is_empty(), "no slot is removed for a soft floor");
        assert_eq!(floors.counts(), FloorCounts { keys: 1, tags: 1 });
        assert!((66..1000).contains(&floors.memory_bytes()), "{}", floors.memory_bytes());
        floors.forget_below(20);
        assert_eq!(floors.counts(), FloorCounts { keys: 0, tags: 1 });
    }

    #[test]
    fn the_floor_of_all_tags_spares_what_has_none() {
        let floors = Floors::default();
        floors.raise_all_tags(at(9));
        assert_eq!(floors.of_tags(&[KeyedHash(1)], 9), Some(9));
        assert_eq!(floors.of_tags(&[KeyedHash(1)], 10), None);
        assert_eq!((floors.of_tags(&[], 1), floors.of_all(1)), (None, None));
        assert_eq!(floors.highest_tag(), 9);
    }

    #[test]
    fn a_pass_is_told_of_every_floor_that_names_no_key() {
        let floors = Floors::default();
        let (tag, other) = (KeyedHash(1 << 96), KeyedHash(2 << 96));
        let (named, unnamed) = (tag_fingerprint(tag), tag_fingerprint(other));
        assert_ne!(named, unnamed);
        let covers = |seq| {
            let shared = floors.shared();
            [named, unnamed].map(|fingerprint| shared.may_cover(fingerprint, seq))
        };
        assert_eq!(floors.shared().raises, 0);
        floors.raise(TombstoneScope::Keys, &[KeyedHash(3)], at(3));
        floors.raise_soft(TombstoneScope::Tags, &[tag], at(4));
        assert_eq!(
            (floors.shared().raises, covers(1)),
            (0, [false; 2]),
            "it asks for none of these"
        );
        floors.raise(TombstoneScope::Tags, &[tag], at(5));
        assert_eq!((floors.shared().raises, floors.shared().highest_tag), (1, 5));
        assert_eq!((covers(5), covers(6)), ([true, false], [false; 2]));
        floors.raise_all_tags(at(9));
        assert_eq!((floors.shared().raises, floors.shared().highest_tag), (2, 9));
        assert_eq!((covers(9), covers(10)), ([true; 2], [false; 2]));
        floors.raise(TombstoneScope::All, &[], at(12));
        assert_eq!((floors.shared().raises, floors.shared().all), (3, 12));
    }

    #[test]
    fn a_tombstone_is_applied_by_its_mode() {
        let tombstone = |mode, floor| Tombstone {
            scope: TombstoneScope::Tags,
            mode,
            reach: Reach::Keyspaces,
            floor,
            at_ms: 5,
            until_ms: 0,
            hashes: vec![KeyedHash(1)],
        };
        let floors = Floors::default();
        floors.apply(&tombstone(TombstoneMode::Soft, 3));
        assert_eq!(floors.of_tags(&[KeyedHash(1)], 1), None);
        floors.apply(&tombstone(TombstoneMode::Hard, 2));
        assert_eq!(floors.of_tags(&[KeyedHash(1)], 1), Some(2));
        floors.apply(&tombstone(TombstoneMode::Deny, 4));
        assert_eq!(floors.floor_of_tag(KeyedHash(1), 1), Some(Floor { seq: 4, at_ms: 5 }));
        assert_eq!(floors.soft_floor_of_tag(KeyedHash(1), 1), Some(Floor { seq: 3, at_ms: 5 }));
    }
}
