//! `ebbtide buckets`: the buckets of keyspaces and logs, and when they go.

use ebbtide::{BucketStats, Timestamp};
use serde_json::json;

use crate::Verdict;
use crate::args::BucketsArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::store::open_to_read;
use crate::table::{Column, Table};
use crate::units::{left, millis, size};

const COLUMNS: [Column; 9] = [
    Column::Left("KIND"),
    Column::Left("NAME"),
    Column::Left("START"),
    Column::Left("DEADLINE"),
    Column::Right("LEFT"),
    Column::Right("SEGMENTS"),
    Column::Right("SIZE"),
    Column::Right("RECORDS"),
    Column::Right("LIVE"),
];

/// Buckets, and whose they are.
struct Owner {
    kind: &'static str,
    name: String,
    buckets: Vec<BucketStats>,
}

pub(crate) fn run(args: &BucketsArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let stats = open_to_read(&args.store, output)?.stats();
    let keyspaces = stats.keyspaces.into_iter().map(|keyspace| Owner {
        kind: "keyspace",
        name: keyspace.name,
        buckets: keyspace.buckets,
    });
    let logs = stats.logs.into_iter().map(|log| Owner {
        kind: "log",
        name: log.name,
        buckets: log.buckets,
    });
    let mut owners: Vec<Owner> = keyspaces.chain(logs).collect();
    if let Some(name) = &args.name {
        owners.retain(|owner| owner.name == *name);
        if owners.is_empty() {
            return Err(Failure::nothing(format!("there is no keyspace or log {name:?}")));
        }
    }
    if output.is_json() {
        list_json(&owners, stats.now, output)?;
    } else {
        output.table(&table(&owners, stats.now))?;
    }
    Ok(Verdict::Fine)
}

fn list_json(owners: &[Owner], now: Timestamp, output: &mut Output) -> Result<(), Failure> {
    for owner in owners {
        for bucket in &owner.buckets {
            output.json(&json!({
                "kind": owner.kind,
                "name": owner.name,
                "start": bucket.start.to_string(),
                "end": bucket.end.to_string(),
                "deadline": bucket.deadline.to_string(),
                "left_ms": millis(bucket.deadline.since(now)),
                "segments": bucket.segments,
                "bytes": bucket.bytes,
                "records": bucket.records,
                "live": bucket.live,
            }))?;
        }
    }
    Ok(())
}

fn table(owners: &[Owner], now: Timestamp) -> Table {
    let mut table = Table::new(&COLUMNS);
    for owner in owners {
        for bucket in &owner.buckets {
            table.row([
                owner.kind.to_owned(),
                owner.name.clone(),
                bucket.start.to_string(),
                bucket.deadline.to_string(),
                left(bucket.deadline, now),
                bucket.segments.to_string(),
                size(bucket.bytes),
                bucket.records.to_string(),
                bucket.live.to_string(),
            ]);
        }
    }
    table
}
