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
        } else {
            // The newer one may be there only because the process before wrote it, and be all that is left.
            twin.settle()?;
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use super::*;
    use crate::disk::{Fault, FaultyDisk, MemoryDisk};
    use crate::time::{BootId, EngineTime, Reading, Step};

    const PATH: &str = "/STATE";

    /// One that is longer than a sector, so that its write may be torn.
    fn long_state(engine_ms: u64) -> State {
        let reading = Reading { wall_ms: 5, boot_ms: 5, boot_id: BootId::default() };
        let mut time = EngineTime::new(reading, 0).saved().clone();
        time.engine_ms = engine_ms;
        time.steps = vec![Step { lead_ms: engine_ms, agreed_ms: 0, last_seq: 0 }; 16];
        State {
            generation: 1,
            clean: false,
            snapshot_id: [0; 16],
            oldest_log: 1,
            newest_log: 0,
            ledger: LedgerMark::default(),
            time,
        }
    }

    /// What a power cut leaves when the sync of a state was lost and the next process ended at this call of its
    /// opening; nothing once it makes no such call. The answers say what is left of what was not synced.
    fn left_by(call: u64, mut answers: u32) -> Option<State> {
        let memory = MemoryDisk::new(1);
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let path = Path::new(PATH);
        let state = StateFile::create(&disk, path, long_state(1)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        state.update(|state| *state = long_state(2)).unwrap();
        disk.inject(disk.calls() + 1, Fault::SyncLost(ErrorKind::TimedOut));
        state.update(|state| *state = long_state(3)).unwrap_err();
        assert_eq!(StateFile::read(&disk, path).unwrap().state, Some(long_state(3)));
        disk.inject(disk.calls() + call, Fault::Torn(ErrorKind::TimedOut));
        let opened = StateFile::open(&disk, path, long_state(4));
        let left = memory.crash(&mut |options: u32| {
            let answer = answers % options;
            answers /= options;
            answer
        });
        opened.is_err().then(|| StateFile::read(&left, path).unwrap().state.unwrap())
    }

    #[test]
    fn a_state_of_which_the_sync_was_lost_is_written_again_before_the_next() {
        let mut torn = 0;
        for call in 1.. {
            for answers in 0..200 {
                let Some(left) = left_by(call, answers) else { continue };
                // It may be lost, as one that was not written, but not with the one before.
                assert!(left.time.engine_ms >= 2, "call {call}, {answers}: {left:?}");
                torn += 1;
            }
            if left_by(call, 0).is_none() {
                break;
            }
        }
        assert!(torn > 500, "{torn}");
    }
}
