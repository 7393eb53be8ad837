//! `cargo krew FOLDER URL`: prints the manifest of the kubectl plugin for krew. FOLDER has the archives of a release.
//! Users download them below URL.
#![allow(unreachable_pub, reason = "nobody builds on this program")]

mod manifest;

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [folder, url] = arguments.as_slice() else {
        eprintln!("krew: give the folder with the archives, and the address below which users download them");
        return ExitCode::FAILURE;
    };
    let manifest = manifest::manifest(Path::new(folder), url);
    let text = manifest.map_err(|error| error.to_string());
    match text.and_then(|manifest| serde_saphyr::to_string(&manifest).map_err(|error| error.to_string())) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("krew: {error}");
            ExitCode::FAILURE
        }
    }
}
