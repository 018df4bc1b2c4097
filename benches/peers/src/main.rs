//! ebbtide beside what one would use instead. README.md says how to run it and what is measured.

mod child;
mod data;
mod draw;
mod figures;
mod growth;
mod map;
mod measure;
mod options;
mod peer;
mod peers;
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../../common/report.rs"]
mod report;
mod requests;
mod results;
mod run;
mod scene;
mod table;
mod works;

use std::path::Path;
use std::process::ExitCode;

use peer::{Contestant, Result};
use scene::Scene;

const USAGE: &str = "usage: peers list
       peers run [--full] [--rounds N] [--work NAME,...] [--out FILE] [PEER...]
       peers growth [--full] [--rounds N] [--work NAME,...] [--out FILE]
       peers draw FILE DIRECTORY";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match command(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn command(args: &[&str]) -> Result<()> {
    match args {
        ["list"] => {
            list();
            Ok(())
        }
        ["run", options @ ..] => run::run(&run::Plan::parse(options)?),
        ["growth", options @ ..] => growth::run(&growth::Plan::parse(options)?),
        ["draw", results, dir] => draw::draw(Path::new(results), Path::new(dir)),
        ["child", work, peer, dir, profile, x] => {
            child::measure(work, peer, Path::new(dir), profile, x.parse()?)
        }
        ["fill", peer, dir, count] => {
            let contestant = peers::find(peer)?;
            let scene = Scene { dir: Path::new(dir).to_owned(), full: false, x: 0, contestant };
            works::open::fill(&scene, count.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

/// Says who can take part, and in what.
fn list() {
    for Contestant { name, remark, survives_crash, .. } in peers::all() {
        let crash = if survives_crash { "" } else { "; a crash may lose what was synced" };
        println!("{name}: {remark}{crash}");
    }
    for work in &works::ALL {
        println!("--work {}", work.name);
    }
    for growth in &works::growth::ALL {
        println!("growth --work {}", growth.work.name);
    }
}
