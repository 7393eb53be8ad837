//! Everything that a pass over a token knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, OnceLock},
};

use jiff::Timestamp;
use kube::ResourceExt;

use super::workloads::{Fellow, Workloads};
use crate::{
    access::{self, Policy, Rules},
    controller::book::Ruled,
    crd::{
        Account, ApiToken, Instance, Reason, SealedSecret,
        api_token::ApiTokenStatus,
        belongs,
        instance::EndpointType,
        secret::{self, Sealed},
    },
    token::{Digest, Limit, Record, Records, Rendered, duration::after},
};

/// Everything a pass over a token knows.
#[derive(Clone, Debug)]
pub struct World {
    /// When it was read.
    pub now: Timestamp,
    /// The token itself.
    pub token: Arc<ApiToken>,
    /// The Instance that it refers to.
    pub instance: Option<Ruled>,
    /// Labels of its namespace, where they are known.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether its namespace is being deleted.
    pub terminating: bool,
    /// The further Instances that accept it, in the order of `spec.audiences`.
    pub audiences: Vec<Option<Ruled>>,
    /// The policies of its Instance, by name.
    pub policies: Vec<Arc<Policy>>,
    /// Whether its owner is an account that does not exist.
    pub owner_gone: bool,
    /// An Instance that is to accept it, and of which its owner has as many other tokens as it allows, all of them older.
    pub surplus: Option<Ruled>,
    /// The account of the name that it acts as.
    pub account: Option<Arc<Account>>,
    /// What holds the name at which the served value is looked for.
    pub secret: Held,
    /// What holds the name that is asked for, where that is another.
    pub wanted: Option<Held>,
    /// What holds the other name of the status, where that is neither of them: a Secret that is to go.
    pub other: Option<Held>,
    /// From when on a value may be minted for it, whatever its status says; nothing: now.
    pub may_mint_from: Option<Timestamp>,
    /// Fields of the spec of its own account that another field manager has set, also to more than the token says.
    pub taken: BTreeSet<String>,
    /// The workloads that it has restarted, where they matter.
    pub workloads: Workloads,
    /// The other tokens that have one of them restarted, while a restart is pending.
    pub fellows: Vec<Fellow>,
    /// The records, once they were asked for. The token, its Instances and the time, which they depend on, stay as they were read.
    pub(super) known: OnceLock<Records>,
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
    /// What `secret` is to a token: its own by owner reference; or, where that was taken off, by its type and by a value that is on
    /// the token's record, while nobody else controls it.
    pub fn of(secret: Option<Arc<SealedSecret>>, token: &ApiToken) -> Self {
        let uid = token.metadata.uid.as_deref().unwrap_or_default();
        match secret {
            None => Self::Absent,
            Some(secret) if !belongs(&*secret, uid) && !is_on_record(&secret, token) => Self::Foreign,
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

/// Why no request with a value is let in, though the value lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The word for it.
    pub reason: Reason,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Whether a Secret of our type that nobody controls holds a value of which the token has a record.
fn is_on_record(secret: &SealedSecret, token: &ApiToken) -> bool {
    let controlled = secret.owner_references().iter().any(|owner| owner.controller == Some(true));
    let digest = secret.data.get(secret::TOKEN).and_then(Sealed::digest);
    let mut records = token.status.iter().flat_map(|status| &status.records);
    let ours = secret.type_.as_deref() == Some(secret::TYPE) && !controlled;
    ours && digest.is_some_and(|digest| records.any(|record| record.sha256 == digest))
}

/// How a token stands with what its Instance permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Why its Instance lets in no request with it; nothing where it lets some in.
    pub closed: Option<Closed>,
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
    pub fn before(&self) -> &ApiTokenStatus {
        static EMPTY: LazyLock<ApiTokenStatus> = LazyLock::new(ApiTokenStatus::default);
        self.token.status.as_ref().unwrap_or(&EMPTY)
    }

    /// What its Instance says of requests, where that has no faults.
    pub fn rules(&self) -> Option<&Rules> {
        self.instance.as_ref()?.rules()
    }

    /// The records as they are now, none of them beyond what the Instance, `expiry.at` and `regenerate.previous` allow.
    pub fn records(&self) -> &Records {
        self.known.get_or_init(|| {
            let mut records = Records::at(&self.before().records, self.now);
            records.limit(&self.limit(), self.now);
            if let Some((generation, end)) = ends_before(&self.token) {
                records.end_before(generation, end, self.now);
            }
            records
        })
    }

    /// What no generation exceeds. An `expiry.at` that is over is either a fault, or all of them have ended by it.
    fn limit(&self) -> Limit {
        // One that is named and not accepted, as a slip may be, shortens nothing.
        let accepted = self.token.status.as_ref().and_then(|status| status.audiences.as_ref());
        let is_accepted = |instance: &&Ruled| {
            let uid = instance.metadata.uid.as_deref();
            accepted.is_none_or(|accepted| accepted.iter().any(|audience| Some(&*audience.uid) == uid))
        };
        let all = self.instance.iter().chain(self.audiences.iter().flatten().filter(is_accepted));
        let limits = all.map(|instance| access::limit(&instance.spec));
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
        let stands = |instance: &Instance| {
            let endpoints = instance.status.iter().flat_map(|status| &status.endpoints);
            endpoints.into_iter().any(|endpoint| endpoint.type_ != EndpointType::Disabled)
        };
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

/// The generation that answered `regenerate.id`, and the end of all before it that `regenerate.previous` gives. It is read as it
/// stands now: under the same id it can be shortened later, and so one leaked value be ended alone.
pub fn ends_before(token: &ApiToken) -> Option<(i64, Timestamp)> {
    let (asked, status) = (token.spec.regenerate.as_ref()?, token.status.as_ref()?);
    let answered = status.regeneration.as_ref().filter(|answered| answered.id == asked.id)?;
    let record = status.records.iter().find(|record| record.generation == answered.generation)?;
    let published = record.published_at.as_ref()?.0;
    let previous = asked.previous.as_ref()?;
    let after_publish = previous.after.as_ref().and_then(|delay| delay.parse().ok());
    let at = previous.at.as_ref().and_then(|at| at.parse().ok());
    let end = after_publish.map(|delay| after(published, delay)).or(at.map(|at| at.max(published)))?;
    Some((answered.generation, end))
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
