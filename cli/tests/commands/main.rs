//! The client, and the built binary's commands, against real servers on this machine: socketioxide for
//! Socket.IO, librdkafka's mock cluster for Kafka.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aldis;
mod client;
mod publish;
mod server;
mod surface;
mod tail;
mod token;
