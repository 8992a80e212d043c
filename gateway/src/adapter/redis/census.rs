//! What replicas tell each other, in Redis. What is a tenant's is in a hash slot of the tenant's own, what is a gateway's in one of
//! the gateway's; all of it expires unless it is said again.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::answer::Answer;
use super::keys::Keys;
use super::scripts::{self, Call, outcome};
use super::{AdapterError, RedisAdapter};
use crate::adapter::Publish;
use crate::adapter::census::{Census, Count, Counted, Peer};

/// For how long what a replica has said of a tenant's clients holds: 3 s. It says so every second; a client whose replica was killed
/// waits no longer than that for its place.
pub const COUNTS_HOLD: Duration = Duration::from_secs(3);
/// For how long a replica that says nothing more is named among the others: 10 s, so that who asks hears that one is missing.
pub const REMEMBERED: Duration = Duration::from_secs(10);

impl<P: Publish> RedisAdapter<P> {
    /// Names of what is a tenant's over all channels. No channel's uid begins so.
    fn tenant_keys(&self, tenant: &str) -> Keys {
        Keys::of(&self.gateway, &format!("@{tenant}"))
    }

    /// Names of what is the gateway's.
    fn gateway_keys(&self) -> Keys {
        Keys::of(&self.gateway, "")
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

    async fn beat(&self, demands: &str) -> Result<Vec<Peer>, AdapterError> {
        let keys = self.gateway_keys();
        let call = Call::new(scripts::beat(), &keys)
            .arg(&self.nodes.here.replica)
            .arg(REMEMBERED.as_millis())
            .arg(COUNTS_HOLD.as_millis())
            .arg(demands);
        let answer = self.run_as_it_is(&keys, &call).await?;
        if outcome(&answer) != "ok" {
            return Err(not_said("which replicas there are"));
        }
        let peers = answer.get(1..).unwrap_or_default().chunks(3);
        Ok(peers.map(peer).collect())
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

fn not_said(what: &str) -> AdapterError {
    AdapterError::Unavailable(format!("redis does not say {what}"))
}
