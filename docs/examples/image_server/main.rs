//! An image server over an ebbtide store.
fn main() {}
