//! Opening a store of small records that was closed, and one whose process was killed after a sync.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Figures;
use crate::data::Values;
use crate::figures::Unit;
use crate::measure::ms;
use crate::peer::{Peer, Result, Setup, Unsupported};
use crate::scene::{Scene, fill_window};

/// What a child says when its store is filled.
const FILLED: &str = "filled";

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let counts: &[u64] =
        if scene.full { &[100_000, 1_000_000, 10_000_000] } else { &[100_000, 1_000_000] };
    for &count in counts {
        let name = format!("of-{count}");
        match (scene.contestant.open)(&scene.path("probe"), Scene::setup(false)) {
            Err(failure) if failure.is::<Unsupported>() => return Ok(()),
            probe => probe?.close()?,
        }
        std::fs::remove_dir_all(scene.path("probe"))?;
        fill_and_kill(scene, &name, count)?;
        let last = Values::small(1).key(count - 1);
        let open = |after: &str, figures: &mut Figures| -> Result<Box<dyn Peer>> {
            let (peer, taken) = open_timed(scene, &name, Scene::setup(false), &last)
                .map_err(|failure| format!("opened {after}: {failure}"))?;
            figures.push(&format!("open {count} records {after}"), Unit::Milliseconds, ms(taken));
            Ok(peer)
        };
        open("after kill -9", figures)?.close()?;
        open("after a close", figures)?.close()?;
        std::fs::remove_dir_all(scene.path(&name))?;
    }
    Ok(())
}

/// Opens a store in which this record was the last; says how long it took.
pub fn open_timed(
    scene: &Scene,
    name: &str,
    setup: Setup,
    last: &[u8],
) -> Result<(Box<dyn Peer>, Duration)> {
    let start = Instant::now();
    let peer = scene.open(name, setup)?;
    let taken = start.elapsed();
    if peer.get(last, &mut |_| {})? {
        Ok((peer, taken))
    } else {
        Err("the last record is missing".into())
    }
}

/// Lets a process of its own fill a store, and kills it.
pub fn fill_and_kill(scene: &Scene, name: &str, count: u64) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["fill", scene.contestant.name])
        .arg(scene.path(name))
        .arg(count.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let lines = BufReader::new(stdout).lines().map_while(std::io::Result::ok);
    let filled = lines.into_iter().any(|line| line == FILLED);
    child.kill()?;
    child.wait()?;
    if filled { Ok(()) } else { Err("the child could not fill its store".into()) }
}

/// What [`fill_and_kill`] asks of its child.
pub fn fill(scene: &Scene, count: u64) -> Result<()> {
    let peer = (scene.contestant.open)(&scene.dir, Scene::setup(false))?;
    fill_window(&*peer, &Values::small(count), false)?;
    println!("{FILLED}");
    // The end never comes: the parent kills before it closes the pipe.
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
