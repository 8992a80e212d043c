//! What is said of each channel that runs, on the terminal and on the page: where it is, and a first try that works.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aldis_crds::channel::Algorithm;
use aldis_crds::contract::{Attachment, ChannelConfig, GatewayConfig, Keys};
use aldis_crds::names::ChannelName;
use aldis_gateway::app::Gateway;
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Plan;
use super::sample::{ANNOTATION, Sample};

/// Lifetime of a token. 12 h: a day's work.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// A channel.
#[derive(Clone, Debug, Serialize)]
pub(super) struct About {
    #[serde(serialize_with = "as_text")]
    pub(super) name: ChannelName,
    /// Of its namespaces, `scheme://host:port/path`.
    pub(super) urls: Vec<String>,
    /// Whether it lets anybody in at all.
    pub(super) admits: bool,
    #[serde(flatten)]
    pub(super) token: Option<Token>,
    #[serde(flatten)]
    pub(super) sample: Sample,
    /// Its client events that join rooms.
    pub(super) joins: Vec<Joins>,
    /// Topics that it reads.
    pub(super) topics: Vec<String>,
    /// Why its annotation is not used.
    #[serde(skip)]
    pub(super) bad_annotation: Option<String>,
}

/// A token that it takes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Token {
    /// Name of the method that checks it.
    #[serde(skip)]
    pub(super) method: String,
    pub(super) token: String,
}

/// A client event that joins, and the one that leaves.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Joins {
    event: String,
    leave: Option<String>,
}

/// `namespace/name`, as everywhere else that people read it.
fn as_text<S: serde::Serializer>(name: &ChannelName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// All channels of a plan that is in force.
pub(super) fn all(plan: &Plan, gateway: &Gateway) -> Vec<About> {
    let channels = plan.config.channels.iter();
    channels.map(|channel| About::of(channel, plan, gateway)).collect()
}

impl About {
    fn of(channel: &ChannelConfig, plan: &Plan, gateway: &Gateway) -> Self {
        let spec = &channel.spec;
        let annotation = plan.declared.annotation(&channel.channel, ANNOTATION);
        let (sample, bad_annotation) = match Sample::of(annotation, spec) {
            Ok(sample) => (sample, None),
            Err(error) => (Sample::default(), Some(error.to_string())),
        };
        let url = |at: &Attachment| Some(format!("{}{}", address(&plan.config, gateway, &at.listener)?, at.path));
        let joins = spec.rooms.iter().filter_map(|room| {
            let join = room.join.as_ref()?;
            Some(Joins {
                event: join.event.clone()?,
                leave: join.leave.clone(),
            })
        });
        let mut topics: Vec<_> = spec
            .sources
            .iter()
            .flat_map(|source| source.kafka.topics.clone())
            .collect();
        topics.sort_unstable();
        topics.dedup();
        Self {
            name: channel.channel.clone(),
            urls: channel.attachments.iter().filter_map(url).collect(),
            admits: spec.authentication.is_some(),
            token: token(channel, &sample, &plan.keys),
            sample,
            joins: joins.collect(),
            topics,
            bad_annotation,
        }
    }
}

/// `scheme://host:port` of a listener, as one on this machine reaches it.
fn address(config: &GatewayConfig, gateway: &Gateway, name: &str) -> Option<String> {
    let mut address = gateway.address(name)?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let ends_tls = |listener: &&aldis_crds::gateway::Listener| listener.name == name && listener.tls.is_some();
    let scheme = config.listeners.iter().find(ends_tls).map_or("http", |_| "https");
    Some(format!("{scheme}://{address}"))
}

/// A token for the first jwt method of a channel whose secret is here.
fn token(channel: &ChannelConfig, sample: &Sample, keys: &Keys) -> Option<Token> {
    let mut methods = channel.spec.authentication.as_ref()?.jwt.iter();
    let (method, secret) = methods.find_map(|method| {
        let secret = keys.get(&channel.channel.namespace, method.secret_ref.as_ref()?)?;
        Some((method, secret))
    })?;
    let algorithm = match method.algorithms().first()? {
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        _ => jsonwebtoken::Algorithm::HS256,
    };
    let mut claims: Map<String, Value> = sample.claims.clone().unwrap_or_default();
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + TOKEN_LIFETIME;
    claims.entry("exp").or_insert_with(|| expires.as_secs().into());
    if let Some(issuer) = &method.issuer {
        claims.insert("iss".to_owned(), issuer.clone().into());
    }
    if let Some(audience) = method.audiences.as_ref().and_then(|audiences| audiences.first()) {
        claims.insert("aud".to_owned(), audience.clone().into());
    }
    let token = jsonwebtoken::encode(
        &Header::new(algorithm),
        &claims,
        &EncodingKey::from_secret(secret.expose()),
    )
    .ok()?;
    Some(Token {
        method: method.name.clone(),
        token,
    })
}
