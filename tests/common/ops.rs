//! What may be done to a store under test.

/// Keys of a keyspace under test.
pub(crate) const KEYS: u8 = 8;
/// Tags under test.
pub(crate) const TAGS: u8 = 4;
/// Keyspaces under test.
pub(crate) const KEYSPACES: u8 = 2;

/// A key: which keyspace, and which of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) space: u8,
    pub(crate) key: u8,
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Insert(Key, u16),
    Batch(u8, Vec<(u8, u16)>),
    /// Begins a fill and leaves it open. `tags` is a set of bits; expiry is in minutes from now.
    Begin {
        key: Key,
        tags: u8,
        metadata: bool,
        expires: Option<u16>,
        sync: bool,
    },
    /// Commits one of the open fills.
    Commit(u8, u16),
    /// Abandons one of the open fills.
    Abandon(u8),
    InvalidateKey(Key),
    InvalidateTag(u8, u8),
    InvalidateAll(u8),
    Read(Key),
    ReadAll,
    /// Keeps a value that is read until the end of the case.
    Hold(Key),
    Sync,
    Maintain,
    /// Time passes, in seconds.
    Advance(u32),
    /// The wall clock is set, by minutes.
    SetWall(i32),
    ConfirmClock,
    Reopen,
    /// Closes, and the machine is off for so many minutes.
    Reboot(u16),
    Kill,
    /// Cuts the power, with a seed for what is lost, and minutes the machine is off.
    Crash(u64, u16),
    /// Leaves so many free blocks on the disk.
    LimitDisk(u8),
    LiftLimit,
    /// Opens again with segments of so many KiB.
    SegmentKib(u8),
    /// Appends a row about one of a few addresses (0 for nobody), from so many minutes ago.
    Append {
        ip: u8,
        minutes_ago: i16,
        len: u16,
    },
    /// Appends rows through an appender.
    AppendMany(u8, u8),
    /// Scans from so many minutes ago for so many minutes.
    Scan(u16, u16),
}
