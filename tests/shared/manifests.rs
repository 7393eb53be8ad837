//! The manifests of `deploy`, for users without helm: `cargo manifests` writes them, and a test compares them.

use std::path::Path;

/// Lines that are true of a release of helm alone.
const OF_HELM: [&str; 3] = ["helm.sh/chart: ", "app.kubernetes.io/managed-by: Helm", "# Source: "];

/// The namespace of the manifests.
const NAMESPACE: &str = "tokenry-system";

/// Each manifest: its path below the repository's root, and its text.
///
/// # Errors
/// The message of helm.
pub fn all(root: &Path) -> Result<Vec<(&'static str, String)>, String> {
    let rendered = |show: &[&str], values: &str| {
        let chart = root.join("charts/tokenry").display().to_string();
        let args = ["template", "tokenry", &chart, "--namespace", NAMESPACE, "--set", values];
        let show: Vec<_> = show.iter().flat_map(|part| ["--show-only", part]).collect();
        controlplane::helm(&[&args[..], &show].concat()).map(|text| plain(&text))
    };
    let stamps = |text: String| {
        let documents = text.split("---\n").filter(|document| document.contains("\nkind: MutatingAdmission"));
        documents.map(|document| format!("---\n{document}")).collect::<String>()
    };
    let admission = ["templates/admission.yaml"];
    Ok(vec![
        (
            "deploy/base/tokenry.yaml",
            rendered(&[], "crds.enabled=false,helmTest.enabled=false,admission.stamps=never")?,
        ),
        ("deploy/crds/crds.yaml", rendered(&["templates/crds.yaml"], "crds.keep=false")?),
        ("deploy/stamps/stamps.yaml", stamps(rendered(&admission, "admission.stamps=always")?)),
    ])
}

/// A rendered text without the lines that are true of a release of helm alone.
fn plain(rendered: &str) -> String {
    let lines = rendered.lines().filter(|line| !OF_HELM.iter().any(|of| line.trim_start().starts_with(of)));
    let text = lines.map(|line| line.trim_end().to_owned() + "\n").collect::<String>();
    format!("# Generated from charts/tokenry by `cargo manifests`; a test fails when it is out of date.\n{text}")
}
