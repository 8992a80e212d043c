//! Where Redis is, and how one gets in.

use std::fmt;

use aldis_crds::contract::{RedisKeys, Secret};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisError, TlsCertificates,
};

/// The port of a Redis, and of a Sentinel, that names none.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A Redis, however it is found. Its credentials do not print.
#[derive(Clone)]
pub struct Endpoint {
    form: Form,
    settings: RedisConnectionInfo,
    is_tls: bool,
    ca: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    One(ConnectionAddr),
    /// The master of this name, asked from Sentinels.
    Sentinel {
        sentinels: Vec<(String, u16)>,
        master: String,
    },
    /// A Cluster, asked from any of its nodes.
    Cluster(Vec<(String, u16)>),
}

impl Endpoint {
    /// `redis://`, `rediss://` (TLS), `redis+sentinel://host:port,…/master` and `redis+cluster://host:port,…` (with
    /// `rediss+` over TLS).
    ///
    /// # Errors
    /// What is wrong with it; the text shows no credentials.
    pub fn parse(url: &str) -> Result<Self, String> {
        let scheme = url.split("://").next().unwrap_or_default();
        let is_tls = scheme.starts_with("rediss");
        let (form, settings) = match scheme {
            "redis" | "rediss" => {
                let info = url
                    .into_connection_info()
                    .map_err(|error| format!("the URL of Redis: {error}"))?;
                (Form::One(info.addr().clone()), info.redis_settings().clone())
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let (hosts, master) = rest.split_once('/').unwrap_or((rest, ""));
                if master.is_empty() {
                    return Err(
                        "the URL of Redis names no master: write redis+sentinel://host:26379/master".to_owned(),
                    );
                }
                let form = Form::Sentinel {
                    sentinels: parse_hosts(hosts, SENTINEL_PORT)?,
                    master: master.to_owned(),
                };
                (form, RedisConnectionInfo::default())
            }
            "redis+cluster" | "rediss+cluster" => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let hosts = rest.trim_end_matches('/');
                (Form::Cluster(parse_hosts(hosts, PORT)?), RedisConnectionInfo::default())
            }
            _ => {
                return Err(
                    "the URL of Redis begins with redis://, rediss://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            form,
            // Pushes and replies on one connection need RESP3.
            settings: settings
                .set_protocol(ProtocolVersion::RESP3)
                .set_lib_name("aldis", env!("CARGO_PKG_VERSION")),
            is_tls,
            ca: None,
        })
    }

    /// With a password, and a user where it is not the default one.
    #[must_use]
    pub fn with_credentials(mut self, user: Option<&str>, password: &str) -> Self {
        self.settings = self.settings.set_password(password);
        if let Some(user) = user {
            self.settings = self.settings.set_username(user);
        }
        self
    }

    /// With what Secrets hold.
    ///
    /// # Errors
    /// What is wrong with them; the text does not show them.
    pub fn with_keys(mut self, keys: &RedisKeys) -> Result<Self, String> {
        let text = |secret: &Secret, what: &str| {
            let text = std::str::from_utf8(secret.expose());
            text.map(str::to_owned)
                .map_err(|_| format!("the {what} for Redis is no text"))
        };
        if let Some(password) = &keys.password {
            let username = keys.username.as_ref();
            let username = username.map(|username| text(username, "username")).transpose()?;
            self = self.with_credentials(username.as_deref(), &text(password, "password")?);
        }
        self.ca = keys.ca.as_ref().map(|ca| ca.expose().to_vec());
        Ok(self)
    }

    /// Whether its keys are spread over several nodes.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.form, Form::Cluster(_))
    }

    /// The nodes that the URL of a Cluster names.
    pub(super) fn seeds(&self) -> &[(String, u16)] {
        match &self.form {
            Form::Cluster(seeds) => seeds,
            Form::One(_) | Form::Sentinel { .. } => &[],
        }
    }

    /// One of its nodes.
    pub(super) fn at(&self, host: &str, port: u16) -> Self {
        Self {
            form: Form::One(self.address(host, port)),
            ..self.clone()
        }
    }

    /// A client of the Redis to write to: the only one, or the master that a Sentinel names now. Of a Cluster: any node.
    pub(super) async fn client(&self) -> Result<Client, RedisError> {
        let sentinels = match &self.form {
            Form::One(address) => return self.client_at(address.clone(), &self.settings),
            Form::Cluster(seeds) => {
                let at = rand::random_range(0..seeds.len());
                let (host, port) = &seeds[at];
                return self.client_at(self.address(host, *port), &self.settings);
            }
            Form::Sentinel { sentinels, .. } => sentinels,
        };
        let mut failed = None;
        for (host, port) in sentinels {
            match self.ask_sentinel(host, *port).await {
                Ok((host, port)) => return self.client_at(self.address(&host, port), &self.settings),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel is named"))))
    }

    async fn ask_sentinel(&self, host: &str, port: u16) -> Result<(String, u16), RedisError> {
        let Form::Sentinel { master, .. } = &self.form else {
            return Ok((host.to_owned(), port));
        };
        // Sentinels have no users of the Redis that they watch.
        let plain = RedisConnectionInfo::default();
        let client = self.client_at(self.address(host, port), &plain)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut ask = redis::cmd("SENTINEL");
        let found: Option<(String, u16)> = ask
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(master)
            .query_async(&mut connection)
            .await?;
        found.ok_or_else(|| {
            RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "the Sentinel knows no master of this name",
                master.clone(),
            ))
        })
    }

    fn address(&self, host: &str, port: u16) -> ConnectionAddr {
        match self.is_tls {
            true => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: false,
                tls_params: None,
            },
            false => ConnectionAddr::Tcp(host.to_owned(), port),
        }
    }

    fn client_at(&self, address: ConnectionAddr, settings: &RedisConnectionInfo) -> Result<Client, RedisError> {
        let info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(settings.clone());
        match &self.ca {
            Some(ca) if self.is_tls => Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(ca.clone()),
                },
            ),
            _ => Client::open(info),
        }
    }
}

/// `host:port,host,[::1]:port`.
fn parse_hosts(hosts: &str, default_port: u16) -> Result<Vec<(String, u16)>, String> {
    let parse = |host: &str| {
        if host.contains('@') {
            return Err("the URL of Redis: a user and a password belong into the Secret, not here".to_owned());
        }
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                let port = port
                    .parse()
                    .map_err(|_| format!("the URL of Redis: {port:?} is no port"))?;
                (name, port)
            }
            _ => (host, default_port),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        match name {
            "" => Err("the URL of Redis: a host is missing".to_owned()),
            name => Ok((name.to_owned(), port)),
        }
    };
    hosts.split(',').map(parse).collect()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[(String, u16)]| {
            let hosts: Vec<_> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            hosts.join(",")
        };
        match &self.form {
            Form::One(address) => address.fmt(f),
            Form::Sentinel { sentinels, master } => write!(f, "{master} by Sentinel {}", list(sentinels)),
            Form::Cluster(seeds) => write!(f, "Cluster {}", list(seeds)),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_each_form_are_read_and_show_no_credentials() {
        for (url, shown) in [
            ("redis://:hunter2@cache:7000/1", "cache:7000"),
            ("rediss://user:hunter2@cache", "cache:6379"),
            ("redis+sentinel://a:1,b/mymaster", "mymaster by Sentinel a:1,b:26379"),
            ("rediss+cluster://a,[::1]:7001/", "Cluster a:6379,::1:7001"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap().with_credentials(Some("u"), "hunter3");
            assert_eq!(endpoint.to_string(), shown);
            assert!(!format!("{endpoint:?}").contains("hunter"), "{endpoint:?}");
        }
    }

    #[test]
    fn urls_that_are_none_say_what_is_wrong() {
        for (url, wrong) in [
            ("http://cache", "begins with"),
            ("redis+sentinel://a:1", "names no master"),
            ("redis+cluster://a:b", "no port"),
            ("redis+cluster://a,,b", "a host is missing"),
            ("redis+cluster://u:hunter2@a", "belong into the Secret"),
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(error.contains(wrong), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
