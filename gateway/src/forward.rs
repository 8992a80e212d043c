//! forward: a request of a session that another replica has is passed on to that one, so that clients that poll may be behind
//! any proxy, however it spreads what they ask.
//!
//! ```text
//! open      the id of a session that begins with polling is marked                                    mark.rs
//! ask       an id with the mark of another → where that one is (Redis) → its peer port → its answer   ask.rs
//! answer    the peer port: who shows this replica's token is answered as its client would be          answer.rs
//! ```
//! Each replica says in Redis where its peer port is, with a token that it has made up: who may read the gateway's Redis is a
//! replica of it. Hosts and origins are judged where the client asks, sessions where they are.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::adapter::redis;
use crate::hub::Hub;
use crate::metrics::Metrics;

mod answer;
mod ask;
mod mark;

pub(crate) use answer::{PeerPort, serve};
pub(crate) use ask::{Answer, Elsewhere, Failed};
pub(crate) use mark::Mark;

/// Where replicas say that they are.
type Peers = redis::Peers<Hub<Arc<Metrics>>>;

/// How often a replica says where it is. 5 s: a Redis that came back empty knows soon.
const SAY: Duration = Duration::from_secs(5);
/// For how long that counts. 20 s: three times may fail.
const COUNTS: Duration = Duration::from_secs(20);
/// For how long it is not asked again where a replica is. 10 s: a replica keeps its place for as long as it lives, and one that
/// is gone refuses connections.
const KNOWN: Duration = Duration::from_secs(10);
/// Replicas whose place is remembered. 1,024: a gateway has at most 1,000.
const MAX_KNOWN: usize = 1024;
/// Requests that are passed on at once, WebSockets among them: each costs two sockets of this process. 4,096: 20 % of the files
/// that a process may have open by default. More are answered 503.
pub const MAX_FORWARDED: usize = 4096;
/// Questions to Redis at once. 32: a client that makes marks up must not take it from others.
const MAX_LOOKUPS: usize = 32;

/// Where the peer port is, and how others reach it.
#[derive(Clone, Copy, Debug)]
pub struct PeerSettings {
    /// On which address and port it listens; port 0 is any.
    pub bind: SocketAddr,
    /// Under which address other replicas reach it; that of `bind` where there is none.
    pub advertise: Option<IpAddr>,
}

/// Where a replica is, as it says it in Redis.
#[derive(Clone, Serialize, Deserialize)]
struct Peer {
    address: SocketAddr,
    token: String,
}

/// Whose the session of a request is.
pub(crate) enum Whose {
    /// This replica's, or nobody's. With the URI that engineioxide understands, where that is another.
    Ours(Option<Uri>),
    /// That of the replica with this mark.
    Another(Mark),
}

/// What a replica knows of itself and its peers.
pub struct Forward {
    mark: Mark,
    token: String,
    peers: Peers,
    known: Mutex<HashMap<Mark, (Instant, Peer)>>,
    places: Arc<Semaphore>,
    lookups: Semaphore,
    metrics: Arc<Metrics>,
}

impl Forward {
    /// With the peers that say in Redis where they are.
    pub(crate) fn new(peers: Peers, metrics: Arc<Metrics>) -> Self {
        Self {
            mark: Mark::random(),
            token: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()),
            peers,
            known: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_FORWARDED)),
            lookups: Semaphore::new(MAX_LOOKUPS),
            metrics,
        }
    }

    /// Whose the session of a request is.
    pub(crate) fn whose(&self, uri: &Uri) -> Whose {
        match mark::of_request(uri) {
            None => Whose::Ours(None),
            Some((mark, uri)) if mark == self.mark => Whose::Ours(Some(uri)),
            Some((mark, _)) => Whose::Another(mark),
        }
    }

    /// The text of an open packet, with its session marked as this replica's.
    pub(crate) fn opened(&self, packet: &str, id: &str) -> String {
        self.mark.opened(packet, id)
    }

    /// Says where this replica is, until `stop`, and then that it is gone.
    async fn say(&self, address: SocketAddr, stop: CancellationToken) {
        let (mark, token) = (self.mark.as_str(), self.token.clone());
        let place = serde_json::to_string(&Peer { address, token }).unwrap_or_default();
        let mut every = tokio::time::interval(SAY);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = every.tick() => {}
            }
            if let Err(error) = self.peers.say(mark, &place, COUNTS).await {
                tracing::debug!(%error, "other replicas are not told where this one is, trying again");
            }
        }
        // It expires anyway.
        self.peers.leave(mark).await.ok();
    }

    /// Where the replica of a mark is; `None`: there is none.
    async fn find(&self, mark: &Mark) -> Result<Option<Peer>, impl Display + use<>> {
        let known = self.known().get(mark).cloned();
        if let Some((since, peer)) = &known
            && since.elapsed() < KNOWN
        {
            return Ok(Some(peer.clone()));
        }
        let _place = self.lookups.acquire().await;
        match self.peers.find(mark.as_str()).await {
            Ok(place) => {
                let peer: Option<Peer> = place.and_then(|place| serde_json::from_str(&place).ok());
                let mut known = self.known();
                match &peer {
                    None => drop(known.remove(mark)),
                    Some(peer) => {
                        if known.len() >= MAX_KNOWN {
                            known.retain(|_, (since, _)| since.elapsed() < KNOWN);
                        }
                        if known.len() < MAX_KNOWN {
                            known.insert(mark.clone(), (Instant::now(), peer.clone()));
                        }
                    }
                }
                Ok(peer)
            }
            // What was so a moment ago is still likely to be.
            Err(error) => known.map(|(_, peer)| Some(peer)).ok_or(error),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Mark, (Instant, Peer)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
