//! The flags that name the cluster and the user of a command, as kubectl has them.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    Error, client,
    denial::cause,
    lacking::{self, LackedRight},
    names::{self, Nameable},
    screen::{Progress, remark},
};
use crate::{
    outside::{
        Desk,
        connect::{self, Login},
        desk::{DeskWait, GRANTED_WITHIN, ShowWait},
        rights::PlacedRight,
    },
    token,
};

/// The default of `--request-timeout`. A watch asks for a shorter time, so it is never cut.
const REQUEST: Duration = Duration::from_secs(75);

/// The cluster and the user of a command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster and user")]
pub(crate) struct Connection {
    /// Namespace; default: the namespace of the current context
    #[arg(long, short, add = names::of(Nameable::Namespace), value_parser = names::label)]
    namespace: Option<String>,
    /// Path of the kubeconfig; default: KUBECONFIG, or else ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: the current context
    #[arg(long)]
    context: Option<String>,
    /// User to impersonate
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Group of the impersonated user; may be given several times
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
    /// Longest time of a request, such as 30s; 0: no limit; default: 75s
    #[arg(long, value_name = "DURATION", value_parser = timeout, allow_hyphen_values = true)]
    request_timeout: Option<Duration>,
}

/// Parses a timeout: a duration such as `30s`, or a number of seconds.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok();
    match seconds {
        Some(0) => Ok(Duration::MAX),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => {
            let odd = || "must be a duration such as 30s or 1m30s, or a number of seconds; 0 means no limit".to_owned();
            let duration = token::duration::Duration::from(text).parse().map_err(|_| odd())?;
            Duration::try_from(duration).map_err(|_| odd())
        }
    }
}

/// The API server, and the namespace of a command.
pub(crate) struct Workplace {
    /// The API server, with the rights of the user.
    pub(crate) desk: Desk,
    /// The namespace.
    pub(crate) namespace: String,
}

impl Workplace {
    /// Succeeds unless the namespace does not exist, as far as the user may look for it.
    ///
    /// # Errors
    /// The namespace does not exist, or the API server does not answer.
    pub(crate) async fn exists(&self) -> Result<(), Error> {
        match self.desk.lacks_namespace(&self.namespace).await? {
            true => Err(Error::no_namespace(&self.namespace)),
            false => Ok(()),
        }
    }
}

impl Connection {
    /// Connects to the cluster, and works there until the work is done. Ctrl-C ends the work, and the error names the
    /// writes until then.
    pub(crate) fn work<T>(&self, work: impl AsyncFnOnce(&Workplace) -> Result<T, Error>) -> Result<T, Error> {
        client::block_on(async {
            let place = self.open().await?;
            let interrupted =
                connect::interrupted().map_err(|error| Error::local("cannot listen for Ctrl-C", error))?;
            tokio::select! {
                biased;
                done = work(&place) => done,
                () = interrupted => Err(Error::Interrupted(format!("interrupted; {}", place.desk.deeds()))),
            }
        })
    }

    /// The namespace that the command line gives. `None`: that of the context counts.
    pub(crate) fn given(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The longest time of a request, as the command line gives it. `None`: the default counts.
    pub(crate) fn given_timeout(&self) -> Option<Duration> {
        self.request_timeout
    }

    /// Connects to the cluster.
    async fn open(&self) -> Result<Workplace, Error> {
        self.place(shown).await
    }

    /// Connects to the cluster, and shows no wait.
    pub(crate) async fn quietly(&self) -> Result<Workplace, Error> {
        self.place(|_| Box::new(())).await
    }

    async fn place(&self, show: ShowWait) -> Result<Workplace, Error> {
        let client = client::client_as(&self.login()).await?;
        let namespace = self.namespace.as_deref().unwrap_or(client.default_namespace()).to_owned();
        Ok(Workplace { desk: Desk::new(client, show), namespace })
    }

    /// The cluster and the user for a client.
    fn login(&self) -> Login {
        let Self { kubeconfig, context, user, groups, request_timeout, .. } = self.clone();
        Login { kubeconfig, context, user, groups, timeout: Some(request_timeout.unwrap_or(REQUEST)) }
    }
}

/// Shows a wait. A refusal is printed in any case, and a wait for the API server on a terminal only.
fn shown(wait: DeskWait<'_>) -> Box<dyn Send> {
    let right = match wait {
        DeskWait::Answer => return Box::new(Progress::shown("waiting for the API server")),
        DeskWait::Grant(refusal) => cause(refusal),
        DeskWait::Rights(rights) => first_of(rights),
    };
    let limit = GRANTED_WITHIN.as_secs();
    remark(&format!("{right}; trying again for {limit} s, as a grant may be on its way"));
    Box::new(Progress::shown("waiting for a grant"))
}

/// The first of several rights that are missing, and the number of the others. A refusal names all of them.
fn first_of(rights: &[PlacedRight]) -> String {
    let first: Vec<_> = rights.iter().take(1).map(|right| LackedRight::reviewed(right, &[])).collect();
    let others = match rights.len().saturating_sub(1) {
        0 => String::new(),
        1 => ", and lack 1 further right".to_owned(),
        more => format!(", and lack {more} further rights"),
    };
    format!("{}{others}", lacking::sentence(&first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{Verb, rights::Right};

    #[test]
    fn a_wait_for_several_rights_names_the_first_one() {
        let right =
            |resource| PlacedRight { right: Right::new(Verb::GET, "", resource), namespace: "n".into(), name: None };
        let rights = ["secrets", "pods", "nodes"].map(right);
        let first = "you may not get secrets in namespace n";
        assert_eq!(first_of(&rights[..1]), first);
        assert_eq!(first_of(&rights[..2]), format!("{first}, and lack 1 further right"));
        assert_eq!(first_of(&rights), format!("{first}, and lack 2 further rights"));
    }

    #[test]
    fn a_timeout_is_a_duration_or_a_number_of_seconds() {
        assert_eq!(timeout("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(timeout("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(timeout("7"), Ok(Duration::from_secs(7)));
        assert_eq!(timeout("0"), Ok(Duration::MAX));
        for odd in ["soon", "0x", "-1", "-2h", "0s"] {
            let told = timeout(odd).unwrap_err();
            assert_eq!(told, "must be a duration such as 30s or 1m30s, or a number of seconds; 0 means no limit");
        }
    }
}
