//! Who is connected, and who is sent away, over all replicas: whichever of them is asked, and whether or not the others answer.

use std::time::Instant;

use super::*;
use crate::deadline::until;
use crate::node::Client;
use crate::redis::Cluster;

/// A channel press/news on `/news` whose clients say who they are, and of which who has a token may ask everything.
fn open() -> Manifests {
    let manifests = Manifests::gateway();
    manifests.write(
        "news.yaml",
        "apiVersion: v1
kind: Secret
metadata: {name: jwt, namespace: press, labels: {aldis.dev/use: channel}}
stringData: {secret: a-secret-for-a-test}
---
apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: news, namespace: press, annotations: {aldis.dev/sample: '{\"claims\": {\"sub\": \"ops\"}}'}}
spec:
  parentRefs: [{name: shared}]
  paths: [/news]
  authentication:
    jwt: [{name: staff, secretRef: {name: jwt, key: secret}, algorithms: [HS256], identity: {user: claims.sub}}]
    query: {required: [user], identity: {user: query.user}}
  rooms: [{name: room, key: \"room:{room}\", join: {event: join, with: {room: args.room}}, allow: \"true\"}]
  replies: [{event: count, ack: \"{stats.connections}\", allow: \"true\"}]
  http: [{method: GET, path: /press/count, allow: \"true\", respond: {body: {connections: \"{stats.connections}\"}}}]
  api: {allow: identity.user == 'ops'}
",
    );
    manifests
}

/// Two replicas on this Redis that know of each other.
async fn two(manifests: &Manifests, redis: &str) -> (Gateway, Gateway) {
    let (first, second) = (
        limits::replica_at(manifests, redis).await,
        limits::replica_at(manifests, redis).await,
    );
    for gateway in [&first, &second] {
        gateway.wait_for_metric("aldis_replicas", 2.0).await;
    }
    (first, second)
}

/// Connects a client, and joins this room.
async fn enter(node: &Node, url: &str, user: &str, room: &str) -> Client {
    let client = node.connect(
        url,
        json!({"query": {"user": user}, "reconnectionDelay": 100, "reconnectionDelayMax": 500}),
    );
    let client = client.await;
    client.join("join", json!({"room": room})).await;
    client
}

/// What a replica answers.
async fn ask(gateway: &Gateway, method: reqwest::Method, path: &str) -> Value {
    let begun = Instant::now();
    let token = gateway.channel("press/news").token.clone().unwrap();
    let request = reqwest::Client::new().request(method.clone(), gateway.url(path));
    let request = request.header("Authorization", format!("Bearer {token}"));
    let answer = within(path, request.send()).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let answer = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    if method == reqwest::Method::DELETE {
        println!(
            "{path}: {answer} after {:.0} ms",
            begun.elapsed().as_secs_f64() * 1_000.0
        );
    }
    answer
}

async fn delete(gateway: &Gateway, what: &str) -> Value {
    let path = format!("/aldis/v1/press/news/{what}/connections");
    ask(gateway, reqwest::Method::DELETE, &path).await
}

async fn stats(gateway: &Gateway) -> Value {
    ask(gateway, reqwest::Method::GET, "/aldis/v1/press/news/stats").await
}

/// It was sent away for good.
async fn is_sent_away(client: &Client) {
    assert_eq!(client.disconnected().await, ("io server disconnect".to_owned(), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_all_replicas_add_up_whichever_of_them_is_asked() {
    let (manifests, redis) = (open(), Redis::start().await);
    let (first, mut second) = two(&manifests, &redis.url()).await;
    let node = Node::start();
    let of_first = [
        enter(&node, &first.url("/news"), "ann", "a").await,
        enter(&node, &first.url("/news"), "bob", "b").await,
    ];
    let of_second = enter(&node, &second.url("/news"), "ann", "a").await;
    let both = json!({"answered": 2, "of": 2});
    let all = json!({
        "connections": 3, "uniqueUsers": 2,
        "users": [{"user": "ann", "connections": 2}, {"user": "bob", "connections": 1}],
        "roomCount": 2, "rooms": [{"name": "room:a", "members": 2}, {"name": "room:b", "members": 1}],
        "replicas": both,
    });
    for gateway in [&first, &second] {
        until_equal("all are counted", all.clone(), async || stats(gateway).await).await;
        let room = ask(gateway, reqwest::Method::GET, "/aldis/v1/press/news/rooms/room:a").await;
        assert_eq!(room, json!({"name": "room:a", "members": 2, "replicas": both}));
        let rooms = ask(gateway, reqwest::Method::GET, "/aldis/v1/press/news/rooms").await;
        assert_eq!(rooms, json!({"rooms": all["rooms"], "count": 2, "replicas": both}));
        let own = ask(gateway, reqwest::Method::GET, "/press/count").await;
        assert_eq!(own, json!({"connections": 3}));
    }
    assert_eq!(of_second.ask("count", json!([])).await, 3);

    // Who goes is counted no more, and a replica that has said goodbye is not missing.
    of_first[1].disconnect().await;
    second.terminate().await;
    let alone = json!({
        "connections": 1, "uniqueUsers": 1, "users": [{"user": "ann", "connections": 1}],
        "roomCount": 1, "rooms": [{"name": "room:a", "members": 1}], "replicas": {"answered": 1, "of": 1},
    });
    until_equal("one is left", alone, async || stats(&first).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_a_room_and_a_socket_are_sent_away_wherever_they_are_connected() {
    let redis = Redis::start().await;
    are_sent_away(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_a_room_and_a_socket_are_sent_away_through_a_cluster_too() {
    let redis = Cluster::of_masters().await;
    are_sent_away(&redis.url()).await;
}

async fn are_sent_away(redis: &str) {
    let manifests = open();
    let (first, second) = two(&manifests, redis).await;
    let node = Node::start();
    let (at_first, at_second) = (first.url("/news"), second.url("/news"));
    let anns = [
        enter(&node, &at_first, "ann", "a").await,
        enter(&node, &at_second, "ann", "b").await,
    ];
    let of_room = [
        enter(&node, &at_first, "bob", "c").await,
        enter(&node, &at_second, "eve", "c").await,
    ];
    let stays = enter(&node, &at_second, "eve", "d").await;
    let goes = enter(&node, &at_second, "eve", "d").await;
    let both = |disconnected: u64| json!({"disconnected": disconnected, "replicas": {"answered": 2, "of": 2}});
    assert_eq!(delete(&first, "users/ann").await, both(2));
    for client in &anns {
        is_sent_away(client).await;
    }
    assert_eq!(delete(&second, "rooms/room:c").await, both(2));
    for client in &of_room {
        is_sent_away(client).await;
    }
    assert_eq!(
        delete(&first, &format!("sockets/{}", goes.connected().id)).await,
        both(1)
    );
    is_sent_away(&goes).await;
    assert_eq!(delete(&first, "users/nobody").await, both(0));
    // The replica that sent it away may hear a moment later than the client that it is gone.
    until_equal("nobody else went", json!(1), async || {
        stays.ask("count", json!([])).await
    })
    .await;
    assert!(stays.seen().disconnects.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_paused_makes_no_call_hang_and_does_what_it_has_missed() {
    let (manifests, redis) = (open(), Redis::start().await);
    let (first, second) = two(&manifests, &redis.url()).await;
    let (node, proxy) = (Node::start(), Proxy::before(&second.address()).await);
    let by_proxy = format!("http://{}/news", proxy.address);
    let here = enter(&node, &first.url("/news"), "ann", "a").await;
    let moves = enter(&node, &by_proxy, "ann", "a").await;
    let stays = enter(&node, &second.url("/news"), "ann", "a").await;
    let in_room = enter(&node, &by_proxy, "bob", "b").await;
    let bob = enter(&node, &by_proxy, "bob", "c").await;
    proxy.lead_to(&first.address());
    second.pause().await;
    assert_eq!(
        delete(&first, "users/ann").await,
        json!({"disconnected": 1, "replicas": {"answered": 1, "of": 2}})
    );
    assert_eq!(delete(&first, "rooms/room:b").await["disconnected"], 0);
    is_sent_away(&here).await;

    // Who changes replicas meanwhile is told that it is not recovered; who was not meant is.
    for client in [&moves, &in_room] {
        let (connected, ready) = client.come_back().await;
        assert!(!connected.recovered);
        assert_eq!(
            (&ready["recovered"], &ready["reason"]),
            (&json!(false), &json!("dismissed")),
            "{ready}"
        );
    }
    let (connected, ready) = bob.come_back().await;
    assert!(connected.recovered, "{ready}");

    // Nobody is counted any more who is only there, and it is told that somebody is missing.
    until("it is told", async || {
        let told = stats(&first).await;
        let silent = first
            .metrics()
            .await
            .value("aldis_replicas_silent_total{operation=\"read\"}");
        (told["connections"] == 3 && silent > 0.0).then_some(())
    })
    .await;
    assert!(
        first
            .metrics()
            .await
            .value("aldis_replicas_silent_total{operation=\"disconnect\"}")
            > 0.0
    );

    // It goes on where it was, and hears what it was to do.
    assert!(stays.seen().disconnects.is_empty());
    second.resume().await;
    is_sent_away(&stays).await;
}
