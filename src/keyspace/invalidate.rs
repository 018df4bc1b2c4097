//! Hiding: floors first, then slots, then the durable tombstone.

use super::KeyspaceCore;
use crate::engine::count;
use crate::error::{Error, Result};
use crate::format::tombstone::{Tombstone, TombstoneScope};
use crate::hash::KeyedHash;
use crate::index::{Change, Location};
use crate::options;
use crate::receipt::{Receipt, Scope};

impl KeyspaceCore {
    /// Hides a key.
    pub(super) fn invalidate_key(&self, key: &[u8]) -> Result<Receipt> {
        options::check_key(key)?;
        let hash = self.owner.engine.hasher.key(key);
        self.invalidate(Scope::Key, TombstoneScope::Keys, vec![hash])
    }

    /// Hides all that carries a tag.
    pub(super) fn invalidate_tag(&self, tag: &[u8]) -> Result<Receipt> {
        let hash = self.owner.engine.hasher.tag(tag);
        self.invalidate(Scope::Tag, TombstoneScope::Tags, vec![hash])
    }

    /// Hides everything.
    pub(super) fn invalidate_all(&self) -> Result<Receipt> {
        self.invalidate(Scope::All, TombstoneScope::All, Vec::new())
    }

    fn invalidate(
        &self,
        scope: Scope,
        kind: TombstoneScope,
        hashes: Vec<KeyedHash>,
    ) -> Result<Receipt> {
        let engine = &self.owner.engine;
        let side = engine.write_side()?;
        // Open until the tombstone is durable, so that it is not forgotten before.
        let ticket = engine.sequence.begin();
        let floor = ticket.seq();
        self.floors.raise(kind, &hashes, floor);
        if kind == TombstoneScope::Keys {
            for hash in &hashes {
                self.remove_slot(*hash, floor);
            }
        }
        let at = engine.trusted_now();
        let receipt = Receipt::new(scope, floor, at, self.last_deadline(at));
        let tombstone = Tombstone {
            scope: kind,
            owner_id: self.owner.id,
            floor,
            at_ms: at.as_millis(),
            hashes,
        };
        count(&engine.counters.invalidations);
        match side.tombstones.commit(tombstone.clone()) {
            Ok(()) => Ok(receipt),
            Err(error) => self.invalidate_without_room(tombstone, error, receipt),
        }
    }

    /// Removes the slot of a key, unless it names a record above the floor.
    fn remove_slot(&self, hash: KeyedHash, floor: u64) {
        let (before, change) = self.index.change(hash.fingerprint(), |location| match location {
            Some(location) if self.is_above(location, floor) => Change::Keep,
            _ => Change::Remove,
        });
        let removed = before.filter(|_| change == Change::Remove);
        if let Some((segment, _)) = removed.and_then(|location| self.resolve(location)) {
            segment.remove_live();
        }
    }

    /// True if the record there is known to have a number above the floor.
    fn is_above(&self, location: Location, floor: u64) -> bool {
        let Some((segment, offset)) = self.resolve(location) else { return false };
        if segment.min_seq() > floor {
            return true;
        }
        segment.max_seq() > floor && segment.read_head(offset).is_ok_and(|head| head.seq > floor)
    }

    /// What is left when the tombstone log takes no more: evict the oldest segments until a new log
    /// file fits, and at last raise the floor of everything, which needs no space. Nothing that was
    /// hidden can be back then, at the price of a cache that is emptier than asked for.
    fn invalidate_without_room(
        &self,
        tombstone: Tombstone,
        mut error: Error,
        receipt: Receipt,
    ) -> Result<Receipt> {
        let side = self.owner.engine.write_side()?;
        while matches!(error, Error::NoSpace { .. }) && self.evict_for_space()? {
            match side.tombstones.commit(tombstone.clone()) {
                Ok(()) => return Ok(receipt),
                Err(again) => error = again,
            }
        }
        self.floors.raise(TombstoneScope::All, &[], tombstone.floor);
        self.owner.update_manifest(|manifest| {
            manifest.floor = manifest.floor.max(tombstone.floor);
        })?;
        Ok(receipt.widen())
    }

    fn last_deadline(&self, now: crate::time::Timestamp) -> crate::time::Timestamp {
        let buckets = self.owner.buckets.read();
        buckets.values().map(|bucket| bucket.deadline()).max().unwrap_or(now)
    }
}
