//! One change of directory entries that a power cut may undo, and what it depends on.

use std::ffi::OsString;

use super::tree::Id;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) dir: Id,
    pub(super) name: OsString,
}

/// One end of a change.
#[derive(Debug, Clone)]
struct End {
    slot: Slot,
    /// The directory was synced since.
    synced: bool,
}

impl End {
    fn new(slot: Slot) -> Self {
        Self { slot, synced: false }
    }
}

/// A creation, removal or rename. A rename is one change with two ends, so it happens as a whole.
#[derive(Debug, Clone)]
pub(super) struct EntryChange {
    vacated: Option<End>,
    filled: Option<(End, Id)>,
    /// What has no name afterwards.
    retired: Option<Id>,
    /// The directories a renamed thing is newly below.
    below: Vec<Id>,
    moves_dir: bool,
}

impl EntryChange {
    pub(super) fn link(slot: Slot, id: Id) -> Self {
        let filled = Some((End::new(slot), id));
        Self { vacated: None, filled, retired: None, below: Vec::new(), moves_dir: false }
    }

    pub(super) fn unlink(slot: Slot, id: Id) -> Self {
        let vacated = Some(End::new(slot));
        Self { vacated, filled: None, retired: Some(id), below: Vec::new(), moves_dir: false }
    }

    pub(super) fn rename(from: Slot, to: Slot, id: Id, moves_dir: bool) -> Self {
        Self { vacated: Some(End::new(from)), moves_dir, ..Self::link(to, id) }
    }

    pub(super) fn below(self, dirs: Vec<Id>) -> Self {
        Self { below: dirs, ..self }
    }

    pub(super) fn replacing(self, replaced: Option<Id>) -> Self {
        Self { retired: replaced, ..self }
    }

    pub(super) fn retired(&self) -> Option<Id> {
        self.retired
    }

    /// What has a new name afterwards.
    pub(super) fn brought(&self) -> Option<Id> {
        self.filled.as_ref().map(|(_, id)| *id)
    }

    pub(super) fn moves_dir(&self) -> bool {
        self.moves_dir
    }

    pub(super) fn brings(&self, id: Id) -> bool {
        self.brought() == Some(id)
    }

    /// Notes that a directory was synced.
    pub(super) fn mark_synced(&mut self, dir: Id) {
        let filled = self.filled.as_mut().map(|(end, _)| end);
        for end in self.vacated.as_mut().into_iter().chain(filled) {
            end.synced |= end.slot.dir == dir;
        }
    }

    /// Every directory it happened in was synced since, so no power cut undoes it.
    pub(super) fn is_synced(&self) -> bool {
        self.ends().all(|end| end.synced)
    }

    /// The name that leads nowhere afterwards.
    pub(super) fn vacated(&self) -> Option<&Slot> {
        self.vacated.as_ref().map(|end| &end.slot)
    }

    /// The name that leads to something new afterwards, and to what.
    pub(super) fn filled(&self) -> Option<(&Slot, Id)> {
        self.filled.as_ref().map(|(end, id)| (&end.slot, *id))
    }

    /// True if this cannot have happened on the disk without the earlier change.
    pub(super) fn depends_on(&self, earlier: &Self) -> bool {
        let same_name = || self.ends().any(|a| earlier.ends().any(|b| a.slot == b.slot));
        // A directory goes only once what was in it has gone or moved.
        let emptied = || earlier.ends().any(|end| self.retired == Some(end.slot.dir));
        // A renamed thing is never lost along with a directory that was not durably there yet.
        let held = || self.below.iter().any(|&id| earlier.brings(id));
        // Otherwise two directories could end up inside each other.
        let nested = || self.moves_dir && earlier.moves_dir;
        same_name() || emptied() || held() || nested()
    }

    fn ends(&self) -> impl Iterator<Item = &End> {
        self.vacated.iter().chain(self.filled.iter().map(|(end, _)| end))
    }
}
