//! The plaintext of a token.

use secrecy::{ExposeSecret, SecretString};

use super::Digest;

/// The plaintext of one generation. It is in memory from the mint until it is written to the Secret.
///
/// A plaintext cannot be printed or serialized. Its memory is zeroed when it is dropped.
///
/// ```compile_fail
/// fn print(plaintext: &tokenry::token::Plaintext) {
///     println!("{plaintext}");
/// }
/// ```
/// ```compile_fail
/// fn debug(plaintext: &tokenry::token::Plaintext) {
///     println!("{plaintext:?}");
/// }
/// ```
/// ```compile_fail
/// fn serialize(plaintext: &tokenry::token::Plaintext) {
///     serde_json::to_string(plaintext).unwrap();
/// }
/// ```
pub struct Plaintext(SecretString);

impl Plaintext {
    pub(super) fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The characters of the plaintext. No other method gives them out. Only the digest and the content of the Secret
    /// need them.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The digest of the plaintext.
    pub fn digest(&self) -> Digest {
        Digest::of(self.expose())
    }
}
