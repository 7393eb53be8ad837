//! The search for values where none may be.

use std::collections::BTreeSet;

use base64::Engine;
use serde_json::Value;

use crate::Told;

/// The values that were seen in Secrets. A value ends with a word that only it has, and the search finds that word
/// alone too.
#[derive(Default)]
pub struct Leaks {
    secrets: BTreeSet<String>,
    /// The length of all searched texts, in bytes.
    searched: usize,
    found: BTreeSet<String>,
}

impl Leaks {
    /// Remembers the values that these Secrets hold.
    pub fn learn(&mut self, secrets: &Value) -> Told {
        for secret in secrets["items"].as_array().into_iter().flatten() {
            if let Some(value) = secret["data"]["token"].as_str() {
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(value).map_err(|error| error.to_string())?;
                let value = String::from_utf8(bytes).map_err(|error| error.to_string())?;
                self.secrets.extend(value.rsplit('_').next().map(str::to_owned));
            }
        }
        Ok(())
    }

    /// Searches a text. `place` names it for the message of [`Leaks::none`].
    pub fn search(&mut self, place: &str, text: &str) {
        self.searched += text.len();
        let mut words = text.split(|character: char| !character.is_ascii_alphanumeric());
        if words.any(|word| self.secrets.contains(word)) {
            self.found.insert(place.to_owned());
        }
    }

    /// Fails if a value was found. Returns a summary.
    pub fn none(&self) -> Told<String> {
        let (count, searched) = (self.secrets.len(), self.searched);
        if count == 0 || searched == 0 {
            return Err(format!("{count} values were searched in {searched} bytes, which proves nothing"));
        }
        if self.found.is_empty() {
            Ok(format!("none of {count} values is in {searched} bytes of logs, metrics and objects"))
        } else {
            Err(format!("values are in {:?}", self.found))
        }
    }
}

#[test]
fn a_value_is_found_also_without_its_prefix() {
    let mut leaks = Leaks::default();
    assert!(leaks.none().unwrap_err().contains("proves nothing"));
    let value = base64::engine::general_purpose::STANDARD.encode("tkn_7Hq0x_SECRETsum");
    leaks.learn(&serde_json::json!({"items": [{"data": {"token": value}}, {"data": null}]})).unwrap();
    leaks.search("a log", "tkn_7Hq0x is an id, and SECRET is a word");
    assert!(leaks.none().unwrap().starts_with("none of 1 values"));
    leaks.search("an object", r#"{"message": "SECRETsum"}"#);
    assert_eq!(leaks.none().unwrap_err(), r#"values are in {"an object"}"#);
}
