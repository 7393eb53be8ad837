//! The controller of `AccessPolicy`. It reports faults, binds member names to uids, and reports members that match no
//! object.

use std::{collections::BTreeMap, sync::Arc};

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt, core::ObjectMeta, runtime::reflector::ObjectRef};

use super::{
    Caches, Obstacle, Rooms,
    book::Ruled,
    depends::Depends,
    kind::{Checked, Kind, Settled, Unreadable, Version, version},
    run::{each, every, mapped, names, referring, together},
};
use crate::{
    access,
    crd::{
        AccessPolicy, Account, ApiToken, Conditions, EventName, Fault, Instance, InstanceRef, ObjectName, Reason,
        access_policy::{AccessPolicyStatus, BoundMember, MemberCounts},
        condition::{ACCEPTED, Conclusion, DANGLING_MEMBER},
        fault::{first, told},
        name,
        subject::{PolicyMember, SubjectKind, Who},
    },
    outside::{Refusal, clock::jumps, events::Note},
};

/// Everything a pass over a policy knows.
pub struct World {
    now: Timestamp,
    policy: Arc<AccessPolicy>,
    instance: Option<Ruled>,
    /// The members that match no object.
    dangling: Vec<String>,
    /// The tokens and accounts that have a listed name now, by that name.
    bearers: BTreeMap<String, BoundMember>,
}

impl Kind for AccessPolicy {
    type World = World;
    type Terms = ();
    type Decision = Reason;
    type Progress = Reason;
    type Status = AccessPolicyStatus;

    const WHEN_UNREADABLE: &'static str =
        "no further name becomes a member, and an Allow by the name of a token or an account permits nothing";
    async fn observe(self: Arc<Self>, rooms: &Rooms, now: Timestamp) -> Result<World, Refusal> {
        let namespace = self.namespace().unwrap_or_default();
        let instance = rooms.instance(&namespace, self.spec.instance_ref.name.as_str());
        let dangling = dangling(rooms, &self, instance.as_deref());
        let bearers = bearers(rooms, &self);
        Ok(World { now, policy: self, instance, dangling, bearers })
    }

    fn validate(world: &World) -> Checked<()> {
        let mut faults = Vec::new();
        let spec = &world.policy.spec;
        let Some(instance) = &world.instance else {
            let message = format!("there is no Instance {} in this namespace; create it", spec.instance_ref.name);
            return Err(vec![Fault::new(Reason::InstanceMissing, "spec.instanceRef", message)]);
        };
        for (index, member) in spec.members.iter().enumerate() {
            if let Err(rule) = member.checked() {
                faults.push(Fault::invalid(format!("spec.members[{index}]"), rule));
            }
        }
        for (index, statement) in spec.statements.iter().enumerate() {
            let path = format!("spec.statements[{index}]");
            if statement.role.is_some() != statement.actions.is_empty() {
                faults.push(Fault::invalid(path.clone(), "give exactly one of role and actions"));
            }
            for (at, action) in statement.actions.iter().enumerate() {
                if let Err(rule) = action.checked() {
                    faults.push(Fault::invalid(format!("{path}.actions[{at}]"), rule));
                }
            }
            for (at, project) in statement.projects.iter().enumerate() {
                if let Err(rule) = project.checked() {
                    faults.push(Fault::invalid(format!("{path}.projects[{at}]"), rule));
                }
            }
            let unknown = |role: &str| instance.rules().is_some_and(|rules| !rules.has_role(role));
            if let Some(role) = statement.role.as_ref().filter(|role| unknown(role.as_str())) {
                let message = format!("the Instance has no role {role}");
                faults.push(Fault::new(Reason::RoleMissing, format!("{path}.role"), message));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn decide(world: &World, terms: &Checked<()>) -> Reason {
        match terms {
            _ if world.policy.metadata.deletion_timestamp.is_some() => Reason::Deleting,
            Err(faults) => first(faults),
            Ok(()) => Reason::Accepted,
        }
    }

    fn reason(decision: &Reason) -> Reason {
        *decision
    }

    async fn execute(
        _: &Rooms,
        world: &World,
        _: &Checked<()>,
        decision: Reason,
    ) -> Result<(Version, Reason), Obstacle> {
        Ok((version(&*world.policy), decision))
    }

    fn settle(world: &World, terms: &Checked<()>, reason: &Reason) -> Settled<AccessPolicyStatus> {
        let policy = &world.policy;
        let old = policy.status.as_ref().map(|status| status.conditions.as_slice());
        let mut conditions = Conditions::from(old, policy.metadata.generation, world.now);
        let (conclusion, message) = match (reason, terms) {
            (Reason::Deleting, _) => (Conclusion::Working, "being deleted".into()),
            (_, Err(faults)) => (Conclusion::of(*reason), told(faults)),
            (_, Ok(())) => (Conclusion::Ready, "verifiers apply it".into()),
        };
        conditions.set(ACCEPTED, terms.is_ok(), *reason, &*message);
        conditions.conclude(conclusion, *reason, message);
        let mut notes: Vec<_> = terms
            .as_ref()
            .err()
            .filter(|_| conditions.changed(ACCEPTED))
            .map(|faults| Note::warning(EventName::of(*reason), *reason, told(faults)))
            .into_iter()
            .collect();
        let (members, bound) = members(world);
        notes.extend(bound);
        let dangling = world.dangling(&members);
        let counts = MemberCounts {
            members: of_length(&policy.spec.members),
            statements: of_length(&policy.spec.statements),
            dangling: of_length(&dangling),
        };
        if dangling.is_empty() {
            conditions.remove(DANGLING_MEMBER);
        } else {
            let text = format!("no such member exists: {}", dangling.join(", "));
            conditions.set(DANGLING_MEMBER, true, Reason::DanglingMember, &*text);
            if conditions.changed(DANGLING_MEMBER) {
                notes.push(Note::warning(EventName::DanglingMember, Reason::DanglingMember, text));
            }
        }
        let status = AccessPolicyStatus {
            unreadable: Vec::new(),
            observed_generation: policy.metadata.generation,
            conditions: conditions.into_vec(),
            counts: Some(counts),
            members: Some(members),
            others: policy.status.as_ref().map(|stands| stands.others.clone()).unwrap_or_default(),
        };
        Settled { status, notes, wake: None }
    }

    fn conditions(status: &mut AccessPolicyStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn status(&self) -> Option<&AccessPolicyStatus> {
        self.status.as_ref()
    }

    fn unreadable(status: &AccessPolicyStatus) -> Unreadable<'_> {
        Unreadable { fields: &status.unreadable, conditions: &status.conditions }
    }
}

/// The faults of a policy that is no object yet.
pub(super) fn faults_of_manifest(policy: Arc<AccessPolicy>, instance: Ruled, now: Timestamp) -> Vec<Fault> {
    let (dangling, bearers) = (Vec::new(), BTreeMap::new());
    let world = World { now, policy, instance: Some(instance), dangling, bearers };
    AccessPolicy::validate(&world).err().unwrap_or_default()
}

/// The token or account that each listed name means, with an event about new ones.
///
/// ```text
///  spec written ──▶ bound to the object of that name ──▶ stays bound, also after that object is deleted
///     │                                                            │
///     └── no such object ──▶ bound to the first one created ───────┤
///                                                                  ▼
///                                             spec changed: bound again
/// ```
fn members(world: &World) -> (Vec<BoundMember>, Vec<Note>) {
    let policy = &world.policy;
    let status = policy.status.as_ref();
    let before = status.and_then(|status| status.members.as_deref()).unwrap_or_default();
    let same_spec = status.is_some_and(|status| status.observed_generation == policy.metadata.generation);
    let stands = |member: &str| before.iter().find(|bound| same_spec && bound.member == member);
    let listed = policy.spec.members.iter().map(PolicyMember::as_str).filter(|member| is_object(member));
    let members: Vec<BoundMember> =
        listed.filter_map(|member| stands(member).or_else(|| world.bearers.get(member)).cloned()).collect();
    let news = members.iter().filter(|bound| !before.contains(bound)).map(|BoundMember { member, uid, created_by }| {
        let maker = created_by.as_deref().unwrap_or("nobody knows whom");
        format!("{member} means the one of uid {uid} from now on, made by {maker}")
    });
    // One event for all new members. Of several events with one reason about one policy, only the first text would be
    // written.
    let news = news.collect::<Vec<_>>().join("; ");
    let news = Some(news)
        .filter(|news| !news.is_empty())
        .map(|news| Note::normal(EventName::MemberBound, Reason::MemberBound, news));
    (members, news.into_iter().collect())
}

/// A fault for each of the policies in the `spec.policies` of a token or an account that its Instance does not have.
/// The object waits for them, because they may be created soon.
pub fn missing_policies<'a>(
    instance: &'a Instance,
    named: &'a [ObjectName],
    exists: impl Fn(&ObjectName) -> bool + 'a,
) -> impl Iterator<Item = Fault> + 'a {
    let missing = named.iter().enumerate().filter(move |(_, name)| !exists(name));
    missing.map(|(index, name)| {
        let (home, of) = (instance.namespace().unwrap_or_default(), instance.name_any());
        let message =
            format!("there is no AccessPolicy {name} of Instance {home}/{of}; create it, or remove the entry");
        Fault::new(Reason::PolicyMissing, format!("spec.policies[{index}]"), message)
    })
}

fn of_length<T>(list: &[T]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

/// True if a member is the name of one token or account.
fn is_object(member: &str) -> bool {
    let who = Who::of(member).filter(|who| matches!(who.kind, SubjectKind::Token | SubjectKind::Account));
    who.and_then(|who| who.namespaced()).is_some_and(|(_, name)| name != "*")
}

impl World {
    /// The members that match no object now, and the members whose name now belongs to another object.
    fn dangling(&self, members: &[BoundMember]) -> Vec<String> {
        let another = members
            .iter()
            .filter(|bound| self.bearers.get(&bound.member).is_some_and(|bearer| bearer.uid != bound.uid));
        let told = |bound: &BoundMember| {
            format!(
                "{} (another object has this name now; to mean it, remove the member and add it again)",
                bound.member
            )
        };
        self.dangling.iter().cloned().chain(another.map(told)).collect()
    }
}

/// The creator of an object, by its stamp.
fn maker(meta: &ObjectMeta) -> Option<String> {
    meta.annotations.as_ref()?.get(name::CREATED_BY).cloned()
}

/// The token that owns this account. The operator creates such an account, so it has no stamp.
fn token_of(rooms: &Rooms, account: &ObjectMeta) -> Option<Arc<ApiToken>> {
    let owner = account.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let token = rooms.caches.tokens.get(account.namespace.as_deref()?, &owner.name)?;
    (token.metadata.uid.as_deref() == Some(&*owner.uid)).then_some(token)
}

/// The tokens and accounts that have a listed name. Objects that are being deleted do not count.
fn bearers(rooms: &Rooms, policy: &AccessPolicy) -> BTreeMap<String, BoundMember> {
    let meta = |who: &Who<'_>| {
        let (namespace, name) = who.namespaced()?;
        match who.kind {
            SubjectKind::Token => rooms.caches.tokens.get(namespace, name).map(|token| token.metadata.clone()),
            SubjectKind::Account => rooms.caches.accounts.get(namespace, name).map(|account| account.metadata.clone()),
            SubjectKind::User | SubjectKind::Group | SubjectKind::Team | SubjectKind::ServiceAccount => None,
        }
    };
    let bearer = |member: &str| {
        let meta = meta(&Who::of(member)?).filter(|meta| meta.deletion_timestamp.is_none())?;
        let created_by = maker(&meta).or_else(|| maker(&token_of(rooms, &meta)?.metadata));
        Some((member.to_owned(), BoundMember { member: member.to_owned(), uid: meta.uid?, created_by }))
    };
    policy.spec.members.iter().filter_map(|member| bearer(member.as_str())).collect()
}

/// The members that match no token, no account, no team of the Instance, and no owner of one of its tokens.
fn dangling(rooms: &Rooms, policy: &AccessPolicy, instance: Option<&Instance>) -> Vec<String> {
    let Some(instance) = instance else { return Vec::new() };
    let caches = &rooms.caches;
    let opens = |token: &ApiToken| token.opens(instance);
    let owns = |who: &Who<'_>| {
        let is = |token: &ApiToken| token.noted_owner() == Some(&*who.to_string()) && token.opens(instance);
        caches.tokens.any(&Depends::Subject(&who.to_string()), is)
    };
    let is_of = |who: &Who<'_>| {
        let is =
            |token: &ApiToken| token.opens(instance) && access::groups(token).iter().any(|group| group == who.name);
        caches.tokens.any(&Depends::Group(who.name), is)
    };
    let matches = |who: &Who<'_>| match (who.kind, who.namespaced()) {
        (SubjectKind::Token, Some((namespace, "*"))) => caches.tokens.any(&Depends::Home(namespace), opens),
        (SubjectKind::Token, Some((namespace, name))) => {
            caches.tokens.get(namespace, name).is_some_and(|token| opens(&token))
        }
        (SubjectKind::Account, Some((namespace, "*"))) => caches.accounts.any(&Depends::Home(namespace), |_| true),
        (SubjectKind::Account, Some((namespace, name))) => caches.accounts.get(namespace, name).is_some(),
        (SubjectKind::Team, _) => instance.spec.teams.iter().any(|team| team.name.as_str() == who.name),
        (SubjectKind::Group, _) => owns(who) || is_of(who),
        (SubjectKind::User | SubjectKind::ServiceAccount, _) => owns(who),
        (SubjectKind::Token | SubjectKind::Account, None) => false,
    };
    let members = policy.spec.members.iter().map(|member| member.as_str());
    members.filter(|member| Who::of(member).is_none_or(|who| !matches(&who))).map(str::to_owned).collect()
}

/// The names of policies that need a pass, because the policy, its Instance, a token or an account has changed.
pub fn triggers(rooms: &Arc<Rooms>) -> SelectAll<BoxStream<'static, ObjectRef<AccessPolicy>>> {
    // Each cache is named here, so that a new cache does not compile before it is considered here.
    let Caches {
        policies,
        instances,
        tokens,
        accounts,
        users: _,
        secrets: _,
        services: _,
        exposing: _,
        namespaces: _,
        roles: _,
        bindings: _,
    } = &*rooms.caches;
    let [tidied, of_tokens, of_accounts] = std::array::from_fn(|_| rooms.clone());
    futures::stream::select_all([
        each(policies.touched().inspect(move |policy| tidied.policies.tidy(&tidied.caches.policies, policy))),
        referring(instances, policies.store()),
        together(mapped(tokens.touched(), move |token: &ApiToken| {
            let home = token.namespace().unwrap_or_default();
            let itself = Who { kind: SubjectKind::Token, name: &format!("{home}/{}", token.name_any()) }.to_string();
            let about = |wanted: &InstanceRef| {
                let key = Depends::Instance(wanted.namespace_or(&home), wanted.name.as_str());
                // A policy without members is about every token, so no token changes its status.
                names(of_tokens.caches.policies.by(&key).filter(|policy| !policy.spec.members.is_empty()))
            };
            of(&of_tokens, &Depends::Subject(&itself)).into_iter().chain(token.instances().flat_map(about)).collect()
        })),
        mapped(accounts.touched(), move |account: &Account| {
            of(&of_accounts, &Depends::AccountsOf(&account.namespace().unwrap_or_default()))
        }),
        every(jumps(rooms.clock.clone()), policies.store()),
    ])
}

fn of(rooms: &Rooms, key: &Depends<'_>) -> Vec<ObjectRef<AccessPolicy>> {
    rooms.caches.policies.names(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn world(instance: Option<Value>, spec: Value, dangling: &[&str]) -> World {
        let object = |kind: &str, spec: Value| {
            let metadata = json!({"name": "eem", "namespace": "events", "uid": "u", "generation": 3});
            json!({"apiVersion": "tokenry.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
        };
        World {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            policy: Arc::new(serde_json::from_value(object("AccessPolicy", spec)).unwrap()),
            instance: instance
                .map(|spec| Ruled::new(Arc::new(serde_json::from_value(object("Instance", spec)).unwrap()))),
            dangling: dangling.iter().map(|&member| member.to_owned()).collect(),
            bearers: BTreeMap::new(),
        }
    }

    /// The world in which these objects have a listed name.
    fn borne(mut world: World, bearers: &[(&str, &str)]) -> World {
        world.bearers = bearers
            .iter()
            .map(|&(member, uid)| {
                let created_by = Some(format!("user:{uid}"));
                (member.to_owned(), BoundMember { member: member.into(), uid: uid.into(), created_by })
            })
            .collect();
        world
    }

    /// Runs a pass, keeps its status, and returns the uid of each listed name.
    fn passed(world: &mut World) -> Vec<String> {
        let status = settled(world).status;
        let uids = status.members.iter().flatten().map(|bound| format!("{} {}", bound.member, bound.uid)).collect();
        Arc::make_mut(&mut world.policy).status = Some(status);
        uids
    }

    #[test]
    fn a_name_means_the_one_that_bears_it_when_the_policy_is_written_or_the_first_afterwards() {
        let statement = json!({"effect": "Allow", "role": "viewer"});
        let spec = json!({"instanceRef": {"name": "eem"}, "members": ["token:a/b", "account:a/c", "token:a/*", "user:u"], "statements": [statement]});
        let world = world(Some(json!({})), spec, &[]);
        let mut world = borne(world, &[("token:a/b", "one")]);
        let told: Vec<_> = settled(&world).notes.into_iter().map(|note| (note.reason, note.text)).collect();
        let text = "token:a/b means the one of uid one from now on, made by user:one";
        assert_eq!(told, [(Reason::MemberBound, text.to_owned())]);
        assert_eq!(passed(&mut world), ["token:a/b one"]);
        assert_eq!(settled(&world).notes, [], "told once");
        // The token is deleted, another token of its name is created, and the account of the other name is created.
        let mut world = borne(world, &[("token:a/b", "two"), ("account:a/c", "three")]);
        assert_eq!(passed(&mut world), ["token:a/b one", "account:a/c three"]);
        let dangling = settled(&world).status.conditions.into_iter().find(|said| said.type_ == DANGLING_MEMBER);
        let text = "no such member exists: token:a/b (another object has this name now; to mean it, remove the member and add it again)";
        assert_eq!(dangling.unwrap().message, text);
        let mut world = borne(world, &[]);
        assert_eq!(passed(&mut world), ["token:a/b one", "account:a/c three"]);
        // The spec is changed.
        Arc::make_mut(&mut world.policy).metadata.generation = Some(4);
        let mut world = borne(world, &[("token:a/b", "two")]);
        assert_eq!(passed(&mut world), ["token:a/b two"]);
    }

    #[test]
    fn several_names_that_are_bound_together_are_told_in_one_note() {
        let statement = json!({"effect": "Allow", "role": "viewer"});
        let members = ["token:a/b", "account:a/c"];
        let spec = json!({"instanceRef": {"name": "eem"}, "members": members, "statements": [statement]});
        let world = world(Some(json!({})), spec, &[]);
        let world = borne(world, &[("token:a/b", "one"), ("account:a/c", "two")]);
        let told: Vec<_> = settled(&world).notes.into_iter().map(|note| (note.reason, note.text)).collect();
        let text = "token:a/b means the one of uid one from now on, made by user:one; account:a/c means the one of uid two \
                    from now on, made by user:two";
        assert_eq!(told, [(Reason::MemberBound, text.to_owned())]);
    }

    fn policy(statement: Value) -> Value {
        json!({"instanceRef": {"name": "eem"}, "members": ["token:a/b"], "statements": [statement]})
    }

    fn settled(world: &World) -> Settled<AccessPolicyStatus> {
        let terms = AccessPolicy::validate(world);
        AccessPolicy::settle(world, &terms, &AccessPolicy::decide(world, &terms))
    }

    fn said(world: &World) -> Vec<String> {
        let conditions = settled(world).status.conditions;
        conditions.iter().map(|said| format!("{}={}/{}", said.type_, said.status, said.reason)).collect()
    }

    #[test]
    fn a_policy_that_verifiers_go_by_is_ready() {
        let world = world(Some(json!({})), policy(json!({"effect": "Allow", "role": "viewer"})), &[]);
        assert_eq!(said(&world), ["Accepted=True/Accepted", "Ready=True/Accepted"]);
        assert_eq!(settled(&world).notes, []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_one_fault_with_its_path() {
        let faults = |instance, statement| {
            let faults = AccessPolicy::validate(&world(instance, policy(statement), &[])).unwrap_err();
            faults.iter().map(|fault| format!("{} {}", fault.reason, fault.path)).collect::<Vec<_>>()
        };
        let (viewer, eem) = (json!({"effect": "Allow", "role": "viewer"}), || Some(json!({})));
        assert_eq!(faults(None, viewer), ["InstanceMissing spec.instanceRef"]);
        assert_eq!(faults(eem(), json!({"effect": "Allow", "role": "root"})), ["RoleMissing spec.statements[0].role"]);
        assert_eq!(faults(eem(), json!({"effect": "Deny"})), ["Invalid spec.statements[0]"]);
        let both = json!({"effect": "Deny", "role": "viewer", "actions": ["read"]});
        assert_eq!(faults(eem(), both), ["Invalid spec.statements[0]", "Invalid spec.statements[0].actions[0]"]);
    }

    #[test]
    fn a_member_that_matches_nothing_is_named_and_told_once() {
        let statement = json!({"effect": "Allow", "role": "viewer"});
        let mut world = world(Some(json!({})), policy(statement), &["token:a/b", "team:x"]);
        let first = settled(&world);
        assert!(said(&world).contains(&"DanglingMember=True/DanglingMember".to_owned()));
        assert_eq!(first.notes.len(), 1);
        assert!(first.status.conditions.last().unwrap().message.ends_with("token:a/b, team:x"));
        Arc::make_mut(&mut world.policy).status = Some(first.status.clone());
        let second = settled(&world);
        assert_eq!((second.status, second.notes), (first.status, vec![]));
        world.dangling.clear();
        assert!(!said(&world).iter().any(|said| said.starts_with("DanglingMember")));
    }
}
