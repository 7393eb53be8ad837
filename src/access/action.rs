//! Actions, patterns of actions, and the requests that actions stand for.

use super::{cut::cut, path::Reading};
use crate::crd::permission::{ActionPattern, Method, PathPattern};

/// Methods that only read (RFC 9110, section 9.2.1).
const READS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// The action of a request that reads, if the Instance names no actions.
pub(crate) const READ: &str = "api:read";
/// The action of any other request, if the Instance names no actions.
pub(crate) const WRITE: &str = "api:write";

/// The action of a request by its method alone.
pub(crate) fn by_method(method: &str) -> &'static str {
    if READS.contains(&method) { READ } else { WRITE }
}

/// A set of requests, given by methods and paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    methods: Vec<Method>,
    paths: Vec<PathPattern>,
}

impl Target {
    /// The requests with one of these methods and one of these paths. No methods: any method.
    pub fn new(methods: &[Method], paths: &[PathPattern]) -> Self {
        Self { methods: methods.to_vec(), paths: paths.to_vec() }
    }

    /// True if the set is limited to some methods.
    pub fn is_by_method(&self) -> bool {
        !self.methods.is_empty()
    }

    /// True if a request is in the set. Case does not matter, because it does not matter to some servers. GET also
    /// covers HEAD, because servers answer HEAD as they answer GET.
    pub fn covers(&self, method: &str, path: &Reading) -> bool {
        self.names(method, str::eq_ignore_ascii_case) && self.paths.iter().any(|pattern| path.is_of(pattern.as_str()))
    }

    /// Like [`Target::covers`], but case matters. So servers that heed case read the same request.
    pub fn covers_exactly(&self, method: &str, path: &Reading) -> bool {
        self.names(method, |one, other| one == other)
            && self.paths.iter().any(|pattern| path.is_exactly_of(pattern.as_str()))
    }

    fn names(&self, method: &str, same: fn(&str, &str) -> bool) -> bool {
        let is = |wanted: &Method, method: &str| same(wanted.as_str(), method);
        let names = |wanted: &Method| is(wanted, method) || same(method, "HEAD") && is(wanted, "GET");
        self.methods.is_empty() || self.methods.iter().any(names)
    }
}

/// A set of actions, given by patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions(Vec<ActionPattern>);

impl Actions {
    /// The actions that one of the patterns matches.
    pub fn new(patterns: impl IntoIterator<Item = ActionPattern>) -> Self {
        Self(patterns.into_iter().collect())
    }

    /// True if `action` is in the set. `None` is a request that matches no action of the Instance. Only the pattern `*`
    /// includes it.
    pub fn include(&self, action: Option<&str>) -> bool {
        self.0.iter().any(|pattern| match action {
            Some(action) => means(pattern.as_str(), action),
            None => pattern.as_str() == "*",
        })
    }

    /// The patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(ActionPattern::as_str)
    }
}

/// True if `pattern` matches `action`, word by word. A `*` means one or more words.
fn means(pattern: &str, action: &str) -> bool {
    words(Some(pattern), Some(action))
}

/// Like [`means`], for the rest of a pattern and of an action. `None`: no words are left.
fn words(pattern: Option<&str>, action: Option<&str>) -> bool {
    let (Some(pattern), Some(action)) = (pattern, action) else { return pattern == action };
    let ((wanted, after), (word, others)) = (first(pattern), first(action));
    match wanted {
        "*" => words(after, others) || others.is_some() && words(Some(pattern), others),
        _ => wanted == word && words(after, others),
    }
}

/// The first word, and the words after it.
fn first(text: &str) -> (&str, Option<&str>) {
    cut(text, b':')
}

/// Patterns for all actions that both patterns match. Empty if there is no such action. A pattern has at most four
/// words.
pub(crate) fn common(one: &str, other: &str) -> Vec<String> {
    fn rest(one: &[&str], other: &[&str]) -> Vec<Vec<String>> {
        let (word, rests) = match (one, other) {
            ([], []) => return vec![Vec::new()],
            (["*", after @ ..], ["*", others @ ..]) => {
                ("*", [rest(after, others), rest(one, others), rest(after, other)].concat())
            }
            (["*", after @ ..], [word, others @ ..]) | ([word, others @ ..], ["*", after @ ..]) => {
                let star = [&["*"], after].concat();
                (*word, [rest(after, others), rest(&star, others)].concat())
            }
            ([word, after @ ..], [same, others @ ..]) if word == same => (*word, rest(after, others)),
            _ => return Vec::new(),
        };
        rests.into_iter().map(|rest| [vec![word.to_owned()], rest].concat()).collect()
    }
    let (one, other): (Vec<_>, Vec<_>) = (one.split(':').collect(), other.split(':').collect());
    widest(rest(&one, &other).iter().map(|words| words.join(":")).collect())
}

/// The patterns that no other of these patterns includes.
pub(crate) fn widest(mut patterns: Vec<String>) -> Vec<String> {
    patterns.sort();
    patterns.dedup();
    let all = patterns.clone();
    patterns.retain(|one| !all.iter().any(|other| other != one && means(other, one)));
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Path;

    #[test]
    fn what_two_patterns_have_in_common_is_every_action_that_both_mean() {
        for (one, other, both) in [
            ("*", "a:b", &["a:b"][..]),
            ("topics:*", "*:read", &["topics:*:read", "topics:read"]),
            ("*:read", "*", &["*:read"]),
            ("a:*:c", "*:b:c", &["a:*:b:c", "a:b:c"]),
            ("*", "*", &["*"]),
            ("topics:*", "topics:*", &["topics:*"]),
            ("a:b", "a:b", &["a:b"]),
            ("*:write", "*:read", &[]),
            ("topics:*", "clusters:*", &[]),
            ("a:b", "a:b:c", &[]),
            ("a:*", "a", &[]),
        ] {
            assert_eq!(common(one, other), both, "{one} {other}");
            assert_eq!(common(other, one), both, "{other} {one}");
        }
    }

    #[test]
    fn a_star_stands_for_one_or_more_words() {
        for (pattern, action) in [
            ("*", "clusters:read"),
            ("clusters:*", "clusters:read"),
            ("*:read", "clusters:read"),
            ("*:read", "iam:policies:read"),
            ("iam:*", "iam:policies:read"),
            ("iam:*:read", "iam:policies:read"),
            ("clusters:read", "clusters:read"),
        ] {
            assert!(means(pattern, action), "{pattern} {action}");
        }
        for (pattern, action) in [
            ("clusters:*", "topics:read"),
            ("*:read", "clusters:write"),
            ("clusters:read", "clusters:read:all"),
            ("iam:*:read", "iam:read"),
            ("*:*:*", "a:b"),
        ] {
            assert!(!means(pattern, action), "{pattern} {action}");
        }
    }

    #[test]
    fn a_request_that_is_no_action_is_permitted_by_all_of_them_alone() {
        let actions = |patterns: &[&str]| Actions::new(patterns.iter().map(|&pattern| pattern.into()));
        assert!(actions(&["a:b", "*"]).include(None));
        assert!(!actions(&["*:*", "a:*"]).include(None));
    }

    #[test]
    fn a_request_is_covered_by_method_and_path() {
        let path = Path::parse("/eem/clusters").unwrap();
        let path = path.read();
        let target = |methods: &[&str]| {
            let methods: Vec<_> = methods.iter().map(|&method| method.into()).collect();
            Target::new(&methods, &["/x".into(), "/eem/*".into()])
        };
        assert!(target(&["GET", "POST"]).covers("POST", path) && target(&[]).covers("ODD", path));
        assert!(target(&["GET"]).covers("get", path) && !target(&["GET"]).covers("POST", path));
        assert!(target(&["GET"]).covers("HEAD", path) && !target(&["HEAD"]).covers("GET", path));
        assert_eq!(["GET", "HEAD", "POST", "get"].map(by_method), [READ, READ, WRITE, WRITE]);
        let exactly = |methods: &[&str], method, path: &str| {
            target(methods).covers_exactly(method, Path::parse(path).unwrap().read())
        };
        assert!(exactly(&["GET"], "HEAD", "/eem/x") && exactly(&[], "odd", "/x"));
        assert!(!exactly(&["GET"], "get", "/eem/x") && !exactly(&["GET"], "head", "/eem/x"));
        assert!(!exactly(&[], "GET", "/EEM/x") && !exactly(&["HEAD"], "GET", "/x"));
    }
}
