//! Which connection carries an Engine.IO session, and which sessions are closed.
//!
//! socketioxide can not close a session whose queue is full. We can: by ending its connection, and where it polls by
//! refusing its next request as the session of an unknown id, which makes the client connect anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aldis_crds::gateway::Transport;
use http::Uri;

use super::polling::{Polled, Reply, Waiting, rewrite};
use super::refusal::Refusal;
use crate::connection::Connection;
use crate::sabotage::Rule;
use crate::wire::Link;

/// Sessions of one listener, by Engine.IO session id. The ids are secrets of their clients: they are never shown.
pub struct Transports {
    sessions: Mutex<Sessions>,
    /// After which a client that is gone is gone for socketioxide too.
    heartbeat: Duration,
    /// No session begins any more.
    draining: AtomicBool,
}

#[derive(Default)]
struct Sessions {
    /// All WebSockets, by a number of ours.
    wires: HashMap<u64, Arc<dyn Link>>,
    next_wire: u64,
    /// WebSockets that are passed on to another replica.
    passed_on: HashMap<u64, Connection>,
    /// Sessions that began with polling.
    polled: HashMap<String, Arc<Polled>>,
    swept: Option<Instant>,
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

/// A field of a request's query, as it is written there.
fn field<'u>(uri: &'u Uri, name: &str) -> Option<&'u str> {
    let mut pairs = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// The Engine.IO session id in a request's query.
fn session_id(uri: &Uri) -> Option<&str> {
    field(uri, "sid")
}

/// Whether a request begins a session.
pub(super) fn begins_session(uri: &Uri) -> bool {
    session_id(uri).is_none()
}

/// What tells a GET from the one before it.
pub(super) fn timestamp(uri: &Uri) -> Option<&str> {
    field(uri, "t")
}

/// The session id in an open packet, `0{"sid":"…",…}`.
fn opened(packet: &str) -> Option<&str> {
    let sid = packet.strip_prefix("0{\"sid\":\"")?.split('"').next()?;
    is_session_id(sid).then_some(sid)
}

/// The transport that a request names.
pub(super) fn transport(uri: &Uri) -> Option<Transport> {
    let named = field(uri, "transport")?;
    Transport::ALL.into_iter().find(|transport| transport.as_str() == named)
}

/// A session on its way out, and how.
pub(super) enum Leaving {
    /// Over its WebSocket.
    Wire(Arc<dyn Link>),
    /// By the answer to its poll, the one that waits or the next.
    Poll(String, Arc<Polled>),
    /// By the end of its connection: its session is on another replica, and stays.
    PassedOn(Connection),
}

/// A WebSocket that is there.
pub(super) struct Registered {
    transports: Arc<Transports>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut sessions = self.transports.lock();
        sessions.wires.remove(&self.number);
        sessions.passed_on.remove(&self.number);
    }
}

impl Transports {
    /// No sessions yet. `heartbeat`: after which a client that is gone is gone for socketioxide too.
    pub fn new(heartbeat: Duration) -> Self {
        Self {
            sessions: Mutex::default(),
            heartbeat,
            draining: AtomicBool::new(false),
        }
    }

    /// Lets a request pass to its session, or begin one.
    ///
    /// # Errors
    /// Where its session is closed, or none begins any more.
    pub(super) fn admit(&self, uri: &Uri) -> Result<(), Refusal> {
        if begins_session(uri) && self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        match self.is_closed(uri) {
            true => Err(Refusal::SessionClosed),
            false => Ok(()),
        }
    }

    /// Lets no session begin any more.
    pub(super) fn begin_no_more(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// All sessions, in no order.
    pub(super) fn leaving(&self) -> Vec<Leaving> {
        let sessions = self.lock();
        let wires = sessions.wires.values().map(|link| Leaving::Wire(Arc::clone(link)));
        let polled = sessions.polled.iter().filter(|(_, polled)| !polled.has_upgraded());
        let polls = polled.map(|(sid, polled)| Leaving::Poll(sid.clone(), Arc::clone(polled)));
        let passed_on = sessions.passed_on.values().cloned().map(Leaving::PassedOn);
        wires.chain(polls).chain(passed_on).collect()
    }

    /// Remembers a WebSocket that is passed on to another replica, until the returned value is dropped.
    pub(super) fn passes_on(self: &Arc<Self>, connection: Connection) -> Registered {
        let mut sessions = self.lock();
        let number = sessions.next_wire;
        sessions.next_wire += 1;
        sessions.passed_on.insert(number, connection);
        Registered {
            transports: Arc::clone(self),
            number,
        }
    }

    /// Remembers a WebSocket until the returned value is dropped.
    pub(super) fn register(self: &Arc<Self>, link: &Arc<dyn Link>) -> Registered {
        let mut sessions = self.lock();
        let number = sessions.next_wire;
        sessions.next_wire += 1;
        sessions.wires.insert(number, Arc::clone(link));
        Registered {
            transports: Arc::clone(self),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request is one of a session that was closed.
    fn is_closed(&self, uri: &Uri) -> bool {
        session_id(uri).is_some_and(|sid| self.lock().closed.contains_key(sid))
    }

    /// Remembers the session that a polling reply opens, if it does, and gives its id.
    pub(super) fn opens<'r>(&self, reply: &'r Reply) -> Option<&'r str> {
        let sid = reply.text().and_then(opened)?;
        let mut sessions = self.lock();
        sessions.sweep(self.heartbeat);
        sessions.polled.insert(sid.to_owned(), Arc::new(Polled::new()));
        Some(sid)
    }

    /// The session of a polling request.
    pub(super) fn polled(&self, uri: &Uri) -> Option<Arc<Polled>> {
        self.lock().polled.get(session_id(uri)?).cloned()
    }

    /// What waits for a session that began with polling.
    pub fn waiting(&self, sid: &str) -> Option<Arc<Waiting>> {
        let sessions = self.lock();
        sessions.polled.get(sid).map(|polled| Arc::clone(&polled.waiting))
    }

    /// A reply to a polling request as its client is to get it.
    pub(super) fn complete(&self, uri: &Uri, reply: Reply) -> Reply {
        let Some(sid) = session_id(uri) else { return reply };
        let mut pids = self.lock().names.remove(sid).unwrap_or_default();
        let Some(text) = reply.text().map(|text| rewrite(text, &mut pids)) else {
            return reply;
        };
        if !pids.is_empty() {
            self.lock().names.entry(sid.to_owned()).or_default().append(&mut pids);
        }
        reply.with_text(text)
    }

    /// Remembers the wire of a session that upgrades, and gives its id; `None` for a request that begins a session, or
    /// names none that can be.
    pub fn upgrades(&self, uri: &Uri, connection: &Connection, link: &Arc<dyn Link>) -> Option<String> {
        let sid = session_id(uri).filter(|sid| is_session_id(sid))?;
        let mut sessions = self.lock();
        for (namespace, pid) in sessions.names.get(sid).into_iter().flatten() {
            link.name(namespace, pid);
        }
        if let Some(polled) = sessions.polled.get(sid) {
            polled.upgrades_to(link);
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
            let mut sessions = self.lock();
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
        let sessions = self.lock();
        let link = &sessions.upgrades.get(sid)?.link;
        (link.is_upgraded() || !Rule::Upgrade.is_on()).then(|| Arc::clone(link))
    }

    /// Closes a session, whose first request came over `first`.
    pub fn close(&self, sid: &str, first: Option<&Connection>) {
        let upgrade = {
            let mut sessions = self.lock();
            sessions.sweep(self.heartbeat);
            sessions.closed.insert(sid.to_owned(), Instant::now());
            if let Some(polled) = sessions.polled.remove(sid) {
                polled.close();
            }
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
        let mut sessions = self.lock();
        if let Some(upgrade) = sessions.upgrades.get(sid) {
            upgrade.link.name(namespace, pid);
        }
        let names = sessions.names.entry(sid.to_owned()).or_default();
        names.push((namespace.to_owned(), pid.to_owned()));
    }

    /// Forgets a name that no CONNECT has carried.
    pub fn unname(&self, sid: &str, namespace: &str) {
        let mut sessions = self.lock();
        if let Some(names) = sessions.names.get_mut(sid) {
            names.retain(|(known, _)| known != namespace);
            if names.is_empty() {
                sessions.names.remove(sid);
            }
        }
    }

    /// Forgets a session whose transport is gone.
    pub fn forget(&self, sid: &str) {
        let mut sessions = self.lock();
        sessions.polled.remove(sid);
        sessions.upgrades.remove(sid);
        sessions.names.remove(sid);
    }
}

impl Sessions {
    /// Forgets what is long over: after two heartbeats it is for socketioxide too. A session that lives polls at least once in
    /// each.
    fn sweep(&mut self, heartbeat: Duration) {
        let now = Instant::now();
        if self
            .swept
            .is_some_and(|swept| now.duration_since(swept) < heartbeat / 2)
        {
            return;
        }
        self.swept = Some(now);
        self.closed
            .retain(|_, since| now.duration_since(*since) < 2 * heartbeat);
        self.polled.retain(|_, polled| polled.silent_for(now) < 2 * heartbeat);
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
        let transports = Transports::new(Duration::from_secs(45));
        assert!(!transports.is_closed(&uri("transport=polling")));
        assert!(!transports.is_closed(&uri("transport=polling&sid=aaaaaaaaaaaaaaaa")));
        transports.close("aaaaaaaaaaaaaaaa", None);
        assert!(transports.is_closed(&uri("transport=polling&sid=aaaaaaaaaaaaaaaa")));
        assert!(!transports.is_closed(&uri("transport=polling&sid=b")));
    }

    #[tokio::test]
    async fn closing_ends_the_connection_that_the_session_upgraded_to() {
        let transports = Transports::new(Duration::from_secs(45));
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

    async fn reply(text: &'static str) -> Reply {
        Reply::of(http::Response::new(http_body_util::Full::new(
            bytes::Bytes::from_static(text.as_bytes()),
        )))
        .await
    }

    #[tokio::test]
    async fn a_polling_client_hears_its_sessions_name_in_its_connect() {
        let transports = Transports::new(Duration::from_secs(45));
        transports.name_session("aaaaaaaaaaaaaaaa", "/orders", "p1");
        let completed = async |sid: &str, text| {
            let uri = uri(&format!("transport=polling&sid={sid}"));
            transports.complete(&uri, reply(text).await).text().unwrap().to_owned()
        };
        let connects = "40{\"sid\":\"s\"}\u{1e}40/orders,{\"sid\":\"s\"}\u{1e}42/orders,[\"x\"]";
        assert_eq!(completed("b", connects).await, connects);
        assert_eq!(
            completed("aaaaaaaaaaaaaaaa", "2\u{1e}42/orders,[\"x\"]").await,
            "2\u{1e}42/orders,[\"x\"]"
        );
        assert_eq!(
            completed("aaaaaaaaaaaaaaaa", connects).await,
            "40{\"sid\":\"s\"}\u{1e}40/orders,{\"pid\":\"p1\",\"sid\":\"s\"}\u{1e}42/orders,[\"x\"]"
        );
        assert_eq!(completed("aaaaaaaaaaaaaaaa", connects).await, connects);
    }

    #[tokio::test]
    async fn a_session_is_known_from_its_open_packet_until_it_is_forgotten() {
        let transports = Transports::new(Duration::from_secs(45));
        let of = |sid: &str| {
            transports
                .polled(&uri(&format!("transport=polling&sid={sid}")))
                .is_some()
        };
        for none in ["ok", "40{\"sid\":\"aaaaaaaaaaaaaaaa\"}", "0{\"sid\":\"too short\"}"] {
            transports.opens(&reply(none).await);
        }
        assert!(!of("aaaaaaaaaaaaaaaa"));
        transports.opens(&reply("0{\"sid\":\"aaaaaaaaaaaaaaaa\",\"upgrades\":[]}").await);
        assert!(of("aaaaaaaaaaaaaaaa"));
        assert!(transports.waiting("aaaaaaaaaaaaaaaa").is_some());
        transports.forget("aaaaaaaaaaaaaaaa");
        assert!(!of("aaaaaaaaaaaaaaaa"));
    }
}
