//! Opening a connection: URL, WebSocket, Engine.IO handshake, Socket.IO CONNECT.

use std::fmt::{self, Write};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::packet::{self, Frame, Kind, PacketError};
use super::{Client, ConnectError};

/// Default bound, 20 s, on the whole of connecting, as in Socket.IO's own clients.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Default bound, 4 MiB, on one frame: a Kafka record of the usual largest size (1 MiB) still fits when its
/// text has grown by escaping and an envelope.
pub const DEFAULT_MAX_FRAME: usize = 4 * 1024 * 1024;

/// Read buffer of a connection, 4 KiB and allocated at once: the library's 128 KiB would cost a load test of
/// ten thousand connections more than a gigabyte.
const READ_BUFFER: usize = 4 * 1024;

/// Longest silence, one day, that a server may announce as normal: more would overflow the clock, not help.
const MAX_HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest part of an HTTP error's body that is shown, in characters: enough for Engine.IO's JSON errors.
const BODY_EXCERPT_CHARS: usize = 200;

/// Where and how to connect. Fill in what differs: `Connect { namespace: …, ..Connect::to(url) }`.
#[derive(Clone)]
pub struct Connect {
    /// `http://host:port` (or `ws://`); a path in it is not used.
    pub url: String,
    /// Path of the Socket.IO endpoint.
    pub path: String,
    /// Socket.IO namespace; `""` is `/`.
    pub namespace: String,
    /// Query parameters of the handshake, unencoded.
    pub query: Vec<(String, String)>,
    /// The auth payload, a JSON object.
    pub auth: Option<Value>,
    /// A session to take up again (connection state recovery).
    pub session: Option<Session>,
    /// Largest frame accepted from the server, in bytes.
    pub max_frame: usize,
    /// Bound on the whole of connecting.
    pub timeout: Duration,
}

/// What a client keeps of a dropped connection to come back without a gap.
#[derive(Clone)]
pub struct Session {
    /// [`Client::pid`] of the connection that dropped.
    pub pid: String,
    /// [`Event::offset`](super::Event::offset) of the last event that had one.
    pub offset: Option<String>,
}

impl fmt::Debug for Connect {
    /// Without query, auth and session, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("url", &without_query(&self.url))
            .field("path", &self.path)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Connect {
    /// Namespace `/`, no query, no auth, default bounds.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            path: "/socket.io/".to_owned(),
            namespace: "/".to_owned(),
            query: Vec::new(),
            auth: None,
            session: None,
            max_frame: DEFAULT_MAX_FRAME,
            timeout: CONNECT_TIMEOUT,
        }
    }

    /// The WebSocket address, and `host:port` for messages, which must not show the query.
    fn address(&self) -> Result<(Uri, String), ConnectError> {
        let invalid = |reason: String| ConnectError::InvalidUrl {
            url: without_query(&self.url),
            reason,
        };
        let uri: Uri = self.url.parse().map_err(|error| invalid(format!("{error}")))?;
        let scheme = match uri.scheme_str() {
            Some("http" | "ws") => "ws",
            Some("https" | "wss") => {
                return Err(invalid(
                    "this client has no TLS: connect to the gateway itself over http://, for \
                                    instance through `kubectl port-forward`"
                        .to_owned(),
                ));
            }
            _ => return Err(invalid("the url must begin with http:// or ws://".to_owned())),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| invalid("the url has no host".to_owned()))?;
        let mut address = format!("{scheme}://{authority}/{}", self.path.trim_start_matches('/'));
        address.push_str("?EIO=4&transport=websocket");
        for (name, value) in &self.query {
            let _ = write!(address, "&{}={}", percent_encode(name), percent_encode(value));
        }
        let parsed = address
            .parse()
            .map_err(|error| invalid(format!("path `{}`: {error}", self.path)))?;
        Ok((parsed, authority.to_string()))
    }

    fn full_namespace(&self) -> Result<String, ConnectError> {
        if self.namespace.contains([',', '?', '#']) {
            let reason = format!("namespace `{}` contains one of `,?#`", self.namespace);
            return Err(ConnectError::InvalidUrl {
                url: without_query(&self.url),
                reason,
            });
        }
        Ok(format!("/{}", self.namespace.trim_start_matches('/')))
    }

    /// The auth payload with the session to take up, as Socket.IO's clients send it.
    fn full_auth(&self) -> Option<Value> {
        let Some(session) = &self.session else {
            return self.auth.clone();
        };
        let mut auth = match &self.auth {
            Some(Value::Object(fields)) => fields.clone(),
            _ => serde_json::Map::new(),
        };
        auth.insert("pid".to_owned(), session.pid.as_str().into());
        if let Some(offset) = &session.offset {
            auth.insert("offset".to_owned(), offset.as_str().into());
        }
        Some(Value::Object(auth))
    }
}

/// Engine.IO's `open` handshake; times in milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    ping_interval: u64,
    ping_timeout: u64,
}

/// Socket.IO's answer to CONNECT.
#[derive(Deserialize)]
struct Connected {
    sid: String,
    pid: Option<String>,
}

/// CONNECT_ERROR.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    data: Option<Value>,
}

pub(super) async fn connect(options: Connect) -> Result<Client, ConnectError> {
    let (address, server) = options.address()?;
    let namespace = options.full_namespace()?;
    let after = options.timeout;
    let handshake = Handshake {
        server: server.clone(),
        namespace,
    };
    timeout(after, handshake.run(address, options))
        .await
        .unwrap_or(Err(ConnectError::Timeout { server, after }))
}

struct Handshake {
    /// `host:port`, for messages.
    server: String,
    namespace: String,
}

impl Handshake {
    async fn run(self, address: Uri, options: Connect) -> Result<Client, ConnectError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(Some(options.max_frame))
            .max_message_size(Some(options.max_frame));
        let (mut stream, _) = connect_async_with_config(address, Some(config), true)
            .await
            .map_err(|error| self.failed(error))?;

        let heartbeat = loop {
            let frame = self.read(&mut stream).await?;
            if let Frame::Open(json) = self.parse(&frame)? {
                let open: Open = self.json(json, &frame)?;
                let heartbeat = open.ping_interval.saturating_add(open.ping_timeout);
                break Duration::from_millis(heartbeat).min(MAX_HEARTBEAT);
            }
        };
        let connect = packet::connect(&self.namespace, options.full_auth().as_ref());
        stream
            .send(Message::Text(connect.into()))
            .await
            .map_err(|error| self.failed(error))?;

        // A server may ping before it lets the client in: the middleware may be slow.
        let connected = loop {
            let frame = self.read(&mut stream).await?;
            match self.parse(&frame)? {
                Frame::Ping(text) => {
                    let pong = Message::Text(format!("3{text}").into());
                    stream.send(pong).await.map_err(|error| self.failed(error))?;
                }
                Frame::Close => return Err(ConnectError::Closed { server: self.server }),
                Frame::Message(packet) if packet.namespace == self.namespace => match packet.kind {
                    Kind::Connect => break self.json::<Connected>(packet.json, &frame)?,
                    Kind::ConnectError => return Err(self.refused(packet.json)),
                    _ => {}
                },
                _ => {}
            }
        };

        let resumed = options.session.map(|session| session.pid);
        Ok(Client {
            stream,
            namespace: self.namespace,
            sid: connected.sid,
            recovered: resumed.is_some() && resumed == connected.pid,
            pid: connected.pid,
            max_frame: options.max_frame,
            heartbeat,
            silence: Box::pin(sleep(heartbeat)),
            pong: None,
            unflushed: false,
            next_ack: 0,
            held: Default::default(),
            closed: false,
        })
    }

    async fn read(&self, stream: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Result<Utf8Bytes, ConnectError> {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(frame))) => return Ok(frame),
                None | Some(Ok(Message::Close(_))) => {
                    return Err(ConnectError::Closed {
                        server: self.server.clone(),
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.failed(error)),
            }
        }
    }

    fn parse<'a>(&self, frame: &'a Utf8Bytes) -> Result<Frame<'a>, ConnectError> {
        packet::parse(frame).map_err(|source| self.protocol(source))
    }

    fn json<'a, T: Deserialize<'a>>(&self, json: &'a str, frame: &str) -> Result<T, ConnectError> {
        serde_json::from_str(json)
            .map_err(|_| self.protocol(PacketError::new("the handshake has not the fields it must have", frame)))
    }

    fn protocol(&self, source: PacketError) -> ConnectError {
        ConnectError::Protocol {
            server: self.server.clone(),
            source,
        }
    }

    fn refused(&self, json: &str) -> ConnectError {
        let namespace = self.namespace.clone();
        match serde_json::from_str::<Refusal>(json) {
            Ok(Refusal { message, data }) => ConnectError::Refused {
                namespace,
                message,
                data,
            },
            // Before v5 a refusal was a bare string; whatever it is, it is the server's reason.
            Err(_) => ConnectError::Refused {
                namespace,
                message: json.to_owned(),
                data: None,
            },
        }
    }

    fn failed(&self, error: WsError) -> ConnectError {
        let server = self.server.clone();
        match error {
            WsError::Http(response) => {
                let body = response
                    .body()
                    .as_deref()
                    .map(String::from_utf8_lossy)
                    .unwrap_or_default();
                let body = body.trim().chars().take(BODY_EXCERPT_CHARS).collect();
                ConnectError::Http {
                    server,
                    status: response.status().as_u16(),
                    body,
                }
            }
            WsError::ConnectionClosed | WsError::AlreadyClosed => ConnectError::Closed { server },
            error => ConnectError::Transport {
                server,
                source: Box::new(error),
            },
        }
    }
}

/// A query may hold a token, so no message shows one.
fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_address_has_path_and_encoded_query() {
        let query = vec![("user id".to_owned(), "ä&b=1".to_owned())];
        let (uri, server) = Connect {
            query,
            ..Connect::to("http://127.0.0.1:3000/ns?x=1")
        }
        .address()
        .unwrap();
        assert_eq!(
            uri.to_string(),
            "ws://127.0.0.1:3000/socket.io/?EIO=4&transport=websocket&user%20id=%C3%A4%26b%3D1"
        );
        assert_eq!(server, "127.0.0.1:3000");
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_query() {
        for url in ["", "127.0.0.1:3000", "ftp://h", "http://", "http://a b/?token=hunter2"] {
            let error = Connect::to(url).address().unwrap_err();
            assert!(matches!(error, ConnectError::InvalidUrl { .. }), "{url}: {error:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn namespaces_are_normalised_and_checked() {
        let namespace = |namespace: &str| Connect {
            namespace: namespace.into(),
            ..Connect::to("http://h")
        };
        assert_eq!(namespace("").full_namespace().unwrap(), "/");
        assert_eq!(namespace("a/b").full_namespace().unwrap(), "/a/b");
        assert!(namespace("/a,b").full_namespace().is_err());
    }

    #[test]
    fn a_session_is_added_to_the_auth_payload() {
        let session = Some(Session {
            pid: "p".into(),
            offset: Some("o".into()),
        });
        let connect = Connect {
            auth: Some(json!({"token": "t"})),
            session,
            ..Connect::to("http://h")
        };
        assert_eq!(
            connect.full_auth().unwrap(),
            json!({"token": "t", "pid": "p", "offset": "o"})
        );
    }
}
