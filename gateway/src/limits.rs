//! limits: what addresses, tenants and users may use at once, and how many may connect, send and be delivered each second.
//!
//! ```text
//! handshake   address ── too many, or the line is full ──→ 503, Retry-After
//! CONNECT     herd (a token bucket with a line) → permit of tenant, channel, address and user ── none within HOLD ──→ closed
//! ```
//! Whoever can not come in now is never told connect_error, after which a stock client does not try again. Everything that is
//! taken is a value that gives itself back when it is dropped: however a socket dies, it is counted right.
//!
//! These counts are of this replica; what holds over all of them is asked for beside them ([`crate::replicas`]).

use std::time::Duration;

pub mod address;
pub mod entrance;
pub mod herd;
pub mod permits;
pub mod places;
pub mod rate;

pub use address::{Peer, Proxies};
pub use entrance::{Busy, Entrance, Visit};
pub use herd::Herd;
pub use permits::{Full, Permit, Permits};
pub use places::{Place, Places};
pub use rate::{Rate, Rates};

/// Events that all clients of a tenant may send each second, whatever each of them may. 20,000: a few tenths of a core's time.
pub const TENANT_EVENTS_PER_SECOND: u32 = 20_000;

/// How long a CONNECT is held for a permit: 5 s. Within it a dead connection of the same user mostly is noticed; less than half of
/// a stock client's connect timeout, so that it does not give up first.
pub const HOLD: Duration = Duration::from_secs(5);
/// How often one that is held looks for a permit. 100 ms.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
