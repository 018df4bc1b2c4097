//! The drop of buckets whose time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::Owner;
use crate::bucket::Bucket;
use crate::disk::{Access, DirEntry, DiskFile, EntryKind, write_all_at};
use crate::engine::count;
use crate::error::{Error, Result};
use crate::format::ledger::How;
use crate::format::segment_header::{CAP_OFFSET, SegmentHeader};
use crate::ledger::{Counts, DropNote};
use crate::planted::{Bug, is_planted};
use crate::pseudonym::{KeyRing, is_keys};
use crate::segment::Segment;
use crate::segment::load::{LoadError, read_header};
use crate::segment::writer::{parse_segment_name, segment_name};
use crate::time::Timestamp;
use crate::trash::{TrashItem, trash_name};

impl Owner {
    /// The buckets whose deadline has passed at `now`, in the order in which they must leave: that
    /// of their segments, so that no older version is uncovered in between.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<Arc<Bucket>> {
        let buckets = self.buckets.read();
        let mut expired: Vec<_> =
            buckets.values().filter(|bucket| bucket.deadline() <= now).cloned().collect();
        let table = self.table.read();
        expired.sort_by_key(|bucket| {
            let start_ms = bucket.start.as_millis();
            let mut segments = table.iter().map(|(_, segment)| segment);
            let first = segments.find(|segment| segment.header.bucket_start_ms == start_ms);
            first.map_or(0, |segment| segment.number())
        });
        expired
    }

    /// Drops a bucket: when this returns, its leaving is durable, and its space is the reaper's.
    ///
    /// The caller has made the engine time durable, and lets nobody write into the bucket. `counts`
    /// say what was in it if its segments were not taken up.
    pub(crate) fn drop_bucket(&self, bucket: &Bucket, counts: Option<Counts>) -> Result<()> {
        let side = self.engine.write_side()?;
        let _membership = self.membership.lock();
        let name = bucket.start.compact();
        let instance = self.engine.next_number();
        let to = side.trash.dir().join(trash_name(self.id, &name, instance));
        // One that could not be dropped as it was found was not read since.
        let counts = counts.or_else(|| bucket.is_condemned().then(Counts::default));
        let note = |counts| DropNote {
            bucket: self.in_ledger(bucket),
            how: How::Witnessed,
            instance,
            counts,
            unsynced: Vec::new(),
        };
        if is_planted(Bug::LedgerBeforeDrop) {
            side.ledger.bucket_dropped(self.engine.trusted_now(), note(Counts::default()));
        }
        side.trash.take_in(bucket.dir(), &to)?;
        let in_bucket =
            |segment: &Segment| segment.header.bucket_start_ms == bucket.start.as_millis();
        self.sealing.lock().retain(|writer| !in_bucket(writer.segment()));
        let gone = self.table.remove_if(in_bucket);
        bucket.set_keys(None);
        self.buckets.write().remove(&bucket.start);
        let scrubbed_through = self.note_left(&gone);
        let bytes = gone.iter().map(|segment| segment.allocated_bytes()).sum();
        let records = gone.iter().map(|segment| segment.records()).sum();
        let min_seq = gone.iter().map(|segment| segment.min_seq()).min();
        let dirs = [side.trash.dir().to_owned(), self.dir.clone()];
        let mut to_sync = dirs.iter().filter(|_| !is_planted(Bug::DropNotSynced));
        let synced = to_sync.try_for_each(|dir| self.engine.sync_dir(dir));
        let synced = synced.or_else(|error| self.condemn(bucket, &to).and(Err(error)));
        let (owner_id, segments) = (self.id, gone);
        side.trash.push(match counts {
            Some(_) => TrashItem::unread(&*self.engine.disk, to, EntryKind::Directory, owner_id),
            None => {
                TrashItem { path: to, owner_id, bytes: Some(bytes), segments, scrubbed_through }
            }
        });
        count(&self.engine.counters.buckets_dropped);
        let counted = Counts { records: Some(records), bytes: Some(bytes) };
        if synced.is_err() {
            side.ledger.dropped_uncertainly(self.in_ledger(bucket));
        } else if !is_planted(Bug::LedgerBeforeDrop) {
            let note = note(counts.unwrap_or(counted));
            side.ledger.bucket_dropped(self.engine.trusted_now(), note);
        }
        synced.inspect_err(|_| self.note_undurable(min_seq))
    }

    /// Lets the segments of a bucket, in this directory, say that they have left, durably. It may stay there, or be back
    /// after a power cut; if the clock has been set back by then, it must not be valid again, without the newer
    /// buckets that hid what is in it. Where none can say so, its keys are overwritten: without them it leaves.
    pub(crate) fn condemn(&self, bucket: &Bucket, dir: &Path) -> Result<()> {
        let disk = &*self.engine.disk;
        let listing = disk.read_dir(dir).map_err(|e| Error::io("list", dir, e))?;
        let mut is_said = false;
        for number in listing.iter().filter_map(|entry| parse_segment_name(&entry.name)) {
            let path = dir.join(segment_name(number));
            let file = disk.open(&path, Access::ReadWrite);
            let file = file.map_err(|e| Error::io("open", &path, e))?;
            match read_header(&*file, &path) {
                Ok(header) if self.owns(&header, bucket, number) => {
                    write_cap(&*file, &path, &header, Bucket::CONDEMNED)?;
                }
                Err(LoadError::Failed(error)) => return Err(error),
                // Nothing in it is ever served, nor believed.
                _ => continue,
            }
            file.sync_data().map_err(|e| Error::io("sync", &path, e))?;
            is_said = true;
        }
        if !is_said && listing.iter().any(is_keys) {
            KeyRing::wipe(disk, dir)?;
        }
        Ok(())
    }

    /// Removes the directories of a keyspace's buckets that hold no segment any more and that nothing
    /// will be written to. Those of a log hold its keys.
    pub(crate) fn remove_empty_buckets(&self, now: Timestamp) {
        let _membership = self.membership.lock();
        let current = self.window.bucket_start(now);
        let held: BTreeSet<u64> =
            self.segments().map(|segment| segment.header.bucket_start_ms).collect();
        let Ok(side) = self.engine.write_side() else { return };
        self.buckets.write().retain(|start, bucket| {
            let empty = *start < current && !held.contains(&start.as_millis());
            let removed = empty && self.engine.disk.remove_dir(bucket.dir()).is_ok();
            if removed {
                let note = DropNote {
                    bucket: self.in_ledger(bucket),
                    how: How::Emptied,
                    instance: 0,
                    counts: Counts { records: Some(0), bytes: Some(0) },
                    unsynced: vec![self.dir.clone()],
                };
                side.ledger.drop_found(now, note);
            }
            !removed
        });
    }

    /// Gives up the buckets of which the ledger tells the birth, which could not be made, and to which
    /// nobody comes back: it would call them open until the next opening.
    pub(crate) fn give_up_unmade(&self, is_over: impl Fn(&Bucket) -> bool) -> Result<()> {
        let side = self.engine.write_side()?;
        let open = || {
            let starts = side.ledger.open_of(self.id).into_iter();
            starts.map(|start| Bucket::new(&self.dir, self.window, start))
        };
        let unmade = |bucket: &Bucket, buckets: &BTreeMap<_, _>| {
            !buckets.contains_key(&bucket.start) && is_over(bucket)
        };
        // Writers are held up only where there is one, which is rare: asking the ledger may take a while.
        let mut seen = open();
        let is_none = {
            let buckets = self.buckets.read();
            !seen.any(|bucket| unmade(&bucket, &buckets))
        };
        if is_none {
            return Ok(());
        }
        let _membership = self.membership.lock();
        // Nobody makes one meanwhile.
        let buckets = self.buckets.write();
        let mut found = open().filter(|bucket| unmade(bucket, &buckets));
        found.try_for_each(|bucket| self.give_up(&bucket))
    }

    /// Moves what is there of a bucket that could not be made to the trash. There may be keys, under which
    /// nothing was said.
    fn give_up(&self, bucket: &Bucket) -> Result<()> {
        let side = self.engine.write_side()?;
        let mut instance = self.engine.next_number();
        let name = trash_name(self.id, &bucket.start.compact(), instance);
        let to = side.trash.dir().join(name);
        match side.trash.take_in(bucket.dir(), &to) {
            Err(e) if e.is_not_found() => instance = 0,
            taken => {
                taken?;
                let disk = &*self.engine.disk;
                side.trash.push(TrashItem::unread(disk, to, EntryKind::Directory, self.id));
            }
        }
        let note = DropNote {
            bucket: self.in_ledger(bucket),
            how: How::Emptied,
            instance,
            counts: Counts { records: Some(0), bytes: Some(0) },
            unsynced: vec![side.trash.dir().to_owned(), self.dir.clone()],
        };
        side.ledger.drop_found(self.engine.trusted_now(), note);
        Ok(())
    }

    /// Brings forward the deadlines of buckets in a future that was wrong, in memory. The time has been
    /// set to this moment, durably: by the time before they could already be over.
    pub(crate) fn lower_deadlines(&self, to: Timestamp) {
        for bucket in self.buckets.read().values() {
            bucket.correct(self.window, to);
        }
        for bucket in self.lowered() {
            for segment in self.segments_of(&bucket) {
                segment.lower_deadline(bucket.deadline());
            }
        }
    }

    /// Writes the deadlines that were brought forward to the headers of the segments, as far as that can be
    /// done, and gives the first error.
    pub(crate) fn write_deadlines(&self, to: Timestamp) -> Result<()> {
        let mut all_written = Ok(());
        for bucket in self.lowered() {
            let mut segments = self.segments_of(&bucket).peekable();
            if segments.peek().is_none() {
                // Its directory alone could not say the new deadline. Nobody knows what is in one that was not taken up.
                let counts = self.may_hold_segments(&bucket).then(Counts::default);
                all_written = all_written.and(self.drop_bucket(&bucket, counts));
                continue;
            }
            for segment in segments {
                all_written = all_written.and(self.write_deadline(&segment));
            }
        }
        all_written.and(self.give_up_unmade(|bucket| bucket.start >= to))
    }

    /// True unless there is no file of a segment in the directory of a bucket.
    fn may_hold_segments(&self, bucket: &Bucket) -> bool {
        let is_segment = |entry: &DirEntry| parse_segment_name(&entry.name).is_some();
        let listing = self.engine.disk.read_dir(bucket.dir());
        listing.map_or(true, |listing| listing.iter().any(is_segment))
    }

    /// The buckets whose deadline was brought forward.
    fn lowered(&self) -> Vec<Arc<Bucket>> {
        let buckets = self.buckets.read();
        let is_lowered =
            |bucket: &&Arc<Bucket>| bucket.deadline() < self.window.deadline(bucket.start);
        buckets.values().filter(is_lowered).cloned().collect()
    }

    fn segments_of(&self, bucket: &Bucket) -> impl Iterator<Item = Arc<Segment>> + '_ {
        let start_ms = bucket.start.as_millis();
        self.segments().filter(move |segment| segment.header.bucket_start_ms == start_ms)
    }

    /// Writes the deadline of a segment down, also if its header says it already: it may be there only
    /// because an earlier process wrote it and ended before it was durable. If the sync fails writing is
    /// poisoned: records of the segment that were not durable yet may be lost with it.
    fn write_deadline(&self, segment: &Segment) -> Result<()> {
        let (disk, path) = (&*self.engine.disk, segment.path());
        let file = disk.open(path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))?;
        write_cap(&*file, path, &segment.header, segment.deadline())?;
        segment.sync_through(&*file).map_err(|e| self.engine.poison(e))
    }
}

/// Lets a segment file say this deadline.
fn write_cap(
    file: &dyn DiskFile,
    path: &Path,
    header: &SegmentHeader,
    deadline: Timestamp,
) -> Result<()> {
    let cap = header.encode_cap(deadline.as_millis());
    let write = || write_all_at(file, &mut [IoSlice::new(&cap)], CAP_OFFSET);
    // A half of it would make the whole segment one that cannot be read.
    write().or_else(|_| write()).map_err(|e| Error::io("write", path, e.source))
}
