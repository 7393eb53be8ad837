//! The certificates and keys of one control plane.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

use crate::Error;

/// The certificate authority of one control plane.
pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

/// The certificates of one control plane, signed by its own certificate authority. So clients verify the API server as
/// they do in other clusters.
pub(crate) struct Certificates {
    pub authority: Authority,
    pub ca_pem: String,
    pub ca_der: Vec<u8>,
    pub server_pem: String,
    pub server_key: String,
    /// The key that signs the tokens of ServiceAccounts.
    pub service_account_key: String,
    /// The key that verifies these tokens. The API server does not derive it from the signing key.
    pub service_account_public: String,
}

impl Certificates {
    pub(crate) fn generate() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "control plane CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
        let (server_pem, server_key) = certificate(&ca, "kube-apiserver", &names)?;

        let service_account_key = KeyPair::generate()?;

        Ok(Self {
            ca_pem: ca.pem(),
            ca_der: ca.der().to_vec(),
            server_pem,
            server_key,
            service_account_key: service_account_key.serialize_pem(),
            service_account_public: service_account_key.public_key_pem(),
            authority: ca,
        })
    }
}

/// A certificate of a server with these host names, and its key, as PEM.
pub(crate) fn certificate(authority: &Authority, common: &str, hosts: &[&str]) -> Result<(String, String), Error> {
    let mut params = CertificateParams::new(hosts.iter().copied().map(String::from).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, common);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, authority)?.pem(), key.serialize_pem()))
}
