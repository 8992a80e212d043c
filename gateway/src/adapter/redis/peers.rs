//! Where replicas are reached by each other: each says it of itself, under a mark of its own.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::answer::Answer;
use super::keys::Keys;
use super::nodes::Nodes;
use super::scripts::{self, Call};
use super::{AdapterError, RedisAdapter};
use crate::adapter::Publish;

/// What replicas of one gateway say there.
pub struct Peers<P> {
    gateway: String,
    nodes: Arc<Nodes<P>>,
}

impl<P> Clone for Peers<P> {
    fn clone(&self) -> Self {
        Self {
            gateway: self.gateway.clone(),
            nodes: Arc::clone(&self.nodes),
        }
    }
}

impl<P: Publish> RedisAdapter<P> {
    /// Where replicas of this gateway are.
    pub fn peers(&self) -> Peers<P> {
        Peers {
            gateway: self.gateway.clone(),
            nodes: Arc::clone(&self.nodes),
        }
    }
}

impl<P: Publish> Peers<P> {
    /// Says where the replica of this mark is, for so long.
    ///
    /// # Errors
    /// Where Redis is away.
    pub async fn say(&self, mark: &str, place: &str, ttl: Duration) -> Result<(), AdapterError> {
        let keys = self.keys();
        let call = call(&keys, "say", mark).arg(place).arg(ttl.as_millis());
        self.run(&keys, &call).await.map(drop)
    }

    /// What the replica of this mark has said, where it is still there.
    ///
    /// # Errors
    /// Where Redis is away.
    pub async fn find(&self, mark: &str) -> Result<Option<String>, AdapterError> {
        let keys = self.keys();
        let answer = self.run(&keys, &call(&keys, "find", mark)).await?;
        let place = Answer(&answer).text(1);
        Ok((!place.is_empty()).then(|| place.to_owned()))
    }

    /// Takes back what the replica of this mark has said.
    ///
    /// # Errors
    /// Where Redis is away: then it expires.
    pub async fn leave(&self, mark: &str) -> Result<(), AdapterError> {
        let keys = self.keys();
        self.run(&keys, &call(&keys, "leave", mark)).await.map(drop)
    }

    fn keys(&self) -> Keys {
        Keys::of(&self.gateway, "")
    }

    async fn run(&self, keys: &Keys, call: &Call) -> Result<Vec<Value>, AdapterError> {
        self.nodes.of(keys).await?.server.run(call).await
    }
}

fn call(keys: &Keys, what: &str, mark: &str) -> Call {
    Call::new(scripts::peer(), keys).arg(what).arg(mark)
}
