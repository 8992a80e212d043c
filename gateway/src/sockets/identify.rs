//! identify: who a client is, and what happens to one that is not let in.

use std::fmt::Display;

use aldis_core::channel::Channel;
use aldis_core::identity::{Examined, Handshake, Identity, Refusal};
use aldis_crds::names::ChannelName;
use socketioxide::socket::Socket;

use super::{Namespace, Shared, client};
use crate::adapter::Adapter;
use crate::jwks::NotVerified;
use crate::metrics::Metrics;
use crate::sabotage::Rule;
use crate::wire::refusal_text;

/// What a client that can not be let in now counts as, beside the codes of refusals.
const KEYS_UNAVAILABLE: &str = "keys_unavailable";

/// The channel has gone, or is not there yet: the next configuration may say otherwise.
pub(super) const NOT_SERVED: NotAdmitted = NotAdmitted::ForNow("not_served");

/// Why a client is not let in.
pub(crate) enum NotAdmitted {
    /// It stays so: connect_error, after which a stock client does not try again.
    Refused(Refusal),
    /// It passes: the connection is closed, and a stock client comes back by itself. What metrics and logs call it.
    ForNow(&'static str),
}

impl From<Refusal> for NotAdmitted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotVerified> for NotAdmitted {
    fn from(not_verified: NotVerified) -> Self {
        match not_verified {
            NotVerified::Refused(refusal) => Self::Refused(refusal),
            NotVerified::Unavailable => Self::ForNow(KEYS_UNAVAILABLE),
        }
    }
}

impl NotAdmitted {
    /// Counts it.
    pub(crate) fn count(&self, metrics: &Metrics, channel: &ChannelName) {
        match self {
            Self::Refused(refusal) => {
                metrics.refused(channel, refusal.code());
                if let Refusal::Token(fault) = refusal {
                    metrics.token_refused(channel, fault.reason);
                }
            }
            Self::ForNow(reason) => metrics.refused(channel, reason),
        }
    }
}

/// Who the client is. It is held while its issuer's keys are fetched.
pub(crate) async fn identify<A>(
    shared: &Shared<A>,
    channel: &Channel,
    handshake: &Handshake<'_>,
) -> Result<Identity, NotAdmitted> {
    let examined = channel.methods.examine(handshake, shared.clock.now())?;
    verify(shared, channel, examined).await
}

/// Who shows a token where nothing but a token counts.
pub(crate) async fn identify_by_token<A>(
    shared: &Shared<A>,
    channel: &Channel,
    token: &str,
) -> Result<Identity, NotAdmitted> {
    let examined = channel.methods.examine_token(token.to_owned(), shared.clock.now())?;
    verify(shared, channel, examined).await
}

async fn verify<A>(shared: &Shared<A>, channel: &Channel, examined: Examined<'_>) -> Result<Identity, NotAdmitted> {
    match examined {
        Examined::Admitted(identity) => Ok(identity),
        Examined::Token(token) => Ok(shared.jwks.verify(channel, &token).await?),
    }
}

impl<A: Adapter> Namespace<A> {
    /// The text of the connect_error that a client gets; for one whose reason passes it does not arrive.
    pub(super) fn refuse(&self, socket: &Socket, not_admitted: NotAdmitted) -> Box<dyn Display + Send> {
        not_admitted.count(&self.shared.metrics, &self.channel);
        match not_admitted {
            NotAdmitted::Refused(refusal) => {
                tracing::info!(channel = %self.channel, reason = refusal.code(), detail = ?refusal, "connection refused");
                Box::new(refusal_text(refusal.code(), &refusal.message()))
            }
            NotAdmitted::ForNow(reason) => {
                tracing::info!(channel = %self.channel, reason, "connection closed: there is no way in for now");
                if Rule::OnlyPermanentRefusals.is_on() {
                    client::close(socket, &self.transports);
                }
                // What is said to a connection that is closed is not heard.
                Box::new(refusal_text(reason, "Try again later"))
            }
        }
    }
}
