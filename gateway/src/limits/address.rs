//! Whose connection it is: the client's address, through the proxies that are trusted.

use std::fmt;
use std::net::IpAddr;

use aldis_crds::addresses::{AddressRange, masked};
use http::HeaderMap;

/// A client's address, as it is counted: an IPv4 address, or the /64 that an IPv6 address is in, which is what one
/// household or one machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// Of a client whose address nobody knows: all of them together.
    pub const UNKNOWN: Self = Self(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));

    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => masked(address.into(), 64),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// The proxies in front of a listener: what they say of a client's address is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<AddressRange>);

impl Proxies {
    /// From address ranges (`10.0.0.0/8`, `fd00::/8`, `192.0.2.1`).
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse<'r>(ranges: impl IntoIterator<Item = &'r String>) -> Result<Self, String> {
        let ranges = ranges.into_iter();
        ranges
            .map(|text| {
                AddressRange::parse(text).ok_or_else(|| format!("{text:?} is no address and no range of addresses"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The address of the client whose request came from `peer`: the right-most one of X-Forwarded-For that is none of ours.
    /// What a client wrote there itself stands left of it, and is not looked at.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.have(peer) {
            return peer;
        }
        let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        let said = lines
            .iter()
            .rev()
            .flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
        let mut client = peer;
        for text in said.take(MAX_HOPS) {
            // What can not be read was not written by a proxy of ours: the one before it is as far as is known.
            let Some(address) = address(text) else { break };
            client = address;
            if !self.have(client) {
                break;
            }
        }
        client
    }

    fn have(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.holds(address))
    }
}

/// Addresses of X-Forwarded-For that are looked at, from the right. 32: more proxies stand in no row.
const MAX_HOPS: usize = 32;

/// An address as proxies write it: some with a port, some in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = || text.strip_prefix('[')?.split(']').next()?.parse().ok();
    let address = text.parse().ok().or_else(bare);
    address.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn proxies(ranges: &[&str]) -> Proxies {
        let ranges: Vec<_> = ranges.iter().map(|range| (*range).to_owned()).collect();
        Proxies::parse(&ranges).unwrap()
    }

    fn client(proxies: &Proxies, peer: &str, forwarded: &[&str]) -> String {
        let headers = forwarded
            .iter()
            .map(|line| (http::HeaderName::from_static("x-forwarded-for"), line.parse().unwrap()))
            .collect();
        proxies.client(ip(peer), &headers).to_string()
    }

    #[test]
    fn an_address_of_ipv6_is_counted_by_its_network() {
        assert_eq!(Peer::of(ip("2001:db8::1")), Peer::of(ip("2001:db8::ffff:1")));
        assert_ne!(Peer::of(ip("2001:db8::1")), Peer::of(ip("2001:db8:0:1::1")));
        assert_ne!(Peer::of(ip("192.0.2.1")), Peer::of(ip("192.0.2.2")));
        assert_eq!(Peer::of(ip("::ffff:192.0.2.1")), Peer::of(ip("192.0.2.1")));
        assert_eq!(Peer::of(ip("2001:db8::1")).to_string(), "2001:db8::/64");
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let none = Proxies::default();
        assert_eq!(client(&none, "10.0.0.1", &["203.0.113.7"]), "10.0.0.1");
        let ours = proxies(&["10.0.0.0/8", "fd00::/8", "192.0.2.1"]);
        assert_eq!(client(&ours, "198.51.100.1", &["203.0.113.7"]), "198.51.100.1");
        assert_eq!(client(&ours, "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client(&ours, "10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client(&ours, "::ffff:10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(client(&ours, "fd00::1", &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn what_a_client_wrote_itself_counts_for_nothing() {
        let ours = proxies(&["10.0.0.0/8", "192.0.2.1"]);
        for (forwarded, expected) in [
            (&["1.1.1.1, 203.0.113.7"][..], "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7, 10.9.9.9, 192.0.2.1"], "203.0.113.7"),
            (&["1.1.1.1", "203.0.113.7", "10.9.9.9"], "203.0.113.7"),
            (&["1.1.1.1, nonsense, 10.9.9.9"], "10.9.9.9"),
            (&["1.1.1.1,"], "10.0.0.1"),
            (&["1.1.1.1, 203.0.113.7:4711"], "203.0.113.7"),
            (&["1.1.1.1, [2001:db8::7]:4711"], "2001:db8::7"),
            (&["10.1.1.1"], "10.1.1.1"),
        ] {
            assert_eq!(client(&ours, "10.0.0.1", forwarded), expected, "{forwarded:?}");
        }
        let long = vec!["10.0.0.2"; 100_000].join(",");
        assert_eq!(client(&ours, "10.0.0.1", &[&format!("1.1.1.1,{long}")]), "10.0.0.2");
    }
}
