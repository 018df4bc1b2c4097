//! The STATE file: what must be exact after any stop, written in two slots in turn.

use std::path::Path;

use crate::disk::Disk;
use crate::error::Result;
use crate::format::ledger::LedgerMark;
use crate::format::state::{MAGIC, State};
use crate::sync::Mutex;
use crate::twin_file::TwinFile;

/// The open STATE file and what it holds.
#[derive(Debug)]
pub(crate) struct StateFile {
    inner: Mutex<(TwinFile, State)>,
    /// What the next write says of the ledger.
    ledger: Mutex<LedgerMark>,
}

/// STATE as found at open.
#[derive(Debug)]
pub(crate) struct FoundState {
    /// The newest readable state.
    pub(crate) state: Option<State>,
    /// The highest generation in any readable slot.
    pub(crate) generation: u64,
    /// True if both slots could be read, so that the newest is known to be the newest.
    pub(crate) whole: bool,
    /// The version of a slot another version wrote.
    pub(crate) foreign_version: Option<u32>,
}

impl FoundState {
    /// The first and the last tombstone log that must be there.
    pub(crate) fn log_range(&self) -> Option<(u64, u64)> {
        self.state.as_ref().map(|state| (state.oldest_log, state.newest_log))
    }
}

impl StateFile {
    /// Creates the file.
    pub(crate) fn create(disk: &dyn Disk, path: &Path, state: State) -> Result<Self> {
        let twin = TwinFile::create_whole(disk, path, MAGIC, &state.encode())?;
        Ok(Self { ledger: Mutex::new(state.ledger), inner: Mutex::new((twin, state)) })
    }

    /// Reads the file.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<FoundState> {
        let twin = TwinFile::read(disk, path, MAGIC)?;
        let slots = twin.slots.iter().filter_map(|slot| slot.as_ref().ok());
        let readable: Vec<(u64, State)> = slots
            .filter_map(|slot| Some((slot.counter, State::decode(&slot.payload).ok()?)))
            .collect();
        Ok(FoundState {
            generation: readable.iter().map(|(_, state)| state.generation).max().unwrap_or(0),
            whole: readable.len() == 2,
            foreign_version: twin.foreign_version(),
            state: readable.into_iter().max_by_key(|(counter, _)| *counter).map(|(_, s)| s),
        })
    }

    /// Opens the file for overwriting and writes this state, durably.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, state: State) -> Result<Self> {
        let (mut twin, found) = TwinFile::open(disk, path, MAGIC)?;
        if found.newest().is_none() {
            // Neither slot is worth keeping.
            twin.overwrite(&state.encode())?;
        }
        twin.overwrite(&state.encode())?;
        Ok(Self { ledger: Mutex::new(state.ledger), inner: Mutex::new((twin, state)) })
    }

    /// Changes the state, durably; after an error it is as before.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut inner = self.inner.lock();
        let mut state = inner.1.clone();
        state.ledger = *self.ledger.lock();
        change(&mut state);
        inner.0.overwrite(&state.encode())?;
        inner.1 = state;
        Ok(())
    }

    /// Notes what the ledger holds durably: it is written with the next change.
    pub(crate) fn note_ledger(&self, mark: LedgerMark) {
        *self.ledger.lock() = mark;
    }

    /// The state as last written.
    pub(crate) fn current(&self) -> State {
        self.inner.lock().1.clone()
    }
}
