//! [`LedgerEntry`]: an entry of the ledger as people and programs read it.

use std::fmt;

use crate::format::ledger::{ChainedEntry, EntryFields, EntryKind, How, NOT_COUNTED, Turn};
use crate::format::record::RecordKind;
use crate::time::Timestamp;

/// One entry of the ledger: what was forgotten, when, and how much. It holds no personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// Its number, from 1 on without a gap.
    pub number: u64,
    /// What happened.
    pub kind: LedgerKind,
    /// When, by the engine's time.
    pub at: Timestamp,
    /// The id of the keyspace or log, if it is about one.
    pub owner_id: Option<u64>,
    /// Its name, if it is still there.
    pub owner: Option<String>,
    /// The start of the bucket, if it is about one.
    pub bucket_start: Option<Timestamp>,
    /// The deadline of the bucket, if one was born, carried or dropped.
    pub deadline: Option<Timestamp>,
    /// The number that a dropped bucket has in the trash.
    pub instance: Option<u64>,
    /// Records, or blocks of rows, in what was dropped or scrubbed, if they were counted.
    pub records: Option<u64>,
    /// Bytes of it on the disk, if they were counted.
    pub bytes: Option<u64>,
    /// BLAKE3 of the hash of the entry before and of this one's fields.
    pub hash: [u8; 32],
}

/// What an entry of the ledger tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerKind {
    /// A file of the ledger was begun.
    Checkpoint(CheckpointCause),
    /// A keyspace was made.
    Keyspace,
    /// A log was made.
    Log,
    /// A bucket was about to be made.
    BucketBorn {
        /// True if it was found without an entry of its birth when the store was opened.
        found: bool,
    },
    /// A bucket left the store: from then on nothing in it can be read.
    BucketDropped(DropCause),
    /// Readers let go of the last they held of a dropped bucket.
    BucketReleased {
        /// Segments that were held beyond the drop.
        segments: u64,
    },
    /// Invalidations since the last entry of this scope, at most once a minute.
    Invalidated {
        /// What they named.
        scope: InvalidatedScope,
        /// How many there were.
        count: u64,
    },
    /// Records were made unreadable in place.
    Scrubbed,
    /// The keys of a log's dropped bucket were overwritten: its pseudonyms cannot be made again.
    KeysDestroyed {
        /// True if they were found gone when the store was opened.
        found: bool,
    },
    /// The wall clock went ahead by more than the engine believes.
    ClockSuspect {
        /// By how much, in milliseconds, all steps that are not believed together.
        ahead_ms: u64,
    },
    /// A bucket is still there whose birth stands in a file that is about to be deleted.
    BucketCarried {
        /// The number of the entry of its birth.
        born_by: u64,
    },
}

/// Why a file of the ledger was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointCause {
    /// It is the first.
    First,
    /// The one before is full.
    Full,
    /// A write to the one before failed.
    GivenUp,
    /// The one before was found missing, cut or changed, and is kept as it was found.
    Broken,
}

/// How a bucket came to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropCause {
    /// Dropped by the upkeep.
    Dropped,
    /// Found dropped when the store was opened: the process ended before it could say so.
    FoundAtOpen,
    /// Found neither in the store nor in the trash when the store was opened.
    FoundMissing,
    /// Removed since all in it had been evicted, or since it could not be made.
    Emptied,
}

/// What an invalidation named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidatedScope {
    /// A key.
    Key,
    /// A tag.
    Tag,
    /// Everything in a keyspace.
    All,
}

/// The newest entry of the ledger: whoever keeps it elsewhere can tell later that nothing up to it
/// was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerHead {
    /// Its number; 0 if there is none.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl LedgerEntry {
    /// An entry as read; `name` knows owners by their id.
    pub(crate) fn new(entry: &ChainedEntry, name: impl Fn(u64) -> Option<String>) -> Self {
        let fields = &entry.fields;
        let about_owner = !matches!(
            fields.kind,
            EntryKind::Checkpoint | EntryKind::Invalidated | EntryKind::ClockSuspect
        );
        let about_bucket = about_owner && fields.kind != EntryKind::Owner;
        let has_deadline =
            matches!(fields.kind, EntryKind::Born | EntryKind::Carried | EntryKind::Dropped);
        let is_counted = matches!(fields.kind, EntryKind::Dropped | EntryKind::Scrubbed);
        let has_bytes = is_counted || fields.kind == EntryKind::Released;
        let counted = |value: u64, has: bool| (has && value != NOT_COUNTED).then_some(value);
        let moment = |ms: u64, has: bool| has.then(|| Timestamp::from_millis(ms));
        let has_instance = about_bucket && !matches!(fields.kind, EntryKind::Carried);
        Self {
            number: fields.number,
            kind: kind(fields),
            at: Timestamp::from_millis(fields.at_ms),
            owner_id: about_owner.then_some(fields.owner_id),
            owner: about_owner.then(|| name(fields.owner_id)).flatten(),
            bucket_start: moment(fields.start_ms, about_bucket),
            deadline: moment(fields.deadline_ms, has_deadline),
            instance: (has_instance && fields.instance != 0).then_some(fields.instance),
            records: counted(fields.records, is_counted),
            bytes: counted(fields.bytes, has_bytes),
            hash: entry.hash,
        }
    }
}

fn kind(fields: &EntryFields) -> LedgerKind {
    let how = How::of_detail(fields.detail);
    let found = how == How::FoundAtOpen;
    match fields.kind {
        EntryKind::Checkpoint => LedgerKind::Checkpoint(match Turn::from_detail(fields.detail) {
            Turn::First => CheckpointCause::First,
            Turn::Full => CheckpointCause::Full,
            Turn::GivenUp => CheckpointCause::GivenUp,
            Turn::Resumed => CheckpointCause::Broken,
        }),
        EntryKind::Owner if fields.detail & 0x0f == RecordKind::Rows as u8 => LedgerKind::Log,
        EntryKind::Owner => LedgerKind::Keyspace,
        EntryKind::Born => LedgerKind::BucketBorn { found },
        EntryKind::Dropped => LedgerKind::BucketDropped(match how {
            How::Witnessed => DropCause::Dropped,
            How::FoundAtOpen => DropCause::FoundAtOpen,
            How::Missing => DropCause::FoundMissing,
            How::Emptied => DropCause::Emptied,
        }),
        EntryKind::Released => LedgerKind::BucketReleased { segments: fields.records },
        EntryKind::Invalidated => {
            let scope = match fields.detail {
                1 => InvalidatedScope::Key,
                2 => InvalidatedScope::Tag,
                _ => InvalidatedScope::All,
            };
            LedgerKind::Invalidated { scope, count: fields.records }
        }
        EntryKind::Scrubbed => LedgerKind::Scrubbed,
        EntryKind::KeysDestroyed => LedgerKind::KeysDestroyed { found },
        EntryKind::ClockSuspect => LedgerKind::ClockSuspect { ahead_ms: fields.records },
        EntryKind::Carried => LedgerKind::BucketCarried { born_by: fields.instance },
    }
}

impl LedgerKind {
    /// A short name, the same in every version: `bucket-dropped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint(_) => "checkpoint",
            Self::Keyspace => "keyspace",
            Self::Log => "log",
            Self::BucketBorn { .. } => "bucket-born",
            Self::BucketDropped(_) => "bucket-dropped",
            Self::BucketReleased { .. } => "bucket-released",
            Self::Invalidated { .. } => "invalidated",
            Self::Scrubbed => "scrubbed",
            Self::KeysDestroyed { .. } => "keys-destroyed",
            Self::ClockSuspect { .. } => "clock-suspect",
            Self::BucketCarried { .. } => "bucket-carried",
        }
    }
}

impl fmt::Display for LedgerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(CheckpointCause::First) => f.write_str("the ledger begins"),
            Self::Checkpoint(CheckpointCause::Full) => f.write_str("a new file, the last is full"),
            Self::Checkpoint(CheckpointCause::GivenUp) => {
                f.write_str("a new file, a write to the last failed")
            }
            Self::Checkpoint(CheckpointCause::Broken) => {
                f.write_str("a new file, the chain before is broken")
            }
            Self::Keyspace => f.write_str("keyspace made"),
            Self::Log => f.write_str("log made"),
            Self::BucketBorn { found: false } => f.write_str("bucket born"),
            Self::BucketBorn { found: true } => f.write_str("bucket found without its birth"),
            Self::BucketDropped(DropCause::Dropped) => f.write_str("bucket dropped"),
            Self::BucketDropped(DropCause::FoundAtOpen) => {
                f.write_str("bucket found dropped at open")
            }
            Self::BucketDropped(DropCause::FoundMissing) => {
                f.write_str("bucket found missing at open")
            }
            Self::BucketDropped(DropCause::Emptied) => f.write_str("empty bucket removed"),
            Self::BucketReleased { segments } => {
                write!(f, "readers let go of the last of {segments} segments")
            }
            Self::Invalidated { scope, count } => {
                let what = match scope {
                    InvalidatedScope::Key => "of a key",
                    InvalidatedScope::Tag => "of a tag",
                    InvalidatedScope::All => "of everything",
                };
                write!(f, "{count} invalidations {what}")
            }
            Self::Scrubbed => f.write_str("records scrubbed"),
            Self::KeysDestroyed { found: false } => f.write_str("pseudonym keys destroyed"),
            Self::KeysDestroyed { found: true } => f.write_str("pseudonym keys found destroyed"),
            Self::ClockSuspect { ahead_ms } => {
                write!(f, "wall clock ahead by {ahead_ms} ms, not believed")
            }
            Self::BucketCarried { born_by } => {
                write!(f, "bucket still there, born by entry {born_by}")
            }
        }
    }
}

impl fmt::Display for LedgerEntry {
    /// One line: number, time, owner, bucket, and what happened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.number, self.at)?;
        match (&self.owner, self.owner_id) {
            (Some(name), _) => write!(f, "{name} ")?,
            (None, Some(id)) => write!(f, "{id:016x} ")?,
            (None, None) => {}
        }
        if let Some(start) = self.bucket_start {
            write!(f, "{start} ")?;
        }
        write!(f, "{}", self.kind)?;
        if let Some(deadline) = self.deadline {
            write!(f, ", due {deadline}")?;
        }
        if let Some(records) = self.records {
            write!(f, ", {records} records")?;
        }
        if let Some(bytes) = self.bytes {
            write!(f, ", {bytes} bytes")?;
        }
        Ok(())
    }
}

impl fmt::Display for LedgerHead {
    /// The number, and the hash as 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.number)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
