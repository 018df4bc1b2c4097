//! Giving back what lies in the trash, a piece at a time.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::item::{TrashItem, bytes_of, trash_name};
use super::{Trash, TrashEvent};
use crate::disk::{Access, EntryKind};
use crate::error::{Error, Result};
use crate::planted::{Bug, is_planted};
use crate::pseudonym::{KEYS_FILE, KeyRing, is_keys};
use crate::segment::Segment;
use crate::segment::writer::segment_name;

/// What is freed in one step: syncs and drops go first in between.
pub(super) const PIECE_BYTES: u64 = 64 << 20;

impl Trash {
    /// Gives back one piece of the oldest thing in here, and what readers have let go of. True if
    /// there is more to do.
    pub(crate) fn reap_step(&self) -> Result<bool> {
        self.reap(|_| true)
    }

    /// As [`Trash::reap_step`], of what is an owner's.
    pub(crate) fn reap_step_of(&self, owner_id: u64) -> Result<bool> {
        self.reap(|item| item.owner_id == owner_id)
    }

    fn reap(&self, is_wanted: impl Fn(&TrashItem) -> bool) -> Result<bool> {
        let _freeing = self.freeing.lock();
        let released = self.inner.lock().take_released();
        // Unmapping a removed file frees its blocks, which takes time: not under the lock.
        drop(released);
        let begun = self.inner.lock().begin_piece(&is_wanted);
        let Some(mut item) = begun else { return Ok(false) };
        let freed = self.free_piece(&mut item);
        let mut inner = self.inner.lock();
        inner.under_way = None;
        match freed {
            Ok(true) => {}
            Ok(false) => inner.waiting.push_front(item),
            Err(e) => {
                // It goes to the back, so that it does not hold up the rest.
                inner.waiting.push_back(item);
                return Err(e);
            }
        }
        Ok(inner.waiting.iter().any(is_wanted))
    }

    /// Frees one piece; true if nothing is left of the item.
    fn free_piece(&self, item: &mut TrashItem) -> Result<bool> {
        let entries = match self.disk.read_dir(&item.path) {
            Ok(entries) => entries,
            // It may have been removed without a sync.
            Err(e) if e.kind() == ErrorKind::NotFound => return self.finish(item),
            Err(_) => {
                let path = item.path.clone();
                return if self.free_file(&path, item)? { self.finish(item) } else { Ok(false) };
            }
        };
        // A directory is none of ours: what cannot be removed must not hold up the segments.
        let mut others: Vec<_> = entries.iter().filter(|entry| !is_keys(entry)).collect();
        others.sort_by_key(|entry| entry.kind == EntryKind::Directory);
        if others.len() < entries.len() {
            match self.destroy_keys(&item.path) {
                // Where nothing is overwritten in place, what goes first may make the room for it.
                Err(Error::NoSpace { .. }) if !others.is_empty() => {}
                destroyed => {
                    destroyed?;
                    let destroyed = item.bucket().map(TrashEvent::KeysDestroyed);
                    self.inner.lock().events.extend(destroyed);
                }
            }
        }
        let Some(entry) = others.first() else {
            self.disk.remove_dir(&item.path).map_err(|e| Error::io("remove", &item.path, e))?;
            return self.finish(item);
        };
        let path = item.path.join(&entry.name);
        if entry.kind == EntryKind::Directory {
            self.disk.remove_dir(&path).map_err(|e| Error::io("remove", &path, e))?;
        } else {
            self.free_file(&path, item)?;
        }
        Ok(false)
    }

    fn finish(&self, item: &mut TrashItem) -> Result<bool> {
        for segment in std::mem::take(&mut item.segments) {
            self.inner.lock().keep_if_pinned(item, segment);
        }
        self.disk.sync_dir(&self.dir).map_err(|e| {
            // Another sync may succeed without having written anything.
            let mut inner = self.inner.lock();
            let through = inner.unsynced.entry(item.owner_id).or_insert(u64::MAX);
            *through = item.scrubbed_through.min(*through);
            Error::io("sync", &self.dir, e)
        })?;
        Ok(true)
    }

    /// Cuts a piece off a file, or unlinks it; true if it is gone.
    fn free_file(&self, path: &Path, item: &mut TrashItem) -> Result<bool> {
        if self.may_cut(path, item) && self.cut(path, item) {
            return Ok(false);
        }
        let bytes = bytes_of(&*self.disk, path, EntryKind::File).unwrap_or(0);
        match self.disk.remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => {
                item.shrink(bytes);
                Ok(true)
            }
        }
    }

    /// True if nobody can have the file mapped. What is still held moves to the pinned.
    fn may_cut(&self, path: &Path, item: &mut TrashItem) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of_path = |segment: &Arc<Segment>| {
            name == segment_name(segment.number())
                || name == trash_name(item.owner_id, "segment", segment.number())
        };
        let Some(at) = item.segments.iter().position(of_path) else {
            // It may have moved there before, and its file not have been removed.
            let is_held = self.inner.lock().pinned.iter().any(|pinned| of_path(&pinned.segment));
            return !is_held && !item.segments.iter().any(|segment| segment.is_mapped());
        };
        let segment = item.segments.swap_remove(at);
        !self.inner.lock().keep_if_pinned(item, segment)
    }

    /// Shortens a large file by a piece; false if it is small, or cannot be shortened.
    fn cut(&self, path: &Path, item: &mut TrashItem) -> bool {
        let Ok(file) = self.disk.open(path, Access::ReadWrite) else { return false };
        let Ok(len) = file.len() else { return false };
        if len <= PIECE_BYTES || file.set_len(len - PIECE_BYTES).is_err() {
            return false;
        }
        item.shrink(PIECE_BYTES);
        true
    }

    /// Overwrites the keys and unlinks them, durably, before anything else of a bucket goes.
    fn destroy_keys(&self, bucket: &Path) -> Result<()> {
        let path = bucket.join(KEYS_FILE);
        if !is_planted(Bug::KeyOutlivesBucket) {
            // Without its name the key could not be overwritten later either.
            KeyRing::wipe(&*self.disk, bucket)?;
        }
        self.disk.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        self.disk.sync_dir(bucket).map_err(|e| Error::io("sync", bucket, e))
    }
}
