//! A certificate authority of a test, and certificates of it for this machine.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::kafka::unique;

/// An authority that nobody trusts unless told to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM: what a client trusts.
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Issuers are found by name: each has its own, and none that of a certificate.
        params.distinguished_name.push(DnType::CommonName, unique("authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A new certificate for 127.0.0.1 and localhost, and its key, in PEM.
    pub(crate) fn certificate(&self) -> (String, String) {
        self.certificate_for(&["127.0.0.1", "localhost"])
    }

    /// A new certificate for these names and addresses, and its key, in PEM.
    fn certificate_for(&self, names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        (chain, key.serialize_pem())
    }

    /// The manifest of a Secret with a new certificate for 127.0.0.1 and localhost.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> String {
        manifest(namespace, name, self.certificate())
    }

    /// The manifest of a Secret with a new certificate for these names and addresses.
    pub(crate) fn secret_for(&self, namespace: &str, name: &str, hosts: &[&str]) -> String {
        manifest(namespace, name, self.certificate_for(hosts))
    }
}

fn manifest(namespace: &str, name: &str, (chain, key): (String, String)) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indented(&chain),
        indented(&key)
    )
}

/// PEM as a block of a manifest's `stringData`.
pub(crate) fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}
