//! The files of values that are being written in pieces, and all that is to go.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Owner;
use crate::error::{Error, Result};
use crate::segment::part::Part;

/// The values of an owner that have files of their own, by their sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Their files, once they have been made.
    under_way: BTreeMap<u64, Option<PathBuf>>,
    /// Those whose files are to go, and have not durably gone.
    given_up: Vec<GivenUp>,
    /// Directories out of which an earlier process may have removed such files, not durably.
    unsynced: BTreeSet<PathBuf>,
}

/// A file that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct GivenUp {
    /// 0 if it is not known.
    seq: u64,
    path: PathBuf,
    /// What it takes of the capacity: nothing once it has been removed.
    bytes: u64,
}

impl Parts {
    /// True if one with a number up to this one may be on the disk.
    pub(super) fn may_hold(&self, seq: u64) -> bool {
        self.under_way.first_key_value().is_some_and(|(first, _)| *first <= seq)
            || self.given_up.iter().any(|given_up| given_up.seq <= seq)
            || !self.unsynced.is_empty()
    }
}

impl Owner {
    /// Notes that a value with this number is getting a file of its own.
    pub(crate) fn begin_part(&self, seq: u64) {
        self.parts.lock().under_way.insert(seq, None);
    }

    /// Makes the file of a value with this number, which starts at this offset of it.
    pub(crate) fn create_part(&self, seq: u64, value_at: u64) -> Result<Part> {
        self.on_parts(|| {
            let disk = Arc::clone(&self.engine.disk);
            let part = Part::create(disk, &self.dir, self.engine.next_number(), value_at)?;
            self.parts.lock().under_way.insert(seq, Some(part.path().to_owned()));
            Ok(part)
        })
    }

    /// Does something to the file of a value under way. Closing waits for it.
    pub(crate) fn on_parts<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let _open = self.part_writes.read();
        self.engine.check_writable()?;
        step()
    }

    /// Removes the files of all values under way: the store has been closed, and none can be stored
    /// any more.
    pub(crate) fn abandon_parts(&self) {
        drop(self.part_writes.write());
        for path in self.parts.lock().under_way.values().flatten() {
            let _ = self.engine.disk.remove_file(path);
        }
    }

    /// Notes that a value with this number is not being written any more.
    pub(crate) fn end_part(&self, seq: u64) {
        self.parts.lock().under_way.remove(&seq);
    }

    /// Removes a file of nothing but a value with this number, 0 if that is not known. If the system refuses,
    /// the next scrub tries again, and until then it takes so many bytes of the capacity.
    pub(crate) fn give_up_file(&self, seq: u64, path: PathBuf, bytes: u64) {
        let removed = self.engine.disk.remove_file(&path);
        let bytes = if removed.is_ok() { 0 } else { bytes };
        self.parts.lock().given_up.push(GivenUp { seq, path, bytes });
    }

    /// Notes that an earlier process may have removed files from there, not durably.
    pub(crate) fn note_unsynced(&self, dir: &Path) {
        self.parts.lock().unsynced.insert(dir.to_owned());
    }

    /// What files that the system refused to remove take of the capacity.
    pub(crate) fn given_up_bytes(&self) -> u64 {
        self.parts.lock().given_up.iter().map(|given_up| given_up.bytes).sum()
    }

    /// Sees to it that all files that were given up are gone, durably.
    ///
    /// # Errors
    ///
    /// The first one met; what stays is tried again.
    pub(crate) fn clear_given_up(&self) -> Result<()> {
        let (mut gone, unsynced) = {
            let parts = self.parts.lock();
            if parts.given_up.is_empty() && parts.unsynced.is_empty() {
                return Ok(());
            }
            (parts.given_up.clone(), parts.unsynced.clone())
        };
        let mut first_error = None;
        gone.retain(|GivenUp { path, .. }| match self.engine.disk.remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                first_error.get_or_insert(Error::io("remove", path, e));
                false
            }
            _ => true,
        });
        let mut dirs: BTreeMap<&Path, u64> =
            unsynced.iter().map(|dir| (dir.as_path(), 0)).collect();
        for GivenUp { seq, path, .. } in &gone {
            let Some(dir) = path.parent() else { continue };
            let lowest = dirs.entry(dir).or_insert(*seq);
            *lowest = (*lowest).min(*seq);
        }
        for (dir, lowest_seq) in dirs {
            match self.engine.sync_dir(dir) {
                // Its bucket has left since.
                Err(e) if !e.is_not_found() => {
                    // Another sync may succeed without having written anything.
                    self.note_undurable(Some(lowest_seq));
                    first_error.get_or_insert(e);
                }
                _ => {}
            }
        }
        let mut parts = self.parts.lock();
        parts.given_up.retain(|given_up| !gone.contains(given_up));
        parts.unsynced.retain(|dir| !unsynced.contains(dir));
        first_error.map_or(Ok(()), Err)
    }
}
