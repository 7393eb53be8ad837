//! `tokenry crds`.

use std::path::PathBuf;

use clap::Args;
use kube::ResourceExt;

use super::{Error, output};
use crate::crd;

#[derive(Args)]
pub(crate) struct Crds {
    /// Directory to write one file per kind into; default: print all of them
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Crds {
    pub(crate) fn main(&self) -> Result<(), Error> {
        let Some(dir) = &self.dir else { return output::print(&crd::definitions()) };
        output::make_dir(dir)?;
        for definition in crd::definitions() {
            output::write_one(&dir.join(format!("{}.yaml", definition.name_any())), &definition)?;
        }
        Ok(())
    }
}
