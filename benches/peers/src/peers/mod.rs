//! The stores that take part, one file each.

mod baseline;
mod ebbtide;
mod files;
mod group_sync;

use crate::peer::{Contestant, Result};

/// All that were built in; `baseline` comes first.
pub fn all() -> Vec<Contestant> {
    [baseline::CONTESTANT, ebbtide::MAPPED, ebbtide::POSITIONAL, files::CONTESTANT].to_vec()
}

/// The one of this name.
pub fn find(name: &str) -> Result<Contestant> {
    let found = all().into_iter().find(|peer| peer.name == name);
    Ok(found.ok_or(format!("{name} takes no part in this; is its feature on?"))?)
}
