//! Instructions an operation, counted by callgrind and compared with those in `docs/performance.md`.
//! Fails if one has grown by more than 5 %. `--write` writes the table there, and names of operations,
//! such as `miss`, choose among them.
//!
//! Where it cannot count it says so and succeeds. What a compiler other than the table's has made is
//! counted and not judged.

// The first failure ends a benchmark.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod callgrind;
#[path = "../common/mod.rs"]
mod common;
mod operations;
mod table;

use std::process::ExitCode;

use operations::{OPERATIONS, Operation};
use table::Table;

/// By how much a count may grow or fall before something is said.
const SLACK: f64 = 0.05;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [mode, name] = args.as_slice()
        && mode == callgrind::COUNT
    {
        let operation = OPERATIONS.iter().find(|operation| operation.name == name).unwrap();
        (operation.run)(operation.times);
        return ExitCode::SUCCESS;
    }
    let setting = match callgrind::setting() {
        Ok(setting) => setting,
        Err(why) => {
            println!("!! SKIPPED: instructions are not counted: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let committed = Table::read();
    let mut counted = Table::new(&setting);
    println!("| operation | instructions | in the table |\n|---|---|---|");
    for Operation { name, what, times, .. } in OPERATIONS {
        let before = committed.count(what);
        if wanted.is_empty() || wanted.contains(&&(*name).to_owned()) {
            let count = callgrind::count(name).div_ceil(*times);
            println!("| {what} | {count} | {} |", verdict(count, before));
            counted.push(what, count);
        } else if let Some(before) = before {
            counted.push(what, before);
        }
    }
    if args.iter().any(|arg| arg == "--write") {
        counted.write();
        return ExitCode::SUCCESS;
    }
    if !committed.setting().is_empty() && committed.setting() != setting {
        println!("\n!! SKIPPED: nothing is compared: the table's counts are from");
        println!("   {}\nand these from\n   {setting}", committed.setting());
        return ExitCode::SUCCESS;
    }
    judge(&counted, &committed)
}

fn change(count: u64, before: u64) -> f64 {
    count as f64 / before as f64 - 1.0
}

fn verdict(count: u64, before: Option<u64>) -> String {
    match before {
        Some(before) => format!("{before} ({:+.1} %)", 100.0 * change(count, before)),
        None => "missing".to_owned(),
    }
}

/// Says what has changed; a failure if something has grown, or was never written down.
fn judge(counted: &Table, committed: &Table) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (what, count) in counted.rows() {
        match committed.count(what).map(|before| change(*count, before)) {
            None => {
                println!("\n{what}: not in the table; `-- --write` adds it");
                code = ExitCode::FAILURE;
            }
            Some(by) if by > SLACK => {
                println!("\n{what}: takes {:.1} % more instructions", 100.0 * by);
                code = ExitCode::FAILURE;
            }
            Some(by) if by < -SLACK => {
                let by = -100.0 * by;
                println!("\n{what}: takes {by:.1} % fewer instructions; `-- --write` keeps that");
            }
            Some(_) => {}
        }
    }
    code
}
