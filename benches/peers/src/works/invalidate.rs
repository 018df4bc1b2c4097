//! Making keys absent for good: alone, in groups, from eight threads, and while half a gigabyte of
//! images waits to be written. Nothing is synced on the side where that can be turned off.

use super::Figures;
use crate::data::Values;
use crate::figures::Unit;
use crate::measure::{rate, rate_of_threads};
use crate::peer::Result;
use crate::scene::{Scene, check_absent};

/// What is made absent lies in the store. Its length plays no role, so that it is short.
const LEN: usize = 1024;
const ALONE: u64 = 2000;
const GROUPS: u64 = 100;
const GROUP: u64 = 100;
const THREADS: u64 = 8;
const EACH: u64 = 500;
const BUSY: u64 = 100;

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let grouped = ALONE;
    let threaded = grouped + GROUPS * GROUP;
    let busy = threaded + THREADS * EACH;
    let values = Values::of_blob_len(LEN, busy + BUSY);
    let setup = crate::peer::Setup { quiet: true, ..Scene::setup(true) };
    let peer = scene.open("store", setup)?;
    peer.begin_day(0)?;
    for number in 0..values.count() {
        peer.insert(&values.key(number), values.value(number))?;
    }
    peer.sync()?;
    let one = |number: u64| peer.invalidate(&[&values.key(number)]);
    let mut gone = Vec::new();
    figures.take("durable invalidate", Unit::OpsPerSecond, || {
        rate(scene.span(), ALONE, |number| {
            gone.push(number);
            one(number)
        })
    })?;
    figures.take("keys invalidated in groups of 100", Unit::OpsPerSecond, || {
        let rate = rate(scene.span(), GROUPS, |group| {
            let first = grouped + group * GROUP;
            let keys: Vec<Vec<u8>> = (first..first + GROUP).map(|n| values.key(n)).collect();
            gone.push(first);
            peer.invalidate(&keys.iter().map(Vec::as_slice).collect::<Vec<_>>())
        })?;
        Ok(rate * GROUP as f64)
    })?;
    figures.take("durable invalidate, 8 threads", Unit::OpsPerSecond, || {
        let key_of = |thread: u64, number: u64| threaded + thread * EACH + number % EACH;
        gone.extend((0..THREADS).map(|thread| key_of(thread, 0)));
        rate_of_threads(THREADS, scene.span() / 2, |thread, number| one(key_of(thread, number)))
    })?;
    let images = Values::blobs(512 << 20);
    for number in 0..images.count() {
        peer.insert(&images.key(values.count() + number), images.value(number))?;
    }
    figures.take("durable invalidate while 512 MiB wait", Unit::OpsPerSecond, || {
        rate(scene.span(), BUSY, |number| {
            gone.push(busy + number);
            one(busy + number)
        })
    })?;
    check_absent(&*peer, gone.iter().map(|number| values.key(*number)))?;
    peer.close()
}
