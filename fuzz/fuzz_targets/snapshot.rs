//! An index snapshot: what is believed is all there is in it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::snapshot(input));
