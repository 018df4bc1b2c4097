//! Syncs that are shared by all who arrive while another one is under way.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::peer::Result;

/// The syncs of one file.
pub struct GroupSync {
    file: Arc<File>,
    turn: Mutex<Turn>,
    moved: Condvar,
}

#[derive(Default)]
struct Turn {
    /// Syncs begun.
    begun: u64,
    /// The latest one that is over and has not failed.
    done: u64,
    running: bool,
}

impl GroupSync {
    pub fn new(file: Arc<File>) -> Self {
        Self { file, turn: Mutex::default(), moved: Condvar::new() }
    }

    /// Returns when all that was written before the call is on the disk.
    pub fn sync(&self) -> Result<()> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // What is under way may have missed the latest write; the one after it has not.
        let wanted = turn.begun + 1;
        while turn.done < wanted {
            if turn.running {
                turn = self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            turn.begun += 1;
            turn.running = true;
            let number = turn.begun;
            drop(turn);
            let synced = self.file.sync_data();
            turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            turn.running = false;
            if synced.is_ok() {
                turn.done = number;
            }
            self.moved.notify_all();
            synced?;
        }
        Ok(())
    }
}
