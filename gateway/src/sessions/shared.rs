//! Writing to a session where replicas share it.

use std::sync::Arc;

use super::{Generation, Session};
use crate::adapter::{Adapter, AdapterError, ChannelRef, SessionChange, Written};

/// Writes to a session; one that has been forgotten is written whole first. Gives false where a later generation has it.
///
/// # Errors
/// [`AdapterError::Unavailable`].
pub async fn write<A: Adapter>(
    adapter: &A,
    channel: ChannelRef<'_>,
    session: &Session,
    generation: Generation,
    change: SessionChange<'_>,
) -> Result<bool, AdapterError> {
    let write = |change| adapter.write_session(channel, &session.pid, generation, change);
    match write(change.clone()).await? {
        Written::Yes => return Ok(true),
        Written::TakenOver => return Ok(false),
        Written::Forgotten => {}
    }
    let whole = {
        let state = session.lock();
        let is_mine = state.generation == generation && !state.ended;
        is_mine.then(|| {
            (
                Arc::clone(&state.identity),
                state.client.unwrap_or_default(),
                state.start.clone(),
                state.begun.clone(),
                state.joined.clone(),
            )
        })
    };
    let Some((identity, client, start, begun, rooms)) = whole else {
        return Ok(false);
    };
    let take = SessionChange::Take {
        identity: &identity,
        client,
        start: &start,
        begun: &begun,
        rooms: &rooms,
    };
    Ok(write(take).await? == Written::Yes && write(change).await? == Written::Yes)
}
