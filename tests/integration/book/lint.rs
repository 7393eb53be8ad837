//! The manifests that pages show have no fault, unless the page is about one.

use std::{fs, path::Path, process::Command};

use super::{Page, all};

/// The pages that show a fault.
const FAULTY: [&str; 1] = ["docs/how-to/lint.md"];

/// The faults of the manifests of a page, as `tokenry lint` prints them.
fn faults(page: &Page) -> Option<String> {
    let blocks = page.blocks();
    let manifests = blocks.iter().filter(|block| block.language == "yaml").map(|block| &*block.text);
    // Templates of Helm are no YAML yet.
    let is_ours = |text: &&str| text.contains("apiVersion: tokenry.dev/") && !text.contains("{{ .");
    let ours: Vec<_> = manifests.filter(is_ours).collect();
    if ours.is_empty() {
        return None;
    }
    let name = format!("page-{}-{}.yaml", std::process::id(), page.path.replace('/', "-"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, ours.join("---\n")).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_tokenry")).args(["lint", "-f"]).arg(&file).output().unwrap();
    fs::remove_file(file).unwrap();
    Some(String::from_utf8(done.stdout).unwrap())
}

#[test]
fn the_manifests_of_pages_have_no_fault() {
    let mut seen = 0;
    for page in all() {
        let Some(faults) = faults(&page) else { continue };
        seen += 1;
        assert_eq!(faults.is_empty(), !FAULTY.contains(&&*page.path), "{}: {faults}", page.path);
    }
    assert!(seen > 10, "{seen}");
}
