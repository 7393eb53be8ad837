//! CEL expressions that several policies share.

use crate::crd::{
    name,
    subject::{SubjectForm, UserNameForm},
    text::rule,
};

/// CEL: true for a token. Only tokens get a stamp of groups, because only tokens use the roles of groups. Only tokens
/// get labels for their organizations.
pub(crate) const TOKEN: &str = "request.resource.resource == 'apitokens'";

/// CEL: true if the policies judge a request. They judge all requests except updates that change only free metadata.
/// A change of one of these parts is judged:
///
/// * the spec
/// * owner references, because the garbage collector deletes an object whose owner does not exist
/// * the labels and annotations by which Tokenry makes decisions
/// * the labels of a token's organizations, if they are taken away
/// * finalizers of an AccessPolicy, because they delay its deletion
/// * the field managers of an account's spec
pub(crate) fn judged() -> String {
    format!(
        "request.operation != 'UPDATE' || object.spec != oldObject.spec || {} || {} || {} || {}",
        relabelled(&[]),
        unmarked(),
        held_up(),
        claimed()
    )
}

/// CEL: true if a field manager takes over fields of an account's spec. The operator does not change the fields of
/// other managers. So a take-over matters even if the values stay the same.
fn claimed() -> String {
    let setters = |object: &str| {
        format!(
            "{object}.metadata.?managedFields.orValue([])\
             .filter(m, m.?subresource.orValue('') == '' && m.?fieldsV1[?'f:spec'].hasValue())\
             .map(m, [m.manager, m.operation, m.fieldsV1['f:spec']])"
        )
    };
    format!(
        "(request.resource.resource == 'serviceaccounts' && !{}.all(s, s in {}))",
        setters("object"),
        setters("oldObject")
    )
}

/// CEL: true if the finalizers of an AccessPolicy change, other than those of Kubernetes' garbage collection.
fn held_up() -> String {
    let held = |object: &str| {
        format!("{object}.metadata.?finalizers.orValue([]).filter(f, !(f in ['foregroundDeletion', 'orphan']))")
    };
    // Long lists are compared as a whole. The cost of comparing each finalizer grows with the square of their number.
    let all = |object: &str| format!("{object}.metadata.?finalizers.orValue([])");
    let (new, old) = (all("object"), all("oldObject"));
    format!(
        "(request.resource.resource == 'accesspolicies' && {new} != {old} && \
         (size({new}) > {FINALIZERS} || size({old}) > {FINALIZERS} || {} != {}))",
        held("object"),
        held("oldObject")
    )
}

/// Maximum number of finalizers of an object. Longer lists, from before this limit, are compared as a whole.
pub(crate) const FINALIZERS: usize = 16;

/// CEL: true if an update changes owner references, or a label or annotation of Tokenry that is not in `free`. The
/// expression names each key. The cost of an expression over all keys grows with the square of their number.
pub(crate) fn relabelled(free: &[&str]) -> String {
    let changed = |field: &str, key: &str| {
        format!("object.metadata.?{field}[?{key}] != oldObject.metadata.?{field}[?{key}]", key = quoted(key))
    };
    let annotations = name::JUDGED.iter().filter(|key| !free.contains(key)).map(|key| changed("annotations", key));
    let owners =
        "object.metadata.?ownerReferences.orValue([]) != oldObject.metadata.?ownerReferences.orValue([])".to_owned();
    let all: Vec<_> = [owners, changed("labels", name::OWNER_UID)].into_iter().chain(annotations).collect();
    all.join(" || ")
}

/// CEL: true if a creation or an update revokes the token: `spec.revoked` is true, and was not true before.
pub(crate) const BECOMES_REVOKED: &str = "(object.spec.?revoked.orValue(false) && \
    !(oldObject != null && oldObject.spec.?revoked.orValue(false)))";

/// CEL: true if an update takes away or changes the label of an organization that the token lists. A missing label may
/// be added by everybody with permission to change the token, because it says nothing new.
///
/// A server-side apply takes a stamped label away, and the stamp adds it again. So this is no change for other stamps.
pub(crate) fn unmarked() -> String {
    let label = |object: &str| format!("{object}.metadata.?labels[?'{}' + o]", name::ORGANIZATION);
    let (new, old) = (label("object"), label("oldObject"));
    format!("({TOKEN} && object.spec.?organizations.?listed.orValue([]).exists(o, {old}.hasValue() && {new} != {old}))")
}

/// CEL: the requester as a subject. The user of a core ServiceAccount becomes `serviceaccount:NAMESPACE/NAME`.
const ME: &str = "request.userInfo.username.startsWith('system:serviceaccount:') && request.userInfo.username.split(':').size() == 4 \
    ? 'serviceaccount:' + request.userInfo.username.split(':')[2] + '/' + request.userInfo.username.split(':')[3] \
    : 'user:' + request.userInfo.username";

/// CEL: the stamp with the requester's groups. Its first line is the previous resourceVersion of the token. So each
/// stamp is different, and the operator notices a new one. Each further line is a group. Groups that are not valid
/// names, for example with a line feed, are left out.
pub(crate) fn stamp() -> String {
    format!(
        "([(oldObject == null ? '0' : oldObject.metadata.resourceVersion)] + \
         request.userInfo.?groups.orValue([]).filter(self, {})).join('\\n')",
        rule::<UserNameForm>("self")
    )
}

/// CEL: true if the requester is valid as `spec.owner`. Some user names are not, because a user name may have any
/// characters.
pub(crate) fn can_own() -> String {
    rule::<SubjectForm>("variables.me")
}

/// A string literal of CEL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// CEL: true if the requester has a permission on an object of tokenry.dev. `namespace` and `name` are CEL expressions.
pub(crate) fn may(verb: &str, resource: &str, namespace: &str, name: &str) -> String {
    format!(
        "authorizer.group('tokenry.dev').resource('{resource}').namespace({namespace}).name({name}).check('{verb}').allowed()"
    )
}

/// The variables for the requester, for the old and the new owner, and for the permission to act for each owner.
/// Members of a group may change the objects that the group owns. But they need a permission to make the group an
/// owner, because that makes other people answerable.
///
/// A token without `spec.owner` has the owner of its account, which the operator reports in the token's status. Old
/// objects may have no owner at all. For these, the CEL expression `unless_owned` decides.
pub(crate) fn owners(unless_owned: &str) -> Vec<(String, String)> {
    let member = "(variables.holder.startsWith('group:') && \
        variables.holder.substring(6) in request.userInfo.?groups.orValue([]))";
    let right = |owner: &str| may("assign", "owners", "request.namespace", &format!("variables.{owner}"));
    named([
        ("me", ME.to_owned()),
        ("before", "oldObject == null ? '' : oldObject.spec.?owner.orValue('')".into()),
        (
            "holder",
            "variables.before != '' || oldObject == null ? variables.before \
             : oldObject.?status.?owner.?subject.orValue('')"
                .into(),
        ),
        ("owner", "object == null ? variables.before : object.spec.?owner.orValue('')".into()),
        (
            "actsForHolder",
            format!(
                "variables.holder == '' ? ({unless_owned}) : (variables.holder == variables.me || {member} || {})",
                right("holder")
            ),
        ),
        ("actsForOwner", format!("variables.owner == '' || variables.owner == variables.me || {}", right("owner"))),
    ])
}

/// The variable for the requester.
pub(crate) fn me() -> Vec<(String, String)> {
    named([("me", ME.to_owned())])
}

/// A permission on an object of our group. Name and namespace are CEL expressions.
#[derive(Clone, Copy)]
pub(crate) struct Grant<'a> {
    pub(crate) verb: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
}

impl Grant<'_> {
    /// A CEL expression for the message to a requester without this permission. It begins with the `field` that needs
    /// the permission.
    pub(crate) fn lacks(self, field: &str) -> String {
        format!("'{field}: ' + {}", self.missing())
    }

    /// A CEL expression for the end of such a message: the requester, the permission and the Role.
    pub(crate) fn missing(self) -> String {
        let Self { verb, resource, name, namespace } = self;
        format!(
            "variables.me + ' may not {verb} {resource}.tokenry.dev/' + {name} + ' in namespace ' + {namespace} + '{}' + {}",
            self.soon(),
            self.role()
        )
    }

    /// The hint that the permission may come by itself: the operator grants it some moments after its cause.
    fn soon(self) -> &'static str {
        match self.resource {
            "roles" => "; if you were made a member just now, try again in some seconds",
            "serviceaccounts" => "; if you were made its owner just now, try again in some seconds",
            _ => "",
        }
    }

    /// A CEL expression for the advice to apply a Role with this permission. The advice contains the Role in JSON,
    /// because `kubectl create role` refuses these verbs and resources.
    fn role(self) -> String {
        let Self { verb, resource, name, namespace } = self;
        // The API server refuses a slash or a percent sign in the name of a Role.
        let called = format!("{name}.replace('/', ':').replace('%', ':')");
        let json = |text: &str| format!("{text}.replace('\\\\', '\\\\\\\\').replace('\"', '\\\\\"')");
        format!(
            "'; to allow it, apply this Role and bind it to them: {{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"Role\",\
             \"metadata\":{{\"namespace\":\"' + {namespace} + '\",\"name\":\"{verb}:{resource}:' + {} + '\"}},\"rules\":[{{\
             \"apiGroups\":[\"tokenry.dev\"],\"resources\":[\"{resource}\"],\"resourceNames\":[\"' + {} + '\"],\"verbs\":[\"{verb}\"]}}]}}'",
            json(&called),
            json(name)
        )
    }
}

/// Variables, from pairs of a name and an expression.
pub(crate) fn named<const N: usize>(all: [(&str, String); N]) -> Vec<(String, String)> {
    all.into_iter().map(|(name, expression)| (name.to_owned(), expression)).collect()
}

/// CEL: true if all fields of the spec except `fields` are unchanged.
pub(crate) fn same_but(fields: &[&str]) -> String {
    let free: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
    let free = free.join(", ");
    format!(
        "object.spec.all(k, k in [{free}] || (k in oldObject.spec && oldObject.spec[k] == object.spec[k])) \
         && oldObject.spec.all(k, k in [{free}] || k in object.spec)"
    )
}

/// CEL: true if the object is new, or one of these fields of its spec changes.
pub(crate) fn changes(fields: &[&str]) -> String {
    let each: Vec<_> = fields.iter().map(|field| format!("object.spec.?{field} != oldObject.spec.?{field}")).collect();
    format!("(oldObject == null || {})", each.join(" || "))
}

/// CEL: true if an update extends the organizations or projects. A new object does not count, because its role is
/// checked.
pub(crate) fn widened() -> String {
    let listed = |object: &str| format!("{object}.spec.?organizations.?listed");
    let all = |object: &str| format!("{object}.spec.?organizations.?all.orValue(false)");
    let (new, old) = (listed("object"), listed("oldObject"));
    let organizations = format!(
        "({old}.hasValue() && !{} && !({new}.hasValue() && !{} && {new}.value().all(o, o in {old}.value())))",
        all("oldObject"),
        all("object")
    );
    let (new, old) = ("object.spec.?projects.orValue([])", "oldObject.spec.?projects.orValue([])");
    let projects = format!("(size({old}) > 0 && !(size({new}) > 0 && {new}.all(p, p in {old})))");
    format!("(oldObject != null && object != null && ({organizations} || {projects}))")
}
