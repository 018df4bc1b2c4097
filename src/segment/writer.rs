//! Writing a segment: its birth, appending, and sealing. One writer at a time, by ownership.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::sidecar::write_sidecar;
use super::{Extent, Segment, SegmentHost};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::{Error, Result};
use crate::format::record::{ALIGN, Draft};
use crate::format::segment_header::{HEADER_LEN, SegmentHeader};
use crate::format::sidecar::{Listing, Remains, SidecarEntry};
use crate::format::state::MAX_GENERATION;
use crate::planted::{Bug, is_planted};
use crate::sync::atomic::Ordering;

/// How far ahead of the writes blocks are set aside.
const RESERVE_BYTES: u64 = 16 << 20;

/// The one who may append to a segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Where the next record goes: the end of the published part.
    end: u64,
    listing: Listing,
    scratch: Vec<u8>,
    /// Up to where the writes need not set blocks aside.
    reserve_at: u64,
    /// True once a refused batch may have left whole records behind the end.
    spoiled: bool,
}

/// The name of a segment's file.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// The number in the name of a segment's file.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()?;
    let legal = (1..=MAX_GENERATION).contains(&(number >> 32)) && segment_name(number) == name;
    legal.then_some(number)
}

impl SegmentWriter {
    /// Bears a segment: when this returns, its header and its directory entry are durable.
    pub(crate) fn create(
        disk: &dyn Disk,
        bucket_dir: &Path,
        header: SegmentHeader,
        host: &SegmentHost,
    ) -> Result<Self> {
        let path = bucket_dir.join(segment_name(header.number));
        let file = disk.create(&path).map_err(|e| Error::io("create", &path, e))?;
        if let Err(e) = write_header(disk, &*file, &path, bucket_dir, &header) {
            // What is left is at most a file without records, which the next open removes.
            let _ = disk.remove_file(&path);
            return Err(e);
        }
        let segment = Segment::new(header, path, host.clone(), Some(&file), Extent::EMPTY, true);
        *segment.file.write() = Some(Arc::clone(&file));
        Ok(Self {
            segment: Arc::new(segment),
            file,
            end: HEADER_LEN,
            listing: Listing::default(),
            scratch: Vec::new(),
            reserve_at: HEADER_LEN,
            spoiled: false,
        })
    }

    /// The writer of a segment that is whole and durable, and only waits to be sealed.
    pub(super) fn of_whole(segment: Segment, file: &Arc<dyn DiskFile>, listing: Listing) -> Self {
        *segment.file.write() = Some(Arc::clone(file));
        let end = segment.published();
        Self {
            segment: Arc::new(segment),
            file: Arc::clone(file),
            end,
            listing,
            scratch: Vec::new(),
            reserve_at: end,
            spoiled: false,
        }
    }

    /// The segment being written.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// True if so many bytes of records still fit. After a refused batch none do: behind a record of
    /// the same length, a walk would take the rest of the batch for what was written last.
    pub(crate) fn fits(&self, len: u64) -> bool {
        !self.spoiled && self.end + len <= self.segment.header.capacity
    }

    /// Where the next record will start.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Appends records with one write and publishes them together; gives the offset of the first.
    ///
    /// # Errors
    ///
    /// After an error nothing is published, and the next append writes over whatever was put down.
    pub(crate) fn append(&mut self, drafts: &[Draft<'_>]) -> Result<u64, AppendError> {
        for draft in drafts {
            // Before the bytes: whoever looks for the lowest number must never miss one.
            self.segment.min_seq.fetch_min(draft.seq, Ordering::AcqRel);
        }
        let (start, mut end) = (self.end, self.end);
        let len: u64 = drafts.iter().map(Draft::record_len).sum();
        self.reserve(len);
        if is_planted(Bug::PublishedBeforeWritten) {
            self.segment.published.store(end + len, Ordering::Release);
        }
        let written = match drafts {
            [draft] => self.write_one(draft),
            drafts => self.write_many(drafts),
        };
        if let Err(error) = written {
            self.spoiled |= drafts.len() > 1;
            let highest = drafts.iter().map(|draft| draft.seq).max().unwrap_or(0);
            self.segment.refused_seq.fetch_max(highest, Ordering::AcqRel);
            return Err(error);
        }
        for draft in drafts {
            let len = draft.record_len();
            let entry = SidecarEntry::whole(draft.hash, draft.seq, end, len);
            self.listing.push(entry, draft.listed_tags);
            end += len;
            self.segment.max_seq.fetch_max(draft.seq, Ordering::AcqRel);
        }
        self.segment.tags.store(self.listing.tags.len() as u64, Ordering::Release);
        self.end = end;
        self.segment.records.fetch_add(drafts.len() as u64, Ordering::AcqRel);
        self.segment.published.store(end, Ordering::Release);
        Ok(start)
    }

    /// Sets blocks aside well ahead of the writes, which are cheaper then. It only saves time: what is
    /// left of a nearly full disk is not taken, and the write itself says when there is nothing.
    fn reserve(&mut self, len: u64) {
        let end = self.end + len;
        if end <= self.reserve_at {
            return;
        }
        let ahead = (end + RESERVE_BYTES).min(self.segment.header.capacity).max(end);
        self.reserve_at = ahead;
        self.segment.reserved.store(ahead, Ordering::Release);
        if self.file.reserve(self.end, ahead - self.end).is_err() {
            self.release_reserved();
        }
    }

    fn release_reserved(&self) {
        if self.file.release_reserved().is_ok() {
            self.segment.reserved.store(0, Ordering::Release);
        }
    }

    /// Writes a record whose value goes down from where it is.
    fn write_one(&mut self, draft: &Draft<'_>) -> Result<(), AppendError> {
        self.scratch.clear();
        let seed = &self.segment.seed;
        let padding = draft.encode(seed, self.end, self.segment.durable(), &mut self.scratch);
        let zeros = [0_u8; ALIGN as usize];
        let mut parts = [
            IoSlice::new(&self.scratch),
            IoSlice::new(draft.value),
            IoSlice::new(zeros.get(..padding).unwrap_or_default()),
        ];
        self.write(&mut parts)
    }

    /// Writes small records through one buffer.
    fn write_many(&mut self, drafts: &[Draft<'_>]) -> Result<(), AppendError> {
        self.scratch.clear();
        let seed = &self.segment.seed;
        let durable = self.segment.durable();
        for draft in drafts {
            let offset = self.end + self.scratch.len() as u64;
            let padding = draft.encode(seed, offset, durable, &mut self.scratch);
            self.scratch.extend_from_slice(draft.value);
            self.scratch.resize(self.scratch.len() + padding, 0);
        }
        self.write(&mut [IoSlice::new(&self.scratch)])
    }

    fn write(&self, parts: &mut [IoSlice<'_>]) -> Result<(), AppendError> {
        debug_assert!(self.end >= self.segment.durable(), "writing below the durable length");
        write_all_at(&*self.file, parts, self.end).map_err(|e| {
            let full = crate::error::is_full(&e.source);
            let error = Error::io("write", self.segment.path(), e.source);
            if full || e.accepted == 0 {
                AppendError::Refused(error)
            } else {
                AppendError::Broken(error)
            }
        })
    }

    /// Makes the segment durable and leaves a sidecar: nothing is appended any more.
    ///
    /// # Errors
    ///
    /// Those of the sync. A sidecar that cannot be written is no error: the segment can tell what
    /// would be in it.
    pub(crate) fn seal(self, disk: &dyn Disk) -> Result<()> {
        if self.cut_refused() {
            // A sync that another thread has begun may have missed the cut.
            self.segment.sync_through(&*self.file)?;
            self.segment.raise_durable(self.end);
        } else {
            self.segment.sync()?;
        }
        self.release_reserved();
        if let Some(bytes) = write_sidecar(disk, &self.segment, self.end, &self.listing) {
            self.segment.sidecar_bytes.store(bytes, Ordering::Release);
        }
        self.segment.file.write().take();
        Ok(())
    }

    /// Cuts off what a refused append has left behind the end; true if there was something. Should the sidecar be
    /// lost, a walk must not meet it; if it stays, or comes back in a power cut, the sidecar still says where the
    /// records end. Nothing is mapped there.
    fn cut_refused(&self) -> bool {
        self.file.len().is_ok_and(|len| len > self.end) && self.file.set_len(self.end).is_ok()
    }

    /// The records written so far.
    pub(crate) fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Notes what of them has been overwritten.
    pub(crate) fn note_scrubbed(&mut self, remains: &[Remains]) {
        self.listing.note_scrubbed(remains);
        self.segment.set_scrubbed(self.listing.scrubbed());
    }
}

/// An append that did not take place.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing is in doubt: the disk was full, or took no byte.
    Refused(Error),
    /// It took some bytes, or a name, and then failed: it cannot be trusted with more.
    Broken(Error),
}

fn write_header(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    path: &Path,
    bucket_dir: &Path,
    header: &SegmentHeader,
) -> Result<()> {
    write_all_at(file, &mut [IoSlice::new(&header.encode())], 0)
        .map_err(|e| Error::io("write", path, e.source))?;
    file.sync_data().map_err(|e| Error::io("sync", path, e))?;
    if is_planted(Bug::BirthNotSynced) {
        return Ok(());
    }
    disk.sync_dir(bucket_dir).map_err(|e| Error::io("sync", bucket_dir, e))
}
