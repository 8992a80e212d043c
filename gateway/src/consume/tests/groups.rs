//! Several replicas of one group, one after the other and together.

use std::time::Duration;

use super::fixture::{Kafka, Replica, Taker, Verdict, until};
use crate::consume::Limits;

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_not_taken_come_again_after_a_crash() {
    let kafka = Kafka::new(&[("orders", 1)]);
    kafka.publish("orders", 0, 0..5).await;
    let first = Taker::new(|record| {
        if record.offset < 5 {
            Verdict::Take
        } else {
            Verdict::Hang
        }
    });
    let replica = Replica::start(&kafka, "g", &["orders"], &first);
    first.until(5).await;
    until(|| kafka.committed("g", "orders", 0) == Some(5)).await;
    kafka.publish("orders", 0, 5..8).await;
    until(|| replica.observed.received("orders", 0) == 8).await;
    replica.crash();

    let second = Taker::new(|_| Verdict::Take);
    let replica = Replica::start(&kafka, "g", &["orders"], &second);
    second.until(3).await;
    assert_eq!(
        second
            .seen("orders", 0)
            .iter()
            .map(|(offset, _)| *offset)
            .collect::<Vec<_>>(),
        [5, 6, 7]
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_does_not_finish_holds_the_stop_no_longer_than_its_budget_and_is_not_committed() {
    let kafka = Kafka::new(&[("orders", 2)]);
    kafka.publish("orders", 0, 0..3).await;
    kafka.publish("orders", 1, 0..3).await;
    let taker = Taker::new(|record| {
        if record.partition == 0 {
            Verdict::Hang
        } else {
            Verdict::Take
        }
    });
    let limits = Limits {
        shutdown: Duration::from_millis(300),
        ..Replica::limits()
    };
    let replica = Replica::start_within(&kafka, "g", &["orders"], &taker, limits);
    taker.until(3).await;
    until(|| replica.observed.received("orders", 0) == 3).await;
    replica.stop().await;
    taker.set(|_| Verdict::Take);
    assert_eq!(kafka.committed("g", "orders", 0), None);
    assert_eq!(kafka.committed("g", "orders", 1), Some(3));
    assert_eq!(
        taker.seen("orders", 0).len(),
        0,
        "the worker is gone, it does not finish later"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_partitions_and_hand_them_over_without_loss_or_repetition() {
    let kafka = Kafka::new(&[("orders", 4)]);
    let taker = Taker::new(|_| Verdict::Take);
    let first = Replica::start(&kafka, "g", &["orders"], &taker);
    first
        .until(|state| {
            state
                .assigned
                .get("orders")
                .is_some_and(|partitions| partitions.len() == 4)
        })
        .await;
    let second = Replica::start(&kafka, "g", &["orders"], &taker);
    let mut published = 0;
    // Records keep coming while partitions move.
    let moved = |replica: &Replica| replica.handle.state().borrow().assigned.get("orders").map(|p| p.len()) == Some(2);
    while !(moved(&first) && moved(&second)) {
        for partition in 0..4 {
            kafka.publish("orders", partition, published..published + 1).await;
        }
        published += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(published < 2000, "partitions did not move");
    }
    first.stop().await;
    second
        .until(|state| {
            state
                .assigned
                .get("orders")
                .is_some_and(|partitions| partitions.len() == 4)
        })
        .await;
    for partition in 0..4 {
        kafka.publish("orders", partition, published..published + 1).await;
    }
    published += 1;
    taker.until(4 * published as usize).await;
    for partition in 0..4 {
        let offsets: Vec<_> = taker
            .seen("orders", partition)
            .iter()
            .map(|(offset, _)| *offset)
            .collect();
        assert_eq!(offsets, (0..published).collect::<Vec<_>>(), "partition {partition}");
    }
    second.stop().await;
}
