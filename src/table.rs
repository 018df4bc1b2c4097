//! The table of an owner's segments, in the order of their numbers.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::segment::Segment;

/// Segments by ordinal. Ordinals count from 1, only grow and are never reused.
#[derive(Debug)]
pub(crate) struct SegmentTable {
    first: u32,
    /// The number of each segment that is or was here, and the segment unless it is gone.
    segments: VecDeque<(u64, Option<Arc<Segment>>)>,
}

impl SegmentTable {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self { first: 1, segments: VecDeque::new() }
    }

    /// Adds a segment, whose number is above all others; gives its ordinal.
    pub(crate) fn push(&mut self, segment: Arc<Segment>) -> u32 {
        self.segments.push_back((segment.number(), Some(segment)));
        self.first + (self.segments.len() - 1) as u32
    }

    /// The segment of an ordinal, unless it is gone.
    pub(crate) fn get(&self, ordinal: u32) -> Option<&Arc<Segment>> {
        self.segments.get(ordinal.checked_sub(self.first)? as usize)?.1.as_ref()
    }

    /// The segment of a number, unless it is gone.
    pub(crate) fn by_number(&self, number: u64) -> Option<&Arc<Segment>> {
        let at = self.segments.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.segments.get(at)?.1.as_ref()
    }

    /// All segments with their ordinals, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, &Arc<Segment>)> {
        let places = self.segments.iter().enumerate();
        places.filter_map(|(at, (_, segment))| Some((self.first + at as u32, segment.as_ref()?)))
    }

    /// Takes out the segments that match.
    pub(crate) fn remove_if(&mut self, gone: impl Fn(&Segment) -> bool) -> Vec<Arc<Segment>> {
        let mut removed = Vec::new();
        for (_, place) in &mut self.segments {
            if place.as_ref().is_some_and(|segment| gone(segment)) {
                removed.extend(place.take());
            }
        }
        while self.segments.front().is_some_and(|(_, segment)| segment.is_none()) {
            self.segments.pop_front();
            self.first += 1;
        }
        removed
    }

    /// The first ordinal that may still name a segment.
    pub(crate) fn first_live(&self) -> u32 {
        self.first
    }

    /// Segments in the table.
    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }
}
