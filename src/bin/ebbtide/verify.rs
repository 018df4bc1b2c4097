//! `ebbtide verify`: everything that is wrong with a store.

use std::path::Path;

use ebbtide::{Problem, Store, VerifyReport};
use serde_json::json;

use crate::Verdict;
use crate::args::StoreArg;
use crate::failure::Failure;
use crate::json::{path_text, paths};
use crate::output::Output;
use crate::progress::Progress;
use crate::store::open_to_look;
use crate::units::size;

pub(crate) fn run(args: &StoreArg, output: &mut Output) -> Result<Verdict, Failure> {
    let store = open_to_look(&args.store)?;
    let report = walk(&store, output)?;
    if output.is_json() {
        tell_json(&store, &report, output)?;
    } else {
        tell_text(&store, &report, output)?;
    }
    Ok(if report.problems.is_empty() { Verdict::Fine } else { Verdict::Problems })
}

fn walk(store: &Store, output: &Output) -> Result<VerifyReport, Failure> {
    let stats = store.stats();
    let keyspaces = stats.keyspaces.iter().flat_map(|keyspace| &keyspace.buckets);
    let buckets = keyspaces.chain(stats.logs.iter().flat_map(|log| &log.buckets));
    let progress = Progress::bar(output, "segments", buckets.map(|bucket| bucket.segments).sum());
    // A file is told of before it is read, so it counts when the next one is.
    let mut is_first = true;
    let report = store.verify_with(|_, _| {
        if !std::mem::take(&mut is_first) {
            progress.step();
        }
    })?;
    Ok(report)
}

fn tell_json(store: &Store, report: &VerifyReport, output: &mut Output) -> Result<(), Failure> {
    let problem = |problem: &Problem| {
        let path = path_text(&problem.path);
        json!({ "path": path, "offset": problem.offset, "what": problem.what })
    };
    output.json(&json!({
        "files": report.files,
        "records": report.records,
        "bytes": report.bytes,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "problems_left_out": report.problems_left_out,
        "torn_tails": paths(&store.recovery_report().torn_tails),
    }))
}

fn tell_text(store: &Store, report: &VerifyReport, output: &mut Output) -> Result<(), Failure> {
    for problem in &report.problems {
        output.line(&problem_line(&problem.path, problem.offset, problem.what))?;
    }
    if report.problems_left_out > 0 {
        output.remark(&format!("and {} more", report.problems_left_out))?;
    }
    for path in &store.recovery_report().torn_tails {
        output.remark(&format!("{}: torn tail, no problem", path_text(path)))?;
    }
    let problems = match report.problems.len() as u64 + report.problems_left_out {
        0 => "no problems".to_owned(),
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    let (files, records, bytes) = (report.files, report.records, size(report.bytes));
    output.remark(&format!("{problems} in {files} files, {records} records, {bytes}"))
}

/// How a problem is shown.
pub(crate) fn problem_line(path: &Path, offset: u64, what: &str) -> String {
    format!("{}: offset {offset}: {what}", path_text(path))
}
