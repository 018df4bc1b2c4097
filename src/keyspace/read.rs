//! Finding a key's winning record and judging whether it is visible.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::error::Result;
use crate::format::tombstone::{Reach, Tombstone};
use crate::index::Location;
use crate::options;
use crate::segment::{Damage, RecordView, Segment};
use crate::sync::MODEL_CHECKED;
use crate::time::Timestamp;
use crate::value::{Stat, Value};
use crate::visibility::{Candidate, Hidden};

/// What [`Keyspace::lookup`](super::Keyspace::lookup) finds.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The value, as [`Keyspace::get`](super::Keyspace::get) gives it.
    Fresh(Value),
    /// A value that a soft invalidation covers.
    Stale(Value),
    /// There is none.
    Absent,
}

/// A record that was found, and whether a soft floor is all that hides it.
struct FoundRecord {
    view: RecordView,
    deadline: Timestamp,
    is_stale: bool,
}

/// How often a read starts again because the record it found was replaced meanwhile.
pub(super) const ATTEMPTS: usize = 8;

impl KeyspaceCore {
    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let found = self.find(key, Segment::read)?.filter(|found| !found.is_stale);
        self.count_read(found.is_some());
        Ok(found.map(|found| Value::new(found.view, found.deadline)))
    }

    /// The value of a key, stale or not.
    pub(super) fn lookup(&self, key: &[u8]) -> Result<Lookup> {
        let found = self.find(key, Segment::read)?;
        self.count_read(found.as_ref().is_some_and(|found| !found.is_stale));
        Ok(match found {
            None => Lookup::Absent,
            Some(found) => {
                let value = Value::new(found.view, found.deadline);
                if found.is_stale { Lookup::Stale(value) } else { Lookup::Fresh(value) }
            }
        })
    }

    /// What is known of a key's record.
    pub(super) fn stat(&self, key: &[u8]) -> Result<Option<Stat>> {
        let found = self.find(key, Segment::read_prefix)?.filter(|found| !found.is_stale);
        Ok(found.map(|found| Stat::new(found.view, found.deadline)))
    }

    fn count_read(&self, is_hit: bool) {
        let counters = &self.owner.engine.counters;
        if is_hit { counters.hits.add_one() } else { counters.misses.add_one() }
    }

    fn find(
        &self,
        key: &[u8],
        read: impl Fn(&Segment, u64) -> Result<RecordView, Damage>,
    ) -> Result<Option<FoundRecord>> {
        options::check_key(key)?;
        self.owner.engine.check_open()?;
        let fingerprint = self.owner.engine.hasher.key(key).fingerprint();
        for _ in 0..ATTEMPTS {
            let Some(location) = self.index.get(fingerprint) else { return Ok(None) };
            let Some((segment, offset)) = self.resolve(location) else { return Ok(None) };
            match read(&segment, offset) {
                Ok(view) if view.key() != key => return Ok(None),
                Ok(view) => {
                    let is_stale = match self.judge(&view, &segment) {
                        Ok(()) => false,
                        Err(Hidden::Stale) => true,
                        Err(_) => return Ok(None),
                    };
                    let deadline = segment.deadline();
                    return Ok(Some(FoundRecord { view, deadline, is_stale }));
                }
                Err(damage) => {
                    if self.still_named(fingerprint, location) {
                        return self.miss(damage, &segment, offset);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The one rule, asked about a record that the index names.
    pub(super) fn judge(&self, view: &RecordView, segment: &Arc<Segment>) -> Result<(), Hidden> {
        self.take_over_tombstones();
        let candidate = Candidate {
            seq: view.head.seq,
            hash: Some(view.head.hash),
            key_floor_is_known: !self.checks_key_floors(),
            tags: view.tags(),
            deadline: segment.deadline(),
            expires_at: view.prefix.expires_at_ms.map(Timestamp::from_millis),
        };
        let now = self.owner.engine.hiding_now(view.head.seq);
        self.owner.engine.host.note_read(now);
        candidate.check(&self.floors, now)
    }

    /// A slot is gone once its key was invalidated, so its floor need not be asked, except where
    /// slots are not ours to remove. Debug builds ask all the same, except where schedules are tried:
    /// those must show a slot that stayed.
    fn checks_key_floors(&self) -> bool {
        (cfg!(debug_assertions) && !MODEL_CHECKED) || self.owner.engine.is_read_only()
    }

    /// In a read-only store, raises the floors by what the writing process has invalidated since.
    pub(super) fn take_over_tombstones(&self) {
        let engine = &self.owner.engine;
        // Without what cannot be read now, this store shows what was there when it was opened.
        let _ = engine.take_over_tombstones(&self.watched, |tombstone| self.recall(tombstone));
    }

    /// Raises the floors, and remembers what is denied, that a tombstone on disk names for this
    /// keyspace.
    fn recall(&self, tombstone: &Tombstone) {
        let reach = tombstone.reach;
        if reach.covers_keyspace(self.owner.id) {
            self.floors.apply(tombstone);
            let is_own = reach == Reach::Owner(self.owner.id);
            let denials = if is_own { &self.denials } else { &self.owner.engine.denials };
            denials.recall(tombstone);
        }
    }

    /// True if the index still names this place. A record that changed under a reader is damage
    /// only then.
    pub(super) fn still_named(&self, fingerprint: u64, location: Location) -> bool {
        self.index.get(fingerprint) == Some(location) && self.resolve(location).is_some()
    }

    /// What a record that cannot be read means to the caller: a miss, unless the system refused.
    pub(super) fn miss<T>(
        &self,
        damage: Damage,
        segment: &Segment,
        offset: u64,
    ) -> Result<Option<T>> {
        match damage {
            Damage::Failed(error) => Err(error),
            Damage::Corrupt(what) => {
                self.owner.engine.note_corrupt(segment.path(), offset, what);
                Ok(None)
            }
            Damage::Erased => Ok(None),
            // Also what the store holds no more because it has been closed meanwhile.
            Damage::Gone => self.owner.engine.check_open().map(|()| None),
        }
    }
}
