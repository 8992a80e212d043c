//! What replicas tell each other through the adapter, beside deliveries: what each has of a tenant's clients, how much each wants
//! of a rate, and that it is there.
//!
//! An adapter of one process has nobody to tell: the defaults say so.

use std::sync::Arc;

use super::AdapterError;

/// A place that a client needs: what is counted, and how many there may be over all replicas.
pub type Wanted = (Arc<str>, u32);

/// A client that asks for its places, all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it needs.
    pub places: Vec<Wanted>,
    /// The replica whose places it takes over, where it comes back to a session whose connection that one still had.
    pub from: Option<Arc<str>>,
}

/// What a replica says of a tenant's clients, and asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Whether what it has said before counts no longer.
    pub is_fresh: bool,
    /// What it has now of each that has changed.
    pub counts: Vec<(Arc<str>, u32)>,
    /// Who wants to come in, in this order.
    pub asked: Vec<Asked>,
}

/// What became of a [`Count`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// What this replica has said before is not there any more: it is to be said anew. Nothing has happened.
    Forgotten,
    /// It is counted.
    Yes {
        /// For each who has asked the index of the first of its places that is not there; `None` where it has them all.
        verdicts: Vec<Option<usize>>,
        /// What others have taken over of what this replica has: it is to be said again.
        touched: Vec<Arc<str>>,
    },
}

/// Another replica, as it last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub replica: Arc<str>,
    /// How long ago, in ms.
    pub age_ms: u64,
    /// What it wants of the rates; empty where that has expired.
    pub demands: String,
}

/// What replicas tell each other.
pub trait Census: Send + Sync + 'static {
    /// Counts clients of a tenant over all replicas, and gives places to those for whom there are some, in one atomic step.
    ///
    /// # Errors
    /// [`AdapterError`]: it is not known whether it has happened.
    fn count(&self, _tenant: &str, count: &Count) -> impl Future<Output = Result<Counted, AdapterError>> + Send {
        let verdicts = vec![None; count.asked.len()];
        async {
            Ok(Counted::Yes {
                verdicts,
                touched: Vec::new(),
            })
        }
    }

    /// Says that this replica is there, and what it wants of the rates; gives the others.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn beat(&self, _demands: &str) -> impl Future<Output = Result<Vec<Peer>, AdapterError>> + Send {
        async { Ok(Vec::new()) }
    }
}
