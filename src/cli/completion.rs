//! `tokenry completion`.

use clap::Args;
use clap_complete::{Shell, generate};

use super::{Error, command};

#[derive(Args)]
pub(crate) struct Completion {
    /// Shell of the script
    shell: Shell,
}

impl Completion {
    pub(crate) fn main(self) -> Result<(), Error> {
        generate(self.shell, &mut command(), "tokenry", &mut std::io::stdout());
        Ok(())
    }
}
