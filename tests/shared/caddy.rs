//! The Caddyfile of the examples, for the tests that run it.

use std::{fs, path::Path};

/// The file that has it.
const FILE: &str = "examples/proxies/Caddyfile";
/// The site that it serves.
pub const SITE: &str = "admin.shop.example.com";

/// The Caddyfile of the examples, with other names in it. Each replaced name is in it once.
pub fn caddyfile(replaced: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap();
    let text = replaced.iter().fold(text, |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text.replace(from, to)
    });
    // Neither its own API, nor certificates, nor anything on disk.
    format!("{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}}\n{text}")
}
