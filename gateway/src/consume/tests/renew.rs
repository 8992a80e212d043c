//! Kafka is reached another way while records go on.

use tokio_util::sync::CancellationToken;

use super::fixture::{Kafka, Replica, Taker, Verdict};
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
    taker.until(150).await;
    for (partition, count) in [(0, 100), (1, 50)] {
        let expected: Vec<_> = (0..count).map(|n| (n, n.to_string())).collect();
        assert_eq!(taker.seen("orders", partition), expected, "partition {partition}");
    }

    // One that nobody answers to is not taken, and what runs goes on.
    replica.access.renew(Reach::plain(&["127.0.0.1:1".to_owned()]));
    kafka.publish("orders", 1, 50..60).await;
    taker.until(160).await;
    assert!(!changes.has_changed().unwrap());
    stop.cancel();
    replica.stop().await;
    assert_eq!(kafka.committed("g", "orders", 0), Some(100));
    assert_eq!(kafka.committed("g", "orders", 1), Some(60));
}
