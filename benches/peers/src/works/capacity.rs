//! Images into a store that is full, so that old ones have to go.

use super::Figures;
use crate::data::Values;
use crate::figures::Unit;
use crate::measure::{MB, allocated_bytes, time};
use crate::peer::{Result, Setup};
use crate::scene::Scene;

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let capacity = scene.size(256 << 20, 1 << 30);
    let values = Values::blobs(3 * capacity);
    let setup = Setup { capacity_bytes: Some(capacity), ..Scene::setup(true) };
    let peer = scene.open("store", setup)?;
    if !peer.keeps_capacity() {
        return peer.close();
    }
    peer.begin_day(0)?;
    let third = values.count() / 3;
    let insert = |number: u64| peer.insert(&values.key(number), values.value(number));
    (0..third).try_for_each(insert)?;
    peer.sync()?;
    let bytes: u64 = (third..values.count()).map(|n| values.value(n).len() as u64).sum();
    let taken = time(|| {
        (third..values.count()).try_for_each(insert)?;
        peer.sync()
    })?;
    figures.push(
        "insert blobs into a full store",
        Unit::MegabytesPerSecond,
        bytes as f64 / MB / taken.as_secs_f64(),
    );
    let disk = allocated_bytes(&scene.path("store"))? as f64;
    figures.push("disk over capacity after it", Unit::Times, disk / capacity as f64);
    if !peer.get(&values.key(values.count() - 1), &mut |_| {})? {
        return Err("the newest value is not there".into());
    }
    peer.close()
}
