//! What replicas tell each other, in Redis. What is a tenant's is in a hash slot of the tenant's own, what is a gateway's in one of
//! the gateway's; all of it expires unless it is said again.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;

use super::answer::Answer;
use super::keys::Keys;
use super::scripts::{self, Call, outcome};
use super::{AdapterError, RedisAdapter, room_ttl};
use crate::adapter::census::{Census, Count, Counted, Dismissed, Heard, Order, Peer};
use crate::adapter::{ChannelRef, Publish};

/// For how long what a replica has said of a tenant's clients holds: 3 s. It says so every second; a client whose replica was killed
/// waits no longer than that for its place.
pub const COUNTS_HOLD: Duration = Duration::from_secs(3);
/// For how long a replica that says nothing more is named among the others: 10 s, so that who asks hears that one is missing.
pub const REMEMBERED: Duration = Duration::from_secs(10);

/// For how long an order is kept for replicas that have not heard of it: 60 s. One that is away for longer has lost its clients.
const ORDERS_HOLD: Duration = Duration::from_secs(60);
/// How many orders are kept, about. 10,000; beyond it the oldest go.
const ORDERS: usize = 10_000;
/// Users and rooms of a channel of which it is kept when they were sent away. 10,000; beyond it the oldest go.
const DISMISSED: usize = 10_000;

impl<P: Publish> RedisAdapter<P> {
    /// Names of what is a tenant's over all channels. No channel's uid begins so.
    fn tenant_keys(&self, tenant: &str) -> Keys {
        Keys::of(&self.gateway, &format!("@{tenant}"))
    }

    /// Names of what is the gateway's.
    fn gateway_keys(&self) -> Keys {
        Keys::of(&self.gateway, "")
    }

    async fn ask(&self, keys: &Keys, call: &Call, what: &str) -> Result<Vec<Value>, AdapterError> {
        let answer = self.run_as_it_is(keys, call).await?;
        match outcome(&answer) {
            "ok" => Ok(answer),
            _ => Err(not_said(what)),
        }
    }
}

impl<P: Publish> Census for RedisAdapter<P> {
    async fn count(&self, tenant: &str, count: &Count) -> Result<Counted, AdapterError> {
        let keys = self.tenant_keys(tenant);
        let mut call = Call::new(scripts::count(), &keys)
            .arg(&self.nodes.here.replica)
            .arg(COUNTS_HOLD.as_millis())
            .arg(if count.is_fresh { "fresh" } else { "known" })
            .arg(count.counts.len());
        for (name, number) in &count.counts {
            call = call.arg(name).arg(number);
        }
        for asked in &count.asked {
            call = call
                .arg(asked.places.len())
                .arg(asked.from.as_deref().unwrap_or_default());
            for (name, limit) in &asked.places {
                call = call.arg(name).arg(limit);
            }
        }
        let answer = self.run_as_it_is(&keys, &call).await?;
        let verdicts = Answer(&answer);
        let (verdicts, touched) = (verdicts.list(1), verdicts.list(2));
        match outcome(&answer) {
            "forgotten" => Ok(Counted::Forgotten),
            "ok" if verdicts.len() == count.asked.len() => Ok(Counted::Yes {
                verdicts: (0..verdicts.len())
                    .map(|at| (Answer(verdicts).number(at) as usize).checked_sub(1))
                    .collect(),
                touched: (0..touched.len())
                    .map(|at| Arc::from(Answer(touched).text(at)))
                    .collect(),
            }),
            _ => Err(not_said("who is connected")),
        }
    }

    async fn beat(&self, demands: &str, since: &str) -> Result<Heard, AdapterError> {
        let keys = self.gateway_keys();
        let call = Call::new(scripts::beat(), &keys)
            .arg(&self.nodes.here.replica)
            .arg(REMEMBERED.as_millis())
            .arg(COUNTS_HOLD.as_millis())
            .arg(demands)
            .arg(since);
        let answer = self.ask(&keys, &call, "which replicas there are").await?;
        let answer = Answer(&answer);
        Ok(Heard {
            peers: answer.list(1).chunks(3).map(peer).collect(),
            last: answer.text(2).to_owned(),
            orders: answer.list(3).chunks(2).map(order).collect(),
        })
    }

    async fn leave(&self) {
        let keys = self.gateway_keys();
        let call = Call::new(scripts::leave(), &keys).arg(&self.nodes.here.replica);
        if let Err(error) = self.run_as_it_is(&keys, &call).await {
            tracing::debug!(%error, "other replicas are not told that this one goes; they notice");
        }
    }

    async fn tell(&self, channel: ChannelRef<'_>, said: Option<&str>) -> Result<bool, AdapterError> {
        let keys = self.keys(&channel);
        let call = Call::new(scripts::tell(), &keys)
            .arg(&self.nodes.here.replica)
            .arg(COUNTS_HOLD.as_millis())
            .args(said);
        let answer = self.run_as_it_is(&keys, &call).await?;
        Ok(outcome(&answer) == "ok")
    }

    async fn told(&self, channel: ChannelRef<'_>, replicas: &[Arc<str>]) -> Result<Vec<String>, AdapterError> {
        if replicas.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys(&channel);
        let call = Call::new(scripts::told(), &keys).args(replicas);
        let answer = self.ask(&keys, &call, "who is connected").await?;
        let answer = Answer(&answer);
        Ok((1..answer.len()).map(|at| answer.text(at).to_owned()).collect())
    }

    async fn order(&self, order: &str) -> Result<(String, Vec<u64>), AdapterError> {
        let keys = self.gateway_keys();
        let call = Call::new(scripts::order(), &keys)
            .arg(&self.nodes.here.replica)
            .arg(ORDERS_HOLD.as_millis())
            .arg(ORDERS)
            .arg("PUBLISH")
            .arg(order)
            .arg(REMEMBERED.as_millis());
        let answer = self.ask(&keys, &call, "that it takes orders").await?;
        let answer = Answer(&answer);
        let ages = (2..answer.len()).map(|at| answer.number(at));
        Ok((answer.text(1).to_owned(), ages.collect()))
    }

    fn ordered(&self) -> watch::Receiver<u64> {
        self.nodes.here.ordered.subscribe()
    }

    async fn answer(&self, id: &str, number: usize) -> Result<(), AdapterError> {
        let keys = self.gateway_keys();
        let call = Call::new(scripts::answer(), &keys)
            .arg(id)
            .arg(&self.nodes.here.replica)
            .arg(number);
        self.ask(&keys, &call, "that it takes answers").await.map(drop)
    }

    async fn answers(&self, id: &str) -> Result<Vec<usize>, AdapterError> {
        let keys = self.gateway_keys();
        let call = Call::new(scripts::answer(), &keys).arg(id);
        let answer = self.ask(&keys, &call, "what came of an order").await?;
        let answer = Answer(&answer);
        Ok((1..answer.len()).map(|at| answer.number(at) as usize).collect())
    }

    async fn dismiss_sessions(&self, channel: ChannelRef<'_>, whose: Dismissed<'_>) -> Result<(), AdapterError> {
        let whose = match whose {
            Dismissed::Room(room) => format!("r:{room}"),
            Dismissed::User(user) => format!("u:{user}"),
        };
        let keys = self.keys(&channel);
        let call = Call::new(scripts::dismiss(), &keys)
            .arg(whose)
            .arg(room_ttl(&channel))
            .arg(DISMISSED);
        self.ask(&keys, &call, "whose sessions it keeps").await.map(drop)
    }
}

fn peer(said: &[Value]) -> Peer {
    let said = Answer(said);
    Peer {
        replica: said.text(0).into(),
        age_ms: said.number(1),
        demands: said.text(2).to_owned(),
    }
}

fn order(said: &[Value]) -> Order {
    let said = Answer(said);
    Order {
        id: said.text(0).to_owned(),
        text: said.text(1).to_owned(),
    }
}

fn not_said(what: &str) -> AdapterError {
    AdapterError::Unavailable(format!("redis does not say {what}"))
}
