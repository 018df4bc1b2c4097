//! A run: works in turn, and for each of them rounds in which all peers take their turn.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::child::{self, Taken};
use crate::options::Options;
use crate::peer::{Contestant, Result};
use crate::report::machine;
use crate::results::Results;
use crate::scene::let_disk_settle;
use crate::table;
use crate::works::{self, Work};

/// What is to be run.
pub struct Plan {
    full: bool,
    rounds: usize,
    works: Vec<&'static Work>,
    out: Option<PathBuf>,
    peers: Vec<Contestant>,
}

impl Plan {
    pub fn parse(words: &[&str]) -> Result<Self> {
        let options = Options::parse(words)?;
        let works = options.works(&works::ALL, |work| work.name)?;
        let rounds = options.rounds.unwrap_or(if options.full { 7 } else { 3 });
        let peers = child::chosen(&options.names)?;
        Ok(Self { full: options.full, rounds, works, out: options.out, peers })
    }
}

/// Runs it all, and prints the table. What is there after each work is in the file already.
pub fn run(plan: &Plan) -> Result<()> {
    let place = make_place()?;
    let mut results = Results::new(machine(&place));
    let (start, mut failures) = (Instant::now(), Vec::new());
    for work in &plan.works {
        run_work(plan, work, &place, &mut results, &mut failures)?;
        if let Some(out) = &plan.out {
            results.save(out)?;
        }
    }
    std::fs::remove_dir_all(&place)?;
    print!("{}", table::markdown(&results, plan.rounds));
    println!();
    for Contestant { name, remark, survives_crash, .. } in &plan.peers {
        let crash = if *survives_crash { "" } else { "; a crash may lose what was synced" };
        println!("- {name}: {remark}{crash}");
    }
    failures.iter().for_each(|failure| println!("- {failure}"));
    eprintln!("it took {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn run_work(
    plan: &Plan,
    work: &Work,
    place: &Path,
    results: &mut Results,
    failures: &mut Vec<String>,
) -> Result<()> {
    let mut names: Vec<&str> = plan.peers.iter().map(|peer| peer.name).collect();
    names.extend(work.beside.iter().map(|(name, _)| *name));
    for round in 0..plan.rounds {
        for turn in 0..names.len() {
            let peer = names[(turn + round) % names.len()];
            for (what, unit, value) in turn_of(work, peer, place, plan.full, 0, failures)? {
                results.push(&what, peer, &unit, value);
            }
        }
    }
    Ok(())
}

/// The directory of this run.
pub fn make_place() -> Result<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-data");
    std::fs::create_dir_all(&place)?;
    let place = place.join(format!("run-{}", std::process::id()));
    std::fs::create_dir(&place)?;
    Ok(place)
}

/// One peer's turn, in a fresh directory.
pub fn turn_of(
    work: &Work,
    peer: &str,
    place: &Path,
    full: bool,
    x: u64,
    failures: &mut Vec<String>,
) -> Result<Vec<Taken>> {
    let dir = place.join(peer);
    std::fs::create_dir(&dir)?;
    let start = Instant::now();
    let (taken, failure) = child::run(work, peer, &dir, full, x)?;
    let size = if x == 0 { String::new() } else { format!(" {x}") };
    eprintln!("{}{size} {peer}: {:.1} s", work.name, start.elapsed().as_secs_f64());
    if let Some(failure) = failure {
        eprintln!("{peer}: {failure}");
        failures.push(format!("{peer} failed in {}{size}: {failure}", work.name));
    }
    // The next one does not pay for what this one has left behind.
    std::fs::remove_dir_all(&dir)?;
    let_disk_settle(place)?;
    Ok(taken)
}
