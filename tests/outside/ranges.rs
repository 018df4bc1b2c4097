//! Sets of bytes of a file.

use std::collections::BTreeMap;

/// Bytes, as ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Ends, by starts.
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Takes a range in.
    pub(crate) fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((before, its_end)) = self.last_until(end).filter(|(_, e)| *e >= start) {
            self.ends.remove(&before);
            (start, end) = (start.min(before), end.max(its_end));
        }
        self.ends.insert(start, end);
    }

    /// Takes all of another set in.
    pub(crate) fn add_all(&mut self, other: &Self) {
        other.ends.iter().for_each(|(start, end)| self.add(*start, *end));
    }

    /// True if one of these bytes is in it.
    pub(crate) fn meets(&self, start: u64, end: u64) -> bool {
        start < end && self.last_until(end - 1).is_some_and(|(_, its_end)| its_end > start)
    }

    /// True if nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The last range that starts here or before.
    fn last_until(&self, at: u64) -> Option<(u64, u64)> {
        self.ends.range(..=at).next_back().map(|(start, end)| (*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut ranges = Ranges::default();
        for (start, end) in [(10, 20), (30, 40), (5, 5), (20, 30), (50, 60), (0, 1)] {
            ranges.add(start, end);
        }
        assert_eq!(ranges.ends, BTreeMap::from([(0, 1), (10, 40), (50, 60)]));
        let met = [(0, 1), (39, 40), (15, 16), (0, 100), (45, 51)];
        assert!(met.into_iter().all(|(start, end)| ranges.meets(start, end)));
        let missed = [(1, 10), (40, 50), (60, 99), (15, 15)];
        assert!(!missed.into_iter().any(|(start, end)| ranges.meets(start, end)));
    }
}
