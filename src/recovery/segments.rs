//! Taking up the segments of an owner, in the order of their numbers.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::Recovery;
use super::buckets::Waiting;
use crate::bucket::Bucket;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::Result;
use crate::format::record::RecordKind;
use crate::format::sidecar::{Listing, SidecarEntry};
use crate::format::snapshot::{Snapshot, SnapshotPlace};
use crate::owner::Owner;
use crate::parallel;
use crate::segment::load::{LoadError, Loaded, Purpose, Verdict, load, load_known, settle};
use crate::segment::scan::show_tags;
use crate::segment::sidecar::{sidecar_header, sidecar_path, write_sidecar_of};
use crate::segment::{Extent, Segment};

/// A segment that was taken up, and where its records are.
pub(super) struct Taken {
    pub(super) segment: Arc<Segment>,
    pub(super) listing: Listing,
}

type LoadResult = std::result::Result<Loaded, LoadError>;

/// Above so many segments of one owner, files are not kept open from when they are read until they are
/// mapped, or an owner of many could not be opened by a process that may open few files.
const MAX_KEPT_OPEN: usize = 64;

/// All segments of an owner, in the order of their numbers.
#[derive(Default)]
pub(super) struct Found {
    pub(super) segments: Vec<Taken>,
    /// Segments that held something durable that cannot be read any more, with their files.
    pub(super) lost: Vec<(u64, PathBuf)>,
    /// True if there are segments of another version.
    pub(super) foreign: bool,
    /// True if they are those that a snapshot knows; their listings are empty then.
    pub(super) as_known: bool,
    /// Segments without records.
    unborn: Vec<Unborn>,
}

/// A segment without records: it was being born when the process stopped, or nothing has been appended since.
struct Unborn {
    bucket: Arc<Bucket>,
    path: PathBuf,
    /// The space that it takes.
    allocated: u64,
}

impl Found {
    /// True if there is more in a bucket than segments without records.
    fn holds(&self, bucket: &Bucket) -> bool {
        let mut segments = self.segments.iter().map(|taken| taken.segment.path());
        let mut lost = self.lost.iter().map(|(_, path)| path);
        // It may be in any bucket.
        self.foreign
            || segments.any(|path| path.starts_with(bucket.dir()))
            || lost.any(|path| path.starts_with(bucket.dir()))
    }
}

impl Recovery<'_> {
    /// Takes up these segments of an owner. With the snapshot that is going to be used, if they are the
    /// ones it knows.
    pub(super) fn segments(
        &mut self,
        owner: &Owner,
        waiting: Vec<Waiting>,
        known: Option<&Snapshot>,
    ) -> Result<Found> {
        let loaded = known.and_then(|known| self.load_known(&waiting, known));
        let mut found = Found { as_known: loaded.is_some(), ..Found::default() };
        let loaded = loaded.unwrap_or_else(|| self.load(&waiting));
        for (waiting, loaded) in waiting.into_iter().zip(loaded) {
            self.segment(owner, waiting, loaded, &mut found)?;
        }
        self.clear_unborn(owner, &mut found)?;
        Ok(found)
    }

    /// Loads all of these by what a snapshot knows of them; nothing if they are others.
    fn load_known(&self, waiting: &[Waiting], known: &Snapshot) -> Option<Vec<LoadResult>> {
        let places: HashMap<u64, &SnapshotPlace> =
            known.places.iter().map(|place| (place.number, place)).collect();
        let disk = &*self.engine.disk;
        let is_kept = self.keeps_open(waiting.len());
        let load = |waiting: &Waiting| {
            let place = places.get(&waiting.number).filter(|place| place.len > 0)?;
            let extent = Extent {
                published: place.len,
                durable: place.len,
                min_seq: place.min_seq,
                max_seq: place.max_seq,
                records: place.records,
                scrubbed: place.scrubbed,
                tags: place.tags,
                punched: place.punched,
                sidecar_bytes: place.sidecar_bytes,
            };
            let loaded = load_known(disk, &waiting.path, place.salt, extent);
            Some(loaded.transpose()?.map(|loaded| keep_open(loaded, is_kept)))
        };
        waiting.iter().map(load).collect()
    }

    /// True if the files of so many segments stay open until they are mapped.
    fn keeps_open(&self, segments: usize) -> bool {
        self.engine.host.mapped && segments <= MAX_KEPT_OPEN
    }

    fn load(&self, waiting: &[Waiting]) -> Vec<LoadResult> {
        let disk = &*self.engine.disk;
        let bytes = waiting.iter().map(|waiting| waiting.bytes).sum();
        let is_kept = self.keeps_open(waiting.len());
        let is_read_only = self.engine.is_read_only();
        let purpose = if is_read_only { Purpose::Looking } else { Purpose::Settling };
        parallel::map(waiting, parallel::threads_for(bytes), |waiting| {
            load(disk, &waiting.path, purpose).map(|loaded| keep_open(loaded, is_kept))
        })
    }

    fn segment(
        &mut self,
        owner: &Owner,
        waiting: Waiting,
        loaded: LoadResult,
        found: &mut Found,
    ) -> Result<()> {
        let Waiting { bucket, number, path, allocated, .. } = waiting;
        if self.has_left(&path) {
            return Ok(());
        }
        let loaded = match loaded {
            Ok(loaded) if owner.owns(&loaded.header, &bucket, number) => loaded,
            Ok(_) | Err(LoadError::Damaged(_)) => {
                self.report.corrupt_records.push(path.clone());
                found.lost.push((number, path));
                return Ok(());
            }
            Err(LoadError::Unborn) => {
                found.unborn.push(Unborn { bucket, path, allocated });
                return Ok(());
            }
            Err(LoadError::Version(_)) => {
                self.report.unknown_versions.push(path);
                found.foreign = true;
                return Ok(());
            }
            Err(LoadError::Failed(e)) => return Err(e),
        };
        match loaded.verdict {
            Verdict::Sealed | Verdict::Open(None) => {}
            Verdict::Open(Some(_)) => self.report.torn_tails.push(path.clone()),
            Verdict::Lost(_) => {
                self.report.corrupt_records.push(path.clone());
                if owner.kind == RecordKind::Blob {
                    // Its readable part may have been superseded by the lost one.
                    found.lost.push((number, path));
                    return Ok(());
                }
                // The lost part may hold older numbers than the one that can be read.
                owner.note_undurable(Some(0));
            }
        }
        if loaded.verdict == Verdict::Sealed && loaded.file_len < loaded.extent.published {
            self.report.corrupt_records.push(path.clone());
        }
        let is_unborn =
            matches!(loaded.verdict, Verdict::Open(_)) && loaded.listing.entries.is_empty();
        if is_unborn {
            found.unborn.push(Unborn { bucket, path, allocated });
        } else {
            let taken = self.take_up(path, loaded);
            // Not every segment of a bucket may say by now that it leaves sooner.
            taken.segment.lower_deadline(bucket.deadline());
            // Nor was each whole when the bucket was met, if another process was just writing that.
            bucket.lower_deadline(taken.segment.deadline());
            found.segments.push(taken);
        }
        Ok(())
    }

    /// Makes an unsealed segment durable and seals it.
    fn take_up(&mut self, path: PathBuf, loaded: Loaded) -> Taken {
        let disk = &*self.engine.disk;
        let sealed = loaded.verdict == Verdict::Sealed;
        let read_only = self.engine.is_read_only();
        let mut settled = sealed;
        if !sealed && !read_only {
            // No later sync would look at it again, so none may succeed.
            let bucket_dir = path.parent().unwrap_or(&path);
            let result = settle(disk, &path, &loaded);
            let result = result.and_then(|()| self.engine.sync_dir(bucket_dir));
            let result = result.map_err(|e| self.engine.poison(e));
            settled = result.is_ok();
        }
        let durable = if settled { loaded.extent.published } else { loaded.extent.durable };
        let durable = durable.min(loaded.file_len);
        let extent = Extent { durable, ..loaded.extent };
        let host = self.engine.host.clone();
        let open = || disk.open(&path, Access::Read).ok();
        let file = loaded.file.or_else(|| (host.mapped || !sealed).then(open).flatten());
        let segment = Segment::new(loaded.header, path, host, file.as_ref(), extent, false);
        if let Some(file) = file.filter(|_| settled && !sealed) {
            write_walked_sidecar(disk, &segment, &*file, &loaded.listing.entries, extent);
        }
        Taken { segment: Arc::new(segment), listing: loaded.listing }
    }

    /// Removes segments without records. What a power cut has torn may lie in them all the same. A bucket with nothing
    /// else, whose deadline was brought forward, is dropped instead: its directory alone could not say that.
    fn clear_unborn(&mut self, owner: &Owner, found: &mut Found) -> Result<()> {
        if self.engine.is_read_only() {
            return Ok(());
        }
        let mut left = BTreeSet::new();
        for Unborn { bucket, path, allocated } in std::mem::take(&mut found.unborn) {
            let is_lowered = bucket.deadline() < owner.window.deadline(bucket.start);
            if is_lowered && !found.holds(&bucket) {
                if left.insert(bucket.start) {
                    self.leave(owner, bucket)?;
                }
                continue;
            }
            // One that stays is met again and removed by a later open.
            let _ = self.engine.disk.remove_file(&sidecar_path(&path));
            owner.give_up_file(0, path, allocated);
        }
        Ok(())
    }
}

/// Lets go of the file, unless it is to be kept.
fn keep_open(loaded: Loaded, is_kept: bool) -> Loaded {
    let file = loaded.file.filter(|_| is_kept);
    Loaded { file, ..loaded }
}

/// Writes the sidecar of a segment that has been walked. Its tags, if it has any, are read once more,
/// since there may be many.
fn write_walked_sidecar(
    disk: &dyn Disk,
    segment: &Segment,
    file: &dyn DiskFile,
    entries: &[SidecarEntry],
    extent: Extent,
) {
    let (end, tags) = (extent.published, extent.tags as usize);
    let header = sidecar_header(segment, end, entries.len(), tags);
    let seed = &segment.seed;
    write_sidecar_of(disk, segment, &header, entries, &|take| match tags {
        0 => Ok(()),
        _ => show_tags(file, seed, end, take),
    });
}
