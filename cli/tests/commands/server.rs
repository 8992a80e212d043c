//! A Socket.IO server on a port of its own.

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::handler::ConnectHandler;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long a test waits for what must happen: generous, since the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Serves until dropped; connections that exist live on.
pub struct Server {
    pub io: SocketIo,
    pub port: u16,
    serving: JoinHandle<()>,
}

impl Server {
    /// Namespaces `/`, `/bistro/orders`, and `/closed`, which wants `auth: {token: "right"}`. Pings often.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    pub async fn start_on(port: u16) -> Self {
        let (layer, io) = SocketIo::builder()
            .ping_interval(Duration::from_millis(200))
            .ping_timeout(Duration::from_secs(3))
            .build_layer();
        io.ns("/", on_connect);
        io.ns("/bistro/orders", on_connect);
        io.ns("/closed", on_connect.with(admit));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new().layer(layer);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { io, port, serving }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn connections(&self, namespace: &str) -> usize {
        self.io.of(namespace).map_or(0, |namespace| namespace.sockets().len())
    }

    /// Whether a socket of `/bistro/orders` is in the room.
    pub fn has_joined(&self, room: &'static str) -> bool {
        self.io
            .of("/bistro/orders")
            .is_some_and(|namespace| !namespace.within(room).sockets().is_empty())
    }

    /// Closes the port and the connections.
    pub async fn stop(self) {
        self.serving.abort();
        self.io.close().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

async fn admit(_: SocketRef, Data(auth): Data<Value>) -> Result<(), Refused> {
    match auth.get("token") {
        None => Err(Refused("Authentication token required")),
        Some(token) if token == "right" => Ok(()),
        Some(_) => Err(Refused("Invalid authentication token")),
    }
}

#[derive(Debug)]
struct Refused(&'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

async fn on_connect(socket: SocketRef) {
    let query = socket.req_parts().uri.query().unwrap_or_default().to_owned();
    // Sends back its one argument under another name.
    socket.on("echo", async |socket: SocketRef, Data(value): Data<Value>| {
        socket.emit("echoed", &value).unwrap();
    });
    // Emits `n` events, then acknowledges.
    socket.on(
        "count to",
        async |socket: SocketRef, Data(n): Data<u64>, ack: AckSender| {
            for i in 1..=n {
                socket.emit("number", &i).unwrap();
            }
            ack.send(&json!({"ok": true})).unwrap();
        },
    );
    // Joins a room, or refuses.
    socket.on(
        "subscribe:orders",
        async |socket: SocketRef, Data(args): Data<Value>, ack: AckSender| match args["tenant_id"].as_str() {
            Some(tenant) => {
                socket.join(format!("orders:{tenant}"));
                ack.send(&json!({"ok": true, "room": format!("orders:{tenant}")}))
                    .unwrap();
            }
            None => ack.send(&json!({"ok": false, "code": "denied"})).unwrap(),
        },
    );
    socket.on("ignored", async || {});
    socket.on("binary", async |socket: SocketRef| {
        socket.emit("blob", &(axum::body::Bytes::from_static(b"123"),)).unwrap();
        socket.emit("after", "binary").unwrap();
    });
    socket.on("kick me", async |socket: SocketRef| {
        socket.disconnect().unwrap();
    });
    socket.emit("welcome", &json!({"query": query})).unwrap();
}
