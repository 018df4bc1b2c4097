//! Taking up a segment file found on disk: from its sidecar if that can be believed, else by
//! walking it; and making what an unclean stop left behind durable.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::Extent;
use super::scan::{Scanned, scan};
use super::sidecar::{FoundSidecar, Sidecar, find_sidecar};
use crate::disk::{Access, Disk, DiskFile, read_full_at, write_all_at};
use crate::error::{Error, Result};
use crate::format::Unreadable;
use crate::format::segment_header::{HEADER_LEN, MAX_LEN, SegmentHeader};
use crate::format::sidecar::{Body, Listing, SidecarEntry};

/// What is copied in one go.
const COPY_LEN: usize = 1 << 20;

/// A segment file as found.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) header: SegmentHeader,
    /// None if it is to be opened again, since there are too many to keep open.
    pub(crate) file: Option<Arc<dyn DiskFile>>,
    pub(crate) file_len: u64,
    pub(crate) extent: Extent,
    pub(crate) listing: Listing,
    pub(crate) verdict: Verdict,
}

/// What a segment file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Sealed, and its sidecar says where everything is.
    Sealed,
    /// Never sealed; what counts of it has been walked. With a reason if the walk met a torn end.
    Open(Option<&'static str>),
    /// Records that had been durable cannot be found any more.
    Lost(&'static str),
}

/// Why a segment file could not be taken up at all.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It was being born when the process stopped: no record can have been in it.
    Unborn,
    /// Its header cannot be read.
    Damaged(&'static str),
    /// Another version wrote it.
    Version(u32),
    /// The system refused.
    Failed(Error),
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Unreadable> for LoadError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Damaged(what) => Self::Damaged(what),
            Unreadable::Version(version) => Self::Version(version),
        }
    }
}

/// What a segment file is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be served by a process that writes: what is not durable of it will be made so.
    Settling,
    /// To be served, and no more.
    Looking,
    /// For its listing with the tags, which are counted only otherwise.
    Listing,
}

/// Takes up a segment file for reading.
pub(crate) fn load(disk: &dyn Disk, path: &Path, purpose: Purpose) -> Result<Loaded, LoadError> {
    let keep_tags = purpose == Purpose::Listing;
    let file = disk.open(path, Access::Read).map_err(|e| Error::io("open", path, e))?;
    // First: in a store that another process writes, it may be sealed just now, and longer then.
    let found = find_sidecar(disk, path, keep_tags);
    let file_len = file.len().map_err(|e| Error::io("measure", path, e))?;
    let found = match found {
        FoundSidecar::Missing if file_len <= HEADER_LEN => return Err(LoadError::Unborn),
        // It may be one that was being born, and has none.
        FoundSidecar::Refused(e) if file_len <= HEADER_LEN => return Err(LoadError::Failed(e)),
        found => found,
    };
    let is_sealed = matches!(found, FoundSidecar::Whole(_) | FoundSidecar::Damaged);
    if !is_sealed && purpose == Purpose::Settling {
        // Its sync may have failed. What is read then, and written once more, ext4 may never find again: the
        // blocks stay marked as unwritten.
        file.forget_cached();
    }
    let header = read_header(&*file, path)?;
    let (sidecar, refused) = match found {
        FoundSidecar::Whole(sidecar) => (Some(sidecar), None),
        FoundSidecar::Refused(e) => (None, Some(e)),
        FoundSidecar::Damaged | FoundSidecar::Missing => (None, None),
    };
    let bound = sidecar.filter(|Sidecar { header: sidecar, .. }| {
        sidecar.number == header.number && sidecar.salt == header.salt
    });
    if let Some(Sidecar { header: sidecar, listing, len: sidecar_bytes }) = bound {
        let extent = Extent {
            published: sidecar.segment_len,
            durable: sidecar.segment_len.min(file_len),
            min_seq: sidecar.min_seq,
            max_seq: sidecar.max_seq,
            records: sidecar.count,
            scrubbed: listing.scrubbed(),
            tags: sidecar.tag_count,
            punched: punched(&*file, file_len, &listing),
            sidecar_bytes,
        };
        let (file, verdict) = (Some(file), Verdict::Sealed);
        return Ok(Loaded { header, file, file_len, extent, listing, verdict });
    }
    // Nothing is written behind the capacity, so nothing is looked for there.
    let scanned = scan(&*file, &header.seed(), file_len.min(header.capacity), keep_tags)
        .map_err(|e| Error::io("read", path, e))?;
    if let (Some(_), Some(refused)) = (scanned.stopped, refused) {
        // The sidecar may say that nothing is lost: a refused append, which it does not list, lies there.
        return Err(LoadError::Failed(refused));
    }
    let verdict = verdict(&scanned, is_sealed);
    let listing = scanned.listing;
    // Writers set their marks between two records. Within one it says nothing of that record.
    let marked =
        listing.entries.iter().map(SidecarEntry::end).take_while(|end| *end <= scanned.mark);
    let extent = Extent {
        published: scanned.end,
        durable: marked.last().unwrap_or(HEADER_LEN),
        min_seq: listing.entries.iter().map(|entry| entry.seq).min().unwrap_or(u64::MAX),
        max_seq: listing.entries.iter().map(|entry| entry.seq).max().unwrap_or(0),
        records: listing.entries.len() as u64,
        scrubbed: listing.scrubbed(),
        tags: scanned.tags,
        punched: punched(&*file, file_len, &listing),
        sidecar_bytes: 0,
    };
    Ok(Loaded { header, file: Some(file), file_len, extent, listing, verdict })
}

/// Takes up a sealed segment file of which all is known but where its records are; nothing if the file
/// is not the one that is known, or has been written to since.
pub(crate) fn load_known(
    disk: &dyn Disk,
    path: &Path,
    salt: u64,
    extent: Extent,
) -> Result<Option<Loaded>, LoadError> {
    let file = disk.open(path, Access::Read).map_err(|e| Error::io("open", path, e))?;
    let file_len = file.len().map_err(|e| Error::io("measure", path, e))?;
    let header = read_header(&*file, path)?;
    let extent = Extent { durable: extent.published.min(file_len), ..extent };
    let (listing, verdict) = (Listing::default(), Verdict::Sealed);
    let loaded = Loaded { header, file: Some(file), file_len, extent, listing, verdict };
    let published = loaded.extent.published;
    let is_known = loaded.header.salt == salt && file_len <= published && published <= MAX_LEN;
    Ok(is_known.then_some(loaded))
}

/// Bytes of blocks that erasing has given back. What may have to be erased again is counted then.
fn punched(file: &dyn DiskFile, file_len: u64, listing: &Listing) -> u64 {
    let is_of = |body| listing.entries.iter().any(|entry| entry.body() == body);
    if is_of(Body::Gone) || !is_of(Body::Scrubbed) {
        return 0;
    }
    let whole = file_len.next_multiple_of(4096);
    file.allocated_bytes().map_or(0, |allocated| whole.saturating_sub(allocated))
}

/// A sealed segment was durable to its end, and below the mark everything was: a walk that stops
/// there has lost something.
fn verdict(scanned: &Scanned, is_sealed: bool) -> Verdict {
    match scanned.stopped {
        Some(what) if is_sealed || scanned.end < scanned.mark => Verdict::Lost(what),
        stopped => Verdict::Open(stopped),
    }
}

/// Reads a segment's header.
pub(crate) fn read_header(file: &dyn DiskFile, path: &Path) -> Result<SegmentHeader, LoadError> {
    let mut bytes = vec![0; HEADER_LEN as usize];
    let read = read_full_at(file, &mut bytes, 0).map_err(|e| Error::io("read", path, e))?;
    bytes.truncate(read);
    Ok(SegmentHeader::decode(&bytes)?)
}

/// Makes what counts of a segment durable for certain, and cuts off what does not.
///
/// After an unclean stop the page cache may hold bytes whose write-back failed: they read well, and
/// another `fdatasync` would report success without writing them. Writing the same bytes to the same
/// place once more makes them dirty again, so that the sync that follows tells the truth. A reader
/// never sees anything but these bytes, whichever of the two writes a power cut leaves.
pub(crate) fn settle(disk: &dyn Disk, path: &Path, loaded: &Loaded) -> Result<()> {
    let file = disk.open(path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))?;
    let end = loaded.extent.published;
    let mut offset = loaded.extent.durable;
    let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(COPY_LEN);
    let mut buffer = vec![0; left.min(COPY_LEN)];
    while offset < end {
        let len = usize::try_from(end - offset).unwrap_or(COPY_LEN).min(COPY_LEN);
        let part = buffer.get_mut(..len).unwrap_or_default();
        let read = read_full_at(&*file, part, offset).map_err(|e| Error::io("read", path, e))?;
        if read < len {
            return Err(Error::Corrupt { path: path.to_owned(), offset, what: "file cut short" });
        }
        write_all_at(&*file, &mut [IoSlice::new(part)], offset)
            .map_err(|e| Error::io("write", path, e.source))?;
        offset += len as u64;
    }
    // Also where nothing is left to cut off: an earlier cut may be among what was not written.
    file.set_len(end).map_err(|e| Error::io("shorten", path, e))?;
    // What stays set aside is given back when the bucket goes.
    let _ = file.release_reserved();
    file.sync_data().map_err(|e| Error::io("sync", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::format::record::HEAD_LEN;
    use crate::{KeyspaceOptions, Retention, Store};

    /// Where the durable mark stands in a record's header, in units of 8 bytes.
    const MARK_OFFSET: usize = 56;

    #[test]
    fn a_mark_within_a_record_is_taken_for_the_place_before_it() {
        let disk = MemoryDisk::new(1);
        let store = Store::builder("/data").disk(disk.clone()).background(false).open().unwrap();
        let images = store.keyspace("images", KeyspaceOptions::new(Retention::days(30))).unwrap();
        for key in ["a", "b", "c"] {
            images.insert(key, [7; 100]).unwrap();
        }
        let is_segment = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "seg");
        let path = disk.all_files().iter().find(is_segment).unwrap().clone();
        let whole = load(&disk, &path, Purpose::Listing).unwrap();
        let ends: Vec<u64> = whole.listing.entries.iter().map(SidecarEntry::end).collect();
        let (seed, last) = (whole.header.seed(), ends[1]);
        for (mark, durable) in [(ends[0], ends[0]), (ends[0] + 8, ends[0]), (ends[1], ends[1])] {
            let mut bytes = disk.read_file(&path).unwrap();
            let head = &mut bytes[last as usize..][..HEAD_LEN];
            head[MARK_OFFSET..][..4].copy_from_slice(&(mark as u32 / 8).to_le_bytes());
            let checksum = seed.checksum(last, &[&head[8..]]);
            head[..4].copy_from_slice(&checksum.to_le_bytes());
            disk.write_file(&path, &bytes).unwrap();
            let loaded = load(&disk, &path, Purpose::Listing).unwrap();
            assert_eq!((loaded.extent.durable, loaded.extent.published), (durable, ends[2]));
        }
    }
}
