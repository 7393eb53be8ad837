//! Makes keys and certificates, and checks them.
//!
//! Serial numbers come from [`Entropy`]. Keys and signatures do not: rcgen draws them by aws-lc-rs, which takes no
//! other source than that of the operating system.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};
use tokio_rustls::rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::Entropy;

/// The span in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first instant.
    pub from: Timestamp,
    /// The last instant.
    pub until: Timestamp,
}

/// The longest warning before the end of a certificate.
const WARNED: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Period {
    /// True if `at` is within the span.
    pub fn contains(&self, at: Timestamp) -> bool {
        (self.from..self.until).contains(&at)
    }

    /// True if less than a third of the span is left at `now`, and less than 30 days. A renewal at exactly that instant
    /// is in time, so a thirtieth of this rest is left out.
    pub fn ends_soon(&self, now: Timestamp) -> bool {
        let rest = (self.until.duration_since(self.from) / 3).min(WARNED);
        now >= self.until.saturating_sub(rest - rest / 30).unwrap_or(self.until)
    }
}

/// A certificate and its private key, in PEM form. The key is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyedCertificate {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: Zeroizing<String>,
}

impl fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The reason why no certificate was made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct NotIssued(String);

impl NotIssued {
    /// The authority has no certificate that can be read.
    pub(crate) fn unreadable() -> Self {
        Self("the certificate of its authority cannot be read".to_owned())
    }

    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl KeyedCertificate {
    /// A new certificate authority. It signs servers, and no other authority.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn authority(entropy: &dyn Entropy, period: Period) -> Result<Self, NotIssued> {
        let serial = serial(entropy)?;
        // A client with two authorities of one name would try the wrong one.
        let name =
            format!("tokenry verifier CA {}", serial.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let mut params = params(&[], &name, &serial, period)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()?).map_err(NotIssued::of)?;
        Ok(Self { certificate: issuer.pem(), key: Zeroizing::new(issuer.key().serialize_pem()) })
    }

    /// A new certificate of a server with these DNS names, signed by this authority.
    ///
    /// # Errors
    /// There are no random bytes, or a name is no DNS name.
    pub fn sign(&self, entropy: &dyn Entropy, names: &[String], period: Period) -> Result<Self, NotIssued> {
        let signer = KeyPair::from_pem(&self.key).map_err(NotIssued::of)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, signer).map_err(NotIssued::of)?;
        let mut params = params(names, "tokenry verifier", &serial(entropy)?, period)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = key()?;
        let certificate = params.signed_by(&key, &issuer).map_err(NotIssued::of)?;
        Ok(Self { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
    }

    /// The span in which the certificate is valid. `None` if it cannot be read, or if the key is not its key.
    pub fn period(&self) -> Option<Period> {
        let (chain, _) = self.pair()?;
        period_of_der(chain.first()?)
    }

    /// True if a client that trusts the certificates in the PEM text `bundle` alone accepts the server under all of
    /// `names` at `now`.
    pub fn serves(&self, bundle: &str, names: &[String], now: Timestamp) -> bool {
        let Some((chain, provider)) = self.pair() else { return false };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle.as_bytes()).map_while(Result::ok));
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let (Ok(verifier), [leaf, rest @ ..]) = (verifier, &*chain) else { return false };
        let now = UnixTime::since_unix_epoch(since_epoch(now));
        names.iter().all(|name| {
            let name = ServerName::try_from(&**name);
            name.is_ok_and(|name| verifier.verify_server_cert(leaf, rest, &name, &[], now).is_ok())
        })
    }

    /// The certificate in the PEM text `bundle` by which a client accepts the server, as [`serves`](Self::serves) does.
    /// `None` if there is none.
    pub fn authority_in(&self, bundle: &str, names: &[String], now: Timestamp) -> Option<String> {
        each_pem(bundle).find(|authority| self.serves(authority, names, now))
    }

    /// The chain, if the key is that of its first certificate.
    fn pair(&self) -> Option<(Vec<CertificateDer<'static>>, Arc<tokio_rustls::rustls::crypto::CryptoProvider>)> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()?;
        let provider = Arc::new(default_provider());
        CertifiedKey::from_der(chain.clone(), key, &provider).ok()?;
        Some((chain, provider))
    }
}

/// The span in which the first certificate of a PEM text is valid. `None` if it cannot be read.
pub fn period_of_pem(certificate: &str) -> Option<Period> {
    period_of_der(&CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?)
}

/// True if both PEM texts have a certificate in common.
pub fn share_a_certificate(one: &str, other: &str) -> bool {
    let of_other: Vec<_> = each_pem(other).collect();
    each_pem(one).any(|certificate| of_other.contains(&certificate))
}

/// The certificates of a PEM text, up to the first that cannot be read. Each has the form in which they are made here.
fn each_pem(text: &str) -> impl Iterator<Item = String> {
    let all = CertificateDer::pem_slice_iter(text.as_bytes()).map_while(Result::ok);
    all.map(|certificate| {
        let encoded = STANDARD.encode(&certificate);
        // Base64 is ASCII, so no character is cut.
        let lines = (0..encoded.len()).step_by(64).map(|at| &encoded[at..encoded.len().min(at + 64)]);
        let lines = lines.collect::<Vec<_>>().join("\n");
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    })
}

/// The span in which a certificate is valid. `None` if it cannot be read.
pub(super) fn period_of_der(certificate: &CertificateDer<'_>) -> Option<Period> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = read.validity();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some(Period { from: at(validity.not_before)?, until: at(validity.not_after)? })
}

fn params(names: &[String], name: &str, serial: &[u8], period: Period) -> Result<CertificateParams, NotIssued> {
    let mut params = CertificateParams::new(names).map_err(NotIssued::of)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(period.from);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(period.until);
    Ok(params)
}

/// A positive number of 127 bits (RFC 5280, section 4.1.2.2).
fn serial(entropy: &dyn Entropy) -> Result<[u8; 16], NotIssued> {
    let mut serial = [0; 16];
    entropy.fill(&mut serial).map_err(NotIssued::of)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

fn key() -> Result<KeyPair, NotIssued> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(NotIssued::of)
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{NoRandomness, SystemEntropy, entropy::Seeded};
    use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

    fn days(count: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + count * 86_400).unwrap()
    }

    fn period(from: i64, until: i64) -> Period {
        Period { from: days(from), until: days(until) }
    }

    fn names() -> Vec<String> {
        ["v", "v.ns", "v.ns.svc", "v.ns.svc.cluster.local"].map(str::to_owned).to_vec()
    }

    /// The contents of the extensions, as text.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the enums are those of a library, with many variants")]
    fn extensions(certificate: &X509Certificate<'_>) -> Vec<String> {
        let told = |extension: &ParsedExtension<'_>| match extension {
            ParsedExtension::BasicConstraints(it) => format!("ca {} {:?}", it.ca, it.path_len_constraint),
            ParsedExtension::KeyUsage(it) => format!("usage {it}"),
            ParsedExtension::ExtendedKeyUsage(it) => format!("server {} client {}", it.server_auth, it.client_auth),
            ParsedExtension::SubjectAlternativeName(it) => {
                let dns = it.general_names.iter().map(|name| match name {
                    GeneralName::DNSName(name) => *name,
                    _ => "?",
                });
                format!("names {}", dns.collect::<Vec<_>>().join(" "))
            }
            _ => String::new(),
        };
        let mut all: Vec<_> = certificate.extensions().iter().map(|it| told(it.parsed_extension())).collect();
        all.retain(|text| !text.is_empty());
        all.sort();
        all
    }

    #[test]
    fn the_fields_of_both_certificates_are_those_of_their_purpose() {
        let authority = KeyedCertificate::authority(&SystemEntropy, period(0, 1800)).unwrap();
        let leaf = authority.sign(&SystemEntropy, &names(), period(1, 91)).unwrap();
        let [of_authority, of_leaf] =
            [&authority, &leaf].map(|pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap());
        let (_, authority) = X509Certificate::from_der(&of_authority).unwrap();
        let (_, leaf) = X509Certificate::from_der(&of_leaf).unwrap();
        assert_eq!(extensions(&authority), ["ca true Some(0)", "usage Key Cert Sign, CRL Sign"]);
        let dns = "names v v.ns v.ns.svc v.ns.svc.cluster.local";
        assert_eq!(extensions(&leaf), ["ca false None", dns, "server true client false", "usage Digital Signature"]);
        assert_eq!(leaf.issuer(), authority.subject());
        for certificate in [&authority, &leaf] {
            // id-ecPublicKey with prime256v1 (RFC 5480).
            let algorithm = &certificate.public_key().algorithm;
            assert_eq!(algorithm.algorithm.to_id_string(), "1.2.840.10045.2.1");
            let curve = algorithm.parameters.as_ref().unwrap().as_oid().unwrap();
            assert_eq!(curve.to_id_string(), "1.2.840.10045.3.1.7");
        }
    }

    #[test]
    fn a_client_accepts_it_by_its_authority_under_its_names_in_its_time() {
        let [authority, other] =
            [(); 2].map(|()| KeyedCertificate::authority(&SystemEntropy, period(0, 1800)).unwrap());
        let leaf = authority.sign(&SystemEntropy, &names(), period(1, 91)).unwrap();
        assert_eq!((authority.period(), leaf.period()), (Some(period(0, 1800)), Some(period(1, 91))));
        assert_eq!(period_of_pem(&leaf.certificate), Some(period(1, 91)));
        let bundle = format!("{}{}", other.certificate, authority.certificate);
        for (trusted, asked, at, accepted) in [
            (&authority.certificate, names(), 2, true),
            (&bundle, names(), 2, true),
            (&other.certificate, names(), 2, false),
            (&bundle, vec!["w".to_owned()], 2, false),
            (&bundle, names(), 0, false),
            (&bundle, names(), 92, false),
        ] {
            assert_eq!(leaf.serves(trusted, &asked, days(at)), accepted, "{asked:?} {at}");
        }
        let foreign = KeyedCertificate { key: other.key.clone(), ..leaf };
        assert_eq!((foreign.period(), foreign.serves(&bundle, &names(), days(2))), (None, false));
    }

    #[test]
    fn the_authority_of_a_certificate_is_found_in_a_bundle_in_the_form_in_which_it_was_made() {
        let [authority, other] =
            [(); 2].map(|()| KeyedCertificate::authority(&SystemEntropy, period(0, 1800)).unwrap());
        let leaf = authority.sign(&SystemEntropy, &names(), period(1, 91)).unwrap();
        let bundle = format!("{}# another\r\n{}", other.certificate, authority.certificate.replace('\n', "\r\n"));
        assert_eq!(leaf.authority_in(&bundle, &names(), days(2)).as_ref(), Some(&authority.certificate));
        for (bundle, day) in [(&*other.certificate, 2), ("", 2), ("-----BEGIN", 2), (&*bundle, 0)] {
            assert_eq!(leaf.authority_in(bundle, &names(), days(day)), None, "{bundle} on day {day}");
        }
        assert!(share_a_certificate(&bundle, &authority.certificate));
        assert!(!share_a_certificate(&other.certificate, &authority.certificate) && !share_a_certificate("", ""));
    }

    #[test]
    fn an_end_is_near_in_the_last_third_and_in_the_last_thirty_days_and_not_at_the_moment_of_a_renewal() {
        let hours = |count| days(0) + SignedDuration::from_hours(count);
        for (length, near) in [(90 * 24, 61 * 24), (30 * 24, 20 * 24 + 8), (3 * 24, 49), (1800 * 24, 1771 * 24)] {
            let period = Period { from: days(0), until: hours(length) };
            assert!(!period.ends_soon(hours(near - 1)), "{length} hours");
            assert!(period.ends_soon(hours(near)), "{length} hours");
        }
        assert!(period(0, 90).contains(days(0)) && !period(0, 90).contains(days(90)));
    }

    #[test]
    fn serial_numbers_come_from_the_entropy_and_without_it_nothing_is_made() {
        struct Empty;
        impl Entropy for Empty {
            fn fill(&self, _: &mut [u8]) -> Result<(), NoRandomness> {
                Err(NoRandomness("empty".into()))
            }
        }
        let number = |seed| {
            let made = KeyedCertificate::authority(&Seeded::new(seed), period(0, 1)).unwrap();
            let der = CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap();
            X509Certificate::from_der(&der).unwrap().1.raw_serial().to_vec()
        };
        assert_eq!(number(7), number(7));
        assert_ne!(number(7), number(8));
        assert!(KeyedCertificate::authority(&Empty, period(0, 1)).is_err());
    }

    #[test]
    fn a_key_is_not_printed() {
        let made = KeyedCertificate::authority(&SystemEntropy, period(0, 1)).unwrap();
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
