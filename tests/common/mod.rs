//! What the model test and the crash test share: operations, the store under test driven by them,
//! and plain models in memory that say which answers are right.
//!
//! `ops` is what may be done, `world` does it to a store on a disk in memory: `fills` and `appends` store,
//! `forget` forgets and looks for `traces`, `reads` asks the `model`, which is made of `keys`, `rows`,
//! `denials` and what is `due` when, about every answer.
//! `crashes` and `rot` take a world through workloads from `generate` that end badly, `exhaustive` through
//! all short ones.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod appends;
pub(crate) mod crashes;
pub(crate) mod denials;
pub(crate) mod due;
pub(crate) mod everything;
pub(crate) mod exhaustive;
pub(crate) mod fills;
pub(crate) mod forget;
pub(crate) mod generate;
pub(crate) mod keys;
pub(crate) mod model;
pub(crate) mod ops;
pub(crate) mod random;
pub(crate) mod reads;
pub(crate) mod rot;
pub(crate) mod rows;
pub(crate) mod traces;
pub(crate) mod world;

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// The window of every keyspace and log under test, and the width of its buckets.
pub(crate) const WINDOW: u64 = 16 * HOUR;
pub(crate) const WIDTH: u64 = HOUR;
/// Where the clock starts.
pub(crate) const START: u64 = 1_795_267_800_000;
