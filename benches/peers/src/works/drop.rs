//! The end of a day: until all of it is invisible for good, until its bytes are free, and what readers
//! of another day notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Figures;
use crate::data::Values;
use crate::figures::Unit;
use crate::measure::{allocated_bytes, ms, p99_us, time};
use crate::peer::{Peer, Result, Unsupported};
use crate::requests::Requests;
use crate::scene::{Scene, check_absent, fill_day, let_disk_settle};

/// Records of the days that stay.
const KEPT: u64 = 1000;
/// How long readers are watched before a drop, and after it at least.
const WATCHED: Duration = Duration::from_millis(300);

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let most = scene.size(100_000, 1_000_000);
    for records in [1, 1000, most] {
        match of_small_records(scene, figures, records) {
            Err(failure) if failure.is::<Unsupported>() => break,
            done => done?,
        }
    }
    of_blobs(scene, figures)
}

fn of_small_records(scene: &Scene, figures: &mut Figures, records: u64) -> Result<()> {
    let values = Values::small(records + KEPT);
    let name = format!("of-{records}");
    let peer = scene.open(&name, Scene::setup(false))?;
    for (day, numbers) in [(0, 0..records), (1, records..records + KEPT)] {
        peer.begin_day(day)?;
        fill_day(&*peer, &values, false, numbers)?;
    }
    peer.sync()?;
    let_disk_settle(&scene.dir)?;
    let dropped = time(|| drop_and_look(&*peer, 0, &values.key(0)))?;
    figures.push(&format!("drop a day of {records} records"), Unit::Milliseconds, ms(dropped));
    let reclaimed = time(|| peer.reclaim())?;
    figures.push(
        &format!("the same of {records}, until its bytes are free"),
        Unit::Milliseconds,
        ms(dropped + reclaimed),
    );
    check_absent(&*peer, [records / 2, records - 1].into_iter().map(|n| values.key(n)))?;
    if !peer.get(&values.key(records), &mut |_| {})? {
        return Err("the day after has gone too".into());
    }
    peer.close()?;
    Ok(std::fs::remove_dir_all(scene.path(&name))?)
}

/// Drops a day, and has nothing of it any more.
pub fn drop_and_look(peer: &dyn Peer, day: u32, key: &[u8]) -> Result<()> {
    peer.drop_day(day)?;
    check_absent(peer, std::iter::once(key.to_vec()))
}

/// Two days of images go, one while nobody reads and one while somebody does.
fn of_blobs(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let values = Values::blobs(3 * scene.size(128 << 20, 720 << 20));
    let peer = scene.open("of-blobs", Scene::setup(true))?;
    let third = values.count() / 3;
    for day in 0..3 {
        peer.begin_day(day)?;
        let first = u64::from(day) * third;
        fill_day(&*peer, &values, true, first..first + third)?;
    }
    peer.sync()?;
    let_disk_settle(&scene.dir)?;
    let before = allocated_bytes(&scene.path("of-blobs"))? as f64;
    let dropped = time(|| drop_and_look(&*peer, 0, &values.key(0)))?;
    figures.push("drop a day of blobs", Unit::Milliseconds, ms(dropped));
    let reclaimed = time(|| peer.reclaim())?;
    let work = "drop a day of blobs, until its bytes are free";
    figures.push(work, Unit::Milliseconds, ms(dropped + reclaimed));
    let after = allocated_bytes(&scene.path("of-blobs"))? as f64;
    let payload: u64 = (0..third).map(|number| values.value(number).len() as u64).sum();
    let work = "bytes given back, of those of a day";
    figures.push(work, Unit::Share, ((before - after) / payload as f64).max(0.0));
    let kept: Vec<u64> = (2 * third..3 * third).collect();
    let requests = Requests::of(&values, &kept);
    beside_readers(figures, &*peer, &requests, &values.key(third))?;
    check_absent(&*peer, (0..2 * third).step_by(97).map(|number| values.key(number)))?;
    peer.close()
}

fn beside_readers(
    figures: &mut Figures,
    peer: &dyn Peer,
    requests: &Requests,
    dropped_key: &[u8],
) -> Result<()> {
    let read_until = |goes_on: &mut dyn FnMut(Instant) -> bool| {
        p99_us(goes_on, |number| requests.ask(peer, number))
    };
    // The first time through, values are checked.
    for _ in 0..2 {
        let end = Instant::now() + WATCHED;
        read_until(&mut |now| now < end)?;
    }
    let end = Instant::now() + WATCHED;
    let alone = read_until(&mut |now| now < end)?;
    figures.push("reader's p99 before a drop", Unit::Microseconds, alone);
    let done = AtomicBool::new(false);
    let meanwhile = std::thread::scope(|scope| -> Result<f64> {
        let dropper = scope.spawn(|| {
            let dropped = drop_and_look(peer, 1, dropped_key).and_then(|()| peer.reclaim());
            done.store(true, Ordering::Relaxed);
            dropped
        });
        let end = Instant::now() + WATCHED;
        let p99 = read_until(&mut |now| now < end || !done.load(Ordering::Relaxed))?;
        dropper.join().map_err(|_| "the thread that drops has died")??;
        Ok(p99)
    })?;
    figures.push("reader's p99 during a drop", Unit::Microseconds, meanwhile);
    Ok(())
}
