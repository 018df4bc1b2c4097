//! `ebbtide ls`: the keyspaces and logs of a store, or the keys of a keyspace.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ebbtide::{Entry, Keyspace, KeyspaceStats, LogStats, Store, Timestamp};
use serde_json::json;

use crate::Verdict;
use crate::args::LsArgs;
use crate::escape::escape;
use crate::failure::Failure;
use crate::json;
use crate::output::Output;
use crate::progress::Progress;
use crate::store::open_to_read;
use crate::table::{Column, Table};
use crate::units::{left, size, span, span_ms};

const OWNERS: [Column; 7] = [
    Column::Left("KIND"),
    Column::Left("NAME"),
    Column::Right("WINDOW"),
    Column::Right("BUCKETS"),
    Column::Right("KEYS"),
    Column::Right("SIZE"),
    Column::Right("CAPACITY"),
];

const KEYS: [Column; 5] = [
    Column::Right("SIZE"),
    Column::Right("AGE"),
    Column::Right("LEFT"),
    Column::Left("GONE AT"),
    Column::Left("KEY"),
];

pub(crate) fn run(args: &LsArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let store = open_to_read(&args.store, output)?;
    match &args.keyspace {
        None => list_owners(&store, output)?,
        Some(name) => {
            if !store.keyspaces().contains(name) && store.logs().contains(name) {
                let text = format!("{name:?} is a log, and has rows: use `tail` or `scan`");
                return Err(Failure::nothing(text));
            }
            let keyspace = store.existing_keyspace(name)?;
            let entries = collect(&keyspace, args, output)?;
            list_keys(name, &entries, store.now(), output)?;
        }
    }
    Ok(Verdict::Fine)
}

fn list_owners(store: &Store, output: &mut Output) -> Result<(), Failure> {
    let stats = store.stats();
    if output.is_json() {
        stats.keyspaces.iter().try_for_each(|keyspace| output.json(&keyspace_json(keyspace)))?;
        return stats.logs.iter().try_for_each(|log| output.json(&log_json(log)));
    }
    let mut table = Table::new(&OWNERS);
    for keyspace in &stats.keyspaces {
        table.row([
            "keyspace".to_owned(),
            keyspace.name.clone(),
            span_ms(keyspace.window_ms),
            keyspace.buckets.len().to_string(),
            keyspace.keys.to_string(),
            size(keyspace.used_bytes),
            keyspace.capacity_bytes.map_or_else(|| "-".to_owned(), size),
        ]);
    }
    for log in &stats.logs {
        table.row([
            "log".to_owned(),
            log.name.clone(),
            span_ms(log.window_ms),
            log.buckets.len().to_string(),
            "-".to_owned(),
            size(log.used_bytes),
            "-".to_owned(),
        ]);
    }
    output.table(&table)
}

fn keyspace_json(keyspace: &KeyspaceStats) -> serde_json::Value {
    json!({
        "kind": "keyspace",
        "name": keyspace.name,
        "window_ms": keyspace.window_ms,
        "width_ms": keyspace.width_ms,
        "capacity_bytes": keyspace.capacity_bytes,
        "used_bytes": keyspace.used_bytes,
        "keys": keyspace.keys,
        "buckets": keyspace.buckets.len(),
    })
}

fn log_json(log: &LogStats) -> serde_json::Value {
    json!({
        "kind": "log",
        "name": log.name,
        "window_ms": log.window_ms,
        "width_ms": log.width_ms,
        "capacity_bytes": null,
        "used_bytes": log.used_bytes,
        "keys": null,
        "buckets": log.buckets.len(),
    })
}

/// The records asked for, by their keys. With a limit, never more than that are held at a time.
fn collect(
    keyspace: &Keyspace,
    args: &LsArgs,
    output: &Output,
) -> Result<BTreeMap<Vec<u8>, Entry>, Failure> {
    let prefix = args.prefix.as_deref().unwrap_or(OsStr::new("")).as_bytes();
    let limit = args.limit.unwrap_or(usize::MAX);
    let progress = Progress::spinner(output, "keys");
    let mut entries = BTreeMap::new();
    for entry in keyspace {
        let entry = entry?;
        progress.step();
        if entry.key().starts_with(prefix) {
            entries.insert(entry.key().to_vec(), entry);
        }
        if entries.len() > limit {
            entries.pop_last();
        }
    }
    Ok(entries)
}

fn list_keys(
    name: &str,
    entries: &BTreeMap<Vec<u8>, Entry>,
    now: Timestamp,
    output: &mut Output,
) -> Result<(), Failure> {
    if output.is_json() {
        for (key, entry) in entries {
            output.json(&json::stat(name, key, entry.stat(), now))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&KEYS);
    for (key, entry) in entries {
        let stat = entry.stat();
        table.row([
            size(stat.value_len()),
            span(now.since(stat.written_at())),
            left(stat.gone_at(), now),
            stat.gone_at().to_string(),
            escape(key),
        ]);
    }
    output.table(&table)
}
