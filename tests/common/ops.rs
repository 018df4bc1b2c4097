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

/// What is forgotten. Sets of keys and tags are bits; an empty one stands for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Some keys of a keyspace.
    Keys(u8, u8),
    /// Some tags in a keyspace.
    Tags(u8, u8),
    All(u8),
    /// Some tags in all keyspaces, and in the log too if asked to.
    Everywhere(u8, bool),
    /// A tag in the log.
    Rows(u8),
}

/// How it is forgotten. Where there is no such way, it is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Hide,
    /// Made stale: the first key or tag.
    Soften,
    /// Erased, and denied for so many minutes: the first key or tag.
    Deny(u16),
}

/// The numbers of a set of bits.
pub(crate) fn bits(set: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |at| set & (1 << at) != 0)
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
        /// Within so many minutes it must be committed.
        limit: u16,
    },
    /// Commits one of the open fills.
    Commit(u8, u16),
    /// Commits one of the open fills in pieces, of which so many bytes are kept in memory.
    Stream(u8, u16, u16),
    /// Abandons one of the open fills.
    Abandon(u8),
    InvalidateKey(Key),
    InvalidateTag(u8, u8),
    InvalidateAll(u8),
    Forget(Target, How),
    Read(Key),
    ReadAll,
    /// Keeps a value that is read until values are let go.
    Hold(Key),
    LetGo,
    Sync,
    Maintain,
    Scrub,
    /// Time passes, in seconds.
    Advance(u32),
    /// The wall clock is set, by minutes.
    SetWall(i32),
    ConfirmClock,
    ResetClock,
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
        tags: u8,
    },
    /// Appends rows with these tags through an appender of its own.
    AppendMany(u8, u8, u8),
    /// Hands rows with these tags to an appender that stays.
    Buffer(u8, u8, u8),
    /// Lets that appender write its rows.
    Flush,
    /// Scans from so many minutes ago for so many minutes.
    Scan(u16, u16),
}
