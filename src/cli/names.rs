//! Names from the cluster, for shells that complete a command line.

use std::{collections::BTreeSet, env, ffi::OsStr, time::Duration};

use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use clap_complete::{ArgValueCompleter, CompletionCandidate, engine::ValueCompleter};
use kube::ResourceExt;
use tokio::time::timeout;

use super::{
    Error, client,
    connection::{Connection, Workplace},
};
use crate::{
    access::Rules,
    crd::{
        AccessPolicy, Account, ApiToken, Instance,
        name::ObjectNameForm,
        permission::{RoleNameForm, ScopeNameForm},
        subject::SubjectForm,
        text::{Form, is},
    },
    outside::reader::Read,
};

/// The longest wait for the names. A shell waits for them with its prompt.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest name of a namespace.
const LABEL: usize = 63;
/// The names of the kind of a token.
const KINDS: [&str; 3] = ["apitoken", "apitokens", "apitok"];
/// The word before the name of an account.
pub(crate) const ACCOUNT: &str = "account";
/// The field of `set` that gets a role.
const ROLE: &str = "role";
/// The field of `set` that gets policies.
const POLICIES: &str = "policies";
/// The id of the flag that names the namespace.
const NAMESPACE: &str = "namespace";

/// The names that a word can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nameable {
    /// An ApiToken.
    Token,
    /// A ServiceAccount of tokenry.dev.
    Account,
    /// An ApiToken or the word `account`, and then a ServiceAccount of tokenry.dev.
    TokenOrAccount,
    /// An Instance.
    Instance,
    /// A role of an Instance.
    Role,
    /// An AccessPolicy.
    Policy,
    /// An organization of an Instance.
    Organization,
    /// A role with its Instance, as INSTANCE:ROLE.
    RoleOfInstance,
    /// An Instance, or a policy with its Instance, as INSTANCE:POLICY.
    PolicyOfInstance,
    /// A role or a policy, by the field of `set` that gets it.
    FieldValue,
    /// An owner of a token, or a member of an Instance.
    Owner,
    /// A namespace.
    Namespace,
}

/// Parses the name of an object.
pub(crate) fn object(text: &str) -> Result<String, String> {
    formed::<ObjectNameForm>(text)
}

/// Parses the name of a token. It may follow its kind as in the output of `kubectl get --output name`.
pub(crate) fn token(text: &str) -> Result<String, String> {
    let (kind, name) = text.split_once('/').unwrap_or((KINDS[0], text));
    if KINDS.contains(&kind.strip_suffix(".tokenry.dev").unwrap_or(kind)) { object(name) } else { object(text) }
}

/// Checks the name of a token as above. Its kind stays, as the word before an account may be a token of that name.
pub(crate) fn deletable(text: &str) -> Result<String, String> {
    token(text).map(|_| text.to_owned())
}

/// Parses the name of an object, or its namespace and its name as NAMESPACE/NAME.
pub(crate) fn placed(text: &str) -> Result<String, String> {
    text.split('/').take(3).try_for_each(|part| object(part).map(drop))?;
    if text.matches('/').count() < 2 { Ok(text.to_owned()) } else { Err("must be NAME or NAMESPACE/NAME".to_owned()) }
}

/// Parses the name of a namespace, which has no dots.
pub(crate) fn label(text: &str) -> Result<String, String> {
    let is_label = is::<ObjectNameForm>(text) && text.len() <= LABEL && !text.contains('.');
    let odd = || format!("must be lower-case letters, digits and '-', such as shop, with at most {LABEL} characters");
    is_label.then(|| text.to_owned()).ok_or_else(odd)
}

/// Parses a subject that can own tokens.
pub(crate) fn owner(text: &str) -> Result<String, String> {
    let user = format!("user:{text}");
    let meant = || if is::<SubjectForm>(&user) { format!("; is {user} meant?") } else { String::new() };
    formed::<SubjectForm>(text).map_err(|rule| if text.contains(':') { rule } else { format!("{rule}{}", meant()) })
}

/// Parses the name of a role.
pub(crate) fn role(text: &str) -> Result<String, String> {
    formed::<RoleNameForm>(text)
}

/// Parses the name of an organization or of a project.
pub(crate) fn scope(text: &str) -> Result<String, String> {
    formed::<ScopeNameForm>(text)
}

/// Parses a text that has a form.
pub(crate) fn formed<F: Form>(text: &str) -> Result<String, String> {
    if is::<F>(text) { Ok(text.to_owned()) } else { Err(F::RULE.to_owned()) }
}

/// A completer of names.
pub(crate) fn of(kind: Nameable) -> ArgValueCompleter {
    ArgValueCompleter::new(kind)
}

impl ValueCompleter for Nameable {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else { return Vec::new() };
        let words: Vec<_> = env::args_os().filter_map(|word| word.into_string().ok()).collect();
        let names = client::block_on(async {
            let place = place_of(&words, *self)?.quietly().await?;
            let names = self.after(&words).names(&place);
            timeout(LIMIT, names).await.unwrap_or_else(|_| Ok(BTreeSet::new()))
        });
        // A shell has no place for an error.
        let names = names.unwrap_or_default();
        names.into_iter().filter(|name| name.starts_with(current)).map(CompletionCandidate::new).collect()
    }
}

impl Nameable {
    /// The names that a word can be, after these words.
    fn after(self, words: &[String]) -> Self {
        let ways = [
            (Self::TokenOrAccount, ACCOUNT, Self::Account),
            (Self::FieldValue, ROLE, Self::Role),
            (Self::FieldValue, POLICIES, Self::Policy),
        ];
        let way = ways.into_iter().find(|(kind, word, _)| *kind == self && words.iter().any(|other| other == word));
        way.map_or(self, |(.., narrower)| narrower)
    }

    /// The names in a namespace.
    async fn names(self, place: &Workplace) -> Result<BTreeSet<String>, Error> {
        let instances = async || place.desk.list::<Instance>(Some(&place.namespace), None).await;
        Ok(match self {
            Self::Token => named::<ApiToken>(place).await?,
            Self::Account => named::<Account>(place).await?,
            Self::TokenOrAccount => {
                let mut names = named::<ApiToken>(place).await?;
                names.insert(ACCOUNT.to_owned());
                names
            }
            Self::Instance => named::<Instance>(place).await?,
            Self::Policy => named::<AccessPolicy>(place).await?,
            Self::Organization => instances().await?.iter().flat_map(organizations).collect(),
            Self::Role => instances().await?.iter().flat_map(roles).collect(),
            Self::RoleOfInstance => instances().await?.iter().flat_map(grantable).collect(),
            Self::PolicyOfInstance => {
                let policies: Vec<AccessPolicy> = place.desk.list(Some(&place.namespace), None).await?;
                let full = |policy: &AccessPolicy| format!("{}:{}", policy.spec.instance_ref.name, policy.name_any());
                policies.iter().map(full).chain(named::<Instance>(place).await?).collect()
            }
            Self::Owner => {
                let tokens: Vec<ApiToken> = place.desk.list(Some(&place.namespace), None).await?;
                let owners = tokens.iter().filter_map(|token| token.spec.owner.as_ref());
                let instances = instances().await?;
                let members = instances.iter().flat_map(|instance| &instance.spec.members);
                owners.chain(members.map(|member| &member.subject)).map(ToString::to_string).collect()
            }
            Self::Namespace => place.desk.namespaces().await?.into_iter().collect(),
            // No object names the value of another field.
            Self::FieldValue => BTreeSet::new(),
        })
    }
}

/// The names of all objects of a kind in the namespace.
async fn named<K: Read>(place: &Workplace) -> Result<BTreeSet<String>, Error> {
    let all: Vec<K> = place.desk.list(Some(&place.namespace), None).await?;
    Ok(all.iter().map(ResourceExt::name_any).collect())
}

fn organizations(instance: &Instance) -> Vec<String> {
    let listed: Vec<_> = instance.spec.organizations.iter().map(ToString::to_string).collect();
    if listed.is_empty() {
        return vec![instance.spec.organization.clone().unwrap_or_else(|| instance.name_any())];
    }
    listed.into_iter().filter(|name| name != "*").collect()
}

/// The roles of an Instance. None if it has faults.
pub(crate) fn roles(instance: &Instance) -> Vec<String> {
    Rules::of(instance).map(|rules| rules.role_names().map(str::to_owned).collect()).unwrap_or_default()
}

/// The roles of an Instance as `grant` names them, and all of them.
fn grantable(instance: &Instance) -> Vec<String> {
    let all = roles(instance).into_iter().chain(["*".to_owned()]);
    all.map(|role| format!("{}:{role}", instance.name_any())).collect()
}

/// The cluster and the user of a command line that is not complete yet. Its other words do not matter. A namespace that
/// is being completed is none yet.
fn place_of(words: &[String], kind: Nameable) -> Result<Connection, Error> {
    let command = Connection::augment_args(Command::new("words").no_binary_name(true));
    let (mut words, mut kept) = (words.iter(), Vec::new());
    while let Some(word) = words.next() {
        let Some(arg) = command.get_arguments().find(|arg| begins(arg, word)) else { continue };
        let is_alone = *word == format!("--{}", arg.get_long().unwrap_or_default()) || word.len() == 2;
        let takes_next = is_alone && matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let value = if takes_next { words.next() } else { None };
        if !(kind == Nameable::Namespace && arg.get_id() == NAMESPACE) {
            kept.extend([word].into_iter().chain(value));
        }
    }
    let matches = command.try_get_matches_from(kept).map_err(|error| Error::Usage(error.to_string()))?;
    Connection::from_arg_matches(&matches).map_err(|error| Error::Usage(error.to_string()))
}

/// True if a word is this flag, or begins with it.
fn begins(arg: &Arg, word: &str) -> bool {
    let long = arg.get_long().and_then(|long| word.strip_prefix("--")?.strip_prefix(long));
    let is_short = arg.get_short().is_some_and(|short| word.starts_with(&format!("-{short}")));
    long.is_some_and(|rest| rest.is_empty() || rest.starts_with('=')) || is_short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_an_object_and_may_follow_a_namespace_where_an_instance_is_named() {
        for (text, is_object, is_placed) in [
            ("shop", true, true),
            ("shop.v2", true, true),
            ("events/shop", false, true),
            ("events/shop/x", false, false),
            ("/shop", false, false),
            ("Shop", false, false),
            ("a_b", false, false),
            ("", false, false),
        ] {
            assert_eq!((object(text).is_ok(), placed(text).is_ok()), (is_object, is_placed), "{text:?}");
        }
    }

    #[test]
    fn the_name_of_a_namespace_has_no_dots_and_is_short() {
        assert!(label("shop-2").is_ok() && label(&"a".repeat(63)).is_ok());
        for odd in ["", "No_ns", "shop.v2", "a/b", "-shop", &"a".repeat(64)] {
            let told = label(odd).unwrap_err();
            assert!(told.ends_with("such as shop, with at most 63 characters"), "{odd}: {told}");
        }
    }

    #[test]
    fn the_cluster_is_read_from_a_command_line_that_is_not_complete() {
        let of = |line: &str, kind| place_of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), kind);
        let told = |line: &str| format!("{:?}", of(line, Nameable::Token).unwrap());
        for line in [
            "tokenry -- tokenry show -n a --context c --as u x",
            "kubectl_complete-tokenry revoke --reason -na --context=c --as=u ",
            "tokenry show --as u --unknown --namespace=a --instance i --context c --namesp",
        ] {
            let told = told(line);
            for part in [r#"namespace: Some("a")"#, r#"context: Some("c")"#, r#"user: Some("u")"#] {
                assert!(told.contains(part), "{line}: {told}");
            }
        }
        assert!(told("tokenry show x").contains("namespace: None"));
        for line in
            ["tokenry show x --context c -n ", "tokenry show -n ev- --context c", "tokenry --namespace=A --context c"]
        {
            let told = format!("{:?}", of(line, Nameable::Namespace).unwrap());
            assert!(told.contains("namespace: None") && told.contains(r#"context: Some("c")"#), "{line}: {told}");
            assert!(of(line, Nameable::Token).is_err(), "{line}");
        }
    }
}
