//! Reads everything a token depends on, once.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    delivery::is_empty,
    restart::{self, Found, Pending},
};
use crate::{
    controller::{Rooms, instance},
    crd::{
        Account, ApiToken, Instance, SealedSecret,
        api_token::{ApiTokenStatus, Claim, OnRevoke},
        belongs, secret,
    },
    outside::Refusal,
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
    /// The account of the name that it acts as.
    pub account: Option<Arc<Account>>,
    /// What holds the name of its Secret.
    pub secret: Held,
    /// The workloads that it restarts, in the order of its spec.
    pub workloads: Vec<Found>,
    /// What is pending of other tokens for those workloads, while something of this one's is.
    pub fellows: Vec<Pending>,
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

    /// The digest of the value that our own Secret holds.
    pub fn digest(&self) -> Option<Digest> {
        self.digest_of(secret::TOKEN)
    }

    /// The digest of what a key of our own Secret holds.
    pub fn digest_of(&self, key: &str) -> Option<Digest> {
        match self {
            Self::Ours(secret) => secret.data.get(key).and_then(|sealed| sealed.digest()),
            Self::Absent | Self::Retyped(_) | Self::Foreign => None,
        }
    }

    /// Whether our own Secret holds the value of `record`, and each key that was made of it.
    pub fn holds(&self, record: &Record) -> bool {
        let stands = |rendered: &Rendered| self.digest_of(&rendered.key) == Some(rendered.sha256);
        self.digest() == Some(record.sha256) && record.rendered.iter().all(stands)
    }
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
        let limit = self.instance.as_ref().map_or_else(Limit::default, |instance| instance::limit(&instance.spec));
        Limit { until: self.token.until().filter(|&until| until > self.now), ..limit }
    }

    /// What became of the served value, where each is shown once.
    pub fn claim(&self) -> Option<Claim> {
        let claim = self.token.status.as_ref()?.claim.clone()?;
        let served = self.records().served().map(|served| served.generation);
        (self.token.is_shown_once() && served == Some(claim.generation)).then_some(claim)
    }

    /// Whether the Secret is as that of a token that was ended should be.
    pub fn is_withdrawn(&self) -> bool {
        match (&self.secret, self.token.on_revoke()) {
            (Held::Absent, _) => true,
            (Held::Ours(secret), OnRevoke::Keep) => is_empty(secret),
            (Held::Ours(_), OnRevoke::Delete) | (Held::Retyped(_) | Held::Foreign, _) => false,
        }
    }

    /// The token's uid.
    pub fn uid(&self) -> &str {
        self.token.metadata.uid.as_deref().unwrap_or_default()
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

/// Reads the caches, and past them where they cannot be rested on.
pub async fn observe(token: Arc<ApiToken>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
    let namespace = token.namespace().unwrap_or_default();
    let caches = &rooms.caches;
    let wanted = &token.spec.instance_ref;
    let home = caches.namespaces.get("", &namespace);
    let uid = token.uid().unwrap_or_default();
    let world = World {
        now,
        instance: caches.instances.get(wanted.namespace_or(&namespace), wanted.name.as_str()),
        labels: home.as_ref().map(|home| home.metadata.labels.clone().unwrap_or_default()),
        terminating: home.is_some_and(|home| home.metadata.deletion_timestamp.is_some()),
        account: caches.accounts.get(&namespace, token.account_name().0),
        secret: Held::of(caches.secrets.get(&namespace, token.secret_name()), &uid),
        workloads: Vec::new(),
        fellows: Vec::new(),
        token,
    };
    let fellows = world.pending().map_or_else(Vec::new, |_| restart::fellows(&world.token, rooms, now));
    // Bound once is bound for life, and lost once is lost for ever: neither is decided from a cache.
    let account_in_doubt = match world.bound() {
        Bound::Free => world.account.is_some(),
        Bound::Held => false,
        Bound::Lost => true,
    };
    let (account, secret, workloads) = tokio::try_join!(
        async {
            if !account_in_doubt {
                return Ok(world.account.clone());
            }
            rooms.accounts.live(&namespace, world.token.account_name().0).await
        },
        async {
            if cache_agrees(&world) {
                return Ok(world.secret.clone());
            }
            let secret = rooms.reader.live(&namespace, world.token.secret_name()).await?;
            Ok(Held::of(secret.map(Arc::new), &uid))
        },
        restart::workloads(&world.token, rooms),
    )?;
    Ok(World { account, secret, workloads, fellows, ..world })
}

/// Whether the cached Secret is what the records say. Only then can the cache be rested on.
fn cache_agrees(world: &World) -> bool {
    let status = world.token.status.as_ref();
    if world.token.spec.revoked || status.is_some_and(|status| status.revocation.is_some()) {
        return world.is_withdrawn();
    }
    if world.claim().is_some() {
        return world.secret == Held::Absent;
    }
    let records = world.records();
    records.recorded().next().is_none() && records.served().is_some_and(|served| world.secret.holds(served))
}
