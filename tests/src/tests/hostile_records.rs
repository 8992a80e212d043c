//! Bytes to Kafka: what is no record of the channel is counted by reason and dead-lettered, and nobody else notices.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::value::RawValue;

use crate::gateway::Gateway;
use crate::hostile::{Random, Witness, seeds};
use crate::kafka::{client, make_topic, shared};
use crate::manifests::Manifests;
use crate::records::end;

/// What is of meaning in JSON, and what is worst for those who read it.
const TOKENS: [&[u8]; 22] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"true",
    b"-",
    b"1e999999",
    b"-0",
    b"9223372036854775808",
    b"123456789012345678901234567890",
    b"0.1e-400",
    b"\\ud800",
    b"\\u0000",
    b"\xff",
    b"\xc3(",
    b"\"room\":",
    b"\"type\":\"news\",",
    b"\xef\xbb\xbf",
];

const SEEDS: [&[u8]; 6] = [
    br#"{"type":"news","room":"a","n":1}"#,
    br#"{"type":"news","room":"a","room":"b","price":1.10,"nested":{"list":[1,"x",null,{"deep":[true]}]}}"#,
    br#"{"type":"other","room":"a"}"#,
    br#"{"type":"news","room":7,"draft":true}"#,
    br#"{"specversion":"1.0","id":"7","source":"/s","type":"news","time":"2026-11-21T09:30:00Z","data":{"room":"a"}}"#,
    br#"{"type":"news","room":["a"],"text":"\u00e9\n\"quoted\""}"#,
];

fn value(random: &mut Random) -> Option<Vec<u8>> {
    let seed = random.of(&SEEDS);
    let (open, many) = (random.of(&["[", "{\"a\":", "[{\"room\":"]), 1 + random.below(20_000));
    Some(match random.below(24) {
        0 => return None,
        1 => Vec::new(),
        2 => open.repeat(many).into_bytes(),
        3 => format!(
            "{{\"type\":\"news\",\"room\":{}{}}}",
            "[".repeat(many),
            "]".repeat(many)
        )
        .into_bytes(),
        4 => format!("{{\"type\":\"news\",\"room\":\"{}\"}}", "x".repeat(many)).into_bytes(),
        5 => format!("{{\"type\":\"{}\",\"room\":\"a\"}}", "x".repeat(many)).into_bytes(),
        6 => format!("{{{}\"room\":\"a\",\"type\":\"news\"}}", "\"room\":1,".repeat(many)).into_bytes(),
        7 => format!("{{\"type\":\"news\",\"room\":1{}}}", "0".repeat(many)).into_bytes(),
        8 => (0..random.below(400)).map(|_| random.next() as u8).collect(),
        _ => random.mutated(seed, &TOKENS),
    })
}

fn headers(random: &mut Random) -> OwnedHeaders {
    let names = [
        "ce_specversion",
        "ce_id",
        "ce_type",
        "ce_time",
        "ce_source",
        "content-type",
        "",
        "aldis-dead-letter-reason",
    ];
    let values: [&[u8]; 7] = [
        b"1.0",
        b"news",
        b"9.9",
        b"",
        b"\xff\xfe",
        b"application/cloudevents+json",
        b"not a time",
    ];
    let mut headers = OwnedHeaders::new();
    for _ in 0..random.below(8) {
        let value = Some(random.of(&values)).filter(|_| !random.one_in(6));
        headers = headers.insert(Header {
            key: random.of(&names),
            value,
        });
    }
    headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bad_records_are_each_counted_by_reason_and_dead_lettered_once() {
    let kafka = shared().await;
    let broker = kafka.address();
    let manifests = Manifests::news();
    let topic = format!("{}-hostile", manifests.topic);
    manifests.channel("target", "hit");
    let channel = std::fs::read_to_string(manifests.path().join("target.yaml")).unwrap();
    let letters = format!("{}-target", manifests.dead_letters);
    let channel = channel
        .replace(&format!("[{}]", manifests.topic), &format!("[{topic}]"))
        .replace(
            "    type: \"{body.type}\"\n    data: \"{body}\"\n",
            "    type: \"{first(body.type, record.headers.ce_type)}\"\n",
        );
    manifests.write("target.yaml", &format!("{channel}  deadLetter: {{topic: {letters}}}\n"));
    for (topic, partitions) in [
        (&manifests.topic, 1),
        (&topic, 4),
        (&manifests.dead_letters, 1),
        (&letters, 1),
    ] {
        make_topic(&broker, topic, partitions, &[]).await;
    }
    let gateway = Gateway::start_logging(&manifests.path(), Some(&broker), Some("error")).await;
    let witness = Witness::start(&gateway, &manifests.topic).await;

    let producer: FutureProducer = client(&broker).set("linger.ms", "5").create().unwrap();
    let (mut not_json, mut tombstones, mut sent) = (0, 0, Vec::new());
    for seed in seeds("records") {
        let random = &mut Random::new(seed);
        let value = value(random);
        match &value {
            Some(value) => not_json += u32::from(serde_json::from_slice::<&RawValue>(value).is_err()),
            None => tombstones += 1,
        }
        let key = random.next().to_le_bytes();
        let mut record = FutureRecord::<[u8], [u8]>::to(&topic)
            .partition((seed % 4) as i32)
            .headers(headers(random));
        record.payload = value.as_deref();
        record.key = Some(&key[..random.below(9)]);
        sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    let inputs = sent.len() as f64;
    for sent in sent {
        sent.await.unwrap().unwrap();
    }

    let of_target = |metrics: &crate::metrics::Metrics, metric: &str, label: &str| -> BTreeMap<String, f64> {
        let all = metrics
            .all(metric)
            .into_iter()
            .filter(|(series, _)| series.contains("press/target"));
        all.map(|(series, value)| {
            let label = series.split(&format!("{label}=\"")).nth(1).unwrap();
            (label.split('"').next().unwrap().to_owned(), value)
        })
        .collect()
    };
    let records = crate::deadline::until("every record is counted", async || {
        let counted = of_target(&gateway.metrics().await, "aldis_records_total", "outcome");
        (counted.values().sum::<f64>() >= inputs).then_some(counted)
    })
    .await;
    let reasons = of_target(&gateway.metrics().await, "aldis_dead_letters_total", "reason");
    println!("{records:?}\n{reasons:?}\n{not_json} are no JSON, {tombstones} tombstones");
    assert_eq!(records.values().sum::<f64>(), inputs, "each record once");
    let refused = records["dead_lettered"];
    assert_eq!(reasons.values().sum::<f64>(), refused, "each refused one has a reason");
    assert_eq!(
        end(&broker, &letters).await as f64,
        refused,
        "and is in the dead letters, once"
    );
    assert_eq!(
        reasons.get("not_json").copied().unwrap_or(0.0),
        f64::from(not_json),
        "as a JSON parser of our own says"
    );
    assert!(records["not_for_us"] >= f64::from(tombstones));
    witness.has_noticed_nothing(&gateway, 150.0).await;
}
