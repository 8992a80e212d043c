//! Stock Socket.IO clients in Node: `tests/node/agent.js`, told what to do.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use crate::deadline::{DEADLINE, within};
use crate::gateway::{Gateway, instead_of_port_3006};
use crate::kafka::repository;

/// A Node process with any number of clients. Ended with this value.
pub(crate) struct Node {
    agent: Arc<Agent>,
    _child: Child,
}

struct Agent {
    stdin: tokio::sync::Mutex<ChildStdin>,
    clients: Mutex<HashMap<u64, watch::Sender<Seen>>>,
    next: AtomicU64,
}

/// A stock client.
pub(crate) struct Client {
    agent: Arc<Agent>,
    number: u64,
    seen: watch::Receiver<Seen>,
}

/// Everything that a client has seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connects: Vec<Connected>,
    pub(crate) connect_errors: Vec<Value>,
    /// Reasons, and whether the client tries again by itself.
    pub(crate) disconnects: Vec<(String, bool)>,
    pub(crate) events: Vec<Event>,
    /// What `aldis:ready` told, for each connection.
    pub(crate) ready: Vec<Value>,
    /// Where `aldis:position` said that the channel stands.
    pub(crate) beacons: Vec<Value>,
    /// The transport that it began with, and the one that it went over to.
    pub(crate) transports: Vec<String>,
    acks: BTreeMap<u64, Vec<Value>>,
}

/// A connection that was made.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    /// Id of the socket.
    pub(crate) id: String,
    /// Id of the connection below it.
    pub(crate) engine: String,
    /// Name of its session.
    pub(crate) pid: Option<String>,
    /// Whether it has come back and missed nothing.
    pub(crate) recovered: bool,
}

/// An event that was received.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) args: Vec<Value>,
}

impl Event {
    /// The first argument of a delivery.
    pub(crate) fn payload(&self) -> &Value {
        assert_eq!(self.args.len(), 2, "a delivery is a payload and a position: {self:?}");
        &self.args[0]
    }

    /// The position of a delivery: epoch and seq.
    pub(crate) fn position(&self) -> (String, u64) {
        assert_eq!(self.args.len(), 2, "a delivery is a payload and a position: {self:?}");
        position(&self.args[1])
    }
}

/// Epoch and seq of a position.
pub(crate) fn position(value: &Value) -> (String, u64) {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("a position is a string: {value}"));
    let (epoch, seq) = text
        .split_once(':')
        .unwrap_or_else(|| panic!("a position is epoch:seq: {text}"));
    (epoch.to_owned(), seq.parse().unwrap())
}

/// A Node program of `tests/node`, or a text given with `-e`, which finds the stock clients.
pub(crate) fn node(args: &[&str]) -> Command {
    let mut command = Command::new("node");
    command
        .args(args)
        .env("NODE_PATH", modules())
        .current_dir(repository().join("tests/node"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// A snippet of a page as [`node`] runs it: with this gateway's address, and `require` in place of `import`, for which alone
/// Node looks for modules elsewhere than beside the program.
pub(crate) fn program(snippet: &str, gateway: &Gateway) -> String {
    program_at(snippet, &gateway.address())
}

/// The same, with `host:port` of whatever stands before gateways.
pub(crate) fn program_at(snippet: &str, address: &str) -> String {
    let lines =
        snippet.lines().map(
            |line| match line.strip_prefix("import ").and_then(|line| line.split_once(" from ")) {
                Some((names, module)) => format!("const {names} = require({});", module.trim_end_matches(';')),
                None => line.to_owned(),
            },
        );
    instead_of_port_3006(&lines.collect::<Vec<_>>().join("\n"), address)
}

/// Where `scripts/setup.sh node` puts the stock clients.
pub(crate) fn modules() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/aldis");
    let cache = std::env::var_os("ALDIS_CACHE").map_or_else(home, PathBuf::from);
    let modules = cache.join("node/node_modules");
    assert!(
        modules.exists(),
        "there is no {}: run scripts/setup.sh node",
        modules.display()
    );
    modules
}

/// Stock clients in one process that join a room and tell at the end what they have seen: `tests/node/recovery.js`.
pub(crate) struct Flock {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Flock {
    /// Starts it, and waits until all have joined.
    pub(crate) async fn join(job: &Value) -> Self {
        let mut child = node(&["recovery.js", &job.to_string()]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let joined = within("all clients have joined", lines.next_line()).await.unwrap();
        assert_eq!(joined.as_deref(), Some("{\"joined\":true}"));
        Self { lines, _child: child }
    }

    /// What each of them has seen, once all have had the last record. Where nobody waits any more, nothing is lost.
    pub(crate) async fn told(&mut self) -> Vec<Value> {
        let told = self.lines.next_line().await.unwrap();
        let told: Value = serde_json::from_str(&told.expect("the clients tell what they have seen")).unwrap();
        told["clients"].as_array().unwrap().clone()
    }
}

impl Node {
    pub(crate) fn start() -> Self {
        let mut child = node(&["agent.js"]).spawn().unwrap();
        let stdin = tokio::sync::Mutex::new(child.stdin.take().unwrap());
        let agent = Arc::new(Agent {
            stdin,
            clients: Mutex::default(),
            next: AtomicU64::new(1),
        });
        tokio::spawn(hear(child.stdout.take().unwrap(), Arc::clone(&agent)));
        Self { agent, _child: child }
    }

    /// Connects a client of the newest library over WebSocket, on a connection of its own.
    pub(crate) async fn connect(&self, url: &str, options: Value) -> Client {
        let mut options = options;
        options["transports"] = json!(["websocket"]);
        options["forceNew"] = json!(true);
        self.connect_as("4.8", url, &options).await.unwrap()
    }

    /// Connects a client of library `4.7` or `4.8` with the options of `io()`; gives the connect_error where it is refused.
    pub(crate) async fn connect_as(&self, library: &str, url: &str, options: &Value) -> Result<Client, Value> {
        let client = self.begin(library, url, options).await;
        let seen = client
            .until("connected or refused", |seen| {
                !seen.connects.is_empty() || !seen.connect_errors.is_empty()
            })
            .await;
        match seen.connect_errors.into_iter().next() {
            Some(error) if seen.connects.is_empty() => Err(error),
            _ => Ok(client),
        }
    }

    /// Begins to connect a client, and does not wait.
    pub(crate) async fn begin(&self, library: &str, url: &str, options: &Value) -> Client {
        let number = self.agent.next.fetch_add(1, Ordering::Relaxed);
        let (sender, seen) = watch::channel(Seen::default());
        self.agent.clients.lock().unwrap().insert(number, sender);
        let client = Client {
            agent: Arc::clone(&self.agent),
            number,
            seen,
        };
        client
            .agent
            .tell(json!({"do": "connect", "client": number, "library": library, "url": url, "options": options}))
            .await;
        client
    }
}

impl Agent {
    async fn tell(&self, command: Value) {
        self.stdin
            .lock()
            .await
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
    }
}

async fn hear(stdout: ChildStdout, agent: Arc<Agent>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let clients = agent.clients.lock().unwrap();
        clients[&said["client"].as_u64().unwrap()].send_modify(|seen| seen.add(said));
    }
}

impl Seen {
    fn add(&mut self, mut said: Value) {
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let args = || said["args"].as_array().cloned().unwrap_or_default();
        match said["on"].as_str().unwrap() {
            "connect" => self.connects.push(Connected {
                id: text("id"),
                engine: text("engine"),
                pid: said["pid"].as_str().map(str::to_owned),
                recovered: said["recovered"] == true,
            }),
            "open" | "upgrade" => self.transports.push(text("transport")),
            "connect_error" => self.connect_errors.push(said.take()),
            "disconnect" => self.disconnects.push((text("reason"), said["active"] == true)),
            // The gateway's own word, which comes with every connection: not what tests count.
            "event" if said["name"] == "aldis:ready" => self.ready.push(said["args"][0].clone()),
            "event" if said["name"] == "aldis:position" => self.beacons.push(said["args"][1].clone()),
            "event" => self.events.push(Event {
                name: text("name"),
                args: args(),
            }),
            "ack" => drop(self.acks.insert(said["ack"].as_u64().unwrap(), args())),
            other => panic!("the agent says {other}"),
        }
    }

    /// Names of the events, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.name.as_str()).collect()
    }
}

impl Client {
    /// Everything so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// How it is connected.
    pub(crate) fn connected(&self) -> Connected {
        self.seen.borrow().connects.last().expect("it is connected").clone()
    }

    /// Waits until what it has seen is such; gives that.
    pub(crate) async fn until(&self, what: &str, such: impl FnMut(&Seen) -> bool) -> Seen {
        self.wait(what, such).await;
        self.seen()
    }

    /// Waits until what it has seen is such.
    pub(crate) async fn wait(&self, what: &str, such: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.clone();
        if tokio::time::timeout(DEADLINE, seen.wait_for(such)).await.is_err() {
            let Seen {
                events,
                disconnects,
                connect_errors,
                ..
            } = self.seen();
            let last: Vec<_> = events.iter().rev().take(5).collect();
            panic!(
                "not within {DEADLINE:?}: {what}: {} events, the last {last:?}; {disconnects:?}; {connect_errors:?}",
                events.len()
            )
        }
    }

    /// Waits for so many events.
    pub(crate) async fn events(&self, count: usize) -> Vec<Event> {
        self.until(&format!("{count} events"), |seen| seen.events.len() >= count)
            .await
            .events
    }

    /// Waits for the first event of a name.
    pub(crate) async fn event(&self, name: &str) -> Event {
        let find = |seen: &Seen| seen.events.iter().find(|event| event.name == name).cloned();
        find(&self.until(name, |seen| find(seen).is_some()).await).unwrap()
    }

    /// Sends an event, and waits for the one argument of its acknowledgement.
    pub(crate) async fn ask(&self, event: &str, args: Value) -> Value {
        let ack = self.agent.next.fetch_add(1, Ordering::Relaxed);
        self.agent
            .tell(json!({"do": "emit", "client": self.number, "event": event, "args": args, "ack": ack}))
            .await;
        let seen = self
            .until(&format!("an acknowledgement of {event}"), |seen| {
                seen.acks.contains_key(&ack)
            })
            .await;
        let [answer] = seen.acks[&ack].as_slice() else {
            panic!("one argument acknowledges {event}: {:?}", seen.acks[&ack])
        };
        answer.clone()
    }

    /// Sends an event that nobody acknowledges.
    pub(crate) async fn emit(&self, event: &str, args: Value) {
        self.agent
            .tell(json!({"do": "emit", "client": self.number, "event": event, "args": args}))
            .await;
    }

    /// Joins, and checks that it was let in.
    pub(crate) async fn join(&self, event: &str, arg: Value) -> Value {
        let answer = self.ask(event, json!([arg])).await;
        assert_eq!(answer["ok"], true, "{event}: {answer}");
        answer
    }

    /// Breaks its connection, and waits until it has come back by itself; gives how.
    pub(crate) async fn come_back(&self) -> (Connected, Value) {
        let before = self.seen().ready.len();
        self.break_off().await;
        let seen = self.until("it has come back", |seen| seen.ready.len() > before).await;
        (seen.connects.last().unwrap().clone(), seen.ready[before].clone())
    }

    /// Breaks its connection.
    pub(crate) async fn break_off(&self) {
        self.agent.tell(json!({"do": "drop", "client": self.number})).await;
    }

    /// Leaves the namespace.
    pub(crate) async fn disconnect(&self) {
        self.agent
            .tell(json!({"do": "disconnect", "client": self.number}))
            .await;
        self.until("disconnected", |seen| !seen.disconnects.is_empty()).await;
    }

    /// Waits until it was disconnected; gives the reason, and whether it tries again by itself.
    pub(crate) async fn disconnected(&self) -> (String, bool) {
        self.until("disconnected", |seen| !seen.disconnects.is_empty())
            .await
            .disconnects[0]
            .clone()
    }
}
