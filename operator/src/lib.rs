//! Makes what people declare into what a gateway serves.
//!
//! ```text
//! NotificationGateway, NotificationChannel, Secret
//!     → dereference   what they refer to                            [needs a client]
//!     → validate      what can be served, and everything wrong      [pure]
//!     → translate     the gateway's configuration, cannot fail      [pure]
//!     → apply         Deployment, Service, configuration objects    [needs a client]
//!     → status        conditions of gateways and channels           [pure]
//! ```
//! Two of these steps exist today, [`validate`] and [`translate`]; `aldis validate` and `aldis dev` call them with what
//! they read from files. Pure means: same objects, same outcome; no client, clock or environment.

pub mod validate;

pub mod translate;

pub use translate::translate;
pub use validate::{Objects, Outcome, Problem, Reason, Validated, validate};
