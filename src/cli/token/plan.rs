//! `kubectl tokenry plan`: the effects of a rotation, a suspension, a revocation or a deletion, before it is done.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::{
    allowed,
    overlap::{DisplacedValue, end_of_present, present_until},
    pick,
    readers::{NamespaceWorkloads, SecretReader},
    times::{EndTime, both},
    view::last_used,
    wait,
};
use crate::{
    cli::{
        Error,
        connection::{Connection, Workplace},
        lacking::Unlisted,
        names::{self, Nameable},
        output::{self, MAX_LINE, ObjectForm},
        screen::{remark, say},
    },
    crd::{AccessPolicy, ApiToken},
    outside::{Clock, SystemClock, foreign::written},
};

#[derive(Args)]
pub(crate) struct Planning {
    /// Change to plan
    change: PlannedChange,
    /// Name of the ApiToken
    #[arg(add = names::of(Nameable::Token), value_parser = names::token)]
    name: String,
    /// Form of the output; default: text
    #[arg(long, short)]
    output: Option<ObjectForm>,
    #[command(flatten)]
    connection: Connection,
}

/// A change of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PlannedChange {
    /// A new value
    Rotate,
    /// The refusal of the token, until it is resumed
    Suspend,
    /// The end of the token
    Revoke,
    /// The deletion of the token
    Delete,
}

/// The objects that a change of a token concerns.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Effects {
    token: String,
    secret: Option<String>,
    pub(crate) last_used: Option<Timestamp>,
    /// The workloads that read the Secret.
    pub(crate) readers: Vec<SecretReader>,
    /// True if the user may list all that can read the Secret.
    #[serde(skip)]
    knows_readers: bool,
    /// The latest end of the present value, if the change is a rotation. `None`: it is not known.
    present_until: Option<Timestamp>,
    /// The older value that ends at once, if the change is a rotation.
    ends_at_once: Option<DisplacedValue>,
    /// The workloads that are restarted after a new value, if the change is a rotation.
    restarts: Vec<String>,
    /// The policies that name the token as a member, if they were asked for.
    policies: Vec<String>,
    /// The lists that the user may not read. Their objects are missing above.
    pub(crate) unknown: Unlisted,
}

/// A change of a token and its effects, as JSON and YAML.
#[derive(Serialize)]
struct PlannedEffects<'a> {
    change: PlannedChange,
    #[serde(flatten)]
    effects: &'a Effects,
}

impl Planning {
    pub(crate) fn main(self) -> Result<(), Error> {
        let now = SystemClock.now();
        let effects = self.connection.work(async |place| {
            let token = pick::one(place, &self.name, &["--view", "--workloads"]).await?;
            // Only a deletion still changes a token that has ended.
            if let Some(why) = wait::ended(&token).filter(|_| self.change != PlannedChange::Delete) {
                return Err(Error::Missing(why));
            }
            // The text names policies only before a deletion.
            let policies = self.output.is_some() || self.change == PlannedChange::Delete;
            let mut effects = effects(place, &token, policies).await?;
            if self.change == PlannedChange::Rotate {
                let instance = allowed::instance_of(place, &token.spec.instance_ref).await?;
                effects.add_rotation(&token, end_of_present(&token, instance.as_ref(), None).as_ref(), now);
            }
            Ok(effects)
        })?;
        match self.output {
            Some(form) => output::object(&PlannedEffects { change: self.change, effects: &effects }, form)?,
            None => told(self.change, &effects, now).iter().for_each(|line| say(&written(line, MAX_LINE))),
        }
        // The plan is printed as far as it is known. JSON and YAML name the rest themselves.
        effects.unknown.told().iter().for_each(|line| remark(line));
        Ok(())
    }
}

/// The objects that a change of one token concerns. With `policies`, these are among them.
pub(crate) async fn effects(place: &Workplace, token: &ApiToken, policies: bool) -> Result<Effects, Error> {
    let mut effects = Effects::of(token, &NamespaceWorkloads::of(place).await?);
    if policies {
        effects.add_policies(place, token).await?;
    }
    Ok(effects)
}

impl Effects {
    /// The objects that a change of the token concerns, among the workloads of its namespace.
    pub(crate) fn of(token: &ApiToken, workloads: &NamespaceWorkloads) -> Self {
        let status = token.status.clone().unwrap_or_default();
        let secret = status.secret_name.clone();
        Self {
            token: token.name_any(),
            last_used: last_used(&status),
            readers: secret.as_deref().map(|secret| workloads.readers(secret)).unwrap_or_default(),
            knows_readers: workloads.unknown.is_empty(),
            present_until: None,
            ends_at_once: None,
            restarts: Vec::new(),
            policies: Vec::new(),
            secret,
            unknown: workloads.unknown.clone(),
        }
    }

    /// Adds the effects of a rotation alone. `end` is that of the present value. `None`: it is unknown.
    pub(crate) fn add_rotation(&mut self, token: &ApiToken, end: Option<&EndTime>, now: Timestamp) {
        self.present_until = present_until(token, end, now);
        self.ends_at_once = DisplacedValue::of(token, now);
        let restarts = token.spec.restart.iter().map(|target| format!("{:?}/{}", target.kind, target.name));
        self.restarts = restarts.collect();
    }

    /// Adds the policies that name the token as a member.
    async fn add_policies(&mut self, place: &Workplace, token: &ApiToken) -> Result<(), Error> {
        let Workplace { desk, namespace } = place;
        let instance = token.spec.instance_ref.namespace_or(namespace);
        let all: Vec<AccessPolicy> = self.unknown.permitted(desk.list(Some(instance), None).await)?;
        let member = format!("token:{namespace}/{}", token.name_any());
        let names = |policy: &&AccessPolicy| policy.spec.members.iter().any(|named| named.as_str() == member);
        self.policies = all.iter().filter(names).map(ResourceExt::name_any).collect();
        Ok(())
    }

    /// The older value that a rotation ends at once, in words.
    pub(crate) fn displaced(&self, now: Timestamp) -> Option<String> {
        self.ends_at_once.as_ref().map(|displaced| displaced.told(&self.token, now))
    }

    /// A line for each reader of the Secret. Without any, a line says so.
    pub(crate) fn read_by(&self) -> Vec<String> {
        let Some(secret) = &self.secret else { return vec!["no Secret shows its value".to_owned()] };
        let mut lines = match (&self.readers[..], self.knows_readers) {
            ([], true) => vec![format!("no workload reads its Secret ({secret})")],
            ([], false) => vec![format!("no reader of its Secret ({secret}) is known")],
            (_, _) => vec![format!("these read its Secret ({secret}):")],
        };
        lines.extend(self.readers.iter().map(|reader| format!("  {}", reader.told())));
        lines
    }
}

impl SecretReader {
    /// The reader in words, such as `Deployment/exporter (2 Pods, volume)`.
    pub(crate) fn told(&self) -> String {
        let pods = match self.pods {
            0 => "no Pod now".to_owned(),
            1 => "1 Pod".to_owned(),
            pods => format!("{pods} Pods"),
        };
        format!("{} ({pods}, {})", self.name, self.ways.join(", "))
    }

    /// True if a new value reaches the reader only by a restart.
    fn needs_restart(&self) -> bool {
        self.ways.iter().any(|way| way.starts_with("env"))
    }
}

/// The effects of a change, in lines.
pub(crate) fn told(change: PlannedChange, effects: &Effects, now: Timestamp) -> Vec<String> {
    let Effects { token, last_used, readers, restarts, policies, .. } = effects;
    let used = last_used.map_or_else(|| "never used".to_owned(), |at| format!("last used {}", both(at, now)));
    let mut lines = vec![match change {
        PlannedChange::Rotate => {
            let present = match effects.present_until {
                Some(end) if end <= now => "ends at once".to_owned(),
                Some(end) => format!("works until {} at the latest", both(end, now)),
                None => "works until its overlap is over".to_owned(),
            };
            format!("{token} gets a new value; the present value {present}; {used}")
        }
        PlannedChange::Suspend => format!("every request with {token} is refused until it is resumed; {used}"),
        PlannedChange::Revoke => format!("every request with {token} is refused at once, and for good; {used}"),
        PlannedChange::Delete => {
            format!("{token} and its Secret are deleted, and every request with it is refused at once; {used}")
        }
    }];
    lines.extend(effects.displaced(now));
    lines.extend(effects.read_by());
    if change == PlannedChange::Rotate {
        let by_hand = readers.iter().filter(|reader| reader.needs_restart()).map(|reader| &reader.name);
        let by_hand = by_hand.filter(|name| !restarts.contains(name));
        lines.extend(by_hand.map(|name| {
            format!("restart it yourself after the new value is published, as env is read at its start only: {name}")
        }));
        lines.extend(restarts.iter().map(|workload| format!("restarted after the new value is published: {workload}")));
    }
    if change == PlannedChange::Delete {
        lines.extend(
            policies.iter().map(|policy| format!("AccessPolicy {policy} names it as a member, and would name nobody")),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{Refusal, Why};

    #[test]
    fn a_plan_says_whom_a_change_concerns() {
        let reader = |name: &str, pods, way| SecretReader { name: format!("Deployment/{name}"), pods, ways: vec![way] };
        let mut effects = Effects {
            token: "ci".into(),
            secret: Some("ci".into()),
            last_used: None,
            readers: vec![reader("w", 2, "env"), reader("x", 0, "envFrom"), reader("y", 1, "volume")],
            knows_readers: true,
            present_until: None,
            ends_at_once: None,
            restarts: vec!["Deployment/w".into()],
            policies: vec!["p".into()],
            unknown: Unlisted::default(),
        };
        let told = |effects: &Effects, change| told(change, effects, Timestamp::UNIX_EPOCH).join("\n");
        let rotate = told(&effects, PlannedChange::Rotate);
        assert!(rotate.contains("restarted after the new value is published: Deployment/w"), "{rotate}");
        assert!(rotate.contains("read at its start only: Deployment/x"), "{rotate}");
        assert!(!rotate.contains("only: Deployment/w") && !rotate.contains("only: Deployment/y"), "{rotate}");
        assert!(rotate.contains("the present value works until its overlap is over"), "{rotate}");
        effects.present_until = Some(Timestamp::UNIX_EPOCH);
        let rotate = told(&effects, PlannedChange::Rotate);
        assert!(rotate.contains("the present value ends at once"), "{rotate}");
        let revoke = told(&effects, PlannedChange::Revoke);
        for line in
            ["  Deployment/w (2 Pods, env)", "  Deployment/x (no Pod now, envFrom)", "  Deployment/y (1 Pod, volume)"]
        {
            assert!(revoke.lines().any(|told| told == line), "{line}: {revoke}");
        }
        assert!(!revoke.contains("restart"), "{revoke}");
        assert!(told(&effects, PlannedChange::Delete).contains("AccessPolicy p"));
        effects.readers.clear();
        assert!(told(&effects, PlannedChange::Revoke).contains("no workload reads its Secret (ci)"));
        let denied = r#"x is forbidden: User "a" cannot list resource "pods" in API group "" in the namespace "n""#;
        let listed = Err::<Vec<()>, _>(Refusal::because(Why::Forbidden(denied.into())));
        assert_eq!(effects.unknown.permitted(listed).unwrap(), []);
        assert!(told(&effects, PlannedChange::Delete).contains("no workload reads its Secret (ci)"));
        effects.knows_readers = false;
        let unknown = told(&effects, PlannedChange::Revoke);
        assert!(unknown.contains("no reader of its Secret (ci) is known"), "{unknown}");
        let sentence = "you may not list pods in namespace n";
        assert!(effects.unknown.told()[0].starts_with(&format!("not all is known: {sentence}; ")));
        assert_eq!(serde_json::to_value(&effects).unwrap()["unknown"], serde_json::json!([sentence]));
    }
}
