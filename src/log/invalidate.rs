//! Hiding rows by their tags.

use std::sync::Arc;

use super::LogCore;
use crate::error::Result;
use crate::format::tombstone::{Reach, Tombstone};
use crate::invalidation::{Covered, Invalidation};
use crate::owner::Owner;
use crate::receipt::Receipt;
use crate::time::Timestamp;

impl Covered for LogCore {
    fn hide(&self, tombstone: &Tombstone) {
        self.floors.apply(tombstone);
        // Afterwards: a pass that begins in between would not find it.
        self.owner.scrubbing.note_dead(Timestamp::from_millis(tombstone.at_ms));
    }

    fn give_up_oldest(&self) -> Result<bool> {
        Ok(false)
    }

    fn hide_all_without_room(&self, _: &Tombstone) -> Result<bool> {
        Ok(false)
    }
}

impl LogCore {
    /// Hides what an invalidation is about: in this process first, then durably.
    pub(super) fn invalidate(self: &Arc<Self>, invalidation: &Invalidation) -> Result<Receipt> {
        let Owner { engine, id, .. } = &self.owner;
        invalidation
            .begin(engine, None)?
            .hide(Reach::Owner(*id), vec![Arc::clone(self) as _])
            .commit()
    }

    /// In a read-only store, raises the floors by what the writing process has invalidated since. True if
    /// some of that may have been forgotten already.
    pub(super) fn take_over_invalidations(&self) -> Result<bool> {
        self.owner.take_over_invalidations(
            &self.watched,
            |floor| self.floors.raise_all_tags(floor),
            |tombstone| {
                if tombstone.reach.covers_log(self.owner.id) {
                    self.floors.apply(tombstone);
                }
            },
        )
    }
}
