//! The options of a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Store;
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, Result};
use crate::format::{ledger, tombstone};
use crate::time::{Clock, SystemClock};

/// The smallest tombstone log file.
const MIN_TOMBSTONE_LOG_BYTES: u64 = 4 * 1024;

/// The smallest ledger file.
const MIN_LEDGER_FILE_BYTES: u64 = 4 * 1024;

/// Options for opening a store, made by [`Store::builder`].
#[derive(Debug, Clone)]
pub struct StoreBuilder {
    pub(super) path: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sync_interval: Duration,
    pub(super) background: bool,
    pub(super) tombstone_log_bytes: u64,
    pub(super) ledger_file_bytes: u64,
    pub(super) ledger_retention: Duration,
    pub(super) clock_grace: Duration,
    pub(super) verify_every_read: bool,
    pub(super) max_pin: Duration,
    pub(super) allow_network_file_system: bool,
}

impl StoreBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            sync_interval: Duration::from_secs(1),
            background: true,
            tombstone_log_bytes: 1 << 20,
            ledger_file_bytes: 256 << 10,
            ledger_retention: Duration::from_secs(3 * 365 * 24 * 3600),
            clock_grace: Duration::from_secs(3600),
            verify_every_read: false,
            max_pin: Duration::from_secs(3600),
            allow_network_file_system: false,
        }
    }

    /// Where the time is read; the system's clocks unless set.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The disk to work on; the real one unless set. For tests.
    pub fn disk(mut self, disk: impl Disk + 'static) -> Self {
        self.disk = Arc::new(disk);
        self
    }

    /// How long a write may wait for its sync, 10 ms to an hour; one second unless set. A power cut
    /// can take what was written since the last one.
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval;
        self
    }

    /// Whether a background thread does the upkeep; it does unless set. Without it,
    /// [`Store::maintain`] must be called. What is past its deadline is invisible either way. The
    /// upkeep also writes the engine's time down, at least once a minute: without it, a power cut
    /// together with a wall clock that goes back can undo the time that passed since.
    pub fn background(mut self, on: bool) -> Self {
        self.background = on;
        self
    }

    /// The length of a tombstone log file, 4 KiB to 64 MiB, in whole KiB; 1 MiB unless set, which
    /// holds 8,184 invalidations.
    pub fn tombstone_log_bytes(mut self, bytes: u64) -> Self {
        self.tombstone_log_bytes = bytes;
        self
    }

    /// The length of a ledger file, 4 KiB to 64 MiB, in whole KiB; 256 KiB unless set, which holds
    /// 1,635 entries.
    pub fn ledger_file_bytes(mut self, bytes: u64) -> Self {
        self.ledger_file_bytes = bytes;
        self
    }

    /// For how long entries of the ledger are kept; three years unless set. Whole files are deleted
    /// when their newest entry is older; buckets that are still there are carried over first.
    pub fn ledger_retention(mut self, retention: Duration) -> Self {
        self.ledger_retention = retention;
        self
    }

    /// For how long the wall clock must stand by a large step before anything is destroyed by it;
    /// one hour unless set.
    pub fn clock_grace(mut self, grace: Duration) -> Self {
        self.clock_grace = grace;
        self
    }

    /// Whether a record's checksums are compared at every read. Unless set, those of its value are
    /// compared at the first read after the store was opened, as are those of its header where the
    /// record is mapped; by position, its header's are compared at every read.
    pub fn verify_every_read(mut self, on: bool) -> Self {
        self.verify_every_read = on;
        self
    }

    /// For how long values that are held may delay erasing before
    /// [`StoreStats::pins_overdue`](crate::StoreStats::pins_overdue) says so; one hour unless set.
    pub fn max_pin(mut self, time: Duration) -> Self {
        self.max_pin = time;
        self
    }

    /// Whether the directory may be on a file system that other machines can change, or of which that
    /// cannot be told: NFS, SMB, AFS, Ceph, Lustre, GFS2 and their like, 9P, and FUSE, whatever is behind
    /// it. Unless set, opening fails there with
    /// [`NetworkFileSystem`](Error::NetworkFileSystem), also to look at a store only: what another machine
    /// has invalidated might still be served from this one's caches. On Linux a file system that is not
    /// known by its number is taken for a local one.
    ///
    /// With it, it is up to you that no two machines open the store at once, that locks hold between
    /// processes, and that what is synced is on the disk of whoever has it. Opening such a store mapped is
    /// never sound.
    pub fn allow_network_file_system(mut self, allow: bool) -> Self {
        self.allow_network_file_system = allow;
        self
    }

    /// Opens the store, reading by position. See [`Store::open`].
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and [`Limit`](Error::Limit) for options out of range.
    pub fn open(self) -> Result<Store> {
        self.open_with(false)
    }

    /// Opens the store, reading from mapped files. See [`Store::open_mapped`].
    ///
    /// # Errors
    ///
    /// As [`StoreBuilder::open`].
    ///
    /// # Safety
    ///
    /// As [`Store::open_mapped`].
    #[allow(unsafe_code)]
    pub unsafe fn open_mapped(self) -> Result<Store> {
        self.open_with(true)
    }

    /// Opens an existing store to look at it. See [`Store::open_read_only`].
    ///
    /// # Errors
    ///
    /// As [`Store::open_read_only`].
    pub fn open_read_only(self) -> Result<Store> {
        self.check()?;
        super::open::open_read_only(self)
    }

    pub(crate) fn open_with(self, mapped: bool) -> Result<Store> {
        self.check()?;
        super::open::open(self, mapped)
    }

    fn check(&self) -> Result<()> {
        let interval_ms = u64::try_from(self.sync_interval.as_millis()).unwrap_or(u64::MAX);
        Error::check_limit("sync interval in milliseconds", 10, 3_600_000, interval_ms)?;
        let bytes = self.tombstone_log_bytes;
        Error::check_limit(
            "tombstone_log_bytes",
            MIN_TOMBSTONE_LOG_BYTES,
            tombstone::MAX_FILE_LEN,
            bytes,
        )?;
        Error::check_limit("tombstone_log_bytes beyond whole KiB", 0, 0, bytes % 1024)?;
        let bytes = self.ledger_file_bytes;
        Error::check_limit(
            "ledger_file_bytes",
            MIN_LEDGER_FILE_BYTES,
            ledger::MAX_FILE_LEN,
            bytes,
        )?;
        Error::check_limit("ledger_file_bytes beyond whole KiB", 0, 0, bytes % 1024)
    }
}
