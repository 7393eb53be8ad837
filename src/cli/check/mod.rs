//! `kubectl tokenry check`: checks an installation, or a cluster before an installation.

mod actors;
mod admission;
mod before;
mod cluster;
mod definitions;
mod difference;
mod finding;
mod leader;
mod permissions;
pub(crate) mod programs;
mod samples;

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use super::{
    Error, advice,
    connection::{Connection, Workplace},
    names::{self, Nameable},
    screen::{Health, Progress},
    token::times::limit,
};
use crate::{
    crd::subject::of_username,
    outside::{Clock, SystemClock, Why, survey::Survey},
};
use finding::{CheckResult, ResultsForm, print, worst};
use programs::{Program, ProgramPod, Programs};

pub(crate) use finding::unseen;

/// The pause between two rounds of checks.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Checkup {
    /// Check the cluster before an installation
    #[arg(long)]
    pre: bool,
    /// Repeat the checks until none fails, for at most this long, such as 5m; default: check once
    #[arg(long, value_name = "DURATION", value_parser = limit, allow_hyphen_values = true)]
    wait: Option<Duration>,
    /// Form of the output
    #[arg(long, short, default_value = "table")]
    output: ResultsForm,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    connection: Connection,
}

/// The place of the installation.
#[derive(Args, Clone, Debug)]
pub(crate) struct System {
    /// Namespace of operator and verifier
    #[arg(long, value_name = "NAMESPACE", default_value = "tokenry-system")]
    #[arg(add = names::of(Nameable::Namespace), value_parser = names::label)]
    pub(crate) system_namespace: String,
}

/// Everything that the checks of an installation need.
struct CheckVisit<'a> {
    survey: &'a Survey,
    /// The user.
    user: &'a str,
    /// The namespace of the user.
    namespace: &'a str,
    /// The namespace of operator and verifier.
    system: &'a str,
    programs: &'a Result<Programs, Why>,
    /// The health of definitions and policies that are not those of this program.
    otherwise: Health,
    /// The distance of the API server's clock from the clock of this machine, if it is known.
    ahead: Option<SignedDuration>,
}

impl CheckVisit<'_> {
    /// The Pods of `program`. None if the user may not list them.
    fn pods(&self, program: Program) -> impl Iterator<Item = &ProgramPod> + Clone {
        self.programs.iter().flat_map(move |programs| programs.of(program))
    }

    /// The name of the core ServiceAccount of `program`: that of its Pods, or else that of the chart.
    fn account(&self, program: Program) -> &str {
        let usual = match program {
            Program::Operator => "tokenry-operator",
            Program::Verifier => "tokenry-verifier",
        };
        self.pods(program).next().map_or(usual, |pod| &pod.account)
    }
}

impl Checkup {
    /// Prints the results. Success means that no check failed.
    pub(crate) fn main(self) -> Result<(), Error> {
        let (results, command) =
            self.connection.work(async |place| Ok((self.repeated(place).await, self.command(&place.namespace))))?;
        print(&results, self.output, &command)
    }

    /// The command of the same checks, for another user.
    fn command(&self, namespace: &str) -> String {
        let pre = if self.pre { " --pre" } else { "" };
        advice::command(&format!("check{pre} --system-namespace {}", self.system.system_namespace), namespace)
    }

    /// The results of the first round without a failure, or else of the last round.
    async fn repeated(&self, place: &Workplace) -> Vec<CheckResult> {
        let progress = Progress::of("checking");
        let end = self.wait.and_then(|wait| SystemClock.now().checked_add(wait).ok());
        loop {
            let results = self.round(place).await;
            let is_over = end.is_none_or(|end| SystemClock.now() >= end);
            if is_over || worst(&results) != Health::Failed {
                return results;
            }
            progress.now("waiting until no check fails");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// All checks, once.
    async fn round(&self, place: &Workplace) -> Vec<CheckResult> {
        let (survey, system) = (place.desk.survey(), &*self.system.system_namespace);
        let (cluster, mut results) = cluster::check(&survey).await;
        if !cluster.answers {
            return results;
        }
        if self.pre {
            results.extend(before::check(&survey, system).await);
            return results;
        }
        let programs = Programs::read(&survey, system).await;
        let otherwise = unequal(&programs);
        let (programs, namespace) = (&programs, &*place.namespace);
        let known = place.desk.user().await.ok().and_then(|user| user.username);
        let user = &*known.map_or_else(|| "user:NAME".to_owned(), |name| of_username(&name));
        let visit = CheckVisit { survey: &survey, user, namespace, system, programs, otherwise, ahead: cluster.ahead };
        results.extend(definitions::check(&survey, otherwise).await);
        results.extend(admission::check(&visit).await);
        results.extend(permissions::check(&visit).await);
        results.extend(actors::operator(&visit).await);
        results.extend(actors::verifiers(&visit).await);
        results
    }
}

/// The health of definitions and policies that are not those of this program. Those of an operator of another version
/// are expected to differ.
fn unequal(programs: &Result<Programs, Why>) -> Health {
    let pods = programs.iter().flat_map(|programs| programs.of(Program::Operator));
    let is_same = { pods }.any(|pod| pod.version().as_deref() == Some(env!("CARGO_PKG_VERSION")));
    if is_same { Health::Failed } else { Health::Warning }
}
