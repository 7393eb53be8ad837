//! `cargo reference`: writes the reference pages of the book and the README of the chart anew, from the code.
#![allow(unreachable_pub, reason = "nobody builds on this program")]

#[path = "../../tests/shared/reference/mod.rs"]
mod reference;

use std::{fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in reference::generated(root) {
        let path = root.join(path);
        if let Err(error) = fs::write(&path, text) {
            eprintln!("reference: cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
