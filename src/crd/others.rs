//! The fields of a status that the operator does not write.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The fields of a status that the operator does not write: those of another writer, and those that this release does
/// not know. The operator sends them back unchanged.
///
/// Only fields at the top of a status are kept, not fields inside objects that the operator writes. So a later release
/// must add its fields at the top. They are kept as JSON text, because a map needs ten times the memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Others(Option<Box<str>>);

impl Others {
    /// The fields by name. Empty if there are none.
    fn fields(&self) -> Map<String, Value> {
        self.0.as_ref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The fields of `T`. The default of `T` if one of them cannot be read.
    pub fn read<T: DeserializeOwned + Default>(&self) -> T {
        self.0.as_ref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// Prints only the names of the fields, because the values of a later release may be confidential.
impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.fields().keys()).finish()
    }
}

impl Serialize for Others {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::<String, Value>::deserialize(deserializer)?;
        let text = |fields: &Map<String, Value>| serde_json::to_string(fields).ok().map(String::into_boxed_str);
        Ok(Self((!fields.is_empty()).then(|| text(&fields)).flatten()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::api_token::ApiTokenStatus;

    #[test]
    fn fields_of_others_are_sent_back_as_they_were_read() {
        let others = json!({
            "use": [{"generation": 1, "firstUsedAt": "2026-01-01T00:00:00.123456Z", "lastUsedAt": "odd", "later": 1.0}],
            "ofALaterRelease": {"deep": [null, 1e3, "x"]},
        });
        let mut status = others.clone();
        status["lastGeneration"] = json!(7);
        let read: ApiTokenStatus = serde_json::from_value(status.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), status);
        assert_eq!(read.last_generation, Some(7));
        let none: ApiTokenStatus = serde_json::from_value(json!({"lastGeneration": 7})).unwrap();
        assert_eq!(none.others, Others::default());
        assert_ne!(none, read);
    }
}
