//! Tokenry's CRDs and permissions, as its chart installs them.

use std::path::Path;

use crate::{ControlPlane, command::helm};

/// The namespace of Tokenry's own ServiceAccounts.
pub const NAMESPACE: &str = "tokenry-system";

/// Bearer tokens of the ServiceAccounts of the operator and the verifier.
#[derive(Clone, Debug)]
pub struct Identities {
    /// The operator's bearer token.
    pub operator: String,
    /// The verifier's bearer token.
    pub verifier: String,
}

/// Parts of the chart that grant or limit permissions. The Deployments are left out, because the control plane runs no
/// Pods.
const RIGHTS: [&str; 6] = [
    "templates/serviceaccounts.yaml",
    "templates/clusterroles.yaml",
    "templates/bindings.yaml",
    "templates/userroles.yaml",
    "templates/metricsroles.yaml",
    "templates/admission.yaml",
];

/// The permission that only a release for one namespace has. Most tests run programs that serve one namespace, with the
/// permissions of a release for all.
const SCOPED: &str = "
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: scoped
rules:
- apiGroups: ['']
  resources: [namespaces]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: scoped
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: scoped
subjects:
- kind: ServiceAccount
  name: tokenry-operator
  namespace: tokenry-system
- kind: ServiceAccount
  name: tokenry-verifier
  namespace: tokenry-system
";

/// The value of the chart by which the operator may create every kind of object that exposes an endpoint.
pub const EXPOSING: &str = "exposure.kinds={HTTPRoute,Ingress,Route,NetworkPolicy,Middleware,SecurityPolicy,\
    AuthorizationPolicy}";

/// The values of the chart by which the programs may review callers: those of introspection, and those of metrics.
pub const REVIEWING_CALLERS: &str = "verifier.introspection.enabled=true,metrics.secure.enabled=true";

impl ControlPlane {
    /// Applies the CRDs in `root`'s `crds/` and waits until they are served.
    ///
    /// # Errors
    /// The error output of kubectl.
    pub fn install_crds(&self, root: &Path) -> Result<(), String> {
        let crds = root.join("crds").display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &crds])?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds])?;
        Ok(())
    }

    /// Applies the permissions of the chart in `root`, and creates a bearer token for each ServiceAccount.
    ///
    /// # Errors
    /// The error output of helm or kubectl.
    pub fn install_rights(&self, root: &Path) -> Result<Identities, String> {
        let chart = root.join("charts/tokenry").display().to_string();
        // Admission policies apply only in labelled namespaces. Most tests act as an administrator with all
        // permissions, also to write a status.
        let judged = "admission.namespaceSelector.matchLabels.admission=judged";
        let mut args = vec!["template", "tokenry", &chart, "--namespace", NAMESPACE, "--set", judged];
        args.extend(["--set", "admission.stamps=always", "--set", EXPOSING, "--set", REVIEWING_CALLERS]);
        RIGHTS.iter().for_each(|part| args.extend(["--show-only", part]));
        let rights = helm(&args)?;
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n---\n");
        self.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &(namespace + &rights + SCOPED))?;
        let token = |account: &str| {
            let args = ["create", "token", account, "--namespace", NAMESPACE, "--duration", "8h"];
            self.kubectl(&args).map(|token| token.trim().to_owned())
        };
        Ok(Identities { operator: token("tokenry-operator")?, verifier: token("tokenry-verifier")? })
    }
}
