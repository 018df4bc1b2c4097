//! What lies in the directory of an owner: buckets whose segments are to be taken up, those that leave,
//! and the files of values that were being written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Recovery, touch};
use crate::bucket::Bucket;
use crate::disk::{Access, DirEntry, Disk, EntryKind, read_full_at};
use crate::error::{Error, Result};
use crate::format::record::RecordKind;
use crate::format::segment_header::{HEADER_LEN, MAX_LEN, SegmentHeader};
use crate::format::sidecar;
use crate::ledger::Counts;
use crate::owner::{Owner, manifest_file};
use crate::pseudonym::KeyRing;
use crate::segment::load::{LoadError, read_header};
use crate::segment::part::is_part_name;
use crate::segment::sidecar::sidecar_path;
use crate::segment::writer::{parse_segment_name, segment_name};
use crate::time::Timestamp;

/// A segment file that is to be taken up.
pub(super) struct Waiting {
    pub(super) bucket: Arc<Bucket>,
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// A measure of the work that taking it up may be.
    pub(super) bytes: u64,
    /// So much of it is on the disk at most; files may have holes.
    pub(super) allocated: u64,
}

/// What a segment file says of itself.
#[derive(Default)]
pub(super) struct Stated {
    /// None if what is there is no header that can be believed.
    pub(super) header: Option<SegmentHeader>,
    len: u64,
    /// So much of it takes space.
    allocated: u64,
}

impl Recovery<'_> {
    /// The segments of an owner that are to be taken up, in the order of their numbers. Buckets past
    /// their deadline are dropped unread.
    pub(super) fn waiting(&mut self, owner: &Owner) -> Result<Vec<Waiting>> {
        let mut waiting = Vec::new();
        let disk = &*self.engine.disk;
        let entries = disk.read_dir(owner.dir()).map_err(|e| Error::io("list", owner.dir(), e))?;
        if owner.kind == RecordKind::Blob && !self.engine.is_read_only() {
            for path in parts(owner.dir(), &entries) {
                let bytes = self.allocated(&path);
                owner.give_up_file(0, path, bytes);
            }
        }
        let dirs = entries.iter().filter(|entry| entry.kind == EntryKind::Directory);
        let starts = dirs.filter_map(|entry| Timestamp::from_compact(&entry.name));
        let (buckets, others): (Vec<_>, Vec<_>) = starts
            .map(|start| Arc::new(Bucket::new(owner.dir(), owner.window, start)))
            .partition(|bucket| owner.window.is_start(bucket.start));
        self.report.corrupt_records.extend(others.iter().map(|bucket| bucket.dir().to_owned()));
        let some_left = self.engine.trash().is_some_and(|trash| trash.holds(owner.id));
        if some_left {
            // All before the first of them is synced, which then leaves little to write for the others.
            buckets.iter().try_for_each(|bucket| self.touch_unless_closed(bucket))?;
        }
        for bucket in buckets {
            self.bucket(owner, bucket, some_left, &mut waiting)?;
        }
        waiting.sort_by_key(|waiting: &Waiting| waiting.number);
        Ok(waiting)
    }

    /// Notes which segments of a bucket are to be taken up, unless it is past its deadline. Of an owner of which
    /// `some_left`, something lies in the trash.
    fn bucket(
        &mut self,
        owner: &Owner,
        bucket: Arc<Bucket>,
        some_left: bool,
        waiting: &mut Vec<Waiting>,
    ) -> Result<()> {
        let disk = &*self.engine.disk;
        let listing = match disk.read_dir(bucket.dir()) {
            Ok(listing) => listing,
            // Dropped by the process that owns the store while we were looking.
            Err(_) if self.has_left(bucket.dir()) => return Ok(()),
            Err(e) => return Err(Error::io("list", bucket.dir(), e)),
        };
        let mut numbers: Vec<u64> =
            listing.iter().filter_map(|entry| parse_segment_name(&entry.name)).collect();
        numbers.sort_unstable();
        self.settle_dir(owner, &bucket, some_left, numbers.is_empty())?;
        if !self.engine.is_read_only() {
            // Nor is what is removed or replaced from here on, and a scrub must not say that it is.
            owner.note_unsynced(bucket.dir());
            for entry in listing.iter().filter(|entry| is_left_over(entry, &numbers)) {
                let path = bucket.dir().join(&entry.name);
                let bytes = self.allocated(&path);
                owner.give_up_file(0, path, bytes);
            }
        }
        let path = |number: u64| bucket.dir().join(segment_name(number));
        let found: Vec<(u64, Result<Stated>)> =
            numbers.iter().map(|number| (*number, self.stated(&path(*number)))).collect();
        self.bring_forward(owner, &bucket, &found, &listing);
        let keyless = owner.kind == RecordKind::Rows && !self.read_keys(&bucket, &numbers)?;
        if bucket.deadline() <= self.engine.written_time() || keyless {
            return self.leave(owner, bucket);
        }
        for (number, stated) in found {
            // It may say that its time is over. Taken up, it would be valid again once the clock is set back, without
            // newer ones that have left: what cannot be read now is not taken for missing.
            let Stated { len: bytes, allocated, .. } = stated?;
            let (bucket, path) = (Arc::clone(&bucket), path(number));
            waiting.push(Waiting { bucket, number, path, bytes, allocated });
        }
        owner.buckets.write().insert(bucket.start, bucket);
        Ok(())
    }

    /// If the store was not closed in order, a sync of what left from a bucket may have failed just before, and the next
    /// have nothing to write.
    fn touch_unless_closed(&self, bucket: &Bucket) -> Result<()> {
        if self.snapshot_id.is_some() {
            return Ok(());
        }
        touch(&*self.engine.disk, &bucket.dir().join(segment_name(0)).with_extension("tmp"))
    }

    /// Makes durable what left from a bucket, if something has, and the name of one that holds no segment.
    fn settle_dir(
        &self,
        owner: &Owner,
        bucket: &Bucket,
        some_left: bool,
        is_empty: bool,
    ) -> Result<()> {
        if self.engine.is_read_only() || !(some_left || is_empty) {
            return Ok(());
        }
        if !some_left {
            self.touch_unless_closed(bucket)?;
        }
        // What left from here may be back after a power cut, and nothing would hide it any more. Where
        // there is a segment that is as old, what hides things is kept until it leaves too.
        self.engine.sync_dir(bucket.dir())?;
        if is_empty && self.snapshot_id.is_none() {
            // The names of others were durable before anything was born in them.
            let file = owner.dir().join(manifest_file(owner.kind).0).with_extension("tmp");
            touch(&*self.engine.disk, &file)?;
            self.engine.sync_dir(owner.dir())?;
        }
        Ok(())
    }

    /// Brings the deadline of a bucket forward if its segments say that it leaves sooner, or are to say so.
    fn bring_forward(
        &self,
        owner: &Owner,
        bucket: &Bucket,
        found: &[(u64, Result<Stated>)],
        listing: &[DirEntry],
    ) {
        for (number, stated) in found {
            let header = stated.as_ref().ok().and_then(|stated| stated.header.as_ref());
            // A power cut while one was being born may leave the header of another in its file.
            if let Some(header) = header.filter(|header| owner.owns(header, bucket, *number)) {
                bucket.lower_deadline(Timestamp::from_millis(header.deadline_ms));
            }
        }
        let Some(correction) = self.engine.correction() else { return };
        let first = found.iter().find(|(number, stated)| is_segment(*number, stated, listing));
        // One without segments does not say when it was born. If that was since, the time had been written down
        // before. If its time has come meanwhile, it stays no longer than others.
        let is_older = match first {
            Some((number, _)) => *number < correction.next_number,
            // Beside one of the wrong future it starts a little later than its time.
            None => owner.window.bucket_start(bucket.start) > self.engine.written_time(),
        };
        if is_older {
            bucket.correct(owner.window, Timestamp::from_millis(correction.to_ms));
        }
    }

    /// True if a file or directory that is only looked at is there no more. What the process that writes
    /// drops or evicts leaves its place before anything in it changes, so if something is wrong with it
    /// and it is still there, that is damage.
    pub(super) fn has_left(&self, path: &Path) -> bool {
        let disk = &*self.engine.disk;
        let is_missing = |e: std::io::Error| e.kind() == ErrorKind::NotFound;
        self.engine.is_read_only()
            && disk.open(path, Access::Read).is_err_and(is_missing)
            && disk.read_dir(path).is_err_and(is_missing)
    }

    /// The space that a file takes.
    fn allocated(&self, path: &Path) -> u64 {
        let file = self.engine.disk.open(path, Access::Read);
        file.and_then(|file| file.allocated_bytes()).unwrap_or(0)
    }

    /// What a segment file says of itself; nothing if it is not there any more.
    pub(super) fn stated(&self, path: &Path) -> Result<Stated> {
        let file = match self.engine.disk.open(path, Access::Read) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Stated::default()),
            opened => opened.map_err(|e| Error::io("open", path, e))?,
        };
        let measured = |len: std::io::Result<u64>| len.map_err(|e| Error::io("measure", path, e));
        let len = measured(file.len())?.min(MAX_LEN);
        let header = match read_header(&*file, path) {
            Err(LoadError::Failed(refused)) => return Err(refused),
            read => read.ok(),
        };
        Ok(Stated { header, len, allocated: measured(file.allocated_bytes())?.min(len) })
    }

    /// Reads the keys of a log bucket. Rows without a key are condemned: their subjects cannot be
    /// told any more, and new keys would only pretend to.
    fn read_keys(&mut self, bucket: &Bucket, numbers: &[u64]) -> Result<bool> {
        let (disk, dir) = (&*self.engine.disk, bucket.dir());
        let is_to_settle = numbers.is_empty() && !self.engine.is_read_only();
        let forgotten = if is_to_settle { KeyRing::forget_cached(disk, dir) } else { Ok(()) };
        match forgotten.and_then(|()| KeyRing::read(disk, dir)) {
            // They were being made when the process stopped: nothing was said under them.
            Ok((_, false)) if numbers.is_empty() => Ok(false),
            Ok((keys, _)) => {
                if is_to_settle {
                    KeyRing::settle(disk, dir)?;
                }
                bucket.set_keys(Some(keys));
                Ok(true)
            }
            // What the system refuses to read, or another version wrote, is not condemned.
            Err(e) if !e.is_not_found() && !matches!(e, Error::Corrupt { .. }) => Err(e),
            Err(_) => {
                if !numbers.is_empty() && !self.has_left(bucket.dir()) {
                    self.report.corrupt_records.push(bucket.dir().to_owned());
                }
                Ok(false)
            }
        }
    }

    /// Drops a bucket that was found past its time, without the keys it must have, or with nothing in it that could
    /// say when it leaves. If that fails it is tried again by upkeep, and no tombstone is forgotten meanwhile.
    pub(super) fn leave(&mut self, owner: &Owner, bucket: Arc<Bucket>) -> Result<()> {
        if self.engine.is_read_only() {
            return Ok(());
        }
        let counts = self.count_unread(bucket.dir());
        // From there the drop takes it, once it is moved, even if that may not be durable.
        owner.buckets.write().insert(bucket.start, Arc::clone(&bucket));
        if owner.drop_bucket(&bucket, Some(counts)).is_err() {
            owner.note_undurable(Some(0));
            // It was not read, and newer ones leave before it.
            if owner.buckets.read().contains_key(&bucket.start) {
                bucket.lower_deadline(Bucket::CONDEMNED);
                owner.condemn(&bucket, bucket.dir())?;
            }
        }
        Ok(())
    }

    /// What is in a bucket that is not taken up: the records as its sidecars say, if all do.
    pub(super) fn count_unread(&self, bucket: &Path) -> Counts {
        let disk = &*self.engine.disk;
        let Ok(listing) = disk.read_dir(bucket) else { return Counts::default() };
        let mut counts = Counts { records: Some(0), bytes: Some(0) };
        for entry in listing.iter().filter(|entry| parse_segment_name(&entry.name).is_some()) {
            let path = bucket.join(&entry.name);
            let records = sidecar_count(disk, &path);
            let bytes = disk.open(&path, Access::Read).and_then(|file| file.allocated_bytes());
            counts.records =
                counts.records.zip(records).map(|(sum, more)| sum.saturating_add(more));
            counts.bytes = counts.bytes.zip(bytes.ok()).map(|(sum, more)| sum.saturating_add(more));
        }
        counts
    }
}

/// The files of values that were being written when the process stopped.
pub(super) fn parts(owner_dir: &Path, entries: &[DirEntry]) -> impl Iterator<Item = PathBuf> {
    let parts = entries.iter().filter(|entry| is_part_name(&entry.name));
    let files = parts.filter(|entry| entry.kind == EntryKind::File);
    files.map(|entry| owner_dir.join(&entry.name))
}

/// True unless the file of this name is that of a segment which was being born when the process stopped. One that
/// could not be looked at may be more.
pub(super) fn is_segment(number: u64, stated: &Result<Stated>, listing: &[DirEntry]) -> bool {
    let is_short = stated.as_ref().is_ok_and(|stated| stated.len <= HEADER_LEN);
    !is_short || listing.iter().any(|entry| parse_name(&entry.name, "idx") == Some(number))
}

/// The number of the segment that a file belongs to by its name, which ends like this.
fn parse_name(name: &str, end: &str) -> Option<u64> {
    let (stem, found) = name.rsplit_once('.')?;
    parse_segment_name(&format!("{stem}.seg")).filter(|_| found == end)
}

/// True if this file is one that a process left which ended: a sidecar that was being written, and may hold
/// anything after a power cut, or one whose segment was being evicted.
fn is_left_over(entry: &DirEntry, numbers: &[u64]) -> bool {
    let is_alone = |number: u64| numbers.binary_search(&number).is_err();
    let is_one = parse_name(&entry.name, "tmp").is_some()
        || parse_name(&entry.name, "idx").is_some_and(is_alone);
    entry.kind == EntryKind::File && is_one
}

/// How many records the sidecar of a segment says there are.
fn sidecar_count(disk: &dyn Disk, segment: &Path) -> Option<u64> {
    let file = disk.open(&sidecar_path(segment), Access::Read).ok()?;
    let mut bytes = [0; sidecar::HEADER_LEN];
    read_full_at(&*file, &mut bytes, 0).ok()?;
    sidecar::decode_header(&bytes).ok().map(|header| header.count)
}
