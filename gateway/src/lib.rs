//! The gateway: Kafka records in, Socket.IO events out.
//!
//! Read [`pipeline`] first: it is the path of a record, in one place. Then the steps in their order:
//!
//! ```text
//! consume → decode → route → adapter → hub → client          pipeline.rs
//!           └ aldis-core ┘
//! listener → sockets → hub                                   a client connects, joins and leaves
//! listener → forward → another replica                       a client asks here whose session is there
//! source → app → listeners                                   a configuration comes in force, while clients stay
//! └ directory, or cluster → acknowledge                      from files, or from Kubernetes, to whose operator it is told
//! app                                                        puts it all together; admin, status, metrics, clock serve it
//! ```

pub mod consume;
pub mod kafka;

pub mod dead_letter;

pub mod pipeline;

pub mod adapter;

pub mod hub;

pub mod listener;
pub mod listeners;

pub mod forward;

pub mod sockets;

pub mod limits;
pub mod replicas;
pub mod sessions;
pub mod stats;

pub mod http;

pub mod jwks;

pub mod egress;

pub mod connection;
pub mod wire;

pub mod app;
pub mod status;

pub mod cluster;
pub mod directory;
pub mod source;

pub mod acknowledge;

pub mod admin;
pub mod clock;
pub mod logs;
pub mod metrics;
pub mod sabotage;
pub mod traces;
