//! Finding a key's winning record and judging whether it is visible.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::KeyspaceCore;
use crate::error::Result;
use crate::format::tombstone::{Reach, Tombstone, TombstoneScope};
use crate::index::Location;
use crate::options;
use crate::segment::{Damage, RecordView, Segment};
use crate::sync::MODEL_CHECKED;
use crate::table::NearSegment;
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

/// How many records are read ahead together.
const READ_AHEAD_KEYS: usize = 256;
/// A read that takes longer has waited for the disk, or is so long that asking ahead costs little
/// beside it.
const WAITED: Duration = Duration::from_micros(30);

impl KeyspaceCore {
    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let Some(place) = self.locate(key)? else {
            self.count_read(false);
            return Ok(None);
        };
        match self.find_from(place, key, Segment::read)? {
            Some(found) if !found.is_stale => {
                self.count_read(true);
                Ok(Some(Value::new(found.view, found.deadline)))
            }
            _ => {
                self.count_read(false);
                Ok(None)
            }
        }
    }

    /// The values of keys, in their order. Once one has had to wait for the disk, those that follow
    /// are asked for together; as long as none has, all are in memory, and asking is not free.
    pub(super) fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        for key in keys {
            options::check_key(key.as_ref())?;
        }
        let mut values = Vec::with_capacity(keys.len());
        let mut has_waited = false;
        for group in keys.chunks(READ_AHEAD_KEYS) {
            let mut is_ahead = has_waited;
            if is_ahead {
                self.read_ahead(group);
            }
            has_waited = false;
            for (at, key) in group.iter().enumerate() {
                let begun = Instant::now();
                values.push(self.get(key.as_ref())?);
                // A schedule that is run again must not depend on how fast the machine is.
                has_waited |= !MODEL_CHECKED && begun.elapsed() > WAITED;
                if has_waited && !is_ahead {
                    is_ahead = true;
                    self.read_ahead(group.get(at + 1..).unwrap_or_default());
                }
            }
        }
        Ok(values)
    }

    /// Asks for the records of keys to be read ahead of their use: all beginnings first, since only
    /// there it says how long a record is.
    fn read_ahead<K: AsRef<[u8]>>(&self, keys: &[K]) {
        let hasher = &self.owner.engine.hasher;
        let place = |key: &K| {
            let location = self.index.get(hasher.key(key.as_ref()).fingerprint())?;
            self.resolve(location)
        };
        let places: Vec<(NearSegment, u64)> = keys.iter().filter_map(place).collect();
        for (segment, offset) in &places {
            segment.read_ahead(*offset);
        }
        for (segment, offset) in &places {
            segment.read_rest_ahead(*offset);
        }
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
        Ok(self.find_prefix(key)?.map(|found| Stat::new(found.view, found.deadline).detached()))
    }

    pub(super) fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.find_prefix(key)?.is_some())
    }

    fn find_prefix(&self, key: &[u8]) -> Result<Option<FoundRecord>> {
        Ok(self.find(key, Segment::read_prefix)?.filter(|found| !found.is_stale))
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
        match self.locate(key)? {
            Some(place) => self.find_from(place, key, read),
            None => Ok(None),
        }
    }

    /// What the index says of a key: its fingerprint, and where its record is.
    #[inline]
    fn locate(&self, key: &[u8]) -> Result<Option<(u64, Location)>> {
        options::check_key(key)?;
        self.owner.engine.check_open()?;
        let fingerprint = self.owner.engine.hasher.key(key).fingerprint();
        Ok(self.index.get(fingerprint).map(|location| (fingerprint, location)))
    }

    /// Reads and judges the record that the index has named, or names by now.
    fn find_from(
        &self,
        (fingerprint, mut location): (u64, Location),
        key: &[u8],
        read: impl Fn(&Segment, u64) -> Result<RecordView, Damage>,
    ) -> Result<Option<FoundRecord>> {
        for _ in 0..ATTEMPTS {
            let Some((segment, offset)) = self.resolve(location) else { return Ok(None) };
            match read(&segment, offset) {
                Ok(view) if view.key() != key => return Ok(None),
                Ok(view) => {
                    let is_stale = match self.judge(&view, &segment)? {
                        Ok(()) => Some(false),
                        Err(Hidden::Stale) => Some(true),
                        // It may have been replaced before.
                        Err(Hidden::Left) => None,
                        Err(_) => return Ok(None),
                    };
                    if let Some(is_stale) = is_stale {
                        let deadline = segment.deadline();
                        return Ok(Some(FoundRecord { view, deadline, is_stale }));
                    }
                }
                Err(damage) => {
                    if self.still_named(fingerprint, location) {
                        return self.miss(damage, &segment, offset);
                    }
                }
            }
            let Some(again) = self.index.get(fingerprint) else { return Ok(None) };
            location = again;
        }
        Ok(None)
    }

    /// The one rule, asked about a record that the index names. An error if it cannot be known what the
    /// writing process has invalidated.
    pub(super) fn judge(
        &self,
        view: &RecordView,
        segment: &Arc<Segment>,
    ) -> Result<Result<(), Hidden>> {
        if self.take_over_invalidations()? {
            segment.leave_if_moved()?;
        }
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
        Ok(candidate.check(&self.floors, now, || segment.has_left()))
    }

    /// A slot is gone once its key was invalidated, so its floor need not be asked, except where
    /// slots are not ours to remove, or one could not be. Debug builds ask all the same, except where
    /// schedules are tried: those must show a slot that stayed.
    fn checks_key_floors(&self) -> bool {
        (cfg!(debug_assertions) && !MODEL_CHECKED)
            || self.owner.engine.is_read_only()
            || self.doubts.count() > 0
    }

    /// In a read-only store, raises the floors by what the writing process has invalidated since. True if
    /// some of that may have been forgotten already.
    pub(super) fn take_over_invalidations(&self) -> Result<bool> {
        self.owner.take_over_invalidations(
            &self.watched,
            |floor| self.floors.raise(TombstoneScope::All, &[], floor),
            |tombstone| self.recall(tombstone),
        )
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
        match segment.record_damage(damage, offset) {
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
