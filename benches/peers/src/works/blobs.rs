//! Images of a CDN's sizes into a cache, the last sync included, and what is left of it on the disk
//! and in memory.

use super::Figures;
use crate::data::Values;
use crate::figures::Unit;
use crate::measure::{MB, allocated_bytes, private_bytes, time, written_bytes};
use crate::peer::Result;
use crate::scene::{Scene, let_disk_settle};

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let values = Values::blobs(scene.size(512 << 20, 4 << 30));
    let payload = values.payload() as f64;
    let (private_before, written_before) = (private_bytes()?, written_bytes()?);
    let peer = scene.open("store", Scene::setup(true))?;
    peer.begin_day(0)?;
    let taken = time(|| {
        for number in 0..values.count() {
            peer.insert(&values.key(number), values.value(number))?;
        }
        peer.sync()
    })?;
    let private = private_bytes()?.saturating_sub(private_before);
    peer.close()?;
    let_disk_settle(&scene.dir)?;
    let written = written_bytes()? - written_before;
    figures.push(
        "insert blobs, sync included",
        Unit::MegabytesPerSecond,
        payload / MB / taken.as_secs_f64(),
    );
    figures.push("private memory after it", Unit::Megabytes, private as f64 / MB);
    figures.push("write amplification, blobs", Unit::Times, written as f64 / payload);
    let disk = allocated_bytes(&scene.path("store"))? as f64;
    figures.push("disk over payload, blobs", Unit::Times, disk / payload);
    Ok(())
}
