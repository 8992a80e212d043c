//! Kafka is reached another way while records go on.

use tokio_util::sync::CancellationToken;

use super::fixture::{Kafka, Replica, Taker, Verdict, until};
use crate::kafka::Reach;

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_made_anew_goes_on_where_the_former_one_was() {
    let kafka = Kafka::new(&[("orders", 2)]);
    let taker = Taker::new(|_| Verdict::Take);
    let replica = Replica::start(&kafka, "g", &["orders"], &taker);
    kafka.publish("orders", 0, 0..50).await;
    taker.until(50).await;

    let stop = CancellationToken::new();
    tokio::spawn(replica.access.clone().keep(stop.clone()));
    let mut changes = replica.access.changes();
    // The same brokers, and not the same way.
    let twice = [kafka.bootstrap.clone(), kafka.bootstrap.clone()].concat();
    replica.access.renew(Reach::plain(&twice));
    let (_, changed) = tokio::join!(kafka.publish("orders", 0, 50..100), changes.changed());
    changed.unwrap();
    kafka.publish("orders", 1, 0..50).await;
    all(&taker, 0, 100).await;
    all(&taker, 1, 50).await;

    // One that nobody answers to is not taken, and what runs goes on.
    replica.access.renew(Reach::plain(&["127.0.0.1:1".to_owned()]));
    kafka.publish("orders", 1, 50..60).await;
    all(&taker, 1, 60).await;
    assert!(!changes.has_changed().unwrap());
    stop.cancel();
    replica.stop().await;
}

/// Waits until these records were taken, each for the first time in its turn: one may come again, which marks pass over, where the
/// former consumer could not commit in time.
async fn all(taker: &Taker, partition: i32, count: i64) {
    let news = || {
        let mut next = 0;
        let seen = taker.seen("orders", partition).into_iter();
        let news = seen.filter(|(offset, _)| {
            let is_new = *offset >= next;
            next = next.max(offset + 1);
            is_new
        });
        news.map(|(offset, _)| offset).collect::<Vec<_>>()
    };
    until(|| news().last() == Some(&(count - 1))).await;
    assert_eq!(news(), (0..count).collect::<Vec<_>>(), "partition {partition}");
}
