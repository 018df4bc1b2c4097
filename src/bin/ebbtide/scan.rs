//! `ebbtide scan`: the rows of a log in a range of time.

use ebbtide::{Log, LogRow, Store, Timestamp};

use crate::Verdict;
use crate::args::ScanArgs;
use crate::escape::escape;
use crate::failure::Failure;
use crate::json;
use crate::output::Output;
use crate::store::open_to_read;

pub(crate) fn run(args: &ScanArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let store = open_to_read(&args.store, output)?;
    let log = find_log(&store, &args.log)?;
    let now = store.now();
    let from = args.from.map_or(Timestamp::default(), |from| from.resolve(now));
    let to = args.to.map_or(Timestamp::MAX, |to| to.resolve(now));
    if from > to {
        return Err(Failure::usage(format!("the range ends at {to}, before it begins at {from}")));
    }
    for row in log.scan(from..to)?.take(args.limit.unwrap_or(usize::MAX)) {
        write_row(&row?, output)?;
    }
    Ok(Verdict::Fine)
}

/// The log of this name; says so if it is a keyspace.
pub(crate) fn find_log(store: &Store, name: &str) -> Result<Log, Failure> {
    if store.keyspaces().iter().any(|keyspace| keyspace == name)
        && !store.logs().iter().any(|log| log == name)
    {
        return Err(Failure::nothing(format!("{name:?} is a keyspace, and has keys: use `ls`")));
    }
    Ok(store.existing_log(name)?)
}

/// Writes one row: when, about whom, and what.
pub(crate) fn write_row(row: &LogRow, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json::row(row));
    }
    let nobody = || "-".repeat(32);
    let subject = row.subject().map_or_else(nobody, |subject| subject.to_string());
    output.line(&format!("{}  {subject}  {}", row.time(), escape(row.payload())))
}
