//! `aldis tail`: connects as a client does and prints what it receives.

mod output;
mod target;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;

use crate::args::{Secret, duration, key_value};
use crate::client::{Client, ClientError, Connect, ConnectError, DisconnectReason, Incoming, Session};
use crate::report::Explain;

pub use output::Output;

/// Environment variable read where neither `--token` nor `--auth` is given.
const TOKEN_ENV: &str = "ALDIS_TOKEN";

/// What the gateway says itself begins so: whether the session was recovered, which room was taken away. No event of the channel.
const OWN_EVENTS: &str = "aldis:";

/// Of these, what is said for the sake of the offset alone.
const BEACON_EVENT: &str = "aldis:position";

/// Wait for the acknowledgement of one `--emit`, 5 s: a join is answered at once or not at all.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// First wait before connecting again, 500 ms: a restarting gateway is back about then.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Longest wait before connecting again, 5 s, as in Socket.IO's own clients. Each wait is twice the one
/// before; without jitter, since one command is no herd.
const MAX_RETRY: Duration = Duration::from_secs(5);

/// Print the events that a client receives
///
/// Connects like any Socket.IO client, emits what --emit says (to join rooms, for instance), prints its
/// acknowledgements to standard error and then each event to standard output, a line each. Connects again
/// when the connection drops, and takes the session up again where the server offers that.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct TailArgs {
    /// The gateway, http://host:port; a path in it is the namespace, as in Socket.IO's clients, and a query is
    /// sent like --query
    url: String,

    /// Socket.IO namespace, such as /bistro/orders; wins over the URL's path
    #[arg(long)]
    namespace: Option<String>,

    /// Path of the server's Socket.IO endpoint
    #[arg(long, default_value = "/socket.io/")]
    path: String,

    /// Token to send as `auth: {token}`. Other users can see it in the process list: prefer the environment
    /// variable ALDIS_TOKEN
    #[arg(long, value_name = "T", conflicts_with = "auth")]
    token: Option<Secret>,

    /// The whole auth payload, a JSON object
    #[arg(long, value_name = "JSON")]
    auth: Option<Secret>,

    /// Query parameter of the handshake; repeat for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = key_value)]
    query: Vec<(String, String)>,

    /// Event to emit once connected, with one JSON argument or none; repeat for more
    #[arg(long, value_name = "EVENT[=JSON]", value_parser = emit)]
    emit: Vec<Emit>,

    /// Show (and count) only events of this name; repeat for more
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,

    /// End, successfully, after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after this time, as a failure
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,

    /// pretty: time, name and arguments; json: one object a line with event, args and receivedAt
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    output: Output,
}

const EXAMPLES: &str = r#"Examples:
  aldis tail http://127.0.0.1:3000/bistro/orders --emit 'subscribe:orders={"tenant_id":"t1"}'
  ALDIS_TOKEN=$(aldis token --secret-file jwt.key --claim id=42) aldis tail http://127.0.0.1:3000/bistro/orders
  aldis tail http://127.0.0.1:3000/bistro/orders --event order:created --count 1 --timeout 30s --output json"#;

/// One `--emit`.
#[derive(Debug, Clone, PartialEq)]
struct Emit {
    event: String,
    args: Vec<Value>,
}

fn emit(text: &str) -> Result<Emit, String> {
    let (event, args) = match text.split_once('=') {
        None => (text, Vec::new()),
        Some((event, json)) => {
            let arg = serde_json::from_str(json).map_err(|error| {
                format!("the argument is not JSON: {error} (a string needs quotes: '{event}=\"…\"')")
            })?;
            (event, vec![arg])
        }
    };
    if event.is_empty() {
        Err("expected event or event=JSON".into())
    } else {
        Ok(Emit {
            event: event.into(),
            args,
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error("--auth is not a JSON object: {0}")]
    Auth(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server ended the session for good.
    #[error("the server disconnected this client ({0})")]
    Ended(DisconnectReason),
    #[error("{}", timed_out(.after, *.received, .wanted, .trouble))]
    TimedOut {
        after: Duration,
        received: u64,
        wanted: Option<u64>,
        /// What went wrong last, where there is no connection.
        trouble: Option<String>,
    },
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
}

fn timed_out(after: &Duration, received: u64, wanted: &Option<u64>, trouble: &Option<String>) -> String {
    let wanted = wanted.map(|wanted| format!(" of {wanted}")).unwrap_or_default();
    let trouble = trouble
        .as_ref()
        .map(|trouble| format!("; not connected: {trouble}"))
        .unwrap_or_default();
    format!("--timeout {after:?} is over: {received}{wanted} events received{trouble}")
}

impl Explain for TailError {
    fn is_usage(&self) -> bool {
        matches!(self, Self::Auth(_) | Self::Connect(ConnectError::InvalidUrl { .. }))
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Connect(ConnectError::Refused { message, .. }) => match message.as_str() {
                "Authentication token required" => {
                    "give a token by ALDIS_TOKEN or --token; `aldis token` issues one to try with"
                }
                "Invalid authentication token" => {
                    "the token has expired, or its key, issuer or audience is not the one that the channel expects"
                }
                "Connections are not allowed" => "the channel names nobody in spec.authentication",
                "Invalid namespace" => "no channel serves this namespace: compare it with the channel's paths",
                _ => "the server does not take this client as it is: change its token, query or namespace",
            },
            Self::Connect(ConnectError::Http { status: 401 | 403, .. }) => "the server wants other credentials",
            Self::Connect(ConnectError::Http { .. } | ConnectError::Protocol { .. }) => {
                "check that the URL is a gateway's, and that --path is its Socket.IO endpoint"
            }
            Self::Ended(_) => "the server asks clients that it disconnects like this not to come back by themselves",
            Self::TimedOut {
                trouble: None,
                received: 0,
                ..
            } => "connected, but nothing came: check the rooms (--emit) and that records are published",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Prints events until there are enough, time is over, Ctrl-C is pressed, or the server refuses for good.
pub async fn run(args: TailArgs) -> Result<(), TailError> {
    let mut tail = Tail::new(args)?;
    let limit = tail.args.timeout;
    let over = async {
        match limit {
            Some(after) => sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        result = tail.follow() => result,
        // An error would mean that Ctrl-C cannot be watched; then it ends the process by itself.
        Ok(()) = tokio::signal::ctrl_c() => Ok(()),
        () = over => Err(TailError::TimedOut {
            after: limit.unwrap_or_default(),
            received: tail.received,
            wanted: tail.args.count,
            trouble: tail.trouble.take(),
        }),
    };
    if let Some(client) = tail.client.take() {
        client.close().await;
    }
    match result {
        // The reader of a pipe has seen enough.
        Err(TailError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

struct Tail {
    args: TailArgs,
    options: Connect,
    client: Option<Client>,
    /// Why there is no connection at present.
    trouble: Option<String>,
    received: u64,
}

impl Tail {
    fn new(args: TailArgs) -> Result<Self, TailError> {
        let from_env = Secret::from_env(TOKEN_ENV);
        let options = target::connect_options(&args, from_env)?;
        let trouble = Some(format!("{} has not answered yet", options.url));
        Ok(Self {
            args,
            options,
            client: None,
            trouble,
            received: 0,
        })
    }

    /// Connects, again and again, until enough events were printed.
    async fn follow(&mut self) -> Result<(), TailError> {
        let mut wait = FIRST_RETRY;
        loop {
            let trouble = match Client::connect(self.options.clone()).await {
                Ok(client) => {
                    wait = FIRST_RETRY;
                    match self.read(client).await? {
                        End::Enough => return Ok(()),
                        End::Lost(trouble) => trouble,
                    }
                }
                Err(error) if is_permanent(&error) => return Err(error.into()),
                Err(error) => described(&error),
            };
            note(&format!("{trouble}; connecting again in {wait:?}"));
            self.trouble = Some(trouble);
            sleep(wait).await;
            wait = (wait * 2).min(MAX_RETRY);
        }
    }

    /// Prints what one connection brings.
    async fn read(&mut self, client: Client) -> Result<End, TailError> {
        self.trouble = None;
        let (recovered, pid) = (client.recovered(), client.pid().map(str::to_owned));
        note(&format!(
            "{} to {} as {}",
            if recovered { "connected again" } else { "connected" },
            self.options.namespace,
            client.sid()
        ));
        if !recovered {
            self.options.session = pid.map(|pid| Session { pid, offset: None });
        }
        let client = self.client.insert(client);
        // A session taken up again is still in its rooms.
        if !recovered {
            for emit in &self.args.emit {
                announce(client, emit).await;
            }
        }
        loop {
            match client.next().await {
                Ok(Incoming::Event(event)) => {
                    if let (Some(session), Some(offset)) = (&mut self.options.session, event.offset()) {
                        session.offset = Some(offset);
                    }
                    if event.name() == BEACON_EVENT {
                        continue;
                    }
                    if event.name().starts_with(OWN_EVENTS) {
                        let info = event
                            .args()
                            .ok()
                            .and_then(|args| args.into_iter().next())
                            .unwrap_or_default();
                        note(&format!("{}: {info}", event.name()));
                        continue;
                    }
                    if !self.args.event.is_empty() && !self.args.event.iter().any(|name| *name == event.name()) {
                        continue;
                    }
                    match self.args.output.line(&event, Timestamp::now()) {
                        Ok(line) => print(&line)?,
                        Err(error) => {
                            note(&format!("an event has arguments that are not JSON: {error}"));
                            continue;
                        }
                    }
                    self.received += 1;
                    if self.args.count == Some(self.received) {
                        return Ok(End::Enough);
                    }
                }
                Ok(Incoming::Binary { attachments }) => {
                    note(&format!("a binary event with {attachments} attachments is not shown"));
                }
                Ok(Incoming::Disconnected {
                    reason: reason @ DisconnectReason::ServerDisconnect,
                }) => {
                    return Err(TailError::Ended(reason));
                }
                Ok(Incoming::Disconnected { reason }) => return Ok(End::Lost(format!("disconnected: {reason}"))),
                Err(error @ ClientError::Packet(_)) => note(&error.to_string()),
                Err(error) => return Ok(End::Lost(described(&error))),
            }
        }
    }
}

/// How a connection ended.
enum End {
    Enough,
    Lost(String),
}

/// Emits one event and tells how it was acknowledged. A lost connection shows at the next read.
async fn announce(client: &mut Client, emit: &Emit) {
    let event = &emit.event;
    match client.emit_with_ack(event, &emit.args, ACK_TIMEOUT).await {
        Ok(answer) => {
            let refused = answer.first().and_then(|first| first.get("ok")) == Some(&Value::Bool(false));
            let verb = if refused { "refused" } else { "acknowledged" };
            note(&format!("{event} {verb}: {}", Value::Array(answer)));
        }
        Err(error) => note(&format!("{event}: {}", described(&error))),
    }
}

/// Whether trying again cannot help. A gateway refuses only what stays refused; what may pass, it lets drop.
fn is_permanent(error: &ConnectError) -> bool {
    match error {
        ConnectError::InvalidUrl { .. } | ConnectError::Refused { .. } | ConnectError::Protocol { .. } => true,
        ConnectError::Http { status, .. } => (400..500).contains(status) && ![408, 425, 429].contains(status),
        ConnectError::Transport { .. } | ConnectError::Closed { .. } | ConnectError::Timeout { .. } => false,
    }
}

/// An error with its causes on one line, for a note.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

/// Tells the user what is no event; standard output is for events alone.
fn note(text: &str) {
    use std::io::Write;
    // A closed standard error is no reason to end.
    let _ = writeln!(std::io::stderr(), "# {}", output::one_line(text));
}

fn print(line: &str) -> Result<(), TailError> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").map_err(TailError::Output)
}

#[cfg(test)]
mod tests;
