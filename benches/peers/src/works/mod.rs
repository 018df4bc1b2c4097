//! What is measured, one file each. A work runs in a process of its own for each peer and round.

mod blobs;
mod capacity;
mod cold;
mod drop;
mod durable;
pub mod growth;
mod invalidate;
pub mod open;
mod reads;
mod small;

use crate::figures::Figures;
use crate::peer::Result;
use crate::scene::Scene;

/// Takes figures; those it has taken count even if it fails then.
pub type Run = fn(&Scene, &mut Figures) -> Result<()>;

/// Something to be measured.
pub struct Work {
    /// As on the command line.
    pub name: &'static str,
    pub run: Run,
    /// What takes part beside the peers, and only here.
    pub beside: &'static [(&'static str, Run)],
}

impl Work {
    const fn new(name: &'static str, run: Run) -> Self {
        Self { name, run, beside: &[] }
    }
}

/// The work of this name, be it one of the comparison or of the growth.
pub fn find(name: &str) -> Option<&'static Work> {
    let growing = growth::ALL.iter().map(|growth| &growth.work);
    ALL.iter().chain(growing).find(|work| work.name == name)
}

/// All of the comparison, in the order of the table.
pub static ALL: [Work; 9] = [
    Work::new("blobs", blobs::run),
    Work::new("durable", durable::run),
    Work::new("reads", reads::run),
    Work { name: "cold", run: cold::run, beside: &[("pread", cold::pread), ("map", cold::map)] },
    Work::new("small", small::run),
    Work::new("invalidate", invalidate::run),
    Work::new("capacity", capacity::run),
    Work::new("drop", drop::run),
    Work::new("open", open::run),
];
