//! Traefik, with the two files of the examples.

use std::{fs, path::Path, process::Command};

use super::{
    holds,
    program::{
        API, CA, INSTANCE, Outage, Places, Program, SITE,
        Sees::{Nobody, Refused, Served},
        VERIFIER, Who, example, program,
    },
};

pub const TRAEFIK: Program = Program {
    name: "traefik",
    command,
    differs: &[
        // Traefik decodes and cleans the path first. Verifier and API get the same clean path.
        ("/%6Cogin", Nobody),
        ("//login", Nobody),
        ("/./login", Nobody),
        ("/orders/../login", Nobody),
        ("/orders%3F/../login", Nobody),
        // Traefik drops a header with a dot in its name.
        ("X.Organization", Served(Who::Admin)),
        ("X.HTTP-Method of a viewer", Served(Who::Viewer)),
        // The rule of the router does not fit.
        ("another upgrade", Refused(404)),
        ("an upgrade with letters of WebSocket", Refused(404)),
        // Traefik itself refuses a fragment.
        ("/orders#/login", Refused(400)),
    ],
    without: |outage| match outage {
        Outage::Down | Outage::Slow | Outage::Untrusted | Outage::Misnamed | Outage::NotSynced => 500,
        Outage::CutOff => 503,
    },
    waits: true,
    passes_query: false,
    renames: false,
};

fn command(places: &Places, folder: &Path) -> Command {
    let routes = folder.join("traefik-routes.yaml");
    let text = example(
        "traefik.yaml",
        &[
            ("\":8080\"", &format!("\"{}\"", places.site)),
            ("/etc/traefik/traefik-routes.yaml", routes.to_str().unwrap()),
        ],
    );
    let site = format!("Host(`{SITE}`)");
    let text_of_routes = example(
        "traefik-routes.yaml",
        &[
            // A test sends the address as the host.
            (&site, "PathPrefix(`/`)"),
            (VERIFIER, &places.verifiers[0].to_string()),
            (CA, &places.ca),
            (INSTANCE, &places.instance),
            (API, &places.api.to_string()),
        ],
    );
    fs::write(&routes, text_of_routes).unwrap();
    let file = folder.join("traefik.yaml");
    fs::write(&file, text).unwrap();
    let mut command = program("traefik");
    command.arg("--configFile").arg(file);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_traefik() {
    holds(&TRAEFIK).await;
}
