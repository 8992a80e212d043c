use std::sync::{Arc, Mutex};

use aldis_core::route::{Audience, Delivery};
use aldis_crds::names::ChannelName;

use super::*;

#[derive(Default)]
struct Seen(Mutex<Vec<(String, u64, String)>>);

impl Publish for Seen {
    fn publish(&self, channel: &ChannelName, numbered: Numbered) {
        let seen = (
            channel.to_string(),
            numbered.position.seq,
            numbered.delivery.event.to_string(),
        );
        self.0.lock().unwrap().push(seen);
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName {
        namespace: "bistro".to_owned(),
        name: name.to_owned(),
    }
}

fn unit(partition: i32, offset: i64, events: &[&str]) -> Unit {
    let delivery = |event: &&str| Delivery {
        event: Arc::from(*event),
        payloads: Vec::new(),
        audience: Audience::Everyone,
    };
    Unit {
        topic: "orders".into(),
        partition,
        offset,
        deliveries: events.iter().map(delivery).collect(),
    }
}

fn adapter() -> (MemoryAdapter<Seen>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (MemoryAdapter::new("e".into(), Arc::clone(&seen)), seen)
}

#[tokio::test]
async fn a_record_that_comes_again_changes_nothing() {
    let (adapter, seen) = adapter();
    let orders = channel("orders");
    adapter
        .append(&orders, vec![unit(0, 5, &["a", "b"]), unit(0, 6, &["c"])])
        .await
        .unwrap();
    let again = adapter
        .append(
            &orders,
            vec![unit(0, 5, &["a", "b"]), unit(0, 6, &["c"]), unit(0, 7, &["d"])],
        )
        .await
        .unwrap();
    assert_eq!(
        again,
        Appended {
            deliveries: 1,
            refused: 2
        }
    );
    let seqs: Vec<_> = seen
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(_, seq, event)| format!("{seq}{event}"))
        .collect();
    assert_eq!(seqs, ["1a", "2b", "3c", "4d"]);
}

#[tokio::test]
async fn marks_move_over_records_that_deliver_nothing() {
    let (adapter, seen) = adapter();
    adapter.append(&channel("orders"), vec![unit(0, 9, &[])]).await.unwrap();
    let late = adapter
        .append(&channel("orders"), vec![unit(0, 8, &["late"])])
        .await
        .unwrap();
    assert_eq!(
        late,
        Appended {
            deliveries: 0,
            refused: 1
        }
    );
    assert!(seen.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn partitions_and_channels_have_marks_of_their_own() {
    let (adapter, _) = adapter();
    for (channel, partition) in [(channel("orders"), 0), (channel("orders"), 1), (channel("kitchen"), 0)] {
        let appended = adapter
            .append(&channel, vec![unit(partition, 0, &["x"])])
            .await
            .unwrap();
        assert_eq!(appended.deliveries, 1, "{channel} {partition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_partitions_publish_in_the_order_of_their_numbers() {
    let (adapter, seen) = adapter();
    let adapter = Arc::new(adapter);
    let writers: Vec<_> = (0..4)
        .map(|partition| {
            let adapter = Arc::clone(&adapter);
            tokio::spawn(async move {
                for offset in 0..500 {
                    adapter
                        .append(&channel("orders"), vec![unit(partition, offset, &["e"])])
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let seqs: Vec<_> = seen.0.lock().unwrap().iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=2000).collect::<Vec<_>>());
}
