//! `cargo manifests`: writes the manifests of `deploy` anew, from the chart.
#![allow(unreachable_pub, reason = "nobody builds on this program")]

#[path = "../../tests/shared/manifests.rs"]
mod manifests;

use std::{fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = manifests::all(root).and_then(|all| {
        all.into_iter().try_for_each(|(path, text)| {
            fs::write(root.join(path), text).map_err(|error| format!("cannot write {path}: {error}"))
        })
    });
    if let Err(error) = written {
        eprintln!("manifests: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
