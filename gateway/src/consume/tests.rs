//! The consumer against librdkafka's mock cluster: a real listener and protocol, in this process.
//!
//! Its first assignment of a group takes 3.1 s, so each test makes the most of one group.

mod again;
mod fixture;
mod groups;
mod outages;
mod renew;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::fixture::{Kafka, Replica, Taker, Verdict, topics, until};
use super::{Limits, Marks, SHUTDOWN_BUDGET, StartAt};

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_partition_are_taken_in_order_and_committed_by_a_graceful_stop() {
    let kafka = Kafka::new(&[("orders", 3)]);
    for partition in 0..3 {
        kafka.publish("orders", partition, 0..300).await;
    }
    let taker = Taker::new(|_| Verdict::Take);
    let replica = Replica::start(&kafka, "g", &["orders"], &taker);
    taker.until(900).await;
    for partition in 0..3 {
        let expected: Vec<_> = (0..300).map(|n| (n, n.to_string())).collect();
        assert_eq!(taker.seen("orders", partition), expected);
    }
    let stopped = Instant::now();
    replica.stop().await;
    assert!(
        stopped.elapsed() < SHUTDOWN_BUDGET,
        "workers that have nothing in hand end at once"
    );
    for partition in 0..3 {
        assert_eq!(kafka.committed("g", "orders", partition), Some(300));
    }
    let record = taker.first();
    assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(
        record.headers,
        [
            ("type".to_owned(), Some("order.created".into())),
            ("empty".to_owned(), None)
        ]
    );
    assert!(record.timestamp_ms > 1_700_000_000_000, "{}", record.timestamp_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_partition_is_not_committed_and_holds_no_other() {
    let kafka = Kafka::new(&[("orders", 2)]);
    kafka.publish("orders", 0, 0..10).await;
    kafka.publish("orders", 1, 0..10).await;
    let taker = Taker::new(|record| {
        if record.partition == 0 {
            Verdict::Fail
        } else {
            Verdict::Take
        }
    });
    let replica = Replica::start(&kafka, "g", &["orders"], &taker);
    // The other one is taken and committed, again and again, while this one is being repeated.
    for round in 1..=3 {
        let retried = replica.observed.retried.load(Ordering::Relaxed);
        until(|| replica.observed.retried.load(Ordering::Relaxed) > retried).await;
        taker.until(10 * round).await;
        until(|| kafka.committed("g", "orders", 1) == Some(10 * round as i64)).await;
        kafka.publish("orders", 1, 0..10).await;
    }
    assert!(replica.observed.is_paused("orders", 0), "the stuck partition is paused");
    assert!(!replica.observed.is_paused("orders", 1));
    assert_eq!(kafka.committed("g", "orders", 0), None);

    taker.set(|_| Verdict::Take);
    until(|| taker.seen("orders", 0).len() == 10).await;
    until(|| kafka.committed("g", "orders", 0) == Some(10)).await;
    assert!(!replica.observed.is_paused("orders", 0), "it goes on");
    assert_eq!(
        taker
            .seen("orders", 0)
            .iter()
            .map(|(offset, _)| *offset)
            .collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_replica_is_behind_is_what_the_brokers_have_and_it_has_not_taken() {
    let kafka = Kafka::new(&[("orders", 2)]);
    kafka.publish("orders", 0, 0..10).await;
    kafka.publish("orders", 1, 0..10).await;
    let taker = Taker::new(|record| {
        if record.partition == 0 && record.offset >= 4 {
            Verdict::Fail
        } else {
            Verdict::Take
        }
    });
    let marks = Marks {
        batch_records: 2,
        ..Marks::default()
    };
    let limits = Limits {
        marks,
        lag: Duration::from_millis(100),
        ..Replica::limits()
    };
    let replica = Replica::start_within(&kafka, "g", &["orders"], &taker, limits);
    let lags = || (replica.observed.lag("orders", 0), replica.observed.lag("orders", 1));
    until(|| lags() == (Some(6), Some(0))).await;
    kafka.publish("orders", 0, 10..15).await;
    until(|| lags() == (Some(11), Some(0))).await;
    taker.set(|_| Verdict::Take);
    until(|| lags() == (Some(0), Some(0))).await;
    // What is not read any more is nobody's to tell.
    replica.topics.send_replace(topics(&[]));
    until(|| lags() == (None, None)).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_taking_is_repeated_like_an_error() {
    let kafka = Kafka::new(&[("orders", 1)]);
    kafka.publish("orders", 0, 0..1).await;
    let taker = Taker::new(|_| Verdict::Panic);
    let replica = Replica::start(&kafka, "g", &["orders"], &taker);
    until(|| replica.observed.retried.load(Ordering::Relaxed) > 2).await;
    taker.set(|_| Verdict::Take);
    taker.until(1).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_pauses_its_partition_and_loses_nothing() {
    let kafka = Kafka::new(&[("orders", 2)]);
    kafka.publish("orders", 0, 0..2000).await;
    let taker = Taker::new(|record| {
        if record.partition == 0 {
            Verdict::Hang
        } else {
            Verdict::Take
        }
    });
    let marks = Marks {
        high_records: 50,
        low_records: 20,
        batch_records: 7,
        ..Marks::default()
    };
    let replica = Replica::start_within(
        &kafka,
        "g",
        &["orders"],
        &taker,
        Limits {
            marks,
            ..Replica::limits()
        },
    );
    until(|| replica.observed.is_paused("orders", 0)).await;
    let held = replica.observed.received("orders", 0);
    kafka.publish("orders", 1, 0..100).await;
    taker.until(100).await;
    let later = replica.observed.received("orders", 0);
    assert!(later < 1500, "it takes no more in while paused: {held} then {later}");

    taker.set(|_| Verdict::Take);
    taker.until(2100).await;
    let expected: Vec<_> = (0..2000).map(|n| (n, n.to_string())).collect();
    assert_eq!(taker.seen("orders", 0), expected);
    assert!(taker.largest_batch() <= 7);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_starts_where_the_gateway_did_and_says_so_before_it_reads() {
    let kafka = Kafka::new(&[("orders", 1)]);
    kafka.publish("orders", 0, 0..5).await;
    let taker = Taker::new(|_| Verdict::Take);
    let replica = Replica::start_at(&kafka, "g", &["orders", "later"], &taker, StartAt::GatewayStart);
    replica.until(|state| state.assigned.contains_key("orders")).await;
    assert_eq!(
        kafka.committed("g", "orders", 0),
        Some(5),
        "chosen once for the group, though nothing was read"
    );
    replica.until(|state| state.missing == topics(&["later"])).await;
    kafka.publish("orders", 0, 5..7).await;
    taker.until(2).await;
    assert_eq!(taker.seen("orders", 0), [(5, "5".to_owned()), (6, "6".to_owned())]);

    // Created later, and read from its first record though that was there before anybody looked.
    kafka.create("later", 1);
    kafka.publish("later", 0, 0..3).await;
    taker.until(5).await;
    assert_eq!(taker.seen("later", 0).len(), 3);
    replica.until(|state| state.missing.is_empty()).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_come_and_go_without_touching_those_that_stay() {
    let kafka = Kafka::new(&[("orders", 2), ("menus", 1)]);
    let taker = Taker::new(|_| Verdict::Take);
    let replica = Replica::start(&kafka, "g", &[], &taker);
    replica.until(|state| state.connected).await;
    replica.topics.send_replace(topics(&["orders"]));
    replica.until(|state| state.assigned.contains_key("orders")).await;
    kafka.publish("orders", 0, 0..1).await;
    taker.until(1).await;

    replica.topics.send_replace(topics(&["orders", "menus"]));
    kafka.publish("menus", 0, 0..1).await;
    taker.until(2).await;
    assert_eq!(taker.seen("menus", 0).len(), 1);
    replica.topics.send_replace(topics(&["menus"]));
    replica.until(|state| state.assigned.keys().eq(["menus"])).await;
    let orders: BTreeSet<_> = [("orders".to_owned(), 0), ("orders".to_owned(), 1)].into();
    assert_eq!(replica.observed.revoked(), orders, "only what left was touched");
    kafka.publish("menus", 0, 1..2).await;
    taker.until(3).await;
    replica.stop().await;
    assert_eq!(kafka.committed("g", "menus", 0), Some(2));
    assert_eq!(
        kafka.committed("g", "orders", 0),
        Some(1),
        "what was revoked was committed"
    );
}
