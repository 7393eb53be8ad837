//! `cargo demo`: the life of a token on a real control plane, told while it happens.
//!
//! Every line of the story is something that was read from the API server or answered by the verifier; the demo fails
//! if one of them is not as it should be. Progress goes to standard error, the story to standard output.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "nobody builds on the demo")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a demo stands outside and looks at everything"
)]

mod actor;
mod cluster;
mod stage;
mod story;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use actor::Actor;
use cluster::Cluster;
use stage::Stage;

/// Where the story takes place. In a cluster of someone else's, nothing happens outside of it.
const NAMESPACE: &str = "tokenry-demo";

/// What went wrong, in words.
type Told<T = ()> = Result<T, String>;

/// Tells the life of a token, on a real control plane that needs nothing but this machine.
///
/// Builds what it needs (the first time that takes minutes), starts etcd, kube-apiserver and kube-controller-manager,
/// an operator and a verifier, applies examples/ and shows what becomes of a token that rotates every ten seconds. All
/// of it is gone when the demo ends.
#[derive(Parser)]
#[command(bin_name = "cargo demo")]
struct Options {
    /// Stay until Ctrl-C after the story, and say what to try
    #[arg(long)]
    keep: bool,
    /// Use the cluster of this kubeconfig context instead of a new control plane
    ///
    /// You have to be its administrator. The demo installs the CRDs, makes the namespace tokenry-demo, rights and the
    /// admission policies that hold in it, and runs operator and verifier as processes of this machine that look at
    /// this namespace only. At the end it removes all but the CRDs.
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
    // Operator and verifier have ended by now.
    let left = cluster.leave();
    stayed.and(left)
}

/// Sets the stage and tells the story.
async fn play<'a>(cluster: &'a Cluster, program: &Path) -> Told<Stage<'a>> {
    progress("installing the CRDs, the rights and the admission policies");
    cluster.install_crds()?;
    cluster.install_rights()?;
    progress("starting operator and verifier");
    let (operator, verifier) =
        (Actor::start("operator", cluster, program).await?, Actor::start("verifier", cluster, program).await?);
    let stage = Stage::new(cluster, operator, verifier);
    let told = story::tell(&stage).await.map_err(|wrong| format!("{wrong}\n{}\n{}", stage.operator, stage.verifier));
    told.map(|()| stage)
}

/// Builds the `tokenry` program beside this one, with the same profile.
fn build() -> Told<PathBuf> {
    progress("building tokenry");
    let cannot = |error| format!("cannot tell where this program lies: {error}");
    let own = env::current_exe().map_err(cannot)?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program lies in no target directory")?;
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{} is no folder of a target directory", folder.display()));
    };
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // This example is named too, so that its dependencies are built as they are for it already.
        .args(["build", "--bin", "tokenry", "--example", "demo"])
        .args(["--profile", if profile == "debug" { "dev" } else { profile }])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(folder.join("tokenry")) } else { Err("cargo could not build tokenry: see above".into()) }
}

/// The repository.
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
