//! Finding a key's winning record and judging whether it is visible.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::engine::count;
use crate::error::Result;
use crate::index::Location;
use crate::options;
use crate::segment::{Damage, RecordView, Segment};
use crate::time::Timestamp;
use crate::value::{Stat, Value};
use crate::visibility::{Candidate, Hidden};

/// How often a read starts again because the record it found was replaced meanwhile.
const ATTEMPTS: usize = 8;

impl KeyspaceCore {
    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let found = self.find(key, Segment::read)?;
        let counters = &self.owner.engine.counters;
        count(if found.is_some() { &counters.hits } else { &counters.misses });
        Ok(found.map(|(view, deadline)| Value::new(view, deadline)))
    }

    /// What is known of a key's record.
    pub(super) fn stat(&self, key: &[u8]) -> Result<Option<Stat>> {
        let found = self.find(key, Segment::read_prefix)?;
        Ok(found.map(|(view, deadline)| Stat::new(view, deadline)))
    }

    fn find(
        &self,
        key: &[u8],
        read: impl Fn(&Segment, u64) -> Result<RecordView, Damage>,
    ) -> Result<Option<(RecordView, Timestamp)>> {
        options::check_key(key)?;
        self.owner.engine.check_open()?;
        let fingerprint = self.owner.engine.hasher.key(key).fingerprint();
        for _ in 0..ATTEMPTS {
            let Some(location) = self.index.get(fingerprint) else { return Ok(None) };
            let Some((segment, offset)) = self.resolve(location) else { return Ok(None) };
            match read(&segment, offset) {
                Ok(view) if view.key() != key => return Ok(None),
                Ok(view) => {
                    let visible = self.judge(&view, &segment).is_ok();
                    return Ok(visible.then(|| (view, segment.deadline())));
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
            hash: self.checks_key_floors().then_some(view.head.hash),
            tags: view.tags(),
            deadline: segment.deadline(),
            expires_at: view.prefix.expires_at_ms.map(Timestamp::from_millis),
        };
        candidate.check(&self.floors, self.owner.engine.hiding_now(view.head.seq))
    }

    /// A slot is gone once its key was invalidated, so its floor need not be asked, except where
    /// slots are not ours to remove. Debug builds ask all the same.
    fn checks_key_floors(&self) -> bool {
        cfg!(debug_assertions) || self.owner.engine.is_read_only()
    }

    /// In a read-only store, raises the floors by what the writing process has invalidated since.
    fn take_over_tombstones(&self) {
        let Ok(Some(tombstones)) = self.owner.engine.watched_tombstones() else { return };
        for tombstone in tombstones.iter().filter(|t| t.owner_id == self.owner.id) {
            self.floors.raise(tombstone.scope, &tombstone.hashes, tombstone.floor);
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
            Damage::Erased | Damage::Gone => Ok(None),
        }
    }
}
