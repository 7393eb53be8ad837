//! The manifest of the kubectl plugin for krew, from the archives of a release.
//! <https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/>

use std::{fs, io, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The systems that krew knows, as the name of an archive ends.
const SYSTEMS: [(&str, &str); 5] =
    [("linux", "amd64"), ("linux", "arm64"), ("darwin", "amd64"), ("darwin", "arm64"), ("windows", "amd64")];

/// The name of the archive for a system. It holds `kubectl-tokenry` and `LICENSE`.
pub fn archive(os: &str, arch: &str) -> String {
    format!("kubectl-tokenry-v{}-{os}-{arch}.tar.gz", env!("CARGO_PKG_VERSION"))
}

/// The manifest for the archives in `folder`. Users download them below `url`.
///
/// # Errors
/// An archive cannot be read, or there is none of this version.
pub fn manifest(folder: &Path, url: &str) -> io::Result<Value> {
    let mut platforms = Vec::new();
    for (os, arch) in SYSTEMS {
        let name = archive(os, arch);
        let path = folder.join(&name);
        if path.exists() {
            platforms.push(platform((os, arch), &fs::read(path)?, &format!("{}/{name}", url.trim_end_matches('/'))));
        }
    }
    if platforms.is_empty() {
        let wanted = archive("linux", "amd64");
        return Err(io::Error::other(format!("{}: there is no archive such as {wanted}", folder.display())));
    }
    Ok(json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "tokenry"},
        "spec": {
            "version": concat!("v", env!("CARGO_PKG_VERSION")),
            "shortDescription": "Create, rotate, revoke and check API tokens",
            "description": "Keeps the API access tokens of the operator Tokenry: creates a token and prints its value, lists \
                tokens, rotates, revokes and deletes them, and checks an installation.\n",
            "caveats": "The cluster needs the operator Tokenry: kubectl tokenry check\n",
            "platforms": platforms,
        },
    }))
}

fn platform((os, arch): (&str, &str), bytes: &[u8], uri: &str) -> Value {
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let program = if os == "windows" { "kubectl-tokenry.exe" } else { "kubectl-tokenry" };
    json!({
        "selector": {"matchLabels": {"os": os, "arch": arch}},
        "uri": uri,
        "sha256": digest,
        "files": [{"from": program, "to": "."}, {"from": "LICENSE", "to": "."}],
        "bin": program,
    })
}
