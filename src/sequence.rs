//! Sequence numbers, and which of them are under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sync::Mutex;

/// Bits of a sequence number that count within one generation.
const COUNTER_BITS: u32 = 40;

/// Gives out numbers that only grow, and knows the lowest one not yet done with.
#[derive(Debug)]
pub(crate) struct Sequence {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    open: BTreeMap<u64, ()>,
}

/// A number that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    seq: u64,
    sequence: Arc<Sequence>,
}

impl Sequence {
    /// The numbers of a generation.
    pub(crate) fn new(generation: u64) -> Arc<Self> {
        let inner = Inner { next: first_of(generation), open: BTreeMap::new() };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// Takes the next number; it counts as under way.
    pub(crate) fn begin(self: &Arc<Self>) -> Ticket {
        self.begin_many(1)
    }

    /// Takes so many numbers in a row; they count as under way together.
    pub(crate) fn begin_many(self: &Arc<Self>, count: u64) -> Ticket {
        let mut inner = self.inner.lock();
        let seq = inner.next;
        inner.next += count;
        inner.open.insert(seq, ());
        Ticket { seq, sequence: Arc::clone(self) }
    }

    /// The last number given out.
    pub(crate) fn last(&self) -> u64 {
        self.inner.lock().next - 1
    }

    /// No number below this one is under way.
    pub(crate) fn lowest_open(&self) -> u64 {
        let inner = self.inner.lock();
        inner.open.first_key_value().map_or(inner.next, |(seq, ())| *seq)
    }
}

/// The first number of a generation; below it lie all numbers ever given out before.
pub(crate) fn first_of(generation: u64) -> u64 {
    generation << COUNTER_BITS
}

/// The generation that gave out a number.
pub(crate) fn generation_of(seq: u64) -> u64 {
    seq >> COUNTER_BITS
}

impl Ticket {
    /// The number, or the first of them.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sequence.inner.lock().open.remove(&self.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_open_number_waits_for_the_slowest() {
        let sequence = Sequence::new(3);
        let slow = sequence.begin();
        let batch = sequence.begin_many(10);
        assert_eq!(generation_of(slow.seq()), 3);
        assert_eq!(sequence.lowest_open(), slow.seq());
        drop(slow);
        assert_eq!(sequence.lowest_open(), batch.seq());
        drop(batch);
        assert_eq!(sequence.lowest_open(), sequence.last() + 1);
    }
}
