//! The ledger as it is read: its entries, whether the chain is whole, and whether retention was kept.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::path::PathBuf;

use super::{Store, StoreCore};
use crate::error::Result;
use crate::format::ledger::ChainedEntry;
use crate::ledger::{
    FoundLedger, LedgerEntry, LedgerHead, LiveBucket, Place, Prover, RetentionProof, read_ledger,
};
use crate::owner::Owner;
use crate::report::Problem;
use crate::state::StateFile;
use crate::time::Timestamp;

/// How often a read-only store reads again while the process that writes it goes on.
const TRIES: u32 = 5;

/// Whether the ledger is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerReport {
    /// Files that were read.
    pub files: u64,
    /// Entries that count.
    pub entries: u64,
    /// The newest of them.
    pub head: Option<LedgerHead>,
    /// Where the chain is broken, or was: files that are missing, cut or changed.
    pub problems: Vec<Problem>,
}

impl Store {
    /// The entries of the ledger, the oldest first, as far as they can be read. What the upkeep has
    /// not written yet is not among them: invalidations of the last minute, say.
    ///
    /// # Errors
    ///
    /// The system's own, and [`Closed`](crate::Error::Closed).
    pub fn ledger(&self) -> Result<Vec<LedgerEntry>> {
        let core = &self.shared.core;
        // Before the ledger is locked: a keyspace that is being made holds the other lock.
        let names = core.owner_names();
        let (_, entries) = core.read_ledger(Vec::new, &|entries: &mut Vec<_>, entry| {
            entries.push(LedgerEntry::new(entry, |id| names.get(&id).cloned()));
        })?;
        Ok(entries)
    }

    /// Reads all of the ledger and checks that every entry is whole, that each carries the hash of
    /// the one before, and that the newest is the one that STATE names. Changes and cuts are found
    /// and located; that somebody replaced ledger and STATE together is shown by an older
    /// [`Store::ledger_head`] kept elsewhere.
    ///
    /// # Errors
    ///
    /// The system's own, and [`Closed`](crate::Error::Closed). A broken chain is in the report.
    pub fn verify_ledger(&self) -> Result<LedgerReport> {
        self.shared.core.verify_ledger()
    }

    /// The newest entry of the ledger: whoever keeps it elsewhere can tell later that nothing up to
    /// it was changed.
    ///
    /// # Errors
    ///
    /// The system's own, and [`Closed`](crate::Error::Closed).
    pub fn ledger_head(&self) -> Result<LedgerHead> {
        let core = &self.shared.core;
        if !core.engine.is_read_only() {
            return Ok(core.engine.write_side()?.ledger.head());
        }
        let (found, ()) = core.read_ledger(|| (), &|(), _| {})?;
        Ok(head(&found).unwrap_or(LedgerHead { number: 0, hash: [0; 32] }))
    }

    /// What the ledger says about the buckets whose deadlines lie in a range: whether each of them
    /// has left, and by [`LATENESS_KEPT`](crate::LATENESS_KEPT) after its deadline at the latest.
    ///
    /// # Errors
    ///
    /// The system's own, and [`Closed`](crate::Error::Closed).
    pub fn prove_retention(&self, range: impl RangeBounds<Timestamp>) -> Result<RetentionProof> {
        let core = &self.shared.core;
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        if !core.engine.is_read_only() {
            // A drop whose entry cannot be written counts as a bucket that is still there.
            let _ = core.engine.flush_ledger();
        }
        let (found, prover) =
            core.read_ledger(|| Prover::new(range), &|prover: &mut Prover, entry| {
                prover.take(entry);
            })?;
        let head = head(&found).unwrap_or(LedgerHead { number: 0, hash: [0; 32] });
        let names = core.owner_names();
        let now = core.engine.trusted_now();
        let is_whole = found.problems.is_empty();
        Ok(prover.finish(now, &core.live_buckets(), head, is_whole, &names))
    }
}

fn head(found: &FoundLedger) -> Option<LedgerHead> {
    found.head.map(|head| LedgerHead { number: head.number, hash: head.hash })
}

impl StoreCore {
    pub(super) fn verify_ledger(&self) -> Result<LedgerReport> {
        let (found, ()) = self.read_ledger(|| (), &|(), _| {})?;
        let problem =
            |(path, offset, what): (PathBuf, u64, &'static str)| Problem { path, offset, what };
        Ok(LedgerReport {
            files: found.file_count(),
            entries: found.entries,
            head: head(&found),
            problems: found.problems.into_iter().map(problem).collect(),
        })
    }

    /// Reads the ledger and folds its entries. Beside a process that writes it, it is read again
    /// until it stood still meanwhile.
    fn read_ledger<T>(
        &self,
        start: impl Fn() -> T,
        take: &dyn Fn(&mut T, &ChainedEntry),
    ) -> Result<(FoundLedger, T)> {
        let engine = &self.engine;
        engine.check_open()?;
        if !engine.is_read_only() {
            let mut folded = start();
            let ledger = &engine.write_side()?.ledger;
            let found = ledger.read(&mut |_, entry| take(&mut folded, entry))?;
            return Ok((found, folded));
        }
        let dir = engine.root.join("ledger");
        let mut tries = 0;
        loop {
            tries += 1;
            let before = StateFile::read(&*engine.disk, &engine.root.join("STATE"))?;
            let known = before.state.as_ref();
            let place = Place {
                disk: &*engine.disk,
                dir: &dir,
                store_id: engine.store_id,
                known: known.map(|state| state.ledger),
                exact: before.whole && known.is_some_and(|state| state.clean),
            };
            let mut folded = start();
            let found = read_ledger(place, &mut |_, entry| take(&mut folded, entry));
            let after = StateFile::read(&*engine.disk, &engine.root.join("STATE"))?;
            let is_still = after.state == before.state;
            match found {
                Ok(found) if is_still || tries >= TRIES => return Ok((found, folded)),
                Err(e) if is_still || tries >= TRIES => return Err(e),
                _ => {}
            }
        }
    }

    /// The names of keyspaces and logs, by their ids.
    fn owner_names(&self) -> BTreeMap<u64, String> {
        let mut names = BTreeMap::new();
        let mut add = |owner: &Owner| drop(names.insert(owner.id, owner.name.clone()));
        self.keyspace_cores().iter().for_each(|core| add(&core.owner));
        self.log_cores().iter().for_each(|core| add(&core.owner));
        names
    }

    fn live_buckets(&self) -> Vec<LiveBucket> {
        let mut live = Vec::new();
        let mut add = |owner: &Owner| {
            let buckets = owner.buckets.read();
            // When one was due that is condemned, its birth says.
            for bucket in buckets.values().filter(|bucket| !bucket.is_condemned()) {
                let id = (owner.id, bucket.start.as_millis());
                live.push(LiveBucket { id, deadline: bucket.deadline() });
            }
        };
        self.keyspace_cores().iter().for_each(|core| add(&core.owner));
        self.log_cores().iter().for_each(|core| add(&core.owner));
        live
    }
}
