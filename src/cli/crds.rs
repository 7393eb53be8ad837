//! `tokenry crds`.

use std::{fs, path::PathBuf};

use clap::Args;
use kube::ResourceExt;

use crate::crd;

#[derive(Args)]
pub struct Crds {
    /// Directory to write one file for each kind into; left out: all of them are printed
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Crds {
    pub fn main(&self) -> Result<(), String> {
        for definition in crd::definitions() {
            let yaml = serde_saphyr::to_string(&definition).map_err(|error| error.to_string())?;
            match &self.dir {
                Some(dir) => {
                    let file = dir.join(format!("{}.yaml", definition.name_any()));
                    fs::write(&file, yaml).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
                }
                None => print!("---\n{yaml}"),
            }
        }
        Ok(())
    }
}
