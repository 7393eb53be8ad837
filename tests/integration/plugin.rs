//! The manifest of the kubectl plugin, as krew reads it: with the archive of the program that these tests run.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use axum::{Router, routing::get};
use tokio::net::TcpListener;

use crate::{harness::root, manifest};

/// The system of this machine, as krew names it.
fn archive() -> String {
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let os = if std::env::consts::OS == "macos" { "darwin" } else { "linux" };
    manifest::archive(os, arch)
}

/// A folder of this test. It is empty at first, and removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tokenry-krew-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("bin")).unwrap();
        Self(path)
    }

    /// Runs a command with the programs of krew and kubectl first in its path, without the variables of this process.
    fn run(&self, program: &Path, args: &[&str]) -> String {
        let path = format!("{}:{}:/usr/bin:/bin", self.0.join("bin").display(), self.0.join("krew/bin").display());
        let mut command = Command::new(program);
        command.args(args).env_clear().env("PATH", path).env("HOME", &self.0).env("KREW_ROOT", self.0.join("krew"));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{args:?}: {text}");
        text
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn krew_accepts_the_manifest_and_installs_the_plugin() {
    let (folder, name) = (Folder::new(), archive());
    let at = |name: &str| folder.0.join(name);
    fs::copy(env!("CARGO_BIN_EXE_tokenry"), at("kubectl-tokenry")).unwrap();
    fs::copy(root().join("LICENSE"), at("LICENSE")).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-czf", &name, "kubectl-tokenry", "LICENSE"]).current_dir(&folder.0).env("GZIP", "-1");
    assert!(tokio::task::block_in_place(|| tar.status()).unwrap().success());
    let bytes = fs::read(at(&name)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = Router::new().route(&format!("/{name}"), get(|| async { bytes }));
    tokio::spawn(async { axum::serve(listener, served).await.unwrap() });
    let manifest = manifest::manifest(&folder.0, &url).unwrap();
    fs::write(at("tokenry.yaml"), serde_saphyr::to_string(&manifest).unwrap()).unwrap();
    for (program, link) in [("kubectl", "kubectl"), ("krew", "kubectl-krew")] {
        symlink(controlplane::program(program).unwrap(), at("bin").join(link)).unwrap();
    }
    let validate = controlplane::program("validate-krew-manifest").unwrap();
    let file = at("tokenry.yaml").display().to_string();
    tokio::task::block_in_place(|| {
        let told = folder.run(&validate, &["-manifest", &file]);
        assert!(told.contains("structural validation OK") && told.contains("installing spec.platform[0]"), "{told}");
        let kubectl = at("bin/kubectl");
        let from = format!("--archive={}", at(&name).display());
        folder.run(&kubectl, &["krew", "install", &format!("--manifest={file}"), &from]);
        let told = folder.run(&kubectl, &["tokenry", "version", "--client"]);
        assert!(told.contains(env!("CARGO_PKG_VERSION")), "{told}");
    });
}

#[test]
fn a_folder_without_archives_of_this_version_gives_no_manifest() {
    let told = manifest::manifest(Path::new("/nowhere"), "https://example.com").unwrap_err().to_string();
    assert!(told.contains("there is no archive such as kubectl-tokenry-v"), "{told}");
}
