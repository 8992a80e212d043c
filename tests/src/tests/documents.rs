//! README and docs: what they show works as it stands there.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::deadline::within;
use crate::gateway::{Gateway, aldis, shell};
use crate::kafka::repository;
use crate::manifests::Manifests;
use crate::markdown::blocks;
use crate::node::{Node, node, program};
use crate::records::Producer;

use self::pages::{Executed, executed};

mod commands;
mod pages;

#[tokio::test]
async fn every_example_is_valid() {
    for entry in std::fs::read_dir(repository().join("examples")).unwrap() {
        let dir = entry.unwrap().path();
        let output = Command::new(aldis())
            .arg("validate")
            .arg(&dir)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", dir.display());
    }
}

#[tokio::test]
async fn what_aldis_dev_says_to_watch_and_publish_works_when_it_is_pasted() {
    let manifests = Manifests::bistro();
    let gateway = Gateway::start(&manifests.path(), None).await;
    for (channel, expected) in [
        ("bistro/orders", "order:status_changed"),
        ("bistro/kitchen", "kitchen:ticket"),
    ] {
        let about = gateway.channel(channel);
        let mut tail = shell(&format!("exec {}", about.watch));
        let mut tail = tail
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(tail.stderr.take().unwrap()).lines();
        let mut shown = BufReader::new(tail.stdout.take().unwrap()).lines();
        // It says when it is in: from then on nothing is missed.
        let joined = within("aldis tail connects", async { said.next_line().await.unwrap() }).await;
        assert!(joined.is_some(), "{}", about.watch);
        // The broker's example names the topic `orders`; this directory has a topic of its own.
        let publish = about
            .publish
            .replace("--topic orders ", &format!("--topic {} ", manifests.topic));
        gateway
            .wait_for_metric(&format!("aldis_connections{{channel=\"{channel}\"}}"), 1.0)
            .await;
        if channel == "bistro/orders" {
            gateway
                .wait_for_metric(
                    &format!("aldis_client_events_total{{channel=\"{channel}\",outcome=\"join\"}}"),
                    1.0,
                )
                .await;
        }
        let output = within("aldis publish ends", shell(&publish).output()).await.unwrap();
        assert!(
            output.status.success(),
            "{publish}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let seen = within("aldis tail shows the event", async {
            while let Some(line) = shown.next_line().await.unwrap() {
                if line.contains(expected) {
                    return true;
                }
            }
            false
        });
        assert!(seen.await, "{channel}: {expected}");
    }
}

/// The pages' own clients, against README's own example: they print what `publish` of the banner sends.
#[tokio::test]
async fn the_clients_in_the_pages_receive_the_example_record() {
    let snippets: Vec<_> = blocks()
        .into_iter()
        .filter(|block| executed(block) == Some(Executed::Client))
        .collect();
    assert!(snippets.iter().any(|block| block.page == "README.md"));
    let gateway = Gateway::start(&repository().join("examples/bistro"), None).await;
    for snippet in snippets {
        let program = program(&snippet.text, &gateway);
        let mut child = node(&["-e", &program])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let receives = async {
            // Published again until the client, which says nothing when it has joined, is there to see it.
            let publish = async {
                loop {
                    let output = shell(&gateway.channel("bistro/orders").publish).output().await.unwrap();
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                }
            };
            let prints = async {
                while let Some(line) = printed.next_line().await.unwrap() {
                    if line.contains("ready") {
                        return true;
                    }
                }
                false
            };
            tokio::select! {
                () = publish => unreachable!("it goes on for ever"),
                seen = prints => seen,
            }
        };
        if within(&format!("{snippet} prints the record"), receives).await {
            continue;
        }
        let output = child.wait_with_output().await.unwrap();
        panic!(
            "{snippet} ended without it: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test]
async fn the_channel_in_the_readme_does_what_it_says() {
    let manifest = blocks()
        .into_iter()
        .find(|block| block.page == "README.md" && block.text.contains("name: parcels"));
    let manifest = manifest.expect("README.md shows the channel parcels");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("channel.yaml"), &manifest.text).unwrap();
    let output = Command::new(aldis())
        .arg("validate")
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let gateway = Gateway::start(dir.path(), None).await;
    let node = Node::start();
    let client = node.connect(&gateway.url("/demo/parcels"), json!({})).await;
    assert_eq!(client.join("follow", json!("p-7")).await["room"], "parcel:p-7");
    let producer = Producer::to(gateway.broker());
    for (id, city) in [("p-8", json!("Rome")), ("p-7", json!(null)), ("p-7", json!("Oslo"))] {
        producer
            .json("parcels", 0, &json!({"type": "parcel.moved", "id": id, "city": city}))
            .await;
    }
    let event = &client.events(1).await[0];
    assert_eq!(
        (event.name.as_str(), &event.payload()["text"]),
        ("moved", &json!("Parcel p-7 is in Oslo"))
    );
}
