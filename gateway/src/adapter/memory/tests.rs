use std::sync::{Arc, Mutex};

use aldis_core::room::RoomKey;
use aldis_core::route::{Audience, Delivery};
use aldis_core::time::Millis;
use aldis_crds::names::ChannelName;

use super::*;

const KEEP: Keep = Keep {
    size: 10,
    ttl_ms: 60_000,
    bytes: usize::MAX,
};

fn keeping(name: &ChannelName, keep: Keep) -> ChannelRef<'_> {
    ChannelRef { name, uid: "", keep }
}

const BOUND: Bound = Bound {
    deliveries: 100,
    bytes: 1_000,
};

#[derive(Default)]
struct Seen(Mutex<Vec<(String, u64, String)>>);

impl Publish for Seen {
    fn publish(&self, channel: &ChannelName, numbered: &Arc<Numbered>) {
        let seen = (
            channel.to_string(),
            numbered.position.seq,
            numbered.delivery.event.to_string(),
        );
        self.0.lock().unwrap().push(seen);
    }

    fn forgot(&self, namespace: &str, deliveries: usize) {
        let seen = (namespace.to_owned(), deliveries as u64, "forgot".to_owned());
        self.0.lock().unwrap().push(seen);
    }

    fn broken(&self, _: &ChannelName, _: Option<&[RoomKey]>) {}
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
    (
        MemoryAdapter::new("e".into(), Arc::clone(&seen), Clock::default()),
        seen,
    )
}

#[tokio::test]
async fn a_record_that_comes_again_changes_nothing() {
    let (adapter, seen) = adapter();
    let orders = channel("orders");
    adapter
        .append(
            keeping(&orders, KEEP),
            vec![unit(0, 5, &["a", "b"]), unit(0, 6, &["c"])],
        )
        .await
        .unwrap();
    let again = adapter
        .append(
            keeping(&orders, KEEP),
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
    adapter
        .append(keeping(&channel("orders"), KEEP), vec![unit(0, 9, &[])])
        .await
        .unwrap();
    let late = adapter
        .append(keeping(&channel("orders"), KEEP), vec![unit(0, 8, &["late"])])
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
            .append(keeping(&channel, KEEP), vec![unit(partition, 0, &["x"])])
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
                        .append(keeping(&channel("orders"), KEEP), vec![unit(partition, offset, &["e"])])
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

fn in_room(value: &str) -> RoomKey {
    RoomKey {
        name: "r".into(),
        values: [Box::from(value)].into(),
    }
}

/// Appends one record with a delivery to each of `rooms`; seq is one more than before.
async fn deliver<P: Publish>(adapter: &MemoryAdapter<P>, keep: Keep, offset: i64, rooms: &[&str]) {
    let audience = Audience::Rooms(rooms.iter().map(|room| (in_room(room), 0)).collect());
    let delivery = Delivery {
        event: "e".into(),
        payloads: vec!["1".into()],
        audience,
    };
    let unit = Unit {
        topic: "orders".into(),
        partition: 0,
        offset,
        deliveries: vec![delivery],
    };
    adapter
        .append(keeping(&channel("orders"), keep), vec![unit])
        .await
        .unwrap();
}

async fn read<P: Publish>(adapter: &MemoryAdapter<P>, rooms: &[(&str, u64)]) -> Result<Vec<u64>, Incomplete> {
    let everyone = rooms.iter().map(|(_, after)| *after).min().unwrap_or_default();
    let since = Since {
        rooms: rooms.iter().map(|(room, after)| (in_room(room), *after)).collect(),
        everyone,
    };
    let missed = adapter
        .read(keeping(&channel("orders"), KEEP), "e", &since, BOUND)
        .await?;
    Ok(missed.0.iter().map(|numbered| numbered.position.seq).collect())
}

#[tokio::test]
async fn what_was_missed_is_read_in_order_and_once() {
    let (adapter, _) = adapter();
    for (offset, rooms) in [&["a"][..], &["b"], &["a", "b"], &["c"]].into_iter().enumerate() {
        deliver(&adapter, KEEP, offset as i64, rooms).await;
    }
    assert_eq!(read(&adapter, &[("a", 0), ("b", 0)]).await, Ok(vec![1, 2, 3]));
    assert_eq!(read(&adapter, &[("a", 1), ("b", 3)]).await, Ok(vec![3]));
    assert_eq!(read(&adapter, &[("quiet", 0)]).await, Ok(vec![]));
    let other = adapter
        .read(keeping(&channel("orders"), KEEP), "other", &Since::default(), BOUND)
        .await;
    assert_eq!(other.unwrap_err(), Incomplete::Epoch);
}

#[tokio::test]
async fn a_room_that_has_dropped_some_says_so_and_others_do_not() {
    let (adapter, _) = adapter();
    let keep = Keep { size: 2, ..KEEP };
    deliver(&adapter, keep, 0, &["quiet"]).await;
    for offset in 1..=3 {
        deliver(&adapter, keep, offset, &["busy"]).await;
    }
    assert_eq!(read(&adapter, &[("busy", 1)]).await, Err(Incomplete::History));
    assert_eq!(read(&adapter, &[("busy", 2)]).await, Ok(vec![3, 4]));
    assert_eq!(read(&adapter, &[("quiet", 0)]).await, Ok(vec![1]));
}

#[tokio::test]
async fn what_is_too_old_is_dropped_and_nobody_before_it_recovers() {
    let seen = Arc::new(Seen::default());
    let at = |ms| MemoryAdapter {
        clock: Clock::fixed(Millis(ms)),
        ..MemoryAdapter::new("e".into(), Arc::clone(&seen), Clock::default())
    };
    let mut adapter = at(1_000);
    deliver(&adapter, KEEP, 0, &["a"]).await;
    adapter.clock = Clock::fixed(Millis(61_000));
    deliver(&adapter, KEEP, 1, &["b"]).await;
    assert_eq!(read(&adapter, &[("a", 0)]).await, Ok(vec![1]));
    adapter.clock = Clock::fixed(Millis(61_001));
    adapter.drop_old(keeping(&channel("orders"), KEEP)).await;
    assert_eq!(read(&adapter, &[("a", 0)]).await, Err(Incomplete::History));
    assert_eq!(read(&adapter, &[("quiet", 0)]).await, Err(Incomplete::History));
    assert_eq!(read(&adapter, &[("a", 1), ("b", 1)]).await, Ok(vec![2]));
}

#[tokio::test]
async fn without_history_nothing_is_kept() {
    let (adapter, _) = adapter();
    deliver(&adapter, Keep { size: 0, ..KEEP }, 0, &["a"]).await;
    assert_eq!(read(&adapter, &[("a", 0)]).await, Err(Incomplete::History));
    assert_eq!(read(&adapter, &[("a", 1)]).await, Ok(vec![]));
}

#[tokio::test]
async fn memory_does_not_grow_with_what_rooms_have_dropped() {
    let (adapter, _) = adapter();
    let keep = Keep {
        size: 3,
        ttl_ms: i64::MAX,
        ..KEEP
    };
    deliver(&adapter, keep, 0, &["quiet"]).await;
    for offset in 1..10_000 {
        deliver(&adapter, keep, offset, &["busy", "busier"]).await;
    }
    let numbers = adapter.numbers(&channel("orders"));
    let history = &numbers.lock().unwrap().history;
    let (kept, bytes, log) = history.size();
    assert_eq!((kept, bytes), (4, 4 * (512 + 1)));
    assert!(log < 1_100, "{log} entries for {kept} deliveries");
}

#[tokio::test]
async fn what_was_not_kept_for_a_while_stays_unreadable() {
    let (adapter, _) = adapter();
    deliver(&adapter, KEEP, 0, &["a"]).await;
    deliver(&adapter, Keep { size: 0, ..KEEP }, 1, &["a"]).await;
    deliver(&adapter, Keep { ttl_ms: -1, ..KEEP }, 2, &["b"]).await;
    assert_eq!(read(&adapter, &[("a", 1)]).await, Err(Incomplete::History));
}

#[tokio::test]
async fn a_place_that_was_never_reached_is_none() {
    let (adapter, _) = adapter();
    deliver(&adapter, KEEP, 0, &["a"]).await;
    assert_eq!(read(&adapter, &[("a", 2)]).await, Err(Incomplete::Epoch));
}

#[tokio::test]
async fn a_channel_that_was_forgotten_goes_on_counting_and_gives_nothing_back() {
    let (adapter, seen) = adapter();
    deliver(&adapter, KEEP, 0, &["a"]).await;
    adapter.forget(keeping(&channel("orders"), KEEP)).await;
    deliver(&adapter, KEEP, 1, &["a"]).await;
    assert_eq!(seen.0.lock().unwrap()[1].1, 2);
    assert_eq!(read(&adapter, &[("a", 0)]).await, Err(Incomplete::History));
}

#[tokio::test]
async fn no_more_is_read_than_was_asked_for() {
    let (adapter, _) = adapter();
    let keep = Keep { size: 1_000, ..KEEP };
    for offset in 0..100 {
        deliver(&adapter, keep, offset, &["a", "b"]).await;
    }
    assert_eq!(
        read(&adapter, &[("a", 0), ("b", 0)]).await.map(|seqs| seqs.len()),
        Ok(100)
    );
    deliver(&adapter, keep, 100, &["a", "b"]).await;
    assert_eq!(read(&adapter, &[("a", 0), ("b", 0)]).await, Err(Incomplete::TooMuch));
    assert_eq!(
        read(&adapter, &[("a", 1), ("b", 1)]).await.map(|seqs| seqs.len()),
        Ok(100)
    );
    let few_bytes = Bound { bytes: 99, ..BOUND };
    let since = Since {
        rooms: [(in_room("a"), 1)].into(),
        everyone: 1,
    };
    let read = adapter
        .read(keeping(&channel("orders"), KEEP), "e", &since, few_bytes)
        .await;
    assert_eq!(read.unwrap_err(), Incomplete::TooMuch);
}

#[tokio::test]
async fn what_a_reader_still_has_counts_no_longer_than_a_room_keeps_it() {
    let (adapter, _) = adapter();
    let keep = Keep { size: 1, ..KEEP };
    let since = Since {
        rooms: [(in_room("a"), 0)].into(),
        everyone: 0,
    };
    let mut read = Vec::new();
    for offset in 0..10 {
        deliver(&adapter, keep, offset, &["a"]).await;
        let since = Since {
            rooms: since.rooms.keys().map(|room| (room.clone(), offset as u64)).collect(),
            everyone: offset as u64,
        };
        read.push(
            adapter
                .read(keeping(&channel("orders"), keep), "e", &since, BOUND)
                .await
                .unwrap(),
        );
    }
    let numbers = adapter.numbers(&channel("orders"));
    let (kept, bytes, _) = lock(&numbers).history.size();
    assert_eq!((kept, bytes), (1, 512 + 1));
    // What is too old, and that somebody still has, is not taken off twice.
    adapter
        .drop_old(keeping(&channel("orders"), Keep { ttl_ms: -1, ..keep }))
        .await;
    let (kept, bytes, log) = lock(&numbers).history.size();
    assert_eq!((kept, bytes, log), (0, 0, 0));
}

#[tokio::test]
async fn the_channels_of_a_tenant_share_its_bytes_and_the_oldest_of_all_go_first() {
    let (mut adapter, seen) = adapter();
    let keep = Keep { size: 100, ..KEEP };
    let (orders, kitchen) = (channel("orders"), channel("kitchen"));
    let cafe = ChannelName {
        namespace: "cafe".to_owned(),
        ..channel("orders")
    };
    let limits = |deliveries: usize| HashMap::from([("bistro".to_owned(), deliveries * 512)]);
    let deliver = async |adapter: &MemoryAdapter<Seen>, channel: &ChannelName, offset: i64| {
        let units = vec![unit(0, offset, &["e"])];
        adapter.append(keeping(channel, keep), units).await.unwrap();
    };
    adapter.set_history_bytes(limits(16));
    for n in 0..16 {
        adapter.clock = Clock::fixed(Millis(n));
        deliver(&adapter, &cafe, n).await;
        deliver(&adapter, [&orders, &kitchen][n as usize % 2], n).await;
    }
    let readable = async |adapter: &MemoryAdapter<Seen>, channel: &ChannelName| {
        let from = async |after: u64| {
            let since = Since {
                everyone: after,
                ..Since::default()
            };
            adapter.read(keeping(channel, keep), "e", &since, BOUND).await.ok()
        };
        for after in 0.. {
            if let Some(missed) = from(after).await {
                return missed.0.len();
            }
        }
        unreachable!()
    };
    let all = async |adapter: &MemoryAdapter<Seen>| {
        [
            readable(adapter, &orders).await,
            readable(adapter, &kitchen).await,
            readable(adapter, &cafe).await,
        ]
    };
    assert_eq!(all(&adapter).await, [8, 8, 16], "as many as it may");
    adapter.clock = Clock::fixed(Millis(16));
    deliver(&adapter, &orders, 16).await;
    assert_eq!(
        all(&adapter).await,
        [8, 7, 16],
        "one of each, and another tenant keeps its own"
    );
    adapter.set_history_bytes(limits(4));
    adapter.drop_old(keeping(&kitchen, keep)).await;
    assert_eq!(all(&adapter).await, [2, 1, 16], "a lowered limit is in force at once");
    let seen = seen.0.lock().unwrap();
    let forgot: Vec<_> = seen.iter().filter(|(.., event)| event == "forgot").collect();
    assert_eq!(forgot.iter().map(|(_, count, _)| count).sum::<u64>(), 14);
    assert!(forgot.iter().all(|(namespace, ..)| namespace == "bistro"));
}

#[tokio::test]
async fn what_a_channel_drops_because_it_keeps_too_much_is_counted() {
    let (adapter, seen) = adapter();
    let keep = Keep { bytes: 2 * 512, ..KEEP };
    for offset in 0..5 {
        let units = vec![unit(0, offset, &["e"])];
        adapter.append(keeping(&channel("orders"), keep), units).await.unwrap();
    }
    let seen = seen.0.lock().unwrap();
    let forgot = seen.iter().filter(|(.., event)| event == "forgot");
    assert_eq!(forgot.map(|(_, count, _)| count).sum::<u64>(), 3);
}
