//! Erasing records in place: their state is set, then what they held is overwritten.
//!
//! It does not decide what is dead. From the moment a batch is taken nobody begins to read what is in
//! it; those who began before hold a handle, and are waited for. The order on the disk: all
//! state words, a sync, zeros over all bodies, a sync, and then whole blocks are given back. A stop in
//! between leaves records that say they are gone and may not be: they are erased again.

use crate::sync::atomic::Ordering;
use std::io::{self, IoSlice};
use std::sync::Weak;

use super::Segment;
use super::gate::are_released;
use crate::disk::{Access, Capabilities, Disk, DiskFile, write_all_at};
use crate::error::{Error, Result};
use crate::format::record::STATE_ERASED;
use crate::format::sidecar::Remains;
use crate::map::Pin;
use crate::planted::{Bug, is_planted};
use crate::scrub::Pass;
use crate::time::Timestamp;

/// Blocks that a file system gives back as a whole.
const BLOCK_LEN: u64 = 4096;
/// What is overwritten with one call.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A record or a row that is to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Doomed {
    /// Where its state word stands.
    pub(crate) state_at: u64,
    /// What is overwritten.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What is to be erased together.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) doomed: Vec<Doomed>,
    /// What the sidecar is to say then.
    pub(crate) remains: Vec<Remains>,
    /// The earliest pass over the owner's segments that had to find it.
    pub(crate) pass: u64,
    /// When the first of them became dead.
    pub(crate) dead_since: Timestamp,
}

/// A batch that waits until nobody reads what is in it.
#[derive(Debug)]
pub(super) struct Waiting {
    batch: Batch,
    pins: Vec<Weak<Pin>>,
    /// When it began to wait.
    since: Timestamp,
    /// Some of it may have been overwritten.
    begun: bool,
    /// It has been overwritten, but what is said of it elsewhere has not.
    erased: bool,
}

/// What a batch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) pass: u64,
    pub(crate) bytes: u64,
    pub(crate) since: Timestamp,
    pub(crate) dead_since: Timestamp,
    /// True if readers still hold it; false if it was tried and failed.
    pub(crate) held: bool,
}

impl Batch {
    /// An empty batch.
    pub(crate) fn of(pass: Pass) -> Self {
        let (doomed, remains) = (Vec::new(), Vec::new());
        Self { doomed, remains, pass: pass.makes_up_for, dead_since: pass.dead_since }
    }

    /// Takes an earlier batch in.
    fn join(&mut self, before: Self) {
        self.pass = before.pass;
        self.dead_since = before.dead_since;
        self.doomed.extend(before.doomed);
        self.doomed.sort_unstable();
        self.doomed.dedup();
        // Of two that speak of one record the later one stands first, and stays.
        self.remains.extend(before.remains);
        self.remains.sort_by_key(|remains| remains.position);
        self.remains.dedup_by_key(|remains| remains.position);
    }

    /// Bytes that are overwritten.
    pub(crate) fn bytes(&self) -> u64 {
        self.doomed.iter().map(|doomed| doomed.end - doomed.start).sum()
    }
}

impl Segment {
    /// Takes a batch, in the order of its places: nobody begins to read what is in it from now on. What
    /// waits from before joins it.
    pub(crate) fn begin_erase(&self, batch: Batch, now: Timestamp) {
        let mut waiting = self.waiting.lock();
        let pins = Vec::new();
        let mut taken = Waiting { batch, pins, since: now, begun: false, erased: false };
        if let Some(before) = waiting.take() {
            taken.since = before.since;
            taken.begun = before.begun;
            taken.batch.join(before.batch);
        }
        // In this order: a reader that gets the new handle finds the list.
        *self.doomed.write() = taken.batch.doomed.iter().map(|doomed| doomed.state_at).collect();
        self.has_doomed.store(true, Ordering::Release);
        taken.pins = self.gate.renew();
        *waiting = Some(taken);
    }

    /// True if the record or row with this state word is about to be erased; asked with a handle in
    /// hand.
    pub(super) fn is_doomed(&self, state_at: u64) -> bool {
        self.has_doomed.load(Ordering::Acquire)
            && self.doomed.read().binary_search(&state_at).is_ok()
    }

    /// The batch that waits, if there is one.
    pub(crate) fn pinned(&self) -> Option<Pinned> {
        self.waiting.lock().as_ref().map(|waiting| Pinned {
            pass: waiting.batch.pass,
            bytes: waiting.batch.bytes(),
            since: waiting.since,
            dead_since: waiting.batch.dead_since,
            held: !are_released(&waiting.pins),
        })
    }

    /// True if some of what waits may have been erased, and the rest has not, or is not noted everywhere.
    pub(crate) fn is_half_erased(&self) -> bool {
        self.waiting.lock().as_ref().is_some_and(|waiting| waiting.begun)
    }

    /// Erases the batch that waits, durably, unless readers hold on to it, and gives a copy of it.
    /// It waits until [`Self::end_erase`] is called. One caller at a time begins, tries and ends.
    ///
    /// # Errors
    ///
    /// The system's. The batch stays, and is tried again; after a failed sync nothing may be.
    pub(crate) fn try_erase(
        &self,
        disk: &dyn Disk,
        can: &Capabilities,
    ) -> Result<Option<Batch>, Failed> {
        let is_free =
            |held: &Waiting| are_released(&held.pins) || is_planted(Bug::ScrubbedWhileHeld);
        let batch = {
            let mut waiting = self.waiting.lock();
            let Some(held) = waiting.as_mut().filter(|held| is_free(held)) else {
                return Ok(None);
            };
            held.begun = true;
            if held.erased {
                return Ok(Some(held.batch.clone()));
            }
            held.batch.clone()
        };
        // Whoever asks what waits, or evicts the segment, does not wait for the disk.
        self.erase(disk, &batch, can)?;
        if let Some(held) = self.waiting.lock().as_mut() {
            held.erased = true;
        }
        Ok(Some(batch))
    }

    /// Lets go of a batch that has been erased, and noted everywhere.
    pub(crate) fn end_erase(&self) {
        let mut waiting = self.waiting.lock();
        // From here on their state words say it.
        self.has_doomed.store(false, Ordering::Release);
        self.doomed.write().clear();
        waiting.take();
    }

    fn erase(&self, disk: &dyn Disk, batch: &Batch, can: &Capabilities) -> Result<(), Failed> {
        let path = self.path();
        let refused = |e| Failed::Refused(Error::io("erase in", path, e));
        let file = disk.open(path, Access::ReadWrite).map_err(refused)?;
        for doomed in &batch.doomed {
            debug_assert!(doomed.end <= self.durable(), "erasing what is not durable");
            overwrite(&*file, &STATE_ERASED.to_le_bytes(), doomed.state_at).map_err(refused)?;
        }
        self.sync_through(&*file).map_err(Failed::Unsynced)?;
        for doomed in &batch.doomed {
            // Where a write goes elsewhere it overwrites nothing, and takes space first.
            let freed = !can.overwrites_in_place && punch(&*file, doomed, can) > 0;
            wipe(&*file, doomed, freed).map_err(refused)?;
        }
        self.sync_through(&*file).map_err(Failed::Unsynced)?;
        let punched: u64 = batch.doomed.iter().map(|doomed| punch(&*file, doomed, can)).sum();
        self.count_punched(&*file, punched);
        Ok(())
    }

    fn count_punched(&self, file: &dyn DiskFile, punched: u64) {
        if self.file.read().is_some() {
            self.punched.fetch_add(punched, Ordering::AcqRel);
            return;
        }
        // Nothing is appended any more, so the file can tell, also what an earlier process punched.
        let whole = self.published().next_multiple_of(BLOCK_LEN);
        if let Ok(allocated) = file.allocated_bytes() {
            self.punched.store(whole.saturating_sub(allocated), Ordering::Release);
        }
    }
}

/// Why a batch was not erased.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A write was refused: it can be tried again.
    Refused(Error),
    /// A sync failed: nothing tells what is on the disk.
    Unsynced(Error),
}

/// The whole blocks between two places.
fn blocks(doomed: &Doomed) -> Option<(u64, u64)> {
    let first = doomed.start.next_multiple_of(BLOCK_LEN);
    let mut last = doomed.end / BLOCK_LEN * BLOCK_LEN;
    if is_planted(Bug::PageEndOffByOne) {
        last = doomed.end.next_multiple_of(BLOCK_LEN);
    }
    (first < last).then_some((first, last))
}

/// Gives back the whole blocks that are erased; their bytes. What cannot be given back stays, and
/// costs space only.
fn punch(file: &dyn DiskFile, doomed: &Doomed, can: &Capabilities) -> u64 {
    let Some((first, last)) = blocks(doomed).filter(|_| can.punches_holes) else { return 0 };
    if file.punch_hole(first, last - first).is_ok() { last - first } else { 0 }
}

/// Overwrites with zeros: everything, or what is left around blocks that were given back.
fn wipe(file: &dyn DiskFile, doomed: &Doomed, freed: bool) -> io::Result<()> {
    match blocks(doomed).filter(|_| freed) {
        Some((first, last)) => {
            zero(file, doomed.start, first)?;
            zero(file, last, doomed.end)
        }
        None => zero(file, doomed.start, doomed.end),
    }
}

fn zero(file: &dyn DiskFile, mut start: u64, end: u64) -> io::Result<()> {
    while start < end {
        let len = (end - start).min(ZEROS.len() as u64);
        overwrite(file, ZEROS.get(..len as usize).unwrap_or_default(), start)?;
        start += len;
    }
    Ok(())
}

fn overwrite(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_all_at(file, &mut [IoSlice::new(bytes)], offset).map_err(|partial| partial.source)
}
