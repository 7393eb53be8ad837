#![no_main]

use tokenry_fuzz::{Spoken, begin, judged};

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| {
    judged(Spoken::Introspection, bytes);
});
