//! Stock Socket.IO clients in a Node process of their own: `tests/node/chaos.js`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::history::{Journal, Observer, Saw};
use super::server::Kind;
use super::topology::Client;
use crate::node::node;

/// Starts clients, whose process is ended with what this gives. Those that poll alone go through what is before their address, if
/// anything is.
pub(crate) fn start(
    clients: &[Client],
    kind: Kind,
    before: &BTreeMap<SocketAddr, SocketAddr>,
    journal: &Journal,
) -> Child {
    let ways = [&["websocket"][..], &["polling"], &["polling", "websocket"]];
    let (observers, jobs): (Vec<_>, Vec<_>) = clients
        .iter()
        .enumerate()
        .map(|(number, client)| {
            let (library, transports) = (["4.8", "4.7"][number % 2], ways[number / 2 % 3]);
            let name = format!("stock {library} {number} ({})", transports.join(", "));
            let rooms = client
                .rooms
                .iter()
                .map(|room| json!([room.event, room.argument(), room.name()]));
            let address = match transports {
                ["polling"] => before.get(&client.address).unwrap_or(&client.address),
                _ => &client.address,
            };
            let job = json!({
                "library": library,
                "url": format!("http://{address}{}", client.channel.path()),
                "options": {"transports": transports},
                "rooms": rooms.collect::<Vec<_>>(),
                "silent": kind == Kind::Node,
            });
            (journal.client(name, client.channel.name(), client.wants()), job)
        })
        .unzip();
    let mut process = node(&["chaos.js", &Value::from(jobs).to_string()]).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            hear(&observers[said["client"].as_u64().unwrap() as usize], &said);
        }
    });
    process
}

fn hear(observer: &Observer, said: &Value) {
    match said["on"].as_str().unwrap() {
        "connect" => observer.saw(Saw::Connected {
            recovered: said["recovered"].as_bool(),
        }),
        "event" => observer.event(said["name"].as_str().unwrap(), said["args"].as_array().unwrap()),
        "joined" => observer.acknowledged(&said["answer"]),
        "disconnect" => observer.saw(Saw::Disconnected),
        "refused" => observer.saw(Saw::Refused(said["why"].to_string())),
        other => panic!("chaos.js says {other}"),
    }
}
