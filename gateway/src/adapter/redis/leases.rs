//! Which replica reads which partition, so that others notice at once when it is dead.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::keys::Keys;
use super::scripts::{self, Call, outcome};
use super::{AdapterError, RedisAdapter};
use crate::adapter::{Publish, TopicPartition};

/// How long a replica counts as alive after it said so. 600 ms: it says so every 200 ms, and may be late twice.
const ALIVE: Duration = Duration::from_millis(600);

impl<P: Publish> RedisAdapter<P> {
    pub(super) async fn lease(&self, owned: Option<&[TopicPartition]>) -> Result<Vec<TopicPartition>, AdapterError> {
        let keys = Keys::of(&self.gateway, "");
        let names = owned.unwrap_or_default();
        let names = names.iter().map(|(topic, partition)| format!("{topic}|{partition}"));
        let call = Call::new(scripts::lease(), &keys)
            .arg(&self.nodes.here.replica)
            .arg(ALIVE.as_millis())
            .arg(if owned.is_some() { "owned" } else { "alive" })
            .args(names);
        let answer = self.nodes.of(&keys).await?.server.run(&call).await?;
        if outcome(&answer) != "ok" {
            return Err(AdapterError::Unavailable("redis does not say who is alive".to_owned()));
        }
        let answer = Answer(&answer);
        let stands_in = (1..answer.len()).filter_map(|at| {
            let (topic, partition) = answer.text(at).rsplit_once('|')?;
            Some((Arc::from(topic), partition.parse().ok()?))
        });
        Ok(stands_in.collect())
    }
}
