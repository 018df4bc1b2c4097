//! The table of an owner's segments, in the order of their numbers.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use crate::segment::Segment;
use crate::sync::Striped;

/// A segment as one copy of the table refers to it. Readers of different copies count their references
/// apart from each other.
pub(crate) type NearSegment = Arc<Arc<Segment>>;

/// The table, as all threads share it.
#[derive(Debug)]
pub(crate) struct SharedTable {
    copies: Striped<SegmentTable>,
}

impl Default for SharedTable {
    fn default() -> Self {
        Self { copies: Striped::new(|| SegmentTable { first: 1, segments: VecDeque::new() }) }
    }
}

impl SharedTable {
    /// The table as it is now.
    pub(crate) fn read(&self) -> impl Deref<Target = SegmentTable> + '_ {
        self.copies.read()
    }

    /// Adds a segment, whose number is above all others; gives its ordinal.
    pub(crate) fn push(&self, segment: &Arc<Segment>) -> u32 {
        self.copies.write(|table| {
            let ordinal = table.next();
            table.segments.push_back((segment.number(), Some(Arc::new(Arc::clone(segment)))));
            ordinal
        })
    }

    /// Takes out the segments that match, which are told before.
    pub(crate) fn remove_if(&self, gone: impl Fn(&Segment) -> bool) -> Vec<Arc<Segment>> {
        self.copies.write(|table| {
            let mut removed = Vec::new();
            for (_, place) in &mut table.segments {
                if place.as_ref().is_some_and(|segment| gone(segment)) {
                    place.iter().for_each(|segment| segment.leave());
                    removed.extend(place.take().as_deref().cloned());
                }
            }
            table.forget_first();
            removed
        })
    }

    /// Fills a table as an earlier process left it: the number of each segment from an ordinal on, and
    /// the segment unless it is gone.
    pub(crate) fn restore(&self, first: u32, places: &[(u64, Option<Arc<Segment>>)]) {
        self.copies.write(|table| {
            let near = |segment: &Option<Arc<Segment>>| segment.clone().map(Arc::new);
            table.first = first;
            table.segments =
                places.iter().map(|(number, segment)| (*number, near(segment))).collect();
            table.forget_first();
        });
    }
}

/// Segments by ordinal. Ordinals count from 1, only grow and are never reused.
#[derive(Debug)]
pub(crate) struct SegmentTable {
    first: u32,
    /// The number of each segment that is or was here, and the segment unless it is gone.
    segments: VecDeque<(u64, Option<NearSegment>)>,
}

impl SegmentTable {
    /// The segment of an ordinal, unless it is gone.
    pub(crate) fn get(&self, ordinal: u32) -> Option<&NearSegment> {
        self.segments.get(ordinal.checked_sub(self.first)? as usize)?.1.as_ref()
    }

    /// The segment of a number, unless it is gone.
    pub(crate) fn by_number(&self, number: u64) -> Option<&Arc<Segment>> {
        let at = self.segments.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.segments.get(at)?.1.as_deref()
    }

    /// All segments with their ordinals, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, &Arc<Segment>)> {
        let places = self.segments.iter().enumerate();
        places.filter_map(|(at, (_, segment))| Some((self.first + at as u32, segment.as_deref()?)))
    }

    /// The number of each segment from the first ordinal on, and the segment unless it is gone.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u64, Option<&Arc<Segment>>)> {
        self.segments.iter().map(|(number, segment)| (*number, segment.as_deref()))
    }

    /// The first ordinal that may still name a segment.
    pub(crate) fn first_live(&self) -> u32 {
        self.first
    }

    /// The ordinal that the next segment gets.
    pub(crate) fn next(&self) -> u32 {
        self.first + self.segments.len() as u32
    }

    /// Segments in the table.
    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    fn forget_first(&mut self) {
        while self.segments.front().is_some_and(|(_, segment)| segment.is_none()) {
            self.segments.pop_front();
            self.first += 1;
        }
    }
}
