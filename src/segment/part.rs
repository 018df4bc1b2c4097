//! A record that is written to a file of its own, at its final place in it, before its length and
//! its segment's number are known: the value first, the headers last. It becomes a segment as a
//! whole, by its name, or is removed.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::writer::{AppendError, SegmentWriter, segment_name};
use super::{Extent, Segment, SegmentHost};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::{Error, Result};
use crate::format::record::{ALIGN, Draft, MAX_TAGS};
use crate::format::segment_header::{HEADER_LEN, SegmentHeader};
use crate::format::sidecar::{Listing, SidecarEntry, encoded_len};
use crate::process::Process;

/// A value under way. Its file stays when it is dropped: see [`Part::leftover`].
#[derive(Debug)]
pub(crate) struct Part {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    value_at: u64,
    value_len: u64,
    is_segment: bool,
    /// The process that writes it.
    process: Process,
}

/// The name of a part's file.
pub(crate) fn part_name(number: u64) -> String {
    format!("{number:016x}.part")
}

/// True if this can be the name of a part's file.
pub(crate) fn is_part_name(name: &str) -> bool {
    let number = name.strip_suffix(".part").and_then(|n| u64::from_str_radix(n, 16).ok());
    number.is_some_and(|number| part_name(number) == name)
}

/// Bytes that a segment of one record takes on the disk, its sidecar included, if its value is so
/// long and starts there.
pub(crate) fn allocated_bytes(value_at: u64, value_len: u64) -> u64 {
    let end = value_at + value_len;
    end.next_multiple_of(4096) + encoded_len(1, MAX_TAGS as u64).next_multiple_of(4096)
}

impl Part {
    /// Makes the file of a part whose value starts at this offset.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        number: u64,
        value_at: u64,
    ) -> Result<Self> {
        let path = dir.join(part_name(number));
        let file = disk.create(&path).map_err(|e| Error::io("create", &path, e))?;
        let process = Process::current();
        Ok(Self { disk, path, file, value_at, value_len: 0, is_segment: false, process })
    }

    /// The file, as long as it is no segment.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the value starts in the file.
    pub(crate) fn value_at(&self) -> u64 {
        self.value_at
    }

    /// The length of the value so far.
    pub(crate) fn value_len(&self) -> u64 {
        self.value_len
    }

    /// The file that is left of it and is to be removed: none once it is a segment, and none in a
    /// child of the process that writes it.
    pub(crate) fn leftover(&self) -> Option<&Path> {
        (!self.is_segment && self.process.is_current()).then_some(&*self.path)
    }

    /// Adds to the value. After an error the part is of no use any more.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(&[bytes], self.value_at + self.value_len)?;
        self.value_len += bytes.len() as u64;
        Ok(())
    }

    /// Makes the value durable, once it is whole. Must not be tried again after an error, since a
    /// second sync may succeed without having written anything.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let end = self.value_at + self.value_len;
        let padding = vec![0; (end.next_multiple_of(ALIGN) - end) as usize];
        self.write_at(&[&padding], end)?;
        self.sync()
    }

    /// Turns a finished part into a segment with this header: when this returns, it is durable in
    /// its bucket. `draft` is its record but for the value.
    pub(crate) fn make_segment(
        &mut self,
        bucket_dir: &Path,
        header: SegmentHeader,
        draft: &Draft<'_>,
        host: &SegmentHost,
    ) -> Result<SegmentWriter, AppendError> {
        let value_len = usize::try_from(self.value_len).unwrap_or(usize::MAX);
        let mut head = Vec::new();
        // The mark says no more than that of any first record: a walk checks this one whole.
        draft.encode_around(value_len, &header.seed(), HEADER_LEN, HEADER_LEN, &mut head);
        debug_assert_eq!(HEADER_LEN + head.len() as u64, self.value_at);
        self.write_at(&[&header.encode(), &head], 0).map_err(AppendError::Refused)?;
        self.sync().map_err(AppendError::Refused)?;
        let path = bucket_dir.join(segment_name(header.number));
        self.rename(&path, bucket_dir)?;

        let record_len = draft.record_len_around(value_len);
        let end = HEADER_LEN + record_len;
        let mut listing = Listing::default();
        let entry = SidecarEntry::whole(draft.hash, draft.seq, HEADER_LEN, record_len);
        listing.push(entry, draft.listed_tags);
        let extent = Extent {
            published: end,
            durable: end,
            min_seq: draft.seq,
            max_seq: draft.seq,
            records: 1,
            tags: listing.tags.len() as u64,
            ..Extent::EMPTY
        };
        let segment = Segment::new(header, path, host.clone(), Some(&self.file), extent, false);
        Ok(SegmentWriter::of_whole(segment, &self.file, listing))
    }

    /// Gives the file its name as a segment, durably. If that fails, it is removed under either
    /// name; whether a power cut would bring it back is in doubt if a directory was not synced.
    fn rename(&mut self, path: &Path, bucket_dir: &Path) -> Result<(), AppendError> {
        let dir = self.path.parent().unwrap_or(bucket_dir);
        if let Err(e) = self.disk.rename(&self.path, path) {
            let error = Error::io("rename", &self.path, e);
            return Err(match self.disk.remove_file(path) {
                Err(e) if e.kind() == ErrorKind::NotFound => AppendError::Refused(error),
                Ok(()) if self.disk.sync_dir(bucket_dir).is_ok() => AppendError::Refused(error),
                _ => AppendError::Broken(error),
            });
        }
        for dir in [bucket_dir, dir] {
            if let Err(e) = self.disk.sync_dir(dir) {
                let _ = self.disk.remove_file(path);
                return Err(AppendError::Broken(Error::io("sync", dir, e)));
            }
        }
        self.is_segment = true;
        Ok(())
    }

    fn write_at(&self, parts: &[&[u8]], offset: u64) -> Result<()> {
        if !self.process.is_current() {
            return Err(Error::Forked);
        }
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        write_all_at(&*self.file, &mut slices, offset)
            .map_err(|e| Error::io("write", &self.path, e.source))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_parts_are_taken_for_one() {
        assert!(is_part_name(&part_name(0x0000_0001_0000_000a)));
        for name in ["a.part", "000000010000000A.part", "0000000100000001.seg", ".part", "x.part"] {
            assert!(!is_part_name(name), "{name}");
        }
    }
}
