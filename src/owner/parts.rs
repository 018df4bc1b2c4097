//! The files of values that are, or were, being written in pieces.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::Owner;
use crate::error::{Error, Result};

/// The values of an owner that have files of their own, by their sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Parts {
    under_way: BTreeSet<u64>,
    /// Those whose files are to go, and have not durably gone.
    given_up: Vec<(u64, PathBuf)>,
}

impl Parts {
    /// True if one with a number up to this one may be on the disk.
    pub(super) fn may_hold(&self, seq: u64) -> bool {
        self.under_way.first().is_some_and(|first| *first <= seq)
            || self.given_up.iter().any(|(given_up, _)| *given_up <= seq)
    }
}

impl Owner {
    /// Notes that a value with this number is getting a file of its own.
    pub(crate) fn begin_part(&self, seq: u64) {
        self.parts.lock().under_way.insert(seq);
    }

    /// Notes that a value with this number is not being written any more.
    pub(crate) fn end_part(&self, seq: u64) {
        self.parts.lock().under_way.remove(&seq);
    }

    /// Removes the file of a value with this number, 0 if that is not known. If the system refuses,
    /// the next scrub tries again.
    pub(crate) fn give_up_part(&self, seq: u64, path: PathBuf) {
        let _ = self.engine.disk.remove_file(&path);
        self.parts.lock().given_up.push((seq, path));
    }

    /// Sees to it that the files of all values that were given up are gone, durably.
    ///
    /// # Errors
    ///
    /// The first one met; what stays is tried again.
    pub(crate) fn clear_parts(&self) -> Result<()> {
        let mut gone = self.parts.lock().given_up.clone();
        if gone.is_empty() {
            return Ok(());
        }
        let mut first_error = None;
        gone.retain(|(_, path)| match self.engine.disk.remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                first_error.get_or_insert(Error::io("remove", path, e));
                false
            }
            _ => true,
        });
        if let Some(lowest) = gone.iter().map(|(seq, _)| *seq).min() {
            if let Err(e) = self.engine.sync_dir(&self.dir) {
                // Another sync may succeed without having written anything.
                self.note_undurable(Some(lowest));
                first_error.get_or_insert(e);
            }
            self.parts.lock().given_up.retain(|part| !gone.contains(part));
        }
        first_error.map_or(Ok(()), Err)
    }
}
