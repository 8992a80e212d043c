//! Where replicas are reached by each other: each says it of itself, under a mark of its own.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::keys::Keys;
use super::scripts::{self, Call};
use super::server::Server;
use super::{AdapterError, RedisAdapter};
use crate::adapter::Publish;

/// What replicas of one gateway say there.
#[derive(Clone)]
pub struct Peers {
    gateway: String,
    server: Arc<Server>,
}

impl<P: Publish> RedisAdapter<P> {
    /// Where replicas of this gateway are.
    pub fn peers(&self) -> Peers {
        Peers {
            gateway: self.gateway.clone(),
            server: Arc::clone(&self.server),
        }
    }
}

impl Peers {
    /// Says where the replica of this mark is, for so long.
    ///
    /// # Errors
    /// Where Redis is away.
    pub async fn say(&self, mark: &str, place: &str, ttl: Duration) -> Result<(), AdapterError> {
        let call = self.call("say", mark).arg(place).arg(ttl.as_millis());
        self.server.run(&call).await.map(drop)
    }

    /// What the replica of this mark has said, where it is still there.
    ///
    /// # Errors
    /// Where Redis is away.
    pub async fn find(&self, mark: &str) -> Result<Option<String>, AdapterError> {
        let answer = self.server.run(&self.call("find", mark)).await?;
        let place = Answer(&answer).text(1);
        Ok((!place.is_empty()).then(|| place.to_owned()))
    }

    /// Takes back what the replica of this mark has said.
    ///
    /// # Errors
    /// Where Redis is away: then it expires.
    pub async fn leave(&self, mark: &str) -> Result<(), AdapterError> {
        self.server.run(&self.call("leave", mark)).await.map(drop)
    }

    fn call(&self, what: &str, mark: &str) -> Call {
        Call::new(scripts::peer(), &Keys::of(&self.gateway, ""))
            .arg(what)
            .arg(mark)
    }
}
