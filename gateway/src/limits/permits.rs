//! Permits: what a client needs to be let in, all at once or nothing.

use std::sync::{Arc, Mutex, PoisonError};

use aldis_crds::limits::ResolvedLimits;
use aldis_crds::names::ChannelName;
use aws_lc_rs::digest::{SHA256, digest};

use super::{Peer, Place, Places};
use crate::adapter::census::Wanted;
use crate::replicas::places::Held;

/// How long the name of a user may be where replicas count it. 64 bytes; a longer one is counted by its digest.
const MAX_USER: usize = 64;

/// A user of a channel. What it is called means nothing outside of it.
type User = (ChannelName, String);

/// Everything that is counted of clients.
#[derive(Debug, Default)]
pub struct Permits {
    tenants: Arc<Places<String>>,
    channels: Arc<Places<ChannelName>>,
    addresses: Arc<Places<(String, Peer)>>,
    channel_addresses: Arc<Places<(ChannelName, Peer)>>,
    users: Arc<Places<User>>,
}

/// The permit of one client, until it is given up or dropped.
#[derive(Debug, Default)]
pub struct Permit(Mutex<Option<Taken>>);

#[derive(Debug)]
struct Taken {
    _tenant: Place<String>,
    _channel: Place<ChannelName>,
    _address: Place<(String, Peer)>,
    _channel_address: Place<(ChannelName, Peer)>,
    _user: Option<Place<User>>,
    /// The same over all replicas, where they share it.
    held: Option<Held>,
}

/// Of what there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `connections` of the tenant.
    Tenant,
    /// `connections` of the channel.
    Channel,
    /// `connectionsPerIP`.
    Address,
    /// `connectionsPerUser`.
    User,
}

impl Full {
    /// As metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Full::Tenant => "tenant_connections",
            Full::Channel => "channel_connections",
            Full::Address => "address_connections",
            Full::User => "user_connections",
        }
    }
}

impl Permits {
    /// A permit for a client, where there is one within what the tenant and the channel may use.
    ///
    /// # Errors
    /// What is [`Full`]; nothing was taken.
    pub fn take(
        &self,
        channel: &ChannelName,
        peer: Peer,
        user: Option<&str>,
        tenant_limits: &ResolvedLimits,
        limits: &ResolvedLimits,
    ) -> Result<Permit, Full> {
        let tenant = &channel.namespace;
        let user = user.map(|user| {
            let user = (channel.clone(), user.to_owned());
            self.users.take(&user, limits.connections_per_user).ok_or(Full::User)
        });
        let address = (tenant.clone(), peer);
        let channel_address = (channel.clone(), peer);
        let taken = Taken {
            _user: user.transpose()?,
            _address: self
                .addresses
                .take(&address, tenant_limits.connections_per_ip)
                .ok_or(Full::Address)?,
            _channel_address: self
                .channel_addresses
                .take(&channel_address, limits.connections_per_ip)
                .ok_or(Full::Address)?,
            _tenant: self
                .tenants
                .take(tenant, tenant_limits.connections)
                .ok_or(Full::Tenant)?,
            _channel: self.channels.take(channel, limits.connections).ok_or(Full::Channel)?,
            held: None,
        };
        Ok(Permit(Mutex::new(Some(taken))))
    }

    /// What the same client needs over all replicas, and of what that is.
    pub fn wanted(
        channel: &ChannelName,
        peer: Peer,
        user: Option<&str>,
        tenant_limits: &ResolvedLimits,
        limits: &ResolvedLimits,
    ) -> Vec<(Full, Wanted)> {
        let ChannelName { name, .. } = channel;
        let user = user.map(|user| {
            let wanted = (
                format!("u/{name}/{}", counted(user)).into(),
                limits.connections_per_user,
            );
            (Full::User, wanted)
        });
        let others = [
            (Full::Address, format!("a/{peer}"), tenant_limits.connections_per_ip),
            (Full::Address, format!("a/{peer}/{name}"), limits.connections_per_ip),
            (Full::Tenant, "t".to_owned(), tenant_limits.connections),
            (Full::Channel, format!("c/{name}"), limits.connections),
        ];
        let others = others.map(|(of, name, limit)| (of, (name.into(), limit)));
        user.into_iter().chain(others).collect()
    }

    /// Clients of a tenant.
    pub fn of_tenant(&self, namespace: &str) -> u32 {
        self.tenants.taken(&namespace.to_owned())
    }
}

/// A user, as replicas count it.
fn counted(user: &str) -> String {
    match user.len() {
        ..=MAX_USER => user.to_owned(),
        _ => digest(&SHA256, user.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }
}

impl Permit {
    /// Its places over all replicas are given up with it.
    pub fn hold(&self, held: Held) {
        if let Some(taken) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            taken.held = Some(held);
        }
    }

    /// Gives the permit up before its client is gone for good: another has taken its session over.
    pub fn give_up(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(namespace: &str, name: &str) -> ChannelName {
        ChannelName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    fn limits(connections: u32, per_user: u32, per_ip: u32) -> ResolvedLimits {
        ResolvedLimits {
            connections,
            connections_per_user: per_user,
            connections_per_ip: per_ip,
            ..ResolvedLimits::default()
        }
    }

    #[test]
    fn each_limit_is_for_itself_and_what_is_refused_takes_nothing() {
        let permits = Permits::default();
        let (orders, kitchen) = (channel("bistro", "orders"), channel("bistro", "kitchen"));
        let (tenant, own) = (limits(4, 9, 3), limits(3, 2, 3));
        let take = |channel: &ChannelName, last: u8, user: Option<&str>| {
            let taken = permits.take(channel, peer(last), user, &tenant, &own);
            taken.map_err(Full::as_str)
        };
        let refused = |taken: Result<Permit, &'static str>| taken.err().unwrap_or("taken");
        let first = take(&orders, 1, Some("ann")).unwrap();
        let second = take(&orders, 2, Some("ann")).unwrap();
        assert_eq!(refused(take(&orders, 3, Some("ann"))), "user_connections");
        let third = take(&orders, 2, None).unwrap();
        assert_eq!(refused(take(&orders, 3, None)), "channel_connections");
        // The same name in another channel is somebody else; the address is the same.
        let fourth = take(&kitchen, 2, Some("ann")).unwrap();
        assert_eq!(refused(take(&kitchen, 2, None)), "address_connections");
        assert_eq!(refused(take(&kitchen, 3, None)), "tenant_connections");
        assert_eq!(permits.of_tenant("bistro"), 4);
        // Another tenant has permits of its own, from the same address too.
        assert!(
            permits
                .take(&channel("cafe", "orders"), peer(2), None, &tenant, &own)
                .is_ok()
        );
        second.give_up();
        let again = take(&orders, 3, Some("ann")).unwrap();
        drop((first, second, third, fourth, again));
        assert_eq!(permits.of_tenant("bistro"), 0);
        assert!(take(&orders, 3, Some("ann")).is_ok());
    }

    #[test]
    fn what_a_client_needs_over_all_replicas_has_a_name_for_each_limit() {
        let (tenant, own) = (limits(4, 9, 3), limits(3, 2, 2));
        let wanted = |channel: &ChannelName, last: u8, user: Option<&str>| {
            let wanted = Permits::wanted(channel, peer(last), user, &tenant, &own).into_iter();
            wanted
                .map(|(of, (name, limit))| (of.as_str(), name.to_string(), limit))
                .collect::<Vec<_>>()
        };
        let own = |of, name: &str, limit| (of, name.to_owned(), limit);
        assert_eq!(
            wanted(&channel("bistro", "orders"), 1, Some("ann")),
            [
                own("user_connections", "u/orders/ann", 2),
                own("address_connections", "a/192.0.2.1", 3),
                own("address_connections", "a/192.0.2.1/orders", 2),
                own("tenant_connections", "t", 4),
                own("channel_connections", "c/orders", 3),
            ]
        );
        assert_eq!(wanted(&channel("bistro", "orders"), 1, None).len(), 4);
        // However long a user's name is, its count is small, and its own.
        let long = |end: &str| {
            wanted(
                &channel("bistro", "orders"),
                1,
                Some(&format!("{}{end}", "x".repeat(5_000))),
            )[0]
            .1
            .clone()
        };
        assert_eq!(long("a").len(), "u/orders/".len() + 64);
        assert_ne!(long("a"), long("b"));
    }
}
