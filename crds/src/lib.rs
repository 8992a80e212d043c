//! What can be asked of Aldis: the two resources that people write, and the contract that the gateway reads.
//!
//! ```text
//! NotificationGateway   written by the platform team: Kafka access, listeners
//!        ▲ parentRefs
//! NotificationChannel   written by a tenant: sources → rooms → routes
//!        │ Secret (labelled aldis.dev/use: channel), same namespace
//!        ▼
//! contract::GatewayConfig   what the gateway serves, with the keys beside it
//! ```
//! Everything here is data: no client, clock or environment.

#![allow(clippy::duplicated_attributes, reason = "two print columns may have the same type")]

pub mod addresses;
pub mod channel;
pub mod gateway;
pub mod limits;

pub mod names;

pub mod status;

pub mod config_object;
pub mod configuration;
pub mod contract;

pub mod crd;
mod schema;

/// API group of every kind.
pub const GROUP: &str = "aldis.dev";
/// The only served version.
pub const VERSION: &str = "v1alpha1";
/// A Secret may be read for a channel only if it carries this label with [`SECRET_USE_CHANNEL`].
pub const SECRET_USE_LABEL: &str = "aldis.dev/use";
/// See [`SECRET_USE_LABEL`].
pub const SECRET_USE_CHANNEL: &str = "channel";
/// The same for a gateway.
pub const SECRET_USE_GATEWAY: &str = "gateway";

pub use channel::{NotificationChannel, NotificationChannelSpec};
/// Set to `true` on a gateway or a channel, the operator leaves everything about it as it is.
pub const PAUSE_ANNOTATION: &str = "aldis.dev/pause";
/// Set to `external` on a gateway, something else than the operator says how many pods there are.
pub const REPLICAS_ANNOTATION: &str = "aldis.dev/replicas";

pub use config_object::ConfigObject;
pub use gateway::{NotificationGateway, NotificationGatewaySpec};

#[cfg(test)]
mod tests;
