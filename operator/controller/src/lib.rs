//! aldis-operator: watches a cluster, and makes it what people declared.
//!
//! ```text
//! crds     what the cluster has can carry what is written, or nothing is
//! watch    stores of all kinds; nothing is written before every one is in sync
//!   → world    what is there now, as aldis-operator's pure steps take it
//!   → plan     validate, translate, objects, status: no I/O
//!   → apply    server-side apply of what is new, then what nobody needs any more is deleted
//!   → scale    how many pods there are, where connections say so
//!   → report   statuses and events
//! ```
//! Every replica watches; the holder of the lease writes; losing it ends the process. One pass looks at everything, so that
//! nothing depends on which change was seen first. A pass follows each change, and a jittered interval where none comes.

pub mod leader;
pub mod watch;

mod world;

mod plan;

mod apply;
mod backoff;
mod crds;
mod scale;
mod sweep;

mod report;
mod unreadable;

pub mod metrics;
pub mod run;
pub mod serve;
