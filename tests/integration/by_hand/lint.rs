//! `lint`, without a cluster.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::harness::root;

const TOKEN: &str =
    "apiVersion: tokenry.dev/v1alpha1\nkind: ApiToken\nmetadata:\n  name: ci\nspec:\n  instanceRef:\n    name: shop\n";
const INSTANCE: &str = "apiVersion: tokenry.dev/v1alpha1\nkind: Instance\nmetadata:\n  name: shop\nspec: {}\n";

/// An empty folder.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("lint-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The program, without a cluster.
fn tokenry(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenry"));
    command.arg("lint").args(args).env_clear().env("KUBECONFIG", "/nowhere").current_dir(root());
    command
}

fn lint(args: &[&str]) -> (i32, String, String) {
    told(&tokenry(args).output().unwrap())
}

/// The exit code, the output and the error output.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn piped(args: &[&str], text: &str) -> (i32, String, String) {
    let mut command = tokenry(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    told(&child.wait_with_output().unwrap())
}

#[test]
fn the_manifests_of_the_examples_have_no_fault() {
    let (code, out, err) = lint(&["--recursive", "-f", "examples"]);
    assert_eq!((code, &*out), (0, ""), "{err}");
    let checked = err.lines().last().unwrap().strip_prefix("no fault in ").unwrap();
    let count: usize = checked.split(' ').next().unwrap().parse().unwrap();
    assert!(count > 30, "{err}");
}

#[test]
fn a_link_in_a_folder_is_read_as_in_a_mounted_config_map() {
    let (folder, elsewhere) = (folder("links"), folder("linked"));
    fs::write(elsewhere.join("bad"), format!("{TOKEN}  role: A\n")).unwrap();
    let _earlier = fs::remove_file(folder.join("bad.yaml"));
    symlink(elsewhere.join("bad"), folder.join("bad.yaml")).unwrap();
    let (code, out, err) = lint(&[folder.to_str().unwrap()]);
    assert!(code == 1 && out.contains("spec.role"), "{out}{err}");
}

#[test]
fn a_list_that_is_far_too_long_is_refused_soon() {
    let entries: String = (0..100_000).map(|entry| format!("  - p{entry}\n")).collect();
    let (code, out, err) = piped(&["-"], &format!("{TOKEN}  projects:\n{entries}"));
    assert!(code == 1 && out.contains("spec.projects: must have at most"), "{out}{err}");
}

#[test]
fn the_exit_code_says_the_outcome() {
    let folder = folder("codes");
    let at = |name: &str| folder.join(name).display().to_string();
    fs::write(at("good.yaml"), TOKEN).unwrap();
    fs::write(
        at("bad.json"),
        r#"{"apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"name": "x"}}"#,
    )
    .unwrap();
    fs::create_dir_all(at("below/deeper")).unwrap();
    fs::write(at("below/deeper/bad.yml"), format!("{TOKEN}  role: A\n")).unwrap();
    fs::write(at("below/notes.txt"), "no manifest: [").unwrap();
    assert_eq!(lint(&["-f", &at("good.yaml")]).0, 0);
    let (code, _, err) = lint(&[&at("good.yaml"), &at("bad.json")]);
    assert!(code == 1 && err.ends_with("1 fault in 2 objects\n"), "{err}");
    let (code, out, _) = lint(&["-f", &at("good.yaml"), "-f", &at("bad.json")]);
    assert!(
        code == 1 && out.contains("bad.json:1:1: error: ApiToken default/x: spec: is missing; add it [Invalid]"),
        "{out}"
    );
    let (code, out, err) = lint(&["-f", &at("")]);
    assert_eq!((code, out.lines().count()), (1, 1), "{out}");
    assert!(err.ends_with("1 fault in 2 objects\n"), "{err}");
    let (code, out, _) = lint(&["-R", "-f", &at("")]);
    assert!(code == 1 && out.contains("below/deeper/bad.yml:8:3: error: "), "{out}");
    let (code, _, err) = lint(&["-f", &at("below")]);
    assert!(code == 2 && err.contains("give --recursive to look into its folders"), "{err}");
    assert_eq!(lint(&[]).0, 2);
    let (code, _, err) = lint(&["-f", &at("absent.yaml")]);
    assert!(code == 2 && err.contains("there is no file or folder ") && err.contains("absent.yaml"), "{err}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn standard_input_has_the_output_of_kustomize_and_helm() {
    let folder = folder("rendered");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("token.yaml", &format!("{TOKEN}  role: root\n"));
    write("shop.yaml", INSTANCE);
    write("kustomization.yaml", "namespace: ci\nresources: [token.yaml, shop.yaml]\n");
    write("chart/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n");
    write("chart/templates/token.yaml", &format!("{TOKEN}  role: {{{{ .Values.role }}}}\n---\n{INSTANCE}"));
    let run = |program: &str, args: &[&str]| {
        let output =
            Command::new(controlplane::program(program).unwrap()).args(args).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let rendered = run("kubectl", &["kustomize", "."]);
    let (code, out, err) = piped(&["-f", "-"], &rendered);
    assert!(code == 1 && out.contains("error: ApiToken ci/ci: spec.role: the Instance has no role root"), "{out}{err}");
    let rendered = run("helm", &["template", "x", "chart", "--set", "role=root"]);
    let (code, out, err) = piped(&["-f", "-", "--namespace", "shops"], &rendered);
    assert!(
        code == 1 && out.contains("error: ApiToken shops/ci: spec.role: the Instance has no role root"),
        "{out}{err}"
    );
    assert_eq!(piped(&["-f", "-"], &run("helm", &["template", "x", "chart", "--set", "role=admin"])).0, 0);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn text_of_files_is_escaped_and_tokens_are_hidden() {
    let value = tokenry::token::format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
    let text = format!("{TOKEN}  role: \"\\e[31m\"\n  \"x\\e]0;y\\a\": 1\n  {}: 1\n", value.expose());
    for form in ["text", "json", "sarif"] {
        let (code, out, err) = piped(&["-", "-o", form], &text);
        assert_eq!(code, 1);
        if form == "sarif" {
            super::sarif::validate(&out);
        }
        assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "{out}{err}");
        assert!(!out.contains(value.expose()) && !err.contains(value.expose()), "{out}{err}");
    }
}

#[test]
fn a_log_without_a_fault_is_of_the_standard_too() {
    let (code, out, err) = piped(&["-", "-o", "sarif"], TOKEN);
    assert_eq!(code, 0, "{err}");
    super::sarif::validate(&out);
}

#[test]
fn a_document_that_cannot_be_parsed_hides_no_fault_of_the_others() {
    let text = format!("{TOKEN}  role: A\n---\nspec: [\n---\n{TOKEN}  owner: nobody\n");
    let (code, out, err) = piped(&["-"], &text);
    let places: Vec<_> = out.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!((code, &places[..]), (1, &["<stdin>:8:3", "<stdin>:10:7", "<stdin>:19:3"][..]), "{out}{err}");
}

#[test]
fn a_document_that_is_too_deep_is_refused() {
    let deep: String = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for text in [deep, "[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        let (code, out, err) = piped(&["-f", "-"], &text);
        assert!(code == 1 && out.starts_with("<stdin>:") && out.ends_with(" [Unparsed]\n"), "{code} {out}{err}");
        assert!(!out.contains("Depth") && !out.contains('{'), "no words of the code: {out}");
    }
}

#[test]
fn the_workflow_of_the_documentation_makes_a_log_for_code_scanning() {
    let page = fs::read_to_string(root().join("docs/how-to/lint.md")).unwrap();
    let workflow = page.split("```yaml\n# .github/workflows/lint.yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let workflow: Value = serde_saphyr::from_str(workflow).unwrap();
    let steps = workflow["jobs"]["tokenry"]["steps"].as_array().unwrap();
    let commands: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    let [command] = commands[..] else { panic!("{commands:?}") };
    let (image, rest) = command.split_once(" lint ").unwrap();
    assert!(image.starts_with("docker run --rm "), "{command}");
    let folder = folder("workflow");
    fs::create_dir_all(folder.join("deploy")).unwrap();
    fs::write(folder.join("deploy/token.yaml"), format!("{TOKEN}  role: A\n")).unwrap();
    let shell = format!("'{}' lint {rest}", env!("CARGO_BIN_EXE_tokenry"));
    let done = Command::new("bash").args(["-e", "-c", &shell]).current_dir(&folder).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let file = steps.last().unwrap()["with"]["sarif_file"].as_str().unwrap();
    let log: Value = serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap();
    let place = &log["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "deploy/token.yaml");
    assert_eq!((&place["region"]["startLine"], &place["region"]["startColumn"]), (&8.into(), &3.into()));
    fs::remove_dir_all(folder).unwrap();
}
