//! A hash table of lines: two candidate lines for a fingerprint, and room made by moving others.
//!
//! Both lines follow from the fingerprint alone, so that growing reads no keys.

use crate::layout::Location;
use crate::line::Line;

/// Most lines that a search for room looks at.
const MAX_NODES: usize = 64;
const ROOT: u16 = u16::MAX;

/// How full a table gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// Independent tables, as a power of two.
    pub(crate) shard_bits: u32,
    /// A table that is full grows by this factor, in thousandths.
    pub(crate) growth: usize,
    /// A table with so many thousandths of its slots taken is full.
    pub(crate) max_load: usize,
    /// So is one where this many lines have no free slot to offer.
    pub(crate) nodes: usize,
}

#[derive(Debug)]
pub(crate) struct Table<L> {
    lines: Box<[L]>,
    /// Slots taken, the dead among them included that have not been found free since.
    taken: u32,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    line: u32,
    /// The node whose slot leads here.
    parent: u16,
    slot: u16,
}

impl<L: Line> Table<L> {
    pub(crate) fn new() -> Self {
        Self { lines: Box::default(), taken: 0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    fn lines_of(&self, fingerprint: u64) -> [usize; 2] {
        // The odd number next to 2^64 divided by the golden ratio.
        let mixed = fingerprint.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let count = self.lines.len() as u64;
        [(((mixed >> 32) * count) >> 32) as usize, (((mixed & 0xffff_ffff) * count) >> 32) as usize]
    }

    pub(crate) fn get(&self, fingerprint: u64, first_live: u32) -> Option<Location> {
        let (line, slot) = self.find(fingerprint, first_live)?;
        Some(self.lines[line].location(slot))
    }

    /// Compares both lines before it decides anything, so that they come from memory together.
    #[inline]
    fn find(&self, fingerprint: u64, first_live: u32) -> Option<(usize, usize)> {
        let [one, two] = self.lines_of(fingerprint);
        let lines = [self.lines.get(one)?, self.lines.get(two)?];
        let matches = lines.map(|line| line.matches(fingerprint));
        if matches[0] | matches[1] == 0 {
            return None;
        }
        let alive = [0, 1].map(|at| matches[at] & !lines[at].free(first_live));
        match alive {
            [0, 0] => None,
            [0, alive] => Some((two, alive.trailing_zeros() as usize)),
            [alive, _] => Some((one, alive.trailing_zeros() as usize)),
        }
    }

    /// Every fingerprint that is alive.
    pub(crate) fn fingerprints(&self, first_live: u32) -> impl Iterator<Item = u64> {
        self.lines.iter().flat_map(move |line| {
            let free = line.free(first_live);
            (0..L::SLOTS).filter(move |slot| free >> slot & 1 == 0).map(|at| line.fingerprint(at))
        })
    }

    pub(crate) fn remove(&mut self, fingerprint: u64, first_live: u32) {
        if let Some((line, slot)) = self.find(fingerprint, first_live) {
            self.lines[line].write(slot, 0, Location { ordinal: 0, position: 0 });
        }
    }

    /// Names a location. Gives what was named before, and whether the table grew.
    pub(crate) fn put(
        &mut self,
        fingerprint: u64,
        location: Location,
        first_live: u32,
        tuning: &Tuning,
    ) -> (Option<Location>, bool) {
        if let Some((line, slot)) = self.find(fingerprint, first_live) {
            let before = self.lines[line].location(slot);
            self.lines[line].write(slot, fingerprint, location);
            return (Some(before), false);
        }
        let mut grew = false;
        if self.is_full(first_live, tuning) {
            self.grow(first_live, tuning);
            grew = true;
        }
        while !self.place(fingerprint, location, first_live, tuning.nodes) {
            self.grow(first_live, tuning);
            grew = true;
        }
        (None, grew)
    }

    fn is_full(&mut self, first_live: u32, tuning: &Tuning) -> bool {
        if tuning.max_load >= 1000 {
            return false;
        }
        let most = self.lines.len() * L::SLOTS * tuning.max_load / 1000;
        if (self.taken as usize) < most {
            return false;
        }
        let free = self.lines.iter().map(|line| line.free(first_live).count_ones()).sum::<u32>();
        self.taken = (self.lines.len() * L::SLOTS) as u32 - free;
        self.taken as usize >= most
    }

    fn place(&mut self, fingerprint: u64, to: Location, first_live: u32, nodes: usize) -> bool {
        let lines = self.lines_of(fingerprint);
        // The emptier line first: lines then fill evenly, and few have to be made room in.
        let free = lines.map(|line| self.lines.get(line).map_or(0, |line| line.free(first_live)));
        let emptier = usize::from(free[1].count_ones() > free[0].count_ones());
        if free[emptier] != 0 {
            let slot = free[emptier].trailing_zeros() as usize;
            self.lines[lines[emptier]].write(slot, fingerprint, to);
            self.taken += 1;
            return true;
        }
        if self.lines.is_empty() {
            return false;
        }
        let Some((line, slot)) = self.make_room(lines, first_live, nodes) else { return false };
        self.lines[line].write(slot, fingerprint, to);
        self.taken += 1;
        true
    }

    /// Frees a slot in one of two full lines: looks, breadth first, for the shortest chain of slots
    /// that can each move to its other line.
    #[inline(never)]
    fn make_room(
        &mut self,
        lines: [usize; 2],
        first_live: u32,
        most: usize,
    ) -> Option<(usize, usize)> {
        let mut nodes = [Node { line: 0, parent: ROOT, slot: 0 }; MAX_NODES];
        let most = most.clamp(2, MAX_NODES);
        nodes[0].line = lines[0] as u32;
        nodes[1].line = lines[1] as u32;
        let (mut head, mut count) = (0, 2);
        while head < count {
            let here = nodes[head].line as usize;
            for slot in 0..L::SLOTS {
                let [one, two] = self.lines_of(self.lines[here].fingerprint(slot));
                let other = if one == here { two } else { one };
                let free = self.lines[other].free(first_live);
                if free != 0 {
                    let to = (other, free.trailing_zeros() as usize);
                    return Some(self.shift(&nodes, head, slot, to));
                }
                if count < most && !leads_through(&nodes, head, other) {
                    nodes[count] =
                        Node { line: other as u32, parent: head as u16, slot: slot as u16 };
                    count += 1;
                }
            }
            head += 1;
        }
        None
    }

    /// Moves the slots of a chain, last one first. Gives the slot that it frees.
    fn shift(
        &mut self,
        nodes: &[Node],
        mut at: usize,
        mut slot: usize,
        mut to: (usize, usize),
    ) -> (usize, usize) {
        loop {
            let node = nodes[at];
            let from = self.lines[node.line as usize];
            self.lines[to.0].write(to.1, from.fingerprint(slot), from.location(slot));
            to = (node.line as usize, slot);
            if node.parent == ROOT {
                return to;
            }
            slot = node.slot.into();
            at = node.parent.into();
        }
    }

    fn grow(&mut self, first_live: u32, tuning: &Tuning) {
        let mut count = self.lines.len();
        loop {
            count = (count + 1).max(count * tuning.growth / 1000);
            let lines = vec![L::EMPTY; count].into_boxed_slice();
            let mut grown = Self { lines, taken: 0 };
            if self.move_to(&mut grown, first_live, tuning.nodes) {
                *self = grown;
                return;
            }
        }
    }

    fn move_to(&self, grown: &mut Self, first_live: u32, nodes: usize) -> bool {
        self.lines.iter().all(|line| {
            let free = line.free(first_live);
            (0..L::SLOTS).filter(|slot| free >> slot & 1 == 0).all(|slot| {
                grown.place(line.fingerprint(slot), line.location(slot), first_live, nodes)
            })
        })
    }
}

/// Whether a chain would come back to a line that it has passed.
fn leads_through(nodes: &[Node], mut at: usize, line: usize) -> bool {
    loop {
        let node = nodes[at];
        if node.line as usize == line {
            return true;
        }
        if node.parent == ROOT {
            return false;
        }
        at = node.parent.into();
    }
}
