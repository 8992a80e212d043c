//! Makes what people declare into what a gateway serves. Everything here is pure: same objects, same outcome; no client,
//! clock or environment.
//!
//! ```text
//! NotificationGateway, NotificationChannel, Secret, Namespace
//!     → validate        what can be served, and everything wrong
//!     → translate       the gateway's configuration, cannot fail
//!     → objects         Deployment, Service, … and the objects that carry the configuration
//!     → scale           how many pods, where connections say so
//!     → status          conditions of gateways and channels
//! ```
//! `aldis validate` and `aldis dev` call the first two with what they read from files.

pub mod validate;

pub mod translate;

pub mod objects;

pub mod scale;

pub mod status;

pub use translate::translate;
pub use validate::{Objects, Outcome, Problem, Reason, Validated, validate};
