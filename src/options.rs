//! Options of keyspaces and logs, and every limit a caller can run into.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::manifest::OwnerManifest;
use crate::format::record::{MAX_KEY_LEN, MAX_METADATA_LEN, MAX_TAGS, MAX_VALUE_LEN};
use crate::retention::{Retention, Window};

/// The longest tag in bytes.
pub(crate) const MAX_TAG_LEN: usize = 1024;
/// The smallest segment.
pub(crate) const MIN_SEGMENT_BYTES: u64 = 4 * 1024;
/// The largest segment that can be asked for.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// A capacity holds at least this many segments.
pub(crate) const MIN_SEGMENTS: u64 = 16;
/// What a manifest says if there is no capacity.
pub(crate) const NO_CAPACITY: u64 = u64::MAX;

/// The shortest time in which dead records can be asked to be erased.
pub(crate) const MIN_ERASE_WITHIN_MS: u64 = 1_000;
/// The longest.
pub(crate) const MAX_ERASE_WITHIN_MS: u64 = 30 * 86_400_000;
/// How long a fill may take, in milliseconds, unless it says otherwise.
pub(crate) const DEFAULT_FILL_LIMIT_MS: u64 = 10 * 60 * 1000;
/// The longest time a fill can be given, in milliseconds.
pub(crate) const MAX_FILL_LIMIT_MS: u64 = 24 * 60 * 60 * 1000;
/// How much of a value that is written in pieces is kept in memory, unless the fill says otherwise.
pub(crate) const DEFAULT_MEMORY_LIMIT_BYTES: usize = 1 << 20;

const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;
const DEFAULT_ERASE_WITHIN: Duration = Duration::from_secs(3600);

/// How a keyspace is kept. Without a [`Retention`] there is none.
///
/// ```
/// use ebbtide::{KeyspaceOptions, Retention};
///
/// let options = KeyspaceOptions::new(Retention::days(30)).capacity_bytes(20 << 30);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyspaceOptions {
    inner: OwnerOptions,
}

/// How a log is kept. Without a [`Retention`] there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    inner: OwnerOptions,
}

/// What keyspaces and logs have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnerOptions {
    retention: Retention,
    segment_bytes: Option<u64>,
    capacity_bytes: Option<u64>,
    max_value_bytes: u64,
    erase_within: Duration,
}

impl KeyspaceOptions {
    /// A keyspace with this window, no capacity, and segments of 64 MiB.
    pub fn new(retention: Retention) -> Self {
        Self { inner: OwnerOptions::new(retention) }
    }

    /// The most the keyspace may take on the disk, in allocated bytes, what waits in the trash
    /// included. When a new segment would not fit, the oldest segments go. Can be changed at every
    /// open.
    pub fn capacity_bytes(mut self, bytes: u64) -> Self {
        self.inner.capacity_bytes = Some(bytes);
        self
    }

    /// The length of a segment file: 4 KiB to 1 GiB, at most a 16th of the capacity. Can be changed
    /// at every open.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.inner.segment_bytes = Some(bytes);
        self
    }

    /// The longest value accepted, 1 byte to 1 GiB. Can be changed at every open.
    pub fn max_value_bytes(mut self, bytes: u64) -> Self {
        self.inner.max_value_bytes = bytes;
        self
    }

    /// The longest that the bytes of a dead record may stay on the disk, from the moment on at
    /// which it was invalidated or replaced: one second to 30 days, one hour unless set. The upkeep begins when
    /// half of it has passed, so that many go together. What delays it: a value still held, a
    /// closed store. Can be changed at every open.
    pub fn erase_within(mut self, time: Duration) -> Self {
        self.inner.erase_within = time;
        self
    }

    pub(crate) fn into_inner(self) -> OwnerOptions {
        self.inner
    }
}

impl LogOptions {
    /// A log with this window, no capacity, and segments of 64 MiB.
    pub fn new(retention: Retention) -> Self {
        Self { inner: OwnerOptions::new(retention) }
    }

    /// The length of a segment file: 4 KiB to 1 GiB. Can be changed at every open.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.inner.segment_bytes = Some(bytes);
        self
    }

    /// The longest that the bytes of a dead row may stay on the disk, from the moment on at
    /// which it was invalidated: one second to 30 days, one hour unless set. The upkeep begins when
    /// half of it has passed, so that many go together. What delays it: a value still held, a
    /// closed store. Can be changed at every open.
    pub fn erase_within(mut self, time: Duration) -> Self {
        self.inner.erase_within = time;
        self
    }

    pub(crate) fn into_inner(self) -> OwnerOptions {
        self.inner
    }
}

impl OwnerOptions {
    fn new(retention: Retention) -> Self {
        Self {
            retention,
            segment_bytes: None,
            capacity_bytes: None,
            max_value_bytes: MAX_VALUE_LEN,
            erase_within: DEFAULT_ERASE_WITHIN,
        }
    }

    /// Checks the options and gives the manifest of a new owner.
    pub(crate) fn to_manifest(
        self,
        name: &str,
        owner_id: u64,
        created_ms: u64,
    ) -> Result<OwnerManifest> {
        let window = self.retention.resolve()?;
        let capacity_bytes = self.capacity_bytes.unwrap_or(NO_CAPACITY);
        Error::check_limit(
            "capacity_bytes",
            MIN_SEGMENTS * MIN_SEGMENT_BYTES,
            NO_CAPACITY,
            capacity_bytes,
        )?;
        let largest = MAX_SEGMENT_BYTES.min(capacity_bytes / MIN_SEGMENTS);
        let segment_bytes = self.segment_bytes.unwrap_or(DEFAULT_SEGMENT_BYTES.min(largest));
        Error::check_limit("segment_bytes", MIN_SEGMENT_BYTES, largest, segment_bytes)?;
        Error::check_limit("max_value_bytes", 1, MAX_VALUE_LEN, self.max_value_bytes)?;
        let erase_within_ms = u64::try_from(self.erase_within.as_millis()).unwrap_or(u64::MAX);
        Error::check_limit(
            "erase_within in milliseconds",
            MIN_ERASE_WITHIN_MS,
            MAX_ERASE_WITHIN_MS,
            erase_within_ms,
        )?;
        Ok(OwnerManifest {
            owner_id,
            window,
            created_ms,
            segment_bytes,
            capacity_bytes,
            max_value_bytes: self.max_value_bytes,
            erase_within_ms,
            floor: 0,
            name: name.to_owned(),
        })
    }
}

/// An error unless the stored window and width are the ones asked for.
pub(crate) fn check_same_window(name: &str, stored: Window, given: Window) -> Result<()> {
    let conflict = |option, stored, given| Error::OptionsConflict {
        name: name.to_owned(),
        option,
        stored,
        given,
    };
    if stored.window_ms != given.window_ms {
        return Err(conflict("window_ms", stored.window_ms, given.window_ms));
    }
    if stored.width_ms != given.width_ms {
        return Err(conflict("width_ms", stored.width_ms, given.width_ms));
    }
    Ok(())
}

/// An error unless this can be the name of a keyspace or log.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: u8| first(byte) || byte == b'_' || byte == b'-';
    let bytes = name.as_bytes();
    let legal = bytes.len() <= 64
        && bytes.first().is_some_and(|byte| first(*byte))
        && bytes.iter().all(|byte| rest(*byte));
    if legal { Ok(()) } else { Err(Error::InvalidName { name: name.to_owned() }) }
}

/// An error unless this can be a key.
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    Error::check_limit("key length in bytes", 1, MAX_KEY_LEN as u64, key.len() as u64)
}

/// An error unless these can be a record's tags.
pub(crate) fn check_tags<'a>(tags: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<()> {
    Error::check_limit("tags of a record", 0, MAX_TAGS as u64, tags.len() as u64)?;
    for tag in tags {
        check_tag(tag)?;
    }
    Ok(())
}

/// An error unless this can be a tag.
pub(crate) fn check_tag(tag: &[u8]) -> Result<()> {
    Error::check_limit("tag length in bytes", 1, MAX_TAG_LEN as u64, tag.len() as u64)
}

/// An error unless this can be metadata.
pub(crate) fn check_metadata(metadata: &[u8]) -> Result<()> {
    let len = metadata.len() as u64;
    Error::check_limit("metadata length in bytes", 0, MAX_METADATA_LEN as u64, len)
}

/// An error unless a fill may take so long.
pub(crate) fn check_fill_limit(limit_ms: u64) -> Result<()> {
    Error::check_limit("time limit of a fill in milliseconds", 1, MAX_FILL_LIMIT_MS, limit_ms)
}
