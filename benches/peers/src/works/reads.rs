//! Images that are in memory, spread over all days of the window: whoever asks does not know the day.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Figures;
use crate::data::{Values, uniform, zipf};
use crate::figures::Unit;
use crate::measure::{p99_us, rate, rate_of_threads};
use crate::peer::{Peer, Result};
use crate::requests::Requests;
use crate::scene::{Scene, check, fill_window};

const DRAWS: usize = 1 << 16;

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let values = Values::blobs(512 << 20);
    let setup = Scene::setup(true);
    let peer = scene.open("store", setup)?;
    fill_window(&*peer, &values, true)?;
    peer.close()?;
    let peer = scene.open("store", setup)?;
    check(&*peer, &values, 0..values.count())?;
    let hot = Requests::of(&values, &zipf(values.count(), DRAWS, 3));
    // What takes part in memory gets its turn before it is measured.
    rate(scene.span() / 4, u64::MAX, |number| hot.ask(&*peer, number))?;
    figures.take("hot get, zipf, day unknown", Unit::OpsPerSecond, || {
        rate(scene.span(), u64::MAX, |number| hot.ask(&*peer, number))
    })?;
    for threads in [2, 4] {
        figures.take(&format!("hot get, {threads} threads"), Unit::OpsPerSecond, || {
            rate_of_threads(threads, scene.span(), |thread, number| {
                hot.ask(&*peer, number + thread * 9973)
            })
        })?;
    }
    let absent = Requests::absent(&values, &uniform(values.count(), DRAWS, 4));
    figures.take("absent keys", Unit::OpsPerSecond, || {
        rate(scene.span(), u64::MAX, |number| absent.ask(&*peer, number))
    })?;
    figures.take("mixed, 99 % get, 1 % insert", Unit::OpsPerSecond, || {
        mixed(scene, &*peer, &values, &hot)
    })?;
    beside_a_writer(scene, figures, &*peer, &values, &hot)?;
    peer.close()
}

fn mixed(scene: &Scene, peer: &dyn Peer, values: &Values, hot: &Requests) -> Result<f64> {
    rate(scene.span(), u64::MAX, |number| {
        if number % 100 == 99 {
            let new = values.count() + number;
            peer.insert(&values.key(new), values.value(number % values.count()))
        } else {
            hot.ask(peer, number)
        }
    })
}

/// How long one reader waits, alone and while another thread inserts as fast as it can.
fn beside_a_writer(
    scene: &Scene,
    figures: &mut Figures,
    peer: &dyn Peer,
    values: &Values,
    hot: &Requests,
) -> Result<()> {
    let read = || {
        let end = Instant::now() + scene.span();
        p99_us(|now| now < end, |number| hot.ask(peer, number))
    };
    figures.take("reader's p99", Unit::Microseconds, read)?;
    figures.take("reader's p99 beside a writer", Unit::Microseconds, || {
        let stop = AtomicBool::new(false);
        let write = || -> Result<()> {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let new = 2 * values.count() + (1 << 20) + number;
                peer.insert(&values.key(new), values.value(number % values.count()))?;
                number += 1;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let writer = scope.spawn(write);
            let p99 = read();
            stop.store(true, Ordering::Relaxed);
            writer.join().map_err(|_| "the writer has died")??;
            p99
        })
    })
}
