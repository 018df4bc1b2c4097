//! Layouts of the index, sketched and measured side by side: what a key costs in time and memory.
//!
//! `--quick` leaves out ten million keys; names of layouts choose among them; `sweep` tries how full
//! and how finely divided the tables of packed slots are best. Every measurement runs in a process
//! of its own, the layouts in turn, and the table shows medians.

// The first failure ends a benchmark.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod buckets;
mod doubling;
mod layout;
mod line;
mod map;
mod measure;
mod packed;
mod sweep;
mod table;

use std::process::Command;

use buckets::Buckets;
use doubling::Doubling;
use layout::Layout;
use line::{EightSlots, SevenSlots, SixSlots};
use map::Map;
use measure::{COLUMNS, measure};
use packed::Packed;
use table::Tuning;

const CHILD: &str = "--child";
const TUNED: Tuning = Tuning { shard_bits: 12, growth: 1200, max_load: 1000, nodes: 16 };
/// Every shard holds a table for each of thirty buckets.
const BUCKETS: Tuning = Tuning { shard_bits: 8, growth: 1250, max_load: 1000, nodes: 64 };

const LAYOUTS: &[(&str, &str)] = &[
    ("doubling", "16 B, 8 a line, doubling"),
    ("ten", "10 B, 6 a line"),
    ("nine", "73 bits, 7 a line"),
    ("eight", "8 B, 8 a line"),
    ("buckets", "10 B, table and filter a bucket"),
    ("map", "`HashMap`"),
];

fn new(name: &str, tuning: Tuning) -> Box<dyn Layout> {
    match name {
        "doubling" => Box::new(Doubling::new()),
        "ten" => Box::new(Packed::<SixSlots>::new(tuning)),
        "nine" => Box::new(Packed::<SevenSlots>::new(tuning)),
        "eight" => Box::new(Packed::<EightSlots>::new(tuning)),
        "buckets" => Box::new(Buckets::new(BUCKETS)),
        _ => Box::new(Map::new()),
    }
}

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == CHILD) {
        child(&args);
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    if args.iter().any(|arg| arg == "sweep") {
        sweep::run_all(if quick { 1_000_000 } else { 10_000_000 });
        return;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let sizes: &[(u64, usize)] = &[(100_000, 3), (1_000_000, 1), (10_000_000, 1)];
    println!("| keys | layout | {} | expected |", COLUMNS.join(" | "));
    println!("|---|---|{}---|", "---|".repeat(COLUMNS.len()));
    for (keys, rounds) in sizes.iter().filter(|(keys, _)| !quick || *keys < 10_000_000) {
        let chosen = LAYOUTS
            .iter()
            .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name));
        let chosen: Vec<_> = chosen.collect();
        let mut runs = vec![Vec::new(); chosen.len()];
        for _ in 0..*rounds {
            for (runs, (name, _)) in runs.iter_mut().zip(&chosen) {
                runs.push(run(name, *keys, TUNED));
            }
        }
        for (runs, (name, what)) in runs.iter().zip(&chosen) {
            let bits = new(name, TUNED).identity_bits();
            // Each of the pairs agrees in all bits once in so many times.
            let expected = (*keys as f64).powi(2) / 2.0 / 2_f64.powi(bits as i32);
            println!("| {keys} | {what} | {} | {expected:.1e} |", medians(runs).join(" | "));
        }
    }
}

fn medians(runs: &[Vec<f64>]) -> Vec<String> {
    let median = |column: usize| {
        let mut values: Vec<f64> = runs.iter().map(|run| run[column]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let short =
        |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    (0..COLUMNS.len()).map(|column| short(median(column))).collect()
}

/// Measures in a process of its own.
fn run(name: &str, keys: u64, tuning: Tuning) -> Vec<f64> {
    let Tuning { shard_bits, growth, max_load, nodes } = tuning;
    let numbers = [keys, shard_bits.into(), growth as u64, max_load as u64, nodes as u64];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(CHILD).arg(name).args(numbers.map(|number| number.to_string()));
    let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{name} at {keys}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|figure| figure.parse().unwrap()).collect()
}

fn child(args: &[String]) {
    let number = |at: usize| args[at].parse::<u64>().unwrap();
    let tuning = Tuning {
        shard_bits: number(3) as u32,
        growth: number(4) as usize,
        max_load: number(5) as usize,
        nodes: number(6) as usize,
    };
    let figures = measure(&|| new(&args[1], tuning), number(2));
    println!("{}", figures.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
}
