//! Sequence numbers, and which of them are under way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::error::{Error, Result};
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
    /// In their order, each with the boot time from which it no longer counts, if it has a limit.
    open: VecDeque<(u64, Option<u64>)>,
    /// Those of them that are invalidations not yet durable.
    invalidations: BTreeSet<u64>,
}

impl Inner {
    fn take(&mut self, count: u64, time: Option<Time>) -> u64 {
        let seq = self.next;
        self.next += count;
        self.open.push_back((seq, time.map(Time::over_ms)));
        seq
    }

    /// Up to when a number counts, if it still does.
    fn limit_of(&mut self, seq: u64) -> Option<&mut Option<u64>> {
        let at = self.open.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.open.get_mut(at).map(|(_, over_ms)| over_ms)
    }
}

/// A number that is under way until this is dropped, or until its time is over.
#[derive(Debug)]
pub(crate) struct Ticket {
    seq: u64,
    time: Option<Time>,
    sequence: Arc<Sequence>,
}

/// When a number was taken, by the boot-time clock, and for how long it may be under way.
#[derive(Debug, Clone, Copy)]
struct Time {
    begun_ms: u64,
    limit_ms: u64,
}

impl Sequence {
    /// The numbers of a generation.
    pub(crate) fn new(generation: u64) -> Arc<Self> {
        let (open, invalidations) = (VecDeque::new(), BTreeSet::new());
        let inner = Inner { next: first_of(generation), open, invalidations };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// Takes the next number; it counts as under way.
    pub(crate) fn begin(self: &Arc<Self>) -> Ticket {
        self.begin_many(1)
    }

    /// Takes so many numbers in a row; they count as under way together.
    pub(crate) fn begin_many(self: &Arc<Self>, count: u64) -> Ticket {
        self.take(count, None)
    }

    /// Takes the next number at this boot time; it counts as under way until the limit at most.
    pub(crate) fn begin_limited(self: &Arc<Self>, boot_ms: u64, limit_ms: u64) -> Ticket {
        self.take(1, Some(Time { begun_ms: boot_ms, limit_ms }))
    }

    /// Takes the next number for an invalidation, which is under way until it is durable.
    pub(crate) fn begin_invalidation(self: &Arc<Self>) -> Ticket {
        let mut inner = self.inner.lock();
        let seq = inner.take(1, None);
        inner.invalidations.insert(seq);
        Ticket { seq, time: None, sequence: Arc::clone(self) }
    }

    /// All invalidations with a lower number are durable, or have failed.
    pub(crate) fn lowest_invalidation(&self) -> u64 {
        let inner = self.inner.lock();
        inner.invalidations.first().copied().unwrap_or(inner.next)
    }

    fn take(self: &Arc<Self>, count: u64, time: Option<Time>) -> Ticket {
        let seq = self.inner.lock().take(count, time);
        Ticket { seq, time, sequence: Arc::clone(self) }
    }

    /// The last number given out.
    pub(crate) fn last(&self) -> u64 {
        self.inner.lock().next - 1
    }

    /// No number below this one is under way at this boot time, nor will be: those whose time is
    /// over are struck out for good, so that none of them can be claimed later by an older clock
    /// reading.
    pub(crate) fn lowest_open(&self, boot_ms: u64) -> u64 {
        let mut inner = self.inner.lock();
        inner.open.retain(|(_, over_ms)| over_ms.is_none_or(|over_ms| boot_ms < over_ms));
        inner.open.front().map_or(inner.next, |(seq, _)| *seq)
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

/// True for the last number of a generation, which none lives long enough to give out: what an opening hides reaches
/// up to it.
pub(crate) fn is_last_of_generation(seq: u64) -> bool {
    generation_of(seq) != generation_of(seq.wrapping_add(1))
}

impl Ticket {
    /// The number, or the first of them.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Changes the limit, counted from when the number was taken. One that is over stays so.
    pub(crate) fn set_limit(&mut self, limit_ms: u64) {
        let mut inner = self.sequence.inner.lock();
        if let (Some(time), Some(over_ms)) = (&mut self.time, inner.limit_of(self.seq)) {
            time.limit_ms = limit_ms;
            *over_ms = Some(time.over_ms());
        }
    }

    /// Lets the number be under way without a limit from here on.
    ///
    /// # Errors
    ///
    /// [`FillTimedOut`](Error::FillTimedOut) if its time is over.
    pub(crate) fn claim(&self, boot_ms: u64) -> Result<()> {
        let Some(time) = self.time else { return Ok(()) };
        let mut inner = self.sequence.inner.lock();
        match inner.limit_of(self.seq) {
            Some(over_ms) if over_ms.is_none_or(|over_ms| boot_ms < over_ms) => {
                *over_ms = None;
                Ok(())
            }
            _ => Err(Error::FillTimedOut { limit_ms: time.limit_ms }),
        }
    }
}

impl Time {
    fn over_ms(self) -> u64 {
        self.begun_ms.saturating_add(self.limit_ms)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.sequence.inner.lock();
        if let Ok(at) = inner.open.binary_search_by_key(&self.seq, |(seq, _)| *seq) {
            inner.open.remove(at);
        }
        if !inner.invalidations.is_empty() {
            inner.invalidations.remove(&self.seq);
        }
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
        assert_eq!(sequence.lowest_open(0), slow.seq());
        drop(slow);
        assert_eq!(sequence.lowest_open(0), batch.seq());
        drop(batch);
        assert_eq!(sequence.lowest_open(0), sequence.last() + 1);
    }

    #[test]
    fn a_number_counts_until_its_time_is_over() {
        let sequence = Sequence::new(3);
        let limited = sequence.begin_limited(100, 10);
        let other = sequence.begin();
        assert_eq!(sequence.lowest_open(109), limited.seq());
        assert_eq!(sequence.lowest_open(110), other.seq());
        let refused = limited.claim(109);
        assert!(matches!(refused, Err(Error::FillTimedOut { limit_ms: 10 })), "{refused:?}");
        assert_eq!(sequence.lowest_open(109), other.seq(), "what was forgotten stays forgotten");
    }

    #[test]
    fn a_claimed_number_has_no_limit_any_more() {
        let sequence = Sequence::new(3);
        let mut limited = sequence.begin_limited(100, 10);
        limited.set_limit(20);
        limited.claim(119).unwrap();
        assert_eq!(sequence.lowest_open(u64::MAX), limited.seq());
        limited.claim(u64::MAX).unwrap();
        let late = sequence.begin_limited(100, 10);
        assert!(late.claim(110).is_err());
        drop(limited);
        assert_eq!(sequence.lowest_open(100), late.seq());
        drop(late);
        assert_eq!(sequence.lowest_open(100), sequence.last() + 1);
    }
}
