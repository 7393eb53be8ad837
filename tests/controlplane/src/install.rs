//! Tokenry's definitions and rights, as its chart grants them.

use std::path::Path;

use crate::{ControlPlane, command::helm};

/// The namespace that Tokenry's own accounts live in.
pub const NAMESPACE: &str = "tokenry-system";

/// Bearer tokens of the accounts that the operator and the verifier run as.
#[derive(Clone, Debug)]
pub struct Identities {
    /// Of the operator.
    pub operator: String,
    /// Of the verifier.
    pub verifier: String,
}

/// Parts of the chart that grant rights, or hold to them. Its Deployments stay away: nothing here runs Pods.
const RIGHTS: [&str; 5] = [
    "templates/serviceaccounts.yaml",
    "templates/clusterroles.yaml",
    "templates/bindings.yaml",
    "templates/userroles.yaml",
    "templates/admission.yaml",
];

impl ControlPlane {
    /// Applies the definitions in `root`'s `crds/` and waits until they are served.
    ///
    /// # Errors
    /// What kubectl says.
    pub fn install_crds(&self, root: &Path) -> Result<(), String> {
        let crds = root.join("crds").display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &crds])?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds])?;
        Ok(())
    }

    /// Applies the rights that the chart in `root` grants, and asks for a token for each account.
    ///
    /// # Errors
    /// What helm or kubectl says.
    pub fn install_rights(&self, root: &Path) -> Result<Identities, String> {
        let chart = root.join("charts/tokenry").display().to_string();
        // Most tests are about something else and act as administrators who may do anything, also write a status.
        let judged = "admission.namespaceSelector.matchLabels.admission=judged";
        let mut args = vec!["template", "tokenry", &chart, "--namespace", NAMESPACE, "--set", judged];
        args.extend(["--set", "admission.stamps=always"]);
        RIGHTS.iter().for_each(|part| args.extend(["--show-only", part]));
        let rights = helm(&args)?;
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n---\n");
        self.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &(namespace + &rights))?;
        let token = |account: &str| {
            let args = ["create", "token", account, "--namespace", NAMESPACE, "--duration", "8h"];
            self.kubectl(&args).map(|token| token.trim().to_owned())
        };
        Ok(Identities { operator: token("tokenry-operator")?, verifier: token("tokenry-verifier")? })
    }
}
