//! What the README says, for the tests that hold it to that.

use std::{fs, path::Path};

/// What the README's Caddyfile serves.
pub const SITE: &str = "admin.shop.example.com";

/// The blocks of the README in this language.
pub fn blocks(language: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).map(str::to_owned).collect()
}

/// The README's Caddyfile, with what a test has in the place of some names, each of which is in it once.
pub fn caddyfile(replaced: &[(&str, &str)]) -> String {
    let [snippet] = blocks("caddyfile").try_into().expect("the README has one Caddyfile");
    let text = replaced.iter().fold(snippet, |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text.replace(from, to)
    });
    // Neither its own API, nor certificates, nor anything on disk.
    format!("{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}}\n{text}")
}
