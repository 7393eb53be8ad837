//! Subjects: who owns a token, who is a member of an Instance or a policy. A subject is a name, as it is in RBAC:
//! whoever bears it later is meant as well.

use std::fmt;

use super::text::{Form, Text, is_word};

/// `user:NAME`, `group:NAME` (the identity provider's), `team:NAME` (named on an Instance),
/// `serviceaccount:NAMESPACE/NAME` (core Kubernetes) or `account:NAMESPACE/NAME` (a ServiceAccount of tokenry.dev): who
/// can own a token or hold a role.
pub type Subject = Text<SubjectForm>;

/// Whom a policy is about: a [`Subject`], where a user, a group or a team means the tokens it owns; a token itself, as
/// `token:NAMESPACE/NAME`; or all tokens or accounts of a namespace, as `token:NAMESPACE/*` and `account:NAMESPACE/*`.
pub type PolicyMember = Text<PolicyMemberForm>;

/// The name of a team, as an Instance names it.
pub type TeamName = Text<TeamNameForm>;

/// The name of a user, as the API server gives it: 1 to 253 bytes of UTF-8 without control characters, nothing escaped.
/// Spaces and letters beyond ASCII are part of it.
pub type UserName = Text<UserNameForm>;

listed! {
    /// The kinds of subject.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum SubjectKind {
        /// A user of the cluster.
        User,
        /// A group of the identity provider.
        Group,
        /// A team that an Instance names.
        Team,
        /// A core ServiceAccount.
        ServiceAccount,
        /// A ServiceAccount of tokenry.dev.
        Account,
        /// An ApiToken.
        Token,
    }
}

impl SubjectKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Team => "team",
            Self::ServiceAccount => "serviceaccount",
            Self::Account => "account",
            Self::Token => "token",
        }
    }
}

/// A subject taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who<'a> {
    /// What it is.
    pub kind: SubjectKind,
    /// Its name; with its namespace before a `/` where the kind has one.
    pub name: &'a str,
}

impl<'a> Who<'a> {
    /// Takes a subject apart; nothing where it is none.
    pub fn of(text: &'a str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let kind = SubjectKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        Some(Self { kind, name })
    }

    /// Its namespace and its name, where its kind has a namespace.
    pub fn namespaced(&self) -> Option<(&'a str, &'a str)> {
        match self.kind {
            SubjectKind::ServiceAccount | SubjectKind::Account | SubjectKind::Token => self.name.split_once('/'),
            SubjectKind::User | SubjectKind::Group | SubjectKind::Team => None,
        }
    }
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.name)
    }
}

/// A user name of the cluster as a subject. That of a core ServiceAccount is written as one.
pub fn of_username(name: &str) -> String {
    match name.strip_prefix(CORE_ACCOUNT).and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => format!("serviceaccount:{namespace}/{name}"),
        None => format!("user:{name}"),
    }
}

/// How the user name of a core ServiceAccount begins.
const CORE_ACCOUNT: &str = "system:serviceaccount:";
/// The longest name of a user or group, in bytes.
const NAME: usize = 253;
/// The longest namespaced subject.
const LONGEST: usize = "serviceaccount:".len() + 63 + 1 + NAME;
/// That the name of a user or group in `self` is no longer than [`NAME`], in CEL.
const NAME_FITS: &str = "(!self.startsWith('user:') || size(bytes(self)) <= 258) && (!self.startsWith('group:') || size(bytes(self)) <= 259)";

fn name_fits(text: &str) -> bool {
    Who::of(text).is_none_or(|who| who.namespaced().is_some() || who.name.len() <= NAME)
}

/// The form of a [`UserName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserNameForm {}

impl Form for UserNameForm {
    const MAX: usize = NAME;
    // Short, as there may be many thousands of them, and the API server counts what a rule could cost.
    const PATTERN: &'static str = r"^[^\p{Cc}]+$";
    const RULE: &'static str = "must be the name of a user as the API server gives it, up to 253 bytes without control characters, such as alice@example.com";
    const FITS: &'static str = "self != '*' && size(bytes(self)) <= 253";

    fn fits(text: &str) -> bool {
        text != "*" && text.len() <= NAME
    }

    fn holds(text: &str) -> bool {
        is_name(text)
    }
}

/// The form of a [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectForm {}

impl Form for SubjectForm {
    const MAX: usize = LONGEST;
    const PATTERN: &'static str = r"^((user|group):([^*\p{Cc}]|[^\p{Cc}]{2,253})|team:[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|(serviceaccount|account):[-a-z0-9]+/[-a-z0-9.]+)$";
    const RULE: &'static str = "must be user:NAME, group:NAME, team:NAME, serviceaccount:NAMESPACE/NAME or account:NAMESPACE/NAME, where the name of a user or group is as the API server gives it, up to 253 bytes without control characters, and not *";
    const FITS: &'static str = NAME_FITS;

    fn fits(text: &str) -> bool {
        name_fits(text)
    }

    fn holds(text: &str) -> bool {
        Who::of(text).is_some_and(|who| who.kind != SubjectKind::Token && is_named(who, false))
    }
}

/// The form of a [`PolicyMember`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyMemberForm {}

impl Form for PolicyMemberForm {
    const MAX: usize = LONGEST;
    const PATTERN: &'static str = r"^(user:[^\p{Cc}]{1,253}|group:([^*\p{Cc}]|[^\p{Cc}]{2,253})|team:[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|serviceaccount:[-a-z0-9]+/[-a-z0-9.]+|(account|token):[-a-z0-9]+/([-a-z0-9.]+|[*]))$";
    const RULE: &'static str = "must be token:NAMESPACE/NAME, account:NAMESPACE/NAME or either with * for the name, user:NAME, user:* for every user, group:NAME, team:NAME or serviceaccount:NAMESPACE/NAME, where the name of a user or group is as the API server gives it, up to 253 bytes without control characters";
    const FITS: &'static str = NAME_FITS;

    fn fits(text: &str) -> bool {
        name_fits(text)
    }

    fn holds(text: &str) -> bool {
        Who::of(text).is_some_and(|who| is_named(who, true))
    }
}

/// Whether `text` can be the name of a user or a group. `*` alone would be taken for everybody.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text != "*" && !text.chars().any(char::is_control)
}

/// Whether a subject has a name that its kind can have.
fn is_named(who: Who<'_>, wildcard: bool) -> bool {
    match (who.kind, who.namespaced()) {
        (SubjectKind::User, _) if wildcard && who.name == "*" => true,
        (SubjectKind::User | SubjectKind::Group, _) => is_name(who.name),
        (SubjectKind::Team, _) => is_word(who.name),
        (SubjectKind::ServiceAccount, Some((namespace, name))) => is_object(namespace, name),
        (SubjectKind::Account | SubjectKind::Token, Some((namespace, name))) => {
            is_object(namespace, name) || (wildcard && name == "*" && is_object(namespace, "any"))
        }
        (SubjectKind::ServiceAccount | SubjectKind::Account | SubjectKind::Token, None) => false,
    }
}

fn is_object(namespace: &str, name: &str) -> bool {
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(&c))
    };
    plain(namespace, b"-") && plain(name, b"-.")
}

/// The form of a [`TeamName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TeamNameForm {}

impl Form for TeamNameForm {
    const MAX: usize = 63;
    const PATTERN: &'static str = "^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$";
    const RULE: &'static str =
        "must be letters, digits, '.', '_' and '-', with a letter or digit first and last, such as platform";

    fn holds(text: &str) -> bool {
        is_word(text)
    }
}
