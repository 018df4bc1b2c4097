//! Bits flipped and files cut: each case is looked at without changing anything, where it must be told
//! of, and then opened for writing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::fixture::{Random, seed};
use super::sample::{Found, is_ledger_file, make};

/// Flips and cuts of a killed store in the default run, in each mode.
const KILLED: usize = 400;
/// So many zeros on either side are many.
const AROUND: usize = 32;

/// Which cases to take, of so many.
struct Cases {
    next: usize,
    step: usize,
    /// True if the other mode takes other cases, so that each is looked at here.
    shared: bool,
}

impl Cases {
    /// Of a closed store both modes together take one in `whole` cases, of a killed one a sample; in each
    /// mode all of them with `EBBTIDE_DAMAGE=all`, or as many as it says.
    fn of(total: usize, whole: usize, closed: bool, mapped: bool) -> Self {
        let own = usize::from(mapped);
        match std::env::var("EBBTIDE_DAMAGE") {
            Ok(all) if all == "all" => Self { next: 0, step: 1, shared: false },
            Ok(few) => Self { next: 0, step: total.div_ceil(few.parse().unwrap()), shared: false },
            _ if closed => Self { next: own * whole, step: 2 * whole, shared: true },
            _ => {
                let step = total.div_ceil(KILLED);
                let next = Random::new(seed("damage") + own as u64).below(step as u64) as usize;
                Self { next, step, shared: true }
            }
        }
    }

    /// Goes on with a file of so many cases; gives the next one in it.
    fn next_in(&mut self, count: usize) -> Option<usize> {
        if self.next >= count {
            self.next -= count;
            return None;
        }
        let case = self.next;
        self.next += self.step;
        Some(case)
    }

    /// True of most places within many zeros, unless all cases are taken: one is like the next.
    fn passes_over(&self, bytes: &[u8], at: usize) -> bool {
        let around = bytes.get(at.saturating_sub(AROUND)..at + AROUND).unwrap_or_default();
        let in_zeros = around.len() == 2 * AROUND && around.iter().all(|byte| *byte == 0);
        self.shared && in_zeros && !(at / 2).is_multiple_of(8)
    }
}

/// Runs an examination; a panic in it is told with the case it happened in.
pub(crate) fn examined<T>(what: &str, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("{what}"))
}

/// Which bit of a byte the default run flips: every eighth case, of which neighbours differ.
fn flip_of(case: usize, step: usize) -> (usize, u8) {
    let at = case / 8;
    (at, if step == 1 { 1 << (case % 8) } else { 1 << ((at + at / 8) % 8) })
}

pub(crate) fn flip_everything(closed: bool, mapped: bool) {
    let sample = make(closed);
    let files = sample.files();
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut cases = Cases::of(8 * total, 8, closed, mapped);
    let looks = cases.shared || !mapped;
    let (mut flips, mut found) = (0, BTreeMap::<Found, usize>::new());
    let mut meaningless = BTreeMap::<&str, usize>::new();
    for (path, bytes) in &files {
        while let Some(case) = cases.next_in(8 * bytes.len()) {
            let (at, mask) = flip_of(case, cases.step);
            let mut changed = bytes.clone();
            changed[at] ^= mask;
            let what = format!("{} byte {at} xor {mask:#x} (closed {closed})", path.display());
            let disk = sample.with(path, &changed);
            if looks {
                let told = examined(&what, || sample.look(&disk, path));
                *found.entry(told).or_default() += 1;
                if told == Found::Nowhere {
                    let why = if closed { None } else { meaning_nothing(path, bytes, at) };
                    let why = why.unwrap_or_else(|| panic!("unnoticed: {what}"));
                    *meaningless.entry(why).or_default() += 1;
                }
            }
            flips += 1;
            if cases.passes_over(bytes, at) {
                continue;
            }
            examined(&what, || sample.examine(&disk, path, mapped, flips % 4 == 0));
            if closed && is_ledger_file(path) && flips % 4 == 0 {
                sample.expect_broken_ledger(&sample.with(path, &changed), path);
            }
        }
    }
    let count = files.len();
    println!("closed {closed}, mapped {mapped}: {flips} flips of {total} bytes in {count} files");
    println!("  found: {found:?}; of bytes that mean nothing: {meaningless:?}");
}

pub(crate) fn cut_everything(closed: bool, mapped: bool) {
    let sample = make(closed);
    let files = sample.files();
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut cases = Cases::of(total, 1, closed, mapped);
    let mut cuts = 0;
    for (path, bytes) in &files {
        while let Some(len) = cases.next_in(bytes.len()) {
            if cases.passes_over(bytes, len) {
                continue;
            }
            let what = format!("{} cut at {len} (closed {closed})", path.display());
            let disk = sample.with(path, &bytes[..len]);
            examined(&what, || sample.examine(&disk, path, mapped, cuts % 4 == 0));
            if closed && is_ledger_file(path) && cuts % 4 == 0 {
                sample.expect_broken_ledger(&sample.with(path, &bytes[..len]), path);
            }
            cuts += 1;
        }
        let disk = sample.with(path, &[]);
        examined(&format!("{} empty", path.display()), || {
            sample.examine(&disk, path, mapped, true);
        });
    }
    println!("closed {closed}, mapped {mapped}: {cuts} cuts");
}

/// Why nothing can tell that this byte of a store was changed whose process was killed.
fn meaning_nothing(path: &Path, bytes: &[u8], at: usize) -> Option<&'static str> {
    if is_ledger_file(path) {
        is_above_marks(bytes, at).then_some("a torn end of the ledger")
    } else if path.extension().is_some_and(|extension| extension == "seg") {
        in_what_was_erased(bytes, at)
    } else {
        None
    }
}

/// True if nothing says that an entry at this place of a ledger file had been durable.
fn is_above_marks(bytes: &[u8], at: usize) -> bool {
    let entries = bytes[512..].chunks_exact(160);
    let marks = entries.map(|entry| u32::from_le_bytes(entry[44..48].try_into().unwrap()));
    at >= 512 + 160 * marks.max().unwrap() as usize
}

/// True of what has been erased where nothing says any more that it was overwritten. The lengths of a
/// record are at fixed places.
fn in_what_was_erased(bytes: &[u8], at: usize) -> Option<&'static str> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let gone = |at: usize| bytes[at..at + 4] == *b"GONE";
    let mut record = 1024;
    while record + 64 <= bytes.len() {
        let expiry = if bytes[record + 10] & 1 == 1 { 8 } else { 0 };
        let tags = 16 * usize::from(bytes[record + 9]);
        let directory = record + 64 + 16 + expiry + word(record + 12) + tags;
        let value = directory + word(record + 16);
        let end = value + word(record + 20);
        if gone(record + 4) && (record + 64..end).contains(&at) {
            return Some("the body of an erased record");
        }
        if bytes[record + 8] == 2 {
            for entry in (directory + 8..value).step_by(20) {
                let row = value + word(entry);
                if gone(row) && (row + 4..row + word(entry + 4)).contains(&at) {
                    return Some("the body of an erased row");
                }
            }
        }
        record = end.next_multiple_of(8);
    }
    None
}
