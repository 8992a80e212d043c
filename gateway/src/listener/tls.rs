//! TLS of a listener: the certificate in force, swapped while clients stay connected.

use std::sync::Arc;

use aldis_crds::contract::Certificate;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// WebSocket upgrades are HTTP/1.1: a browser that is offered HTTP/2 would have to open a second connection for them.
const ALPN: [&[u8]; 1] = [b"http/1.1"];

/// Why a certificate can not be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// Not PEM, or nothing in it.
    #[error("tls.crt holds no certificate in PEM")]
    NoCertificate,
    /// Not PEM, or nothing in it.
    #[error("tls.key holds no private key in PEM")]
    NoKey,
    /// The key is of another certificate, or of a kind that is not known.
    #[error("tls.crt and tls.key do not fit: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// What handshakes are answered with. Connections that are there keep what they began with.
pub struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    /// What the current one was made of.
    source: Certificate,
}

struct Current(ArcSwap<CertifiedKey>);

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current(…)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// TLS 1.2 and 1.3 with this certificate; sessions are resumed by tickets of this process.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn new(certificate: &Certificate) -> Result<Self, BadCertificate> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = Arc::new(Current(ArcSwap::from_pointee(certified(certificate, &provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        Ok(Self {
            config: Arc::new(config),
            current,
            source: certificate.clone(),
        })
    }

    /// The same with another certificate, for handshakes from now on. Whether it is another at all.
    ///
    /// # Errors
    /// [`BadCertificate`]: the one before stays.
    pub fn renewed(&self, certificate: &Certificate) -> Result<Option<Self>, BadCertificate> {
        if *certificate == self.source {
            return Ok(None);
        }
        self.current
            .0
            .store(Arc::new(certified(certificate, self.config.crypto_provider())?));
        Ok(Some(Self {
            config: Arc::clone(&self.config),
            current: Arc::clone(&self.current),
            source: certificate.clone(),
        }))
    }

    /// For a handshake.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.config).into()
    }
}

fn certified(certificate: &Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, BadCertificate> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.chain.expose())
        .collect::<Result<_, _>>()
        .map_err(|_| BadCertificate::NoCertificate)?;
    if chain.is_empty() {
        return Err(BadCertificate::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(certificate.key.expose()).map_err(|_| BadCertificate::NoKey)?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}
