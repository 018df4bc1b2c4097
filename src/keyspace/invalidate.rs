//! Hiding: floors first, then slots, then the durable tombstone.

use std::sync::Arc;

use super::KeyspaceCore;
use crate::error::Result;
use crate::floors::Floor;
use crate::format::tombstone::{Reach, Tombstone, TombstoneMode, TombstoneScope};
use crate::hash::KeyedHash;
use crate::index::Change;
use crate::invalidation::{Covered, Invalidation};
use crate::owner::Owner;
use crate::receipt::Receipt;
use crate::segment::Segment;
use crate::time::Timestamp;

impl Covered for KeyspaceCore {
    fn hide(&self, tombstone: &Tombstone) {
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

    fn give_up_oldest(&self) -> Result<bool> {
        self.evict_for_space()
    }

    fn hide_all_without_room(&self, tombstone: &Tombstone) -> Result<bool> {
        self.hide_all(Floor { seq: tombstone.floor, at_ms: tombstone.at_ms })?;
        Ok(true)
    }
}

impl KeyspaceCore {
    /// Hides what an invalidation is about, all of it or nothing.
    pub(super) fn invalidate(self: &Arc<Self>, invalidation: &Invalidation) -> Result<Receipt> {
        let Owner { engine, id, .. } = &self.owner;
        let begun = invalidation.begin(engine, Some(&self.denials))?;
        begun.hide(Reach::Owner(*id), vec![Arc::clone(self) as _]).commit()
    }

    /// Hides all up to a number. When this returns well that is durable; it needs no space.
    pub(super) fn hide_all(&self, floor: Floor) -> Result<()> {
        self.floors.raise(TombstoneScope::All, &[], floor);
        self.owner.update_manifest(|manifest| manifest.floor = manifest.floor.max(floor.seq))
    }

    /// Removes the slot of a key, unless it names a record that may lie above the floor.
    fn remove_slot(&self, hash: KeyedHash, floor: u64) {
        self.index.change(hash.fingerprint(), |location| {
            let Some((segment, offset)) = location.and_then(|location| self.resolve(location))
            else {
                return Change::Remove;
            };
            if !self.is_under(&segment, offset, floor) {
                return Change::Keep;
            }
            // Under the lock: whoever meets no slot meets a count without it.
            segment.remove_live();
            Change::Remove
        });
    }

    /// True if the record there is known not to have a number above the floor. Of one that cannot be read just
    /// now that is not known, and whoever reads it asks the floor too.
    fn is_under(&self, segment: &Segment, offset: u64, floor: u64) -> bool {
        if segment.max_seq() <= floor {
            return true;
        }
        if segment.min_seq() > floor {
            return false;
        }
        let head = segment.read_head(offset);
        if head.is_err() {
            self.doubts.raise();
        }
        head.is_ok_and(|head| head.seq <= floor)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::disk::MemoryDisk;
    use crate::error::Error;
    use crate::floors::Floor;
    use crate::options::KeyspaceOptions;
    use crate::retention::Retention;
    use crate::store::Store;

    /// A thread may have been on its way to this when the store was closed; another process may have it now.
    #[test]
    fn nothing_is_hidden_by_the_manifest_of_a_store_that_was_closed() {
        let disk = MemoryDisk::new(1);
        let store = Store::builder("/data").disk(disk.clone()).background(false).open().unwrap();
        let images = store.keyspace("images", KeyspaceOptions::new(Retention::hours(16))).unwrap();
        store.close().unwrap();
        let manifest = || disk.read_file(Path::new("/data/keyspaces/images/KEYSPACE")).unwrap();
        let before = manifest();
        let hidden = images.core.hide_all(Floor::undated(7));
        assert!(matches!(hidden, Err(Error::Closed)), "{hidden:?}");
        assert_eq!(manifest(), before);
    }
}
