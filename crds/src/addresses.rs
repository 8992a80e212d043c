//! Ranges of addresses, as `10.0.0.0/8`.

use std::net::IpAddr;

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// Its first address.
    network: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// From its text (`10.0.0.0/8`, `fd00::/8`, `192.0.2.1`); `None` where that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then(|| Self {
            network: masked(address, prefix),
            prefix,
        })
    }

    /// Whether an address is in it. An IPv4 address is itself, also where it is written as one of IPv6.
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.network.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.network
    }
}

/// The address with only its first `prefix` bits.
pub fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses() {
        let holds = |range: &str, address: &str| AddressRange::parse(range).unwrap().holds(address.parse().unwrap());
        for (range, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.0.0.1", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "2001:db8::7", false),
            ("::/0", "2001:db8::7", true),
            ("2001:db8::7", "2001:db8::8", false),
        ] {
            assert_eq!(holds(range, address), expected, "{range} {address}");
        }
    }

    #[test]
    fn what_is_no_range_is_none() {
        for range in [
            "10.0.0.0/33",
            "fd00::/129",
            "proxy",
            "10.0.0.0/",
            "10.0.0/8",
            "999.0.0.1",
            "",
            "/8",
        ] {
            assert_eq!(AddressRange::parse(range), None, "{range}");
        }
    }
}
