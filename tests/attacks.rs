//! Attacks that succeeded on paper, played step by step: ways in which what was gone could come back,
//! and in which bytes could be shown or lost that must not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "attacks/corrected.rs"]
mod corrected;
#[path = "attacks/crashes.rs"]
mod crashes;
#[path = "attacks/denials.rs"]
mod denials;
#[path = "attacks/fills.rs"]
mod fills;
#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/hooked.rs"]
mod hooked;
#[path = "attacks/identity.rs"]
mod identity;
#[path = "attacks/interrupted.rs"]
mod interrupted;
#[path = "attacks/leaving.rs"]
mod leaving;
#[path = "attacks/logs.rs"]
mod logs;
#[path = "attacks/lost_syncs.rs"]
mod lost_syncs;
#[path = "attacks/opening.rs"]
mod opening;
#[path = "attacks/readers.rs"]
mod readers;
#[path = "attacks/receipts.rs"]
mod receipts;
#[path = "attacks/rig.rs"]
mod rig;
#[path = "attacks/scrubbing.rs"]
mod scrubbing;
#[path = "attacks/set_back.rs"]
mod set_back;
#[path = "attacks/snapshots.rs"]
mod snapshots;
#[path = "attacks/successors.rs"]
mod successors;
#[path = "attacks/time.rs"]
mod time;
#[path = "attacks/tombstones.rs"]
mod tombstones;
#[path = "attacks/versions.rs"]
mod versions;
