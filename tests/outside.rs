//! What only the outside can do to a store: cut the power, let system calls fail, limit the process. Run by
//! the rigs, as they need programs and rights that a test does not have.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "outside/afterwards.rs"]
mod afterwards;
#[path = "outside/audit.rs"]
mod audit;
#[path = "outside/audited.rs"]
mod audited;
#[path = "outside/calls.rs"]
mod calls;
#[path = "outside/child.rs"]
mod child;
#[path = "outside/clean.rs"]
mod clean;
#[path = "outside/clocks.rs"]
mod clocks;
#[path = "outside/colliding.rs"]
mod colliding;
#[path = "outside/counted.rs"]
mod counted;
#[path = "outside/failed_sync.rs"]
mod failed_sync;
#[path = "common/fixture.rs"]
mod fixture;
#[path = "outside/full.rs"]
mod full;
#[path = "outside/hanging_sync.rs"]
mod hanging_sync;
#[path = "outside/limits.rs"]
mod limits;
#[path = "outside/machine.rs"]
mod machine;
#[path = "outside/model.rs"]
mod model;
#[path = "outside/planted_files.rs"]
mod planted_files;
#[path = "outside/power.rs"]
mod power;
#[path = "outside/ranges.rs"]
mod ranges;
#[path = "outside/trace.rs"]
mod trace;
#[path = "outside/tree.rs"]
mod tree;

/// Runs only as a child of the tests.
#[test]
fn writes() {
    child::write();
}

/// Runs only as a child of the tests.
#[test]
fn keeps_time() {
    clocks::work();
}

/// Runs only as a child of the tests.
#[test]
fn is_audited() {
    audited::work();
}

/// Runs only as a child of the tests.
#[test]
fn reads_on() {
    hanging_sync::work();
}

/// Runs only as a child of the tests.
#[test]
fn is_planted_on() {
    planted_files::work();
}
