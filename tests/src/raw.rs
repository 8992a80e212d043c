//! Engine.IO and Socket.IO by hand: what stock clients do not let one say.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::deadline::within;
use crate::gateway::Gateway;

/// A listener.
#[derive(Clone)]
pub(crate) struct Server {
    /// `host:port`
    pub(crate) address: String,
}

/// What an HTTP request is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn ok(body: &str) -> Self {
        Self {
            status: 200,
            body: body.to_owned(),
        }
    }

    /// Its packets.
    pub(crate) fn packets(&self) -> Vec<&str> {
        self.body.split('\u{1e}').collect()
    }
}

impl Server {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let url = gateway.url("");
        Self {
            address: url.strip_prefix("http://").unwrap().to_owned(),
        }
    }

    /// One request of Engine.IO, on a connection of its own.
    pub(crate) async fn request(&self, method: &str, query: &str, body: &str) -> Reply {
        let head = format!(
            "{method} /socket.io/?{query} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let asked = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            let mut response = String::new();
            stream.read_to_string(&mut response).await?;
            Ok::<_, io::Error>(response)
        };
        let response = within(query, asked).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: body.to_owned(),
        }
    }

    pub(crate) async fn get(&self, query: &str) -> Reply {
        self.request("GET", query, "").await
    }

    /// Opens a session that polls.
    pub(crate) async fn open(&self) -> Polling {
        let open = self.get("EIO=4&transport=polling").await;
        assert_eq!(open.status, 200, "{open:?}");
        let handshake: serde_json::Value = serde_json::from_str(open.body.strip_prefix('0').unwrap()).unwrap();
        Polling {
            server: self.clone(),
            sid: handshake["sid"].as_str().unwrap().to_owned(),
            handshake,
            next: AtomicU64::new(0),
        }
    }

    /// Opens a WebSocket with a query.
    pub(crate) async fn websocket(&self, query: &str) -> Result<Socket, Error> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("ws://{}/socket.io/?{query}", self.address);
        let (stream, _) = within(query, tokio_tungstenite::client_async(request, stream)).await?;
        Ok(Socket(stream))
    }

    /// Opens a session over WebSocket; gives its open packet too.
    pub(crate) async fn connect(&self) -> (Socket, serde_json::Value) {
        let mut socket = self.websocket("EIO=4&transport=websocket").await.unwrap();
        let open = socket.text().await;
        (socket, serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap())
    }
}

/// A session that polls.
pub(crate) struct Polling {
    server: Server,
    pub(crate) sid: String,
    pub(crate) handshake: serde_json::Value,
    next: AtomicU64,
}

impl Polling {
    /// The query of its requests.
    pub(crate) fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    /// A poll with this `t`.
    pub(crate) async fn poll_as(&self, t: &str) -> Reply {
        self.server.get(&format!("{}&t={t}", self.query())).await
    }

    /// A poll with a `t` of its own, as stock clients do.
    pub(crate) async fn poll(&self) -> Reply {
        let t = self.next.fetch_add(1, Ordering::Relaxed);
        self.poll_as(&format!("t{t}")).await
    }

    pub(crate) async fn push(&self, packets: &str) -> Reply {
        self.server.request("POST", &self.query(), packets).await
    }

    /// Sends packets, which are taken.
    pub(crate) async fn send(&self, packets: &str) {
        assert_eq!(self.push(packets).await, Reply::ok("ok"), "{packets}");
    }

    /// Polls until there are packets besides pings, which it answers.
    pub(crate) async fn packets(&self) -> Vec<String> {
        loop {
            let reply = self.poll().await;
            assert_eq!(reply.status, 200, "{reply:?}");
            if reply.packets().contains(&"2") {
                self.send("3").await;
            }
            let packets = reply.packets().into_iter().filter(|packet| *packet != "2");
            let packets: Vec<_> = packets.map(str::to_owned).collect();
            if !packets.is_empty() {
                return packets;
            }
        }
    }

    /// Goes over to WebSocket up to the probe's answer: `5` is still to be sent.
    pub(crate) async fn probe(&self) -> Socket {
        let query = format!("EIO=4&transport=websocket&sid={}", self.sid);
        let mut socket = self.server.websocket(&query).await.unwrap();
        socket.send("2probe").await;
        assert_eq!(socket.text().await, "3probe");
        socket
    }
}

/// A WebSocket.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

/// What comes on one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Binary(Vec<u8>),
    /// The end, however it came.
    Closed,
}

impl Frame {
    pub(crate) fn text(text: &str) -> Self {
        Frame::Text(text.to_owned())
    }
}

impl Socket {
    /// Sends text. That the other side has closed shows when something is read.
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.ok();
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(Bytes::copy_from_slice(bytes))).await.ok();
    }

    /// What comes next, pings too.
    pub(crate) async fn any(&mut self) -> Frame {
        match within("a frame, or the end", self.0.next()).await {
            Some(Ok(Message::Text(text))) => Frame::Text(text.as_str().to_owned()),
            Some(Ok(Message::Binary(bytes))) => Frame::Binary(bytes.to_vec()),
            _ => Frame::Closed,
        }
    }

    /// What comes next, besides pings, which it answers.
    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            match self.any().await {
                Frame::Text(ping) if ping == "2" => self.send("3").await,
                other => return other,
            }
        }
    }

    /// The text that comes next, besides pings.
    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("text should come next: {other:?}"),
        }
    }

    /// Waits for its end, whatever comes before.
    pub(crate) async fn closed(&mut self) {
        while self.next().await != Frame::Closed {}
    }
}

/// An Engine.IO session on a WebSocket whose bytes are all ours: what is no frame, too.
pub(crate) struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

pub(crate) const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// FIN.
pub(crate) const FIN: u8 = 0x80;

/// A client's frame with this first byte; `masked` as it should be, or not.
pub(crate) fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(mask | length as u8),
        length @ 126..65_536 => {
            frame.push(mask | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    const KEY: [u8; 4] = [0x12, 0xf0, 0x5a, 0x7e];
    if masked {
        frame.extend(KEY);
        frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend(payload);
    }
    frame
}

impl Raw {
    /// Opens a session at `host:port`.
    pub(crate) async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self {
            stream,
            received: Vec::new(),
        };
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        raw.bytes(request.as_bytes()).await.unwrap();
        let end = loop {
            let end = raw.received.windows(4).position(|window| window == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => assert!(raw.receive().await, "the upgrade is answered"),
            }
        };
        assert!(raw.received.starts_with(b"HTTP/1.1 101 "));
        raw.received.drain(..end);
        assert!(raw.until("0{").await.is_some(), "the session opens");
        raw
    }

    /// Opens a session and connects to a namespace without a token.
    pub(crate) async fn connect(address: &str, namespace: &str) -> Self {
        let mut raw = Self::open(address).await;
        raw.text(&format!("40{namespace},")).await.unwrap();
        assert!(raw.until(&format!("40{namespace},")).await.is_some(), "it is let in");
        raw
    }

    pub(crate) async fn text(&mut self, text: &str) -> io::Result<()> {
        self.bytes(&frame(FIN | TEXT, text.as_bytes(), true)).await
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next packet that begins so; none where the server closes before.
    pub(crate) async fn until(&mut self, prefix: &str) -> Option<String> {
        loop {
            match self.next().await? {
                (CLOSE, _) => return None,
                (_, payload) if payload.starts_with(prefix.as_bytes()) => return String::from_utf8(payload).ok(),
                _ => {}
            }
        }
    }

    /// The next frame, its opcode and payload; none where the connection is gone.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if !self.receive().await {
                return None;
            }
        }
    }

    /// Says goodbye as RFC 6455 has it, and waits until the server has gone.
    pub(crate) async fn close(mut self) {
        self.bytes(&frame(FIN | CLOSE, &1000_u16.to_be_bytes(), true))
            .await
            .ok();
        while self.next().await.is_some() {}
    }

    /// Ends the connection without a word, and waits until the server has gone.
    pub(crate) async fn hang_up(mut self) {
        self.stream.shutdown().await.ok();
        while self.receive().await {
            self.received.clear();
        }
    }

    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let (opcode, length) = (self.received.first()? & 0x0f, *self.received.get(1)?);
        let (head, length) = match length {
            126 => (
                4,
                u16::from_be_bytes(self.received.get(2..4)?.try_into().unwrap()).into(),
            ),
            127 => (
                10,
                u64::from_be_bytes(self.received.get(2..10)?.try_into().unwrap()) as usize,
            ),
            length => (2, length.into()),
        };
        let payload = self.received.get(head..head + length)?.to_vec();
        self.received.drain(..head + length);
        Some((opcode, payload))
    }

    async fn receive(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.received).await, Ok(1..))
    }
}
