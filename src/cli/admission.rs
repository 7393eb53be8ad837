//! `tokenry admission`.

use std::{fs, path::PathBuf};

use clap::Args;
use serde_json::Value;

use crate::admission::{Options, mutating, validating};

#[derive(Args)]
pub struct Admission {
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
    /// Directory of the chart's files to write them into, with marks that the chart fills in; left out: they are printed
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What the chart fills in.
const MARKS: [&str; 5] = ["__NAME__", "__OPERATOR__", "__VERIFIER__", "__EXEMPT__", "__REQUIRE_OWNER__"];

impl Admission {
    pub fn main(self) -> Result<(), String> {
        if let Some(dir) = &self.dir {
            let [name, operator, verifier, exempt, require_owner] = MARKS.map(str::to_owned);
            let namespaces = "__NAMESPACES__".into();
            let options = Options { name, operator, verifier, exempt: vec![exempt], require_owner, namespaces };
            write(dir, "validating.yaml", &validating(&options))?;
            return write(dir, "mutating.yaml", &mutating(&options));
        }
        let namespaces = self.namespaces.as_deref().map_or(Ok(serde_json::json!({})), |label| {
            let (key, value) = label.split_once('=').ok_or("--namespaces: give KEY=VALUE")?;
            Ok::<_, String>(serde_json::json!({"matchLabels": {key: value}}))
        })?;
        let Self { name, operator, verifier, exempt, no_mutation, no_require_owner, .. } = self;
        let require_owner = (!no_require_owner).to_string();
        let options = Options { name, operator, verifier, exempt, require_owner, namespaces };
        print!("{}", yaml(&validating(&options))?);
        if !no_mutation {
            print!("{}", yaml(&mutating(&options))?);
        }
        Ok(())
    }
}

fn yaml(objects: &[Value]) -> Result<String, String> {
    let each = objects.iter().map(|object| serde_saphyr::to_string(object).map(|text| format!("---\n{text}")));
    each.collect::<Result<String, _>>().map_err(|error| error.to_string())
}

fn write(dir: &std::path::Path, name: &str, objects: &[Value]) -> Result<(), String> {
    let file = dir.join(name);
    fs::write(&file, yaml(objects)?).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
