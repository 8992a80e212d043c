//! Engine.IO and Socket.IO by hand: what stock clients do not let one say.

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
            Ok::<_, std::io::Error>(response)
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
