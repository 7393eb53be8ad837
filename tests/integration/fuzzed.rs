//! What the fuzz targets run, without a fuzzer. So a change that breaks them is noticed without a nightly toolchain.

use std::{collections::BTreeSet, fs};

use crate::{harness::root, sent::SPOKEN};

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "a fuzzer calls the rest, and both read the same requests")]
mod fuzz;

use fuzz::Spoken;

/// The targets, and their protocols.
const TARGETS: [(&str, Spoken); 5] = [
    ("forward_auth", Spoken::ForwardAuth),
    ("ingress_nginx", Spoken::IngressNginx),
    ("token_review", Spoken::TokenReview),
    ("introspection", Spoken::Introspection),
    ("ext_authz", Spoken::ExtAuthz),
];

#[test]
fn each_protocol_has_a_target_and_its_first_request_is_let_in() {
    assert_eq!(TARGETS.len(), SPOKEN.len());
    for (name, spoken) in TARGETS {
        let text = fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            text.contains("init: begin()") && text.contains(&format!("judged(Spoken::{spoken:?}, bytes)")),
            "{text}"
        );
        assert!(fuzz::judged(spoken, &[]), "{spoken:?}");
    }
    let without_the_last_letter = [&[0; 14][..], &[8]].concat();
    assert!(!fuzz::judged(Spoken::ForwardAuth, &without_the_last_letter));
    fuzz::connected(b"GET /v1/instances/a/eem/authorize HTTP/1.1\r\nHost: x\r\n\r\n");
}

/// The version that a manifest asks for.
fn version<'a>(manifest: &'a str, name: &str) -> Option<&'a str> {
    let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")))?;
    line.split('"').find(|part| part.starts_with(|c: char| c.is_ascii_digit()))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn the_targets_are_built_with_the_libraries_of_the_program() {
    let (own, fuzz) = (read("Cargo.toml"), read("fuzz/Cargo.toml"));
    let dependencies = fuzz.split("[dependencies]\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in dependencies.lines().filter(|line| !line.starts_with("libfuzzer-sys") && !line.contains("path =")) {
        let name = line.split(' ').next().unwrap();
        let wanted = version(&fuzz, name);
        assert!(wanted.is_some() && wanted == version(&own, name), "{line}");
    }
    for file in fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        assert!(fuzz.contains(&format!("path = \"fuzz_targets/{file}\"")), "{file} is in no [[bin]]");
    }
}

#[test]
fn the_targets_lock_each_library_of_the_program() {
    let (own, lock) = (read("Cargo.toml"), read("fuzz/Cargo.lock"));
    let libraries = own.split("\n[").filter_map(|section| section.split_once("]\n"));
    let libraries = libraries.filter(|(name, _)| *name == "dependencies" || name.ends_with(".dependencies"));
    let libraries = libraries.filter(|(name, _)| !name.starts_with("workspace"));
    let lines = libraries.flat_map(|(_, lines)| lines.lines().filter(|line| line.contains(" = ")));
    let wanted: BTreeSet<_> = lines.map(|line| line.split([' ', '.']).next().unwrap()).collect();
    let locked = lock.split("\n\n").find(|package| package.contains("\nname = \"tokenry\"\n")).unwrap();
    let locked = locked.lines().filter_map(|line| line.strip_prefix(" \"")?.split([' ', '"']).next());
    assert!(wanted.contains("kube") && wanted.contains("procfs"), "{wanted:?}");
    assert_eq!(locked.collect::<BTreeSet<_>>(), wanted, "run: cargo fetch --manifest-path fuzz/Cargo.toml");
}
