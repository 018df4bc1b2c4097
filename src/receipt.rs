//! What an invalidation gives back: [`Receipt`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::owner::Owned;
use crate::segment::erase::Pinned;
use crate::time::Timestamp;

/// What an invalidation was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Keys.
    Key,
    /// All records that carry one of some tags.
    Tag,
    /// The whole keyspace.
    All,
}

impl fmt::Display for Target {
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
    /// Keys, tags, metadata and values have been overwritten in place, durably, or their blocks
    /// given back. Not said where the file system does not overwrite in place; see
    /// [`Capabilities`](crate::disk::Capabilities).
    Scrubbed,
    /// The files that held it have been unlinked.
    Unlinked,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "hidden",
            Self::Scrubbed => "scrubbed",
            Self::Unlinked => "unlinked",
        })
    }
}

/// Says that an invalidation is durable, and how far what it covers has gone since: every record in
/// scope whose sequence number is not above the receipt's, whether written, being written, or begun
/// as a fill.
#[derive(Debug, Clone)]
pub struct Receipt {
    target: Target,
    sequence: u64,
    at: Timestamp,
    gone_by: Timestamp,
    widened: bool,
    parts: Vec<Part>,
}

/// What is followed in one keyspace or log.
#[derive(Debug, Clone)]
struct Part {
    core: Arc<dyn Owned>,
    /// The pass that finds all that was covered.
    pass: u64,
}

impl Receipt {
    pub(crate) fn new(target: Target, sequence: u64, at: Timestamp) -> Self {
        Self { target, sequence, at, gone_by: at, widened: false, parts: Vec::new() }
    }

    /// Notes that more had to be invalidated than was asked for.
    pub(crate) fn widen(mut self) -> Self {
        self.widened = true;
        self
    }

    /// Follows what becomes of it in this keyspace or log, where it has been hidden by now.
    pub(crate) fn follow(mut self, core: Arc<dyn Owned>) -> Self {
        let owner = core.owner();
        let pass = owner.scrubbing.expect_pass(self.at);
        let last = owner.last_deadline(self.sequence);
        self = self.gone_by_then(last);
        self.parts.push(Part { core, pass });
        self
    }

    /// Lets it be scrubbed by the next round of upkeep.
    pub(crate) fn hurry(&self) {
        for part in &self.parts {
            part.core.owner().scrubbing.hurry();
        }
    }

    /// Notes that it may last until then.
    pub(crate) fn gone_by_then(self, time: Timestamp) -> Self {
        Self { gone_by: self.gone_by.max(time), ..self }
    }

    /// What was asked for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The floor: records up to this sequence number are covered.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it took effect, by the engine's time.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How far what was invalidated has gone by now. What was invalidated softly is not erased, and
    /// stays at [`Level::Hidden`].
    pub fn level(&self) -> Level {
        self.parts.iter().map(|part| part.level(self.sequence)).min().unwrap_or(Level::Hidden)
    }

    /// When the next level is due: as soon as
    /// [`erase_within`](crate::KeyspaceOptions::erase_within) allows for being scrubbed, with the
    /// last bucket for being unlinked. `None` once nothing is left.
    pub fn persist_by(&self) -> Option<Timestamp> {
        match self.level() {
            Level::Hidden => {
                let claims = self.parts.iter().filter(|part| part.claims_scrubbing());
                let within = claims.map(|part| part.core.owner().erase_within()).max();
                Some(within.map_or(self.gone_by, |within| self.at + within))
            }
            Level::Scrubbed => Some(self.gone_by),
            Level::Unlinked => None,
        }
    }

    /// True if scrubbing waits for values that readers hold.
    pub fn pinned(&self) -> bool {
        self.parts.iter().any(|part| part.waiting().any(|pinned| pinned.held))
    }

    /// Waits until the next level is reached, but no longer than this of real time; gives the level
    /// reached. The levels are reached by the upkeep: without a background thread
    /// ([`StoreBuilder::background`](crate::StoreBuilder::background)) another thread has to call
    /// [`Store::maintain`](crate::Store::maintain) meanwhile.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::Error::Closed) if the store is closed before.
    pub fn wait(&self, timeout: Duration) -> Result<Level> {
        let until = Instant::now().checked_add(timeout);
        let before = self.level();
        let Some(engine) = self.parts.first().map(|part| &part.core.owner().engine) else {
            return Ok(before);
        };
        loop {
            let seen = engine.progress();
            engine.check_open()?;
            let level = self.level();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if level > before || level == Level::Unlinked || left == Some(Duration::ZERO) {
                return Ok(level);
            }
            engine.wait_for_progress(seen, left);
        }
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

impl Part {
    fn level(&self, sequence: u64) -> Level {
        let owner = self.core.owner();
        if !owner.may_hold(sequence) {
            Level::Unlinked
        } else if self.claims_scrubbing() && owner.has_scrubbed(sequence, self.pass) {
            Level::Scrubbed
        } else {
            Level::Hidden
        }
    }

    fn claims_scrubbing(&self) -> bool {
        self.core.owner().engine.capabilities.overwrites_in_place
    }

    /// What waits to be erased and may be covered.
    fn waiting(&self) -> impl Iterator<Item = Pinned> {
        let segments = self.core.owner().segments();
        let pass = self.pass;
        segments.filter_map(|segment| segment.pinned()).filter(move |p| p.pass <= pass)
    }
}
