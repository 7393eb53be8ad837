//! The code blocks of the README, for tests that run them.

use std::{fs, path::Path};

/// The host name in the README's Caddyfile.
pub const SITE: &str = "admin.shop.example.com";

/// The README's code blocks in `language`.
pub fn blocks(language: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).map(str::to_owned).collect()
}

/// The README's Caddyfile, with some names replaced for a test. Each name has to occur exactly once.
pub fn caddyfile(replaced: &[(&str, &str)]) -> String {
    let [snippet] = blocks("caddyfile").try_into().expect("the README has one Caddyfile");
    let text = replaced.iter().fold(snippet, |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text.replace(from, to)
    });
    // Caddy's admin API, its certificates and its files on disk are switched off.
    format!("{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}}\n{text}")
}
