//! `ebbtide info`: what a store holds and how it is.

use std::path::PathBuf;

use ebbtide::{Store, StoreStats};
use serde_json::json;

use crate::Verdict;
use crate::args::StoreArg;
use crate::failure::Failure;
use crate::json::{path_text, paths};
use crate::output::Output;
use crate::store::open_to_look;
use crate::table::Table;
use crate::units::{size, span_ms};

pub(crate) fn run(args: &StoreArg, output: &mut Output) -> Result<Verdict, Failure> {
    let store = open_to_look(&args.store)?;
    let stats = store.stats();
    if output.is_json() {
        let report = store.recovery_report();
        output.json(&json!({
            "path": path_text(&args.store.path),
            "now": stats.now.to_string(),
            "clock_suspect_ms": stats.suspect_ms,
            "keyspaces": stats.keyspaces.len(),
            "logs": stats.logs.len(),
            "used_bytes": used_bytes(&stats),
            "torn_tails": paths(&report.torn_tails),
            "corrupt": paths(&report.corrupt_records),
            "unknown_versions": paths(&report.unknown_versions),
        }))?;
    } else {
        output.table(&describe(args, &store, &stats))?;
    }
    Ok(Verdict::Fine)
}

fn used_bytes(stats: &StoreStats) -> u64 {
    let keyspaces = stats.keyspaces.iter().map(|keyspace| keyspace.used_bytes);
    keyspaces.chain(stats.logs.iter().map(|log| log.used_bytes)).sum()
}

fn describe(args: &StoreArg, store: &Store, stats: &StoreStats) -> Table {
    let mut table = Table::pairs();
    table.pair("store", path_text(&args.store.path));
    table.pair("time", stats.now);
    let clock = match stats.suspect_ms {
        0 => "as expected".to_owned(),
        ahead_ms => format!("ahead by {}, not yet believed", span_ms(ahead_ms)),
    };
    table.pair("wall clock", clock);
    table.pair("keyspaces", stats.keyspaces.len());
    table.pair("logs", stats.logs.len());
    table.pair("on disk", size(used_bytes(stats)));
    let report = store.recovery_report();
    list(&mut table, "torn tail", &report.torn_tails);
    list(&mut table, "damaged", &report.corrupt_records);
    list(&mut table, "unknown version", &report.unknown_versions);
    table
}

fn list(table: &mut Table, name: &str, paths: &[PathBuf]) {
    for path in paths {
        table.pair(name, path_text(path));
    }
}
