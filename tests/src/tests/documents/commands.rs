//! The commands in the pages, run as they stand there: on free ports, and with a broker of ours for `localhost:9092`.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::pages::{Executed, executed};
use crate::deadline::within;
use crate::gateway::{Gateway, Lines, aldis, shell};
use crate::kafka::repository;
use crate::markdown::blocks;

/// A program that goes on until it is told to end.
struct Lasting {
    /// What its line contains.
    line: &'static str,
    /// For any free ports, and no time to wait for clients.
    options: &'static str,
    /// What it says when it runs.
    runs: &'static str,
}

const LASTING: [Lasting; 2] = [
    Lasting {
        line: "aldis dev ",
        options: "--any-port --admin-port 0 --page-port 0",
        runs: "Ctrl-C ends.",
    },
    Lasting {
        line: "aldis-gateway ",
        options: "--bind 127.0.0.1 --admin 127.0.0.1:0 --port web=0 --drain-grace 0",
        runs: "the gateway runs",
    },
];

/// A folder as the pages have it: a clone with `bin/aldis`, the README's channel in `my-channels`, other manifests in
/// `manifests`.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("bin")).unwrap();
    symlink(aldis(), at("bin/aldis")).unwrap();
    symlink(repository().join("examples/bistro"), at("manifests")).unwrap();
    std::fs::create_dir(at("my-channels")).unwrap();
    let channel = blocks()
        .into_iter()
        .find(|block| block.page == "README.md" && block.text.contains("name: parcels"));
    std::fs::write(at("my-channels/parcels.yaml"), channel.unwrap().text).unwrap();
    dir
}

#[tokio::test]
async fn every_command_of_the_pages_does_what_it_says() {
    let kafka = Gateway::start(&repository().join("examples/bistro"), None).await;
    let dir = folder();
    let blocks = blocks()
        .into_iter()
        .filter(|block| executed(block) == Some(Executed::Commands));
    let mut count = 0;
    for block in blocks {
        for line in block.text.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let line = line.replace("localhost:9092", kafka.broker());
            run(&block.to_string(), &line, dir.path()).await;
            count += 1;
        }
    }
    assert!(count >= 5, "{count} commands were found");
}

/// Runs a line to its end, or until it says that it runs and then ends well when it is told to.
async fn run(place: &str, line: &str, dir: &Path) {
    let lasting = LASTING.iter().find(|lasting| line.contains(lasting.line));
    let Some(lasting) = lasting else {
        let output = within(line, shell(line).current_dir(dir).output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {line}: {said}");
        return;
    };
    let mut child = shell(&format!("exec {line} {}", lasting.options))
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (printed, logged) = (
        Lines::of(child.stdout.take().unwrap()),
        Lines::of(child.stderr.take().unwrap()),
    );
    let runs = |said: &str| said.contains(lasting.runs).then_some(());
    tokio::select! {
        () = printed.find(line, runs) => {}
        () = logged.find(line, runs) => {}
        status = child.wait() => panic!("{place}: {line} ended with {status:?}: {}", logged.text()),
    }
    let pid = child.id().expect("it runs").to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let status = within(line, child.wait()).await.unwrap();
    assert!(status.success(), "{place}: {line}: {status}: {}", logged.text());
}
