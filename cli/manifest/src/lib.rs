//! Reads manifests as `kubectl` does, and says exactly where something is wrong.
//!
//! ```text
//! files → yaml: documents, every field with its line and column
//!       → schema: what an API server refuses (the CRDs' own schemas; unknown fields too)
//!       → CEL: the CRDs' rules, where the schema fits
//!       → Located<NotificationGateway | NotificationChannel | Secret | Namespace>, or a Problem
//! ```
//! Nothing here needs a cluster. A document with a problem is left out; the others are still read.

mod manifest;

mod yaml;

mod schema;

mod kinds;

pub mod field;

pub use manifest::{Located, MAX_FILE_BYTES, MAX_TOTAL_BYTES, Manifests, Origin, Problem, read_dir, read_str};
pub use yaml::{
    Document, MAX_COPIED_BYTES, MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_KEY_BYTES, MAX_MISTAKES, MAX_NODES,
    Mistake, Position, Positions, documents,
};
