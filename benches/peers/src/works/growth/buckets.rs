//! Over the number of buckets, a day each, among which a million records are spread.

use super::read;
use crate::data::Values;
use crate::figures::{Figures, Unit};
use crate::measure::ms;
use crate::peer::{Result, Setup};
use crate::scene::{Scene, fill_days, let_disk_settle};
use crate::works::open::open_timed;

const STORE: &str = "store";
const RECORDS: u64 = 1_000_000;

pub fn run(scene: &Scene, figures: &mut Figures) -> Result<()> {
    let days = u32::try_from(scene.x)?;
    let setup = Setup { days, ..Scene::setup(false) };
    let values = Values::small(RECORDS);
    let peer = scene.open(STORE, setup)?;
    fill_days(&*peer, &values, false, days)?;
    peer.close()?;
    let_disk_settle(&scene.dir)?;
    let (peer, taken) = open_timed(scene, STORE, setup, &values.key(RECORDS - 1))?;
    figures.push("open after a close, over buckets", Unit::Milliseconds, ms(taken));
    read(scene, figures, "buckets", &*peer, &values)?;
    peer.close()
}
