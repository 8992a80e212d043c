//! Socket.IO 5 by hand, against a channel that is declared (`examples/protocol`): the ground that the protocol's public test
//! suite covers, over both transports, and acknowledgements beyond it.

use serde_json::Value;

use crate::gateway::Gateway;
use crate::manifests::Manifests;
use crate::raw::{Frame, Server, Socket};

async fn server() -> ((Manifests, Gateway), Server) {
    let manifests = Manifests::protocol("connectTimeout: 45s");
    let gateway = Gateway::start(&manifests.path(), None).await;
    let server = Server::of(&gateway);
    ((manifests, gateway), server)
}

/// A socket on `/`, greeted.
async fn connected(server: &Server) -> Socket {
    let (mut socket, _) = server.connect().await;
    socket.send("40").await;
    assert_connected(&socket.text().await, "40");
    assert_eq!(socket.text().await, "42[\"auth\",{}]");
    socket
}

/// CONNECT's answer has the socket's id, and, without history, nothing else.
fn assert_connected(packet: &str, prefix: &str) {
    let payload: Value = serde_json::from_str(packet.strip_prefix(prefix).unwrap()).unwrap();
    assert_eq!(
        payload.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["sid"],
        "{packet}"
    );
}

#[tokio::test]
async fn namespaces_are_connected_to_with_what_the_client_shows() {
    let (_running, server) = server().await;
    for (connect, prefix, greeting) in [
        ("40", "40", "42[\"auth\",{}]"),
        ("40{\"token\":\"123\"}", "40", "42[\"auth\",{\"token\":\"123\"}]"),
        ("40/custom,", "40/custom,", "42/custom,[\"auth\",{}]"),
        ("40/custom", "40/custom,", "42/custom,[\"auth\",{}]"),
        (
            "40/custom,{\"token\":\"abc\"}",
            "40/custom,",
            "42/custom,[\"auth\",{\"token\":\"abc\"}]",
        ),
    ] {
        let (mut socket, _) = server.connect().await;
        socket.send(connect).await;
        assert_connected(&socket.text().await, prefix);
        assert_eq!(socket.text().await, greeting);

        let session = server.open().await;
        session.send(connect).await;
        let mut packets = session.packets().await;
        if packets.len() < 2 {
            packets.extend(session.packets().await);
        }
        assert_connected(&packets[0], prefix);
        assert_eq!(packets[1], greeting);
    }
}

#[tokio::test]
async fn a_namespace_that_is_none_is_an_error_as_in_socket_io() {
    let (_running, server) = server().await;
    let (mut socket, _) = server.connect().await;
    socket.send("40/random").await;
    assert_eq!(socket.text().await, "44/random,{\"message\":\"Invalid namespace\"}");
}

#[tokio::test]
async fn a_namespace_is_left_and_the_connection_stays() {
    let (_running, server) = server().await;
    let mut socket = connected(&server).await;
    socket.send("40/custom").await;
    assert_connected(&socket.text().await, "40/custom,");
    assert_eq!(socket.text().await, "42/custom,[\"auth\",{}]");
    socket.send("41/custom").await;
    socket.send("42[\"message\",\"to the main namespace\"]").await;
    assert_eq!(socket.text().await, "42[\"message-back\",\"to the main namespace\"]");
    socket.send("41").await;
    socket.send("40").await;
    assert_connected(&socket.text().await, "40");
}

#[tokio::test]
async fn events_come_back_as_they_came() {
    let (_running, server) = server().await;
    let mut socket = connected(&server).await;
    socket.send("42[\"message\",1,\"2\",{\"3\":[true]}]").await;
    assert_eq!(socket.text().await, "42[\"message-back\",1,\"2\",{\"3\":[true]}]");
    socket.send("42[\"message\"]").await;
    assert_eq!(socket.text().await, "42[\"message-back\"]");
    socket.send("42456[\"message-with-ack\",1,\"2\",{\"3\":[false]}]").await;
    assert_eq!(socket.text().await, "43456[1,\"2\",{\"3\":[false]}]");
}

const TWO_PLACEHOLDERS: &str = "{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}";

#[tokio::test]
async fn binary_arguments_come_back_over_websocket() {
    let (_running, server) = server().await;
    let mut socket = connected(&server).await;
    for (sent, expected) in [
        (
            format!("452-[\"message\",{TWO_PLACEHOLDERS}]"),
            format!("452-[\"message-back\",{TWO_PLACEHOLDERS}]"),
        ),
        (
            format!("452-789[\"message-with-ack\",{TWO_PLACEHOLDERS}]"),
            format!("462-789[{TWO_PLACEHOLDERS}]"),
        ),
    ] {
        socket.send(&sent).await;
        socket.send_binary(&[1, 2, 3]).await;
        socket.send_binary(&[4, 5, 6]).await;
        let frames = [socket.next().await, socket.next().await, socket.next().await];
        assert_eq!(
            frames,
            [
                Frame::Text(expected),
                Frame::Binary(vec![1, 2, 3]),
                Frame::Binary(vec![4, 5, 6])
            ]
        );
    }
    // Numbered by where they stand, whatever the client called them.
    socket
        .send("452-[\"message\",{\"a\":{\"num\":1,\"_placeholder\":true}},[{\"_placeholder\":true,\"num\":0}]]")
        .await;
    socket.send_binary(b"zero").await;
    socket.send_binary(b"one").await;
    assert_eq!(
        socket.next().await,
        Frame::text(
            "452-[\"message-back\",{\"a\":{\"_placeholder\":true,\"num\":0}},[{\"_placeholder\":true,\"num\":1}]]"
        )
    );
    assert_eq!(socket.next().await, Frame::Binary(b"one".to_vec()));
    assert_eq!(socket.next().await, Frame::Binary(b"zero".to_vec()));
}

#[tokio::test]
async fn binary_arguments_come_back_over_polling() {
    let (_running, server) = server().await;
    let session = server.open().await;
    session.send("40").await;
    let greeting = "42[\"auth\",{}]".to_owned();
    while !session.packets().await.contains(&greeting) {}
    session
        .send(&format!(
            "452-789[\"message-with-ack\",{TWO_PLACEHOLDERS}]\u{1e}bAQID\u{1e}bBAUG"
        ))
        .await;
    assert_eq!(
        session.packets().await,
        [format!("462-789[{TWO_PLACEHOLDERS}]").as_str(), "bAQID", "bBAUG"]
    );
}

#[tokio::test]
async fn packets_that_are_none_end_the_connection() {
    let (_running, server) = server().await;
    for bad in [
        "4abc",
        "42{}",
        "42abc[\"message-with-ack\",1]",
        "42",
        "42[]",
        "42[1]",
        "45-[\"message\"]",
        "44{\"message\":\"no\"}",
    ] {
        let mut socket = connected(&server).await;
        socket.send(bad).await;
        socket.closed().await;
    }
    // Before any CONNECT too.
    let (mut socket, _) = server.connect().await;
    socket.send("4abc").await;
    socket.closed().await;
    // An attachment that nothing announced, and text where an attachment was announced.
    let mut socket = connected(&server).await;
    socket.send_binary(b"x").await;
    socket.closed().await;
    let mut socket = connected(&server).await;
    socket.send("451-[\"message\",{\"_placeholder\":true,\"num\":0}]").await;
    socket.send("42[\"message\",1]").await;
    socket.closed().await;
}

/// A channel that has one of everything that a client event can meet.
fn manifests() -> Manifests {
    let manifests = Manifests::gateway();
    manifests.write(
        "desk.yaml",
        "apiVersion: aldis.dev/v1alpha1
kind: NotificationChannel
metadata: {name: desk, namespace: press}
spec:
  parentRefs: [{name: shared}]
  paths: [/desk]
  authentication: {query: {required: [user], identity: {user: query.user}}}
  rooms: [{name: room, key: \"room:{room}\", join: {event: join, leave: leave, with: {room: args.room}}, allow: \"args.room == 'a'\"}]
  replies:
  - {event: quiet, emit: {event: heard, args: \"{args}\"}, allow: \"true\"}
  - {event: echo, ack: \"{args}\", allow: \"true\"}
  - {event: shown, ack: \"{args}!\", allow: \"arg == null\"}
  - {event: never, ack: 1, allow: \"false\"}
",
    );
    manifests
}

/// What acknowledges each packet: its id, and the first argument's `code`, or `ok`.
#[tokio::test]
async fn every_packet_with_an_id_is_acknowledged_once() {
    let manifests = manifests();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let server = Server::of(&gateway);
    let mut socket = server.websocket("EIO=4&transport=websocket&user=ann").await.unwrap();
    socket.send("40/desk,").await;
    while !socket.text().await.starts_with("40/desk,") {}
    let placeholder = "{\"_placeholder\":true,\"num\":0}";
    let binary = |text: &str| (format!("451-/desk,{text}"), true);
    let text = |text: &str| (format!("42/desk,{text}"), false);
    let packets = [
        text("1[\"nobody knows this\"]"),
        text("2[\"join\",{\"room\":\"a\"}]"),
        text("3[\"join\",{\"room\":\"b\"}]"),
        text("4[\"join\"]"),
        text("5[\"leave\",{\"room\":\"a\"}]"),
        text("6[\"quiet\",\"text\"]"),
        text("7[\"echo\",1]"),
        text("8[\"never\"]"),
        binary(&format!("9[\"join\",{placeholder}]")),
        binary(&format!("10[\"echo\",{placeholder}]")),
        binary(&format!("11[\"quiet\",{placeholder}]")),
        binary(&format!("12[\"shown\",{placeholder}]")),
        binary("13[\"echo\",1]"),
        binary(&format!("14[\"echo\",{placeholder},{placeholder}]")),
        text("15[\"echo\"] and more"),
        text("16[\"echo\",\"last\"]"),
    ];
    for (packet, has_attachment) in &packets {
        socket.send(packet).await;
        if *has_attachment {
            socket.send_binary(b"x").await;
        }
    }
    let mut acks = Vec::new();
    loop {
        let frame = socket.next().await;
        let Frame::Text(text) = frame else {
            assert_eq!(frame, Frame::Binary(b"x".to_vec()));
            continue;
        };
        if let Some(ack) = text
            .strip_prefix("43/desk,")
            .or_else(|| text.strip_prefix("461-/desk,"))
        {
            let (id, args) = ack.split_at(ack.find('[').unwrap());
            let args: Value = serde_json::from_str(args).unwrap();
            let said = match &args[0]["code"] {
                Value::String(code) => code.clone(),
                _ if args[0]["ok"] == true => "ok".to_owned(),
                _ => args.to_string(),
            };
            acks.push(format!("{id} {said}"));
            if id == "16" {
                break;
            }
        }
    }
    assert_eq!(
        acks,
        [
            "1 unknown_event",
            "2 ok",
            "3 denied",
            "4 invalid_room",
            "5 ok",
            "6 []",
            "7 [1]",
            "8 denied",
            "9 binary_unsupported",
            "10 [{\"_placeholder\":true,\"num\":0}]",
            "11 []",
            "12 [\"!\"]",
            "13 malformed_event",
            "14 malformed_event",
            "15 malformed_event",
            "16 [\"last\"]",
        ]
    );
}

#[tokio::test]
async fn a_refusal_says_its_code_over_both_transports() {
    let manifests = manifests();
    let gateway = Gateway::start(&manifests.path(), None).await;
    let server = Server::of(&gateway);
    let refused = "44/desk,{\"message\":\"Query field user required\",\"data\":{\"code\":\"query_field_required\"}}";
    let (mut socket, _) = server.connect().await;
    socket.send("40/desk,").await;
    assert_eq!(socket.text().await, refused);
    let session = server.open().await;
    session.send("40/desk,").await;
    assert_eq!(session.packets().await, [refused]);
}
