//! The trash: what has been dropped and waits for its space to be given back, piece by piece.

mod item;
mod reaping;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::pseudonym::KEYS_FILE;
use crate::segment::Segment;
use crate::sync::Mutex;
use crate::time::Timestamp;

pub(crate) use item::{TrashItem, TrashedBucket, trash_name};

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
    /// Owners of what was unlinked without a sync that can be believed, each with the earliest pass through
    /// which it had been scrubbed.
    unsynced: BTreeMap<u64, u64>,
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

impl Trash {
    /// The trash in this directory; what lies in it from before is taken up.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self> {
        let entries = disk.read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
        let items = entries.into_iter().map(|entry| {
            let owner = entry.name.split('.').next().unwrap_or_default();
            let path = dir.join(&entry.name);
            let owner_id = u64::from_str_radix(owner, 16).unwrap_or(0);
            TrashItem::unread(&*disk, path, entry.kind, owner_id)
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
        let mut inner = self.inner.lock();
        inner.measure(&*self.disk);
        let waiting = inner.waiting.iter().filter(|item| item.owner_id == owner_id);
        let under_way = inner.under_way.iter().filter(|item| item.owner_id == owner_id);
        let pinned = inner.pinned.iter().filter(|pinned| pinned.owner_id == owner_id);
        waiting.filter_map(|item| item.bytes).sum::<u64>()
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

    /// The buckets that wait, with their bytes as far as they could be looked at.
    pub(crate) fn buckets(&self) -> Vec<(TrashedBucket, Option<u64>)> {
        let mut inner = self.inner.lock();
        inner.measure(&*self.disk);
        inner.waiting.iter().filter_map(|item| Some((item.bucket()?, item.bytes))).collect()
    }

    /// True unless the keys of a bucket in here are gone for certain, whichever time it came here. It may have come
    /// without an owner.
    pub(crate) fn has_keys(&self, owner_id: u64, start: Timestamp) -> bool {
        let buckets = self.buckets().into_iter().map(|(bucket, _)| bucket);
        let is_it = |bucket: &TrashedBucket| {
            bucket.start == start && [owner_id, 0].contains(&bucket.owner_id)
        };
        buckets.filter(is_it).any(|bucket| {
            let name = trash_name(bucket.owner_id, &start.compact(), bucket.instance);
            match self.disk.open(&self.dir.join(name).join(KEYS_FILE), Access::Read) {
                Err(e) => e.kind() != ErrorKind::NotFound,
                Ok(_) => true,
            }
        })
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
}

impl Inner {
    /// Looks once more at what could not be looked at.
    fn measure(&mut self, disk: &dyn Disk) {
        self.waiting.iter_mut().for_each(|item| item.measure(disk));
    }

    fn begin_piece(&mut self, is_wanted: &impl Fn(&TrashItem) -> bool) -> Option<TrashItem> {
        let at = self.waiting.iter().position(is_wanted)?;
        let item = self.waiting.remove(at)?;
        let TrashItem { owner_id, scrubbed_through, .. } = item;
        let bytes = item.bytes.unwrap_or(0);
        self.under_way =
            Some(UnderWay { owner_id, bucket: item.bucket(), bytes, scrubbed_through });
        Some(item)
    }

    /// Through which pass each thing had been scrubbed that is not durably unlinked yet and may be
    /// the owner's.
    fn of_owner(&self, owner_id: u64) -> impl Iterator<Item = u64> {
        let waiting = self.waiting.iter().map(|item| (item.owner_id, item.scrubbed_through));
        let under_way = self.under_way.iter().map(|item| (item.owner_id, item.scrubbed_through));
        let unsynced = self.unsynced.iter().map(|(id, through)| (*id, *through));
        let all = waiting.chain(under_way).chain(unsynced);
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
