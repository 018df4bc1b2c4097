//! `ebbtide ledger`: what was forgotten and when, whether that record is whole, and whether it was in
//! time.

use std::time::Duration;

use ebbtide::{
    LedgerEntry, LedgerHead, OwnerProof, Problem, RetentionProof, RetentionVerdict, Timestamp,
};
use serde_json::{Value, json};

use crate::Verdict;
use crate::args::{LedgerArgs, LedgerCommand, Place, ProveArgs};
use crate::escape::hex;
use crate::failure::Failure;
use crate::json::path_text;
use crate::output::Output;
use crate::store::open_to_look;
use crate::table::{Column, Table};
use crate::units::span_ms;
use crate::verify::problem_line;

const COLUMNS: [Column; 7] = [
    Column::Left("NAME"),
    Column::Right("DUE"),
    Column::Right("DROPPED"),
    Column::Right("OPEN"),
    Column::Right("MISSING"),
    Column::Right("LATE"),
    Column::Right("WORST"),
];

pub(crate) fn run(args: &LedgerArgs, output: &mut Output) -> Result<Verdict, Failure> {
    match &args.command {
        LedgerCommand::Verify(args) => verify(&args.store, output),
        LedgerCommand::Show(args) => show(&args.store, output),
        LedgerCommand::Prove(args) => prove(args, output),
    }
}

fn verify(store: &Place, output: &mut Output) -> Result<Verdict, Failure> {
    let report = open_to_look(store)?.verify_ledger()?;
    if output.is_json() {
        let problem = |problem: &Problem| {
            let path = path_text(&problem.path);
            json!({ "path": path, "offset": problem.offset, "what": problem.what })
        };
        output.json(&json!({
            "files": report.files,
            "entries": report.entries,
            "head": report.head.map(head),
            "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        }))?;
    } else {
        for problem in &report.problems {
            output.line(&problem_line(&problem.path, problem.offset, problem.what))?;
        }
        if let Some(head) = report.head {
            output.line(&format!("head: {head}"))?;
        }
        let state = if report.problems.is_empty() { "whole" } else { "broken" };
        let (files, entries) = (report.files, report.entries);
        output.remark(&format!("the chain is {state}: {entries} entries in {files} files"))?;
    }
    Ok(if report.problems.is_empty() { Verdict::Fine } else { Verdict::Problems })
}

fn show(store: &Place, output: &mut Output) -> Result<Verdict, Failure> {
    for entry in open_to_look(store)?.ledger()? {
        if output.is_json() {
            output.json(&entry_json(&entry))?;
        } else {
            output.line(&entry.to_string())?;
        }
    }
    Ok(Verdict::Fine)
}

fn entry_json(entry: &LedgerEntry) -> Value {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let number = |number: Option<u64>| number.map(|number| format!("{number:016x}"));
    json!({
        "number": entry.number,
        "kind": entry.kind.name(),
        "text": entry.kind.to_string(),
        "at": entry.at.to_string(),
        "owner_id": number(entry.owner_id),
        "owner": entry.owner,
        "bucket_start": time(entry.bucket_start),
        "deadline": time(entry.deadline),
        "instance": number(entry.instance),
        "records": entry.records,
        "bytes": entry.bytes,
        "hash": hex(&entry.hash),
    })
}

fn head(head: LedgerHead) -> Value {
    json!({ "number": head.number, "hash": hex(&head.hash) })
}

fn prove(args: &ProveArgs, output: &mut Output) -> Result<Verdict, Failure> {
    let store = open_to_look(&args.store)?;
    let now = store.now();
    let from = args.from.map_or(Timestamp::default(), |from| from.resolve(now));
    let to = args.to.map_or(now + Duration::from_millis(1), |to| to.resolve(now));
    if from > to {
        return Err(Failure::usage(format!("the range ends at {to}, before it begins at {from}")));
    }
    let proof = store.prove_retention(from..to)?;
    let (verdict, worst_late_ms, buckets) = match proof.verdict {
        RetentionVerdict::Kept => ("kept", 0, 0),
        RetentionVerdict::Late { worst_late_ms, buckets } => ("late", worst_late_ms, buckets),
        RetentionVerdict::Open { worst_late_ms, buckets } => ("open", worst_late_ms, buckets),
        _ => ("broken", 0, 0),
    };
    if output.is_json() {
        output.json(&json!({
            "verdict": verdict,
            "at": proof.at.to_string(),
            "worst_late_ms": worst_late_ms,
            "buckets": buckets,
            "covers_from": proof.covers_from.map(|from| from.to_string()),
            "head": head(proof.head),
            "owners": proof.owners.iter().map(owner_json).collect::<Vec<_>>(),
        }))?;
    } else {
        output.table(&table(&proof))?;
        output.line(&sentence(&proof))?;
    }
    Ok(if proof.verdict == RetentionVerdict::Kept { Verdict::Fine } else { Verdict::Problems })
}

fn owner_name(owner: &OwnerProof) -> String {
    owner.name.clone().unwrap_or_else(|| format!("{:016x}", owner.owner_id))
}

fn owner_json(owner: &OwnerProof) -> Value {
    json!({
        "owner_id": format!("{:016x}", owner.owner_id),
        "name": owner.name,
        "due": owner.due,
        "dropped": owner.dropped,
        "open": owner.open,
        "missing": owner.missing,
        "late": owner.late,
        "worst_late_ms": owner.worst_late_ms,
    })
}

fn table(proof: &RetentionProof) -> Table {
    let mut table = Table::new(&COLUMNS);
    for owner in &proof.owners {
        table.row([
            owner_name(owner),
            owner.due.to_string(),
            owner.dropped.to_string(),
            owner.open.to_string(),
            owner.missing.to_string(),
            owner.late.to_string(),
            span_ms(owner.worst_late_ms),
        ]);
    }
    table
}

fn sentence(proof: &RetentionProof) -> String {
    match proof.verdict {
        RetentionVerdict::Kept => "kept: all that was due has left in time".to_owned(),
        RetentionVerdict::Late { worst_late_ms, buckets } => {
            format!("late: {buckets} left late, by up to {}", span_ms(worst_late_ms))
        }
        RetentionVerdict::Open { worst_late_ms, buckets } => {
            format!("open: {buckets} due and still there, for up to {}", span_ms(worst_late_ms))
        }
        _ => "broken: the chain is broken, so nothing is proved; see `ledger verify`".to_owned(),
    }
}
