//! An HTTP proxy that loses replies: it asks every poll twice, and passes only the second answer on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest request, in bytes.
const REQUEST: usize = 64 * 1024;

/// A proxy. It ends with this value.
pub(crate) struct RepeatingProxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    gateway: String,
    repeats: AtomicBool,
    repeated: AtomicU64,
}

impl RepeatingProxy {
    /// Listens on a free port, before `gateway` (`host:port`); repeats nothing yet.
    pub(crate) async fn before(gateway: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            gateway: gateway.to_owned(),
            repeats: AtomicBool::new(false),
            repeated: AtomicU64::new(0),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Self { address, state, task }
    }

    /// Loses the first answer to every poll from now on.
    pub(crate) fn repeat(&self) {
        self.state.repeats.store(true, Ordering::SeqCst);
    }

    /// How often it has asked again.
    pub(crate) fn repeated(&self) -> u64 {
        self.state.repeated.load(Ordering::SeqCst)
    }
}

impl Drop for RepeatingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, on a connection that ends with it. Nothing here can fail but by a side that has gone.
async fn serve(mut client: TcpStream, state: Arc<State>) {
    let Some(request) = read_request(&mut client).await else {
        return;
    };
    let head = String::from_utf8_lossy(&request);
    let line = head.lines().next().unwrap_or_default();
    let is_poll = line.starts_with("GET ") && line.contains("transport=polling") && line.contains("sid=");
    let mut answer = ask(&state.gateway, &request).await;
    if is_poll && state.repeats.load(Ordering::SeqCst) {
        state.repeated.fetch_add(1, Ordering::SeqCst);
        answer = ask(&state.gateway, &request).await;
    }
    client.write_all(&answer).await.ok();
}

/// A whole request, made to be the only one of its connection.
async fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                let lines = head
                    .lines()
                    .filter(|line| !line.to_lowercase().starts_with("connection:"));
                let mut request = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
                request.extend(b"\r\nConnection: close\r\n\r\n");
                request.extend(&bytes[end + 4..]);
                return Some(request);
            }
        }
        let read = client.read_buf(&mut bytes).await.ok()?;
        if read == 0 || bytes.len() > REQUEST {
            return None;
        }
    }
}

async fn ask(gateway: &str, request: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(gateway).await
        && stream.write_all(request).await.is_ok()
    {
        stream.read_to_end(&mut answer).await.ok();
    }
    answer
}
