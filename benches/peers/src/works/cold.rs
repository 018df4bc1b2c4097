//! Images that are on the disk only: the page cache was dropped and the store opened again. Beside
//! the peers, the least one can do with one big file: `pread`, and a plain map.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use super::Figures;
use crate::data::{IMAGE, Values, shuffled};
use crate::figures::Unit;
use crate::measure::{drop_page_cache, rate};
use crate::peer::Result;
use crate::requests::{Requests, glance};
use crate::scene::{Scene, fill_window};

const WORK: &str = "cold get of 24 KiB";

/// How many images there are.
fn count(scene: &Scene) -> u64 {
    scene.size(512 << 20, 4 << 30) / IMAGE as u64
}

/// How many of them are read: so few that hardly one has come along with another.
fn most(scene: &Scene) -> u64 {
    count(scene) / 20
}

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let values = Values::images(count(scene));
    let setup = Scene::setup(true);
    let peer = scene.open("store", setup)?;
    fill_window(&*peer, &values, true)?;
    peer.close()?;
    drop_page_cache(&scene.dir)?;
    let peer = scene.open("store", setup)?;
    // Some read all of it when they open.
    drop_page_cache(&scene.dir)?;
    let requests = Requests::of(&values, &shuffled(values.count(), 5));
    figures.take(WORK, Unit::OpsPerSecond, || {
        rate(scene.span(), most(scene), |number| requests.ask(&*peer, number))
    })?;
    peer.close()
}

/// One file with all images.
fn big_file(scene: &Scene) -> Result<(File, Vec<u64>)> {
    let values = Values::images(count(scene));
    let path = scene.path("images");
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    for number in 0..values.count() {
        file.write_all_at(values.value(number), number * IMAGE as u64)?;
    }
    drop_page_cache(&scene.dir)?;
    Ok((file, shuffled(values.count(), 5)))
}

pub fn pread(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let (file, order) = big_file(scene)?;
    let mut buffer = vec![0; IMAGE];
    figures.take(WORK, Unit::OpsPerSecond, || {
        rate(scene.span(), most(scene), |number| {
            file.read_exact_at(&mut buffer, order[number as usize] * IMAGE as u64)?;
            black_box(glance(&buffer));
            Ok(())
        })
    })
}

pub fn map(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let (file, order) = big_file(scene)?;
    let map = crate::map::map(&file, file.metadata()?.len() as usize)?;
    figures.take(WORK, Unit::OpsPerSecond, || {
        rate(scene.span(), most(scene), |number| {
            black_box(glance(&map[order[number as usize] as usize * IMAGE..][..IMAGE]));
            Ok(())
        })
    })
}
