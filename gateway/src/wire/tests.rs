use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// socketioxide's end, the hub's end, and the client's.
fn ends(capacity: usize) -> (Wire<DuplexStream>, Arc<dyn Link>, DuplexStream) {
    let (near, far) = duplex(capacity);
    let (wire, link) = wire(near, Bytes::new());
    (wire, link, far)
}

/// The texts of frames, as the client gets them.
async fn read_texts(client: &mut DuplexStream, count: usize) -> Vec<String> {
    let mut bytes = BytesMut::new();
    let mut texts = Vec::new();
    while texts.len() < count {
        match split_frame(&mut bytes) {
            Some(frame) => {
                let body = match frame[1] {
                    126 => &frame[4..],
                    127 => &frame[10..],
                    _ => &frame[2..],
                };
                texts.push(String::from_utf8(body.to_vec()).unwrap());
            }
            None => {
                let mut more = [0; 4096];
                let length = tokio::time::timeout(Duration::from_secs(10), client.read(&mut more))
                    .await
                    .unwrap()
                    .unwrap();
                assert!(length > 0, "the stream ended after {texts:?}");
                bytes.extend_from_slice(&more[..length]);
            }
        }
    }
    texts
}

async fn write(wire: &mut Wire<DuplexStream>, text: &str) {
    wire.write_all(&text_frame(text)).await.unwrap();
    wire.flush().await.unwrap();
}

#[tokio::test]
async fn deliveries_wait_for_the_connect_of_their_namespace() {
    let (mut wire, link, mut client) = ends(4096);
    link.open("/a", None);
    link.open("/", None);
    link.send("/a", &text_frame("42/a,[\"early\"]"), Pace::Live).unwrap();
    link.send("/", &text_frame("42[\"root\"]"), Pace::Live).unwrap();
    write(&mut wire, "0{\"sid\":\"x\"}").await;
    write(&mut wire, "40/a,{\"sid\":\"x\"}").await;
    link.send("/a", &text_frame("42/a,[\"late\"]"), Pace::Live).unwrap();
    write(&mut wire, "40{\"sid\":\"x\"}").await;
    let texts = read_texts(&mut client, 6).await;
    assert_eq!(
        texts,
        [
            "0{\"sid\":\"x\"}",
            "40/a,{\"sid\":\"x\"}",
            "42/a,[\"early\"]",
            "42/a,[\"late\"]",
            "40{\"sid\":\"x\"}",
            "42[\"root\"]"
        ]
    );
}

#[tokio::test]
async fn after_disconnect_or_close_nothing_is_delivered() {
    let (mut wire, link, mut client) = ends(4096);
    link.open("/a", None);
    write(&mut wire, "40/a,{}").await;
    write(&mut wire, "41/a,").await;
    assert_eq!(
        link.send("/a", &text_frame("42/a,[\"x\"]"), Pace::Live),
        Err(LinkError::Closed)
    );
    link.open("/b", None);
    wire.write_all(b"\x88\x00").await.unwrap();
    assert_eq!(
        link.send("/b", &text_frame("42/b,[\"x\"]"), Pace::Live),
        Err(LinkError::Closed)
    );
    wire.flush().await.unwrap();
    assert_eq!(read_texts(&mut client, 3).await, ["40/a,{}", "41/a,", ""]);
}

#[tokio::test]
async fn nothing_is_put_between_a_binary_packet_and_its_attachments() {
    let (mut wire, link, mut client) = ends(4096);
    link.open("/", None);
    write(&mut wire, "40{}").await;
    write(
        &mut wire,
        "452-[\"bin\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
    )
    .await;
    link.send("/", &text_frame("42[\"x\"]"), Pace::Live).unwrap();
    wire.write_all(b"\x82\x01a").await.unwrap();
    link.send("/", &text_frame("42[\"y\"]"), Pace::Live).unwrap();
    wire.write_all(b"\x82\x01b").await.unwrap();
    wire.flush().await.unwrap();
    let texts = read_texts(&mut client, 6).await;
    assert_eq!(texts[2..], ["a", "b", "42[\"x\"]", "42[\"y\"]"]);
}

#[tokio::test]
async fn a_client_that_came_over_from_polling_gets_the_rest_of_its_queue_first() {
    let (mut wire, link, mut client) = ends(4096);
    write(&mut wire, "3probe").await;
    assert!(!link.is_upgraded());
    write(&mut wire, "42/a,[\"queued 1\"]").await;
    assert!(link.is_upgraded());
    link.switch("/a");
    link.send("/a", &text_frame("42/a,[\"direct\"]"), Pace::Live).unwrap();
    write(&mut wire, "42/a,[\"queued 2\"]").await;
    write(&mut wire, "42/a,[\"aldis:switch\"]").await;
    link.send("/a", &text_frame("42/a,[\"direct 2\"]"), Pace::Live).unwrap();
    let texts = read_texts(&mut client, 5).await;
    assert_eq!(
        texts,
        [
            "3probe",
            "42/a,[\"queued 1\"]",
            "42/a,[\"queued 2\"]",
            "42/a,[\"direct\"]",
            "42/a,[\"direct 2\"]"
        ]
    );
}

#[tokio::test]
async fn what_does_not_fit_into_the_socket_goes_out_once_it_does() {
    let (mut wire, link, mut client) = ends(64);
    link.open("/", None);
    let connected = tokio::spawn(async move {
        write(&mut wire, "40{}").await;
        wire
    });
    assert_eq!(read_texts(&mut client, 1).await, ["40{}"]);
    let _wire = connected.await.unwrap();
    let expected: Vec<_> = (0..1_000).map(|i| format!("42[\"event\",{i}]")).collect();
    for text in &expected {
        link.send("/", &text_frame(text), Pace::Live).unwrap();
    }
    assert_eq!(read_texts(&mut client, 1_000).await, expected);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_full_and_the_bound_is_in_bytes() {
    let (mut wire, link, _client) = ends(64);
    link.open("/", None);
    tokio::spawn(async move { write(&mut wire, "40{}").await });
    let frame = text_frame(&format!("42[\"{}\"]", "x".repeat(10_000)));
    let taken = (0..1_000)
        .take_while(|_| link.send("/", &frame, Pace::Live).is_ok())
        .count();
    assert_eq!(link.send("/", &frame, Pace::Live), Err(LinkError::Full));
    assert!(
        (QUEUE_BYTES / frame.len() - 1..=QUEUE_BYTES / frame.len() + 1).contains(&taken),
        "{taken}"
    );
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_long_is_given_up() {
    let (near, _far) = duplex(8);
    let (mut wire, link) = wire_that_stalls(near, Bytes::new(), Duration::from_millis(20));
    link.open("/", None);
    wire.write_all(&text_frame("40{}")).await.unwrap();
    link.send("/", &text_frame("42[\"a longer event\"]"), Pace::Live)
        .unwrap();
    let given_up = async {
        while link.send("/", &text_frame("42[\"x\"]"), Pace::Live).is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), given_up).await.unwrap();
    assert_eq!(
        link.send("/", &text_frame("42[\"x\"]"), Pace::Live),
        Err(LinkError::Closed)
    );
    assert!(wire.write_all(&text_frame("2")).await.is_err());
}

#[tokio::test]
async fn the_first_ping_is_answered_on_the_wire_and_the_next_by_the_client() {
    let (mut wire, _link, mut client) = ends(4096);
    write(&mut wire, "0{\"sid\":\"x\"}").await;
    write(&mut wire, "2").await;
    write(&mut wire, "40{}").await;
    write(&mut wire, "2").await;
    assert_eq!(read_texts(&mut client, 3).await, ["0{\"sid\":\"x\"}", "40{}", "2"]);
    client.write_all(b"next").await.unwrap();
    let mut read = [0; 11];
    wire.read_exact(&mut read).await.unwrap();
    assert_eq!(read[..], [&PONG[..], b"next"].concat());
}

#[tokio::test]
async fn a_client_sees_the_end_when_socketioxide_lets_go_whoever_has_the_link() {
    let (mut wire, link, mut client) = ends(4096);
    write(&mut wire, "0{}").await;
    drop(wire);
    assert_eq!(read_texts(&mut client, 1).await, ["0{}"]);
    let ended = tokio::time::timeout(Duration::from_secs(10), client.read(&mut [0])).await;
    assert_eq!(ended.unwrap().unwrap(), 0);
    assert_eq!(link.send("/", &text_frame("42[]"), Pace::Live), Err(LinkError::Closed));
    // What is queued goes out first.
    let (mut wire, _link, mut client) = ends(8);
    wire.write_all(&text_frame("a longer text")).await.unwrap();
    wire.flush().await.unwrap();
    drop(wire);
    assert_eq!(read_texts(&mut client, 1).await, ["a longer text"]);
    let ended = tokio::time::timeout(Duration::from_secs(10), client.read(&mut [0])).await;
    assert_eq!(ended.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn socketioxide_is_never_held_up_and_what_it_writes_is_bounded_in_bytes() {
    let (mut wire, _link, _client) = ends(64);
    let reply = text_frame(&format!("42[\"{}\"]", "x".repeat(100_000)));
    let mut taken = 0;
    while wire.write_all(&reply).await.is_ok() && wire.flush().await.is_ok() {
        taken += reply.len();
        assert!(taken <= QUEUE_BYTES + FRAME_BYTES + reply.len(), "{taken}");
    }
    assert!(taken > QUEUE_BYTES, "{taken}");
}

#[tokio::test]
async fn behind_a_close_frame_everything_is_written_before_the_stream_is_let_go() {
    let (mut wire, _link, mut client) = ends(64);
    let text = "x".repeat(10_000);
    wire.write_all(&text_frame(&text)).await.unwrap();
    wire.flush().await.unwrap();
    wire.write_all(b"\x88\x00").await.unwrap();
    let closed = tokio::spawn(async move { wire.flush().await });
    assert_eq!(read_texts(&mut client, 2).await, [text.as_str(), ""]);
    closed.await.unwrap().unwrap();
}

/// What rule 5 is about: whether a delivery comes between a binary packet and its attachment, and whether a client that takes
/// nothing is given up.
#[cfg(feature = "sabotage")]
async fn torn_and_given_up() -> (bool, bool) {
    let (mut wire, link, mut client) = ends(4096);
    link.open("/", None);
    write(&mut wire, "40{}").await;
    write(&mut wire, "451-[\"bin\",{\"_placeholder\":true,\"num\":0}]").await;
    link.send("/", &text_frame("42[\"x\"]"), Pace::Live).unwrap();
    wire.write_all(b"\x82\x01a").await.unwrap();
    wire.flush().await.unwrap();
    let torn = read_texts(&mut client, 4).await[2] != "a";

    let (near, _far) = duplex(8);
    let (mut wire, link) = wire_that_stalls(near, Bytes::new(), Duration::from_millis(20));
    link.open("/", None);
    wire.write_all(&text_frame("40{}")).await.unwrap();
    link.send("/", &text_frame("42[\"a longer event\"]"), Pace::Live)
        .unwrap();
    // Far more than the stall; a machine that is busy only makes it longer.
    tokio::time::sleep(Duration::from_millis(500)).await;
    (
        torn,
        link.send("/", &text_frame("42[\"x\"]"), Pace::Live) == Err(LinkError::Closed),
    )
}

#[cfg(feature = "sabotage")]
#[tokio::test]
async fn rule_05_a_binary_packet_is_never_torn_and_a_stalled_client_is_given_up() {
    assert_eq!(torn_and_given_up().await, (false, true));
    Rule::Stall.switch_off();
    assert_eq!(torn_and_given_up().await, (true, false));
}

#[tokio::test]
async fn what_came_with_the_upgrade_is_read_first() {
    let (near, mut far) = duplex(64);
    let (mut wire, _link) = wire(near, Bytes::from_static(b"abc"));
    far.write_all(b"de").await.unwrap();
    let mut read = [0; 5];
    wire.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"abcde");
}

#[cfg(feature = "sabotage")]
#[tokio::test]
async fn rule_03_no_delivery_passes_before_its_namespaces_connect() {
    let first_of_namespace = async || {
        let (mut wire, link, mut client) = ends(4096);
        link.open("/a", None);
        link.send("/a", &text_frame("42/a,[\"x\"]"), Pace::Live).unwrap();
        write(&mut wire, "40/a,{}").await;
        read_texts(&mut client, 2).await.remove(0)
    };
    assert_eq!(first_of_namespace().await, "40/a,{}");
    crate::sabotage::Rule::Gate.switch_off();
    assert_eq!(
        first_of_namespace().await,
        "42/a,[\"x\"]",
        "a gate that is open is noticed"
    );
}

#[tokio::test]
async fn a_close_goes_out_behind_what_is_queued_and_nothing_after_it() {
    let (mut wire, link, mut client) = ends(4096);
    link.open("/a", None);
    write(&mut wire, "40/a,{\"sid\":\"x\"}").await;
    link.send("/a", &text_frame("42/a,[\"last\"]"), Pace::Live).unwrap();
    link.close();
    link.close();
    let frame = text_frame("42/a,[\"late\"]");
    assert_eq!(link.send("/a", &frame, Pace::Live), Err(LinkError::Closed));
    drop(wire);
    let mut got = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut got));
    read.await.expect("the stream ends").unwrap();
    let mut expected = BytesMut::new();
    for packet in ["40/a,{\"sid\":\"x\"}", "42/a,[\"last\"]", "1"] {
        expected.extend_from_slice(&text_frame(packet));
    }
    expected.extend_from_slice(&[0x88, 2, 0x03, 0xe9]);
    assert_eq!(got, expected.to_vec(), "one Close, status 1001");
}

#[tokio::test]
async fn a_wire_that_is_let_go_of_ends_its_stream_though_the_hub_holds_its_end() {
    let (wire, link, mut client) = ends(4096);
    drop(wire);
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest));
    assert_eq!(read.await.expect("the stream ends").unwrap(), 0);
    drop(link);
}

#[tokio::test]
async fn the_open_packet_tells_what_a_client_may_send() {
    let (wire, _link, mut client) = ends(4096);
    let mut wire = wire.announcing(2048);
    write(&mut wire, "0{\"sid\":\"x\",\"maxPayload\":4503599627370496}").await;
    assert_eq!(
        read_texts(&mut client, 1).await,
        ["0{\"sid\":\"x\",\"maxPayload\":2048}"]
    );
}
