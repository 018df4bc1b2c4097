//! Over the number of records of 150 bytes, key included, in a window of 30 days.

use super::read;
use crate::data::Values;
use crate::figures::{Figures, Unit};
use crate::measure::{ms, repeat, time};
use crate::peer::{Peer, Result};
use crate::report::median;
use crate::scene::{BATCH, Scene, check_absent, let_disk_settle};
use crate::works::drop::drop_and_look;
use crate::works::open::{fill_and_kill, open_timed};

const STORE: &str = "store";
/// Records inserted into a store of that size.
const MORE: u64 = 100_000;
/// Keys invalidated at most.
const INVALIDATED: u64 = 1000;
/// Days dropped one after the other; the figure is their median.
const DROPPED: u32 = 5;
const DAYS: u64 = crate::data::DAYS as u64;

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let count = scene.x;
    let values = Values::small(count);
    fill_and_kill(scene, STORE, count)?;
    let_disk_settle(&scene.dir)?;
    let (setup, last) = (Scene::setup(false), values.key(count - 1));
    let (peer, taken) = open_timed(scene, STORE, setup, &last)?;
    figures.push("open after kill -9, over records", Unit::Milliseconds, ms(taken));
    peer.close()?;
    let_disk_settle(&scene.dir)?;
    let (peer, taken) = open_timed(scene, STORE, setup, &last)?;
    figures.push("open after a close, over records", Unit::Milliseconds, ms(taken));
    if let Some(bytes) = peer.index_bytes() {
        figures.push("index memory a key, over records", Unit::Bytes, bytes as f64 / count as f64);
    }
    read(scene, figures, "records", &*peer, &values)?;
    invalidate(scene, figures, &*peer, &values)?;
    insert(figures, &*peer, count)?;
    let_disk_settle(&scene.dir)?;
    drop_days(figures, &*peer, &values)?;
    peer.close()
}

/// Keys of the second half of the window, far apart; the figure is the median of their times.
fn invalidate(
    scene: &Scene,
    figures: &mut Figures,
    peer: &dyn Peer,
    values: &Values,
) -> Result<()> {
    let half = values.count() / 2;
    let key = |number: u64| values.key(half + number * (half / INVALIDATED));
    let mut times = Vec::new();
    repeat(scene.span(), INVALIDATED, |number| {
        let key = key(number);
        times.push(ms(time(|| peer.invalidate(&[&key]))?) * 1e3);
        Ok(())
    })?;
    check_absent(peer, (0..times.len() as u64).map(key))?;
    figures.push("durable invalidate, over records", Unit::Microseconds, median(&times));
    Ok(())
}

/// New records by the thousand, into the last day.
fn insert(figures: &mut Figures, peer: &dyn Peer, count: u64) -> Result<()> {
    let values = Values::small(count + MORE);
    let record = |number: u64| (values.key(number), values.value(number).to_vec());
    let batches: Vec<Vec<_>> = (0..MORE / BATCH)
        .map(|batch| (0..BATCH).map(|number| record(count + batch * BATCH + number)).collect())
        .collect();
    let taken = time(|| batches.iter().try_for_each(|batch| peer.insert_batch(batch)))?;
    let each = taken.as_secs_f64() * 1e9 / MORE as f64;
    figures.push("insert by the thousand, over records", Unit::Nanoseconds, each);
    peer.sync()?;
    if peer.get(&values.key(count + MORE - 1), &mut |_| {})? {
        Ok(())
    } else {
        Err("what was inserted is not there".into())
    }
}

/// Days of a thirtieth of the records each, until a power cut cannot bring one back.
fn drop_days(figures: &mut Figures, peer: &dyn Peer, values: &Values) -> Result<()> {
    let mut times = Vec::new();
    for day in 0..DROPPED {
        let first = values.key((u64::from(day) * values.count()).div_ceil(DAYS));
        times.push(ms(time(|| drop_and_look(peer, day, &first))?));
        peer.reclaim()?;
    }
    figures.push("drop a day, over records", Unit::Milliseconds, median(&times));
    Ok(())
}
