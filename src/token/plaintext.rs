//! The value itself.

use secrecy::{ExposeSecret, SecretString};

use super::Digest;

/// One minted value, from the mint to the Secret.
///
/// It can be neither printed nor serialized, and its memory is zeroed when it is dropped:
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

    /// The value in the clear. The one door out: its callers are the digest and the body of the Secret.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is kept of the value.
    pub fn digest(&self) -> Digest {
        Digest::of(self.expose())
    }
}
