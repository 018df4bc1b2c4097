//! What an invalidation gives back: [`Receipt`].

use std::fmt;

use crate::time::Timestamp;

/// What an invalidation was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// One key.
    Key,
    /// All records that carry a tag.
    Tag,
    /// The whole keyspace.
    All,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Tag => "tag",
            Self::All => "all",
        })
    }
}

/// How far what was invalidated has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Nothing reads it any more, and no crash or power cut brings it back.
    Hidden,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "hidden",
        })
    }
}

/// Says that an invalidation is durable. What it covers: every record in scope whose sequence
/// number is not above the receipt's, whether written, being written, or begun as a fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    scope: Scope,
    sequence: u64,
    at: Timestamp,
    gone_by: Timestamp,
    widened: bool,
}

impl Receipt {
    pub(crate) fn new(scope: Scope, sequence: u64, at: Timestamp, gone_by: Timestamp) -> Self {
        Self { scope, sequence, at, gone_by, widened: false }
    }

    /// Notes that more had to be invalidated than was asked for.
    pub(crate) fn widen(mut self) -> Self {
        self.widened = true;
        self
    }

    /// What was asked for.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The floor: records up to this sequence number are covered.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it took effect, by the engine's time.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How far what was invalidated has gone.
    pub fn level(&self) -> Level {
        Level::Hidden
    }

    /// When the bytes have left the disk at the latest, the reaper's lag apart: the last deadline of
    /// a bucket that may hold them.
    pub fn gone_by(&self) -> Timestamp {
        self.gone_by
    }

    /// True if the disk was so full that nothing smaller than the whole keyspace could be
    /// invalidated durably.
    pub fn widened(&self) -> bool {
        self.widened
    }
}
