//! The tests through the real parts: the binary `aldis`, stock Socket.IO clients in Node, and a real Apache Kafka.
//!
//! First what the tests are made of, then the tests, one behaviour a file. They need what `scripts/setup.sh` installs, and
//! the binary `aldis` next to them: `cargo nextest run --workspace` builds it.

#[cfg(test)]
mod deadline;

#[cfg(test)]
mod kafka;

#[cfg(test)]
mod records;

#[cfg(test)]
mod manifests;

#[cfg(test)]
mod markdown;

#[cfg(test)]
mod gateway;

#[cfg(test)]
mod request;

#[cfg(test)]
mod standalone;

#[cfg(test)]
mod authority;

#[cfg(test)]
mod metrics;

#[cfg(test)]
mod node;

#[cfg(test)]
mod proxy;

#[cfg(test)]
mod round_robin;

#[cfg(test)]
mod redis;

#[cfg(test)]
mod kubernetes;

#[cfg(test)]
mod adapters;

#[cfg(test)]
mod repeating;

#[cfg(test)]
mod raw;

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod chaos;

#[cfg(test)]
mod tests;
