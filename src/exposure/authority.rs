//! The certificates by which clients verify an endpoint, from a Secret of type kubernetes.io/tls.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::crd::{
    Fault, Reason,
    instance::{CaSource, EndpointName, Trust},
    secret::{self, CaSecret},
};

/// The most bytes of `ca.crt`.
const MOST: usize = 64 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The first byte of a certificate: a SEQUENCE (X.690).
const SEQUENCE: u8 = 0x30;

/// The certificates in `found`, the Secret that `source` names, or the fault that keeps them from being used.
pub fn trust(name: EndpointName, source: &CaSource, found: Option<&CaSecret>) -> Result<Trust, Fault> {
    let secret = &source.secret_name;
    let Some(found) = found else {
        let message = format!("there is no Secret {secret} in this namespace; create it, or name another");
        return Err(fault(Reason::CaMissing, name, message));
    };
    let type_ = found.type_.as_deref().unwrap_or_default();
    if type_ != secret::TLS {
        let message = format!("Secret {secret} is of type {type_:?}, not {:?}; name one of that type", secret::TLS);
        return Err(fault(Reason::CaUnusable, name, message));
    }
    let unusable = |rule: &str| Err(fault(Reason::CaUnusable, name, format!("Secret {secret}: {rule}")));
    let Some(bytes) = found.ca() else {
        return unusable("it has no key ca.crt; add the certificates, or name another");
    };
    if bytes.len() > MOST {
        return unusable("ca.crt is longer than 64 KiB; shorten it");
    }
    match certificates(&bytes) {
        Some(ca_bundle) => Ok(Trust { name, secret_name: secret.to_string(), ca_bundle }),
        None => unusable("ca.crt does not hold certificates alone, in PEM form; correct it"),
    }
}

/// The fault that the operator may not read the Secret.
pub fn unreadable(name: EndpointName, source: &CaSource) -> Fault {
    let message = format!("the operator may not read Secret {}; give it the permission to get it", source.secret_name);
    fault(Reason::CaUnusable, name, message)
}

fn fault(reason: Reason, name: EndpointName, message: String) -> Fault {
    Fault::new(reason, format!("spec.manager.endpoints[{}].ca.secretName", name.as_str()), message)
}

/// The certificates in a PEM text (RFC 7468), without the text between them. `None` if there are none, if one cannot be
/// read, or if there is anything else, such as a private key.
fn certificates(pem: &[u8]) -> Option<String> {
    let (mut found, mut open) = (String::new(), None::<String>);
    for line in std::str::from_utf8(pem).ok()?.lines().map(str::trim) {
        match (&mut open, line) {
            (None, BEGIN) => open = Some(String::new()),
            (None, line) if line.starts_with("-----") => return None,
            (None, _) => {}
            (Some(body), END) => {
                let der = STANDARD.decode(body.replace('\n', "")).ok()?;
                der.starts_with(&[SEQUENCE]).then_some(())?;
                found.extend([BEGIN, "\n", body, END, "\n"]);
                open = None;
            }
            (Some(body), line) => body.extend([line, "\n"]),
        }
    }
    Some(found).filter(|found| open.is_none() && !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMAMC\nAQE=\n-----END CERTIFICATE-----\n";
    const OTHER: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQI=\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAMCAQI=\n-----END PRIVATE KEY-----\n";

    fn source() -> CaSource {
        serde_json::from_value(json!({"secretName": "admin-tls"})).unwrap()
    }

    fn read(type_: &str, data: Value) -> Result<String, (Reason, String)> {
        let secret = serde_json::from_value(json!({"type": type_, "data": data})).unwrap();
        let read = trust(EndpointName::Admin, &source(), Some(&secret));
        read.map(|trust| trust.ca_bundle).map_err(|fault| (fault.reason, fault.to_string()))
    }

    fn of(text: impl AsRef<[u8]>) -> Result<String, (Reason, String)> {
        read(secret::TLS, json!({"ca.crt": STANDARD.encode(text)}))
    }

    #[test]
    fn certificates_alone_are_taken_as_they_are() {
        assert_eq!(of(ONE).unwrap(), ONE);
        assert_eq!(of(format!("{ONE}{OTHER}")).unwrap(), format!("{ONE}{OTHER}"));
        let noted = format!("# the root\r\n{}", ONE.replace('\n', "\r\n"));
        assert_eq!(of(noted).unwrap(), ONE, "what is between them is left out");
    }

    #[test]
    fn each_other_content_is_a_fault_in_words_that_repeats_none_of_it() {
        let unfinished = ONE.replace("-----END CERTIFICATE-----", "");
        let no_base64 = ONE.replace("MAMC", "MA*C");
        let no_certificate = ONE.replace("MAMC", "AAMC");
        let with_key = format!("{ONE}{KEY}");
        let within = ONE.replace("AQE=", KEY);
        for text in ["", "abc", KEY, &with_key, &within, &unfinished, &no_base64, &no_certificate] {
            let (reason, message) = of(text).unwrap_err();
            assert_eq!(reason, Reason::CaUnusable, "{text}");
            assert!(
                message.starts_with("spec.manager.endpoints[admin].ca.secretName: Secret admin-tls: "),
                "{message}"
            );
            assert!(!message.contains("MAMC"), "{message}");
        }
        assert_eq!(of([0xff, 0xfe]).unwrap_err().0, Reason::CaUnusable);
    }

    #[test]
    fn a_text_is_bounded() {
        let many = ONE.repeat(MOST / ONE.len());
        assert_eq!(of(&many).unwrap(), many);
        assert!(of(many + ONE).unwrap_err().1.ends_with("ca.crt is longer than 64 KiB; shorten it"));
    }

    #[test]
    fn a_secret_that_is_missing_or_of_another_type_is_a_fault() {
        let missing = trust(EndpointName::Admin, &source(), None).unwrap_err();
        assert_eq!(missing.reason, Reason::CaMissing);
        let opaque = read("Opaque", json!({"ca.crt": STANDARD.encode(ONE)})).unwrap_err();
        assert_eq!(opaque.0, Reason::CaUnusable);
        assert!(opaque.1.contains(r#"is of type "Opaque", not "kubernetes.io/tls""#), "{}", opaque.1);
        assert_eq!(read(secret::TLS, json!({})).unwrap_err().0, Reason::CaUnusable);
        assert_eq!(unreadable(EndpointName::Admin, &source()).reason, Reason::CaUnusable);
    }
}
