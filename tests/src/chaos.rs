//! Chaos: everything goes wrong at times that a seed decides, and a checker outside the gateways says what clients lost.
//!
//! ```text
//! schedule (pure: seed → faults) → world (does them to gateways, Kafka, Redis, connections)
//! load → records ┐
//! stock, light ──┴→ history → checker (pure) → verdict → report
//! ```

mod checker;
mod history;
mod light;
mod load;
mod log_of_redis;
mod random;
mod report;
mod run;
mod schedule;
mod server;
mod stock;
mod topology;
mod twins;
mod world;

pub(crate) use report::report;
pub(crate) use run::{Plan, run};
pub(crate) use server::Kind;
