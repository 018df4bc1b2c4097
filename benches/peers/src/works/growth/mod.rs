//! What grows: one work each, which measures at one size, [`Scene::x`](crate::scene::Scene).

mod buckets;
mod lengths;
mod records;

use super::{Figures, Work};
use crate::data::{Values, uniform};
use crate::figures::Unit;
use crate::measure::rate;
use crate::peer::{Peer, Result};
use crate::requests::Requests;
use crate::scene::{Scene, check};

/// A work at growing sizes.
pub struct Growth {
    pub work: Work,
    sizes: &'static [u64],
    /// How many of the sizes are measured without `--full`.
    quick: usize,
    /// Who takes part.
    pub peers: &'static [&'static str],
}

impl Growth {
    pub fn sizes(&self, full: bool) -> &[u64] {
        if full { self.sizes } else { &self.sizes[..self.quick] }
    }
}

/// All of them, in the order of the table.
pub static ALL: [Growth; 3] = [
    Growth {
        work: Work::new("records", records::run),
        sizes: &[100_000, 1_000_000, 10_000_000],
        quick: 2,
        peers: &["ebbtide", "baseline"],
    },
    Growth {
        work: Work::new("buckets", buckets::run),
        sizes: &[30, 365, 1000],
        quick: 3,
        // Others are not told how long their window is.
        peers: &["ebbtide"],
    },
    Growth {
        work: Work::new("lengths", lengths::run),
        sizes: &[100, 1 << 10, 16 << 10, 256 << 10, 1 << 20, 16 << 20],
        quick: 6,
        peers: &["ebbtide", "baseline"],
    },
];

/// Times of a get and of a miss, keys drawn at random.
fn read(
    scene: &Scene,
    figures: &mut Figures,
    over: &str,
    peer: &dyn Peer,
    values: &Values,
) -> Result<()> {
    let draws = scene.size(1 << 18, 1 << 20) as usize;
    let mut numbers = uniform(values.count(), draws, 8);
    let present = Requests::of(values, &numbers);
    // Once through, so that no checksum is left to be compared.
    numbers.sort_unstable();
    numbers.dedup();
    check(peer, values, numbers)?;
    let absent = Requests::absent(values, &uniform(values.count(), draws, 9));
    for (what, requests) in [("get", &present), ("miss", &absent)] {
        rate(scene.span() / 4, u64::MAX, |number| requests.ask(peer, number))?;
        figures.take(&format!("{what}, over {over}"), Unit::Nanoseconds, || {
            Ok(1e9 / rate(scene.span(), u64::MAX, |number| requests.ask(peer, number))?)
        })?;
    }
    Ok(())
}
