//! egress: what a request may reach whose address a tenant has written.
//!
//! Without a grant that is public addresses over https and nothing else, so that no tenant reaches what stands beside the
//! gateway. Asked twice: for the URL before a name is looked up, and for every address that the name turns out to have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

/// What a tenant's requests may reach beside public addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress(Vec<Grant>);

/// One grant, as the platform team writes it.
///
/// ```text
/// 10.1.0.0/16, fd00::/8, 10.1.2.3       addresses, over https
/// idp.corp, idp.corp:8443               a host whatever its addresses, over https; link-local ones excepted
/// http://idp.corp:8080                  the same, and over http
/// *, http://*                           likewise any host: on a laptop
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Addresses that begin with these bits.
    Range {
        /// The first address.
        network: IpAddr,
        /// How many bits count.
        prefix: u8,
    },
    /// A host by the name that requests give it.
    Host {
        /// Lower case, or an address; `None`: any.
        host: Option<Host>,
        /// `None`: any.
        port: Option<u16>,
        /// Whether http will do.
        plain: bool,
    },
}

/// Why a request is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not https.
    #[error("{0} is not granted: use https, or have the platform team grant {1:?} in egress")]
    Scheme(String, String),
    /// User and password in a URL end up in logs.
    #[error("a URL with a user or password is not requested")]
    Credentials,
    /// There is nobody to ask.
    #[error("the URL has no host")]
    NoHost,
    /// Private, or none that a host can have.
    #[error("{0} is no public address: have the platform team grant it in egress")]
    Address(IpAddr),
}

impl Egress {
    /// Reads grants.
    ///
    /// # Errors
    /// Which one (by index) is none, and why.
    pub fn parse(grants: &[String]) -> Result<Self, (usize, String)> {
        let parsed = grants
            .iter()
            .enumerate()
            .map(|(index, grant)| grant.parse().map_err(|why| (index, why)));
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    /// Whether a URL may be requested at all. Where its host is a name, its addresses are still to be checked.
    ///
    /// # Errors
    /// Why not.
    pub fn check_url(&self, url: &Url) -> Result<(), Denied> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Denied::Credentials);
        }
        let host = url.host().ok_or(Denied::NoHost)?.to_owned();
        let is_plain_granted = || {
            self.hosts(url)
                .any(|grant| matches!(grant, Grant::Host { plain: true, .. }))
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && is_plain_granted()) {
            let grant = format!("http://{host}{}", url.port().map_or(String::new(), |p| format!(":{p}")));
            return Err(Denied::Scheme(url.scheme().to_owned(), grant));
        }
        match host {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(address) => self.check_address(url, address.into()),
            Host::Ipv6(address) => self.check_address(url, address.into()),
        }
    }

    /// Whether a URL may be requested from this address, which its host has.
    ///
    /// # Errors
    /// Why not.
    pub fn check_address(&self, url: &Url, address: IpAddr) -> Result<(), Denied> {
        let within = |grant: &Grant| match grant {
            Grant::Range { network, prefix } => is_within(plain(address), *network, *prefix),
            Grant::Host { .. } => false,
        };
        let is_literal = !matches!(url.host(), Some(Host::Domain(_)));
        let is_named = |grant: &Grant| matches!(grant, Grant::Host { host: Some(_), .. });
        let by_host = self
            .hosts(url)
            .any(|grant| is_for_names(plain(address)) || is_literal && is_named(grant));
        if is_public(address) || by_host || self.0.iter().any(within) {
            Ok(())
        } else {
            Err(Denied::Address(address))
        }
    }

    fn hosts(&self, url: &Url) -> impl Iterator<Item = &Grant> {
        let wanted = (url.host().map(|host| host.to_owned()), url.port_or_known_default());
        self.0.iter().filter(move |grant| match grant {
            Grant::Range { .. } => false,
            Grant::Host { host, port, .. } => {
                (host.is_none() || wanted.0 == *host) && (port.is_none() || *port == wanted.1)
            }
        })
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "{text:?} is no grant: write a range (10.1.0.0/16), a host (idp.corp, idp.corp:8443) or http://idp.corp:8080"
            )
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            return Ok(Grant::Range {
                network: address,
                prefix,
            });
        }
        let (rest, plain) = match text.strip_prefix("http://") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if let (false, Some((network, prefix))) = (plain, rest.split_once('/')) {
            let network: IpAddr = network.parse().map_err(|_| wrong())?;
            let most = if network.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(wrong)?;
            return Ok(Grant::Range { network, prefix });
        }
        if rest == "*" {
            let (host, port) = (None, None);
            return Ok(Grant::Host { host, port, plain });
        }
        // As URLs have it: lower case, addresses in one form.
        let url = Url::parse(&format!("https://{rest}")).map_err(|_| wrong())?;
        let has_more = rest.contains('*')
            || url.path() != "/"
            || url.query().is_some()
            || url.fragment().is_some()
            || rest.ends_with('/');
        let host = Some(url.host().ok_or_else(wrong)?.to_owned());
        if has_more || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        // 443 is what a URL leaves out.
        let port = url.port().or_else(|| rest.ends_with(":443").then_some(443));
        Ok(Grant::Host { host, port, plain })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Range { network, prefix } => write!(f, "{network}/{prefix}"),
            Grant::Host { host, port, plain } => {
                f.write_str(if *plain { "http://" } else { "" })?;
                match host {
                    Some(host) => write!(f, "{host}")?,
                    None => f.write_str("*")?,
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// An IPv4 address that is written as IPv6 (mapped, or through NAT64) is what it stands for.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into(),
        _ => address,
    }
}

fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (u32::from(address).into(), u32::from(network).into(), 32),
        (IpAddr::V6(address), IpAddr::V6(network)) => (u128::from(address), u128::from(network), 128_u32),
        _ => return false,
    };
    let ignored = bits.saturating_sub(u32::from(prefix));
    address.checked_shr(ignored).unwrap_or(0) == network.checked_shr(ignored).unwrap_or(0)
}

/// IPv4 networks that are not the public internet (IANA's registry of special purposes).
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The same within 2000::/3, outside of which no IPv6 address is public: protocols, documentation, and 6to4, which stands
/// for IPv4 addresses.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether anybody on the internet has this address.
fn is_public(address: IpAddr) -> bool {
    let special = |network: IpAddr, prefix| is_within(plain(address), network, prefix);
    match plain(address) {
        IpAddr::V4(_) => !SPECIAL_V4
            .iter()
            .any(|(network, prefix)| special((*network).into(), *prefix)),
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xe000 == 0x2000
                && !SPECIAL_V6
                    .iter()
                    .any(|(network, prefix)| special((*network).into(), *prefix))
        }
    }
}

/// Whether a host that is granted by name may have this address. Link-local ones, where clouds keep their metadata and
/// credentials, are only granted as addresses.
fn is_for_names(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.segments()[0] & 0xffc0 == 0xfe80 || v6.is_unspecified() || v6.is_multicast()),
    }
}

#[cfg(test)]
mod tests;
