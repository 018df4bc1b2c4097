//! Hiding: floors first, then slots, then the durable tombstone.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::engine::count;
use crate::error::{Error, Result};
use crate::floors::Floor;
use crate::format::tombstone::{Reach, Tombstone, TombstoneMode, TombstoneScope};
use crate::hash::KeyedHash;
use crate::index::{Change, Location};
use crate::invalidation::Invalidation;
use crate::receipt::Receipt;
use crate::time::Timestamp;

impl KeyspaceCore {
    /// Hides what an invalidation is about, all of it or nothing.
    pub(super) fn invalidate(self: &Arc<Self>, invalidation: &Invalidation) -> Result<Receipt> {
        let engine = &self.owner.engine;
        let side = engine.write_side()?;
        invalidation.begin_denial(&self.denials);
        // Open until the tombstone is durable, so that it is not forgotten before.
        let ticket = engine.sequence.begin_invalidation();
        let at = engine.trusted_now();
        let tombstone = invalidation.tombstone(Reach::Owner(self.owner.id), ticket.seq(), at);
        self.hide(&tombstone);
        count(&engine.counters.invalidations);
        let receipt = Receipt::new(invalidation.target, ticket.seq(), at);
        let committed = match side.tombstones.commit(tombstone.clone()) {
            Ok(()) => Ok(receipt),
            Err(error) => self.invalidate_without_room(tombstone, error, receipt),
        };
        invalidation.end_denial(&self.denials, committed.is_ok());
        if committed.is_ok() {
            side.ledger.invalidated(invalidation.scope(), ticket.seq());
        }
        committed.map(|receipt| invalidation.follow(receipt, Arc::clone(self) as _))
    }

    /// Hides in memory what a tombstone is about.
    pub(crate) fn hide(&self, tombstone: &Tombstone) {
        self.floors.apply(tombstone);
        let is_hard = tombstone.mode != TombstoneMode::Soft;
        if is_hard && tombstone.scope == TombstoneScope::Keys {
            for hash in &tombstone.hashes {
                self.remove_slot(*hash, tombstone.floor);
            }
        }
        if is_hard {
            // Afterwards: a pass that begins in between would not find it.
            self.owner.scrubbing.note_dead(Timestamp::from_millis(tombstone.at_ms));
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
        self.hide_all_without_room(&tombstone)?;
        // The floor does not say what is denied.
        if tombstone.mode == TombstoneMode::Deny { Err(error) } else { Ok(receipt.widen()) }
    }

    /// Raises the floor of everything to that of a tombstone, durably. Needs no space.
    pub(crate) fn hide_all_without_room(&self, tombstone: &Tombstone) -> Result<()> {
        let floor = Floor { seq: tombstone.floor, at_ms: tombstone.at_ms };
        self.floors.raise(TombstoneScope::All, &[], floor);
        self.owner.update_manifest(|manifest| {
            manifest.floor = manifest.floor.max(tombstone.floor);
        })
    }
}
