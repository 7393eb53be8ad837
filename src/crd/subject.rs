//! Subjects: the owners of tokens, and the members of an Instance or a policy. A subject is a name, as in RBAC. A later
//! bearer of the same name is the same subject.

use std::{borrow::Cow, fmt};

use super::text::{Form, Text, is_word};

/// A subject that can own a token or hold a role. Its form is `user:NAME`, `group:NAME` (the identity provider's),
/// `team:NAME` (named on an Instance), `serviceaccount:NAMESPACE/NAME` (core Kubernetes) or `account:NAMESPACE/NAME` (a
/// ServiceAccount of tokenry.dev).
pub type Subject = Text<SubjectForm>;

/// A subject that has left: a user or a core ServiceAccount. Its form is `user:NAME` or
/// `serviceaccount:NAMESPACE/NAME`.
pub type FormerOwner = Text<FormerOwnerForm>;

/// A member of a policy. It can be a [`Subject`], where a user, a group or a team means the tokens that it owns. It can
/// be a token, as `token:NAMESPACE/NAME`. It can be all tokens or accounts of a namespace, as `token:NAMESPACE/*` and
/// `account:NAMESPACE/*`. `user:*` means the tokens of all users.
pub type PolicyMember = Text<PolicyMemberForm>;

/// The name of a team, as in an Instance.
pub type TeamName = Text<TeamNameForm>;

/// The name of a user, as the API server gives it: 1 to 253 bytes of UTF-8 without control characters, and without
/// escapes. It can contain spaces and letters beyond ASCII.
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
    /// The kind as text.
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

/// A subject, split into kind and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who<'a> {
    /// The kind.
    pub kind: SubjectKind,
    /// The name. It has the form `NAMESPACE/NAME` if the kind has a namespace.
    pub name: &'a str,
}

impl<'a> Who<'a> {
    /// Splits a subject. `None` if the text is no subject.
    pub fn of(text: &'a str) -> Option<Self> {
        let (kind, name) = text.split_at(text.bytes().position(|byte| byte == b':')?);
        let name = &name[1..];
        let kind = SubjectKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        Some(Self { kind, name })
    }

    /// The namespace and the name. `None` if the kind has no namespace.
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

/// A user name of the cluster as a subject. The user name of a core ServiceAccount becomes
/// `serviceaccount:NAMESPACE/NAME`.
pub fn of_username(name: &str) -> String {
    match name.strip_prefix(CORE_ACCOUNT).and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => format!("serviceaccount:{namespace}/{name}"),
        None => format!("user:{name}"),
    }
}

/// A subject in its usual form. `user:` with the user name of a core ServiceAccount becomes
/// `serviceaccount:NAMESPACE/NAME`. Every other text stays as it is.
pub fn canonical(subject: &str) -> Cow<'_, str> {
    let user = Who::of(subject).filter(|who| who.kind == SubjectKind::User && who.name.starts_with(CORE_ACCOUNT));
    user.map_or(Cow::Borrowed(subject), |who| Cow::Owned(of_username(who.name)))
}

/// The prefix of the user name of a core ServiceAccount.
const CORE_ACCOUNT: &str = "system:serviceaccount:";
/// The longest name of a user or group, in bytes.
const NAME: usize = 253;
/// The longest namespaced subject.
const LONGEST: usize = "serviceaccount:".len() + 63 + 1 + NAME;
/// A CEL expression that is true if the name of a user or group in `self` has at most [`NAME`] bytes.
const NAME_FITS: &str = "(!self.startsWith('user:') || size(bytes(self)) <= 258) && (!self.startsWith('group:') || size(bytes(self)) <= 259)";

fn name_fits(text: &str) -> bool {
    Who::of(text).is_none_or(|who| who.namespaced().is_some() || who.name.len() <= NAME)
}

/// The form of a [`UserName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserNameForm {}

impl Form for UserNameForm {
    const MAX: usize = NAME;
    // The expression is short, because there may be many thousands of users, and the API server limits the cost of
    // rules.
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

/// The form of a [`FormerOwner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FormerOwnerForm {}

impl Form for FormerOwnerForm {
    const MAX: usize = LONGEST;
    const PATTERN: &'static str = r"^(user:([^*\p{Cc}]|[^\p{Cc}]{2,253})|serviceaccount:[-a-z0-9]+/[-a-z0-9.]+)$";
    const RULE: &'static str = "must be user:NAME or serviceaccount:NAMESPACE/NAME, where the name of a user is as the API server gives it, up to 253 bytes without control characters, and not *";
    const FITS: &'static str = "(!self.startsWith('user:') || size(bytes(self)) <= 258)";

    fn fits(text: &str) -> bool {
        name_fits(text)
    }

    fn holds(text: &str) -> bool {
        let leaves = |who: &Who<'_>| matches!(who.kind, SubjectKind::User | SubjectKind::ServiceAccount);
        Who::of(text).filter(leaves).is_some_and(|who| is_named(who, false))
    }
}

/// The form of a [`PolicyMember`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyMemberForm {}

impl Form for PolicyMemberForm {
    const MAX: usize = LONGEST;
    const PATTERN: &'static str = r"^(user:[^\p{Cc}]{1,253}|group:([^*\p{Cc}]|[^\p{Cc}]{2,253})|team:[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|serviceaccount:[-a-z0-9]+/[-a-z0-9.]+|(account|token):[-a-z0-9]+/([-a-z0-9.]+|[*]))$";
    const RULE: &'static str = "must be token:NAMESPACE/NAME, token:NAMESPACE/*, account:NAMESPACE/NAME, account:NAMESPACE/*, user:NAME, user:* for every user, group:NAME, team:NAME or serviceaccount:NAMESPACE/NAME, where the name of a user or group is as the API server gives it, up to 253 bytes without control characters";
    const FITS: &'static str = NAME_FITS;

    fn fits(text: &str) -> bool {
        name_fits(text)
    }

    fn holds(text: &str) -> bool {
        Who::of(text).is_some_and(|who| is_named(who, true))
    }
}

/// True if `text` is a valid name of a user or a group. `*` alone is invalid, because it looks like everybody.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text != "*" && !text.chars().any(char::is_control)
}

/// True if the name of the subject is valid for its kind.
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
