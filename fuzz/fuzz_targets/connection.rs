#![no_main]

use tokenry_fuzz::{begin, connected};

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| connected(bytes));
