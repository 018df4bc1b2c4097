//! The command `ebbtide`: looking into a store and working on it.
fn main() {}
