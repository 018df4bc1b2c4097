//! How costs grow: the engine and the baseline at growing sizes.

use std::path::PathBuf;
use std::time::Instant;

use crate::options::Options;
use crate::peer::Result;
use crate::report::machine;
use crate::results::{Results, Row, in_order};
use crate::run::{make_place, turn_of};
use crate::table::short;
use crate::works::growth::{ALL, Growth};

/// What is to be run.
pub struct Plan {
    full: bool,
    rounds: usize,
    growths: Vec<&'static Growth>,
    out: Option<PathBuf>,
}

impl Plan {
    pub fn parse(words: &[&str]) -> Result<Self> {
        let options = Options::parse(words)?;
        if let [name, ..] = options.names.as_slice() {
            return Err(format!("{name}: growth is measured with ebbtide and the baseline").into());
        }
        let growths = options.works(&ALL, |growth| growth.work.name)?;
        let rounds = options.rounds.unwrap_or(if options.full { 3 } else { 1 });
        Ok(Self { full: options.full, rounds, growths, out: options.out })
    }
}

/// Runs it all, and prints the table. What is there after each round is in the file already.
pub fn run(plan: &Plan) -> Result<()> {
    let place = make_place()?;
    let mut results = Results::new(machine(&place));
    let (start, mut failures) = (Instant::now(), Vec::new());
    for growth in &plan.growths {
        for round in 0..plan.rounds {
            for &x in growth.sizes(plan.full) {
                for turn in 0..growth.peers.len() {
                    let peer = growth.peers[(turn + round) % growth.peers.len()];
                    let taken = turn_of(&growth.work, peer, &place, plan.full, x, &mut failures)?;
                    for (what, unit, value) in taken {
                        results.push_at(x as f64, &what, peer, &unit, value);
                    }
                }
            }
            if let Some(out) = &plan.out {
                results.save(out)?;
            }
        }
    }
    std::fs::remove_dir_all(&place)?;
    print!("{}", markdown(&results, plan.rounds));
    failures.iter().for_each(|failure| println!("- {failure}"));
    eprintln!("it took {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// A line for each work and size, with the medians of both.
fn markdown(results: &Results, rounds: usize) -> String {
    let rows = results.of("growth");
    let mut text = format!("{}; median of {rounds} rounds\n\n", results.machine);
    text += "| work | x | ebbtide | baseline |\n|---|---|---|---|\n";
    for work in in_order(rows.iter().map(|row| row.work.as_str())) {
        let of_work: Vec<&&Row> = rows.iter().filter(|row| row.work == work).collect();
        let mut xs: Vec<f64> = of_work.iter().filter_map(|row| row.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        for x in xs {
            let cell = |peer: &str| {
                let row = of_work.iter().find(|row| row.peer == peer && row.x == Some(x));
                row.map_or("-".to_owned(), |row| short(row.median()))
            };
            let unit = &of_work[0].unit;
            let (ours, theirs) = (cell("ebbtide"), cell("baseline"));
            text += &format!("| {work}, {unit} | {x} | {ours} | {theirs} |\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_has_a_line_of_its_own() {
        let mut results = Results::new(String::new());
        for (x, peer, value) in
            [(1e6, "ebbtide", 3.0), (1e5, "ebbtide", 2.0), (1e5, "baseline", 1.0)]
        {
            results.push_at(x, "get", peer, "ns", value);
        }
        let text = markdown(&results, 1);
        let lines = "| get, ns | 100000 | 2.00 | 1.00 |\n| get, ns | 1000000 | 3.00 | - |\n";
        assert!(text.ends_with(lines), "{text}");
    }
}
