//! Records of 150 bytes, key included: in batches, one at a time, and read by key.

use super::Figures;
use crate::data::{Values, uniform};
use crate::figures::Unit;
use crate::measure::{allocated_bytes, rate, repeat, time};
use crate::peer::Result;
use crate::requests::Requests;
use crate::scene::{BATCH, Scene, check, fill_window, let_disk_settle};

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    writing(scene, figures)?;
    std::fs::remove_dir_all(scene.path("written"))?;
    reading(scene, figures)
}

fn writing(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let values = Values::small(scene.size(500_000, 3_000_000));
    let peer = scene.open("written", Scene::setup(false))?;
    peer.begin_day(0)?;
    let count = values.count() / 2;
    let record = |number: u64| (values.key(number), values.value(number).to_vec());
    let batches: Vec<Vec<_>> = (0..count / BATCH)
        .map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(record).collect())
        .collect();
    figures.take("small records by the thousand, sync included", Unit::OpsPerSecond, || {
        let mut done = 0;
        let taken = time(|| {
            let span = 8 * scene.span();
            done = repeat(span, batches.len() as u64, |number| {
                peer.insert_batch(&batches[number as usize])
            })?
            .0;
            peer.sync()
        })?;
        Ok((done * BATCH) as f64 / taken.as_secs_f64())
    })?;
    figures.take("small records one at a time, sync included", Unit::OpsPerSecond, || {
        let mut done = 0;
        let taken = time(|| {
            done = repeat(2 * scene.span(), count, |number| {
                let number = count + number;
                peer.insert(&values.key(number), values.value(number))
            })?
            .0;
            peer.sync()
        })?;
        Ok(done as f64 / taken.as_secs_f64())
    })?;
    for number in [0, BATCH - 1, count, count + 15] {
        if !peer.get(&values.key(number), &mut |_| {})? {
            return Err("what was inserted is not there".into());
        }
    }
    peer.close()
}

fn reading(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let values = Values::small(scene.size(1_000_000, 3_000_000));
    let setup = Scene::setup(false);
    let peer = scene.open("read", setup)?;
    fill_window(&*peer, &values, false)?;
    peer.close()?;
    let_disk_settle(&scene.dir)?;
    let disk = allocated_bytes(&scene.path("read"))? as f64;
    figures.push("disk over payload, small records", Unit::Times, disk / values.payload() as f64);
    let peer = scene.open("read", setup)?;
    let draws = scene.size(1 << 18, 1 << 20) as usize;
    let mut numbers = uniform(values.count(), draws, 6);
    let requests = Requests::of(&values, &numbers);
    // Once through, so that no checksum is left to be compared.
    numbers.sort_unstable();
    numbers.dedup();
    check(&*peer, &values, numbers)?;
    figures.take("get a small record, day unknown", Unit::OpsPerSecond, || {
        rate(scene.span(), u64::MAX, |number| requests.ask(&*peer, number))
    })?;
    let absent = Requests::absent(&values, &uniform(values.count(), draws, 7));
    figures.take("absent keys beside small records", Unit::OpsPerSecond, || {
        rate(scene.span(), u64::MAX, |number| absent.ask(&*peer, number))
    })?;
    peer.close()
}
