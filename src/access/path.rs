//! The one way in which paths are read before anything is matched.
//!
//! * A query is cut off; a fragment is refused. Of an absolute URI the path is taken.
//! * Percent-encoding is undone once. What then is `/`, `\`, `%`, `?`, `#`, `;`, a control character or no UTF-8 is refused:
//!   servers differ in what they take it for.
//! * Segments `.` and `..` are refused, however they are written: clients resolve them before they send.
//! * `//` is `/`, and a slash at the end is none.
//! * Case does not matter where a path is matched, as for some servers it does not.
//!
//! A path is refused where two servers could read two paths in it: an exclusion of one of them could be dodged by the other.

use percent_encoding::percent_decode_str;

/// The longest path that is read, in bytes.
const MAX: usize = 8 * 1024;

/// A path, normalised: its segments as they are written, without percent-encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<String>);

/// Why a path cannot be normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// It does not begin with a slash, as `*` of OPTIONS does not.
    #[error("it does not begin with a slash")]
    Relative,
    /// It is longer than 8 KiB.
    #[error("it is longer than 8 KiB")]
    Long,
    /// A `%` without two hexadecimal digits behind it.
    #[error("a % is not followed by two hexadecimal digits")]
    Escape,
    /// A character that servers read differently: encoded slash, backslash, `;` and the like.
    #[error("it holds a character that servers read differently, such as an encoded slash")]
    Ambiguous,
    /// A segment `.` or `..`.
    #[error("it holds a segment . or ..")]
    Dots,
}

impl Path {
    /// Reads the path of what a client asked for.
    ///
    /// # Errors
    /// It cannot be normalised; the request is to be refused.
    pub fn parse(target: &str) -> Result<Self, PathFault> {
        let path = origin(target).split('?').next().unwrap_or_default();
        if path.len() > MAX {
            return Err(PathFault::Long);
        }
        let path = path.strip_prefix('/').ok_or(PathFault::Relative)?;
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.map(segment).collect::<Result<_, _>>().map(Self)
    }

    /// The segment of this number; the first is 1.
    pub fn segment(&self, number: usize) -> Option<&str> {
        self.0.get(number.checked_sub(1)?).map(String::as_str)
    }

    /// Whether `pattern`, a path in which `*` stands for one segment and `**` at the end for any number of them, is of this
    /// path.
    pub fn is_of(&self, pattern: &str) -> bool {
        let mut segments = self.0.iter();
        for wanted in pattern.split('/').filter(|wanted| !wanted.is_empty()) {
            if wanted == "**" {
                return true;
            }
            let fits = segments.next().is_some_and(|segment| wanted == "*" || segment.eq_ignore_ascii_case(wanted));
            if !fits {
                return false;
            }
        }
        segments.next().is_none()
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.0.join("/"))
    }
}

/// What follows scheme and authority, where there are any.
fn origin(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme));
    rest.map_or("", |rest| rest.find('/').map_or("/", |at| &rest[at..]))
}

fn segment(written: &str) -> Result<String, PathFault> {
    if !has_whole_escapes(written) {
        return Err(PathFault::Escape);
    }
    let text = percent_decode_str(written).decode_utf8().map_err(|_| PathFault::Ambiguous)?;
    if text.chars().any(|c| c.is_control() || r"/\%?#;".contains(c)) {
        return Err(PathFault::Ambiguous);
    }
    // Some servers drop a space or a dot at the end of a segment, and take what is left for `..`.
    let bare = text.trim_matches([' ', '.']);
    if bare.is_empty() {
        return Err(PathFault::Dots);
    }
    Ok(text.into_owned())
}

fn has_whole_escapes(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(target: &str) -> Result<String, PathFault> {
        Path::parse(target).map(|path| path.to_string())
    }

    #[test]
    fn what_means_the_same_is_read_the_same() {
        for written in [
            "/eem/clusters",
            "/eem/clusters/",
            "//eem///clusters",
            "/eem/clusters?a=..",
            "/%65em/cluster%73",
            "https://a.b/eem/clusters",
        ] {
            assert_eq!(read(written), Ok("/eem/clusters".into()), "{written}");
        }
        assert_eq!(read("/"), Ok("/".into()));
        assert_eq!(read("https://a.b"), Ok("/".into()));
        assert_eq!(read("/%C3%A9"), Ok("/é".into()));
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        let cases = [
            ("/a/..%2fb", PathFault::Ambiguous),
            ("/a%2Fb", PathFault::Ambiguous),
            ("/a%5cb", PathFault::Ambiguous),
            ("/a\\b", PathFault::Ambiguous),
            ("/a%252fb", PathFault::Ambiguous),
            ("/a;x=1/b", PathFault::Ambiguous),
            ("/a%00", PathFault::Ambiguous),
            ("/a#b", PathFault::Ambiguous),
            ("/%ff", PathFault::Ambiguous),
            ("/a/../b", PathFault::Dots),
            ("/a/%2e%2E/b", PathFault::Dots),
            ("/a/./b", PathFault::Dots),
            ("/a/.. /b", PathFault::Dots),
            ("/a/.../b", PathFault::Dots),
            ("/a%2", PathFault::Escape),
            ("/a%zz", PathFault::Escape),
            ("/a%+1", PathFault::Escape),
            ("", PathFault::Relative),
            ("*", PathFault::Relative),
            ("eem", PathFault::Relative),
            ("ftp://a/b", PathFault::Relative),
        ];
        for (written, fault) in cases {
            assert_eq!(read(written), Err(fault), "{written}");
        }
        assert_eq!(read(&format!("/{}", "a".repeat(MAX))), Err(PathFault::Long));
    }

    #[test]
    fn a_pattern_stands_for_segments_and_case_does_not_matter() {
        let is = |path: &str, pattern| Path::parse(path).unwrap().is_of(pattern);
        assert!(is("/eem/clusters", "/eem/clusters") && is("/EEM/Clusters/", "/eem/clusters"));
        assert!(is("/eem/x", "/eem/*") && !is("/eem", "/eem/*") && !is("/eem/x/y", "/eem/*"));
        assert!(is("/eem", "/eem/**") && is("/eem/x/y", "/eem/**") && !is("/eemx", "/eem/**"));
        assert!(is("/", "/") && is("/", "/**") && is("/x/y", "/**") && !is("/x", "/"));
        assert!(is("/a/b/c", "/a/*/c") && !is("/a/b/d", "/a/*/c"));
    }

    #[test]
    fn a_segment_is_found_by_its_number() {
        let path = Path::parse("/api//Acme/x").unwrap();
        assert_eq!([0, 1, 2, 4].map(|number| path.segment(number)), [None, Some("api"), Some("Acme"), None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_path_panics_and_what_is_normal_stays_so(target in "(/|%2[fFeE5]|[.]{1,3}|[a-cA-C%;?# \\\\é]|//){0,12}|.{0,40}") {
            let Ok(path) = Path::parse(&target) else { return Ok(()) };
            let written = path.to_string();
            prop_assert!(written.split('/').all(|segment| segment != ".." && segment != "."), "{written}");
            prop_assert!(!written.contains(['\\', '%', '?', '#', ';']), "{written}");
            prop_assert_eq!(Path::parse(&written), Ok(path));
        }

        #[test]
        fn encoding_more_of_a_path_changes_nothing(path in "(/[a-z]{1,5}){1,4}", at in any::<proptest::sample::Index>()) {
            let at = at.index(path.len());
            let byte = path.as_bytes()[at];
            if byte == b'/' {
                return Ok(());
            }
            let encoded = format!("{}%{byte:02x}{}", &path[..at], &path[at + 1..]);
            prop_assert_eq!(Path::parse(&encoded), Path::parse(&path));
        }
    }
}
