//! What every store under comparison can do.

use std::path::Path;

/// What a peer fails with: the comparison ends there.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

/// What a store is opened for.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Values are images of tens of kilobytes; else records of 150 bytes.
    pub blobs: bool,
    /// Memory that a store with a cache of its own may use for it.
    // Nobody asks unless a peer with a cache is built in.
    #[allow(dead_code)]
    pub cache_bytes: u64,
    /// The most that it may take on the disk, where it can be limited.
    pub capacity_bytes: Option<u64>,
    /// Nothing is to be synced on the side, where that can be turned off.
    pub quiet: bool,
    /// Days of the window, where a store is told.
    pub days: u32,
}

/// What a peer fails with if it cannot do something, or if nobody would use it for that: the row is
/// left empty.
#[derive(Debug)]
pub struct Unsupported;

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not supported")
    }
}

impl std::error::Error for Unsupported {}

/// A store as an image server would use it: values by key, kept for 30 days, in daily buckets that
/// go as a whole. Whoever reads does not know the day.
pub trait Peer: Send + Sync {
    /// What is inserted from now on belongs to this day. Days are numbered from 0 and only grow.
    fn begin_day(&self, day: u32) -> Result<()>;

    /// Stores a value. It need not survive a power cut before [`Peer::sync`] returns.
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Stores values together, with as few writes as the store can.
    fn insert_batch(&self, items: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// Stores a value that survives a power cut once this has returned.
    fn insert_durable(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Makes all that was inserted survive a power cut.
    fn sync(&self) -> Result<()>;

    /// Hands the value of a key to `look` once, without a copy where the store can, whatever the day
    /// it was inserted on; false if there is none.
    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Makes keys absent, together; survives a power cut once this has returned.
    fn invalidate(&self, keys: &[&[u8]]) -> Result<()>;

    /// Makes all of a day absent, and returns when that survives a power cut.
    fn drop_day(&self, day: u32) -> Result<()>;

    /// Does what is left to do after [`Peer::drop_day`] before the bytes are free on the disk.
    fn reclaim(&self) -> Result<()>;

    /// True if it keeps to [`Setup::capacity_bytes`] by giving up what is old.
    fn keeps_capacity(&self) -> bool {
        false
    }

    /// Memory that its index of all keys takes, where it can tell.
    fn index_bytes(&self) -> Option<u64> {
        None
    }

    /// Closes in good order.
    fn close(self: Box<Self>) -> Result<()>;
}

/// How a peer is opened; also an existing directory, whether it was closed or its process killed.
pub type Open = fn(&Path, Setup) -> Result<Box<dyn Peer>>;

/// A peer that takes part.
#[derive(Clone, Copy)]
pub struct Contestant {
    /// As on the command line and in the table.
    pub name: &'static str,
    /// What should be known of its set-up when reading its row.
    pub remark: &'static str,
    /// False if a crash may lose or break what was synced before.
    pub survives_crash: bool,
    pub open: Open,
}
