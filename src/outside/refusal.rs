//! What the API server answers when it does not do as asked.

use kube::core::Status;

use crate::token::format;

/// Why a read or a write was not done, in the classes that make a difference.
///
/// Its texts never hold a token: an answer that quotes one has it cut out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The object is not what was seen, or exists already: look again.
    #[error("the object changed in the meantime")]
    Stale,
    /// The object breaks a rule of the API server or of an admission policy.
    #[error("refused as invalid: {0}")]
    Invalid(String),
    /// The operator lacks a right, or an admission policy denies it.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The object, or its kind, does not exist.
    #[error("not found")]
    Gone,
    /// No answer, or one that does not say whether it was done.
    #[error("the API server is not available: {0}")]
    Unavailable(String),
}

impl Refusal {
    /// The way it failed, as its text begins: the rest can differ from one try to the next.
    pub fn way(&self) -> &'static str {
        match self {
            Self::Stale => "the object changed",
            Self::Invalid(_) => "refused as invalid",
            Self::Forbidden(_) => "forbidden",
            Self::Gone => "not found",
            Self::Unavailable(_) => "the API server is not available",
        }
    }

    /// Whether a write that was answered so certainly did not take place.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Stale | Self::Invalid(_) | Self::Forbidden(_) | Self::Gone => true,
            Self::Unavailable(_) => false,
        }
    }

    fn of_status(status: &Status) -> Self {
        let message = || format::redact(&status.message).into_owned();
        match status.code {
            404 | 410 => Self::Gone,
            409 => Self::Stale,
            401 | 403 => Self::Forbidden(message()),
            400 | 405 | 413 | 415 | 422 => Self::Invalid(message()),
            _ => Self::Unavailable(message()),
        }
    }
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(&status),
            // The parser's text can quote what it read.
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
                Self::Unavailable("its reply could not be read".into())
            }
            other => Self::Unavailable(format::redact(&with_causes(&other)).into_owned()),
        }
    }
}

/// An error with what caused it, as far as it does not say that itself.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let (mut told, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let told = with_causes(&kube::Error::Service(Box::new(std::io::Error::other(refused))));
        assert_eq!(told, "ServiceError: connection refused");
    }

    #[test]
    fn answers_fall_into_the_classes_that_make_a_difference() {
        let of = |code| Refusal::of_status(&Status { code, message: "m".into(), ..Status::default() });
        assert_eq!(of(409), Refusal::Stale);
        assert_eq!(of(404), Refusal::Gone);
        assert_eq!(of(403), Refusal::Forbidden("m".into()));
        assert_eq!(of(422), Refusal::Invalid("m".into()));
        for code in [429, 500, 503, 504] {
            assert!(!of(code).is_definite(), "{code} does not say whether it was done");
        }
    }

    #[test]
    fn every_text_begins_with_its_way() {
        let text = || "m".to_owned();
        for refusal in [
            Refusal::Stale,
            Refusal::Invalid(text()),
            Refusal::Forbidden(text()),
            Refusal::Gone,
            Refusal::Unavailable(text()),
        ] {
            assert!(refusal.to_string().starts_with(refusal.way()), "{refusal}");
        }
    }

    #[test]
    fn a_reply_that_cannot_be_read_is_not_quoted() {
        let error = serde_json::from_str::<u8>("\"secret\"").unwrap_err();
        assert!(error.to_string().contains("secret"));
        assert!(!Refusal::from(kube::Error::SerdeError(error)).to_string().contains("secret"));
    }

    #[test]
    fn a_token_that_an_answer_quotes_is_cut_out() {
        let token = format::assemble("tkn", &"i".repeat(16), &"s".repeat(43));
        let status = Status { code: 422, message: format!("bad: {}", token.expose()), ..Status::default() };
        assert_eq!(Refusal::of_status(&status), Refusal::Invalid("bad: [token]".into()));
    }
}
