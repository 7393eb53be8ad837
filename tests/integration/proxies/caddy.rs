//! Caddy, with the Caddyfile of the examples.

use std::{fs, path::Path, process::Command};

use super::{
    holds, holds_in_all_cases,
    program::{API, INSTANCE, Outage, Places, Program, Proxy, SITE, Sees::Unproved, VERIFIER, example, program},
    setting::Setting,
};

pub const CADDY: Program = Program {
    name: "caddy",
    command,
    differs: &[],
    without: |outage| match outage {
        Outage::Down => 502,
        Outage::Slow => 504,
        Outage::NotSynced => 503,
    },
    waits: false,
    passes_query: true,
};

/// The same without the last lines of the example, which set the identity headers again.
const WITHOUT_LAST_LINES: Program = Program {
    name: "caddy-bare",
    command: |places, folder| run(&without_last_lines(&configuration(places)), folder),
    differs: &[
        ("named in Connection", Unproved),
        ("spoofed and named in Connection", Unproved),
        ("named in Connection where unguarded", Unproved),
        ("one named in Connection", Unproved),
        ("named in a second Connection", Unproved),
        // Caddy sends no header without a value.
        ("preflight", Unproved),
        ("unguarded", Unproved),
        ("unguarded POST", Unproved),
        ("unguarded with a bad token", Unproved),
        ("spoofed where unguarded", Unproved),
        ("spoofed by underscores where unguarded", Unproved),
        ("a long path", Unproved),
        ("an absolute target", Unproved),
    ],
    ..CADDY
};

fn command(places: &Places, folder: &Path) -> Command {
    run(&configuration(places), folder)
}

fn without_last_lines(configuration: &str) -> String {
    configuration.lines().filter(|line| !line.contains("header_up")).map(|line| format!("{line}\n")).collect()
}

fn configuration(places: &Places) -> String {
    let text = example(
        "Caddyfile",
        &[
            (SITE, &format!("http://{}", places.site)),
            (VERIFIER, &places.verifier.to_string()),
            (INSTANCE, &places.instance),
            (API, &places.api.to_string()),
        ],
    );
    // Neither its own API, nor certificates, nor anything on disk.
    format!("{{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}}\n{text}")
}

fn run(text: &str, folder: &Path) -> Command {
    let file = folder.join("Caddyfile");
    fs::write(&file, text).unwrap();
    let mut command = program("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_holds() {
    holds(&CADDY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_itself_refuses_a_request_that_a_proxy_took_identity_headers_off() {
    let setting = Setting::new(WITHOUT_LAST_LINES.name).await;
    let proxy = Proxy::start(&WITHOUT_LAST_LINES, &setting).await;
    holds_in_all_cases(&WITHOUT_LAST_LINES, &proxy, &setting).await;
}
