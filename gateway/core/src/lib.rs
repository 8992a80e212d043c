//! The pure steps of the path: what a channel means, once compiled.
//!
//! ```text
//! Record        → decode       → Event → route → Delivery     what goes where
//! Handshake     → authenticate → Identity                     who a client is
//! client event  → answer       → join, leave, reply           what a client may do
//! HTTP request  → check        → publish, respond             what a caller may do
//! ```
//! All of it is sync and gets no client, clock or environment: times and keys are arguments. The gateway runs these
//! functions; the operator and `aldis validate` compile with them, so what they accept is what the gateway can serve.

pub mod record;

pub mod decode;

pub mod route;

pub mod identity;

pub mod egress;

pub mod membership;

pub mod http;

pub mod channel;
pub mod table;

pub mod room;

pub mod reject;

mod event_name;

pub mod compiler;

pub mod expression;
pub mod template;

pub mod json;
pub mod time;

#[cfg(test)]
mod fixtures;
