//! The model of a keyspace: for every key the versions that may be on the disk, and which of them
//! may be the winner.
//!
//! Of all records of a key the one with the highest sequence number is the winner, whether or not it
//! may be seen; nothing else is ever given. What a power cut or an error leaves in doubt is kept as
//! a set of possible winners until an answer settles it.

use std::collections::BTreeSet;

use super::due::{Due, Reset};
use super::ops::{KEYS, TAGS, bits};

/// A version of a key's value.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) id: u32,
    pub(crate) seq: u64,
    pub(crate) tags: u8,
    pub(crate) due: Due,
    pub(crate) expires: Option<u64>,
    /// A sync that covers it was acknowledged.
    pub(crate) durable: bool,
    /// Its write was acknowledged; if not, nobody knows whether it took place.
    pub(crate) acked: bool,
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Is {
    No,
    /// It may be so or not.
    Maybe,
    Yes,
}

/// Whether a version may be seen.
#[derive(Debug, Clone, Copy)]
struct Sight {
    hidden: Is,
    stale: Is,
}

/// What a look-up gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Fresh(u32),
    Stale(u32),
    Absent,
}

impl Answer {
    /// The version that is given, stale or not.
    pub(crate) fn id(self) -> Option<u32> {
        match self {
            Self::Fresh(id) | Self::Stale(id) => Some(id),
            Self::Absent => None,
        }
    }
}

/// What an answer is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: u64,
    /// A step of the clock is suspect, so that more may be hidden than is past its time.
    pub(crate) suspect: bool,
    /// Things may have been evicted.
    pub(crate) lossy: bool,
}

#[derive(Debug, Clone)]
struct KeyState {
    /// In the order of their sequence numbers.
    history: Vec<Version>,
    /// The winners there may be; `None` is no record at all.
    possible: BTreeSet<Option<u32>>,
    newest_acked: u64,
}

/// The model of a keyspace.
#[derive(Debug, Clone)]
pub(crate) struct KeyModel {
    keys: Vec<KeyState>,
    floor_all: u64,
    floor_keys: Vec<u64>,
    floor_tags: Vec<u64>,
    soft_keys: Vec<u64>,
    soft_tags: Vec<u64>,
    /// Below this an invalidation that failed may have hidden anything.
    doubtful_floor: u64,
}

impl KeyModel {
    pub(crate) fn new() -> Self {
        let empty =
            KeyState { history: Vec::new(), possible: BTreeSet::from([None]), newest_acked: 0 };
        Self {
            keys: vec![empty; usize::from(KEYS)],
            floor_all: 0,
            floor_keys: vec![0; usize::from(KEYS)],
            floor_tags: vec![0; usize::from(TAGS)],
            soft_keys: vec![0; usize::from(KEYS)],
            soft_tags: vec![0; usize::from(TAGS)],
            doubtful_floor: 0,
        }
    }

    pub(crate) fn invalidated_key(&mut self, key: u8, floor: u64) {
        self.floor_keys[usize::from(key)] = floor;
    }

    pub(crate) fn invalidated_tag(&mut self, tag: u8, floor: u64) {
        self.floor_tags[usize::from(tag)] = floor;
    }

    pub(crate) fn softened_key(&mut self, key: u8, floor: u64) {
        self.soft_keys[usize::from(key)] = floor;
    }

    pub(crate) fn softened_tag(&mut self, tag: u8, floor: u64) {
        self.soft_tags[usize::from(tag)] = floor;
    }

    pub(crate) fn invalidated_all(&mut self, floor: u64) {
        self.floor_all = floor;
    }

    pub(crate) fn invalidation_failed(&mut self, floor: u64) {
        self.doubtful_floor = floor;
    }

    fn is_floored(&self, key: u8, tags: u8, seq: u64) -> bool {
        self.is_floored_by_name(key, seq)
            || bits(tags).any(|tag| seq <= self.floor_tags[usize::from(tag)])
    }

    fn is_floored_by_name(&self, key: u8, seq: u64) -> bool {
        seq <= self.floor_all || seq <= self.floor_keys[usize::from(key)]
    }

    fn is_softened(&self, key: u8, tags: u8, seq: u64) -> bool {
        seq <= self.soft_keys[usize::from(key)]
            || bits(tags).any(|tag| seq <= self.soft_tags[usize::from(tag)])
    }

    fn sight(&self, key: u8, version: &Version, moment: Moment) -> Sight {
        let doubtful = version.seq <= self.doubtful_floor;
        let hidden = if self.is_floored(key, version.tags, version.seq)
            || moment.now >= version.due.latest
            || version.expires.is_some_and(|at| moment.now >= at)
        {
            Is::Yes
        } else if moment.suspect || doubtful || moment.now >= version.due.earliest {
            Is::Maybe
        } else {
            Is::No
        };
        let stale = match self.is_softened(key, version.tags, version.seq) {
            true => Is::Yes,
            false if doubtful => Is::Maybe,
            false => Is::No,
        };
        Sight { hidden, stale }
    }

    /// The versions of a key whose bytes may be on the disk after a scrub. `swept` tells whether what
    /// a tag hides is gone too.
    pub(crate) fn may_last(&self, key: u8, swept: bool) -> impl Iterator<Item = u32> {
        let state = &self.keys[usize::from(key)];
        let lasts = move |version: &&Version| {
            let floored = match swept {
                true => self.is_floored(key, version.tags, version.seq),
                false => self.is_floored_by_name(key, version.seq),
            };
            state.possible.contains(&Some(version.id)) && !floored
        };
        state.history.iter().filter(lasts).map(|version| version.id)
    }

    /// A write was acknowledged.
    pub(crate) fn stored(&mut self, key: u8, version: Version) {
        let state = &mut self.keys[usize::from(key)];
        state.possible = BTreeSet::from([Some(version.id)]);
        state.newest_acked = state.newest_acked.max(version.seq);
        state.add(version);
    }

    /// A write failed, and nobody knows whether it took place. `now` tells whether that may show
    /// before the store is opened again.
    pub(crate) fn failed(&mut self, key: u8, version: Version, now: bool) {
        let state = &mut self.keys[usize::from(key)];
        if now {
            state.possible.insert(Some(version.id));
        }
        state.add(Version { acked: false, durable: false, ..version });
    }

    /// True if a fill of this number must have been superseded; `None` if it may have been.
    pub(crate) fn supersedes(&self, key: u8, tags: u8, seq: u64) -> Option<bool> {
        let state = &self.keys[usize::from(key)];
        let floored = self.is_floored(key, tags, seq) || self.is_softened(key, tags, seq);
        if floored || state.newest_acked > seq {
            return Some(true);
        }
        let doubtful = seq <= self.doubtful_floor
            || state.history.iter().any(|version| !version.acked && version.seq > seq);
        (!doubtful).then_some(false)
    }

    /// The clock was set, or perhaps.
    pub(crate) fn clock_reset(&mut self, reset: Reset) {
        for version in self.keys.iter_mut().flat_map(|state| &mut state.history) {
            version.due.correct(reset);
        }
    }

    /// Everything acknowledged so far is durable.
    pub(crate) fn synced(&mut self) {
        for state in &mut self.keys {
            for version in &mut state.history {
                version.durable |= version.acked;
            }
            state.prune();
        }
    }

    /// One version is durable.
    pub(crate) fn version_synced(&mut self, key: u8, id: u32) {
        let state = &mut self.keys[usize::from(key)];
        for version in state.history.iter_mut().filter(|version| version.id == id) {
            version.durable = true;
        }
        state.prune();
    }

    /// The process ended, the machine did not: what was written is there.
    pub(crate) fn killed(&mut self) {
        for state in &mut self.keys {
            let newest = state.history.iter().filter(|v| v.acked).map(|v| v.seq).max();
            let newest = newest.unwrap_or(0);
            let doubtful = state.history.iter().filter(|v| !v.acked && v.seq > newest);
            let ids: Vec<_> = doubtful.map(|version| Some(version.id)).collect();
            state.possible.extend(ids);
        }
    }

    /// The power was cut: anything from the last durable version on may be the winner.
    pub(crate) fn crashed(&mut self) {
        for state in &mut self.keys {
            state.prune();
            let certain = state.history.iter().any(|version| version.durable && version.acked);
            state.possible = state.history.iter().map(|version| Some(version.id)).collect();
            for version in state.history.iter_mut().filter(|version| !version.durable) {
                version.acked = false;
            }
            if !certain {
                state.possible.insert(None);
            }
        }
    }

    /// What a key may answer is settled by the version it did give after the store was opened.
    /// `durable` tells whether opening has made it durable.
    pub(crate) fn settle(&mut self, key: u8, answer: Option<u32>, moment: Moment, durable: bool) {
        let hidden: Vec<u32> = {
            let history = self.keys[usize::from(key)].history.iter();
            let hidden = history.filter(|v| self.sight(key, v, moment).hidden != Is::No);
            hidden.map(|version| version.id).collect()
        };
        let state = &mut self.keys[usize::from(key)];
        if let Some(id) = answer {
            let at = state.history.iter().position(|version| version.id == id);
            // Until it is durable, a power cut may still bring an older one back.
            let oldest = if durable { at.unwrap_or(0) } else { 0 };
            state.history = state.history.get(oldest..=at.unwrap_or(0)).unwrap_or(&[]).to_vec();
            if let Some(version) = state.history.last_mut() {
                version.acked = true;
                version.durable |= durable;
                state.newest_acked = state.newest_acked.max(version.seq);
            }
            state.possible = BTreeSet::from([Some(id)]);
            return;
        }
        state.possible.retain(|winner| winner.is_none_or(|id| hidden.contains(&id)));
        let doubt = state.possible.len() > 1 || moment.lossy;
        if doubt {
            state.possible.insert(None);
        }
        let possible = &state.possible;
        state.history.retain(|version| !durable || possible.contains(&Some(version.id)));
        for version in state.history.iter_mut().filter(|_| doubt) {
            version.acked = false;
            version.durable = false;
        }
    }

    /// Fails unless this answer is right.
    pub(crate) fn check(&self, key: u8, answer: Answer, moment: Moment) {
        let state = &self.keys[usize::from(key)];
        let find = |id: u32| state.history.iter().find(|version| version.id == id);
        if let Some(id) = answer.id() {
            assert!(
                state.possible.contains(&Some(id)),
                "key {key} gives version {id}, which cannot be the winner: {self:#?}"
            );
            let version = find(id).expect("a possible winner is in the history");
            let sight = self.sight(key, version, moment);
            let wrong = match answer {
                Answer::Stale(_) => Is::No,
                _ => Is::Yes,
            };
            assert!(
                sight.hidden != Is::Yes && sight.stale != wrong,
                "key {key} gives {answer:?} of {version:?}, but {sight:?} at {moment:?}: {self:#?}"
            );
            return;
        }
        let may_be_absent =
            |id: u32| find(id).is_none_or(|v| self.sight(key, v, moment).hidden != Is::No);
        let right = moment.lossy || state.possible.iter().any(|w| w.is_none_or(may_be_absent));
        assert!(right, "key {key} gives nothing at {moment:?}: {self:#?}");
    }

    /// The version of an id, if it may still be on the disk.
    pub(crate) fn version(&self, key: u8, id: u32) -> Option<&Version> {
        self.keys[usize::from(key)].history.iter().find(|version| version.id == id)
    }
}

impl KeyState {
    fn add(&mut self, version: Version) {
        let at = self.history.partition_point(|other| other.seq < version.seq);
        self.history.insert(at, version);
    }

    /// Forgets what lies below the last durable version: no stop of any kind brings it back.
    fn prune(&mut self) {
        let durable = self.history.iter().rposition(|version| version.durable && version.acked);
        let possible = &self.possible;
        let floor = durable.and_then(|at| self.history.get(at)).map_or(0, |version| version.seq);
        self.history.retain(|v| v.seq >= floor || possible.contains(&Some(v.id)));
        if self.history.first().is_some_and(|first| first.seq < floor) {
            let ids: BTreeSet<u32> =
                self.history.iter().filter(|v| v.seq < floor).map(|v| v.id).collect();
            self.possible.retain(|winner| winner.is_none_or(|id| !ids.contains(&id)));
            self.history.retain(|v| v.seq >= floor);
        }
    }
}
