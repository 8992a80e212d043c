//! egress: HTTP requests to what tenants have written, so guarded that a hostile server harms nobody.
//!
//! ```text
//! URL granted? → look its name up → which of its addresses are granted? → connect to those, no others → GET
//! ```
//! No redirects, no proxy, no connection kept, bounds on time and bytes. A name is looked up once, so it can not change its
//! mind between the check and the connection.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aldis_core::egress::{Denied, Egress};
use anyhow::Context as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::OwnedSemaphorePermit;
use url::{Host, Url};

/// How long a request may take, from the look-up of its name to the last byte. 5 s: what a client waits for.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take, TLS included. 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Most addresses of a name that are tried. 8.
const MAX_ADDRESSES: usize = 8;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The egress grants do not cover it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The name has no address.
    #[error("its name can not be looked up: {0}")]
    Lookup(io::Error),
    /// Nobody answers, or not in HTTP or TLS.
    #[error("it can not be reached: {0}")]
    Unreachable(String),
    /// [`REQUEST_TIMEOUT`] has passed.
    #[error("it has not answered within {REQUEST_TIMEOUT:?}")]
    Timeout,
    /// Any other status than 200. Redirects are not followed.
    #[error("it answers with status {0}")]
    Status(u16),
    /// More bytes than are read.
    #[error("its answer has more than {0} bytes")]
    TooLarge(usize),
}

impl RequestError {
    /// As metrics name it.
    pub fn as_str(&self) -> &'static str {
        match self {
            RequestError::Denied(_) => "denied",
            RequestError::Lookup(_) => "lookup",
            RequestError::Unreachable(_) => "unreachable",
            RequestError::Timeout => "timeout",
            RequestError::Status(300..400) => "redirect",
            RequestError::Status(_) => "status",
            RequestError::TooLarge(_) => "too_large",
        }
    }
}

/// One request at a time of those that a tenant may have. Shared with the look-up of a name, which outlives its request
/// where a name server is slow.
pub type Place = Arc<OwnedSemaphorePermit>;

/// Makes requests.
pub struct Http {
    tls: rustls::ClientConfig,
}

impl Http {
    /// Trusts what the system trusts.
    ///
    /// # Errors
    /// Where the system's certificates can not be read.
    pub fn new() -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .context("the system's certificates can not be read")?;
        Ok(Self {
            tls: tls.with_no_client_auth(),
        })
    }

    /// The body of `url`, at most `max_bytes` of it.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(
        &self,
        url: &Url,
        egress: &Egress,
        max_bytes: usize,
        place: Place,
    ) -> Result<Vec<u8>, RequestError> {
        egress.check_url(url)?;
        let answer = async {
            let addresses = granted(url, egress, look_up(url, place).await?)?;
            self.ask(url, addresses, max_bytes).await
        };
        tokio::time::timeout(REQUEST_TIMEOUT, answer)
            .await
            .unwrap_or(Err(RequestError::Timeout))
    }

    async fn ask(&self, url: &Url, addresses: Vec<SocketAddr>, max_bytes: usize) -> Result<Vec<u8>, RequestError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(Pinned(addresses)))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent("aldis")
            .build()
            .map_err(unreachable)?;
        let mut response = client.get(url.clone()).send().await.map_err(unreachable)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(RequestError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > max_bytes {
                return Err(RequestError::TooLarge(max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The innermost cause, without the URL: it may hold what is not for logs.
fn unreachable(error: reqwest::Error) -> RequestError {
    if error.is_timeout() {
        return RequestError::Timeout;
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    RequestError::Unreachable(cause.to_string())
}

/// The addresses of a URL's host, by the system's resolver.
async fn look_up(url: &Url, place: Place) -> Result<Vec<SocketAddr>, RequestError> {
    let port = url.port_or_known_default().unwrap_or_default();
    let name = match url.host() {
        Some(Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Domain(name)) => name.to_owned(),
        None => return Err(Denied::NoHost.into()),
    };
    // In a task of its own: it holds its place until the resolver gives its thread back, whoever still waits.
    let found = tokio::spawn(async move {
        let found = tokio::net::lookup_host((name, port)).await;
        drop(place);
        found.map(|addresses| addresses.take(MAX_ADDRESSES).collect())
    });
    found
        .await
        .unwrap_or_else(|broken| Err(io::Error::other(broken)))
        .map_err(RequestError::Lookup)
}

/// Those of the addresses that may be reached.
fn granted(url: &Url, egress: &Egress, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, RequestError> {
    let mut denied = None;
    let mut granted = Vec::with_capacity(addresses.len());
    for address in addresses {
        match egress.check_address(url, address.ip()) {
            Ok(()) => granted.push(address),
            Err(why) => denied = Some(why),
        }
    }
    match denied {
        Some(why) if granted.is_empty() => Err(why.into()),
        None if granted.is_empty() => Err(RequestError::Lookup(io::ErrorKind::NotFound.into())),
        _ => Ok(granted),
    }
}

/// Knows these addresses and no others, whatever name is asked for.
struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(ready(Ok(addresses)))
    }
}

#[cfg(test)]
mod tests;
