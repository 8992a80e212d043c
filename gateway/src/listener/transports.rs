//! Which connection carries an Engine.IO session, and which sessions are closed.
//!
//! socketioxide can not close a session whose queue is full. We can: by ending its connection, and where it polls by
//! refusing its next request as the session of an unknown id, which makes the client connect anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;

use crate::connection::Connection;

use super::{PING_INTERVAL, PING_TIMEOUT};

/// How long a closed session is remembered: until the heartbeat has ended it for socketioxide too, twice over.
const FORGET_AFTER: Duration = Duration::from_secs(2 * (PING_INTERVAL.as_secs() + PING_TIMEOUT.as_secs()));

/// Engine.IO's own answer to a session id that it does not know.
const UNKNOWN_SESSION: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// Sessions of one listener, by Engine.IO session id. The ids are secrets of their clients: they are never shown.
#[derive(Default)]
pub struct Transports {
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    /// WebSocket connections of sessions that began with polling.
    upgraded: HashMap<String, Connection>,
    closed: HashMap<String, Instant>,
}

impl Transports {
    /// Lets a request pass, and remembers the connection of a session that upgrades to WebSocket.
    ///
    /// # Errors
    /// The body of the refusal, where the session is closed.
    pub fn admit(&self, uri: &Uri, connection: &Connection) -> Result<(), &'static str> {
        let query = |name: &str| {
            let pairs = uri.query().unwrap_or_default().split('&');
            pairs.filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let Some(sid) = query("sid") else { return Ok(()) };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.closed.contains_key(sid) {
            return Err(UNKNOWN_SESSION);
        }
        if query("transport") == Some("websocket") {
            sessions.upgraded.insert(sid.to_owned(), connection.clone());
        }
        Ok(())
    }

    /// Closes a session, whose first request came over `first`.
    pub fn close(&self, sid: &str, first: Option<&Connection>) {
        let upgraded = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            sessions.closed.retain(|_, since| now.duration_since(*since) < FORGET_AFTER);
            sessions.closed.insert(sid.to_owned(), now);
            sessions.upgraded.remove(sid)
        };
        for connection in first.into_iter().chain(&upgraded) {
            connection.end();
        }
    }

    /// Forgets a session whose transport is gone.
    pub fn forget(&self, sid: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.upgraded.remove(sid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("http://h/socket.io/?EIO=4&{query}").parse().unwrap()
    }

    #[test]
    fn a_closed_session_is_refused_and_others_are_not() {
        let transports = Transports::default();
        let connection = Connection::default();
        assert_eq!(transports.admit(&uri("transport=polling"), &connection), Ok(()));
        assert_eq!(transports.admit(&uri("transport=polling&sid=a"), &connection), Ok(()));
        transports.close("a", None);
        assert_eq!(transports.admit(&uri("transport=polling&sid=a"), &connection), Err(UNKNOWN_SESSION));
        assert_eq!(transports.admit(&uri("transport=polling&sid=b"), &connection), Ok(()));
    }

    #[tokio::test]
    async fn closing_ends_the_connection_that_the_session_upgraded_to() {
        let transports = Transports::default();
        let (first, upgraded) = (Connection::default(), Connection::default());
        transports.admit(&uri("transport=websocket&sid=a"), &upgraded).unwrap();
        transports.close("a", Some(&first));
        let mut streams = [&first, &upgraded].map(|connection| crate::connection::Stream::new(tokio::io::empty(), connection));
        for stream in &mut streams {
            assert!(tokio::io::AsyncReadExt::read_u8(stream).await.unwrap_err().to_string().contains("closed by the gateway"));
        }
    }
}
