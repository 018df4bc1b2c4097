//! The trash: what has been dropped and waits for its space to be given back, piece by piece.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, EntryKind};
use crate::error::{Error, Result};
use crate::format::keys;
use crate::planted::{Bug, is_planted};
use crate::pseudonym::KEYS_FILE;
use crate::segment::Segment;
use crate::segment::writer::segment_name;
use crate::sync::Mutex;
use crate::time::Timestamp;
use crate::twin_file::TwinFile;

#[cfg(test)]
mod tests;

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
    /// What was dead before this pass of scrubbing began had been erased when it left.
    pub(crate) scrubbed_through: u64,
}

/// A dropped bucket, as its name in the trash tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrashedBucket {
    pub(crate) owner_id: u64,
    pub(crate) start: Timestamp,
    pub(crate) instance: u64,
}

/// Something that happened in the trash and is worth writing down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrashEvent {
    /// The keys of a bucket have been overwritten and unlinked, durably.
    KeysDestroyed(TrashedBucket),
    /// Readers let go of the last they held of a bucket: of so many segments, and bytes.
    Released(TrashedBucket, u64, u64),
}

/// The trash of a store.
#[derive(Debug)]
pub(crate) struct Trash {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    inner: Mutex<Inner>,
    /// Held while a piece is given back: whoever needs the space waits for it, and evicts nothing instead.
    freeing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<TrashItem>,
    /// What is being freed right now.
    under_way: Option<UnderWay>,
    /// Unlinked segments that readers still hold.
    pinned: Vec<Pinned>,
    /// Buckets of which readers held segments, by their instance: how many, and how many bytes.
    held: BTreeMap<u64, (TrashedBucket, u64, u64)>,
    events: Vec<TrashEvent>,
}

#[derive(Debug)]
struct UnderWay {
    owner_id: u64,
    bucket: Option<TrashedBucket>,
    bytes: u64,
    scrubbed_through: u64,
}

#[derive(Debug)]
struct Pinned {
    owner_id: u64,
    bucket: Option<TrashedBucket>,
    segment: Arc<Segment>,
}

/// The name of something in the trash: whose it was, which bucket, and a number never used twice.
pub(crate) fn trash_name(owner_id: u64, bucket: &str, instance: u64) -> String {
    format!("{owner_id:016x}.{bucket}.{instance:016x}")
}

impl TrashItem {
    /// The bucket it is, unless it is a single segment.
    fn bucket(&self) -> Option<TrashedBucket> {
        let name = self.path.file_name()?.to_str()?;
        let mut parts = name.split('.');
        let owner_id = u64::from_str_radix(parts.next()?, 16).ok()?;
        let start = Timestamp::from_compact(parts.next()?)?;
        let instance = u64::from_str_radix(parts.next()?, 16).ok()?;
        let bucket = TrashedBucket { owner_id, start, instance };
        (trash_name(owner_id, &start.compact(), instance) == name).then_some(bucket)
    }

    fn under_way(&self) -> UnderWay {
        let Self { owner_id, bytes, scrubbed_through, .. } = *self;
        UnderWay { owner_id, bucket: self.bucket(), bytes, scrubbed_through }
    }
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
                scrubbed_through: 0,
            }
        });
        let inner = Inner { waiting: items.collect(), ..Inner::default() };
        Ok(Self { disk, dir, inner: Mutex::new(inner), freeing: Mutex::new(()) })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves something here, under a name never used before: if that is there afterwards, it was moved,
    /// whatever the system says.
    pub(crate) fn take_in(&self, from: &Path, to: &Path) -> Result<()> {
        let is_here = || self.disk.open(to, Access::Read).is_ok() || self.disk.read_dir(to).is_ok();
        match self.disk.rename(from, to) {
            Err(e) if !is_here() => Err(Error::io("rename", from, e)),
            _ => Ok(()),
        }
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
        let under_way = inner.under_way.iter().filter(|item| item.owner_id == owner_id);
        let pinned = inner.pinned.iter().filter(|pinned| pinned.owner_id == owner_id);
        waiting.map(|item| item.bytes).sum::<u64>()
            + under_way.map(|item| item.bytes).sum::<u64>()
            + pinned.map(|pinned| pinned.segment.file_bytes()).sum::<u64>()
    }

    /// True if something of an owner waits to be unlinked.
    pub(crate) fn holds(&self, owner_id: u64) -> bool {
        self.inner.lock().of_owner(owner_id).next().is_some()
    }

    /// True if what waits to be unlinked of an owner holds nothing that was dead before this pass of
    /// scrubbing began.
    pub(crate) fn is_scrubbed(&self, owner_id: u64, pass: u64) -> bool {
        self.inner.lock().of_owner(owner_id).all(|through| through >= pass)
    }

    /// Bytes of dropped segments that readers still hold.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        let inner = self.inner.lock();
        let pinned = inner.pinned.iter().filter(|pinned| is_pinned(&pinned.segment));
        pinned.map(|pinned| pinned.segment.file_bytes()).sum()
    }

    /// When the first of them was due to be gone.
    pub(crate) fn pinned_since(&self) -> Option<Timestamp> {
        let inner = self.inner.lock();
        let pinned = inner.pinned.iter().filter(|pinned| is_pinned(&pinned.segment));
        pinned.map(|pinned| pinned.segment.deadline()).min()
    }

    /// The unlinked segments that readers still hold, each with its owner.
    pub(crate) fn pinned(&self) -> Vec<(u64, Arc<Segment>)> {
        let inner = self.inner.lock();
        let pinned = inner.pinned.iter().filter(|pinned| is_pinned(&pinned.segment));
        pinned.map(|pinned| (pinned.owner_id, Arc::clone(&pinned.segment))).collect()
    }

    /// Things waiting.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// The buckets that wait, with their bytes.
    pub(crate) fn buckets(&self) -> Vec<(TrashedBucket, u64)> {
        let inner = self.inner.lock();
        inner.waiting.iter().filter_map(|item| Some((item.bucket()?, item.bytes))).collect()
    }

    /// True unless the keys of a bucket in here are gone for certain.
    pub(crate) fn has_keys(&self, bucket: TrashedBucket) -> bool {
        let name = trash_name(bucket.owner_id, &bucket.start.compact(), bucket.instance);
        match self.disk.open(&self.dir.join(name).join(KEYS_FILE), Access::Read) {
            Err(e) => e.kind() != ErrorKind::NotFound,
            Ok(_) => true,
        }
    }

    /// What happened since it was last asked.
    pub(crate) fn take_events(&self) -> Vec<TrashEvent> {
        let mut inner = self.inner.lock();
        let mut events = std::mem::take(&mut inner.events);
        let Inner { waiting, under_way, pinned, held, .. } = &mut *inner;
        let is_gone = |instance: u64| {
            let is_it =
                |bucket: Option<TrashedBucket>| bucket.is_some_and(|b| b.instance == instance);
            !pinned.iter().any(|pinned| is_it(pinned.bucket))
                && !waiting.iter().any(|item| is_it(item.bucket()))
                && !under_way.iter().any(|item| is_it(item.bucket))
        };
        held.retain(|instance, (bucket, segments, bytes)| {
            let is_gone = is_gone(*instance);
            if is_gone {
                events.push(TrashEvent::Released(*bucket, *segments, *bytes));
            }
            !is_gone
        });
        events
    }

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
        if entries.iter().any(|entry| entry.name == KEYS_FILE) {
            self.destroy_keys(&item.path)?;
            let destroyed = item.bucket().map(TrashEvent::KeysDestroyed);
            self.inner.lock().events.extend(destroyed);
        }
        // A directory is none of ours: what cannot be removed must not hold up the segments.
        let mut others: Vec<_> = entries.iter().filter(|entry| entry.name != KEYS_FILE).collect();
        others.sort_by_key(|entry| entry.kind == EntryKind::Directory);
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
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        Ok(true)
    }

    /// Cuts a piece off a file, or unlinks it; true if it is gone.
    fn free_file(&self, path: &Path, item: &mut TrashItem) -> Result<bool> {
        if self.may_cut(path, item) && self.cut(path, item) {
            return Ok(false);
        }
        let bytes = bytes_of(&*self.disk, path, EntryKind::File);
        match self.disk.remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => {
                item.bytes = item.bytes.saturating_sub(bytes);
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
            return !item.segments.iter().any(|segment| segment.is_mapped());
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
        item.bytes = item.bytes.saturating_sub(PIECE_BYTES);
        true
    }

    /// Overwrites the keys and unlinks them, durably, before anything else of a bucket goes.
    fn destroy_keys(&self, bucket: &Path) -> Result<()> {
        let path = bucket.join(KEYS_FILE);
        let mut wiped = Ok(());
        if !is_planted(Bug::KeyOutlivesBucket) {
            wiped = TwinFile::open(&*self.disk, &path, keys::MAGIC).and_then(|(t, _)| t.wipe());
        }
        let removed = self.disk.remove_file(&path).map_err(|e| Error::io("remove", &path, e));
        wiped.and(removed)?;
        self.disk.sync_dir(bucket).map_err(|e| Error::io("sync", bucket, e))
    }
}

impl Inner {
    fn begin_piece(&mut self, is_wanted: &impl Fn(&TrashItem) -> bool) -> Option<TrashItem> {
        let at = self.waiting.iter().position(is_wanted)?;
        let item = self.waiting.remove(at)?;
        self.under_way = Some(item.under_way());
        Some(item)
    }

    /// Through which pass each thing had been scrubbed that is not unlinked yet and may be the
    /// owner's.
    fn of_owner(&self, owner_id: u64) -> impl Iterator<Item = u64> {
        let waiting = self.waiting.iter().map(|item| (item.owner_id, item.scrubbed_through));
        let under_way = self.under_way.iter().map(|item| (item.owner_id, item.scrubbed_through));
        let all = waiting.chain(under_way);
        all.filter(move |(id, _)| *id == owner_id || *id == 0).map(|(_, through)| through)
    }

    fn keep_if_pinned(&mut self, item: &TrashItem, segment: Arc<Segment>) -> bool {
        let is_held = is_pinned(&segment);
        if is_held {
            let (owner_id, bucket) = (item.owner_id, item.bucket());
            if let Some(bucket) = bucket {
                let (_, segments, bytes) =
                    self.held.entry(bucket.instance).or_insert((bucket, 0, 0));
                *segments += 1;
                *bytes += segment.file_bytes();
            }
            self.pinned.push(Pinned { owner_id, bucket, segment });
        }
        is_held
    }

    fn take_released(&mut self) -> Vec<Pinned> {
        self.pinned.extract_if(.., |pinned| !is_pinned(&pinned.segment)).collect()
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
