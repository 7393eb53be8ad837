//! The workflow of a release, and the Dockerfile that it builds.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use controlplane::program;
use serde_json::Value;

use crate::harness::root;

const WORKFLOW: &str = ".github/workflows/release.yaml";

#[test]
fn actionlint_finds_no_fault_in_the_workflow() {
    // Without shellcheck and pyflakes, so that each machine sees the same.
    let lint = |path: &str| {
        let mut command = Command::new(program("actionlint").unwrap());
        command.args(["-shellcheck=", "-pyflakes=", "-no-color", path]).current_dir(root()).output().unwrap()
    };
    let output = lint(WORKFLOW);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let faulty = std::env::temp_dir().join(format!("tokenry-workflow-{}.yaml", std::process::id()));
    fs::write(&faulty, fs::read_to_string(root().join(WORKFLOW)).unwrap().replace("needs: image", "needs: images"))
        .unwrap();
    let told = lint(faulty.to_str().unwrap());
    fs::remove_file(&faulty).unwrap();
    assert!(!told.status.success(), "actionlint looks at the file");
}

#[test]
fn the_workflow_names_full_versions_of_actions_and_neither_registry_nor_image() {
    let text = fs::read_to_string(root().join(WORKFLOW)).unwrap();
    let actions: Vec<_> = text.lines().filter_map(|line| line.split("uses: ").nth(1)).collect();
    assert!(actions.len() > 20, "{actions:?}");
    for action in actions {
        let (_, version) = action.split_once("@v").unwrap_or_else(|| panic!("{action}"));
        let parts: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
        assert!(parts.len() == 3 && parts.iter().all(Result::is_ok), "{action}");
    }
    for variable in ["vars.REGISTRY", "vars.IMAGE", "vars.CHARTS"] {
        assert!(text.contains(variable), "{variable}");
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("There is no published image yet"), "name the image here, once there is one");
}

#[test]
fn crate_workflow_and_dockerfile_have_the_same_rust() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(read(WORKFLOW).contains(&format!("\n  RUST: \"{rust}\"\n")), "{rust}");
    assert!(read("Dockerfile").contains(&format!("\nFROM rust:{rust}-")), "{rust}");
}

/// A copy of the files of a release, in which steps of the workflow run.
struct Released(PathBuf);

impl Drop for Released {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Released {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("tokenry-release-{}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).unwrap();
        for name in ["charts", "deploy", "Cargo.toml", "CHANGELOG.md"] {
            let copied = Command::new("cp").arg("-r").arg(root().join(name)).arg(&folder).status().unwrap();
            assert!(copied.success(), "{name}");
        }
        for name in ["helm", "kubectl"] {
            symlink(program(name).unwrap(), folder.join("bin").join(name)).unwrap();
        }
        Self(folder)
    }

    /// Runs a step as GitHub does, up to the first line that begins with one of `ends`. True: it succeeded.
    fn runs(&self, step: &str, tag: &str, ends: &[&str]) -> bool {
        let script = script(step);
        let lines = script.lines().filter(|line| !line.starts_with("rustup "));
        let here: Vec<_> = lines.take_while(|line| !ends.iter().any(|end| line.starts_with(end))).collect();
        let path = format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        bash.args(["-e", "-c", &here.join("\n")]).current_dir(&self.0).env("PATH", path);
        bash.envs([("GITHUB_REF_NAME", tag), ("IMAGE", IMAGE), ("DIGEST", DIGEST)]);
        bash.status().unwrap().success()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap()
    }
}

const IMAGE: &str = "registry.example.com/team/tokenry";
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The script of the step with this name.
fn script(step: &str) -> String {
    let workflow: Value = serde_saphyr::from_str(&fs::read_to_string(root().join(WORKFLOW)).unwrap()).unwrap();
    let steps = workflow["jobs"].as_object().unwrap().values().flat_map(|job| job["steps"].as_array().unwrap());
    let named = |one: &&Value| one["name"] == step;
    { steps }.find(named).unwrap_or_else(|| panic!("no step: {step}"))["run"].as_str().unwrap().to_owned()
}

#[test]
fn the_scripts_of_a_release_make_its_chart_its_manifests_and_its_notes() {
    let released = Released::new();
    let tag = concat!("v", env!("CARGO_PKG_VERSION"));
    let checks = "The tag is the version of crate and chart";
    assert!(released.runs(checks, tag, &[]) && !released.runs(checks, "v9.9.9", &[]));

    // The rest of the step needs a registry and an identity of GitHub.
    assert!(released.runs("Package the chart for this image, push and sign it", tag, &["helm push "]));
    let chart = released.0.join(concat!("dist/tokenry-", env!("CARGO_PKG_VERSION"), ".tgz"));
    let helm = |args: &[&str]| {
        let output = Command::new(program("helm").unwrap()).args(args).arg(&chart).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let image = format!("image: \"{IMAGE}:{}\"", env!("CARGO_PKG_VERSION"));
    let rendered = helm(&["template", "tokenry"]);
    assert!(rendered.matches(&image).count() >= 2 && !rendered.contains("image: \"tokenry"), "{rendered}");
    assert!(helm(&["show", "chart"]).contains(&format!("image: {IMAGE}:{}", env!("CARGO_PKG_VERSION"))));

    assert!(released.runs("Render the manifests for kubectl", tag, &[]));
    for manifest in ["dist/install.yaml", "dist/install-without-stamps.yaml"] {
        let text = released.read(manifest);
        assert_eq!(text.matches(&format!("image: {IMAGE}@{DIGEST}")).count(), 2, "{manifest}");
        assert!(!text.contains("image: tokenry"), "{manifest}");
    }
    assert_eq!(released.read("dist/crds.yaml"), fs::read_to_string(root().join("deploy/crds/crds.yaml")).unwrap());

    assert!(released.runs("Publish", tag, &["gh "]));
    let notes = released.read("notes.md");
    assert!(notes.contains("ApiToken") && !notes.contains("## "), "{notes}");
}
