//! Looking into one segment file, record by record, without a store: [`SegmentDump`].

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile, RealDisk, read_full_at};
use crate::error::{Error, Result};
use crate::format::record::{HEAD_LEN, RecordKind};
use crate::format::{Unreadable, VERSION};
use crate::segment::load::{LoadError, read_header};
use crate::segment::walker::{Found, Walker};
use crate::time::Timestamp;

/// What a segment file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// The generation that wrote it.
    pub generation: u64,
    /// The start of its bucket.
    pub bucket_start: Timestamp,
    /// When all of it is gone.
    pub deadline: Timestamp,
    /// The length it may grow to.
    pub capacity_bytes: u64,
    /// The length it has.
    pub len_bytes: u64,
    /// True if it holds log rows.
    pub rows: bool,
}

/// One record of a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordInfo {
    /// Where it starts.
    pub offset: u64,
    /// Bytes it takes.
    pub len_bytes: u64,
    /// Its sequence number.
    pub sequence: u64,
    /// When it was written.
    pub written_at: Timestamp,
    /// The durable length known when it was written.
    pub durable_mark: u64,
    /// Its key; empty for rows.
    pub key: Vec<u8>,
    /// How many tags it carries.
    pub tag_count: usize,
    /// Bytes of metadata.
    pub metadata_len: u64,
    /// Bytes of value.
    pub value_len: u64,
    /// What is wrong with it.
    pub problem: Option<&'static str>,
}

/// Goes through the records of one segment file. The last item is an error if the file does not end
/// with a whole record.
pub struct SegmentDump {
    info: SegmentInfo,
    path: std::path::PathBuf,
    file: Arc<dyn DiskFile>,
    walker: Option<Walker<FileSource>>,
}

struct FileSource(Arc<dyn DiskFile>);

impl crate::segment::walker::Source for FileSource {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        read_full_at(&*self.0, buffer, offset)
    }
}

impl SegmentDump {
    /// Opens a segment file.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](Error::Corrupt) if it has no readable header,
    /// [`UnknownVersion`](Error::UnknownVersion), and the system's own.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(&RealDisk, path)
    }

    /// Opens a segment file of any disk.
    ///
    /// # Errors
    ///
    /// As [`SegmentDump::open`].
    pub fn open_on(disk: &dyn Disk, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = disk.open(path, Access::Read).map_err(|e| Error::io("open", path, e))?;
        let len_bytes = file.len().map_err(|e| Error::io("measure", path, e))?;
        let header = read_header(&*file, path).map_err(|e| match e {
            LoadError::Failed(e) => e,
            LoadError::Version(found) => {
                Error::UnknownVersion { path: path.to_owned(), found, known: VERSION }
            }
            LoadError::Damaged(what) => Error::Corrupt { path: path.to_owned(), offset: 0, what },
            LoadError::Unborn => {
                Error::Corrupt { path: path.to_owned(), offset: 0, what: "file cut short" }
            }
        })?;
        let info = SegmentInfo {
            number: header.number,
            generation: header.generation,
            bucket_start: Timestamp::from_millis(header.bucket_start_ms),
            deadline: Timestamp::from_millis(header.deadline_ms),
            capacity_bytes: header.capacity,
            len_bytes,
            rows: header.kind == RecordKind::Rows,
        };
        let walker = Walker::new(FileSource(Arc::clone(&file)), &header.seed(), len_bytes);
        Ok(Self { info, path: path.to_owned(), file, walker: Some(walker) })
    }

    /// What the file says of itself.
    pub fn info(&self) -> &SegmentInfo {
        &self.info
    }

    fn describe(&self, found: &Found, checked: Result<(), Unreadable>) -> Result<RecordInfo> {
        let head = &found.head;
        let mut prefix = vec![0; head.prefix_len()];
        read_full_at(&*self.file, &mut prefix, found.offset + HEAD_LEN as u64)
            .map_err(|e| Error::io("read", &self.path, e))?;
        let key_start = head.prefix_len() - head.metadata_len - head.tag_count * 16 - head.key_len;
        let key = prefix.get(key_start..key_start + head.key_len).unwrap_or_default();
        let problem = match checked {
            Ok(()) => None,
            Err(Unreadable::Damaged(what)) => Some(what),
            Err(Unreadable::Version(_)) => Some("version"),
        };
        Ok(RecordInfo {
            offset: found.offset,
            len_bytes: head.record_len(),
            sequence: head.seq,
            written_at: Timestamp::from_millis(head.written_at_ms),
            durable_mark: head.durable_mark,
            key: key.to_vec(),
            tag_count: head.tag_count,
            metadata_len: head.metadata_len as u64,
            value_len: head.value_len as u64,
            problem,
        })
    }
}

impl Iterator for SegmentDump {
    type Item = Result<RecordInfo>;

    fn next(&mut self) -> Option<Result<RecordInfo>> {
        let walker = self.walker.as_mut()?;
        let failed = |e| Error::io("read", &self.path, e);
        let found = match walker.next() {
            Ok(None) => return None,
            Ok(Some(Ok(found))) => found,
            Ok(Some(Err(unreadable))) => {
                let offset = walker.offset();
                self.walker = None;
                let what = match unreadable {
                    Unreadable::Damaged(what) => what,
                    Unreadable::Version(_) => "version",
                };
                return Some(Err(Error::Corrupt { path: self.path.clone(), offset, what }));
            }
            Err(e) => {
                let error = failed(e);
                self.walker = None;
                return Some(Err(error));
            }
        };
        match walker.check(&found) {
            Ok(checked) => Some(self.describe(&found, checked)),
            Err(e) => Some(Err(failed(e))),
        }
    }
}

impl std::fmt::Debug for SegmentDump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentDump").field("info", &self.info).finish_non_exhaustive()
    }
}
