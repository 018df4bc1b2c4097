//! One work for one peer in a process of its own, so that neither its memory nor its threads are
//! there when the next one is measured. What it has found out comes back as a line of JSON.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::figures::Figures;
use crate::peer::{Contestant, Result, Unsupported};
use crate::peers;
use crate::scene::Scene;
use crate::works::{self, Work};

/// Who takes longer does not take part.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// What the line with the figures begins with; libraries may print things of their own.
const MARK: &str = "figures: ";

/// A figure as it came back: work, unit and value.
pub type Taken = (String, String, f64);

/// In the child: measures, and prints what came out.
pub fn measure(work: &str, peer: &str, dir: &Path, profile: &str, x: u64) -> Result<()> {
    let work = works::find(work).ok_or("no such work")?;
    let beside = work.beside.iter().find(|(name, _)| *name == peer);
    // What is no peer opens no store.
    let contestant = if beside.is_some() { peers::all()[0] } else { peers::find(peer)? };
    let scene = Scene { dir: dir.to_owned(), full: profile == "full", x, contestant };
    let run = beside.map_or(work.run, |(_, run)| *run);
    let mut figures = Figures::default();
    let failure = match run(&scene, &mut figures) {
        Err(failure) if !failure.is::<Unsupported>() => Some(failure.to_string()),
        _ => None,
    };
    let taken = figures.taken.iter().map(|(work, unit, value)| json!([work, unit.name(), value]));
    println!("{MARK}{}", json!({ "taken": taken.collect::<Vec<_>>(), "failure": failure }));
    Ok(())
}

/// In the parent: lets a child measure, and gives what it has found out before it failed, if it did.
pub fn run(
    work: &Work,
    peer: &str,
    dir: &Path,
    full: bool,
    x: u64,
) -> Result<(Vec<Taken>, Option<String>)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child", work.name, peer])
        .arg(dir)
        .arg(if full { "full" } else { "quick" })
        .arg(x.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let end = Instant::now() + PATIENCE;
    let mut failure = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            failure = Some("it took too long".to_owned());
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = reader.join().map_err(|_| "nobody read what the child said")??;
    let Some(line) = text.lines().rev().find_map(|line| line.strip_prefix(MARK)) else {
        return Ok((Vec::new(), failure.or(Some(format!("it ended with {status}")))));
    };
    let said: Json = serde_json::from_str(line)?;
    let taken = said["taken"].as_array().into_iter().flatten().filter_map(figure).collect();
    Ok((taken, failure.or(said["failure"].as_str().map(str::to_owned))))
}

fn figure(taken: &Json) -> Option<Taken> {
    let text = |at: usize| Some(taken.get(at)?.as_str()?.to_owned());
    Some((text(0)?, text(1)?, taken.get(2)?.as_f64()?))
}

/// Those that were named, in the order of the table; all if none was.
pub fn chosen(names: &[&str]) -> Result<Vec<Contestant>> {
    for name in names {
        peers::find(name)?;
    }
    let is_chosen = |c: &Contestant| names.is_empty() || names.contains(&c.name);
    Ok(peers::all().into_iter().filter(is_chosen).collect())
}
