//! `kubectl tokenry version`.

use clap::Args;
use serde_json::{Value, json};

use super::{
    Error,
    check::{
        System,
        programs::{Program, Programs},
        unseen,
    },
    connection::Connection,
    denial::Denial,
    error::unserved,
    output::{self, ObjectForm},
    screen::{Rows, remark},
};
use crate::{
    crd,
    outside::{Why, survey::Survey},
};

#[derive(Args)]
pub(crate) struct VersionArgs {
    /// Print the version of this program alone, without a cluster
    #[arg(long)]
    client: bool,
    /// Form of the output; default: a table
    #[arg(long, short)]
    output: Option<ObjectForm>,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    connection: Connection,
}

/// A Pod with its version, if that is known.
type PodVersion = (Program, String, Option<String>);

/// The versions in the cluster. An error is the reason why they are not known.
struct InCluster {
    /// Each Pod with its version.
    pods: Result<Vec<PodVersion>, String>,
    /// The versions of the kinds.
    kinds: Result<Vec<String>, String>,
    /// The way to see the Pods. Empty if they are known.
    advice: String,
}

impl VersionArgs {
    pub(crate) fn main(self) -> Result<(), Error> {
        if self.client {
            return self.print(None);
        }
        let found = self.connection.work(async |place| {
            place.desk.shown(InCluster::read(&place.desk.survey(), &self.system.system_namespace)).await
        });
        match found {
            Ok(found) => {
                let advice = found.advice.clone();
                self.print(Some(found)).inspect(|()| remark(&advice))
            }
            Err(error) => {
                self.print(None)?;
                Err(error)
            }
        }
    }

    fn print(&self, found: Option<InCluster>) -> Result<(), Error> {
        let own = env!("CARGO_PKG_VERSION");
        if let Some(form) = self.output {
            return output::object(&shown(own, found.as_ref()), form);
        }
        let mut rows = Rows::under(&["PART", "VERSION", "PLACE"]);
        let [here, unknown] = ["this program", "not known"].map(str::to_owned);
        rows.add(["client".to_owned(), own.to_owned(), here]);
        if let Some(InCluster { pods, kinds, .. }) = found {
            match pods {
                Ok(pods) => pods.into_iter().for_each(|(program, pod, version)| {
                    rows.add([program.name().to_owned(), version.unwrap_or(unknown.clone()), format!("Pod {pod}")]);
                }),
                Err(why) => rows.add(["operator, verifier".to_owned(), unknown.clone(), why]),
            }
            match kinds {
                Ok(versions) => rows.add(["kinds".to_owned(), versions.join(", "), crd::GROUP.to_owned()]),
                Err(why) => rows.add(["kinds".to_owned(), unknown, why]),
            }
        }
        rows.print(false);
        Ok(())
    }
}

impl InCluster {
    /// Reads the versions.
    ///
    /// # Errors
    /// The API server does not answer.
    async fn read(survey: &Survey, system: &str) -> Result<Self, Error> {
        let away = |why: Why| Error::Unreachable(format!("{why}; {}", unserved(&why)));
        let kinds = match survey.object(&format!("/apis/{}", crd::GROUP)).await {
            Ok(group) => {
                let versions = group["versions"].as_array().into_iter().flatten();
                Ok(versions.filter_map(|one| one["version"].as_str().map(str::to_owned)).collect())
            }
            Err(Why::Gone) => Err("the definitions are not installed".to_owned()),
            Err(why @ Why::Unavailable(_)) => return Err(away(why)),
            Err(why @ (Why::Stale | Why::Invalid(_) | Why::Forbidden(_) | Why::Unauthenticated(_))) => {
                Err(unseen(&why, "read the API"))
            }
        };
        let programs = Programs::read(survey, system).await;
        let advice = advice(&programs, system);
        let pods = match programs {
            Ok(programs) if programs.pods.is_empty() => Err(format!("no Pod is in namespace {system}")),
            Ok(programs) => {
                Ok(programs.pods.iter().map(|pod| (pod.program, pod.name.clone(), pod.version())).collect())
            }
            Err(why) => Err(unseen(&why, &format!("list pods in namespace {system}"))),
        };
        Ok(Self { pods, kinds, advice })
    }
}

/// The way to see the Pods of a release that may be in another namespace than `system`.
fn advice(programs: &Result<Programs, Why>, system: &str) -> String {
    let elsewhere = format!(
        "if the release is not in namespace {system}, name its namespace by --system-namespace; the versions need the \
         right to list pods there"
    );
    match programs {
        Ok(programs) if programs.pods.is_empty() => elsewhere,
        Ok(_) => String::new(),
        Err(why) => Denial::in_why(why).map_or_else(String::new, |denial| format!("{elsewhere}\n{}", denial.told())),
    }
}

/// The versions as one object.
fn shown(own: &str, found: Option<&InCluster>) -> Value {
    let mut all = json!({"client": own});
    let Some(InCluster { pods, kinds, .. }) = found else { return all };
    match pods {
        Ok(pods) => {
            let pod = |(program, name, version): &PodVersion| json!({"program": program.name(), "pod": name, "version": version});
            all["pods"] = pods.iter().map(pod).collect();
        }
        Err(why) => all["podsUnknown"] = json!(why),
    }
    match kinds {
        Ok(versions) => all["kinds"] = json!(versions),
        Err(why) => all["kindsUnknown"] = json!(why),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_known_says_why() {
        let pods = Ok(vec![(Program::Operator, "a".to_owned(), Some("1".to_owned()))]);
        let found = InCluster { pods, kinds: Err("why".into()), advice: String::new() };
        let wanted = json!({
            "client": "2", "pods": [{"program": "operator", "pod": "a", "version": "1"}], "kindsUnknown": "why",
        });
        assert_eq!(shown("2", Some(&found)), wanted);
        assert_eq!(shown("2", None), json!({"client": "2"}));
    }
}
