//! Which connection carries an Engine.IO session, and which sessions are closed.
//!
//! socketioxide can not close a session whose queue is full. We can: by ending its connection, and where it polls by
//! refusing its next request as the session of an unknown id, which makes the client connect anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;

use crate::connection::Connection;
use crate::wire::{Link, connect_namespace, connect_with_pid};

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
    /// WebSocket connections of sessions that began with polling, and their wires.
    upgrades: HashMap<String, Upgrade>,
    closed: HashMap<String, Instant>,
    /// Names of sessions that polling clients are to hear in their CONNECT, with their Socket.IO namespace.
    names: HashMap<String, Vec<(String, String)>>,
}

/// A session on its way from polling to WebSocket.
struct Upgrade {
    connection: Connection,
    link: Arc<dyn Link>,
}

/// The wire of a session that begins with WebSocket; travels with its request.
#[derive(Clone)]
pub struct WireLink(pub Arc<dyn Link>);

/// Engine.IO session ids of engineioxide are 16 characters of base64url.
fn is_session_id(sid: &str) -> bool {
    sid.len() == 16
        && sid
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The Engine.IO session id in a request's query.
fn session_id(uri: &Uri) -> Option<&str> {
    let mut pairs = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == "sid").map(|(_, value)| value)
}

/// Whether a request begins a session.
pub(super) fn begins_session(uri: &Uri) -> bool {
    session_id(uri).is_none()
}

impl Transports {
    /// Lets a request pass.
    ///
    /// # Errors
    /// The body of the refusal, where the session is closed.
    pub fn admit(&self, uri: &Uri) -> Result<(), &'static str> {
        let Some(sid) = session_id(uri) else { return Ok(()) };
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.closed.contains_key(sid) {
            Err(UNKNOWN_SESSION)
        } else {
            Ok(())
        }
    }

    /// Remembers the wire of a session that upgrades, and gives its id; `None` for a request that begins a session, or
    /// names none that can be.
    pub fn upgrades(&self, uri: &Uri, connection: &Connection, link: &Arc<dyn Link>) -> Option<String> {
        let sid = session_id(uri).filter(|sid| is_session_id(sid))?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        for (namespace, pid) in sessions.names.get(sid).into_iter().flatten() {
            link.name(namespace, pid);
        }
        // The first counts: a second upgrade of a session is refused by socketioxide, and must not take its place here.
        sessions.upgrades.entry(sid.to_owned()).or_insert_with(|| Upgrade {
            connection: connection.clone(),
            link: Arc::clone(link),
        });
        Some(sid.to_owned())
    }

    /// The wire of an upgrade is gone. Where it broke off on the way, socketioxide would go on answering the session's polls
    /// with nothing until a heartbeat is missed: the session is closed instead, and the client begins anew.
    pub fn upgrade_ended(&self, sid: &str, link: &Arc<dyn Link>) {
        let owned = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let owned = sessions
                .upgrades
                .get(sid)
                .is_some_and(|upgrade| Arc::ptr_eq(&upgrade.link, link));
            if owned {
                sessions.upgrades.remove(sid);
                sessions.names.remove(sid);
            }
            owned
        };
        if owned && link.is_taken_up() && !link.is_upgraded() {
            self.close(sid, None);
        }
    }

    /// The wire of a session that has upgraded.
    pub fn upgraded(&self, sid: &str) -> Option<Arc<dyn Link>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let link = &sessions.upgrades.get(sid)?.link;
        link.is_upgraded().then(|| Arc::clone(link))
    }

    /// Closes a session, whose first request came over `first`.
    pub fn close(&self, sid: &str, first: Option<&Connection>) {
        let upgrade = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            sessions
                .closed
                .retain(|_, since| now.duration_since(*since) < FORGET_AFTER);
            sessions.closed.insert(sid.to_owned(), now);
            sessions.upgrades.remove(sid)
        };
        for connection in first
            .into_iter()
            .chain(upgrade.as_ref().map(|upgrade| &upgrade.connection))
        {
            connection.end();
        }
    }

    /// Has the CONNECT of a namespace carry the session's name, for a client that polls, or is about to upgrade.
    pub fn name_session(&self, sid: &str, namespace: &str, pid: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upgrade) = sessions.upgrades.get(sid) {
            upgrade.link.name(namespace, pid);
        }
        let names = sessions.names.entry(sid.to_owned()).or_default();
        names.push((namespace.to_owned(), pid.to_owned()));
    }

    /// Forgets a name that no CONNECT has carried.
    pub fn unname(&self, sid: &str, namespace: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = sessions.names.get_mut(sid) {
            names.retain(|(known, _)| known != namespace);
            if names.is_empty() {
                sessions.names.remove(sid);
            }
        }
    }

    /// The names that the reply to a polling request is to carry.
    pub fn names(&self, uri: &Uri) -> Option<Names<'_>> {
        let sid = session_id(uri)?;
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.names.contains_key(sid).then(|| Names {
            transports: self,
            sid: sid.to_owned(),
        })
    }

    /// Forgets a session whose transport is gone.
    pub fn forget(&self, sid: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.upgrades.remove(sid);
        sessions.names.remove(sid);
    }
}

/// Names of sessions for one polling client.
pub struct Names<'t> {
    transports: &'t Transports,
    sid: String,
}

/// What separates packets in a polling reply (Engine.IO 4).
const SEPARATOR: char = '\u{1e}';

impl Names<'_> {
    /// Puts the names into the CONNECT packets of a polling reply.
    pub fn put(&self, reply: &str) -> String {
        let mut sessions = self.transports.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(names) = sessions.names.get_mut(&self.sid) else {
            return reply.to_owned();
        };
        let packets = reply.split(SEPARATOR).map(|packet| {
            let name = connect_namespace(packet).and_then(|ns| names.iter().position(|(namespace, _)| namespace == ns));
            name.and_then(|at| connect_with_pid(packet, &names.swap_remove(at).1))
                .unwrap_or_else(|| packet.to_owned())
        });
        let reply = packets.collect::<Vec<_>>().join(&SEPARATOR.to_string());
        if names.is_empty() {
            sessions.names.remove(&self.sid);
        }
        reply
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
        assert_eq!(transports.admit(&uri("transport=polling")), Ok(()));
        assert_eq!(transports.admit(&uri("transport=polling&sid=aaaaaaaaaaaaaaaa")), Ok(()));
        transports.close("aaaaaaaaaaaaaaaa", None);
        assert_eq!(
            transports.admit(&uri("transport=polling&sid=aaaaaaaaaaaaaaaa")),
            Err(UNKNOWN_SESSION)
        );
        assert_eq!(transports.admit(&uri("transport=polling&sid=b")), Ok(()));
    }

    #[tokio::test]
    async fn closing_ends_the_connection_that_the_session_upgraded_to() {
        let transports = Transports::default();
        let (first, upgraded) = (Connection::default(), Connection::default());
        let (_wire, link) = crate::wire::wire(tokio::io::duplex(8).0, bytes::Bytes::new());
        assert_eq!(
            transports
                .upgrades(&uri("transport=websocket&sid=aaaaaaaaaaaaaaaa"), &upgraded, &link)
                .as_deref(),
            Some("aaaaaaaaaaaaaaaa")
        );
        assert_eq!(transports.upgrades(&uri("transport=websocket"), &upgraded, &link), None);
        transports.close("aaaaaaaaaaaaaaaa", Some(&first));
        for connection in [&first, &upgraded] {
            let mut stream = crate::connection::Stream::new(tokio::io::empty(), connection);
            assert!(
                tokio::io::AsyncReadExt::read_u8(&mut stream)
                    .await
                    .unwrap_err()
                    .to_string()
                    .contains("closed by the gateway")
            );
        }
    }

    #[test]
    fn a_polling_client_hears_its_sessions_name_in_its_connect() {
        let transports = Transports::default();
        transports.name_session("aaaaaaaaaaaaaaaa", "/orders", "p1");
        assert!(transports.names(&uri("transport=polling&sid=b")).is_none());
        let names = transports
            .names(&uri("transport=polling&sid=aaaaaaaaaaaaaaaa"))
            .unwrap();
        assert_eq!(names.put("2\u{1e}42/orders,[\"x\"]"), "2\u{1e}42/orders,[\"x\"]");
        let reply = names.put("40{\"sid\":\"s\"}\u{1e}40/orders,{\"sid\":\"s\"}\u{1e}42/orders,[\"x\"]");
        assert_eq!(
            reply,
            "40{\"sid\":\"s\"}\u{1e}40/orders,{\"pid\":\"p1\",\"sid\":\"s\"}\u{1e}42/orders,[\"x\"]"
        );
        assert!(
            transports
                .names(&uri("transport=polling&sid=aaaaaaaaaaaaaaaa"))
                .is_none()
        );
    }
}
