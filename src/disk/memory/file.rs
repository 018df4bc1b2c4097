//! The contents of one file in memory: what reads see, what is durable, and what lies between.
//!
//! It knows nothing about names and directories.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::crash::{CrashChoice, pick};
use super::random::Random;
use crate::map::Map;

/// Files take whole blocks of this many bytes.
pub(super) const BLOCK: u64 = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Longer files are a caller's mistake, which should fail and not exhaust the memory.
const MAX_LEN: u64 = 1 << 32;

/// The numbers of blocks below the length that take no space; they read as zeros.
type Holes = BTreeSet<u64>;

/// One file. The contents are shared between forks of a disk until one of them changes.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    holes: Holes,
    durable_holes: Holes,
    pending: Vec<Change>,
    maps: Vec<Weak<Map>>,
    /// A name leads to it. Without one it lasts only as long as it is open.
    pub(super) linked: bool,
    /// How many handles are open.
    pub(super) opened: usize,
}

/// A change since the last sync.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => overlay(contents, *offset, bytes),
            Self::SetLen(len) => contents.resize(*len, 0),
        }
    }

    fn len_after(&self, len: usize) -> usize {
        match self {
            Self::Write { offset, bytes } => len.max(offset + bytes.len()),
            Self::SetLen(len) => *len,
        }
    }

    /// Brings the sector starting at `start` from its state before this change to the one after.
    fn apply_to_sector(&self, start: usize, sector: &mut [u8; SECTOR]) {
        match self {
            Self::Write { offset, bytes } => {
                let skipped = start.saturating_sub(*offset);
                let source = bytes.get(skipped..).unwrap_or_default();
                let target = sector.get_mut(offset.saturating_sub(start)..).unwrap_or_default();
                target.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
            }
            Self::SetLen(len) => {
                let kept = len.saturating_sub(start);
                sector.iter_mut().skip(kept).for_each(|byte| *byte = 0);
            }
        }
    }
}

impl FileNode {
    /// An empty file with a name.
    pub(super) fn new() -> Self {
        Self { linked: true, ..Self::default() }
    }

    /// Holds these bytes from now on, durably.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        self.live = Arc::new(bytes.to_vec());
        self.durable = Arc::clone(&self.live);
        self.holes.clear();
        self.durable_holes.clear();
        self.pending.clear();
        self.update_maps(0, bytes);
    }

    pub(super) fn contents(&self) -> &[u8] {
        &self.live
    }

    /// The blocks it takes: those below its length, without the holes.
    pub(super) fn blocks(&self) -> u64 {
        self.extent() - self.holes.len() as u64
    }

    /// How many blocks its length covers.
    fn extent(&self) -> u64 {
        (self.live.len() as u64).div_ceil(BLOCK)
    }

    /// How many blocks it would take more at this length.
    pub(super) fn missing_for_len(&self, len: u64) -> u64 {
        len.div_ceil(BLOCK).saturating_sub(self.extent())
    }

    /// The first block that a write of this range lacks after `free` more were given to the file: a
    /// hole in the range, or one between the length and the range's end.
    pub(super) fn lacking(&self, range: Range<u64>, free: u64) -> Option<u64> {
        let (first, last) = (range.start / BLOCK, range.end.div_ceil(BLOCK));
        let holes = self.holes.range(first..last.max(first)).copied();
        let mut missing = holes.chain(self.extent()..last);
        missing.nth(usize::try_from(free).unwrap_or(usize::MAX))
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = self.live.get(start..).unwrap_or_default();
        let count = source.len().min(buffer.len());
        buffer.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        count
    }

    /// Writes the bytes, with zeros over a gap before them.
    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let end = (offset + bytes.len()) as u64;
        self.holes.retain(|block| !(offset as u64 / BLOCK..end.div_ceil(BLOCK)).contains(block));
        self.put(offset, bytes);
    }

    /// Puts zeros over what is below the length, and gives the whole blocks in the range back.
    pub(super) fn punch(&mut self, offset: u64, end: u64) {
        let len = self.live.len() as u64;
        if offset >= len.min(end) {
            return;
        }
        self.put(offset as usize, vec![0; (len.min(end) - offset) as usize]);
        self.holes.extend(offset.div_ceil(BLOCK)..self.extent().min(end / BLOCK));
    }

    fn put(&mut self, offset: usize, bytes: Vec<u8>) {
        overlay(Arc::make_mut(&mut self.live), offset, &bytes);
        self.update_maps(offset, &bytes);
        self.pending.push(Change::Write { offset, bytes });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        Arc::make_mut(&mut self.live).resize(len, 0);
        self.holes.split_off(&self.extent());
        self.pending.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        self.pending.drain(..).for_each(|change| change.apply(durable));
        self.durable_holes = self.holes.clone();
    }

    /// Counts what was changed since the last sync as written, though it is not.
    pub(super) fn lose_unsynced(&mut self) {
        self.pending.clear();
    }

    /// Reads see what is on the disk, unless something waits to be written, or the file is mapped.
    pub(super) fn forget_cached(&mut self) {
        let is_mapped = self.maps.iter().any(|map| map.strong_count() > 0);
        if self.pending.is_empty() && !is_mapped {
            let mut contents = self.durable.to_vec();
            contents.resize(self.live.len(), 0);
            self.live = Arc::new(contents);
            self.holes = self.durable_holes.clone();
        }
    }

    /// What a power cut cannot take.
    pub(super) fn durable(&self) -> &Arc<Vec<u8>> {
        &self.durable
    }

    pub(super) fn map(&mut self, len: usize) -> Arc<Map> {
        let map = Arc::new(Map::heap(len));
        map.write_heap(0, &self.live);
        self.maps.push(Arc::downgrade(&map));
        map
    }

    /// Forgets the handles and maps of a process that is gone or that has another disk.
    pub(super) fn detach(&mut self) {
        self.maps.clear();
        self.opened = 0;
    }

    fn update_maps(&mut self, offset: usize, bytes: &[u8]) {
        self.maps.retain(|map| {
            let map = map.upgrade();
            map.iter().for_each(|map| map.write_heap(offset, bytes));
            map.is_some()
        });
    }

    /// Becomes what a power cut leaves of the file. `others` are the bytes that files have on the
    /// disk.
    pub(super) fn crash(&mut self, others: &[Arc<Vec<u8>>], choice: &mut dyn CrashChoice) {
        if !self.pending.is_empty() {
            match pick(choice, 3) {
                0 => {}
                1 => self.sync(),
                _ => {
                    self.durable = Arc::new(self.mixed(others, choice));
                    self.durable_holes = self.mixed_holes();
                }
            }
        }
        self.live = Arc::clone(&self.durable);
        self.holes = self.durable_holes.clone();
        self.pending.clear();
    }

    /// Some legal state between durable and live, with its length and each sector picked apart.
    fn mixed(&self, others: &[Arc<Vec<u8>>], choice: &mut dyn CrashChoice) -> Vec<u8> {
        let mut contents = self.durable.to_vec();
        contents.resize(self.picked_len(choice), 0);
        for (number, changes) in self.touched_sectors() {
            let start = number * SECTOR;
            if start >= contents.len() {
                break;
            }
            let sector = self.picked_sector(start, &changes, others, choice);
            let target = contents.get_mut(start..).unwrap_or_default();
            target.iter_mut().zip(sector).for_each(|(to, from)| *to = from);
        }
        contents
    }

    /// The holes of before or after that can be holes of the mixture, which reads as zeros there.
    fn mixed_holes(&self) -> Holes {
        let is_zero = |block: &u64| {
            let start = (block * BLOCK) as usize;
            let bytes = self.durable.get(start..).unwrap_or_default();
            !bytes.is_empty() && bytes.iter().take(BLOCK as usize).all(|&byte| byte == 0)
        };
        self.durable_holes.union(&self.holes).copied().filter(is_zero).collect()
    }

    /// One of the lengths the file has had since the last sync, or a whole number of sectors
    /// between the least and the greatest of them.
    fn picked_len(&self, choice: &mut dyn CrashChoice) -> usize {
        let mut len = self.durable.len();
        let mut lens = BTreeSet::from([len]);
        for change in &self.pending {
            len = change.len_after(len);
            lens.insert(len);
        }
        if let (Some(&least), Some(&greatest)) = (lens.first(), lens.last()) {
            lens.extend((least.next_multiple_of(SECTOR)..greatest).step_by(SECTOR));
        }
        let number = pick(choice, lens.len());
        lens.into_iter().nth(number).unwrap_or(len)
    }

    /// The sectors pending changes touch, each with those changes in order.
    fn touched_sectors(&self) -> BTreeMap<usize, Vec<&Change>> {
        let mut sectors: BTreeMap<usize, Vec<&Change>> = BTreeMap::new();
        let mut len = self.durable.len();
        for change in &self.pending {
            let range = match change {
                Change::Write { offset, bytes } => *offset..offset + bytes.len(),
                Change::SetLen(new_len) => *new_len..len,
            };
            len = change.len_after(len);
            if !range.is_empty() {
                for number in range.start / SECTOR..range.end.div_ceil(SECTOR) {
                    sectors.entry(number).or_default().push(change);
                }
            }
        }
        sectors
    }

    /// The sector after the first few of its changes; one that held nothing durable may also be
    /// left with garbage, or with what another file holds at its place.
    fn picked_sector(
        &self,
        start: usize,
        changes: &[&Change],
        others: &[Arc<Vec<u8>>],
        choice: &mut dyn CrashChoice,
    ) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        let durable = self.durable.get(start..).unwrap_or_default();
        let is_fresh = durable.is_empty();
        let stale = if is_fresh { sectors_at(others, start) } else { Vec::new() };
        let (garbage, old) = (usize::from(is_fresh), usize::from(!stale.is_empty()));
        let version = pick(choice, changes.len() + 1 + garbage + old);
        if version == changes.len() + 2 {
            let bytes = stale.get(pick(choice, stale.len())).copied().unwrap_or_default();
            sector.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            return sector;
        }
        if version > changes.len() {
            let seed = pick(choice, 4) as u64;
            Random::new(seed << 32 | (start / SECTOR) as u64).fill(&mut sector);
            return sector;
        }
        sector.iter_mut().zip(durable).for_each(|(to, from)| *to = *from);
        changes.iter().take(version).for_each(|change| change.apply_to_sector(start, &mut sector));
        sector
    }
}

/// What files hold in the sector at `start`, but for nothing and zeros.
fn sectors_at(files: &[Arc<Vec<u8>>], start: usize) -> Vec<&[u8]> {
    let sectors = files.iter().filter_map(|bytes| bytes.get(start..));
    let sectors = sectors.map(|bytes| bytes.get(..SECTOR).unwrap_or(bytes));
    sectors.filter(|bytes| bytes.iter().any(|&byte| byte != 0)).collect()
}

/// The end of a range of `len` bytes at `offset`, if a file may be that long.
pub(super) fn checked_end(offset: u64, len: usize) -> io::Result<u64> {
    let end = offset.checked_add(len as u64).filter(|&end| end <= MAX_LEN);
    end.ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

fn overlay(contents: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    if let Some(target) = contents.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}
