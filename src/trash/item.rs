//! Something in the trash, and what its name tells.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, EntryKind};
use crate::segment::Segment;
use crate::time::Timestamp;

/// Something in the trash directory.
#[derive(Debug)]
pub(crate) struct TrashItem {
    pub(crate) path: PathBuf,
    pub(crate) owner_id: u64,
    /// What it takes, unless that could not be looked at.
    pub(crate) bytes: Option<u64>,
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

/// The name of something in the trash: whose it was, which bucket, and a number never used twice.
pub(crate) fn trash_name(owner_id: u64, bucket: &str, instance: u64) -> String {
    format!("{owner_id:016x}.{bucket}.{instance:016x}")
}

impl TrashItem {
    /// Something that this process had no segment of open: what its files take, it takes.
    pub(crate) fn unread(disk: &dyn Disk, path: PathBuf, kind: EntryKind, owner_id: u64) -> Self {
        let bytes = bytes_of(disk, &path, kind).ok();
        Self { path, owner_id, bytes, segments: Vec::new(), scrubbed_through: 0 }
    }

    /// Looks once more at what could not be looked at, whatever it is named.
    pub(super) fn measure(&mut self, disk: &dyn Disk) {
        if self.bytes.is_none() {
            let of_kind = |kind| bytes_of(disk, &self.path, kind);
            let bytes = of_kind(EntryKind::Directory).or_else(|_| of_kind(EntryKind::File));
            self.bytes = bytes.ok();
        }
    }

    /// Notes that so many bytes of it have been given back.
    pub(super) fn shrink(&mut self, bytes: u64) {
        self.bytes = self.bytes.map(|all| all.saturating_sub(bytes));
    }

    /// The bucket it is, unless it is a single segment.
    pub(super) fn bucket(&self) -> Option<TrashedBucket> {
        let name = self.path.file_name()?.to_str()?;
        let mut parts = name.split('.');
        let owner_id = u64::from_str_radix(parts.next()?, 16).ok()?;
        let start = Timestamp::from_compact(parts.next()?)?;
        let instance = u64::from_str_radix(parts.next()?, 16).ok()?;
        let bucket = TrashedBucket { owner_id, start, instance };
        (trash_name(owner_id, &start.compact(), instance) == name).then_some(bucket)
    }
}

/// The bytes that a file takes, or those in a directory.
pub(super) fn bytes_of(disk: &dyn Disk, path: &Path, kind: EntryKind) -> io::Result<u64> {
    match kind {
        EntryKind::File => disk.open(path, Access::Read)?.allocated_bytes(),
        EntryKind::Directory => {
            let entries = disk.read_dir(path)?.into_iter();
            let files = entries.filter(|entry| entry.kind == EntryKind::File);
            files.map(|entry| bytes_of(disk, &path.join(&entry.name), entry.kind)).sum()
        }
        EntryKind::Other => Ok(0),
    }
}
