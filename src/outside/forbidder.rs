//! The part of the API server that forbade a request, as its answer names it.

/// The part of the API server that forbade a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidder<'a> {
    /// The authorizer, which is RBAC on most clusters, with the missing permission.
    Authorizer(Denied<'a>),
    /// A ValidatingAdmissionPolicy of this name.
    Policy(&'a str),
    /// An admission webhook of this name.
    Webhook(&'a str),
    /// A ResourceQuota of this name.
    Quota(&'a str),
    /// Another admission plugin, such as that of namespaces that are being deleted.
    Plugin,
}

/// A permission that the authorizer denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied<'a> {
    /// The name of the user, as it is between the quotes of the message: escaped as Go and HTML do. See
    /// [`Denied::username`].
    pub user: &'a str,
    /// The verb, such as `patch`.
    pub verb: &'a str,
    /// The resource with its subresource, such as `apitokens/status`.
    pub resource: &'a str,
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// The namespace; empty for a request in all namespaces.
    pub namespace: &'a str,
}

impl<'a> Forbidder<'a> {
    /// Finds the forbidder in the message of an answer 403. The messages begin with the resource and the object, and
    /// both cannot contain spaces. So the text of a policy cannot pass for another forbidder.
    pub fn of(message: &'a str) -> Self {
        if let Some((name, _)) = within(message, "admission webhook \"", "\" denied the request") {
            return Self::Webhook(name);
        }
        let cause = message.split_once(" is forbidden: ").map_or(message, |(_, cause)| cause);
        if let Some(denied) = Denied::of(cause) {
            return Self::Authorizer(denied);
        }
        let policy = within(cause, "ValidatingAdmissionPolicy '", "'");
        let quota = within(cause, "exceeded quota: ", ",").or_else(|| within(cause, "failed quota: ", ":"));
        match (policy, quota) {
            (Some((name, _)), _) => Self::Policy(name),
            (None, Some((name, _))) => Self::Quota(name),
            (None, None) => Self::Plugin,
        }
    }

    /// The next step of an administrator, as a sentence without its full stop. `namespace` is that of the object, and
    /// empty for a cluster-scoped object.
    pub fn advice(self, namespace: &str) -> String {
        let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") };
        match self {
            Self::Authorizer(Denied { verb, resource, group, namespace, .. }) => {
                let of = if group.is_empty() { String::new() } else { format!(" of {group}") };
                let place =
                    if namespace.is_empty() { "all namespaces".into() } else { format!("namespace {namespace}") };
                format!(
                    "the operator lacks a permission: grant it the verb {verb} on {resource}{of} in {place}; look at its \
                     ClusterRole (tokenry-operator by default) and at the binding of that role"
                )
            }
            Self::Policy(name) => format!("ValidatingAdmissionPolicy {name} forbids it: look at that policy"),
            Self::Webhook(name) => format!("admission webhook {name} forbids it: look at its configuration"),
            Self::Quota(name) => format!("ResourceQuota {name}{place} forbids it: raise the quota, or delete objects"),
            Self::Plugin => "an admission plugin of the API server forbids it: look at its message".into(),
        }
    }
}

impl<'a> Denied<'a> {
    /// Parses the message of an authorizer: `User "u" cannot patch resource "r" in API group "g" in the namespace "n"`,
    /// or `… at the cluster scope`. A reason may follow.
    fn of(cause: &'a str) -> Option<Self> {
        let (user, rest) = quoted(cause.strip_prefix("User ")?)?;
        let (verb, rest) = within(rest, " cannot ", " ")?;
        let (resource, rest) = within(rest, "resource \"", "\"")?;
        let (group, rest) = within(rest, " in API group \"", "\"")?;
        let namespace = within(rest, " in the namespace \"", "\"").map_or("", |(namespace, _)| namespace);
        Some(Self { user, verb, resource, group, namespace })
    }

    /// The name of the user, as the API server knows it. The API server quotes it by `%q` of Go, and then escapes `&`,
    /// `<` and `>` as HTML does. JSON reads all escapes of Go but those of a few control characters, which stay.
    pub fn username(&self) -> String {
        let quoted = self.user.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        serde_json::from_str(&format!("\"{quoted}\"")).unwrap_or(quoted)
    }
}

/// Splits a text that begins with a quoted string into that string without its quotes, and the rest.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let (body, mut escapes) = (text.strip_prefix('"')?, false);
    let end = body.find(|c| {
        let ends = c == '"' && !escapes;
        escapes = c == '\\' && !escapes;
        ends
    })?;
    Some((&body[..end], &body[end + 1..]))
}

/// Splits a text that begins with `before` into the part up to `after`, and the rest behind `after`.
fn within<'a>(text: &'a str, before: &str, after: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(before)?.split_once(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "system:serviceaccount:tokenry-system:tokenry-operator";
    const USER: &str = r#"User "system:serviceaccount:tokenry-system:tokenry-operator""#;

    #[test]
    fn the_name_of_a_user_is_read_as_the_api_server_knows_it() {
        for (quoted, name) in [
            ("alice", "alice"),
            (r"CORP\\alice", r"CORP\alice"),
            (r#"a\"b"#, r#"a"b"#),
            ("R&amp;D &lt;rd@example.com&gt;", "R&D <rd@example.com>"),
            ("&amp;lt;", "&lt;"),
            (r"zero\u200cwidth", "zero\u{200c}width"),
            (r"odd\a", r"odd\a"),
        ] {
            let cause = format!("pods is forbidden: User \"{quoted}\" cannot list resource \"pods\" in API group \"\"");
            let Forbidder::Authorizer(denied) = Forbidder::of(&cause) else { panic!("{cause}") };
            assert_eq!((&*denied.username(), denied.verb), (name, "list"), "{cause}");
        }
    }

    #[test]
    fn the_authorizer_names_the_missing_permission() {
        let text = format!(
            r#"apitokens.tokenry.dev "ci" is forbidden: {USER} cannot update resource "apitokens/status" in API group "tokenry.dev" in the namespace "events": RBAC: clusterrole.rbac.authorization.k8s.io "x" not found"#
        );
        let of_tokens = Denied { user: NAME, verb: "update", resource: "apitokens/status", ..Denied::default() };
        let denied = Denied { group: "tokenry.dev", namespace: "events", ..of_tokens };
        assert_eq!(Forbidder::of(&text), Forbidder::Authorizer(denied));
        let advice = "the operator lacks a permission: grant it the verb update on apitokens/status of tokenry.dev in \
                      namespace events; look at its ClusterRole (tokenry-operator by default) and at the binding of that role";
        assert_eq!(Forbidder::of(&text).advice("events"), advice);
        let text = format!(
            r#"secrets is forbidden: {USER} cannot list resource "secrets" in API group "" at the cluster scope"#
        );
        let denied = Denied { user: NAME, verb: "list", resource: "secrets", ..Denied::default() };
        assert_eq!(Forbidder::of(&text), Forbidder::Authorizer(denied));
        assert!(Forbidder::of(&text).advice("").contains("grant it the verb list on secrets in all namespaces; "));
    }

    #[test]
    fn an_admission_plugin_is_named_by_its_own_message() {
        for (message, forbidder, advice) in [
            (
                r#"secrets "ci" is forbidden: ValidatingAdmissionPolicy 'no-secrets' with binding 'all' denied request: no"#,
                Forbidder::Policy("no-secrets"),
                "ValidatingAdmissionPolicy no-secrets forbids it: look at that policy",
            ),
            (
                r#"admission webhook "check.example.com" denied the request: secrets "x" is forbidden: User "y" cannot"#,
                Forbidder::Webhook("check.example.com"),
                "admission webhook check.example.com forbids it: look at its configuration",
            ),
            (
                r#"secrets "ci" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=0, limited: secrets=0"#,
                Forbidder::Quota("few"),
                "ResourceQuota few in namespace events forbids it: raise the quota, or delete objects",
            ),
            (
                r#"pods "ci" is forbidden: failed quota: few: must specify limits.cpu"#,
                Forbidder::Quota("few"),
                "ResourceQuota few in namespace events forbids it: raise the quota, or delete objects",
            ),
            (
                r#"secrets "ci" is forbidden: unable to create new content in namespace events because it is being terminated"#,
                Forbidder::Plugin,
                "an admission plugin of the API server forbids it: look at its message",
            ),
            ("", Forbidder::Plugin, "an admission plugin of the API server forbids it: look at its message"),
        ] {
            assert_eq!(Forbidder::of(message), forbidder, "{message}");
            assert_eq!(Forbidder::of(message).advice("events"), advice, "{message}");
        }
    }

    #[test]
    fn the_text_of_a_policy_passes_for_no_other_forbidder() {
        let quoted = format!(
            r#"secrets "ci" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: x is forbidden: {USER} cannot get resource "secrets" in API group "" in the namespace "a""#
        );
        assert_eq!(Forbidder::of(&quoted), Forbidder::Policy("p"));
        let cut = format!(r#"secrets is forbidden: {USER} cannot get path "/metrics""#);
        assert_eq!(Forbidder::of(&cut), Forbidder::Plugin);
    }
}
