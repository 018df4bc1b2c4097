//! Whether buckets left in time: births paired with drops, judged by their deadlines.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use super::entry::LedgerHead;
use super::found::BucketId;
use crate::format::ledger::{ChainedEntry, EntryKind, How};
use crate::time::Timestamp;

/// How long after its deadline a bucket may be dropped and still count as dropped in time: the
/// upkeep runs every second unless set otherwise, and a minute leaves it room. What is past its
/// deadline cannot be read in the meantime.
pub const LATENESS_KEPT: Duration = Duration::from_secs(60);

/// What the ledger says about buckets that were due in a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionProof {
    /// The verdict on all of it.
    pub verdict: RetentionVerdict,
    /// The engine's time at which it was made.
    pub at: Timestamp,
    /// The time of the oldest entry there is: what left before that is not in the ledger any more.
    pub covers_from: Option<Timestamp>,
    /// The newest entry it rests on.
    pub head: LedgerHead,
    /// Keyspaces and logs of which a bucket was due, ordered by their ids.
    pub owners: Vec<OwnerProof>,
}

/// Whether retention was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetentionVerdict {
    /// Every bucket that was due has left, by [`LATENESS_KEPT`] after its deadline at the latest.
    Kept,
    /// All have left, some of them too late.
    Late {
        /// How long after its deadline the last of them left, in milliseconds.
        worst_late_ms: u64,
        /// How many were late.
        buckets: u64,
    },
    /// Some that were due are still there, longer than [`LATENESS_KEPT`] past their deadlines.
    Open {
        /// How long past its deadline the oldest of them is by now, in milliseconds.
        worst_late_ms: u64,
        /// How many are still there.
        buckets: u64,
    },
    /// The chain is broken, so the ledger proves nothing.
    Broken,
}

/// The part of a proof about one keyspace or log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerProof {
    /// Its id.
    pub owner_id: u64,
    /// Its name, if it is still there.
    pub name: Option<String>,
    /// Buckets whose deadline lies in the span and has passed, or that left before it.
    pub due: u64,
    /// Those of them that have left.
    pub dropped: u64,
    /// Those that are still there.
    pub open: u64,
    /// Those that were found missing when the store was opened.
    pub missing: u64,
    /// Those that left, or are still there, longer than [`LATENESS_KEPT`] past their deadlines.
    pub late: u64,
    /// The longest time past a deadline, in milliseconds.
    pub worst_late_ms: u64,
}

/// A bucket that is there now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveBucket {
    pub(crate) id: BucketId,
    pub(crate) deadline: Timestamp,
}

/// Reads entries and comes to a verdict.
#[derive(Debug)]
pub(crate) struct Prover {
    range: (Bound<Timestamp>, Bound<Timestamp>),
    /// Deadlines of what was born and has not left.
    open: BTreeMap<BucketId, Timestamp>,
    owners: BTreeMap<u64, OwnerProof>,
    covers_from: Option<Timestamp>,
    late_drops: (u64, u64),
}

impl Prover {
    /// Looks at buckets whose deadlines lie in this range.
    pub(crate) fn new(range: impl RangeBounds<Timestamp>) -> Self {
        Self {
            range: (range.start_bound().cloned(), range.end_bound().cloned()),
            open: BTreeMap::new(),
            owners: BTreeMap::new(),
            covers_from: None,
            late_drops: (0, 0),
        }
    }

    /// Takes the next entry into account.
    pub(crate) fn take(&mut self, entry: &ChainedEntry) {
        let fields = &entry.fields;
        let at = Timestamp::from_millis(fields.at_ms);
        self.covers_from.get_or_insert(at);
        let id = (fields.owner_id, fields.start_ms);
        let deadline = Timestamp::from_millis(fields.deadline_ms);
        match fields.kind {
            EntryKind::Born | EntryKind::Carried => drop(self.open.insert(id, deadline)),
            EntryKind::Dropped => {
                self.open.remove(&id);
                self.dropped(id.0, deadline, at, How::of_detail(fields.detail));
            }
            _ => {}
        }
    }

    fn dropped(&mut self, owner_id: u64, deadline: Timestamp, at: Timestamp, how: How) {
        let Some(owner) = self.due(owner_id, deadline) else { return };
        owner.dropped += 1;
        owner.missing += u64::from(how == How::Missing);
        let late_ms = owner.late_by(at.since(deadline));
        if late_ms > 0 {
            self.late_drops = (self.late_drops.0 + 1, self.late_drops.1.max(late_ms));
        }
    }

    /// Counts a bucket as due if its deadline lies in the range.
    fn due(&mut self, owner_id: u64, deadline: Timestamp) -> Option<&mut OwnerProof> {
        if !self.range.contains(&deadline) {
            return None;
        }
        let new = OwnerProof { owner_id, ..OwnerProof::default() };
        let owner = self.owners.entry(owner_id).or_insert(new);
        owner.due += 1;
        Some(owner)
    }

    /// The verdict, given what is there now.
    pub(crate) fn finish(
        mut self,
        now: Timestamp,
        live: &[LiveBucket],
        head: LedgerHead,
        is_whole: bool,
        names: &BTreeMap<u64, String>,
    ) -> RetentionProof {
        let mut open = std::mem::take(&mut self.open);
        for bucket in live {
            // A deadline may have been brought forward, and is never put off.
            open.entry(bucket.id).and_modify(|deadline| *deadline = bucket.deadline.min(*deadline));
        }
        let mut late_open = (0, 0);
        for ((owner_id, _), deadline) in open.into_iter().filter(|(_, at)| *at <= now) {
            let Some(owner) = self.due(owner_id, deadline) else { continue };
            owner.open += 1;
            let late_ms = owner.late_by(now.since(deadline));
            if late_ms > 0 {
                late_open = (late_open.0 + 1, late_open.1.max(late_ms));
            }
        }
        let verdict = match (is_whole, late_open, self.late_drops) {
            (false, _, _) => RetentionVerdict::Broken,
            (_, (0, _), (0, _)) => RetentionVerdict::Kept,
            (_, (0, _), (buckets, worst_late_ms)) => {
                RetentionVerdict::Late { worst_late_ms, buckets }
            }
            (_, (buckets, worst_late_ms), _) => RetentionVerdict::Open { worst_late_ms, buckets },
        };
        let named =
            |owner: OwnerProof| OwnerProof { name: names.get(&owner.owner_id).cloned(), ..owner };
        RetentionProof {
            verdict,
            at: now,
            covers_from: self.covers_from,
            head,
            owners: self.owners.into_values().map(named).collect(),
        }
    }
}

impl OwnerProof {
    /// Takes a time past a deadline into account; gives it if it is too long, else 0.
    fn late_by(&mut self, late: Duration) -> u64 {
        let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        self.worst_late_ms = self.worst_late_ms.max(late_ms);
        if late <= LATENESS_KEPT {
            return 0;
        }
        self.late += 1;
        late_ms
    }
}
