//! Hiding rows by their tags.

use std::sync::Arc;

use super::LogCore;
use crate::engine::count;
use crate::error::Result;
use crate::format::tombstone::{Reach, Tombstone};
use crate::invalidation::Invalidation;
use crate::receipt::Receipt;
use crate::time::Timestamp;

impl LogCore {
    /// Hides what an invalidation is about: in this process first, then durably.
    pub(super) fn invalidate(self: &Arc<Self>, invalidation: &Invalidation) -> Result<Receipt> {
        let engine = &self.owner.engine;
        let side = engine.write_side()?;
        // Open until the tombstone is durable, so that it is not forgotten before.
        let ticket = engine.sequence.begin_invalidation();
        let at = engine.trusted_now();
        let tombstone = invalidation.tombstone(Reach::Owner(self.owner.id), ticket.seq(), at);
        self.hide(&tombstone);
        count(&engine.counters.invalidations);
        let receipt = Receipt::new(invalidation.target, ticket.seq(), at);
        side.tombstones.commit(tombstone)?;
        side.ledger.invalidated(invalidation.scope(), ticket.seq());
        Ok(receipt.follow(Arc::clone(self) as _))
    }

    /// Hides in memory what a tombstone is about.
    pub(crate) fn hide(&self, tombstone: &Tombstone) {
        self.floors.apply(tombstone);
        // Afterwards: a pass that begins in between would not find it.
        self.owner.scrubbing.note_dead(Timestamp::from_millis(tombstone.at_ms));
    }

    /// In a read-only store, raises the floors by what the writing process has invalidated since.
    pub(super) fn take_over_tombstones(&self) {
        // Without what cannot be read now, this store shows what was there when it was opened.
        let _ = self.owner.engine.take_over_tombstones(&self.watched, |tombstone| {
            if tombstone.reach.covers_log(self.owner.id) {
                self.floors.apply(tombstone);
            }
        });
    }
}
