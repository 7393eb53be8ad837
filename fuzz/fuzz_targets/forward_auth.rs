#![no_main]

use tokenry_fuzz::{Spoken, judged};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| judged(Spoken::ForwardAuth, bytes));
