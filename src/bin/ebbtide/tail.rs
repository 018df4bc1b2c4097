//! `ebbtide tail`: the last rows of a log, and those that come after.

use std::collections::{HashSet, VecDeque};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use ebbtide::{Log, LogRow, RowId, Timestamp};

use crate::Verdict;
use crate::args::TailArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::scan::{find_log, write_row};
use crate::store::{open_to_look, open_to_read};

/// How far back the last rows are looked for first.
const FIRST_REACH: Duration = Duration::from_secs(60);
/// How much farther each further look goes.
const REACH_FACTOR: u32 = 16;
/// How far a look goes at most before all rows are looked through.
const LAST_REACH: Duration = Duration::from_secs(30 * 86_400);
/// How far behind the newest row a new one may lie to be shown.
const OVERLAP: Duration = Duration::from_secs(60);
/// How often to look for new rows.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &TailArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let store = open_to_read(&args.store, output)?;
    let log = find_log(&store, &args.log)?;
    let rows = last_rows(&log, args.rows, store.now())?;
    for row in &rows {
        write_row(row, output)?;
    }
    if args.follow {
        output.flush()?;
        let mut seen = Seen::default();
        // What was there and not asked for is not new.
        seen.reach(last_rows(&log, 1, store.now())?.back().map(LogRow::time));
        for row in log.scan(seen.from..)? {
            seen.is_new(&row?);
        }
        drop((log, store));
        follow(args, seen, output)?;
    }
    Ok(Verdict::Fine)
}

/// The last rows by their time. Looks farther and farther back, so that a long log need not be read
/// for a few rows.
fn last_rows(log: &Log, count: usize, now: Timestamp) -> Result<VecDeque<LogRow>, Failure> {
    let mut reach = FIRST_REACH;
    loop {
        let from = if reach > LAST_REACH { Timestamp::default() } else { now - reach };
        let mut rows = VecDeque::new();
        for row in log.scan(from..)? {
            rows.push_back(row?);
            if rows.len() > count {
                rows.pop_front();
            }
        }
        if rows.len() == count || from == Timestamp::default() {
            return Ok(rows);
        }
        reach *= REACH_FACTOR;
    }
}

/// Which rows have been met.
#[derive(Default)]
struct Seen {
    /// Rows before this are not looked at any more.
    from: Timestamp,
    rows: HashSet<RowId>,
    newest: Timestamp,
}

impl Seen {
    /// Looks no farther back than the overlap from here on.
    fn reach(&mut self, newest: Option<Timestamp>) {
        self.newest = self.newest.max(newest.unwrap_or_default());
        self.from = self.newest - OVERLAP;
    }

    /// Notes a row; true if it had not been met.
    fn is_new(&mut self, row: &LogRow) -> bool {
        self.newest = self.newest.max(row.time());
        self.rows.insert(row.id())
    }
}

/// Shows rows as they come. A store opened to look at shows one moment, so it is opened anew.
fn follow(args: &TailArgs, mut seen: Seen, output: &mut Output) -> Result<(), Failure> {
    loop {
        wait(INTERVAL);
        let store = open_to_look(&args.store)?;
        let log = find_log(&store, &args.log)?;
        seen.reach(None);
        let mut met = HashSet::new();
        for row in log.scan(seen.from..)? {
            let row = row?;
            met.insert(row.id());
            if seen.is_new(&row) {
                write_row(&row, output)?;
            }
        }
        // What lies before the overlap by now need not be remembered.
        seen.rows = met;
        output.flush()?;
    }
}

fn wait(time: Duration) {
    let until = Instant::now() + time;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return;
        }
        park_timeout(rest);
    }
}
