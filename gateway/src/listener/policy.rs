//! What a listener asks of a connection and of each request: TLS, the host, the origin. Swapped whole while clients stay.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aldis_crds::contract::Certificate;
use aldis_crds::gateway::{Cors, Listener};
use http::header::{HOST, ORIGIN};
use http::{HeaderValue, Method, Request};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::refusal::Refusal;
use super::tls::Tls;
use crate::limits::Proxies;

/// How long a browser may remember what a preflight was told. 10 min: a changed listener is noticed soon enough.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// What a listener asks.
pub struct Policy {
    /// With what TLS is ended; `None`: it is not.
    pub tls: Option<Arc<Tls>>,
    /// Puts in what a browser needs to read replies.
    pub cors: Option<CorsLayer>,
    /// Whose word on a client's address is believed.
    pub proxies: Proxies,
    host: Option<Host>,
    origins: Origins,
    /// Origins that are let in whatever the listener says, in lower case.
    pages: Vec<String>,
}

/// Why a listener can not be served as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum BadListener {
    /// Its certificate is not there. It is never served without TLS instead.
    #[error("there is no certificate for it: check tls.secretRef, and that the Secret has tls.crt and tls.key")]
    NoCertificate,
    /// Its certificate is no good.
    #[error(transparent)]
    BadCertificate(#[from] super::tls::BadCertificate),
    /// A field says nothing that can be done.
    #[error("{field}: {message}")]
    BadField {
        /// Path below the listener.
        field: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// Its port can not be had.
    #[error("it can not listen on {address}: {source}; is another program there?")]
    NoPort {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

enum Host {
    Exact(String),
    /// With its dot: `.example.com`.
    Below(String),
}

/// Web pages of which origins are let in.
enum Origins {
    /// Those that come from the host that they connect to.
    Same,
    Any,
    /// In lower case.
    Listed(HashSet<String>),
}

impl Policy {
    /// The policy of a listener. `pages`: origins that are let in whatever it says. `before`: the policy in force, whose TLS
    /// goes on where only the certificate is another.
    ///
    /// # Errors
    /// [`BadListener`].
    pub fn new(
        listener: &Listener,
        certificate: Option<&Certificate>,
        pages: &[String],
        before: Option<&Self>,
    ) -> Result<Self, BadListener> {
        // First what can go wrong without a trace: a renewed certificate is in force at once.
        let cors = cors_layer(listener.cors.as_ref(), pages)?;
        let proxies = Proxies::parse(&listener.trusted_proxies).map_err(|message| BadListener::BadField {
            field: "trustedProxies".to_owned(),
            message,
        })?;
        let tls_before = before.and_then(|before| before.tls.as_ref());
        let tls = match (&listener.tls, certificate, tls_before) {
            (None, ..) => None,
            (Some(_), None, _) => return Err(BadListener::NoCertificate),
            (Some(_), Some(certificate), Some(before)) => match before.renewed(certificate)? {
                Some(renewed) => Some(Arc::new(renewed)),
                None => Some(Arc::clone(before)),
            },
            (Some(_), Some(certificate), None) => Some(Arc::new(Tls::new(certificate)?)),
        };
        Ok(Self {
            tls,
            cors,
            proxies,
            host: listener.hostname.as_deref().map(Host::new),
            origins: listener.cors.as_ref().map_or(Origins::Same, Origins::new),
            pages: pages.iter().map(|page| page.to_ascii_lowercase()).collect(),
        })
    }

    /// Lets a request pass by its host and its origin.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let host = host(request).unwrap_or_default();
        if self
            .host
            .as_ref()
            .is_some_and(|wanted| !wanted.fits(without_port(&host)))
        {
            return Err(Refusal::Host);
        }
        match request.headers().get(ORIGIN) {
            Some(origin) if !self.lets(origin, &host) => Err(Refusal::Origin),
            _ => Ok(()),
        }
    }

    fn lets(&self, origin: &HeaderValue, host: &str) -> bool {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        self.pages.contains(&origin) || self.origins.allow(&origin, host)
    }
}

/// The host that a request names, with its port, in lower case.
fn host<B>(request: &Request<B>) -> Option<String> {
    let named = || request.headers().get(HOST)?.to_str().ok();
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or_else(named)?;
    Some(host.to_ascii_lowercase())
}

fn without_port(host: &str) -> &str {
    let name = match host.rfind(':') {
        // The colons of an IPv6 address are within brackets.
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

impl Host {
    fn new(hostname: &str) -> Self {
        let hostname = hostname.to_ascii_lowercase();
        match hostname.strip_prefix('*') {
            Some(below) => Self::Below(below.to_owned()),
            None => Self::Exact(hostname),
        }
    }

    fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

impl Origins {
    fn new(cors: &Cors) -> Self {
        match &cors.allowed_origins {
            Some(origins) if !origins.iter().any(|origin| origin == "*") => {
                Self::Listed(origins.iter().map(|origin| origin.to_ascii_lowercase()).collect())
            }
            _ => Self::Any,
        }
    }

    /// `origin` in lower case.
    fn allow(&self, origin: &str, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => origins.contains(origin),
            Self::Same => is_same(origin, host),
        }
    }
}

/// Whether a page of `origin` connects to where it comes from. Browsers leave out the port that a scheme has anyway; what ends
/// TLS in front of us may or may not.
fn is_same(origin: &str, host: &str) -> bool {
    let (port, named) = match origin.split_once("://") {
        Some(("https", named)) => (":443", named),
        Some(("http", named)) => (":80", named),
        _ => return false,
    };
    let bare = |name: &str| name.strip_suffix(port).unwrap_or(name).to_owned();
    !named.is_empty() && bare(named) == bare(host)
}

/// What browsers are told; nothing where pages of the same host alone are let in.
fn cors_layer(cors: Option<&Cors>, pages: &[String]) -> Result<Option<CorsLayer>, BadListener> {
    let only_pages = Cors {
        allowed_origins: Some(Vec::new()),
        ..Cors::default()
    };
    let cors = match cors {
        Some(cors) => cors,
        None if pages.is_empty() => return Ok(None),
        None => &only_pages,
    };
    let bad = |field: &str, message: &str| BadListener::BadField {
        field: format!("cors.{field}"),
        message: message.to_owned(),
    };
    let any = |origins: &[String]| origins.iter().any(|origin| origin == "*");
    let origins = match &cors.allowed_origins {
        None if cors.reflect => AllowOrigin::mirror_request(),
        None => return Err(bad("allowedOrigins", "name origins, or reflect: true")),
        Some(_) if cors.reflect => return Err(bad("reflect", "allowedOrigins are named already")),
        Some(origins) if any(origins) && (origins.len() > 1 || cors.allow_credentials) => {
            return Err(bad("allowedOrigins", "\"*\" stands alone and without allowCredentials"));
        }
        Some(origins) if any(origins) => AllowOrigin::any(),
        Some(origins) => {
            let origins = origins.iter().chain(pages).map(|origin| HeaderValue::from_str(origin));
            let origins: Result<Vec<_>, _> = origins.collect();
            AllowOrigin::list(origins.map_err(|_| bad("allowedOrigins", "an origin is no header value"))?)
        }
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(cors.allow_credentials)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(PREFLIGHT_AGE);
    Ok(Some(layer))
}

#[cfg(test)]
mod tests;
