//! The entries of the index. An entry keeps the few parts of an object that the verifier needs.

use std::{collections::BTreeMap, num::NonZeroI64, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::{EndedObjects, Entries, EntryChange, Index, Indexed, Key, Pools};
use crate::{
    access::{self, Claims, Homes, Rules, Uid},
    crd::{
        Account, ApiToken, Fault, Instance, InstanceRef,
        api_token::{AcceptedAudience, ApiTokenStatus, Use},
    },
    outside::watch::NamespaceMeta,
    token::{Digest, Id, Life, Limit, Record, State},
    verifier::credential::Places,
};

/// The entry of an ApiToken.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEntry {
    /// Its uid.
    pub uid: Uid,
    /// The Instances that the token opens: its own, and further ones.
    pub instances: Arc<[Opened]>,
    /// The owner, role and scopes that the token names.
    pub claims: Arc<Claims>,
    /// The account that the token is bound to. `None`: it is not bound yet.
    pub account: Option<Acting>,
    /// True unless the token is suspended.
    pub active: bool,
    /// True if the token is revoked, by its spec or its status.
    pub revoked: bool,
    /// True if the token is being deleted.
    pub deleting: bool,
    /// The time of the owner's group stamp, as the operator recorded it. A newer stamp counts as old as the recorded
    /// one until the operator records it. Otherwise a stamp that cannot be recorded would never become too old.
    stamped_at: Option<Micros>,
    /// True if the operator found that the owner is an account that does not exist.
    pub owner_gone: bool,
    /// The time at which the token was made.
    pub created_at: Seconds,
    /// Its generations. Most tokens serve one and have one before it, which lie here with the rest of the entry.
    pub generations: SmallVec<[Generation; 2]>,
}

impl TokenEntry {
    /// The time of the owner's group stamp, as the operator recorded it. `None`: no time is recorded.
    pub fn stamped_at(&self) -> Option<Timestamp> {
        self.stamped_at.map(Micros::timestamp)
    }

    /// True if one of its records has this id.
    pub fn has(&self, id: Id) -> bool {
        self.generations.iter().any(|known| known.id == id)
    }

    /// The last use of the value with this id that the status lists.
    pub fn last_used(&self, id: Id) -> Option<Timestamp> {
        self.generations.iter().find(|known| known.id == id)?.last_used()
    }

    /// The uses that the status lists, of generations that are on record.
    pub fn used(&self) -> Vec<Use> {
        let used = |known: &Generation| {
            let [first, last] = known.used?.map(|at| Time(at.timestamp()));
            Some(Use { generation: known.number, first_used_at: first, last_used_at: last })
        };
        self.generations.iter().filter_map(used).collect()
    }
}

/// A time, in microseconds since 1970. It is smaller than a [`Timestamp`], and never later than the time that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Micros(NonZeroI64);

/// The time at which an object was made, in seconds since 1970. An object that names none counts as the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u32);

impl Seconds {
    /// The clocks of several API servers can differ by this much.
    const SKEW: u32 = 5;

    pub(super) fn of(created: Option<&Time>) -> Self {
        Self(created.and_then(|at| u32::try_from(at.0.as_second()).ok()).unwrap_or(u32::MAX))
    }

    /// True if an object was surely made before another one.
    pub(super) fn is_before(self, other: Self) -> bool {
        self.0 < other.0.saturating_sub(Self::SKEW)
    }
}

/// A generation of a token, taken from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub number: i64,
    /// Its public id.
    pub id: Id,
    /// The digest of its value.
    pub sha256: Digest,
    /// Its state.
    pub state: State,
    created_at: Micros,
    end: Option<Micros>,
    /// Its first and its last use, as the status lists them.
    used: Option<[Micros; 2]>,
}

/// An Instance that a token opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opened {
    /// Its name.
    pub key: Key,
    /// The uid of that Instance. `None`: any Instance with this name.
    pub uid: Option<SmolStr>,
}

/// The account that a token acts as. It is in the namespace of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting {
    /// Its name.
    pub name: SmolStr,
    /// The uid of that account.
    pub uid: Uid,
}

/// The entry of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// Its uid.
    pub uid: Uid,
    /// The owner, role and scopes that the account names.
    pub claims: Arc<Claims>,
    /// True unless the account is suspended. The tokens of a suspended account are refused.
    pub active: bool,
    /// True if the account is being deleted.
    pub deleting: bool,
}

/// The entry of an Instance, with its rules in a form for quick look-ups.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceEntry {
    /// Its uid. `None`: not known.
    pub uid: Option<String>,
    /// The organization of the Instance. Default: the name of the Instance.
    pub organization: SmolStr,
    /// The rules of the Instance. If the Instance has faults, it lets nobody in.
    pub rules: Result<Rules, Vec<Fault>>,
    /// The places for credentials.
    pub places: Places,
    /// The limits of every generation of its tokens.
    pub limit: Limit,
    /// The namespaces in which its tokens may live.
    pub homes: Homes,
    /// True if its endpoint is disabled.
    pub disabled: bool,
    /// True if the Instance is being deleted.
    pub deleting: bool,
    /// The time at which the Instance was made.
    pub created_at: Seconds,
}

impl Indexed for ApiToken {
    type Entry = TokenEntry;

    const USED: bool = true;

    fn entry(self, key: &Key, pools: &Pools) -> TokenEntry {
        let (instances, claims) = (opened(&self, pools), Claims::of_token(&self));
        let created_at = Seconds::of(self.metadata.creation_timestamp.as_ref());
        let status = self.status.unwrap_or_default();
        let (owner, used) = (status.owner.as_ref(), status.used());
        let mut generations: SmallVec<_> =
            status.records.iter().filter_map(|record| Generation::of(record, &used)).collect();
        generations.shrink_to_fit();
        TokenEntry {
            uid: self.metadata.uid.unwrap_or_default().as_str().into(),
            instances: pools.opened.share(instances),
            claims: pools.claims.share(claims),
            account: acting(key, &status, pools),
            active: self.spec.active,
            revoked: self.spec.revoked || status.revocation.is_some(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            stamped_at: owner.and_then(|seen| seen.stamped_at.as_ref()).map(|at| Micros::of(at.0)),
            owner_gone: owner.is_some_and(|seen| seen.gone),
            created_at,
            generations,
        }
    }

    fn entries(index: &mut Index) -> &mut Entries<TokenEntry> {
        &mut index.tokens
    }

    fn changed(index: &mut Index, change: &EntryChange<TokenEntry>) {
        index.ids.follow(change, &index.accounts);
    }

    fn listed(index: &mut Index, changes: &[EntryChange<TokenEntry>]) {
        index.ids.follow_list(changes, &index.accounts);
    }
}

impl Generation {
    /// The generation of a record. `None` if no value can have the id of the record.
    fn of(record: &Record, used: &[Use]) -> Option<Self> {
        let life = record.life();
        let used = used.iter().find(|used| used.generation == record.generation);
        Some(Self {
            number: record.generation,
            id: Id::of(&record.id)?,
            sha256: record.sha256,
            state: life.state,
            created_at: Micros::of(life.created_at),
            end: life.end.map(Micros::of),
            used: used.map(|used| [&used.first_used_at, &used.last_used_at].map(|at| Micros::of(at.0))),
        })
    }

    /// Its last use that the status lists.
    pub fn last_used(&self) -> Option<Timestamp> {
        self.used.map(|[_, last]| last.timestamp())
    }

    /// Its state and its times.
    pub fn life(&self) -> Life {
        Life { state: self.state, created_at: self.created_at.timestamp(), end: self.end.map(Micros::timestamp) }
    }
}

impl Micros {
    fn of(at: Timestamp) -> Self {
        // The microsecond 0 counts as the one before it.
        Self(NonZeroI64::new(at.as_microsecond()).unwrap_or(NonZeroI64::new(-1).expect("it is not 0")))
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0.get()).expect("it was a timestamp")
    }
}

/// The account that a token is bound to. Most accounts have the name of their token, and share its text.
fn acting(token: &Key, status: &ApiTokenStatus, pools: &Pools) -> Option<Acting> {
    let bound = status.account.as_ref()?;
    let name = if *bound.name == *token.name { token.name.clone() } else { pools.text(&bound.name) };
    Some(Acting { name, uid: bound.uid.as_str().into() })
}

/// The Instances that a token opens: its own, and those of its `spec.audiences` that the operator has accepted. An
/// operator of an earlier release does not write `status.audiences`. The token then opens all of its `spec.audiences`.
fn opened(token: &ApiToken, pools: &Pools) -> Vec<Opened> {
    let namespace = token.namespace().unwrap_or_default();
    let key = |wanted: &InstanceRef| pools.key(wanted.namespace_or(&namespace), wanted.name.as_str());
    let accepted = token.status.as_ref().and_then(|status| status.audiences.as_ref());
    let further = token.spec.audiences.iter().filter_map(|wanted| {
        let key = key(wanted);
        let Some(accepted) = accepted else { return Some(Opened { key, uid: None }) };
        let is_it = |audience: &&AcceptedAudience| *audience.name == *key.name && *audience.namespace == *key.namespace;
        let uid = pools.text(&accepted.iter().find(is_it)?.uid);
        Some(Opened { key, uid: Some(uid) })
    });
    [Opened { key: key(&token.spec.instance_ref), uid: None }].into_iter().chain(further).collect()
}

impl Indexed for Account {
    type Entry = AccountEntry;

    fn entry(self, _: &Key, pools: &Pools) -> AccountEntry {
        AccountEntry {
            claims: pools.claims.share(Claims::of_account(&self)),
            uid: self.metadata.uid.unwrap_or_default().as_str().into(),
            active: self.spec.active,
            deleting: self.metadata.deletion_timestamp.is_some(),
        }
    }

    /// No token is bound to an account without a uid. But the account may own tokens, so its own owner still counts.
    fn unread(last: Option<&AccountEntry>) -> Option<AccountEntry> {
        last.map(|last| AccountEntry { uid: "".into(), ..last.clone() })
    }

    fn entries(index: &mut Index) -> &mut Entries<AccountEntry> {
        &mut index.accounts
    }

    fn changed(index: &mut Index, change: &EntryChange<AccountEntry>) {
        index.ids.follow_account(change, &index.tokens, &index.accounts);
    }

    fn listed(index: &mut Index, changes: &[EntryChange<AccountEntry>]) {
        index.ids.follow_accounts(changes, &index.tokens, &index.accounts);
    }
}

impl Indexed for Instance {
    type Entry = InstanceEntry;

    fn entry(self, _: &Key, _: &Pools) -> InstanceEntry {
        InstanceEntry {
            organization: self.organization().into(),
            rules: Rules::of(&self),
            places: Places::of(self.spec.api.as_ref().map_or(&[], |api| &api.credentials)),
            limit: access::limit(&self.spec),
            homes: Homes::of(&self),
            disabled: self.is_disabled(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            created_at: Seconds::of(self.metadata.creation_timestamp.as_ref()),
            uid: self.metadata.uid,
        }
    }

    /// The Instance lets nobody in. Its last known limits still hold for tokens that open other Instances too. They are
    /// not known if this verifier could never read the Instance.
    fn unread(last: Option<&InstanceEntry>) -> Option<InstanceEntry> {
        last.map(|last| InstanceEntry { rules: Err(Vec::new()), ..last.clone() })
    }

    fn entries(index: &mut Index) -> &mut Entries<InstanceEntry> {
        &mut index.instances
    }
}

/// The entry of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceEntry {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// True if the namespace is being deleted.
    pub deleting: bool,
    /// The time at which the namespace was made.
    pub created_at: Seconds,
}

impl Indexed for NamespaceMeta {
    type Entry = NamespaceEntry;

    fn entry(self, _: &Key, _: &Pools) -> NamespaceEntry {
        NamespaceEntry {
            deleting: self.metadata.deletion_timestamp.is_some(),
            created_at: Seconds::of(self.metadata.creation_timestamp.as_ref()),
            labels: self.metadata.labels.unwrap_or_default(),
        }
    }

    fn entries(index: &mut Index) -> &mut Entries<NamespaceEntry> {
        &mut index.namespaces
    }

    /// A Role goes with its namespace, so the deletions of objects there may not be heard. Objects of a namespace that
    /// is going or gone have ended. Those that are older than a namespace of that name belong to an earlier one.
    fn changed(index: &mut Index, change: &EntryChange<NamespaceEntry>) {
        let Some(Key { name, .. }) = change.key() else { return };
        let was = change.old.as_ref().map(|held| held.entry.created_at);
        let ended = match &change.new {
            Some(held) if held.entry.deleting => Some(EndedObjects::All),
            Some(held) => {
                let created = held.entry.created_at;
                let is_another = was.is_some_and(|was| was != created) || index.ended.contains_key(name);
                is_another.then_some(EndedObjects::Before(created))
            }
            None => index.knows_any_in(name).then_some(EndedObjects::All),
        };
        match ended {
            Some(ended) => _ = index.ended.insert(name.clone(), ended),
            None => _ = index.ended.remove(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Versioned, *};

    #[test]
    fn an_entry_is_small() {
        let sizes = [
            size_of::<Versioned<TokenEntry>>(),
            size_of::<Generation>(),
            size_of::<Versioned<AccountEntry>>(),
            size_of::<Acting>(),
        ];
        assert!(sizes.iter().zip([368, 96, 96, 48]).all(|(size, most)| *size <= most), "{sizes:?}");
    }

    #[test]
    fn a_time_is_never_read_as_a_later_one() {
        for text in ["2026-01-01T00:00:00Z", "2999-12-31T23:59:59.123456Z", "1970-01-01T00:00:01Z"] {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(Micros::of(at).timestamp(), at, "{text}");
        }
        for text in ["2026-01-01T00:00:00.123456789Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.0000009Z"] {
            let at: Timestamp = text.parse().unwrap();
            let read = Micros::of(at).timestamp();
            assert!(read <= at && at.as_microsecond() - read.as_microsecond() <= 1, "{text}");
        }
    }

    #[test]
    fn a_generation_has_all_that_its_record_says() {
        let record = |generation: i64, id: &str| {
            serde_json::json!({"generation": generation, "id": id, "sha256": Digest::of("a"), "state": "Superseded",
                "createdAt": "2026-01-01T00:00:00Z", "expiresAt": "2027-01-01T00:00:00Z"})
        };
        let used = |generation: i64| {
            serde_json::json!({"generation": generation, "firstUsedAt": "2026-01-02T00:00:00Z",
                "lastUsedAt": "2026-01-03T00:00:00Z"})
        };
        let token: ApiToken = serde_json::from_value(serde_json::json!({
            "apiVersion": "tokenry.dev/v1alpha1", "kind": "ApiToken", "metadata": {"namespace": "a", "name": "x"},
            "spec": {"instanceRef": {"name": "eem"}}, "status": {
                "records": [record(1, "0123456789abcdef"), record(2, "no id"), record(3, "0123456789abcdeF")],
                "use": [used(3), used(4)],
            },
        }))
        .unwrap();
        let (records, uses) = (token.status.clone().unwrap().records, token.status.clone().unwrap().used());
        let entry = token.entry(&Key::new("a", "x"), &Pools::default());
        let numbers: Vec<_> = entry.generations.iter().map(|known| known.number).collect();
        assert_eq!(numbers, [1, 3], "no value can have the id of the second record");
        assert_eq!(entry.generations[0].life(), records[0].life());
        assert_eq!((&*entry.generations[1].id, entry.generations[1].sha256), ("0123456789abcdeF", Digest::of("a")));
        assert_eq!(entry.used(), [uses[0].clone()], "a use of a generation that is not on record is left out");
    }
}
