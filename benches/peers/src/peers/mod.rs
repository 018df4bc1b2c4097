//! The stores that take part, one file each.

mod baseline;
#[cfg(feature = "cacache")]
mod cacache;
mod days;
mod ebbtide;
mod files;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "foyer")]
mod foyer;
mod group_sync;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(test)]
mod tests;

use crate::peer::{Contestant, Result};

/// All that were built in; `baseline` comes first.
pub fn all() -> Vec<Contestant> {
    [
        baseline::CONTESTANT,
        ebbtide::MAPPED,
        ebbtide::POSITIONAL,
        files::CONTESTANT,
        #[cfg(feature = "redb")]
        redb::CONTESTANT,
        #[cfg(feature = "fjall")]
        fjall::CONTESTANT,
        #[cfg(feature = "lmdb")]
        lmdb::CONTESTANT,
        #[cfg(feature = "sqlite")]
        sqlite::CONTESTANT,
        #[cfg(feature = "rocksdb")]
        rocksdb::CONTESTANT,
        #[cfg(feature = "sled")]
        sled::CONTESTANT,
        #[cfg(feature = "foyer")]
        foyer::CONTESTANT,
        #[cfg(feature = "cacache")]
        cacache::CONTESTANT,
    ]
    .to_vec()
}

/// The one of this name.
pub fn find(name: &str) -> Result<Contestant> {
    let found = all().into_iter().find(|peer| peer.name == name);
    Ok(found.ok_or(format!("{name} takes no part in this; is its feature on?"))?)
}
