//! Envoy, with the two files of the examples: it asks by gRPC, or over HTTP.

use std::{fs, path::Path, process::Command};

use super::{
    cases::cases,
    holds, is_closed,
    program::{
        CA, Outage, Places, Program, Proxy, SITE,
        Sees::{self, Missing, Nobody, Refused, Served},
        Who, example, program,
    },
    setting::Setting,
    tried,
};

pub const GRPC: Program = Program {
    name: "envoy-grpc",
    command: |places, folder| run(&by_grpc(places), folder),
    differs: DIFFERS,
    without,
    waits: false,
    passes_query: false,
    renames: true,
};

pub const HTTP: Program =
    Program { name: "envoy-http", command: |places, folder| run(&over_http(places), folder), ..GRPC };

/// The same by gRPC, where the filter names the Instance, hides headers from the verifier, and refuses and removes
/// none.
const BARE: Program =
    Program { name: "envoy-bare", command: |places, folder| run(&bare(places), folder), differs: &[], ..GRPC };

const DIFFERS: &[(&str, Sees)] = &[
    // Envoy itself refuses a header with an underscore.
    ("spoofed by underscores", Refused(400)),
    ("spoofed by underscores where unguarded", Refused(400)),
    ("spoofed by underscores without a token", Refused(400)),
    ("x_forwarded_uri", Refused(400)),
    // Envoy decodes and cleans the path first. Verifier and API get the same clean path.
    ("/%6Cogin", Nobody),
    ("//login", Nobody),
    ("/./login", Nobody),
    ("/orders/../login", Nobody),
    ("/orders%3F/../login", Nobody),
    // Envoy itself refuses an encoded slash or backslash, a zero byte, and a fragment.
    ("/login/..%2Forders", Refused(400)),
    ("/login%2Fform", Refused(400)),
    ("/login/..%5Corders", Refused(400)),
    ("/orders/..%2fconsole", Refused(400)),
    ("/orders/%2e%2e%2fconsole", Refused(400)),
    ("/console%2Fkeys", Refused(400)),
    ("/login%00", Refused(400)),
    ("/console%00", Refused(400)),
    ("/orders#/login", Refused(400)),
    // Envoy itself refuses an upgrade to anything but a WebSocket.
    ("another upgrade", Refused(403)),
    ("an upgrade with letters of WebSocket", Refused(403)),
    ("two upgrades", Refused(403)),
    // It takes off headers that name a part of the path.
    ("a part of the path named in headers", Served(Who::Admin)),
    ("a part of the path named at a login", Nobody),
    // Envoy joins both in one header with a comma. It then has another scheme, so there is no credential.
    ("login with a password and a token", Missing),
];

fn without(outage: Outage) -> u16 {
    match outage {
        Outage::Down | Outage::Slow | Outage::Untrusted | Outage::Misnamed | Outage::NotSynced | Outage::CutOff => 503,
    }
}

fn by_grpc(places: &Places) -> String {
    let instance = format!("{{tokenry.dev/instance: {}}}", places.instance.trim_matches('/'));
    configuration("envoy-grpc.yaml", places, ("{tokenry.dev/instance: events/shop}", &instance))
}

fn bare(places: &Places) -> String {
    let instance = places.instance.trim_matches('/');
    let named =
        format!("timeout: 2s\n                initial_metadata: [{{key: x-tokenry-instance, value: {instance}}}]\n");
    let hidden = "allowed_headers: {patterns: [{exact: authorization}, {exact: x-organization}]}";
    let line = "subject=%DYNAMIC_METADATA(envoy.filters.http.ext_authz:subject)%\\n";
    let log = format!(
        "          access_log:\n          - name: stdout\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n              \
         log_format: {{text_format_source: {{inline_string: \"{line}\"}}}}\n          http_filters:\n"
    );
    [
        (&*format!("{{tokenry.dev/instance: {instance}}}"), "{}"),
        ("timeout: 2s\n", &*named),
        ("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW"),
        ("x[^a-z0-9](tokenry[^a-z0-9].*|forwarded[^a-z0-9]user)", "nothing"),
        ("encode_raw_headers: true", hidden),
        ("          http_filters:\n", &*log),
    ]
    .iter()
    .fold(by_grpc(places), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

fn over_http(places: &Places) -> String {
    configuration("envoy-http.yaml", places, ("/events/shop/", &places.instance))
}

fn configuration(file: &str, places: &Places, instance: (&str, &str)) -> String {
    let address = |host: &str, port| format!("address: {host}, port_value: {port}");
    let of = |place: std::net::SocketAddr| address(&place.ip().to_string(), place.port());
    example(
        file,
        &[
            // A test sends the address as the host.
            (SITE, "\"*\""),
            (&address("0.0.0.0", 8080), &of(places.site)),
            (&address("tokenry-verifier.tokenry-system.svc", 443), &of(places.verifiers[0])),
            (CA, &places.ca),
            (&address("shop-manager.events.svc", 8080), &of(places.api)),
            instance,
        ],
    )
}

fn run(text: &str, folder: &Path) -> Command {
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).unwrap();
    let mut command = program("envoy");
    command.args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning", "--config-path"]).arg(file);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_envoy_by_grpc() {
    holds(&GRPC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_envoy_over_http() {
    holds(&HTTP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_hides_headers_is_told_to_remove_look_alikes_and_takes_no_instance_from_its_caller() {
    let setting = Setting::new(BARE.name).await;
    let proxy = Proxy::start(&BARE, &setting).await;
    let spoofed =
        ["spoofed", "spoofed in upper case", "spoofed twice", "spoofed by underscores", "spoofed where unguarded"];
    let cases = cases(&setting.tokens);
    for name in spoofed {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        assert_eq!(tried(&BARE, &proxy, &setting, case).await, None);
    }
    setting.backend.all().iter().for_each(is_closed);
    let elsewhere = ["x-tokenry-instance: default/other", "tokenry.dev-instance: default/other"];
    let mut case = cases.into_iter().find(|case| case.name == "GET").unwrap();
    case.request = case.request.lines(elsewhere);
    assert_eq!(tried(&BARE, &proxy, &setting, &case).await, None);
    let line = format!("subject=account:{}/admin\n", setting.world.namespace);
    setting
        .world
        .eventually("the access log has the subject", async || proxy.log().contains(&line).then_some(()))
        .await;
}
