//! Permissions: actions, the roles and scopes that contain them, and the requests that they mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Form, Text, is_word};

/// An action, such as `clusters:create`: two to four words joined by `:`.
pub type Action = Text<ActionForm>;
/// A pattern of actions, such as `clusters:*`, `*:read` or `*`: an [`Action`] in which `*` means one or more words.
pub type ActionPattern = Text<ActionPatternForm>;
/// A pattern of paths, such as `/eem/clusters/*` or `/api/v3/observer/**`. `*` matches one segment. `**` at the end
/// matches any number of segments, including none.
pub type PathPattern = Text<PathPatternForm>;
/// The name of a role.
pub type RoleName = Text<RoleNameForm>;
/// The role of tokens that name none: the name of a role, or [`OWNERS_ROLE`].
pub type DefaultRoleName = Text<DefaultRoleForm>;
/// The name of an organization or a project, as a request gives it.
pub type ScopeName = Text<ScopeNameForm>;
/// An entry of an Instance's list of organizations: a name, or [`ANY`].
pub type ListedOrganization = Text<ListedOrganizationForm>;
/// A method of a request (RFC 9110, 9.1), in capital letters.
pub type Method = Text<MethodForm>;
/// The name of a header of a request.
pub type HeaderName = Text<HeaderNameForm>;
/// An authentication scheme (RFC 9110, 11.1), such as `Bearer`.
pub type AuthScheme = Text<AuthSchemeForm>;

/// The entry of an Instance's list of organizations that means any organization.
pub const ANY: &str = "*";
/// The [`DefaultRoleName`] that means the best role that the owner holds. No role has this name, because the name of a
/// role has lower-case letters only.
pub const OWNERS_ROLE: &str = "Owner";

/// A set of organizations or projects: all present and future ones, or the listed ones. Give exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, kube::KubeSchema)]
#[x_kube(validation = Rule::new("(has(self.all) && self.all) != has(self.listed)")
    .message("give exactly one of all: true and listed"))]
pub struct Scope {
    /// True: all organizations that the Instance lists, present and future ones. Default: false.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub all: bool,
    /// Only the listed ones. `[]` means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub listed: Option<Vec<ScopeName>>,
}

/// A role: a name for actions. An Instance lists its roles from weakest to strongest, and each role includes the roles
/// before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Name of the role.
    pub name: RoleName,
    /// The actions that the role permits in addition to the roles before it. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub actions: Vec<ActionPattern>,
    /// True: holders of the role can own tokens. False: the role does not let them own tokens. If omitted, true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owns_tokens: Option<bool>,
}

/// A rule that gives requests an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionRule {
    /// The action of the requests.
    pub action: Action,
    /// The methods of the requests. GET also means HEAD. If omitted, any method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub methods: Vec<Method>,
    /// The paths of the requests, as patterns of normalised paths. `*` matches one segment. `**` at the end matches any
    /// number of segments.
    #[schemars(length(min = 1, max = 32))]
    pub paths: Vec<PathPattern>,
}

/// Requests that no token may make, even with the strongest role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exclusion {
    /// The methods of the requests. GET also means HEAD. If omitted, any method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub methods: Vec<Method>,
    /// The paths of the requests, as patterns of normalised paths. `*` matches one segment. `**` at the end matches any
    /// number of segments.
    #[schemars(length(min = 1, max = 32))]
    pub paths: Vec<PathPattern>,
    /// The message for the caller, in the answer 403. If omitted: no token may make this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub message: Option<String>,
}

/// Requests that are let through unjudged, unless they carry a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, kube::KubeSchema)]
#[x_kube(validation = Rule::new("(has(self.methods) && size(self.methods) > 0) || \
    self.paths.all(p, !p.matches('^(/[*])*/[*][*]$'))").message(Unguarded::RULE))]
pub struct Unguarded {
    /// The methods of the requests. GET also means HEAD. If omitted, any method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub methods: Vec<Method>,
    /// The paths of the requests, as patterns of normalised paths. Capital and small letters differ here. `*` matches
    /// one segment. `**` at the end matches any number of segments.
    #[schemars(length(min = 1, max = 32))]
    pub paths: Vec<PathPattern>,
}

impl Unguarded {
    /// The message for an entry that would cover every request.
    pub const RULE: &str = "has a path of wildcards that ends with **, such as /**, and no methods: name the methods, \
        or the first segment of the paths";

    /// True if the entry names no methods, and a path that covers every path of some length.
    pub fn is_everything(&self) -> bool {
        let wild = |path: &PathPattern| {
            path.as_str().ends_with("/**") && path.as_str().split('/').all(|segment| ["", "*", "**"].contains(&segment))
        };
        self.methods.is_empty() && self.paths.iter().any(wild)
    }
}

/// The place where a request names its organization or project. Give exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.header) != has(self.pathSegment)")
    .message("give exactly one of header and pathSegment"))]
pub struct NamedBy {
    /// The name of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The number of the segment of the normalised path. The first segment is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub path_segment: Option<i32>,
}

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident ($max:literal, $pattern:literal, $rule:literal, $holds:expr);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {}

        impl Form for $name {
            const MAX: usize = $max;
            const PATTERN: &'static str = $pattern;
            const RULE: &'static str = $rule;

            fn holds(text: &str) -> bool {
                let holds: fn(&str) -> bool = $holds;
                holds(text)
            }
        }
    )*};
}

forms! {
    /// The form of an [`Action`].
    ActionForm(
        128,
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(:[a-z0-9]([-a-z0-9]*[a-z0-9])?){1,3}$",
        "must be two to four words of lower-case letters, digits and '-', joined by ':', such as clusters:create",
        |text| (2..=4).contains(&text.split(':').count()) && text.split(':').all(is_action_word)
    );
    /// The form of an [`ActionPattern`].
    ActionPatternForm(
        128,
        "^([*]|([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(:([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?)){1,3})$",
        "must be an action such as clusters:create, or one with * for whole words, such as clusters:*, *:read or *",
        |text| text == "*"
            || (2..=4).contains(&text.split(':').count())
                && text.split(':').all(|word| word == "*" || is_action_word(word))
    );
    /// The form of a [`PathPattern`].
    PathPatternForm(
        256,
        "^/(([*]|[-A-Za-z0-9._~!$&+,=:@]+)(/([*]|[-A-Za-z0-9._~!$&+,=:@]+))*(/[*]{2})?|[*]{2})?$",
        "must be a path such as /eem/clusters without a slash at the end; * means one whole segment, and ** at the end any number",
        |text| text == "/" || text.strip_prefix('/').is_some_and(are_segments)
    );
    /// The form of a [`RoleName`].
    RoleNameForm(
        63,
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must be lower-case letters, digits and '-', with a letter or digit first and last, such as contributor",
        is_action_word
    );
    /// The form of a [`DefaultRoleName`].
    DefaultRoleForm(
        63,
        "^(Owner|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$",
        "must be Owner, or the name of a role in lower-case letters, digits and '-', such as contributor",
        |text| text == OWNERS_ROLE || is_action_word(text)
    );
    /// The form of a [`ScopeName`].
    ScopeNameForm(
        128,
        "^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$",
        "must be letters, digits, '.', '_' and '-', with a letter or digit first and last, such as shop",
        is_word
    );
    /// The form of a [`ListedOrganization`].
    ListedOrganizationForm(
        128,
        "^([*]|[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?)$",
        "must be * or a name of letters, digits, '.', '_' and '-', such as shop",
        |text| text == ANY || is_word(text)
    );
    /// The form of a [`Method`].
    MethodForm(
        32,
        "^[A-Z]+$",
        "must be a method in capital letters, such as POST",
        |text| text.bytes().all(|c| c.is_ascii_uppercase())
    );
    /// The form of a [`HeaderName`].
    HeaderNameForm(
        64,
        "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$",
        "must be the name of a header of letters, digits and '-', such as X-Organization",
        |text| is_word(text) && !text.contains(['.', '_'])
    );
    /// The form of an [`AuthScheme`].
    AuthSchemeForm(
        32,
        "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$",
        "must be an authentication scheme of letters, digits and '-', such as Bearer",
        |text| is_word(text) && !text.contains(['.', '_'])
    );
}

fn is_action_word(word: &str) -> bool {
    let all = word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    all && !word.is_empty() && !word.starts_with('-') && !word.ends_with('-')
}

/// True if `text` consists of valid segments of a path pattern.
fn are_segments(text: &str) -> bool {
    let mut segments = text.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let plain =
            !segment.is_empty() && segment.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~!$&+,=:@".contains(&c));
        if !(plain || segment == "*" || (last && segment == "**")) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::subject::{FormerOwnerForm, PolicyMemberForm, SubjectForm, TeamNameForm, UserNameForm};
    use crate::crd::text::is;
    use proptest::{prelude::*, string::string_regex, test_runner::TestRunner};

    /// Checks that the code accepts every text that the expression accepts.
    fn agree<F: Form>() {
        let strings = string_regex(F::PATTERN.trim_matches(['^', '$'])).unwrap();
        let mut runner = TestRunner::deterministic();
        let all = runner.run(&strings, |text| {
            prop_assert!(text.len() > F::MAX || !F::fits(&text) || is::<F>(&text), "{text:?}");
            Ok(())
        });
        all.unwrap();
    }

    #[test]
    fn schema_and_code_let_in_the_same() {
        agree::<ActionForm>();
        agree::<ActionPatternForm>();
        agree::<PathPatternForm>();
        agree::<RoleNameForm>();
        agree::<DefaultRoleForm>();
        agree::<ScopeNameForm>();
        agree::<ListedOrganizationForm>();
        agree::<MethodForm>();
        agree::<HeaderNameForm>();
        agree::<AuthSchemeForm>();
        agree::<SubjectForm>();
        agree::<FormerOwnerForm>();
        agree::<PolicyMemberForm>();
        agree::<TeamNameForm>();
        agree::<UserNameForm>();
    }

    #[test]
    fn a_name_is_as_the_api_server_gives_it() {
        let long = "é".repeat(126);
        for name in
            ["Alice Smith", "José Núñez", "CN=Alice Smith,OU=Platform", "a", "**", " ", "山田", &format!("{long}a")]
        {
            assert!(is::<UserNameForm>(name), "{name}");
            assert!(
                is::<SubjectForm>(&format!("user:{name}")) && is::<PolicyMemberForm>(&format!("group:{name}")),
                "{name}"
            );
        }
        let too_long = "é".repeat(127);
        for name in ["", "*", "a\r", "a\n", "a\0", "\u{85}", "\u{9f}", &too_long] {
            assert!(!is::<UserNameForm>(name) && !is::<SubjectForm>(&format!("user:{name}")), "{name:?}");
            assert!(!is::<PolicyMemberForm>(&format!("group:{name}")), "{name:?}");
        }
        assert!(is::<PolicyMemberForm>("user:*") && !is::<SubjectForm>("user:*"));
    }

    #[test]
    fn what_is_of_no_form_is_told_apart() {
        for bad in ["", "read", "a:", ":a", "A:b", "a:*", "a b:c", "a:b:c:d:e", "-a:b"] {
            assert!(!is::<ActionForm>(bad), "{bad}");
        }
        for bad in ["", "**", "a*:b", "read", "*:", "a:b:c:d:e", "A:*"] {
            assert!(!is::<ActionPatternForm>(bad), "{bad}");
        }
        for bad in ["", "eem", "/eem/", "//", "/a//b", "/**/a", "/a*", "/a%2fb", "/a?b", "/a b", "/é"] {
            assert!(!is::<PathPatternForm>(bad), "{bad}");
        }
        for good in ["/", "/**", "/a", "/a/*/b", "/a/**", "/a.b/c:d"] {
            assert!(is::<PathPatternForm>(good), "{good}");
        }
        for bad in [
            "",
            "alice",
            "user:",
            "user:a\r",
            "user:*",
            "group:*",
            "team:*",
            "token:a/b",
            "account:a",
            "account:a/*",
            "robot:a",
            "team:-a",
        ] {
            assert!(!is::<SubjectForm>(bad), "{bad}");
        }
        for bad in ["owner", "Admin", "OWNER", "Owner2", "", "-a"] {
            assert_eq!(is::<DefaultRoleForm>(bad), bad == "owner", "{bad}");
        }
        assert!(is::<DefaultRoleForm>("Owner") && !is::<RoleNameForm>("Owner"));
        for bad in ["alice", "user:", "user:*", "group:ops", "team:a", "account:a/b", "token:a/b", "serviceaccount:a"] {
            assert!(!is::<FormerOwnerForm>(bad), "{bad}");
        }
        for good in ["user:Alice Smith", "serviceaccount:a/b.c", "user:system:serviceaccount:a:b"] {
            assert!(is::<FormerOwnerForm>(good), "{good}");
        }
        for good in ["token:a/b", "token:a/*", "account:ci/*", "user:*", "team:platform", "serviceaccount:a/b.c"] {
            assert!(is::<PolicyMemberForm>(good), "{good}");
        }
        for bad in ["serviceaccount:a/*", "group:*", "team:*", "token:*/*", "token:a", "account:A/b"] {
            assert!(!is::<PolicyMemberForm>(bad), "{bad}");
        }
    }
}
