//! `tokenry admission`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Error, output};
use crate::admission::{Options, mutating, validating};

#[derive(Args)]
pub(crate) struct Admission {
    /// Prefix of the names of the policies
    #[arg(long, default_value = "tokenry")]
    name: String,
    /// User name of the operator's ServiceAccount
    #[arg(long, default_value = "system:serviceaccount:tokenry-system:tokenry-operator")]
    operator: String,
    /// User name of the verifier's ServiceAccount
    #[arg(long, default_value = "system:serviceaccount:tokenry-system:tokenry-verifier")]
    verifier: String,
    /// User name that is exempt from all policies except the one on status; may be given several times
    #[arg(long)]
    exempt: Vec<String>,
    /// Allow tokens and accounts without an owner where the API server stamps none
    #[arg(long)]
    no_require_owner: bool,
    /// Label, KEY=VALUE or KEY=VALUE,VALUE, of the namespaces in which the policies apply; default: all namespaces
    #[arg(long)]
    namespaces: Option<String>,
    /// Leave out the policies that stamp owners, for API servers without MutatingAdmissionPolicy (before 1.36)
    #[arg(long)]
    no_mutation: bool,
    /// Directory to write validating.yaml and mutating.yaml of the chart into, with placeholders that the chart fills
    /// in; default: print the policies
    #[arg(long, exclusive = true)]
    dir: Option<PathBuf>,
}

/// Placeholders that the chart fills in.
const MARKS: [&str; 5] = ["__NAME__", "__OPERATOR__", "__VERIFIER__", "__EXEMPT__", "__REQUIRE_OWNER__"];

impl Admission {
    pub(crate) fn main(self) -> Result<(), Error> {
        if let Some(dir) = &self.dir {
            let [name, operator, verifier, exempt, require_owner] = MARKS.map(str::to_owned);
            let namespaces = "__NAMESPACES__".into();
            let options = Options { name, operator, verifier, exempt: vec![exempt], require_owner, namespaces };
            output::make_dir(dir)?;
            output::write(&dir.join("validating.yaml"), &validating(&options))?;
            return output::write(&dir.join("mutating.yaml"), &mutating(&options));
        }
        let namespaces = self.namespaces.as_deref().map_or(Ok(json!({})), selector)?;
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

/// The selector of namespaces with one of the values of a label.
fn selector(label: &str) -> Result<Value, Error> {
    let (key, values) = label.split_once('=').ok_or_else(|| Error::Usage("--namespaces: give KEY=VALUE".into()))?;
    let values: Vec<_> = values.split(',').collect();
    Ok(match values[..] {
        [value] => json!({"matchLabels": {key: value}}),
        _ => json!({"matchExpressions": [{"key": key, "operator": "In", "values": values}]}),
    })
}
