//! Names and their comments, as the source says them.

use std::{fs, path::Path};

/// Something that is named in the source.
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its value, such as that of a constant; may be empty.
    pub value: String,
    /// Its comment.
    pub about: String,
    /// The plain comment (`// …`) above the group that it is in; may be empty.
    pub group: String,
}

/// The variants with a comment that are declared behind `opening`, such as `pub enum Cause`.
pub fn variants(root: &Path, file: &str, opening: &str) -> Vec<Named> {
    let text = read(root, file);
    let (_, body) = text.split_once(&format!("\n{opening} {{\n")).unwrap_or_else(|| panic!("no {opening} in {file}"));
    let (body, _) = body.split_once("\n}").expect("the declaration ends");
    let all = named(body, |line| {
        let name: String = line.chars().take_while(|c| c.is_alphanumeric()).collect();
        Some((name, String::new()))
    });
    all.into_iter().filter(|one| !one.about.is_empty()).collect()
}

/// The public text constants of a file.
pub fn constants(root: &Path, file: &str) -> Vec<Named> {
    named(&read(root, file), |line| {
        let (name, value) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
        Some((name.to_owned(), value.trim_end_matches("\";").to_owned()))
    })
}

fn read(root: &Path, file: &str) -> String {
    let path = root.join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The results of `find` in the lines, each with the comment right above it.
fn named(text: &str, find: impl Fn(&str) -> Option<(String, String)>) -> Vec<Named> {
    let (mut about, mut group, mut found) = (String::new(), String::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            about.push_str(comment);
            about.push('\n');
        } else if let Some(comment) = line.strip_prefix("// ") {
            group = comment.to_owned();
        } else {
            if !line.is_empty() && !line.starts_with('#') {
                let of = |(name, value)| Named { name, value, about: about.clone(), group: group.clone() };
                found.extend(find(line).map(of));
            }
            about.clear();
        }
    }
    found
}
