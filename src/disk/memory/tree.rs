//! The names of a disk in memory: directories, what is durable of them, and what lies between.
//!
//! It knows files only as things with a name; their contents are `file`'s part, and whether the
//! disk has room is decided above.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::crash::{CrashChoice, pick};
use super::entry::{EntryChange, Slot};
use super::file::FileNode;

/// Names a file or directory for as long as the disk lives.
pub(super) type Id = u64;

const ROOT: Id = 0;

#[derive(Debug, Clone)]
enum Node {
    File(FileNode),
    Directory(Directory),
}

#[derive(Debug, Clone, Default)]
struct Directory {
    live: BTreeMap<OsString, Id>,
    durable: BTreeMap<OsString, Id>,
}

/// The live or the durable entries of a directory.
type View = fn(&mut Directory) -> &mut BTreeMap<OsString, Id>;

/// Where a name is or would be.
struct Place {
    slot: Slot,
    /// The directories from the root to the one the name is in.
    above: Vec<Id>,
}

/// All files and directories.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<Id, Node>,
    next_id: Id,
    pending: Vec<EntryChange>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Self { nodes, next_id: ROOT + 1, pending: Vec::new() }
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Id> {
        self.create(path, Node::File(FileNode::new()))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.create(path, Node::Directory(Directory::default())).map(|_| ())
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<Id> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let slot = self.place(path)?.slot;
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        self.record(EntryChange::link(slot, id));
        Ok(id)
    }

    /// The file of this name; a directory is `InvalidInput`.
    pub(super) fn find_file(&self, path: &Path) -> io::Result<Id> {
        let id = self.find(path)?;
        if self.is_dir(id) { Err(not_regular()) } else { Ok(id) }
    }

    /// The entries of a directory in order, each with whether it is a directory.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(&OsStr, bool)>> {
        let entries = &self.directory(self.find(path)?)?.live;
        Ok(entries.iter().map(|(name, &id)| (name.as_os_str(), self.is_dir(id))).collect())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        if self.is_dir(id) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let slot = self.place(path)?.slot;
        self.record(EntryChange::unlink(slot, id));
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        if !self.directory(id)?.live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let slot = self.place(path)?.slot;
        self.record(EntryChange::unlink(slot, id));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from)?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        if to.above.contains(&id) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let replaced = self.directory(to.slot.dir)?.live.get(&to.slot.name).copied();
        if replaced == Some(id) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            self.check_replaceable(id, replaced)?;
        }
        let newly_above = self.newly_above(&from, to.above);
        let change = EntryChange::rename(from.slot, to.slot, id, self.is_dir(id));
        self.record(change.below(newly_above).replacing(replaced));
        Ok(())
    }

    /// The directories above a new place that could be lost and take along what came from the old
    /// one. Those above both do not count, unless the disk may know the old one elsewhere.
    fn newly_above(&self, from: &Place, above: Vec<Id>) -> Vec<Id> {
        let moved = self.pending.iter().any(EntryChange::moves_dir);
        let shared = if !moved || above.contains(&from.slot.dir) { &*from.above } else { &[] };
        above.into_iter().filter(|dir| !shared.contains(dir)).collect()
    }

    fn check_replaceable(&self, id: Id, replaced: Id) -> io::Result<()> {
        match (self.is_dir(id), self.directory(replaced)) {
            (true, Err(_)) => Err(io::ErrorKind::NotADirectory.into()),
            (false, Ok(_)) => Err(io::ErrorKind::IsADirectory.into()),
            (true, Ok(dir)) if !dir.live.is_empty() => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.find(path)?;
        self.directory(dir)?;
        self.pending.iter_mut().for_each(|change| change.mark_synced(dir));
        self.commit(EntryChange::is_synced);
        Ok(())
    }

    /// Makes the name of this file durable, whatever else is pending.
    pub(super) fn commit_name(&mut self, id: Id) {
        self.commit(|change| change.brings(id));
    }

    /// Makes the changes that are due durable, with all they depend on.
    fn commit(&mut self, due: impl Fn(&EntryChange) -> bool) {
        let mut chosen: Vec<EntryChange> = Vec::new();
        let mut left = Vec::new();
        // Backwards, since a change depends only on earlier ones.
        while let Some(change) = self.pending.pop() {
            let wanted = due(&change) || chosen.iter().any(|later| later.depends_on(&change));
            if wanted { chosen.push(change) } else { left.push(change) }
        }
        left.reverse();
        self.pending = left;
        for change in chosen.iter().rev() {
            self.apply(change, |dir| &mut dir.durable);
        }
        if chosen.iter().any(|change| change.vacated().is_some()) {
            self.collect();
        }
    }

    /// Makes a change in what everybody sees, and remembers that it is not durable.
    fn record(&mut self, change: EntryChange) {
        self.apply(&change, |dir| &mut dir.live);
        let retired = change.retired().and_then(|id| self.nodes.get_mut(&id));
        if let Some(Node::File(file)) = retired {
            file.linked = false;
        }
        self.pending.push(change);
    }

    /// Makes a change in one view of the directories it happens in.
    fn apply(&mut self, change: &EntryChange, view: View) {
        if let Some(slot) = change.vacated()
            && let Some(Node::Directory(dir)) = self.nodes.get_mut(&slot.dir)
        {
            view(dir).remove(&slot.name);
        }
        if let Some((slot, id)) = change.filled()
            && let Some(Node::Directory(dir)) = self.nodes.get_mut(&slot.dir)
        {
            view(dir).insert(slot.name.clone(), id);
        }
    }

    pub(super) fn file(&self, id: Id) -> io::Result<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: Id) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Forgets one handle of a file, and the file if that was all that kept it.
    pub(super) fn close(&mut self, id: Id) {
        let Ok(file) = self.file_mut(id) else { return };
        file.opened = file.opened.saturating_sub(1);
        if file.opened == 0 && !file.linked {
            self.collect();
        }
    }

    /// The blocks of all files that have a name or are open.
    pub(super) fn used_blocks(&self) -> u64 {
        let counted = self.files().filter(|file| file.linked || file.opened > 0);
        counted.map(FileNode::blocks).sum()
    }

    /// The paths of all files, sorted.
    pub(super) fn all_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = waiting.pop() {
            match self.nodes.get(&id) {
                Some(Node::File(_)) => found.push(path),
                Some(Node::Directory(dir)) => {
                    waiting.extend(dir.live.iter().map(|(name, &id)| (path.join(name), id)));
                }
                None => {}
            }
        }
        found.sort();
        found
    }

    /// Forgets the handles and maps of a process that is gone or that has another disk.
    pub(super) fn detach(&mut self) {
        self.files_mut().for_each(FileNode::detach);
        self.collect();
    }

    /// Becomes what a power cut leaves.
    pub(super) fn crash(&mut self, choice: &mut dyn CrashChoice) {
        let mut lost: Vec<EntryChange> = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            if lost.iter().any(|earlier| change.depends_on(earlier)) || pick(choice, 2) == 0 {
                lost.push(change);
            } else {
                self.apply(&change, |dir| &mut dir.durable);
            }
        }
        for node in self.nodes.values_mut() {
            if let Node::Directory(dir) = node {
                dir.live = dir.durable.clone();
            }
        }
        self.detach();
        let others: Vec<_> = self.files().map(|file| Arc::clone(file.durable())).collect();
        for file in self.files_mut() {
            file.linked = true;
            file.crash(&others, choice);
        }
    }

    fn files(&self) -> impl Iterator<Item = &FileNode> {
        self.nodes.values().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        })
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut FileNode> {
        self.nodes.values_mut().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        })
    }

    /// Drops what neither a name, nor a handle, nor any crash can lead to any more.
    fn collect(&mut self) {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![ROOT];
        waiting.extend(self.pending.iter().filter_map(EntryChange::brought));
        while let Some(id) = waiting.pop() {
            if !reached.insert(id) {
                continue;
            }
            if let Some(Node::Directory(dir)) = self.nodes.get(&id) {
                waiting.extend(dir.live.values().chain(dir.durable.values()));
            }
        }
        self.nodes.retain(|id, node| {
            reached.contains(id) || matches!(node, Node::File(file) if file.opened > 0)
        });
    }

    fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes.get(&id), Some(Node::Directory(_)))
    }

    fn directory(&self, id: Id) -> io::Result<&Directory> {
        match self.nodes.get(&id) {
            Some(Node::Directory(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        names(path).try_fold(ROOT, |dir, name| self.child(dir, name?))
    }

    fn child(&self, dir: Id, name: &OsStr) -> io::Result<Id> {
        let found = self.directory(dir)?.live.get(name);
        found.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Where this name is or would be; its directory exists.
    fn place(&self, path: &Path) -> io::Result<Place> {
        let names: Vec<_> = names(path).collect::<io::Result<_>>()?;
        let Some((name, parents)) = names.split_last() else {
            return Err(io::ErrorKind::ResourceBusy.into());
        };
        let mut above = vec![ROOT];
        let mut dir = ROOT;
        for parent in parents {
            dir = self.child(dir, parent)?;
            above.push(dir);
        }
        self.directory(dir)?;
        Ok(Place { slot: Slot { dir, name: name.to_os_string() }, above })
    }
}

pub(super) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// The names on a path, from the root; a relative path starts there too.
fn names(path: &Path) -> impl Iterator<Item = io::Result<&OsStr>> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Ok(name)),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        Component::ParentDir => Some(Err(io::ErrorKind::InvalidInput.into())),
    })
}
