//! The trash: what has been dropped and waits for its space to be given back, piece by piece.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, EntryKind};
use crate::error::{Error, Result};
use crate::format::keys;
use crate::pseudonym::KEYS_FILE;
use crate::segment::Segment;
use crate::segment::writer::segment_name;
use crate::sync::Mutex;
use crate::twin_file::TwinFile;

/// What is freed in one step: syncs and drops go first in between.
const PIECE_BYTES: u64 = 64 << 20;

/// Something in the trash directory.
#[derive(Debug)]
pub(crate) struct TrashItem {
    pub(crate) path: PathBuf,
    pub(crate) owner_id: u64,
    pub(crate) bytes: u64,
    /// The segments in it that this process had open.
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// The trash of a store.
#[derive(Debug)]
pub(crate) struct Trash {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<TrashItem>,
    /// Unlinked segments that readers still hold, with their owner.
    pinned: Vec<(u64, Arc<Segment>)>,
}

/// The name of something in the trash: whose it was, which bucket, and a number never used twice.
pub(crate) fn trash_name(owner_id: u64, bucket: &str, instance: u64) -> String {
    format!("{owner_id:016x}.{bucket}.{instance:016x}")
}

impl Trash {
    /// The trash in this directory; what lies in it from before is taken up.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self> {
        let entries = disk.read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
        let items = entries.into_iter().map(|entry| {
            let owner = entry.name.split('.').next().unwrap_or_default();
            let path = dir.join(&entry.name);
            TrashItem {
                owner_id: u64::from_str_radix(owner, 16).unwrap_or(0),
                bytes: bytes_of(&*disk, &path, entry.kind),
                path,
                segments: Vec::new(),
            }
        });
        let inner = Inner { waiting: items.collect(), pinned: Vec::new() };
        Ok(Self { disk, dir, inner: Mutex::new(inner) })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes something that has just been moved here.
    pub(crate) fn push(&self, item: TrashItem) {
        for segment in &item.segments {
            segment.retire();
        }
        self.inner.lock().waiting.push_back(item);
    }

    /// Bytes of an owner that are not given back yet, held values included.
    pub(crate) fn bytes(&self, owner_id: u64) -> u64 {
        let inner = self.inner.lock();
        let waiting = inner.waiting.iter().filter(|item| item.owner_id == owner_id);
        let pinned = inner.pinned.iter().filter(|(owner, _)| *owner == owner_id);
        waiting.map(|item| item.bytes).sum::<u64>()
            + pinned.map(|(_, segment)| segment.allocated_bytes()).sum::<u64>()
    }

    /// Bytes of dropped segments that readers still hold.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        let inner = self.inner.lock();
        let pinned = inner.pinned.iter().filter(|(_, segment)| is_pinned(segment));
        pinned.map(|(_, segment)| segment.allocated_bytes()).sum()
    }

    /// Things waiting.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Gives back one piece of the oldest thing in here, and what readers have let go of. True if
    /// there is more to do.
    pub(crate) fn reap_step(&self) -> Result<bool> {
        let released = self.inner.lock().take_released();
        // Unmapping a removed file frees its blocks, which takes time: not under the lock.
        drop(released);
        let Some(mut item) = self.inner.lock().waiting.pop_front() else { return Ok(false) };
        match self.free_piece(&mut item) {
            Ok(true) => {}
            Ok(false) => self.inner.lock().waiting.push_front(item),
            Err(e) => {
                // It goes to the back, so that it does not hold up the rest.
                self.inner.lock().waiting.push_back(item);
                return Err(e);
            }
        }
        Ok(self.len() > 0)
    }

    /// Frees one piece; true if nothing is left of the item.
    fn free_piece(&self, item: &mut TrashItem) -> Result<bool> {
        let entries = match self.disk.read_dir(&item.path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(_) => {
                let path = item.path.clone();
                return if self.free_file(&path, item)? { self.finish(item) } else { Ok(false) };
            }
        };
        if entries.iter().any(|entry| entry.name == KEYS_FILE) {
            self.destroy_keys(&item.path)?;
        }
        let Some(entry) = entries.iter().find(|entry| entry.name != KEYS_FILE) else {
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
            self.inner.lock().keep_if_pinned(item.owner_id, segment);
        }
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        Ok(true)
    }

    /// Cuts a piece off a file, or unlinks it; true if it is gone.
    fn free_file(&self, path: &Path, item: &mut TrashItem) -> Result<bool> {
        if self.may_cut(path, item) && self.cut(path, item) {
            return Ok(false);
        }
        match self.disk.remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => Ok(true),
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
            return !item.segments.iter().any(|segment| segment.is_mapped());
        };
        let segment = item.segments.swap_remove(at);
        !self.inner.lock().keep_if_pinned(item.owner_id, segment)
    }

    /// Shortens a large file by a piece; false if it is small, or cannot be shortened.
    fn cut(&self, path: &Path, item: &mut TrashItem) -> bool {
        let Ok(file) = self.disk.open(path, Access::ReadWrite) else { return false };
        let Ok(len) = file.len() else { return false };
        if len <= PIECE_BYTES || file.set_len(len - PIECE_BYTES).is_err() {
            return false;
        }
        item.bytes = item.bytes.saturating_sub(PIECE_BYTES);
        true
    }

    /// Overwrites the keys and unlinks them, durably, before anything else of a bucket goes.
    fn destroy_keys(&self, bucket: &Path) -> Result<()> {
        let path = bucket.join(KEYS_FILE);
        let wiped = TwinFile::open(&*self.disk, &path, keys::MAGIC).and_then(|(t, _)| t.wipe());
        let removed = self.disk.remove_file(&path).map_err(|e| Error::io("remove", &path, e));
        wiped.and(removed)?;
        self.disk.sync_dir(bucket).map_err(|e| Error::io("sync", bucket, e))
    }
}

impl Inner {
    fn keep_if_pinned(&mut self, owner_id: u64, segment: Arc<Segment>) -> bool {
        let pinned = is_pinned(&segment);
        if pinned {
            self.pinned.push((owner_id, segment));
        }
        pinned
    }

    fn take_released(&mut self) -> Vec<(u64, Arc<Segment>)> {
        self.pinned.extract_if(.., |(_, segment)| !is_pinned(segment)).collect()
    }
}

fn is_pinned(segment: &Arc<Segment>) -> bool {
    Arc::strong_count(segment) > 1 || segment.pins() > 0
}

fn bytes_of(disk: &dyn Disk, path: &Path, kind: EntryKind) -> u64 {
    match kind {
        EntryKind::File => {
            disk.open(path, Access::Read).and_then(|file| file.allocated_bytes()).unwrap_or(0)
        }
        EntryKind::Directory => {
            let entries = disk.read_dir(path).unwrap_or_default();
            let files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
            files.map(|entry| bytes_of(disk, &path.join(&entry.name), entry.kind)).sum()
        }
        EntryKind::Other => 0,
    }
}
