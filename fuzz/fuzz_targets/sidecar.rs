//! A sidecar file: what is believed lies in order and without overlap.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| ebbtide::fuzzing::sidecar(input));
