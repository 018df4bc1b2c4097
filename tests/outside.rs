//! What only the outside can do to a store: cut the power, let system calls fail. Run by the rigs, as they
//! need programs and rights that a test does not have.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "outside/calls.rs"]
mod calls;
#[path = "outside/child.rs"]
mod child;
#[path = "outside/clean.rs"]
mod clean;
#[path = "outside/colliding.rs"]
mod colliding;
#[path = "common/fixture.rs"]
mod fixture;
#[path = "outside/full.rs"]
mod full;
#[path = "outside/machine.rs"]
mod machine;
#[path = "outside/model.rs"]
mod model;
#[path = "outside/power.rs"]
mod power;

/// Runs only as a child of the tests.
#[test]
fn writes() {
    child::write();
}
