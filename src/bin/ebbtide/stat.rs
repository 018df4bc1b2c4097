//! `ebbtide stat`: what is known of a key.

use ebbtide::{Stat, Store, Timestamp};

use crate::Verdict;
use crate::args::KeyArgs;
use crate::escape::escape;
use crate::failure::Failure;
use crate::output::Output;
use crate::store::open_to_read;
use crate::table::Table;
use crate::units::{left, size, span};
use crate::{json, key};

pub(crate) fn run(args: &KeyArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let key = key::read(&args.key, args.hex_key)?;
    let store = open_to_read(&args.store, output)?;
    let keyspace = store.existing_keyspace(&args.keyspace)?;
    let Some(stat) = keyspace.stat(&key)? else { return Err(missing(&store, args, &key)) };
    if output.is_json() {
        output.json(&json::stat(&args.keyspace, &key, &stat, store.now()))?;
    } else {
        output.table(&describe(&key, &stat, store.now()))?;
    }
    Ok(Verdict::Fine)
}

/// Says that a key has no value, or that damage is in the way of it.
pub(crate) fn missing(store: &Store, args: &KeyArgs, key: &[u8]) -> Failure {
    let (keyspace, key) = (&args.keyspace, escape(key));
    match store.problems().first() {
        Some(problem) => Failure::damaged(format!(
            "the record of {key} in {keyspace} is damaged: {} at offset {}: {}",
            problem.path.display(),
            problem.offset,
            problem.what
        )),
        None => Failure::nothing(format!("{keyspace} has no value for {key}")),
    }
}

fn describe(key: &[u8], stat: &Stat, now: Timestamp) -> Table {
    let mut table = Table::pairs();
    let (written_at, gone_at) = (stat.written_at(), stat.gone_at());
    table.pair("key", escape(key));
    let len = stat.value_len();
    table.pair("size", if len < 1024 { size(len) } else { format!("{} ({len} bytes)", size(len)) });
    table.pair("hash", format!("{:032x}", stat.value_hash()));
    let metadata = escape(stat.metadata());
    table.pair("metadata", if metadata.is_empty() { "none" } else { &metadata });
    table.pair("tags", stat.tag_count());
    table.pair("sequence", stat.sequence());
    table.pair("written at", format!("{written_at} ({} ago)", span(now.since(written_at))));
    table.pair("gone at", format!("{gone_at} ({} left)", left(gone_at, now)));
    table
}
