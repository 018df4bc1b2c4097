//! A value that threads read without getting into each other's way.
//!
//! A lock for many readers is still written to by each of them, and so is a shared reference count:
//! its cache line wanders between the processors, at every read. Here threads are spread over a few
//! copies of the value, each under a lock of its own. Reading takes one of these locks, writing all.

use std::ops::Deref;
// Chooses a copy and nothing else, and has to be there before a model checker is.
use std::sync::atomic::AtomicUsize;

use super::atomic::AtomicU64;
use super::atomic::Ordering::Relaxed;
use super::{MODEL_CHECKED, RwLock};

/// Copies of a value. A model checker has enough to do with one.
const STRIPES: usize = if MODEL_CHECKED { 1 } else { 8 };

/// Keeps two neighbours off one cache line, and off the one that is fetched with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// A value that is read often and seldom changed.
#[derive(Debug)]
pub(crate) struct Striped<T> {
    stripes: Box<[Apart<RwLock<T>>]>,
}

impl<T> Striped<T> {
    /// A value, made once for each copy.
    pub(crate) fn new(mut make: impl FnMut() -> T) -> Self {
        Self { stripes: (0..STRIPES).map(|_| Apart(RwLock::new(make()))).collect() }
    }

    /// The copy of this thread. A change that ended before is in it.
    pub(crate) fn read(&self) -> impl Deref<Target = T> + '_ {
        self.stripes[stripe()].0.read()
    }

    /// Changes all copies, each in the same way, while nobody reads any; gives what was said of the
    /// first one.
    pub(crate) fn write<R>(&self, mut change: impl FnMut(&mut T) -> R) -> R {
        let mut first = self.stripes[0].0.write();
        let mut others: Vec<_> = self.stripes[1..].iter().map(|stripe| stripe.0.write()).collect();
        let result = change(&mut first);
        others.iter_mut().for_each(|copy| drop(change(copy)));
        result
    }
}

/// A count that many threads raise.
#[derive(Debug)]
pub(crate) struct StripedCount {
    stripes: [Apart<AtomicU64>; STRIPES],
}

impl Default for StripedCount {
    fn default() -> Self {
        Self { stripes: std::array::from_fn(|_| Apart(AtomicU64::new(0))) }
    }
}

impl StripedCount {
    /// Adds one.
    pub(crate) fn add_one(&self) {
        self.stripes[stripe()].0.fetch_add(1, Relaxed);
    }

    /// What has been added.
    pub(crate) fn sum(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0.load(Relaxed)).sum()
    }
}

/// Which copy this thread reads: threads take turns when they first ask.
fn stripe() -> usize {
    if STRIPES == 1 {
        return 0;
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Relaxed) % STRIPES;
    }
    // While a thread ends it has none any more.
    OWN.try_with(|own| *own).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_reads_what_was_written_before_and_counts() {
        let value = Striped::new(|| 1);
        let count = StripedCount::default();
        assert_eq!(value.write(|copy| std::mem::replace(copy, 2)), 1);
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    assert_eq!(*value.read(), 2);
                    count.add_one();
                });
            }
        });
        assert_eq!(count.sum(), 2 * STRIPES as u64);
    }
}
