//! Kafka that is not there.

use super::fixture::{Kafka, Replica, Taker, Verdict, until};
use crate::consume::StartAt;

#[tokio::test(flavor = "multi_thread")]
async fn kafka_may_be_absent_at_start_and_go_away_later() {
    let kafka = Kafka::new(&[("orders", 1)]);
    kafka.publish("orders", 0, 0..1).await;
    kafka.mock.broker_down(-1).unwrap();
    let taker = Taker::new(|_| Verdict::Take);
    let replica = Replica::start(&kafka, "g", &["orders"], &taker);
    assert!(!replica.handle.state().borrow().connected);
    kafka.mock.broker_up(-1).unwrap();
    replica.until(|state| state.connected).await;
    taker.until(1).await;
    until(|| kafka.committed("g", "orders", 0) == Some(1)).await;

    kafka.mock.broker_down(-1).unwrap();
    replica.until(|state| !state.connected).await;
    kafka.mock.broker_up(-1).unwrap();
    replica.until(|state| state.connected).await;
    kafka.publish("orders", 0, 1..2).await;
    taker.until(2).await;
    assert_eq!(taker.seen("orders", 0), [(0, "0".to_owned()), (1, "1".to_owned())]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_stops_in_time_though_kafka_never_came() {
    let kafka = Kafka::new(&[]);
    kafka.mock.broker_down(-1).unwrap();
    let taker = Taker::new(|_| Verdict::Take);
    let replica = Replica::start_at(&kafka, "g", &["orders"], &taker, StartAt::GatewayStart);
    replica.stop().await;
}
