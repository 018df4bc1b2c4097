//! Over the length of a value: 256 MiB of values of one length, inserted one at a time into one day.

use crate::data::{Values, uniform};
use crate::figures::{Figures, Unit};
use crate::measure::{MB, rate, time};
use crate::peer::Result;
use crate::requests::Requests;
use crate::scene::{Scene, check, let_disk_settle};

const STORE: &str = "store";
const TOTAL_BYTES: u64 = 256 << 20;

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let count = TOTAL_BYTES / scene.x;
    let values = Values::of_blob_len(usize::try_from(scene.x)?, count);
    let keys: Vec<Vec<u8>> = (0..count).map(|number| values.key(number)).collect();
    let setup = Scene::setup(true);
    let peer = scene.open(STORE, setup)?;
    peer.begin_day(0)?;
    let taken = time(|| {
        for (number, key) in (0..count).zip(&keys) {
            peer.insert(key, values.value(number))?;
        }
        peer.sync()
    })?;
    let bytes = (count * scene.x) as f64;
    let inserted = bytes / taken.as_secs_f64() / MB;
    figures.push("insert, sync included, over value bytes", Unit::MegabytesPerSecond, inserted);
    peer.close()?;
    let_disk_settle(&scene.dir)?;
    let peer = scene.open(STORE, setup)?;
    // Once through, so that no checksum is left to be compared.
    check(&*peer, &values, 0..count)?;
    let draws = count.clamp(1 << 12, 1 << 20) as usize;
    let hot = Requests::of(&values, &uniform(count, draws, 10));
    rate(scene.span() / 4, u64::MAX, |number| hot.ask(&*peer, number))?;
    let rate = rate(scene.span(), u64::MAX, |number| hot.ask(&*peer, number))?;
    let read = rate * scene.x as f64 / MB;
    figures.push("hot get, over value bytes", Unit::MegabytesPerSecond, read);
    peer.close()
}
