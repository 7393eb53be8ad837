//! Reads paths in one way, before anything is matched.
//!
//! * The query is removed, and a fragment is rejected. Of an absolute URI, only the path is read.
//! * Percent-encoding is decoded once. No segment may then have `\`, `%`, `?`, `#`, `;`, a control character, an
//!   invisible character or invalid UTF-8. Servers read such a path differently, so it is rejected.
//! * An encoded slash is kept in its segment. An Instance rejects such a path, unless it has `encodedSlash: Keep`. No
//!   part around such a slash may be empty, `.` or `..`.
//! * The segments `.` and `..` are rejected in every spelling, because clients resolve them before they send a path.
//! * `//` is read as `/`, and a slash at the end is ignored.
//! * Case does not matter when a path is matched, because it does not matter to some servers.
//!
//! Some servers read a path differently. They keep an empty segment, or take the text after `//` for a host. They drop
//! a dot or a space at the end of a segment, or read `ｃ` as `c`.
//!
//! A [`Path`] keeps all of these readings, and an exclusion is matched against each of them. Otherwise a caller could
//! avoid an exclusion with another spelling. Servers that separate segments at an encoded slash have readings too.

use icu_normalizer::ComposingNormalizer;
use percent_encoding::percent_decode_str;

use super::cut::cut;
use crate::crd::text::is_invisible;

/// The longest path that is read, in bytes.
const MAX: usize = 8 * 1024;
/// The number of segments that have room at once. Most paths have fewer.
const ROOM: usize = 8;

/// One reading of a path: its segments, without percent-encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The segments, one after the other.
    text: String,
    /// The end of each segment in `text`.
    ends: Vec<usize>,
}

/// A normalised path. Two paths are equal if servers that undo percent-encoding read them alike.
#[derive(Clone, Debug)]
pub struct Path {
    /// The reading that decides.
    read: Reading,
    /// The readings of servers that read the path differently. Most paths have none.
    others: Vec<Reading>,
    /// The readings of servers that separate segments at an encoded slash. Empty: the path has no encoded slash.
    split: Vec<Reading>,
    /// The segments with their percent-encoding. `None`: they are those of `read`.
    written: Option<Reading>,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        [&self.others, &self.split] == [&other.others, &other.split] && self.read == other.read
    }
}

impl Eq for Path {}

/// The reason why a path cannot be normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// The path does not begin with a slash, such as the `*` of an OPTIONS request.
    #[error("it does not begin with a slash")]
    Relative,
    /// The path is longer than 8 KiB.
    #[error("it is longer than 8 KiB")]
    Long,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("a % is not followed by two hexadecimal digits")]
    Escape,
    /// The path has a character that servers read differently, such as a backslash or `;`, or an encoded slash without
    /// text on both sides.
    #[error("it holds a character that servers read differently, such as a backslash")]
    Ambiguous,
    /// The path is a whole URI without a host, or with a host that servers end at different places.
    #[error("it is a whole URI, and the part before its path is not a plain host")]
    Authority,
    /// The path has a segment `.` or `..`.
    #[error("it holds a segment . or ..")]
    Dots,
}

impl Path {
    /// Reads the path of a request target.
    ///
    /// # Errors
    /// The path cannot be normalised. Rules that depend on the path must then refuse the request.
    pub fn parse(target: &str) -> Result<Self, PathFault> {
        let path = bare_path(target)?;
        if path.len() > MAX {
            return Err(PathFault::Long);
        }
        let path = path.strip_prefix('/').ok_or(PathFault::Relative)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.split('/').all(is_plain) {
            let mut read = Reading { text: String::with_capacity(path.len()), ends: Vec::with_capacity(ROOM) };
            read.extend(path.split('/'));
            return Ok(Self { read, others: Vec::new(), split: Vec::new(), written: None });
        }
        Self::odd(path)
    }

    /// Reads a path without the slashes at its ends, whatever its characters are.
    fn odd(path: &str) -> Result<Self, PathFault> {
        let segments = path.split('/');
        let written = segments.clone().filter(|segment| !segment.is_empty()).collect();
        let (read, others) = readings(segments.map(segment).collect::<Result<_, _>>()?)?;
        let split = [&read].into_iter().chain(&others).filter_map(Reading::split).collect();
        Ok(Self { read, others, split, written: Some(written) })
    }

    /// The reading that decides.
    pub fn read(&self) -> &Reading {
        &self.read
    }

    /// The segments with their percent-encoding, as servers read them that do not undo it.
    pub fn written(&self) -> &Reading {
        self.written.as_ref().unwrap_or(&self.read)
    }

    /// The readings of servers that read the path differently.
    pub fn others(&self) -> impl Iterator<Item = &Reading> {
        self.others.iter().chain(&self.split)
    }

    /// The other readings of servers that keep an encoded slash in its segment.
    pub fn keeping(&self) -> &[Reading] {
        &self.others
    }

    /// The readings of servers that separate segments at an encoded slash. Empty: the path has no encoded slash.
    pub fn splitting(&self) -> &[Reading] {
        &self.split
    }

    /// The segment with this number. The first is 1. `None` if there is no such segment.
    pub fn segment(&self, number: usize) -> Option<&str> {
        self.read.segment(number)
    }
}

impl Reading {
    /// The segment with this number. The first is 1. `None` if there is no such segment.
    pub fn segment(&self, number: usize) -> Option<&str> {
        let end = *self.ends.get(number.checked_sub(1)?)?;
        let start = number.checked_sub(2).map_or(0, |before| self.ends[before]);
        Some(&self.text[start..end])
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        (1..=self.ends.len()).filter_map(|number| self.segment(number))
    }

    /// True if `pattern` matches this reading. In a pattern, `*` means one segment, and `**` at the end means any
    /// number of segments.
    pub fn is_of(&self, pattern: &str) -> bool {
        self.fits(pattern, str::eq_ignore_ascii_case)
    }

    /// Like [`Reading::is_of`], but the case of letters matters. So servers that heed case read the same path.
    pub fn is_exactly_of(&self, pattern: &str) -> bool {
        self.fits(pattern, |one, other| one == other)
    }

    fn fits(&self, pattern: &str, same: fn(&str, &str) -> bool) -> bool {
        let mut segments = self.segments();
        for wanted in pattern.split('/').filter(|wanted| !wanted.is_empty()) {
            if wanted == "**" {
                return true;
            }
            let fits = segments.next().is_some_and(|segment| wanted == "*" || same(segment, wanted));
            if !fits {
                return false;
            }
        }
        segments.next().is_none()
    }

    /// The reading that separates segments at each encoded slash. `None` if there is no such slash.
    fn split(&self) -> Option<Self> {
        self.text.contains('/').then(|| self.segments().flat_map(|segment| segment.split('/')).collect())
    }
}

impl<S: AsRef<str>> FromIterator<S> for Reading {
    fn from_iter<I: IntoIterator<Item = S>>(segments: I) -> Self {
        let mut read = Self { text: String::new(), ends: Vec::new() };
        read.extend(segments);
        read
    }
}

impl<S: AsRef<str>> Extend<S> for Reading {
    fn extend<I: IntoIterator<Item = S>>(&mut self, segments: I) {
        for segment in segments {
            self.text.push_str(segment.as_ref());
            self.ends.push(self.text.len());
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let segments: Vec<_> = self.read.segments().map(|segment| segment.replace('/', "%2F")).collect();
        write!(f, "/{}", segments.join("/"))
    }
}

/// The path of a request target, letter for letter: without scheme, authority and query.
///
/// # Errors
/// The target is neither a path nor a whole URI with a plain host.
pub fn bare_path(target: &str) -> Result<&str, PathFault> {
    Ok(cut(origin(target)?, b'?').0)
}

/// The target without scheme and authority.
fn origin(target: &str) -> Result<&str, PathFault> {
    if target.starts_with('/') {
        return Ok(target);
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme));
    let rest = rest.ok_or(PathFault::Relative)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // `http://h?/x` has no path, but some servers look for the first slash. Other servers end the host at a backslash.
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if authority.is_empty() || !authority.chars().all(is_host) {
        return Err(PathFault::Authority);
    }
    Ok(if path.is_empty() { "/" } else { path })
}

/// The readings of segments as they were written: the reading that decides, and those of other servers.
fn readings(written: Vec<String>) -> Result<(Reading, Vec<Reading>), PathFault> {
    let (mut read, mut others) = (written, Vec::new());
    if read.iter().any(String::is_empty) {
        let merged: Vec<_> = read.iter().filter(|segment| !segment.is_empty()).cloned().collect();
        // Servers that resolve `//host/path` as a reference read only `/path`.
        let behind_host = merged.get(1..).filter(|_| read[0].is_empty()).map(<[String]>::to_vec);
        let kept = std::mem::replace(&mut read, merged);
        // The path `/` has only one reading.
        others.extend(Some(kept).filter(|kept| kept.len() > 1).into_iter().chain(behind_host));
    }
    let folded = [&read].into_iter().chain(&others).filter(|reading| reading.iter().any(|segment| folds(segment)));
    let folded = folded.map(|reading| reading.iter().map(|segment| folded_segment(segment)).collect());
    let folded = folded.collect::<Result<Vec<Vec<_>>, _>>()?;
    others.extend(folded);
    Ok((Reading::from_iter(read), others.into_iter().map(Reading::from_iter).collect()))
}

/// True if all servers read a segment alike, because nothing in it has a meaning.
fn is_plain(segment: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(is_usual)
}

/// One segment, without percent-encoding.
fn segment(written: &str) -> Result<String, PathFault> {
    if !has_whole_escapes(written) {
        return Err(PathFault::Escape);
    }
    let text = percent_decode_str(written).decode_utf8().map_err(|_| PathFault::Ambiguous)?;
    // A slash in the text was encoded. Without text on both sides, some servers drop it.
    let bare = text.contains('/') && text.split('/').any(str::is_empty);
    if bare || text.chars().any(|c| c.is_control() || is_invisible(c) || r"\%?#;".contains(c)) {
        return Err(PathFault::Ambiguous);
    }
    Ok(text.into_owned())
}

/// True if some servers may read a segment as a different one. The causes are its letters, and spaces or dots around a
/// part between encoded slashes.
fn folds(segment: &str) -> bool {
    !segment.is_ascii() || segment.split('/').any(|part| part.ends_with(['.', ' ']) || part.starts_with(' '))
}

/// The segment as read by servers that fold letters to ASCII, and drop spaces around a part and dots at its end.
fn folded_segment(segment: &str) -> Result<String, PathFault> {
    let parts = segment.split('/').map(folded_part).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.join("/"))
}

fn folded_part(part: &str) -> Result<String, PathFault> {
    let text = ascii(part);
    if text.contains(['/', '\\']) {
        return Err(PathFault::Ambiguous);
    }
    let bare = text.trim_end_matches(|c: char| c == '.' || c.is_whitespace()).trim_start();
    // Some servers may read a part of dots and spaces as `..`.
    if bare.is_empty() && !text.is_empty() {
        return Err(PathFault::Dots);
    }
    Ok(bare.to_owned())
}

/// The text with letters folded to ASCII where possible: by compatibility, such as `ｃ`, or by case, such as `ſ`.
fn ascii(text: &str) -> String {
    ComposingNormalizer::new_nfkc().normalize(text).chars().map(by_case).collect()
}

/// The ASCII letters that are the lower or upper case of another letter. Otherwise the letter itself.
fn by_case(letter: char) -> String {
    // To some servers `i` is the lower case of `İ`. To others the lower case is `i` with a second dot.
    let small = letter.to_lowercase().to_string().replace('\u{307}', "");
    let folded = [small, letter.to_uppercase().to_string()];
    let folded = folded.into_iter().find(|folded| folded.is_ascii() && !letter.is_ascii());
    folded.unwrap_or_else(|| letter.to_string())
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
        assert_eq!(read("https://[::1]:8080/eem"), Ok("/eem".into()));
        assert_eq!(read("/%C3%A9"), Ok("/é".into()));
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        let cases = [
            ("/a/..%2fb", PathFault::Dots),
            ("/a%2F..%2Fb", PathFault::Dots),
            ("/a%2f%2e%2E", PathFault::Dots),
            ("/a%2F.%20/b", PathFault::Dots),
            ("/a%2F%E2%80%A5%2Fb", PathFault::Dots),
            ("/a%2F%2Fb", PathFault::Ambiguous),
            ("/a%2F", PathFault::Ambiguous),
            ("/%2fa", PathFault::Ambiguous),
            ("/%2F", PathFault::Ambiguous),
            ("/a%2Fb%5Cc", PathFault::Ambiguous),
            ("/a%2F%EF%BC%8Fb", PathFault::Ambiguous),
            ("/a%5cb", PathFault::Ambiguous),
            ("/a\\b", PathFault::Ambiguous),
            ("/a%252fb", PathFault::Ambiguous),
            ("/a;x=1/b", PathFault::Ambiguous),
            ("/a%00", PathFault::Ambiguous),
            ("/a%EF%BB%BF", PathFault::Ambiguous),
            ("/a%E2%80%8Bb", PathFault::Ambiguous),
            ("/a%CD%8Fb", PathFault::Ambiguous),
            ("/a%E1%A0%8Eb", PathFault::Ambiguous),
            ("/a%EF%B8%8F", PathFault::Ambiguous),
            ("/%F3%A0%81%81a", PathFault::Ambiguous),
            ("/a#b", PathFault::Ambiguous),
            ("/%ff", PathFault::Ambiguous),
            ("/a/../b", PathFault::Dots),
            ("/a/%2e%2E/b", PathFault::Dots),
            ("/a/./b", PathFault::Dots),
            ("/a/.. /b", PathFault::Dots),
            ("/a/.../b", PathFault::Dots),
            ("/a/%E2%80%A5/b", PathFault::Dots),
            ("/a/．．/b", PathFault::Dots),
            ("/a／b", PathFault::Ambiguous),
            ("/a＼b", PathFault::Ambiguous),
            ("http://h?/x", PathFault::Authority),
            ("http://h?x", PathFault::Authority),
            ("http://h#/x", PathFault::Authority),
            ("http://h\\a/x", PathFault::Authority),
            ("http://u@h/x", PathFault::Authority),
            ("http:///x", PathFault::Authority),
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
        let is = |path: &str, pattern| Path::parse(path).unwrap().read().is_of(pattern);
        assert!(is("/eem/clusters", "/eem/clusters") && is("/EEM/Clusters/", "/eem/clusters"));
        assert!(is("/eem/x", "/eem/*") && !is("/eem", "/eem/*") && !is("/eem/x/y", "/eem/*"));
        assert!(is("/eem", "/eem/**") && is("/eem/x/y", "/eem/**") && !is("/eemx", "/eem/**"));
        assert!(is("/", "/") && is("/", "/**") && is("/x/y", "/**") && !is("/x", "/"));
        assert!(is("/a/b/c", "/a/*/c") && !is("/a/b/d", "/a/*/c"));
    }

    #[test]
    fn an_encoded_slash_is_kept_in_its_segment_and_read_by_some_servers_as_any_other() {
        let path = Path::parse("/projects/group%2Fname%2fx/Issues").unwrap();
        assert_eq!([2, 3].map(|number| path.segment(number)), [Some("group/name/x"), Some("Issues")]);
        assert_eq!(path.to_string(), "/projects/group%2Fname%2Fx/Issues");
        assert!(path.read().is_of("/projects/*/issues") && !path.read().is_of("/projects/group/name/x/issues"));
        let split = Path::parse("/projects/group/name/x/Issues").unwrap();
        assert_eq!(path.splitting(), [split.read().clone()]);
        assert_eq!(path.others().collect::<Vec<_>>(), [split.read()]);
        assert!(path.keeping().is_empty() && split.splitting().is_empty());
        // Each further reading is split too.
        let shown = |reading: &Reading| Vec::from_iter(reading.segments()).join("|");
        let path = Path::parse("/a//b%2Fc.").unwrap();
        assert_eq!(path.splitting().iter().map(shown).collect::<Vec<_>>(), ["a|b|c.", "a||b|c.", "a|b|c", "a||b|c"]);
    }

    #[test]
    fn a_pattern_can_heed_the_case_of_letters() {
        let is = |path: &str, pattern| Path::parse(path).unwrap().read().is_exactly_of(pattern);
        assert!(is("/eem/X/y", "/eem/*/y") && is("/eem/a/b/", "/eem/**") && is("/", "/"));
        assert!(!is("/EEM/x", "/eem/*") && !is("/eem/x", "/eem/X") && !is("/eem", "/eem/*"));
    }

    #[test]
    fn a_segment_is_found_by_its_number() {
        let path = Path::parse("/api//Acme/x").unwrap();
        assert_eq!([0, 1, 2, 4].map(|number| path.segment(number)), [None, Some("api"), Some("Acme"), None]);
    }

    #[test]
    fn what_some_servers_read_instead_is_kept() {
        let others = |target: &str| {
            let path = Path::parse(target).unwrap();
            path.others().map(|other| format!("/{}", Vec::from_iter(other.segments()).join("/"))).collect::<Vec<_>>()
        };
        for (target, wanted) in [
            ("/a//b", &["/a//b"][..]),
            ("//a/b", &["//a/b", "/b"]),
            ("/a//", &["/a/"]),
            ("/console./x", &["/console/x"]),
            ("/console%20/x", &["/console/x"]),
            ("/%20console/x", &["/console/x"]),
            ("/con\u{17f}ole", &["/console"]),
            ("/\u{212a}eys", &["/Keys"]),
            ("/ｃonsole", &["/console"]),
            ("/ﬁles", &["/files"]),
            ("/admın", &["/admIn"]),
            ("/admİn", &["/admin"]),
            ("/a//b.", &["/a//b.", "/a/b", "/a//b"]),
        ] {
            assert_eq!(others(target), wanted, "{target}");
        }
        for plain in ["/", "//", "/a/", "/a.b/c.json", "/.well-known/x", "/a b", "/a?b=//c./d"] {
            assert_eq!(others(plain), Vec::<String>::new(), "{plain}");
        }
    }

    proptest! {
        #![proptest_config(crate::token::cases::so_many(4096))]

        #[test]
        fn no_path_panics_and_what_is_normal_stays_so(target in "(/|%2[fFeE5]|[.]{1,3}|[a-cA-C%;?# \\\\éſｃ．]|//){0,12}|.{0,40}") {
            let Ok(path) = Path::parse(&target) else { return Ok(()) };
            let written = path.to_string();
            let decoded = written.replace("%2F", "/");
            prop_assert!(decoded.split('/').all(|segment| segment != ".." && segment != "."), "{written}");
            prop_assert!(!decoded.contains(['\\', '%', '?', '#', ';']), "{written}");
            prop_assert_eq!(Path::parse(&written).map(|path| path.read), Ok(path.read));
        }

        #[test]
        fn an_encoded_slash_changes_one_reading_only_and_never_hides_a_part(
            parts in proptest::collection::vec("[a-c]{1,2}|[.]{1,2}|[a. ]{1,2}|é|", 1..6), slashes in any::<u8>(),
        ) {
            let slash = |at: usize| ["/", "%2F"][usize::from(slashes >> at & 1)];
            let written: String = parts.iter().enumerate().map(|(at, part)| slash(at).to_owned() + part).collect();
            let encoded = format!("/x{written}");
            let plain = Path::parse(&encoded.replace("%2F", "/"));
            let Ok(path) = Path::parse(&encoded) else { return Ok(()) };
            let plain = plain.expect("no encoded slash makes a path plain that is not");
            let is_encoded = encoded.contains("%2F");
            prop_assert_eq!(path.splitting().contains(plain.read()), is_encoded, "{} {:?}", encoded, path);
            // Each reading of the plain path is a reading of the encoded one, so no exclusion is avoided.
            let all: Vec<_> = path.others().chain([path.read()]).collect();
            prop_assert!(plain.others().all(|other| all.contains(&other)), "{} {:?}", encoded, path);
        }

        #[test]
        fn a_plain_path_is_read_like_any_other(path in "([a-zA-Z0-9_.%-]{0,3}/){0,3}[a-zA-Z0-9_.-]{0,4}") {
            let (quick, slow) = (Path::parse(&format!("/{path}/")), Path::odd(&path));
            prop_assert_eq!(quick.as_ref().map(Path::written).ok(), slow.as_ref().map(Path::written).ok());
            prop_assert_eq!(quick, slow);
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
