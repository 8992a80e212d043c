//! What replicas tell each other through the adapter, beside deliveries: what each has of a tenant's clients, how much each wants
//! of a rate, and that it is there.
//!
//! An adapter of one process has nobody to tell: the defaults say so.

use std::sync::Arc;

use tokio::sync::watch;

use super::{AdapterError, ChannelRef};

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

/// What all replicas are to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name; it grows with time.
    pub id: String,
    /// What.
    pub text: String,
}

/// What was heard with a beat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The other replicas.
    pub peers: Vec<Peer>,
    /// What they have ordered since.
    pub orders: Vec<Order>,
    /// The id of the last order there was.
    pub last: String,
}

/// Whose sessions are not to be come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dismissed<'d> {
    /// Those that are in a room, as its key shows it.
    Room(&'d str),
    /// Those of a user.
    User(&'d str),
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

    /// Says that this replica is there, and what it wants of the rates; gives the others, and what they have ordered since the order
    /// of this id. The first time, without one, nothing.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn beat(&self, _demands: &str, _since: &str) -> impl Future<Output = Result<Heard, AdapterError>> + Send {
        async { Ok(Heard::default()) }
    }

    /// Says goodbye: nobody waits for this replica any more.
    fn leave(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Says who is connected to a channel here; without it, that it is as it was. Gives false where that is forgotten.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn tell(
        &self,
        _channel: ChannelRef<'_>,
        _said: Option<&str>,
    ) -> impl Future<Output = Result<bool, AdapterError>> + Send {
        async { Ok(true) }
    }

    /// What these replicas have said of a channel; empty for those that have nobody there.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn told(
        &self,
        _channel: ChannelRef<'_>,
        _replicas: &[Arc<str>],
    ) -> impl Future<Output = Result<Vec<String>, AdapterError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Tells all other replicas to do something. Gives its id, and how many ms ago each of them said that it is there.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn order(&self, _order: &str) -> impl Future<Output = Result<(String, Vec<u64>), AdapterError>> + Send {
        async { Ok((String::new(), Vec::new())) }
    }

    /// Changes whenever there may be an order.
    fn ordered(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Says what an order came to here.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn answer(&self, _id: &str, _number: usize) -> impl Future<Output = Result<(), AdapterError>> + Send {
        async { Ok(()) }
    }

    /// What an order came to at those that have said so.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn answers(&self, _id: &str) -> impl Future<Output = Result<Vec<usize>, AdapterError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// From now on nobody comes back to sessions of these that are older than this.
    ///
    /// # Errors
    /// [`AdapterError::Unavailable`].
    fn dismiss_sessions(
        &self,
        _channel: ChannelRef<'_>,
        _whose: Dismissed<'_>,
    ) -> impl Future<Output = Result<(), AdapterError>> + Send {
        async { Ok(()) }
    }
}
