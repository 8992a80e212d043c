//! polling: what a client that polls is answered, beside socketioxide.
//!
//! ```text
//! GET sid, t ─→ asked before? ─ yes ─→ the same reply again
//!                    │ no
//!                    ▼
//!               socketioxide ─→ pid, refusal codes, no close behind events ─→ kept until the next t ─→ client
//! ```
//! A proxy may repeat a GET whose reply it has lost (RFC 9110, 9.2.2); socketioxide would take the second for a mistake of
//! the client, or answer it with what comes next. Stock clients give every request a `t` of its own. Two GETs of different
//! `t` at a time end the session, as Engine.IO says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use tokio_util::sync::CancellationToken;

use crate::sabotage::Rule;
use crate::wire::{Link, QUEUE_BYTES, connect_namespace, connect_with_pid, error_with_code};

/// Longest reply that is kept for a GET that comes again, in bytes. 256 KiB: hundreds of events. Where a longer one is asked
/// for again the session is closed, and the client recovers.
pub const KEPT_REPLY: usize = 256 * 1024;
/// Bytes that may wait for one client that polls, as for one on WebSocket.
pub const WAITING_BYTES: usize = QUEUE_BYTES;

/// What separates packets in a polling reply (Engine.IO 4).
const SEPARATOR: char = '\u{1e}';
/// Engine.IO's close packet.
pub(super) const CLOSE: &str = "1";
/// Engine.IO's own answer to a session id that it does not know.
const UNKNOWN_SESSION: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// A client has [`WAITING_BYTES`] waiting already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

/// What waits in socketioxide's queue for a client that polls, in bytes.
#[derive(Default)]
pub struct Waiting {
    bytes: AtomicUsize,
    /// The wire that it is going over to: once it has, the wire's own bound counts.
    wire: OnceLock<Arc<dyn Link>>,
}

impl Waiting {
    /// Counts what is about to be queued. One event goes through however long it is.
    ///
    /// # Errors
    /// Where too much waits; nothing was counted.
    pub fn add(&self, bytes: usize) -> Result<(), TooMuch> {
        if self.wire.get().is_some_and(|wire| wire.is_upgraded()) {
            return Ok(());
        }
        let fits = |waiting| (waiting == 0 || waiting + bytes <= WAITING_BYTES).then_some(waiting + bytes);
        let counted = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        counted.map(drop).map_err(|_| TooMuch)
    }
}

/// A reply, whole.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    /// socketioxide's bodies are in memory: collecting one neither waits nor fails.
    pub(super) async fn of<B: Body<Data = Bytes>>(response: Response<B>) -> Self {
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// What a session that is closed is answered.
    fn unknown_session() -> Self {
        Self::error(UNKNOWN_SESSION)
    }

    /// Engine.IO's close.
    fn close() -> Self {
        Self {
            status: StatusCode::OK,
            headers: [(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"))]
                .into_iter()
                .collect(),
            body: Bytes::from_static(CLOSE.as_bytes()),
        }
    }

    fn error(body: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            headers: [(CONTENT_TYPE, HeaderValue::from_static("application/json"))]
                .into_iter()
                .collect(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    /// The text of its body.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body)
            .ok()
            .filter(|_| self.status.is_success())
    }

    /// The same with another text.
    pub(super) fn with_text(self, text: String) -> Self {
        Self {
            body: text.into(),
            ..self
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A session that began with polling.
pub(super) struct Polled {
    /// What waits for it.
    pub(super) waiting: Arc<Waiting>,
    last: Mutex<Last>,
    closed: CancellationToken,
    /// The gateway closes it, and its client is to come back.
    leaving: CancellationToken,
}

/// Its last GET.
struct Last {
    t: Option<String>,
    answer: Answer,
    at: Instant,
}

enum Answer {
    /// Still to come; gone with the last connection that waits for it.
    Pending(WeakShared<BoxFuture<'static, Reply>>),
    Kept(Reply),
    /// It was longer than [`KEPT_REPLY`].
    TooLong,
    None,
}

/// What to do with a GET.
enum Step {
    Answered(Reply),
    Wait(Shared<BoxFuture<'static, Reply>>),
    Refused,
}

impl Polled {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::default(),
            last: Mutex::new(Last {
                t: None,
                answer: Answer::None,
                at: Instant::now(),
            }),
            closed: CancellationToken::new(),
            leaving: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has not asked.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().at)
    }

    /// Ends it for its client: a GET that waits is answered, and so are all that follow.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Ends it so that its client comes back: a GET that waits is answered with Engine.IO's close, and so are all that follow.
    /// Nothing else is in that answer: an event beside a close would come twice.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Whether it has gone over to a wire.
    pub(super) fn has_upgraded(&self) -> bool {
        self.waiting.wire.get().is_some_and(|wire| wire.is_upgraded())
    }

    /// It goes over to a wire.
    pub(super) fn upgrades_to(&self, wire: &Arc<dyn Link>) {
        self.waiting.wire.set(Arc::clone(wire)).ok();
    }

    /// Answers a GET: with `ask`, or as before where this one came before.
    pub(super) async fn poll(
        self: Arc<Self>,
        t: Option<&str>,
        ask: impl Future<Output = Reply> + Send + 'static,
    ) -> Reply {
        match self.step(t, ask) {
            Step::Answered(reply) => reply,
            Step::Refused => {
                self.close();
                Reply::unknown_session()
            }
            Step::Wait(answer) => tokio::select! {
                biased;
                () = self.leaving.cancelled() => Reply::close(),
                // Nothing is said any more for a session that is closed, and so no connect_error to one that may come back.
                () = self.closed.cancelled() => Reply::unknown_session(),
                reply = answer => reply,
            },
        }
    }

    fn step(self: &Arc<Self>, t: Option<&str>, ask: impl Future<Output = Reply> + Send + 'static) -> Step {
        if self.leaving.is_cancelled() {
            return Step::Answered(Reply::close());
        }
        if self.closed.is_cancelled() {
            return Step::Refused;
        }
        let mut last = self.lock();
        last.at = Instant::now();
        if t.is_some() && last.t.as_deref() == t && Rule::Polling.is_on() {
            match &last.answer {
                Answer::Kept(reply) => return Step::Answered(reply.clone()),
                Answer::TooLong => return Step::Refused,
                Answer::Pending(answer) => {
                    if let Some(answer) = answer.upgrade() {
                        return Step::Wait(answer);
                    }
                }
                Answer::None => {}
            }
        }
        let this = Arc::clone(self);
        let own = t.map(str::to_owned);
        last.t.clone_from(&own);
        let answer = async move {
            let reply = ask.await;
            this.keep(own.as_deref(), &reply);
            reply
        };
        let answer = answer.boxed().shared();
        last.answer = answer.downgrade().map_or(Answer::None, Answer::Pending);
        Step::Wait(answer)
    }

    /// A reply has everything that waited.
    fn keep(&self, t: Option<&str>, reply: &Reply) {
        self.waiting.bytes.store(0, Ordering::Relaxed);
        let mut last = self.lock();
        last.at = Instant::now();
        if last.t.as_deref() == t {
            last.answer = match t {
                None => Answer::None,
                Some(_) if reply.body.len() > KEPT_REPLY => Answer::TooLong,
                Some(_) => Answer::Kept(reply.clone()),
            };
        }
    }
}

/// What takes and answers the first ping of a session, which socketioxide sends at once, and Engine.IO after an interval.
pub(super) fn answering_first_ping(sid: &str) -> impl Iterator<Item = Request<Full<Bytes>>> {
    let uri = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    [(Method::GET, ""), (Method::POST, "3")]
        .into_iter()
        .filter_map(move |(method, body)| Request::builder().method(method).uri(&uri).body(Full::from(body)).ok())
}

/// Puts what socketioxide does not know into a polling reply: names of sessions into CONNECTs (`pids`: namespace and pid, taken
/// out as they are used), codes into CONNECT_ERRORs. A close behind events, which has clients process them twice, is left out:
/// the next request tells.
pub(super) fn rewrite(reply: &str, pids: &mut Vec<(String, String)>) -> String {
    let events = reply.contains(SEPARATOR);
    let packets = reply.split(SEPARATOR).filter(|packet| {
        let is_close = *packet == CLOSE;
        !(is_close && events && Rule::Polling.is_on())
    });
    let packets = packets.map(|packet| {
        let pid = connect_namespace(packet).and_then(|ns| pids.iter().position(|(namespace, _)| namespace == ns));
        pid.and_then(|at| connect_with_pid(packet, &pids.swap_remove(at).1))
            .or_else(|| error_with_code(packet))
            .unwrap_or_else(|| packet.to_owned())
    });
    packets.collect::<Vec<_>>().join(&SEPARATOR.to_string())
}

#[cfg(test)]
mod tests;
