//! What a store has on the disk, file by file: why it is there, and until when.
//!
//! `walk` goes through the directories; here is what it gives.

mod walk;

use std::fmt;
use std::path::PathBuf;

use super::Store;
use crate::error::Result;
use crate::time::Timestamp;

/// One file or directory of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residue {
    /// Where it is, below the path that the store was opened with.
    pub path: PathBuf,
    /// What it is.
    pub kind: ResidueKind,
    /// Whose it is.
    pub owner: ResidueOwner,
    /// The start of the bucket that it belongs to, if it belongs to one.
    pub bucket: Option<Timestamp>,
    /// The space it takes on the disk; 0 for directories.
    pub bytes: u64,
    /// Until when it is there at the latest, if a process has the store open for writing then and
    /// does its upkeep; it may take the upkeep a moment to come to it. Never before now. `None` if
    /// there is no such time: it may be there as long as the store, or, if it is
    /// [`Held`](ResidueKind::Held), as long as somebody holds it.
    ///
    /// A fill that never ends and values that are held put nothing off here but what they hold
    /// themselves, and tombstone logs.
    pub until: Option<Timestamp>,
}

/// Whose a file is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ResidueOwner {
    /// The store's as a whole.
    Store,
    /// That of the keyspace of this name.
    Keyspace(String),
    /// That of the log of this name.
    Log(String),
    /// Nobody's that is known.
    Unknown,
}

impl fmt::Display for ResidueOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("store"),
            Self::Keyspace(name) => write!(f, "keyspace {name}"),
            Self::Log(name) => write!(f, "log {name}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// What a file is, and so why it is there: [`ResidueKind::why`] says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResidueKind {
    /// A directory of the store, or of a keyspace or log.
    Directory,
    /// STORE.
    Identity,
    /// STATE.
    State,
    /// LOCK.
    Lock,
    /// KEYSPACE or LOG.
    Options,
    /// The directory of a keyspace or log whose options cannot be read.
    Orphan,
    /// INDEX.
    Index,
    /// The directory of a bucket.
    Bucket,
    /// Records or rows.
    Segment,
    /// Where the records of a segment are.
    Sidecar,
    /// The keys of a bucket's pseudonyms.
    PseudonymKeys,
    /// A value that is being streamed in, or was when a process stopped.
    Part,
    /// A tombstone log that is no longer written to.
    TombstoneLog,
    /// The tombstone log that is written to.
    CurrentTombstoneLog,
    /// The proof of what was erased.
    Ledger,
    /// Space set aside for the next log.
    Spare,
    /// A file that is being made, or was when a process stopped.
    Temporary,
    /// Something in the trash.
    Dropped,
    /// A segment that has no name any more, and values of which are still held.
    Held,
    /// Nothing that this version of the crate would have made.
    Unknown,
}

impl ResidueKind {
    /// Why there is such a file, in words.
    pub fn why(self) -> &'static str {
        match self {
            Self::Directory => "holds what lies in it",
            Self::Identity => "says who the store is: its id and the secrets of its hashes",
            Self::State => {
                "says which numbers are used up, what time it was, and how it was closed"
            }
            Self::Lock => "keeps a second process from writing",
            Self::Options => "the options of the keyspace or log, and its floor",
            Self::Orphan => {
                "its options are lost: nothing in it is served, and its buckets leave at the first open for writing after their deadlines"
            }
            Self::Index => {
                "hashes of keys and where their records are; goes at the next open for writing"
            }
            Self::Bucket => "holds what was written in one slice of time, and goes whole",
            Self::Segment => "records or rows, and what is left of those that were given up",
            Self::Sidecar => "where the records of the segment are, with hashes of their keys",
            Self::PseudonymKeys => {
                "the keys of the bucket's pseudonyms; overwritten before it goes"
            }
            Self::Part => {
                "a value that is being streamed in; one that was given up goes at the next upkeep, what a process that stopped left of one at the next open for writing"
            }
            Self::TombstoneLog => {
                "hashes of what was invalidated; needed as long as there is anything it may hide"
            }
            Self::CurrentTombstoneLog => {
                "hashes of what was invalidated last; goes as the older ones once it is full"
            }
            Self::Ledger => "the proof of what was erased, without personal data",
            Self::Spare => "zeros: the space for what has to be written when the disk is full",
            Self::Temporary => "a file that is being made, or its remains; holds no values",
            Self::Dropped => "dropped: waits for its space to be given back",
            Self::Held => "unlinked: takes space as long as values of it are held",
            Self::Unknown => "not ours",
        }
    }
}

impl fmt::Display for ResidueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Identity => "identity",
            Self::State => "state",
            Self::Lock => "lock",
            Self::Options => "options",
            Self::Orphan => "orphan",
            Self::Index => "index",
            Self::Bucket => "bucket",
            Self::Segment => "segment",
            Self::Sidecar => "sidecar",
            Self::PseudonymKeys => "pseudonym keys",
            Self::Part => "part",
            Self::TombstoneLog => "tombstone log",
            Self::CurrentTombstoneLog => "current tombstone log",
            Self::Ledger => "ledger",
            Self::Spare => "spare",
            Self::Temporary => "temporary",
            Self::Dropped => "dropped",
            Self::Held => "held",
            Self::Unknown => "unknown",
        })
    }
}

/// One line: the path, what it is, whose, how much, and until when.
impl fmt::Display for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {}", self.path.display(), self.kind, self.owner)?;
        if let Some(bucket) = self.bucket {
            write!(f, ", bucket {bucket}")?;
        }
        write!(f, ", {} bytes, ", self.bytes)?;
        match self.until {
            Some(until) => write!(f, "until {until}")?,
            None => f.write_str("without an end")?,
        }
        write!(f, ": {}", self.kind.why())
    }
}

impl Store {
    /// Every file and directory that the store has on the disk, ordered by path: why it is there,
    /// and until when at the latest. Beside those in the directory, the segments that have left it
    /// and take space because values of them are still held. Nothing is read but names, lengths, and
    /// the headers of segments that belong to nobody.
    ///
    /// What comes, goes or moves while this looks may be missing, or be there under both names.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::Error::Closed), and the system's own.
    pub fn residue(&self) -> Result<Vec<Residue>> {
        self.shared.core.engine.check_open()?;
        walk::walk(&self.shared.core)
    }
}
