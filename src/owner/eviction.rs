//! The eviction of single segments, ahead of their bucket.

use std::path::Path;
use std::sync::Arc;

use super::Owner;
use crate::disk::EntryKind;
use crate::engine::count;
use crate::error::Result;
use crate::segment::sidecar::sidecar_path;
use crate::sync::atomic::Ordering;
use crate::trash::{TrashItem, trash_name};

impl Owner {
    /// Evicts the oldest segment, durably; false if there is none. It must not be written to.
    pub(crate) fn evict_oldest(&self) -> Result<bool> {
        let side = self.engine.write_side()?;
        let _membership = self.membership.lock();
        let oldest = self.table.read().iter().next().map(|(_, segment)| Arc::clone(segment));
        let Some(segment) = oldest else { return Ok(false) };
        let to = side.trash.dir().join(trash_name(self.id, "segment", segment.number()));
        let disk = &self.engine.disk;
        side.trash.take_in(segment.path(), &to)?;
        self.sealing.lock().retain(|writer| writer.segment().number() != segment.number());
        let gone = self.table.remove_if(|other| other.number() == segment.number());
        let scrubbed_through = self.note_left(&gone);
        // One that is being sealed just now removes its sidecar itself.
        let _ = disk.remove_file(&sidecar_path(segment.path()));
        let bucket_dir = segment.path().parent().unwrap_or(&self.dir);
        let synced =
            self.engine.sync_dir(side.trash.dir()).and_then(|()| self.engine.sync_dir(bucket_dir));
        let (bytes, min_seq, tried_seq) =
            (Some(segment.file_bytes()), segment.min_seq(), segment.tried_seq());
        drop(segment);
        let (owner_id, segments) = (self.id, gone);
        side.trash.push(TrashItem { path: to, owner_id, bytes, segments, scrubbed_through });
        count(&self.engine.counters.segments_evicted);
        synced.inspect_err(|_| {
            self.note_undurable(Some(min_seq));
            self.undurable_evicted.fetch_max(tried_seq, Ordering::AcqRel);
        })?;
        Ok(true)
    }

    /// The highest number in the file of an evicted segment that may be back after a power cut, 0 if there is none.
    pub(crate) fn undurable_evicted(&self) -> u64 {
        self.undurable_evicted.load(Ordering::Acquire)
    }

    /// Moves a segment file that was not taken up to the trash, durably. A floor hides all of it.
    pub(crate) fn discard(&self, number: u64, path: &Path) -> Result<()> {
        let side = self.engine.write_side()?;
        let to = side.trash.dir().join(trash_name(self.id, "segment", number));
        side.trash.take_in(path, &to)?;
        let disk = &*self.engine.disk;
        let _ = disk.remove_file(&sidecar_path(path));
        side.trash.push(TrashItem::unread(disk, to, EntryKind::File, self.id));
        self.engine.sync_dir(side.trash.dir())?;
        self.engine.sync_dir(path.parent().unwrap_or(&self.dir))
    }
}
