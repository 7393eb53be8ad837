//! Follows each page to the letter: saves its files, runs its commands in their order, and compares the output.
//!
//! A page runs in a namespace of its own, with the operator and the verifier at work. A page that installs or upgrades
//! by helm has a control plane of its own, and the test plays the part of the nodes: it runs the programs that the
//! Deployments name.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command as Process,
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::{ControlPlane, Identities, NAMESPACE, Process as Server, free_address};
use serde_json::json;

use super::{
    Page, book, files,
    page::{Block, Command},
};
use crate::harness::{Plane, World, clock::Held, judged::Judged, release::identities, root, run::Running};

/// Where users reach the verifier, by `kubectl port-forward`.
const FORWARDED: &str = "localhost:8080";
/// Where the proxy of a page serves.
const PROXY: &str = "localhost:8000";
/// The namespace of the pages.
const DEFAULT: &str = "default";
/// Any number of lines that a page leaves out.
const LEFT_OUT: &str = "…";
/// A command that only reads is repeated for this long, until its output is the shown one.
const PATIENCE: Duration = Duration::from_secs(90);

/// Commands that need nodes, a registry or a build. This test does not run them; `.ci/run` runs those of cargo.
const ELSEWHERE: [&str; 4] = ["cargo ", "docker build ", "kind ", "kubectl port-forward "];

/// Commands that change nothing. They are repeated until their output is the one that the page shows.
const LOOKING: [&str; 6] = ["kubectl get ", "kubectl wait ", "kubectl auth ", "curl ", "tokenry ", "helm get "];

/// A page at work.
struct Run {
    world: World,
    folder: PathBuf,
    clock: Held,
    actors: Option<(Running, Running)>,
    proxy: Option<(String, Server)>,
    is_released: bool,
    /// True if the page checks the Pods of the release.
    is_checked: bool,
}

impl Run {
    async fn begin(page: &Page) -> Self {
        let blocks = page.blocks();
        let commands: Vec<_> = of(&blocks, "console").flat_map(Block::commands).map(|command| command.text).collect();
        let is_checked = commands.iter().any(|command| command.starts_with("kubectl tokenry check"));
        let of_release =
            { commands.iter() }.find(|command| command.starts_with("helm ") && command.contains(" tokenry "));
        let is_released = of_release.is_some();
        let name = page.path.trim_end_matches(".md").replace(['/', '_'], "-").to_lowercase();
        let world = if is_released { release(&name).await } else { judged(&name).await };
        let folder = world.plane.directory().join(format!("page-{name}"));
        workplace(&folder);
        let mut run =
            Self { world, folder, clock: Held::default(), actors: None, proxy: None, is_released, is_checked };
        run.enter();
        match of_release {
            None => run.start().await,
            Some(first) if first.starts_with("helm install ") => {}
            Some(_) => {
                let given = format!("helm install tokenry charts/tokenry --namespace {NAMESPACE} --create-namespace");
                run.done(&Command { text: given, shown: Vec::new() }).await;
            }
        }
        run
    }

    /// Makes the namespace the current one of the kubeconfig.
    fn enter(&self) {
        let (plane, namespace) = (&self.world.plane, &self.world.namespace);
        let kubeconfig = plane.kubeconfig_for(namespace, plane.admin_token()).unwrap();
        fs::rename(kubeconfig, self.folder.join("kubeconfig")).unwrap();
        let (_, told) = self.shell(&format!("kubectl config set-context --current --namespace {namespace}"));
        assert!(told.contains("modified"), "{told}");
    }

    /// Starts the operator and the verifier, and waits until both are ready.
    async fn start(&mut self) {
        let operator = match self.is_checked {
            true => self.world.leader(&self.clock).await,
            false => self.world.operator(&self.clock).await,
        };
        self.actors = Some((operator, self.world.verifier(&self.clock).await));
        let (operator, verifier) = self.actors.as_ref().unwrap();
        self.world.ready(operator).await;
        if self.is_checked {
            self.world.pod_of("operator", 0, operator).await;
            self.world.pod_of("verifier", 0, verifier).await;
        }
    }

    async fn stop(&mut self) {
        if let Some((operator, verifier)) = self.actors.take() {
            operator.stop().await;
            verifier.stop().await;
        }
    }

    /// Runs a command by bash. Returns true if it succeeded, and its output.
    fn shell(&self, command: &str) -> (bool, String) {
        let path = std::env::var("PATH").unwrap();
        let mut bash = Process::new("bash");
        bash.args(["-c", &format!("exec 2>&1\n{command}")]).current_dir(&self.folder);
        bash.env("HOME", &self.folder).env("KUBECONFIG", self.folder.join("kubeconfig"));
        bash.env("PATH", format!("{}:{path}", self.folder.join("bin").display())).env("NO_PROXY", "*");
        let output = tokio::task::block_in_place(|| bash.output().unwrap());
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs Caddy with the Caddyfile of the page, at a free port.
    async fn serve(&mut self) {
        let free = free_address().unwrap().to_string();
        let file = self.folder.join("Caddyfile");
        let text = self.here(&fs::read_to_string(&file).unwrap()).replace(PROXY, &free);
        fs::write(&file, format!("{{\n\tadmin off\n\tpersist_config off\n}}\n{text}")).unwrap();
        let mut caddy = Process::new(controlplane::program("caddy").unwrap());
        caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).env("HOME", &self.folder);
        let server = Server::start("caddy", caddy, &self.folder.join("caddy.log")).unwrap();
        let begun = async || server.log().contains("serving initial configuration").then_some(());
        self.world.eventually("Caddy serves", begun).await;
        self.proxy = Some((free, server));
    }

    /// The command with the names of this run for those of the page.
    fn here(&self, command: &str) -> String {
        let verifier = self.actors.as_ref().map(|(_, verifier)| verifier.address.to_string());
        let command = command.replace(FORWARDED, &verifier.unwrap_or_default());
        let command = self.proxy.iter().fold(command, |command, (proxy, _)| command.replace(PROXY, proxy));
        let command = command.replace("/instances/default/", &format!("/instances/{}/", self.world.namespace));
        // Nodes would have to run the Pods that it waits for.
        if command.starts_with("helm ") && self.is_released { command.replace(" --wait", "") } else { command }
    }

    /// The output, with the names of the page.
    fn there(&self, printed: &str) -> String {
        let verifier = self.actors.as_ref().map(|(_, verifier)| verifier.address.to_string());
        let printed = self.proxy.iter().fold(printed.to_owned(), |printed, (proxy, _)| printed.replace(proxy, PROXY));
        let printed = printed.replace(&self.world.namespace, DEFAULT);
        verifier.map_or(printed.clone(), |verifier| printed.replace(&verifier, FORWARDED))
    }

    /// Runs a command. After helm has changed the release, operator and verifier begin again with its accounts.
    async fn done(&mut self, command: &Command) {
        if command.text.starts_with("caddy run ") {
            return self.serve().await;
        }
        if command.text.starts_with("helm uninstall tokenry") {
            self.stop().await;
        }
        self.compared(command).await;
        let changes = ["helm install tokenry ", "helm upgrade tokenry "];
        if changes.iter().any(|change| command.text.starts_with(change)) {
            let plane = &self.world.plane;
            plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--all"]).unwrap();
            self.world.identities = identities(plane);
            self.stop().await;
            self.start().await;
        }
    }

    /// Runs a command until its output is the one that is shown. One that shows none has to succeed.
    async fn compared(&self, command: &Command) {
        let (start, here) = (Instant::now(), self.here(&command.text));
        loop {
            let (succeeded, printed) = self.shell(&here);
            let printed = self.there(&printed);
            let fits = if command.shown.is_empty() { succeeded } else { fits(&command.shown, &printed) };
            if fits {
                return;
            }
            let repeated = LOOKING.iter().any(|looking| command.text.starts_with(looking));
            let shown = command.shown.join("\n");
            assert!(
                repeated && start.elapsed() < PATIENCE,
                "$ {}\nshown:\n{shown}\nprinted:\n{printed}\n{}",
                command.text,
                self.world.dump()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A namespace of the shared control plane in which the admission policies hold.
async fn judged(name: &str) -> World {
    let world = Judged::new(name).await.world;
    world.delete("Instance", "eem").await;
    world
}

/// A control plane of its own, on which nothing is installed yet.
async fn release(name: &str) -> World {
    let plane = Arc::new(ControlPlane::start().unwrap());
    let identities = Identities { operator: String::new(), verifier: String::new() };
    World::within(&Plane { plane, identities }, name, json!({})).await
}

/// A folder with the repository's files for users, and with the programs that pages name.
fn workplace(folder: &Path) {
    fs::create_dir_all(folder.join("bin")).unwrap();
    for name in ["charts", "crds", "examples"] {
        symlink(root().join(name), folder.join(name)).unwrap();
    }
    for name in ["kubectl", "helm"] {
        symlink(controlplane::program(name).unwrap(), folder.join("bin").join(name)).unwrap();
    }
    for name in ["tokenry", "kubectl-tokenry"] {
        symlink(env!("CARGO_BIN_EXE_tokenry"), folder.join("bin").join(name)).unwrap();
    }
}

/// Compares output with the shown lines. Ages, times and ids may differ.
fn fits(shown: &[String], printed: &str) -> bool {
    let shown: Vec<_> = shown.iter().map(|line| masked(line)).filter(|line| !line.is_empty()).collect();
    let printed: Vec<_> = printed.lines().map(masked).filter(|line| !line.is_empty()).collect();
    lines_fit(&shown, &printed)
}

fn lines_fit(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == LEFT_OUT => (0..=printed.len()).any(|many| lines_fit(rest, &printed[many..])),
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, more)| line_fits(first, line) && lines_fit(rest, more))
        }
    }
}

/// A shown line may leave its end out.
fn line_fits(shown: &str, printed: &str) -> bool {
    shown.strip_suffix(LEFT_OUT).map_or(shown == printed, |begin| printed.starts_with(begin.trim_end()))
}

/// A line in which ages, times, ids, digests and values are all alike.
fn masked(line: &str) -> String {
    if line.to_lowercase().starts_with("date: ") {
        return "date:".into();
    }
    line.split_whitespace().map(mask).collect::<Vec<_>>().join(" ").replace("AGE ago", "AGE")
}

fn mask(word: &str) -> String {
    let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
    let masked = match inner {
        _ if is_time(inner) => "TIME",
        _ if is_age(inner) => "AGE",
        _ if is_id(inner) => "ID",
        _ if inner.len() == 64 && inner.bytes().all(|c| c.is_ascii_hexdigit()) => "DIGEST",
        _ => return word.to_owned(),
    };
    word.replace(inner, masked)
}

fn is_time(word: &str) -> bool {
    word.parse::<jiff::Timestamp>().is_ok()
}

/// An age of less than a second is `now`, and later `1s ago`.
fn is_age(word: &str) -> bool {
    let ends_in_unit = word.ends_with(['s', 'm', 'h', 'd']) && word.starts_with(|c: char| c.is_ascii_digit());
    word == "now" || ends_in_unit && word.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c))
}

/// The public id of a value: 16 letters and digits.
fn is_id(word: &str) -> bool {
    let mixed = word.bytes().any(|c| c.is_ascii_uppercase()) && word.bytes().any(|c| c.is_ascii_lowercase());
    word.len() == 16 && mixed && word.bytes().all(|c| c.is_ascii_alphanumeric())
}

/// Runs a page from its first block to its last.
async fn follow(page: &Page) {
    let mut run = Run::begin(page).await;
    for block in page.blocks() {
        match &*block.language {
            "yaml" | "caddyfile" if block.file().is_some() => {
                let path = run.folder.join(block.file().unwrap());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &block.text).unwrap();
            }
            "console" => {
                for command in block.commands() {
                    if !ELSEWHERE.iter().any(|elsewhere| command.text.starts_with(elsewhere)) {
                        run.done(&command).await;
                    }
                }
            }
            _ => {}
        }
    }
    run.stop().await;
    if run.is_released {
        // Its control plane lasts as long as this process. Nobody needs the memory of its API server any more.
        run.world.plane.stop_api_server();
    }
}

/// The pages with commands, and README.
fn followed() -> Vec<Page> {
    let pages = book().into_iter().chain([Page::read(&root().join("README.md"))]);
    pages.filter(|page| !page.is_generated() && page.blocks().iter().any(|block| block.language == "console")).collect()
}

/// A test for each page, and the list of them.
macro_rules! followed {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                follow(&Page::read(&root().join($path))).await;
            }
        )*

        const FOLLOWED: &[&str] = &[$($path),*];
    };
}

followed! {
    the_readme: "README.md",
    access: "docs/access.md",
    admission: "docs/admission.md",
    threat_model: "docs/security/threat-model.md",
    troubleshooting: "docs/troubleshooting.md",
    getting_started: "docs/start/getting-started.md",
    first_protected_api: "docs/start/first-protected-api.md",
    rotate: "docs/how-to/rotate.md",
    mount: "docs/how-to/mount.md",
    shape_the_secret: "docs/how-to/shape-the-secret.md",
    endpoint: "docs/how-to/endpoint.md",
    show_a_value_once: "docs/how-to/show-a-value-once.md",
    answer_a_leak: "docs/how-to/answer-a-leak.md",
    delegate: "docs/how-to/delegate.md",
    gitops: "docs/how-to/gitops.md",
    back_up_and_restore: "docs/how-to/back-up-and-restore.md",
    high_availability: "docs/how-to/high-availability.md",
    monitor: "docs/how-to/monitor.md",
    network_policies: "docs/how-to/network-policies.md",
    upgrade: "docs/how-to/upgrade.md",
    uninstall: "docs/how-to/uninstall.md",
    cors_and_methods: "docs/how-to/cors-and-methods.md",
    helm_charts: "docs/how-to/helm-charts.md",
    kubernetes_api: "docs/how-to/kubernetes-api.md",
    introspect: "docs/how-to/introspect.md",
    by_hand: "docs/how-to/by-hand.md",
    check: "docs/how-to/check.md",
    lint: "docs/how-to/lint.md",
}

#[test]
fn every_page_with_commands_is_followed() {
    let mut with_commands: Vec<_> = followed().into_iter().map(|page| page.path).collect();
    with_commands.sort();
    let mut listed = FOLLOWED.to_vec();
    listed.sort_unstable();
    assert_eq!(with_commands, listed);
}

#[test]
fn every_block_is_of_a_known_language_and_every_file_is_used() {
    // Those of proxies are used by the tests of proxies.
    let examples = files(&root().join("examples/proxies"), "yaml").into_iter();
    let examples: Vec<_> = examples.map(|path| fs::read_to_string(path).unwrap()).collect();
    for page in book().iter().chain([&Page::read(&root().join("README.md"))]) {
        let blocks = page.blocks();
        let commands: Vec<_> = of(&blocks, "console").flat_map(Block::commands).map(|command| command.text).collect();
        for block in &blocks {
            let known = ["caddyfile", "console", "nginx", "text", "yaml"].contains(&&*block.language);
            assert!(known, "{}: a block of {:?}", page.path, block.language);
        }
        for block in of(&blocks, "yaml").filter(|block| !examples.contains(&block.text)) {
            let name = block.file().unwrap_or_else(|| panic!("{}: no file is named: {}", page.path, block.text));
            let used = name.split('/').next().unwrap();
            assert!(commands.iter().any(|command| command.contains(used)), "{}: nothing uses {name}", page.path);
        }
    }
}

fn of<'a>(blocks: &'a [Block], language: &'a str) -> impl Iterator<Item = &'a Block> {
    blocks.iter().filter(move |block| block.language == language)
}

#[test]
fn the_two_commands_of_the_readme_are_those_of_ci() {
    let readme = Page::read(&root().join("README.md"));
    let blocks = readme.blocks();
    let commands = of(&blocks, "console").flat_map(Block::commands).map(|command| command.text);
    let of_cargo: Vec<_> = { commands }.filter(|command| command.starts_with("cargo ")).collect();
    assert_eq!(
        of_cargo.iter().map(|text| text.split(" #").next().unwrap().trim()).collect::<Vec<_>>(),
        ["cargo demo", "cargo test"]
    );
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    for command in ["cargo demo", "cargo test"] {
        assert!(ci.lines().any(|line| line.starts_with(&format!("step {command}"))), "{command}");
    }
}

#[test]
fn the_quick_start_has_six_commands() {
    let readme = Page::read(&root().join("README.md"));
    let (_, behind) = readme.text.split_once("## Quick start\n").unwrap();
    let text = behind.split("\n## ").next().unwrap().to_owned();
    let blocks = Page { path: readme.path, text }.blocks();
    assert_eq!(of(&blocks, "console").flat_map(Block::commands).count(), 6);
}

#[test]
fn output_fits_but_for_what_changes() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let printed = "NAME   EXPIRES                AGE\nci     2027-02-26T01:00:00Z   5s\n";
    assert!(fits(&shown("NAME EXPIRES AGE\nci 2027-01-01T00:00:00Z 12m3s"), printed));
    assert!(fits(&shown("…\nci 2027-01-01T00:00:00Z 1d"), printed));
    assert!(!fits(&shown("NAME EXPIRES AGE\nco 2027-01-01T00:00:00Z 1d"), printed));
    assert!(!fits(&shown("NAME EXPIRES AGE"), printed));
    assert!(fits(&shown("NAME EXPIRES …\n…"), printed) && !fits(&shown("AGE …\n…"), printed));
    assert_eq!(masked("id 7Hq0xAbCdEfGhIj1, active"), "id ID, active");
    assert_eq!(masked("date: Sun, 29 Nov 2026 01:00:00 GMT"), "date:");
}
