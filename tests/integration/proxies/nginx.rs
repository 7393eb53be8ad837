//! nginx, with the nginx.conf of the examples.

use std::{fs, path::Path, process::Command};

use super::{
    holds,
    program::{
        API, CA, INSTANCE, Outage, Places, Program, SITE,
        Sees::{Refused, Served},
        VERIFIER, Who, example, program,
    },
};

pub const NGINX: Program = Program {
    name: "nginx",
    command,
    differs: &[
        // nginx itself refuses these: a second Authorization, a path that leaves the root, and a zero byte.
        ("a credential twice", Refused(400)),
        ("login with a password and a token", Refused(400)),
        ("/login;x/../../orders", Refused(400)),
        ("/login%00", Refused(400)),
        ("/console%00", Refused(400)),
        // nginx drops a header with a dot in its name.
        ("X.Organization", Served(Who::Admin)),
        ("X.HTTP-Method of a viewer", Served(Who::Viewer)),
        // nginx takes off no header that Connection names.
        ("Authorization named in Connection", Served(Who::Admin)),
    ],
    // 500 is what nginx makes of any answer but 200, 401 and 403, and of none. The verifier answers 403 for its 503.
    without: |outage| match outage {
        Outage::Down | Outage::Slow | Outage::Untrusted | Outage::Misnamed | Outage::NotSynced => 500,
        Outage::CutOff => 403,
    },
    waits: false,
    passes_query: false,
    renames: false,
};

fn command(places: &Places, folder: &Path) -> Command {
    let text = example(
        "nginx.conf",
        &[
            ("listen 8080", &format!("listen {}", places.site)),
            (SITE, "_"),
            (CA, &places.ca),
            (INSTANCE, &places.instance),
            (API, &places.api.to_string()),
        ],
    );
    // The example has the verifier twice.
    let [first, last] = [places.verifiers.first().unwrap(), places.verifiers.last().unwrap()];
    assert_eq!(text.matches(VERIFIER).count(), 2);
    let text = text.replacen(VERIFIER, &first.to_string(), 1).replace(VERIFIER, &last.to_string());
    fs::write(folder.join("nginx.conf"), text).unwrap();
    fs::create_dir_all(folder.join("logs")).unwrap();
    let mut command = program("nginx");
    // In the foreground, with everything that it writes below the folder.
    command.args(["-c", "nginx.conf", "-g", "daemon off; pid nginx.pid; error_log stderr;", "-p"]).arg(folder);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_past_nginx() {
    holds(&NGINX).await;
}
