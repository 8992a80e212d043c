//! Light clients: Socket.IO by hand over WebSocket, with a recovery of their own, by `pid` and offset as stock clients do it or
//! by `auth.position` as other languages do.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::history::{Journal, Observer, Saw};
use super::random::Random;
use super::topology::Client;

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it may say nothing: an interval and a time-out of the heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(6);
/// Between two attempts, in milliseconds.
const PAUSE: (u64, u64) = (50, 500);
/// Of a hundred, how many go on from a position alone.
const BY_POSITION: usize = 40;
/// Events between two that it answers with one of its own, which is answered with a text: no position may be read from that.
const HELLO: usize = 2;

/// What goes wrong with a connection. All of it is tried again.
struct Gone;

impl<E: std::error::Error> From<E> for Gone {
    fn from(_: E) -> Self {
        Gone
    }
}

type Socket = WebSocketStream<TcpStream>;

/// A client that stays until it is dropped.
#[derive(Clone)]
pub(super) struct Light {
    pub(super) client: Client,
    by_position: bool,
    pub(super) observer: Observer,
    pub(super) pid: Option<String>,
    position: Option<String>,
}

/// Starts one, which ends with its task.
pub(crate) async fn run(number: usize, client: Client, mut random: Random, journal: Journal) {
    let by_position = random.percent(BY_POSITION);
    let name = format!("light {number} ({})", if by_position { "position" } else { "session" });
    let observer = journal.client(name, client.channel.name(), client.wants());
    let mut light = Light::new(client, by_position, observer);
    loop {
        light.once().await;
        tokio::time::sleep(random.millis(PAUSE.0, PAUSE.1)).await;
    }
}

impl Light {
    pub(super) fn new(client: Client, by_position: bool, observer: Observer) -> Self {
        Self {
            client,
            by_position,
            observer,
            pid: None,
            position: None,
        }
    }

    /// Connects, and stays for as long as that lasts.
    pub(super) async fn once(&mut self) {
        if let Ok((socket, recovered)) = self.connect().await {
            self.observer.saw(Saw::Connected { recovered });
            self.stay(socket).await.ok();
            self.observer.saw(Saw::Disconnected);
        }
    }

    /// Up to CONNECT's answer; gives whether it says recovered, which it says to those with a session.
    async fn connect(&mut self) -> Result<(Socket, Option<bool>), Gone> {
        let address = self.client.address;
        let made = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let request = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
            Ok::<_, Gone>(tokio_tungstenite::client_async(request, stream).await?.0)
        };
        let mut socket = tokio::time::timeout(PATIENCE, made).await??;
        let joins: Vec<_> = self
            .client
            .rooms
            .iter()
            .map(|room| json!([room.event, room.argument()]))
            .collect();
        let mut auth = match (self.by_position, &self.pid) {
            (true, _) => json!({"joins": joins}),
            (false, Some(pid)) => json!({"pid": pid}),
            (false, None) => json!({}),
        };
        if let Some(position) = &self.position {
            auth[if self.by_position { "position" } else { "offset" }] = json!(position);
        }
        let path = self.client.channel.path();
        let connected = format!("40{path},");
        let mut asked = false;
        loop {
            let text = next(&mut socket).await?;
            if text.starts_with('0') && !asked {
                asked = true;
                socket.send(Message::text(format!("{connected}{auth}"))).await?;
            } else if let Some(answer) = text.strip_prefix(&connected) {
                let answer: Value = serde_json::from_str(answer)?;
                let pid = answer["pid"].as_str().map(str::to_owned);
                let recovered = pid.is_some() && pid == self.pid;
                self.pid = pid;
                let recovered = (!self.by_position).then_some(recovered);
                return Ok((socket, recovered));
            } else if let Some(packet) = text.strip_prefix(&format!("42{path},")) {
                // Which is too early, and so is not heard by whoever waits for the answer.
                let args: Vec<Value> = serde_json::from_str(packet)?;
                if let [Value::String(name), args @ ..] = args.as_slice() {
                    self.observer.event(name, args);
                }
            } else if let Some(why) = text.strip_prefix(&format!("44{path},")) {
                self.observer.saw(Saw::Refused(why.to_owned()));
                return Err(Gone);
            }
        }
    }

    async fn stay(&mut self, mut socket: Socket) -> Result<(), Gone> {
        let path = self.client.channel.path();
        let (event, ack) = (format!("42{path},"), format!("43{path},"));
        let mut news = 0;
        loop {
            let text = next(&mut socket).await?;
            if let Some(packet) = text.strip_prefix(&event) {
                let args: Vec<Value> = serde_json::from_str(packet)?;
                let [Value::String(name), args @ ..] = args.as_slice() else {
                    continue;
                };
                self.observer.event(name, args);
                if let Some(Value::String(position)) = args.last() {
                    self.position = Some(position.clone());
                }
                news += usize::from(name == "news");
                if name == "news" && news.is_multiple_of(HELLO) {
                    socket.send(Message::text(format!("{event}[\"hello\"]"))).await?;
                }
                if name == "aldis:ready" {
                    self.join(&mut socket, &args[0]["rooms"]).await?;
                }
            } else if let Some(packet) = text.strip_prefix(&ack) {
                let at = packet.find('[').ok_or(Gone)?;
                let answer: Value = serde_json::from_str(&packet[at..])?;
                self.observer.acknowledged(&answer[0]);
                if answer[0]["ok"] != true {
                    // Another connection is another attempt.
                    return Err(Gone);
                }
            } else if text.starts_with("41") {
                return Err(Gone);
            }
        }
    }

    /// Asks for the rooms that it is not in.
    async fn join(&self, socket: &mut Socket, rooms: &Value) -> Result<(), Gone> {
        let path = self.client.channel.path();
        let are = rooms.as_array().cloned().unwrap_or_default();
        for (id, room) in self.client.rooms.iter().enumerate() {
            if !are.contains(&json!(room.name())) {
                let packet = format!("42{path},{id}{}", json!([room.event, room.argument()]));
                socket.send(Message::text(packet)).await?;
            }
        }
        Ok(())
    }
}

/// The next packet besides pings, which it answers.
async fn next(socket: &mut Socket) -> Result<String, Gone> {
    loop {
        match tokio::time::timeout(HEARTBEAT, socket.next()).await? {
            Some(Ok(Message::Text(text))) if text.as_str() == "2" => socket.send(Message::text("3")).await?,
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(_)) => {}
            _ => return Err(Gone),
        }
    }
}
