//! The workflow of a release, and the Dockerfile that it builds.

use std::{fs, process::Command};

use controlplane::program;

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
