//! `cargo demo`: shows the life of a token on a real control plane, while it happens.
//!
//! Every line on standard output was read from the API server, or is an answer to a request to the API through Traefik.
//! The demo fails if one of them is not as expected. Progress messages go to standard error.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "nobody builds on the demo")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the demo observes the programs from outside")]

mod actor;
mod cluster;
mod edge;
mod stage;
mod story;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use actor::{Actor, end_of_log};
use cluster::Cluster;
use edge::Edge;
use stage::Stage;

/// The namespace of the demo. In an existing cluster, the operator and the verifier serve only this namespace.
const NAMESPACE: &str = "tokenry-demo";

/// A result whose error is a message for the user.
type Told<T = ()> = Result<T, String>;

/// Show the life of a token on a real control plane, which runs on this machine.
///
/// The demo builds the programs that it needs. The first build takes some minutes. Then it starts etcd, kube-apiserver,
/// kube-controller-manager, an operator, a verifier, and Traefik in front of an API, and applies examples/. It shows a
/// token that rotates every ten seconds. At its end, the demo stops all these programs and removes their data.
#[derive(Parser)]
#[command(bin_name = "cargo demo")]
struct Options {
    /// Keep everything running at the end until Ctrl-C, and print commands to try
    #[arg(long)]
    keep: bool,
    /// Use the cluster of this kubeconfig context instead of a new control plane
    ///
    /// You must be an administrator of the cluster. The demo installs the CRDs, and creates the namespace tokenry-demo
    /// with its permissions and admission policies. If the cluster has no Traefik, the demo also installs the CRDs and
    /// the IngressClass of Traefik. The operator, the verifier and a Traefik run as processes of this machine and serve
    /// only this namespace. At its end, the demo removes everything except the CRDs.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("demo: {wrong}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Told {
    let program = build()?;
    let cluster = Cluster::open(options).await?;
    cluster.make_namespace()?;
    let told = tokio::select! {
        told = play(&cluster, &program) => told,
        stopped = stop_signal() => stopped.and_then(|()| Err("interrupted".into())),
    };
    let stayed = match told {
        Ok(stage) if options.keep => {
            stage.say_what_to_try();
            stop_signal().await
        }
        told => told.map(drop),
    };
    // The operator, the verifier and Traefik have ended here, because their processes were dropped.
    let left = cluster.leave();
    stayed.and(left)
}

/// Installs Tokenry, starts the operator, the verifier and Traefik, and runs all chapters.
async fn play<'a>(cluster: &'a Cluster, program: &Path) -> Told<Stage<'a>> {
    progress("installing the CRDs, the permissions and the admission policies");
    cluster.install_crds()?;
    cluster.install_rights()?;
    edge::install(cluster)?;
    progress("starting the verifier, the operator and Traefik");
    let verifier = Actor::start("verifier", cluster, program, &[]).await?;
    let exposure = edge::exposure(&verifier.address);
    let operator = Actor::start("operator", cluster, program, &["--exposure", &exposure]).await?;
    let stage = Stage::new(cluster, operator, verifier, Edge::start(cluster).await?);
    let logs = || format!("{}\n{}\n{}", stage.operator, stage.verifier, end_of_log(&stage.edge.process));
    let told = story::tell(&stage).await.map_err(|wrong| format!("{wrong}\n{}", logs()));
    told.map(|()| stage)
}

/// Builds the `tokenry` program in the target directory of this program, with the same profile. Returns its path.
fn build() -> Told<PathBuf> {
    progress("building tokenry");
    let cannot = |error| format!("cannot find the path of this program: {error}");
    let own = env::current_exe().map_err(cannot)?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program is not in a target directory of cargo")?;
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{} is not in a target directory of cargo", folder.display()));
    };
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // This example is named too. Cargo then builds the dependencies with the same features, and reuses them.
        .args(["build", "--bin", "tokenry", "--example", "demo"])
        .args(["--profile", if profile == "debug" { "dev" } else { profile }])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(folder.join("tokenry")) } else { Err("cargo cannot build tokenry: see above".into()) }
}

/// The root directory of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn progress(what: &str) {
    eprintln!("{what} …");
}

async fn stop_signal() -> Told {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
