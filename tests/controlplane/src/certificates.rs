//! The certificates and keys of one control plane.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

use crate::Error;

/// The certificates of one control plane, signed by its own certificate authority. So clients verify the API server as
/// they do in other clusters.
pub(crate) struct Certificates {
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

        // Proxies of tests serve hosts of the domain with this certificate too.
        let names = ["localhost", "127.0.0.1", "kubernetes.default.svc", "*.example.com"].map(String::from);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let server = params.signed_by(&server_key, &ca)?;

        let service_account_key = KeyPair::generate()?;

        Ok(Self {
            ca_pem: ca.pem(),
            ca_der: ca.der().to_vec(),
            server_pem: server.pem(),
            server_key: server_key.serialize_pem(),
            service_account_key: service_account_key.serialize_pem(),
            service_account_public: service_account_key.public_key_pem(),
        })
    }
}
