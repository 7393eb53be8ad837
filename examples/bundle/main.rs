//! `cargo bundle [IMAGE]`: writes the bundle for the Operator Lifecycle Manager into `bundle`, from the chart. IMAGE is
//! the image of a release; default: that of the chart.
#![allow(unreachable_pub, reason = "nobody builds on this program")]

mod bundle;

use std::{env, fs, io, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let image = env::args().nth(1);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = bundle::files(root, image.as_deref())
        .and_then(|files| write(&root.join("bundle"), &files).map_err(|error| error.to_string()));
    if let Err(error) = written {
        eprintln!("bundle: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Writes the files into an emptied folder.
fn write(folder: &Path, files: &bundle::Files) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
        fs::write(path, text)?;
    }
    Ok(())
}
