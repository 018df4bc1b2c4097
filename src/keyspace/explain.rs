//! Saying why a key's value can be read, or why not.

use std::fmt;

use super::KeyspaceCore;
use super::read::ATTEMPTS;
use crate::error::{Error, Result};
use crate::floors::Floor;
use crate::hash::KeyedHash;
use crate::options;
use crate::segment::{Damage, RecordView};
use crate::time::Timestamp;
use crate::visibility::Hidden;

/// Why a key's value can be read, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It can be read.
    Visible,
    /// The key was invalidated.
    Key,
    /// A tag of the record was invalidated.
    Tag {
        /// Which one, counted from 0, in the order in which the record was given them.
        index: usize,
    },
    /// Everything in the keyspace was invalidated.
    All,
    /// The key was softly invalidated: the value is stale.
    StaleKey,
    /// A tag of the record was softly invalidated: the value is stale.
    StaleTag {
        /// Which one, counted from 0, in the order in which the record was given them.
        index: usize,
    },
    /// The deadline of its bucket has passed.
    Deadline,
    /// The record's own expiry has passed.
    Expiry,
    /// It was erased, and nothing new is taken for some time.
    Denied,
    /// Its bytes are no longer there, though the record's header is.
    Erased,
    /// The record is damaged on disk, or its file cannot be read whole.
    Damaged,
    /// There is no record, and nothing is known that hides one: it was never stored, or left with
    /// its bucket or segment.
    Absent,
}

impl fmt::Display for Reason {
    /// One word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Visible => "visible",
            Self::Key => "key",
            Self::Tag { .. } => "tag",
            Self::All => "all",
            Self::StaleKey => "stale-key",
            Self::StaleTag { .. } => "stale-tag",
            Self::Deadline => "deadline",
            Self::Expiry => "expiry",
            Self::Denied => "denied",
            Self::Erased => "erased",
            Self::Damaged => "damaged",
            Self::Absent => "absent",
        })
    }
}

/// What [`Keyspace::explain`](super::Keyspace::explain) finds out about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Why it can be read, or why not. Of several reasons, the first that reading meets.
    pub reason: Reason,
    /// The sequence number of the record, if one was found.
    pub sequence: Option<u64>,
    /// When the record was written, by the engine's time.
    pub written_at: Option<Timestamp>,
    /// When the record is gone at the latest.
    pub gone_at: Option<Timestamp>,
    /// How many tags the record carries.
    pub tags: usize,
    /// The sequence number up to which an invalidation hides, if one is the reason.
    pub floor: Option<u64>,
    /// When that invalidation came, if it is known.
    pub floor_at: Option<Timestamp>,
    /// Up to when the key, or a tag of the record, is denied, if it is.
    pub denied_until: Option<Timestamp>,
    /// What is damaged, if that is the reason.
    pub damage: Option<&'static str>,
}

impl Explanation {
    fn new(reason: Reason) -> Self {
        Self {
            reason,
            sequence: None,
            written_at: None,
            gone_at: None,
            tags: 0,
            floor: None,
            floor_at: None,
            denied_until: None,
            damage: None,
        }
    }

    fn because_of(self, reason: Reason, floor: Option<Floor>) -> Self {
        let floor = floor.filter(|floor| floor.seq > 0);
        let at_ms = floor.map(|floor| floor.at_ms).filter(|at_ms| *at_ms > 0);
        let floor_at = at_ms.map(Timestamp::from_millis);
        Self { reason, floor: floor.map(|floor| floor.seq), floor_at, ..self }
    }

    /// A denial is the better reason for what an invalidation hides or is not there.
    fn denied(self, until: Option<Timestamp>) -> Self {
        let hidden = matches!(
            self.reason,
            Reason::Key | Reason::Tag { .. } | Reason::Absent | Reason::Erased
        );
        let reason = if hidden && until.is_some() { Reason::Denied } else { self.reason };
        Self { reason, denied_until: until, ..self }
    }

    fn sentence(&self) -> String {
        let which = |index: usize| format!("tag {} of {}", index + 1, self.tags);
        match self.reason {
            Reason::Visible => "it can be read".to_owned(),
            Reason::Key => "its key was invalidated".to_owned(),
            Reason::Tag { index } => format!("{} was invalidated", which(index)),
            Reason::All => "everything in the keyspace was invalidated".to_owned(),
            Reason::StaleKey => "stale: its key was softly invalidated".to_owned(),
            Reason::StaleTag { index } => {
                format!("stale: {} was softly invalidated", which(index))
            }
            Reason::Deadline => "the deadline of its bucket has passed".to_owned(),
            Reason::Expiry => "its own expiry has passed".to_owned(),
            Reason::Denied => "it was erased, and is denied".to_owned(),
            Reason::Erased => "its bytes have been erased".to_owned(),
            Reason::Damaged => "its record is damaged".to_owned(),
            Reason::Absent => {
                "there is no record of it: it was never stored, or has left the disk".to_owned()
            }
        }
    }
}

impl fmt::Display for Explanation {
    /// A sentence in plain words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        if let Some(damage) = self.damage {
            write!(f, " ({damage})")?;
        }
        match self.denied_until {
            Some(until) if self.reason == Reason::Denied => write!(f, " until {until}")?,
            Some(until) => write!(f, ", and is denied until {until}")?,
            None => {}
        }
        if let Some(at) = self.floor_at {
            write!(f, ", at {at}")?;
        }
        if let Some(floor) = self.floor {
            write!(f, ", up to number {floor}")?;
        }
        if let (Some(sequence), Some(written_at)) = (self.sequence, self.written_at) {
            write!(f, "; its record has number {sequence}, written at {written_at}")?;
        }
        match self.gone_at {
            Some(gone_at) => write!(f, ", gone at {gone_at}"),
            None => Ok(()),
        }
    }
}

impl KeyspaceCore {
    /// Why a key's value can be read, or why not.
    pub(super) fn explain(&self, key: &[u8]) -> Result<Explanation> {
        options::check_key(key)?;
        self.owner.engine.check_open()?;
        self.take_over_invalidations()?;
        let hash = self.owner.engine.hasher.key(key);
        for _ in 0..ATTEMPTS {
            let fingerprint = hash.fingerprint();
            let Some(location) = self.index.get(fingerprint) else { break };
            let Some((segment, offset)) = self.resolve(location) else { break };
            match segment.read(offset) {
                Ok(view) if view.key() != key => break,
                Ok(view) => {
                    let hidden = self.judge(&view, &segment)?.err();
                    if let Some(explanation) =
                        self.explain_record(&view, segment.deadline(), hidden)
                    {
                        return Ok(explanation);
                    }
                }
                Err(damage) if self.still_named(fingerprint, location) => {
                    let explanation = explain_damage(segment.record_damage(damage, offset))?;
                    return Ok(explanation.denied(self.denied_until(hash, &[])));
                }
                Err(_) => {}
            }
        }
        self.explain_absence(hash)
    }

    fn explain_record(
        &self,
        view: &RecordView,
        deadline: Timestamp,
        hidden: Option<Hidden>,
    ) -> Option<Explanation> {
        let (seq, tags) = (view.head.seq, view.tags());
        let expires_at = view.prefix.expires_at_ms.map(Timestamp::from_millis);
        let found = Explanation {
            sequence: Some(seq),
            written_at: Some(Timestamp::from_millis(view.head.written_at_ms)),
            gone_at: Some(expires_at.map_or(deadline, |at| at.min(deadline))),
            tags: tags.len(),
            ..Explanation::new(Reason::Visible)
        };
        let first = |floor_of: &dyn Fn(KeyedHash) -> Option<Floor>| {
            let mut tags = tags.iter().enumerate();
            tags.find_map(|(index, tag)| Some((index, floor_of(*tag)?)))
        };
        let explanation = match hidden {
            None => found,
            Some(Hidden::Left) => return None,
            Some(Hidden::Deadline) => found.because_of(Reason::Deadline, None),
            Some(Hidden::Expiry) => found.because_of(Reason::Expiry, None),
            Some(Hidden::All) => found.because_of(Reason::All, Some(self.floors.floor_of_all())),
            Some(Hidden::Key) => {
                found.because_of(Reason::Key, self.floors.floor_of_key(view.head.hash, seq))
            }
            Some(Hidden::Tag) => {
                let tag = first(&|tag| self.floors.floor_of_tag(tag, seq));
                let index = tag.map_or(0, |(index, _)| index);
                found.because_of(Reason::Tag { index }, tag.map(|(_, floor)| floor))
            }
            Some(Hidden::Stale) => match self.floors.soft_floor_of_key(view.head.hash, seq) {
                Some(floor) => found.because_of(Reason::StaleKey, Some(floor)),
                None => {
                    let tag = first(&|tag| self.floors.soft_floor_of_tag(tag, seq));
                    let index = tag.map_or(0, |(index, _)| index);
                    found.because_of(Reason::StaleTag { index }, tag.map(|(_, floor)| floor))
                }
            },
        };
        Some(explanation.denied(self.denied_until(view.head.hash, tags)))
    }

    /// Nothing names a record of the key: it was invalidated, or what scrubbing left of it is still
    /// there.
    fn explain_absence(&self, hash: KeyedHash) -> Result<Explanation> {
        let explanation = match self.floors.floor_of_key(hash, 0) {
            Some(floor) => Explanation::new(Reason::Absent).because_of(Reason::Key, Some(floor)),
            None => self.explain_shell(hash)?,
        };
        Ok(explanation.denied(self.denied_until(hash, &[])))
    }

    /// Looks through all that the segments list, which takes time with the number of records.
    fn explain_shell(&self, hash: KeyedHash) -> Result<Explanation> {
        for segment in self.owner.segments().rev() {
            let listing = self.listing(&segment)?;
            let mut entries = listing.entries.iter().rev();
            let Some(entry) = entries.find(|entry| entry.hash == hash) else { continue };
            let head = segment.read_head(entry.offset()).ok();
            let found = Explanation {
                sequence: Some(entry.seq),
                written_at: head.map(|head| Timestamp::from_millis(head.written_at_ms)),
                gone_at: Some(segment.deadline()),
                ..Explanation::new(Reason::Erased)
            };
            let of_all = self.floors.floor_of_all();
            let is_under_it = of_all.seq >= entry.seq;
            return Ok(if is_under_it {
                found.because_of(Reason::All, Some(of_all))
            } else {
                found
            });
        }
        Ok(Explanation::new(Reason::Absent))
    }
}

fn explain_damage(damage: Damage) -> Result<Explanation, Error> {
    match damage {
        Damage::Failed(error) => Err(error),
        Damage::Corrupt(what) => {
            Ok(Explanation { damage: Some(what), ..Explanation::new(Reason::Damaged) })
        }
        Damage::Erased => Ok(Explanation::new(Reason::Erased)),
        Damage::Gone => Ok(Explanation::new(Reason::Absent)),
    }
}
