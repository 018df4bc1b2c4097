//! Work on many things by several threads, where there is enough of it.

use std::num::NonZero;

use crate::sync::MODEL_CHECKED;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Below so many bytes of work, one thread is as fast; it also takes its steps in a fixed order.
const WORTH_BYTES: u64 = 16 << 20;
const MAX_THREADS: usize = 8;

/// How many threads are worth it for so many bytes of work.
pub(crate) fn threads_for(bytes: u64) -> usize {
    if bytes < WORTH_BYTES || MODEL_CHECKED {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS)
}

/// Applies `work` to each item, by so many threads; the results have the order of the items.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    if threads < 2 || items.len() < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take_turns = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(item)));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads)
            // Without a thread to be had, those there are do the work.
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, take_turns).ok())
            .collect();
        let mut results = take_turns();
        for helper in helpers {
            match helper.join() {
                Ok(done) => results.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_the_items() {
        let items: Vec<u64> = (0..1000).collect();
        for threads in [1, 2, 5] {
            let squares = map(&items, threads, |item| item * item);
            assert_eq!(squares, items.iter().map(|item| item * item).collect::<Vec<_>>());
        }
    }
}
