//! The Caddyfile of the documentation, for the tests that run it.

use std::{fs, path::Path};

/// The page that has it.
const PAGE: &str = "docs/how-to/proxies.md";
/// The site that it serves.
pub const SITE: &str = "admin.shop.example.com";

/// The Caddyfile of the documentation, with other names in it. Each replaced name is in it once.
pub fn caddyfile(replaced: &[(&str, &str)]) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let block = page.split("```caddyfile\n").nth(1).expect("the page has a Caddyfile");
    let block = block.split("```").next().unwrap();
    let text = replaced.iter().fold(block.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text.replace(from, to)
    });
    // Neither its own API, nor certificates, nor anything on disk.
    format!("{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}}\n{text}")
}
