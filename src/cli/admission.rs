//! `tokenry admission`.

use std::path::PathBuf;

use super::{Error, output};
use crate::admission::{Options, mutating, validating};
use clap::Args;

#[derive(Args)]
pub(crate) struct Admission {
    /// What the names of the policies begin with
    #[arg(long, default_value = "tokenry")]
    name: String,
    /// User name of the operator
    #[arg(long, default_value = "system:serviceaccount:tokenry-system:tokenry-operator")]
    operator: String,
    /// User name of the verifier
    #[arg(long, default_value = "system:serviceaccount:tokenry-system:tokenry-verifier")]
    verifier: String,
    /// A user to whom no policy applies but that on status; may be given several times
    #[arg(long)]
    exempt: Vec<String>,
    /// Let tokens and accounts be made without an owner where nothing stamps one
    #[arg(long)]
    no_require_owner: bool,
    /// The label, KEY=VALUE, of the namespaces in which they hold; left out: all
    #[arg(long)]
    namespaces: Option<String>,
    /// Leave out what stamps, for servers without MutatingAdmissionPolicy (before 1.36)
    #[arg(long)]
    no_mutation: bool,
    /// Directory of the chart's files to write them into, with marks that the chart fills in; left out: they are
    /// printed
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What the chart fills in.
const MARKS: [&str; 5] = ["__NAME__", "__OPERATOR__", "__VERIFIER__", "__EXEMPT__", "__REQUIRE_OWNER__"];

impl Admission {
    pub(crate) fn main(self) -> Result<(), Error> {
        if let Some(dir) = &self.dir {
            let [name, operator, verifier, exempt, require_owner] = MARKS.map(str::to_owned);
            let namespaces = "__NAMESPACES__".into();
            let options = Options { name, operator, verifier, exempt: vec![exempt], require_owner, namespaces };
            output::write(&dir.join("validating.yaml"), &validating(&options))?;
            return output::write(&dir.join("mutating.yaml"), &mutating(&options));
        }
        let namespaces = self.namespaces.as_deref().map_or(Ok::<_, Error>(serde_json::json!({})), |label| {
            let (key, value) =
                label.split_once('=').ok_or_else(|| Error::Usage("--namespaces: give KEY=VALUE".into()))?;
            Ok(serde_json::json!({"matchLabels": {key: value}}))
        })?;
        let Self { name, operator, verifier, exempt, no_mutation, no_require_owner, .. } = self;
        let require_owner = (!no_require_owner).to_string();
        let options = Options { name, operator, verifier, exempt, require_owner, namespaces };
        output::print(&validating(&options))?;
        if !no_mutation {
            output::print(&mutating(&options))?;
        }
        Ok(())
    }
}
