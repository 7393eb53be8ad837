//! The rights that a user lacks, in one sentence, and the commands that give them.

use serde::{Serialize, Serializer};

use super::{Error, advice::quoted, connection::Workplace, denial::Denial, grant};
use crate::{
    crd::{GROUP, subject::of_username},
    outside::{
        Refusal,
        forbidder::Denied,
        rights::{PlacedRight, Right},
    },
};

/// A right that a user lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LackedRight {
    verb: String,
    /// The resource with its API group, such as `pods` or `roles.tokenry.dev/eem:admin`.
    resource: String,
    /// The namespace; empty: all namespaces.
    namespace: String,
    way: WayToRight,
}

/// The way in which a user gets a right.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WayToRight {
    /// The words of `kubectl tokenry grant` that give it.
    Grant(Vec<String>),
    /// The ClusterRole that gives it.
    Role(&'static str),
    /// The way to another right of the list gives this one too.
    Along,
}

impl LackedRight {
    /// A right that these words of `kubectl tokenry grant` give. `resource` has its API group.
    pub(crate) fn granted(verb: &str, resource: String, namespace: &str, words: &[&str]) -> Self {
        let way = WayToRight::Grant(words.iter().map(|&word| word.to_owned()).collect());
        Self { verb: verb.to_owned(), resource, namespace: namespace.to_owned(), way }
    }

    /// A right that a review found missing. `words` of `kubectl tokenry grant` give it.
    pub(crate) fn reviewed(needed: &PlacedRight, words: &[&str]) -> Self {
        let (verb, resource) = parts(needed.right);
        // The other verbs are asked for by admission policies, on names that need not be objects.
        let is_of_object = ["get", "list", "watch", "create", "patch", "delete"].contains(&&*verb);
        let name = needed.name.as_ref().filter(|_| !is_of_object).map(|name| format!("/{name}")).unwrap_or_default();
        Self::granted(&verb, format!("{resource}{name}"), &needed.namespace, words)
    }

    /// The same right, which the way to another right of the list gives too.
    pub(crate) fn along(self) -> Self {
        Self { way: WayToRight::Along, ..self }
    }

    /// The right that the authorizer denied.
    pub(crate) fn denied(denied: &Denied<'_>) -> Self {
        let Denied { verb, resource, group, namespace, .. } = *denied;
        let dot = if group.is_empty() { "" } else { "." };
        let way = match grant_for(denied) {
            Some(words) => WayToRight::Grant(words.iter().map(|&word| word.to_owned()).collect()),
            None => WayToRight::Role(role_for(denied)),
        };
        let (verb, namespace) = (verb.to_owned(), namespace.to_owned());
        Self { verb, resource: format!("{resource}{dot}{group}"), namespace, way }
    }

    /// The verb and the place, in which one sentence can name several resources.
    fn place(&self) -> (&str, &str) {
        (&self.verb, &self.namespace)
    }
}

/// The verb and the resource of a right.
fn parts(right: Right) -> (String, String) {
    let told = right.to_string();
    let (verb, resource) = told.split_once(' ').unwrap_or((&told, ""));
    (verb.to_owned(), resource.to_owned())
}

/// The words of `kubectl tokenry grant` that give a denied right. `None`: no words give it.
fn grant_for(denied: &Denied<'_>) -> Option<&'static [&'static str]> {
    let Denied { verb, resource, group, namespace, .. } = *denied;
    let reads = ["get", "list", "watch"].contains(&verb);
    match (group, resource) {
        _ if namespace.is_empty() => None,
        (GROUP, "apitokens" | "serviceaccounts" | "instances" | "accesspolicies") if reads => Some(&["--view"]),
        (GROUP, "apitokens" | "serviceaccounts") => Some(&["--create"]),
        ("", "namespaces") if verb == "get" => Some(&["--view"]),
        ("", "secrets") if verb == "get" => Some(&["--read", "TOKEN"]),
        _ if verb == "list" && grant::WORKLOADS.iter().any(|(of, all)| *of == group && all.contains(&resource)) => {
            Some(&["--workloads"])
        }
        _ => None,
    }
}

/// The ClusterRole that gives a denied right: that of the chart, or one of Kubernetes.
fn role_for(denied: &Denied<'_>) -> &'static str {
    match (denied.group, denied.verb) {
        (GROUP, "get" | "list" | "watch") => "tokenry-view",
        (GROUP, _) if denied.resource.starts_with("instances") => "tokenry-admin",
        (GROUP, _) => "tokenry-edit",
        ("rbac.authorization.k8s.io", _) => "admin",
        (_, "get" | "list" | "watch") => "view",
        (_, _) => "edit",
    }
}

/// The command that binds a subject to a ClusterRole, on a line of its own. `namespace` is empty for all namespaces.
pub(crate) fn binding(who: &str, role: &str, namespace: &str) -> String {
    let (kind, name) = who.split_once(':').unwrap_or(("user", who));
    // kubectl separates the namespace and the name of a ServiceAccount by a colon. No binding has a slash in its name.
    let plain = name.replace(['/', '%'], ":");
    let subject = if kind == "serviceaccount" { &plain } else { name };
    let (object, place) = match namespace {
        "" => ("clusterrolebinding", String::new()),
        namespace => ("rolebinding", format!(" -n {}", quoted(namespace))),
    };
    let (called, subject) = (quoted(&format!("{role}-{plain}")), quoted(subject));
    format!("\n  kubectl create {object} {called} --clusterrole {role} --{kind} {subject}{place}")
}

/// The error of a refused request of a command that `words` of `kubectl tokenry grant` permit as a whole.
pub(crate) fn refused(refusal: Refusal, words: &[&str]) -> Error {
    match Denial::of_right(&refusal) {
        Some((who, LackedRight { verb, resource, namespace, way: WayToRight::Grant(_) })) => {
            Error::Refused(told(&who, &[LackedRight::granted(&verb, resource, &namespace, words)]))
        }
        _ => refusal.into(),
    }
}

/// The error of a command whose user lacks these rights. `before` is the outcome, with its separator.
///
/// A grant in a namespace that does not exist would fail.
pub(crate) async fn lacks(place: &Workplace, before: &str, lacked: &[LackedRight]) -> Error {
    let is_here = lacked.iter().any(|right| right.namespace == place.namespace);
    if is_here && let Err(missing) = place.exists().await {
        return missing;
    }
    match place.desk.user().await {
        Ok(user) => {
            let who = of_username(&user.username.unwrap_or_default());
            Error::Refused(format!("{before}{}", told(&who, lacked)))
        }
        Err(refusal) => refusal.into(),
    }
}

/// The rights that a subject lacks, and the ways to them.
pub(crate) fn told(who: &str, lacked: &[LackedRight]) -> String {
    format!("{}{}", sentence(lacked), advice(who, lacked))
}

/// The rights as a sentence: `you may not list pods and jobs.batch in namespace n; you may not get …`.
pub(crate) fn sentence(lacked: &[LackedRight]) -> String {
    let mut places = lacked.iter().map(LackedRight::place).collect::<Vec<_>>();
    distinct(&mut places);
    let told = |(verb, namespace): (&str, &str)| {
        let at = lacked.iter().filter(|right| right.place() == (verb, namespace));
        let mut resources = at.map(|right| &*right.resource).collect::<Vec<_>>();
        distinct(&mut resources);
        let place = if namespace.is_empty() { "all namespaces".to_owned() } else { format!("namespace {namespace}") };
        format!("you may not {verb} {} in {place}", joined(&resources))
    };
    places.into_iter().map(told).collect::<Vec<_>>().join("; ")
}

/// The ways to the rights, with a separator before them: a command for each role and for each namespace.
pub(crate) fn advice(who: &str, lacked: &[LackedRight]) -> String {
    let (mut roles, mut namespaces) = (Vec::new(), Vec::<(&str, Vec<&[String]>)>::new());
    for right in lacked {
        match &right.way {
            WayToRight::Role(role) => roles.push(binding(who, role, &right.namespace)),
            WayToRight::Along => {}
            WayToRight::Grant(words) => {
                match namespaces.iter_mut().find(|(namespace, _)| *namespace == right.namespace) {
                    Some((_, all)) => all.push(words),
                    None => namespaces.push((&right.namespace, vec![words])),
                }
            }
        }
    }
    distinct(&mut roles);
    let grants = namespaces.into_iter().map(|(namespace, mut all)| {
        distinct(&mut all);
        grant::command(who, &all.concat(), namespace)
    });
    let commands: String = roles.into_iter().chain(grants).collect();
    if commands.is_empty() { commands } else { format!("{}{commands}", grant::ALLOWS) }
}

/// Removes repetitions, and keeps the order.
fn distinct<T: PartialEq + Clone>(all: &mut Vec<T>) {
    let mut kept = Vec::new();
    all.retain(|one| {
        let is_new = !kept.contains(one);
        if is_new {
            kept.push(one.clone());
        }
        is_new
    });
}

/// Words as in a sentence: `a, b and c`.
fn joined(words: &[&str]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        all => all.join(", "),
    }
}

/// The lists that a user may not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unlisted {
    who: String,
    rights: Vec<LackedRight>,
}

impl Unlisted {
    /// The objects of a list, and no object of a list that the user may not read.
    ///
    /// # Errors
    /// The API server does not answer.
    pub(crate) fn permitted<K>(&mut self, listed: Result<Vec<K>, Refusal>) -> Result<Vec<K>, Error> {
        let refusal = match listed {
            Ok(objects) => return Ok(objects),
            Err(refusal) => refusal,
        };
        let Some((who, right)) = Denial::of_right(&refusal) else { return Err(refusal.into()) };
        self.who = who;
        self.rights.push(right);
        Ok(Vec::new())
    }

    /// True if the user may read every list.
    pub(crate) fn is_empty(&self) -> bool {
        self.rights.is_empty()
    }

    /// The lists in one sentence, and below it the command that gives the rights. No line if there are none.
    pub(crate) fn told(&self) -> Vec<String> {
        let text = told(&self.who, &self.rights);
        let text = if self.is_empty() { String::new() } else { format!("not all is known: {text}") };
        text.lines().map(str::to_owned).collect()
    }
}

impl Serialize for Unlisted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rights.iter().map(|right| sentence(std::slice::from_ref(right))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Why;

    fn refusal(verb: &str, resource: &str, group: &str, place: &str) -> Refusal {
        let text =
            format!(r#"x is forbidden: User "a" cannot {verb} resource "{resource}" in API group "{group}" {place}"#);
        Refusal::because(Why::Forbidden(text))
    }

    const HERE: &str = r#"in the namespace "n""#;

    fn lacked(verb: &str, resource: &str, group: &str) -> LackedRight {
        Denial::of_right(&refusal(verb, resource, group, HERE)).unwrap().1
    }

    #[test]
    fn a_missing_right_is_got_by_the_flag_that_gives_the_least() {
        let command = |verb: &str, resource: &str, group: &str| advice("user:a", &[lacked(verb, resource, group)]);
        for (verb, resource, group, flag) in [
            ("create", "apitokens", GROUP, "--create"),
            ("delete", "serviceaccounts", GROUP, "--create"),
            ("list", "apitokens", GROUP, "--view"),
            ("get", "instances", GROUP, "--view"),
            ("list", "accesspolicies", GROUP, "--view"),
            ("get", "namespaces", "", "--view"),
            ("list", "pods", "", "--workloads"),
            ("list", "cronjobs", "batch", "--workloads"),
        ] {
            let told = format!("; an administrator allows it by:\n  kubectl tokenry grant user:a {flag} -n n --apply");
            assert_eq!(command(verb, resource, group), told, "{verb} {resource}");
        }
        assert!(command("get", "secrets", "").ends_with(" --read TOKEN -n n --apply"));
    }

    #[test]
    fn a_right_that_no_grant_gives_is_got_by_a_binding_to_a_cluster_role() {
        let everywhere = Denial::of_right(&refusal("list", "apitokens", GROUP, "at the cluster scope")).unwrap().1;
        for (who, right, command) in [
            (
                "user:a",
                lacked("create", "instances", GROUP),
                "rolebinding tokenry-admin-a --clusterrole tokenry-admin --user a -n n",
            ),
            ("group:b c", lacked("get", "x", "y"), "rolebinding 'view-b c' --clusterrole view --group 'b c' -n n"),
            (
                "serviceaccount:a/b",
                everywhere,
                "clusterrolebinding tokenry-view-a:b --clusterrole tokenry-view --serviceaccount a:b",
            ),
        ] {
            let told = advice(who, &[right]);
            assert_eq!(told, format!("; an administrator allows it by:\n  kubectl create {command}"));
        }
    }

    #[test]
    fn many_rights_are_one_sentence_with_one_command_for_each_namespace() {
        let many = [
            lacked("list", "pods", ""),
            lacked("list", "jobs", "batch"),
            lacked("list", "pods", ""),
            lacked("get", "instances", GROUP),
            LackedRight::granted("assign", "roles.tokenry.dev/eem:admin".into(), "m", &["--role", "eem:admin"]),
        ];
        let told = told("user:a", &many);
        assert_eq!(
            told,
            "you may not list pods and jobs.batch in namespace n; you may not get instances.tokenry.dev in namespace n; \
             you may not assign roles.tokenry.dev/eem:admin in namespace m; an administrator allows it by:\n  \
             kubectl tokenry grant user:a --workloads --view -n n --apply\n  \
             kubectl tokenry grant user:a --role eem:admin -n m --apply"
        );
    }

    #[test]
    fn a_command_names_the_right_that_permits_all_of_it() {
        let told = refused(refusal("get", "apitokens", GROUP, HERE), &["--read", "ci"]).to_string();
        assert!(told.ends_with("kubectl tokenry grant user:a --read ci -n n --apply"), "{told}");
        let everywhere =
            refused(refusal("list", "apitokens", GROUP, "at the cluster scope"), &["--create"]).to_string();
        assert!(everywhere.contains("--clusterrole tokenry-view"), "{everywhere}");
    }
}
