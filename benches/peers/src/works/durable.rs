//! Images that have to survive a power cut one by one: from one thread, and from eight.

use super::Figures;
use crate::data::Values;
use crate::figures::Unit;
use crate::measure::{rate, rate_of_threads};
use crate::peer::Result;
use crate::scene::Scene;

/// Different values; under new keys they come again.
const VALUES: u64 = 1024;

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let values = Values::images(VALUES);
    let peer = scene.open("store", Scene::setup(true))?;
    peer.begin_day(0)?;
    let insert = |thread: u64, number: u64| {
        peer.insert_durable(&values.key(thread << 20 | number), values.value(number % VALUES))
    };
    figures.take("durable insert of 24 KiB", Unit::OpsPerSecond, || {
        rate(scene.span(), u64::MAX, |number| insert(0, number))
    })?;
    figures.take("the same, 8 threads", Unit::OpsPerSecond, || {
        rate_of_threads(8, scene.span(), |thread, number| insert(thread + 1, number))
    })?;
    for thread in 0..=8 {
        if !peer.get(&values.key(thread << 20), &mut |_| {})? {
            return Err("what was inserted is not there".into());
        }
    }
    peer.close()
}
