//! Making what has been published durable: one thread takes the turn and syncs for all that wait.

use std::time::Instant;

use super::Segment;
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::planted::{Bug, is_planted};
use crate::sync::atomic::Ordering;
use crate::sync::{Callers, Condvar, Gathering, Mutex, MutexGuard};

/// Whose turn it is to sync a segment, and who waits for that.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    done: Condvar,
    gathering: Gathering,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    has_failed: bool,
    callers: Callers,
}

impl Segment {
    /// Makes everything published so far durable. One thread syncs for all that wait; those whose
    /// bytes it has covered go on at once, and do not queue behind the next sync.
    ///
    /// # Errors
    ///
    /// The system's, once; after that every call fails, since a second `fdatasync` may succeed
    /// without having written anything.
    pub(crate) fn sync(&self) -> Result<()> {
        let wanted = self.published();
        let mut turn = self.turn.state.lock();
        self.turn.gathering.join(&mut turn.callers);
        let synced = self.sync_in_turn(&mut turn, wanted);
        turn.callers.leave();
        synced
    }

    fn sync_in_turn(&self, turn: &mut MutexGuard<'_, State>, wanted: u64) -> Result<()> {
        loop {
            if turn.has_failed {
                return Err(self.failed_before());
            }
            if self.durable() >= wanted {
                return Ok(());
            }
            if !turn.is_taken {
                break;
            }
            self.turn.done.wait(turn);
        }
        let file = match self.file() {
            // It left its bucket while this sync was on its way: nothing is to be kept any more.
            Err(e) if e.is_not_found() && self.has_left() => return Ok(()),
            file => file?,
        };
        turn.is_taken = true;
        self.turn.gathering.wait(turn, |turn| &turn.callers);
        let begun = Instant::now();
        let synced = MutexGuard::unlocked(turn, || {
            let target = self.published();
            sync_file(&*file).map(|()| self.raise_durable(target))
        });
        turn.callers.note_sync(begun);
        self.end_turn(turn, synced)
    }

    /// Syncs the file through another handle, in turn. Whoever waits for the next sync is told if this one fails, and
    /// this one fails if another has: it might find nothing left to write.
    pub(crate) fn sync_through(&self, file: &dyn DiskFile) -> Result<()> {
        let mut turn = self.turn.state.lock();
        while turn.is_taken {
            self.turn.done.wait(&mut turn);
        }
        if turn.has_failed {
            return Err(self.failed_before());
        }
        turn.is_taken = true;
        let synced = MutexGuard::unlocked(&mut turn, || file.sync_data());
        self.end_turn(&mut turn, synced)
    }

    fn end_turn(&self, turn: &mut State, synced: std::io::Result<()>) -> Result<()> {
        turn.is_taken = false;
        turn.has_failed = synced.is_err();
        self.turn.done.notify_all();
        synced.map_err(|e| Error::io("sync", &self.path, e))
    }

    fn failed_before(&self) -> Error {
        Error::Poisoned { reason: format!("sync of {}", self.path.display()) }
    }

    /// Notes that everything up to here is durable.
    pub(super) fn raise_durable(&self, target: u64) {
        debug_assert!(target <= self.published(), "durable beyond published");
        if let Some(map) = self.gate.map() {
            map.raise_durable_len(target as usize);
            self.gate.renew();
        }
        self.durable.fetch_max(target, Ordering::AcqRel);
    }
}

/// Syncs once: what a second attempt says would not be true.
fn sync_file(file: &dyn DiskFile) -> std::io::Result<()> {
    if is_planted(Bug::AcknowledgedUnsynced) {
        return Ok(());
    }
    let synced = file.sync_data();
    if is_planted(Bug::SyncRetried) { synced.or_else(|_| file.sync_data()) } else { synced }
}
