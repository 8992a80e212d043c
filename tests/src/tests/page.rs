//! The page of `aldis dev`, in a headless Chromium: `tests/node/page.js`.

use std::process::Stdio;

use crate::deadline::within;
use crate::gateway::Gateway;
use crate::kafka::repository;
use crate::node::{modules, node};
use crate::request::request;

async fn example() -> Gateway {
    Gateway::start(&repository().join("examples/bistro"), None).await
}

async fn holds(scenario: &str) {
    let gateway = example().await;
    let looked = node(&["page.js", scenario, gateway.page()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = within(scenario, looked).await.unwrap();
    assert!(
        output.status.success(),
        "{scenario}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn the_page_shows_what_is_published_and_that_a_cut_is_recovered() {
    holds("recovery").await;
}

#[tokio::test]
async fn the_page_joins_and_leaves_and_says_what_is_refused() {
    holds("rooms").await;
}

#[tokio::test]
async fn the_page_keeps_200_rows_however_much_arrives() {
    holds("bounds").await;
}

#[tokio::test]
async fn the_page_is_used_with_the_keyboard_and_everything_has_a_name() {
    holds("keyboard").await;
}

#[tokio::test]
async fn the_page_is_read_in_light_and_dark_and_on_a_phone() {
    holds("colours").await;
}

#[tokio::test]
async fn the_page_answers_neither_other_names_nor_other_pages() {
    let gateway = example().await;
    let own = gateway.page().trim_start_matches("http://").trim_end_matches('/');
    let address = own.parse().unwrap();
    let state = request(address, "GET", "/api/state", &[], "").await;
    assert_eq!((state.status, state.header("access-control-allow-origin")), (200, None));
    assert!(state.body.contains("\"token\""), "{}", state.body);
    for foreign in [("Host", "rebound.example"), ("Origin", "http://evil.example")] {
        let answer = request(address, "GET", "/api/state", &[foreign], "").await;
        assert_eq!(answer.status, 403, "{foreign:?}");
        assert!(!answer.body.contains("token"), "{}", answer.body);
    }
    let json = ("Content-Type", "application/json");
    let record = r#"{"topic": "bistro.dead-letters", "value": 1}"#;
    let answer = request(address, "POST", "/api/records", &[json], record).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (400, "no channel reads the topic \"bistro.dead-letters\"")
    );
    // A form of another page could send this without asking first.
    let plain = ("Content-Type", "text/plain");
    assert_eq!(
        request(address, "POST", "/api/records", &[plain], record).await.status,
        415
    );
}

/// What the page runs is what the tests run: `socket.io-client` as npm has it.
#[test]
fn the_page_has_the_stock_client_of_npm() {
    let assets = repository().join("cli/src/dev/page/assets");
    let manifest = std::fs::read_to_string(modules().join("socket.io-client/package.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let version = manifest["version"].as_str().unwrap();
    let ours = std::fs::read(assets.join(format!("socket.io-{version}.esm.min.js"))).unwrap();
    let theirs = std::fs::read(modules().join("socket.io-client/dist/socket.io.esm.min.js")).unwrap();
    assert!(
        ours == theirs,
        "copy dist/socket.io.esm.min.js of {version} to {}",
        assets.display()
    );
}
