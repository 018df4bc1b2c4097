//! The sidecar beside a segment: reading it, writing it, and overwriting it in place.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use super::Segment;
use super::load::LoadError;
use crate::disk::{Access, Disk, DiskFile, read_full_at, read_up_to, write_all_at};
use crate::error::{Error, Result};
use crate::format::record::HEAD_LEN;
use crate::format::sidecar::{
    BLOCK_LEN, Decoder, ENTRIES_PER_BLOCK, Encoder, HEADER_LEN, Listing, SidecarEntry,
    SidecarHeader, SidecarTag, TAGS_PER_BLOCK, decode_header, encode, encoded_len,
};

/// How much of a sidecar is read or written with one call.
const PIECE_LEN: usize = 1 << 20;

/// The path of the sidecar that belongs to a segment.
pub(crate) fn sidecar_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

/// What a sidecar says.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) header: SidecarHeader,
    pub(crate) listing: Listing,
    /// Of the file.
    pub(crate) len: u64,
}

/// What is found of the sidecar of a segment.
#[derive(Debug)]
pub(super) enum FoundSidecar {
    Whole(Sidecar),
    /// It cannot be believed, or something else lies in its place.
    Damaged,
    /// The system does not let it be read now.
    Refused(Error),
    Missing,
}

/// The sidecar of a segment.
pub(super) fn find_sidecar(disk: &dyn Disk, segment: &Path, keep_tags: bool) -> FoundSidecar {
    let path = sidecar_path(segment);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return FoundSidecar::Missing,
        Err(e) if e.kind() == ErrorKind::InvalidInput => return FoundSidecar::Damaged,
        Err(e) => return FoundSidecar::Refused(Error::io("open", &path, e)),
    };
    match read_sidecar(&*file, &path, keep_tags) {
        Ok(sidecar) => FoundSidecar::Whole(sidecar),
        Err(LoadError::Failed(e)) => FoundSidecar::Refused(e),
        Err(_) => FoundSidecar::Damaged,
    }
}

/// Reads a sidecar piece by piece, so that a length that is wrong costs no memory. Without `keep_tags` the
/// listing has none.
pub(crate) fn read_sidecar(
    file: &dyn DiskFile,
    path: &Path,
    keep_tags: bool,
) -> Result<Sidecar, LoadError> {
    let failed = |e| Error::io("read", path, e);
    let len = file.len().map_err(failed)?;
    let header = read_up_to(file, HEADER_LEN as u64).map_err(failed)?;
    let header = decode_header(&header)?;
    let mut decoder = Decoder::new(&header, len, keep_tags)?;
    let mut offset = HEADER_LEN as u64;
    let mut piece = vec![0; usize::try_from(len).map_or(PIECE_LEN, |len| len.min(PIECE_LEN))];
    while offset < len {
        let read = read_full_at(file, &mut piece, offset).map_err(failed)?;
        let blocks = piece.get(..read / BLOCK_LEN * BLOCK_LEN).unwrap_or_default();
        if blocks.is_empty() {
            return Err(LoadError::Damaged("sidecar cut short"));
        }
        blocks.chunks(BLOCK_LEN).try_for_each(|block| decoder.push(block))?;
        offset += blocks.len() as u64;
    }
    let listing = decoder.finish()?;
    Ok(Sidecar { header, listing, len })
}

/// Shows tags one by one to whoever takes them.
pub(crate) type ShowTags<'a> =
    &'a dyn Fn(&mut dyn FnMut(SidecarTag) -> io::Result<()>) -> io::Result<()>;

/// Writes a segment's sidecar; gives its length, or nothing if it could not be written whole.
pub(crate) fn write_sidecar(
    disk: &dyn Disk,
    segment: &Segment,
    segment_len: u64,
    listing: &Listing,
) -> Option<u64> {
    let header = sidecar_header(segment, segment_len, listing.entries.len(), listing.tags.len());
    let show = |take: &mut dyn FnMut(SidecarTag) -> io::Result<()>| {
        listing.tags.iter().try_for_each(|tag| take(*tag))
    };
    write_sidecar_of(disk, segment, &header, &listing.entries, &show)
}

/// Writes the sidecar of a segment whose tags are shown one by one. As [`write_sidecar`].
pub(crate) fn write_sidecar_of(
    disk: &dyn Disk,
    segment: &Segment,
    header: &SidecarHeader,
    entries: &[SidecarEntry],
    tags: ShowTags<'_>,
) -> Option<u64> {
    let path = sidecar_path(segment.path());
    // Whole or not at all: one that cannot be read must mean damage and not a power cut, since a
    // segment that was sealed is not allowed a torn end.
    let tmp = path.with_extension("tmp");
    let _ = disk.remove_file(&tmp);
    let file = disk.create(&tmp).ok()?;
    let written = write_blocks(&*file, header, entries, tags)
        .and_then(|()| file.sync_data())
        .and_then(|()| disk.rename(&tmp, &path));
    let leftover = match written {
        Err(_) => Some(tmp),
        // Whoever evicts the segment removes its sidecar after it has left: this one came too late.
        Ok(()) => segment.has_left().then_some(path),
    };
    if let Some(leftover) = leftover {
        let _ = disk.remove_file(&leftover);
        return None;
    }
    Some(encoded_len(header.count, header.tag_count))
}

fn write_blocks(
    file: &dyn DiskFile,
    header: &SidecarHeader,
    entries: &[SidecarEntry],
    tags: ShowTags<'_>,
) -> io::Result<()> {
    let write = |encoder: &mut Encoder, at_least| match encoder.take(at_least) {
        Some((offset, bytes)) => {
            write_all_at(file, &mut [IoSlice::new(&bytes)], offset).map_err(|e| e.source)
        }
        None => Ok(()),
    };
    let mut encoder = Encoder::new(header);
    for chunk in entries.chunks(ENTRIES_PER_BLOCK) {
        encoder.push_entries(chunk);
        write(&mut encoder, PIECE_LEN)?;
    }
    let mut block = Vec::with_capacity(TAGS_PER_BLOCK);
    tags(&mut |tag| {
        block.push(tag);
        if block.len() == TAGS_PER_BLOCK {
            encoder.push_tags(&block);
            block.clear();
            write(&mut encoder, PIECE_LEN)?;
        }
        Ok(())
    })?;
    if !block.is_empty() {
        encoder.push_tags(&block);
    }
    if encoder.len() != encoded_len(header.count, header.tag_count) {
        return Err(ErrorKind::InvalidData.into());
    }
    write(&mut encoder, 1)
}

/// Overwrites the sidecar of a sealed segment in place, so that nothing of what it said before is
/// left. If that is cut short it cannot be believed, and the segment is walked.
pub(crate) fn overwrite_sidecar(
    disk: &dyn Disk,
    segment: &Segment,
    listing: &Listing,
) -> Result<()> {
    let len = segment.published();
    let header = sidecar_header(segment, len, listing.entries.len(), listing.tags.len());
    let bytes = encode(&header, listing);
    let path = sidecar_path(segment.path());
    let file = match disk.open(&path, Access::ReadWrite) {
        // There was no room for one when the segment was sealed.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|e| Error::io("open", &path, e))?,
    };
    let len = bytes.len() as u64;
    let len_before = file.len().map_err(|e| Error::io("measure", &path, e))?;
    let write = |bytes: &[u8], offset| {
        write_all_at(&*file, &mut [IoSlice::new(bytes)], offset)
            .map_err(|e| Error::io("write", &path, e.source))
    };
    // What records are gone first, durably: each block has a checksum of its own, and one that is
    // still called whole would not be found without its tags.
    let tags_at = encoded_len(listing.entries.len() as u64, 0);
    let (records, tags) =
        bytes.split_at_checked(tags_at as usize).unwrap_or((bytes.as_slice(), &[]));
    write(records, 0)?;
    // One that could not be read may have listed more than can be found by walking the segment, but
    // not more than there can have been.
    let overwritten = len_before.min(sidecar_limit(segment.published()));
    if tags_at < len.max(overwritten) {
        file.sync_data().map_err(|e| Error::io("sync", &path, e))?;
    }
    if !tags.is_empty() {
        write(tags, tags_at)?;
    }
    let zeros = vec![0; (overwritten.saturating_sub(len) as usize).min(PIECE_LEN)];
    for offset in (len..overwritten).step_by(PIECE_LEN) {
        let left = (overwritten - offset) as usize;
        write(zeros.get(..left).unwrap_or(&zeros), offset)?;
    }
    if len_before > len {
        file.set_len(len).map_err(|e| Error::io("shorten", &path, e))?;
    }
    file.sync_data().map_err(|e| Error::io("sync", &path, e))
}

/// No sidecar of a segment of this length is longer: a record takes a header, and a tag 16 bytes.
fn sidecar_limit(segment_len: u64) -> u64 {
    encoded_len(segment_len / HEAD_LEN as u64, segment_len / 16)
}

/// What the sidecar of a segment with so many records and tags says of it as a whole.
pub(crate) fn sidecar_header(
    segment: &Segment,
    segment_len: u64,
    count: usize,
    tag_count: usize,
) -> SidecarHeader {
    SidecarHeader {
        number: segment.number(),
        salt: segment.header.salt,
        segment_len,
        count: count as u64,
        tag_count: tag_count as u64,
        min_seq: segment.min_seq(),
        max_seq: segment.max_seq(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::format::segment_header;

    #[test]
    fn no_sidecar_is_much_longer_than_its_segment() {
        // Records without tags, and without anything but tags.
        assert!(sidecar_limit(1 << 20) >= encoded_len((1 << 20) / 88, 0));
        assert!(sidecar_limit(1 << 20) >= encoded_len((1 << 20) / 344, (1 << 20) / 344 * 16));
        assert!(sidecar_limit(1 << 20) < 2 << 20);
    }

    #[test]
    fn what_lies_in_the_place_of_a_sidecar_is_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let segment = dir.path().join("x.seg");
        let find = || find_sidecar(&RealDisk, &segment, false);
        assert!(matches!(find(), FoundSidecar::Missing));
        std::os::unix::fs::symlink("elsewhere", sidecar_path(&segment)).unwrap();
        assert!(matches!(find(), FoundSidecar::Damaged));
    }

    #[test]
    fn a_sidecar_that_has_grown_costs_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("x")).unwrap();
        let header = SidecarHeader {
            number: 1,
            salt: 2,
            segment_len: segment_header::HEADER_LEN,
            count: 0,
            tag_count: 0,
            min_seq: u64::MAX,
            max_seq: 0,
        };
        let bytes = encode(&header, &Listing::default());
        write_all_at(&*file, &mut [IoSlice::new(&bytes)], 0).unwrap();
        let read = || read_sidecar(&*file, Path::new("x"), true);
        assert_eq!(read().unwrap().header, header);
        // More than there is memory; it takes no space.
        file.set_len(4 << 40).unwrap();
        assert!(matches!(read(), Err(LoadError::Damaged(_))));
    }
}
