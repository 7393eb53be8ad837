//! Everything that a pass over a token knows.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::workloads::{Fellow, Workloads};
use crate::{
    controller::instance,
    crd::{AccessPolicy, Account, ApiToken, Instance, SealedSecret, api_token::ApiTokenStatus, belongs, secret},
    token::{Digest, Limit, Record, Records, Rendered},
};

/// Everything a pass over a token knows.
#[derive(Clone, Debug)]
pub struct World {
    /// When it was read.
    pub now: Timestamp,
    /// The token itself.
    pub token: Arc<ApiToken>,
    /// The Instance that it refers to.
    pub instance: Option<Arc<Instance>>,
    /// Labels of its namespace, where they are known.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether its namespace is being deleted.
    pub terminating: bool,
    /// The further Instances that accept it, in the order of `spec.audiences`.
    pub audiences: Vec<Option<Arc<Instance>>>,
    /// The policies of its Instance.
    pub policies: Vec<Arc<AccessPolicy>>,
    /// Whether its owner is an account that does not exist.
    pub owner_gone: bool,
    /// An Instance that is to accept it, and of which its owner has as many other tokens as it allows, all of them older.
    pub surplus: Option<Arc<Instance>>,
    /// The account of the name that it acts as.
    pub account: Option<Arc<Account>>,
    /// What holds the name at which the served value is looked for.
    pub secret: Held,
    /// What holds the name that is asked for, where that is another.
    pub wanted: Option<Held>,
    /// What holds the other name of the status, where that is neither of them: a Secret that is to go.
    pub other: Option<Held>,
    /// The workloads that it has restarted, where they matter.
    pub workloads: Workloads,
    /// The other tokens that have one of them restarted, while a restart is pending.
    pub fellows: Vec<Fellow>,
}

/// What holds the name of a token's Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    /// Nothing.
    Absent,
    /// The token's own Secret.
    Ours(Arc<SealedSecret>),
    /// One of the token's own that has come to be of this type.
    Retyped(String),
    /// Something that is not ours by uid.
    Foreign,
}

impl Held {
    /// What `secret` is to the token of this uid.
    pub fn of(secret: Option<Arc<SealedSecret>>, uid: &str) -> Self {
        match secret {
            None => Self::Absent,
            Some(secret) if !belongs(&*secret, uid) => Self::Foreign,
            Some(secret) if secret.type_.as_deref() == Some(secret::TYPE) => Self::Ours(secret),
            Some(secret) => Self::Retyped(secret.type_.clone().unwrap_or_default()),
        }
    }

    /// Our own Secret.
    pub fn ours(&self) -> Option<&SealedSecret> {
        match self {
            Self::Ours(secret) => Some(secret),
            Self::Absent | Self::Retyped(_) | Self::Foreign => None,
        }
    }

    /// The digest of the value that our own Secret holds.
    pub fn digest(&self) -> Option<Digest> {
        self.digest_of(secret::TOKEN)
    }

    /// The digest of what a key of our own Secret holds.
    pub fn digest_of(&self, key: &str) -> Option<Digest> {
        self.ours()?.data.get(key)?.digest()
    }

    /// Whether our own Secret holds the value of `record`, and each key that was made of it.
    pub fn holds(&self, record: &Record) -> bool {
        let stands = |rendered: &Rendered| self.digest_of(&rendered.key) == Some(rendered.sha256);
        self.digest() == Some(record.sha256) && record.rendered.iter().all(stands)
    }
}

/// How a token stands with what its Instance permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether anything is permitted; nothing where its Instance does not judge that.
    pub permitted: Option<bool>,
    /// From when on the groups of its owner are not relied on.
    pub stale_from: Option<Timestamp>,
    /// Whether that is now.
    pub is_stale: bool,
}

/// How a token stands to the account of its choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Not bound yet.
    Free,
    /// Bound to the account that stands.
    Held,
    /// The account that it was bound to is gone, for ever.
    Lost,
}

impl World {
    /// The status that stands; empty where there is none.
    pub fn status(&self) -> ApiTokenStatus {
        self.token.status.clone().unwrap_or_default()
    }

    /// The records as they are now, none of them beyond what the Instance and `expiry.at` allow.
    pub fn records(&self) -> Records {
        let mut records = Records::at(self.token.status.as_ref().map_or(&[], |status| &status.records), self.now);
        records.limit(&self.limit(), self.now);
        records
    }

    /// What no generation exceeds. An `expiry.at` that is over is either a fault, or all of them have ended by it.
    fn limit(&self) -> Limit {
        let all = self.instance.iter().chain(self.audiences.iter().flatten());
        let limits = all.map(|instance| instance::limit(&instance.spec));
        let limit = limits.reduce(|one, other| one.and(other)).unwrap_or_default();
        Limit { until: self.token.until().filter(|&until| until > self.now), ..limit }
    }

    /// The name at which the served value is looked for.
    pub fn place(&self) -> &str {
        let wanted = self.token.secret_name();
        let served = self.token.status.as_ref().and_then(|status| status.secret_name.as_deref());
        if self.wanted.is_some() { served.unwrap_or(wanted) } else { wanted }
    }

    /// Where the next value goes, and what stands there: to the name that is asked for, once no other Secret is to go.
    pub fn target(&self) -> (&str, &Held) {
        match &self.wanted {
            Some(held) if self.other.is_none() => (self.token.secret_name(), held),
            Some(_) | None => (self.place(), &self.secret),
        }
    }

    /// Each name of a Secret of the token, and what holds it.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &Held)> {
        let wanted = self.wanted.iter().map(|held| (self.token.secret_name(), held));
        let name = self.token.status.as_ref().and_then(|status| status.other_secret_name.as_deref());
        let other = self.other.iter().zip(name).map(|(held, name)| (name, held));
        [(self.place(), &self.secret)].into_iter().chain(wanted).chain(other)
    }

    /// With what holds the names that `Names` says. A served value that is found at the name that is asked for is there,
    /// whatever the status says.
    pub fn seeing(self, wanted: Held, served: Option<Held>, other: Option<Held>) -> Self {
        let is_there = self.records().served().is_some_and(|served| wanted.digest() == Some(served.sha256));
        let (secret, wanted) = match served {
            Some(served) if !is_there => (served, Some(wanted)),
            Some(_) | None => (wanted, None),
        };
        Self { secret, wanted, other, ..self }
    }

    /// The token's uid.
    pub fn uid(&self) -> &str {
        self.token.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whether the Instance asks for an endpoint and none stands, so that its URI is not known.
    pub fn awaits_endpoint(&self) -> bool {
        let stands = |instance: &Instance| instance.status.as_ref().is_some_and(|status| !status.endpoints.is_empty());
        self.instance.as_deref().is_some_and(|instance| instance.endpoints().next().is_some() && !stands(instance))
    }

    /// The token's namespace.
    pub fn namespace(&self) -> &str {
        self.token.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// How the token stands to its account. An account that is being deleted is as good as gone: that cannot be undone.
    pub fn bound(&self) -> Bound {
        match self.token.status.as_ref().and_then(|status| status.account.as_ref()) {
            None => Bound::Free,
            Some(bound) if self.account.as_ref().is_some_and(|account| stands(account, &bound.uid)) => Bound::Held,
            Some(_) => Bound::Lost,
        }
    }
}

fn stands(account: &Account, uid: &str) -> bool {
    account.metadata.uid.as_deref() == Some(uid) && account.metadata.deletion_timestamp.is_none()
}

/// Which Secrets to look at.
pub struct Names<'a> {
    /// The one that is asked for.
    pub wanted: &'a str,
    /// Where the served value is said to be, where that is another.
    pub served: Option<&'a str>,
    /// The other one of the status, where that is neither.
    pub other: Option<&'a str>,
}

impl<'a> Names<'a> {
    /// Those of a token.
    pub fn of(token: &'a ApiToken) -> Self {
        let [wanted, served, other] = token.secret_names();
        let wanted = wanted.unwrap_or_default();
        let served = served.filter(|&name| name != wanted);
        Self { wanted, served, other: other.filter(|&name| name != wanted && Some(name) != served) }
    }
}
