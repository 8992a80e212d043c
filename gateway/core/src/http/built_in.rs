//! The endpoints that every channel with `spec.api` has, and those of health: the gateway serves, and the document describes,
//! what is listed here.

use aldis_crds::channel::Method;
use aldis_crds::names::ChannelName;

use super::Operation;

/// A built-in endpoint of a channel, below `/aldis/v1/<namespace>/<channel>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// Publishes an event.
    Publish,
    /// Lists rooms.
    Rooms,
    /// Counts a room's clients.
    Room,
    /// Disconnects a room's clients.
    DisconnectRoom,
    /// Disconnects a user's clients.
    DisconnectUser,
    /// Disconnects one client.
    DisconnectSocket,
    /// Tells who is connected.
    Stats,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Publish,
        Self::Rooms,
        Self::Room,
        Self::DisconnectRoom,
        Self::DisconnectUser,
        Self::DisconnectSocket,
        Self::Stats,
    ];

    /// The request's method.
    pub fn method(self) -> Method {
        match self {
            Self::Publish => Method::POST,
            Self::Rooms | Self::Room | Self::Stats => Method::GET,
            Self::DisconnectRoom | Self::DisconnectUser | Self::DisconnectSocket => Method::DELETE,
        }
    }

    /// The path below that of the channel, with its parameters.
    pub fn path(self) -> &'static str {
        match self {
            Self::Publish => "/events",
            Self::Rooms => "/rooms",
            Self::Room => "/rooms/{room}",
            Self::DisconnectRoom => "/rooms/{room}/connections",
            Self::DisconnectUser => "/users/{user}/connections",
            Self::DisconnectSocket => "/sockets/{socket}/connections",
            Self::Stats => "/stats",
        }
    }

    /// What `spec.api.allow` is asked.
    pub fn operation(self) -> Operation {
        match self {
            Self::Publish => Operation::Publish,
            Self::Rooms | Self::Room | Self::Stats => Operation::Read,
            Self::DisconnectRoom | Self::DisconnectUser | Self::DisconnectSocket => Operation::Disconnect,
        }
    }

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Rooms => "rooms",
            Self::Room => "room",
            Self::DisconnectRoom => "disconnect_room",
            Self::DisconnectUser => "disconnect_user",
            Self::DisconnectSocket => "disconnect_socket",
            Self::Stats => "stats",
        }
    }

    /// The whole path for one channel.
    pub fn path_of(self, channel: &ChannelName) -> String {
        format!("/aldis/v1/{channel}{}", self.path())
    }
}

/// Health, where no channel has the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Whether clients should come.
    Whole,
    /// The same, for load balancers.
    Ready,
    /// Whether the process answers.
    Live,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Whole, Self::Ready, Self::Live];

    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Whole => "/health",
            Self::Ready => "/health/ready",
            Self::Live => "/health/live",
        }
    }

    /// The one at a path.
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.path() == path)
    }
}
