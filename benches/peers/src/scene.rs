//! Where a child works: one peer, one directory, one profile.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::data::{DAYS, Values};
use crate::peer::{Contestant, Peer, Result, Setup};

/// Memory for the caches of stores that have one of their own.
const CACHE_BYTES: u64 = 1 << 30;
/// Records handed over at a time.
pub const BATCH: u64 = 1000;

pub struct Scene {
    pub dir: PathBuf,
    /// Makes figures steadier and takes hours.
    pub full: bool,
    /// In a growth: how much there is.
    pub x: u64,
    pub contestant: Contestant,
}

impl Scene {
    /// One of two sizes, by the profile.
    pub fn size(&self, quick: u64, full: u64) -> u64 {
        if self.full { full } else { quick }
    }

    /// How long a rate is measured.
    pub fn span(&self) -> Duration {
        Duration::from_millis(self.size(500, 4000))
    }

    /// A directory of this scene.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The usual set-up.
    pub fn setup(blobs: bool) -> Setup {
        Setup { blobs, cache_bytes: CACHE_BYTES, capacity_bytes: None, quiet: false, days: DAYS }
    }

    /// Opens the peer's store of this name.
    pub fn open(&self, name: &str, setup: Setup) -> Result<Box<dyn Peer>> {
        (self.contestant.open)(&self.path(name), setup)
    }
}

/// Inserts all values, the first ones on the first day of the window, the last ones on its last, and
/// syncs.
pub fn fill_window(peer: &dyn Peer, values: &Values, blobs: bool) -> Result<()> {
    fill_days(peer, values, blobs, DAYS)
}

/// As [`fill_window`], with a window of so many days.
pub fn fill_days(peer: &dyn Peer, values: &Values, blobs: bool, days: u32) -> Result<()> {
    let mut first = 0;
    for day in 0..days {
        peer.begin_day(day)?;
        let end = (u64::from(day) + 1) * values.count() / u64::from(days);
        fill_day(peer, values, blobs, first..end)?;
        first = end;
    }
    peer.sync()
}

/// Inserts some of the values, small ones in batches.
pub fn fill_day(peer: &dyn Peer, values: &Values, blobs: bool, numbers: Range<u64>) -> Result<()> {
    let numbers: Vec<u64> = numbers.collect();
    for some in numbers.chunks(BATCH as usize) {
        if blobs {
            some.iter().try_for_each(|n| peer.insert(&values.key(*n), values.value(*n)))?;
        } else {
            let record = |n: &u64| (values.key(*n), values.value(*n).to_vec());
            peer.insert_batch(&some.iter().map(record).collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

/// Reads values and compares all of them.
pub fn check(
    peer: &dyn Peer,
    values: &Values,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<()> {
    for number in numbers {
        let mut same = false;
        let found = peer.get(&values.key(number), &mut |bytes| {
            same = bytes == values.value(number);
        })?;
        if !found || !same {
            return Err(format!("value {number} is missing or another").into());
        }
    }
    Ok(())
}

/// An error if one of these keys can be read.
pub fn check_absent(peer: &dyn Peer, keys: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    for key in keys {
        if peer.get(&key, &mut |_| {})? {
            return Err("a key that should be absent is not".into());
        }
    }
    Ok(())
}

/// Waits until the disk has nothing left to do for what was written before.
pub fn let_disk_settle(dir: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}
