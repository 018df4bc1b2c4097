//! Reading the tombstone log as it was left: what is in it, what is missing, and where it ends.

use std::io;
use std::path::{Path, PathBuf};

use super::position::Position;
use super::regions::OpenRegions;
use crate::disk::{Disk, EntryKind};
use crate::error::{Error, Result};
use crate::format::state::MAX_LOG_NUMBER;
use crate::format::tombstone::{
    self, ENTRY_LEN, MAX_FILE_LEN, REGION_HEADER_LEN, Scan, Tombstone, TombstoneHeader, is_blank,
};
use crate::format::{Unreadable, VERSION};
use crate::sequence::generation_of;

/// What ties a tombstone log to its store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogIdentity {
    pub(crate) store_id: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) check_value: u64,
}

/// A log file as found at open.
#[derive(Debug)]
pub(crate) struct FoundLog {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) header: Option<TombstoneHeader>,
    pub(super) scan: Scan,
}

/// All log files as found at open.
#[derive(Debug, Default)]
pub(crate) struct FoundLogs {
    pub(crate) logs: Vec<FoundLog>,
    /// True if an acknowledged tombstone may be among what cannot be read.
    pub(crate) lost: bool,
    /// What is wrong, and where.
    pub(crate) damaged: Vec<(PathBuf, &'static str)>,
    /// Files with entries that were never acknowledged.
    pub(crate) torn: Vec<PathBuf>,
    /// Files that had been forgotten, but were not removed, and such as are no logs.
    pub(crate) stale: Vec<PathBuf>,
    /// True if some are no logs though nothing tells how far these go.
    has_strays: bool,
    /// The highest generation that wrote one of them, or an entry in one.
    pub(crate) generation: u64,
}

impl FoundLog {
    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn max_floor(&self) -> u64 {
        self.scan.tombstones.iter().map(|tombstone| tombstone.floor).max().unwrap_or(0)
    }

    /// The denials that can be read in it.
    pub(super) fn denials(&self) -> Vec<Tombstone> {
        super::denials(self.scan.tombstones.iter()).collect()
    }

    /// Offsets in the first region of entries that the two regions do not agree about. One that is in
    /// one of them only, and that no later entry calls durable, is just being written.
    pub(crate) fn differences(&self, disk: &dyn Disk) -> io::Result<Vec<u64>> {
        let regions = OpenRegions::open(disk, &self.path)?;
        let differs = |at: &usize| {
            let is_under_way = || (0..2).any(|region| is_blank(&regions, region, *at));
            regions.differ(*at) && (*at < self.scan.mark || !is_under_way())
        };
        let differing = (0..regions.count()).filter(differs);
        Ok(differing.map(|at| REGION_HEADER_LEN + (at * ENTRY_LEN) as u64).collect())
    }
}

impl FoundLogs {
    /// All tombstones that can be read.
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = &Tombstone> {
        self.logs.iter().flat_map(|log| &log.scan.tombstones)
    }

    /// The first and the last number, if there are any. Strays count as one that is missing behind them: an
    /// opening that ends before it has made up for the loss must not be the last that knows of it.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let range = self.logs.first().zip(self.logs.last()).map(|(a, b)| (a.number, b.number));
        if !self.has_strays {
            return range;
        }
        let (first, last) = range.unwrap_or((1, 0));
        Some((first, last + 1))
    }

    /// An error if an acknowledged tombstone may be among what cannot be read.
    pub(crate) fn check_whole(&self) -> Result<()> {
        match self.damaged.first().filter(|_| self.lost) {
            Some((path, what)) => Err(Error::Corrupt { path: path.clone(), offset: 0, what }),
            None => Ok(()),
        }
    }

    /// How far they could be read.
    pub(crate) fn position(&self) -> Position {
        Position::behind(self.logs.last())
    }
}

/// The name of a log file.
pub(crate) fn log_name(number: u64) -> String {
    format!("{number:010}.log")
}

pub(crate) fn parse_log_name(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (log_name(number) == name && number <= MAX_LOG_NUMBER).then_some(number)
}

/// Keeps, of numbers in order, those up to the newest and those that follow it one by one: files are begun
/// one after the other, so a name far ahead is none of them.
pub(crate) fn retain_following(numbers: &mut Vec<u64>, newest: u64) {
    let mut last = newest;
    numbers.retain(|number| {
        let follows = *number <= newest || *number == last.saturating_add(1);
        if follows {
            last = last.max(*number);
        }
        follows
    });
}

/// How many of these numbers, in order, are those of files, where nothing tells the newest: up to the last
/// of which it is known, and those that follow it one by one. Others may be anything, up to the highest
/// number of all, and the next file is to go on from the last.
pub(crate) fn count_without_strays(numbers: &[u64], is_known: impl Fn(usize) -> bool) -> usize {
    let known = (0..numbers.len()).rev().find(|at| is_known(*at)).map_or(0, |at| at + 1);
    // The first of all has the number 1; below it nothing is in the way.
    let first = numbers.first().map_or(1, |number| *number.min(&1));
    let next = known.checked_sub(1).and_then(|at| numbers.get(at)).map_or(first, |last| last + 1);
    let rest = numbers.iter().skip(known);
    known + rest.zip(next..).take_while(|(number, next)| *number == next).count()
}

/// Reads all log files. `expected` are the first and last number that must be there.
pub(crate) fn read_logs(
    disk: &dyn Disk,
    dir: &Path,
    expected: Option<(u64, u64)>,
    identity: LogIdentity,
) -> Result<FoundLogs> {
    let entries = disk.read_dir(dir).map_err(|e| Error::io("list", dir, e))?;
    let files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
    let mut numbers: Vec<u64> = files.filter_map(|entry| parse_log_name(&entry.name)).collect();
    numbers.sort_unstable();
    let mut found = FoundLogs::default();
    if let Some((oldest, newest)) = expected {
        let stale = numbers.iter().filter(|number| **number < oldest);
        found.stale = stale.map(|number| dir.join(log_name(*number))).collect();
        numbers.retain(|number| *number >= oldest);
        retain_following(&mut numbers, newest);
        let present = numbers.iter().filter(|number| **number <= newest).count() as u64;
        if present < newest.saturating_add(1).saturating_sub(oldest) {
            found.lost = true;
            found.damaged.push((dir.to_owned(), "a tombstone log is missing"));
        }
    } else if numbers.windows(2).any(|pair| pair.first().map(|n| n + 1) != pair.last().copied()) {
        found.lost = true;
        found.damaged.push((dir.to_owned(), "a tombstone log is missing"));
    }
    for number in numbers {
        read_log(disk, dir, number, identity, &mut found)?;
    }
    if expected.is_none() {
        let numbers: Vec<u64> = found.logs.iter().map(|log| log.number).collect();
        let is_known = |at: usize| found.logs.get(at).is_some_and(|log| log.header.is_some());
        let count = count_without_strays(&numbers, is_known);
        found.has_strays = count < numbers.len();
        found.stale.extend(found.logs.drain(count..).map(|log| log.path));
    }
    Ok(found)
}

/// Reads all log files beside a process that may write. `named` are the first and last number that STATE
/// names.
pub(crate) fn read_logs_beside(
    disk: &dyn Disk,
    dir: &Path,
    identity: LogIdentity,
    mut named: impl FnMut() -> Result<Option<(u64, u64)>>,
) -> Result<FoundLogs> {
    let mut expected = named()?;
    loop {
        let found = read_logs(disk, dir, expected, identity)?;
        if found.damaged.is_empty() {
            return Ok(found);
        }
        // The process that writes may have forgotten logs meanwhile: then STATE has said so before.
        let before = std::mem::replace(&mut expected, named()?);
        if before == expected {
            return Ok(found);
        }
    }
}

fn read_log(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    identity: LogIdentity,
    found: &mut FoundLogs,
) -> Result<()> {
    let path = dir.join(log_name(number));
    let regions = match OpenRegions::open(disk, &path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened.map_err(|e| Error::io("open", &path, e))?),
    };
    let Some(regions) = regions.filter(|regions| regions.len <= MAX_FILE_LEN) else {
        found.lost = true;
        found.damaged.push((path, "a tombstone log that cannot be read"));
        return Ok(());
    };
    let mut header = None;
    for region in 0..2 {
        match TombstoneHeader::decode(&regions.head(region)) {
            Ok(read) => header = header.or(Some(read)),
            Err(Unreadable::Version(version)) => {
                return Err(Error::UnknownVersion { path, found: version, known: VERSION });
            }
            Err(Unreadable::Damaged(_)) => {}
        }
    }
    let ours = header.filter(|header| {
        header.store_id == identity.store_id
            && header.number == number
            && header.check_value == identity.check_value
    });
    let scan = match ours {
        Some(header) => tombstone::scan(&header.seed(), &regions, regions.count()),
        None => Scan::default(),
    };
    let what = match ours {
        None => Some("a tombstone log of another store, or without a readable header"),
        Some(header) if header.file_len != regions.len => Some("a tombstone log cut short"),
        Some(_) if regions.both_failed() => Some("a tombstone log that cannot be read"),
        Some(_) if scan.lost_acknowledged() => Some("tombstones that cannot be read"),
        Some(_) => None,
    };
    if let Some(what) = what {
        found.lost = true;
        found.damaged.push((path.clone(), what));
    } else if !scan.holes.is_empty() {
        found.torn.push(path.clone());
    }
    let floors = scan.tombstones.iter().map(|tombstone| generation_of(tombstone.floor));
    let newest = floors.chain(ours.map(|header| header.generation)).max();
    found.generation = found.generation.max(newest.unwrap_or(0));
    found.logs.push(FoundLog { number, path, header: ours, scan });
    Ok(())
}
