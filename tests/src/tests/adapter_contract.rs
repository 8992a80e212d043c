//! What every adapter keeps. Each test runs over the memory adapter and over the one in Redis.

use std::collections::HashSet;
use std::sync::Arc;

use aldis_core::route::{Audience, Delivery};
use aldis_gateway::adapter::{Adapter, Appended, Bound, Incomplete, Keep, Mark, Since};

use crate::adapters::{BOUND, KEEP, Lab, channel, delivery, memory, orders, replica, replica_by, room, unit};
use crate::redis::{Cluster, Redis, Sentinels};

macro_rules! contract {
    ($($test:ident)*) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(&super::memory()).await;
            })*
        }
        mod in_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let redis = super::Redis::start().await;
                super::$test(&super::replica(&redis)).await;
            })*
        }
        mod in_redis_by_sentinels {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let redis = super::Sentinels::start().await;
                super::$test(&super::replica_by(&redis.url())).await;
            })*
        }
        mod in_redis_cluster {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let redis = super::Cluster::of_masters().await;
                super::$test(&super::replica_by(&redis.url())).await;
            })*
        }
    };
}

contract! {
    a_record_that_comes_again_changes_nothing
    marks_move_over_records_that_deliver_nothing
    a_mark_is_dropped_only_where_it_is_the_one_that_is_gone
    partitions_topics_and_channels_have_marks_of_their_own
    concurrent_partitions_publish_in_the_order_of_their_numbers
    a_batch_is_taken_whole_however_long_it_is
    what_is_published_is_what_was_delivered
    what_was_missed_is_read_in_order_and_once
    a_room_that_has_dropped_some_says_so_and_others_do_not
    what_is_too_old_is_dropped_and_nobody_before_it_recovers
    beyond_its_bytes_the_oldest_go_and_are_told
    without_history_nothing_is_kept
    a_place_that_was_never_reached_is_none
    no_more_is_read_than_was_asked_for
    a_channel_that_was_forgotten_goes_on_counting_and_gives_nothing_back
}

async fn a_record_that_comes_again_changes_nothing<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a"]).await;
    let first = || {
        vec![
            unit(0, 5, vec![delivery("a", &["a"]), delivery("b", &[])]),
            unit(0, 6, vec![delivery("c", &["a"])]),
        ]
    };
    lab.append(KEEP, first()).await;
    let mut again = first();
    again.push(unit(0, 7, vec![delivery("d", &["a"])]));
    let again = lab.append(KEEP, again).await;
    assert_eq!(
        again,
        Appended {
            deliveries: 1,
            refused: 2
        }
    );
    lab.seen.wait_for(4).await;
    assert_eq!(lab.seen.events(), ["a", "b", "c", "d"]);
    let seqs: Vec<_> = lab.seen.seqs().iter().map(|seq| seq - hosted.at.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    assert_eq!(lab.seqs(&hosted, &["a"]).await, lab.seen.seqs());
}

async fn marks_move_over_records_that_deliver_nothing<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&[]).await;
    lab.append(KEEP, vec![unit(0, 9, vec![])]).await;
    let late = lab.append(KEEP, vec![unit(0, 8, vec![delivery("late", &[])])]).await;
    assert_eq!(
        late,
        Appended {
            deliveries: 0,
            refused: 1
        }
    );
    assert_eq!(
        lab.read(&hosted.at.epoch, &[("a", hosted.at.seq)])
            .await
            .unwrap_or_default(),
        Vec::<String>::new()
    );
    assert!(lab.seen.events().is_empty());
}

async fn a_mark_is_dropped_only_where_it_is_the_one_that_is_gone<A: Adapter>(lab: &Lab<A>) {
    let append = async || lab.append(KEEP, vec![unit(0, 7, vec![])]).await.refused;
    assert_eq!(append().await, 0);
    let topic = unit(0, 7, vec![]).topic;
    let check = async |gone| {
        lab.adapter
            .check_mark(orders(KEEP).of(), &topic, 0, gone)
            .await
            .unwrap()
    };
    assert_eq!(check(None).await, Mark::At(7));
    for other in [6, 8] {
        assert_eq!(check(Some(other)).await, Mark::At(7));
    }
    assert_eq!(append().await, 1);
    assert_eq!(check(Some(7)).await, Mark::Dropped(7));
    assert_eq!(check(Some(7)).await, Mark::None);
    assert_eq!(append().await, 0);
}

async fn partitions_topics_and_channels_have_marks_of_their_own<A: Adapter>(lab: &Lab<A>) {
    for (of, topic, partition) in [
        ("orders", "t", 0),
        ("orders", "t", 1),
        ("orders", "t|1", 1),
        ("kitchen", "t", 0),
    ] {
        let mut unit = unit(partition, 0, vec![delivery("x", &[])]);
        unit.topic = topic.into();
        let appended = lab.adapter.append(channel(of, KEEP).of(), vec![unit]).await.unwrap();
        assert_eq!(appended.deliveries, 1, "{of} {topic} {partition}");
    }
}

async fn concurrent_partitions_publish_in_the_order_of_their_numbers<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a"]).await;
    let writers: Vec<_> = (0..4)
        .map(|partition| {
            let adapter = Arc::clone(&lab.adapter);
            tokio::spawn(async move {
                for offset in 0..250 {
                    let units = vec![unit(partition, offset, vec![delivery(&format!("{partition}"), &["a"])])];
                    adapter.append(orders(KEEP).of(), units).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    lab.seen.wait_for(1_000).await;
    let expected: Vec<_> = (hosted.at.seq + 1..=hosted.at.seq + 1_000).collect();
    assert_eq!(lab.seen.seqs(), expected);
}

async fn a_batch_is_taken_whole_however_long_it_is<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a"]).await;
    let long = "x".repeat(3 * 1024 * 1024);
    let mut units: Vec<_> = (0..2_000)
        .map(|offset| unit(0, offset, vec![delivery("short", &["a"])]))
        .collect();
    // One record that makes more than one script takes otherwise, and one that is longer.
    units[700].deliveries = (0..1_500).map(|_| delivery("many", &["a"])).collect();
    units[900].deliveries[0].payloads = vec![format!("\"{long}\"").into()];
    let appended = lab.append(KEEP, units).await;
    assert_eq!(
        appended,
        Appended {
            deliveries: 3_499,
            refused: 0
        }
    );
    lab.seen.wait_for(3_499).await;
    assert_eq!(
        lab.seen.seqs(),
        (hosted.at.seq + 1..=hosted.at.seq + 3_499).collect::<Vec<_>>()
    );
}

async fn what_is_published_is_what_was_delivered<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a", "b:1/2"]).await;
    let several = Delivery {
        event: "änderung".into(),
        payloads: vec![r#"{"é":[1,2.50,null]}"#.into(), "\"second\"".into()],
        // A room that stands twice is one.
        audience: Audience::Rooms(vec![
            (room("b:1/2"), 1),
            (room("a"), 0),
            (room("a"), 1),
            (room("nobody"), 0),
        ]),
    };
    let all = Delivery {
        audience: Audience::Everyone,
        ..several.clone()
    };
    lab.append(KEEP, vec![unit(3, 7, vec![several.clone(), all.clone()])])
        .await;
    lab.seen.wait_for(2).await;
    let since = Since {
        rooms: [(room("a"), hosted.at.seq), (room("b:1/2"), hosted.at.seq)].into(),
        everyone: hosted.at.seq,
    };
    let read = lab
        .adapter
        .read(orders(KEEP).of(), &hosted.at.epoch, &since, BOUND)
        .await
        .unwrap()
        .0;
    let published = lab.seen.deliveries.lock().unwrap().clone();
    for (which, numbered) in [("published", published), ("read", read)] {
        let deliveries: Vec<_> = numbered.iter().map(|numbered| numbered.delivery.clone()).collect();
        assert_eq!(deliveries, [several.clone(), all.clone()], "{which}");
        for (index, numbered) in (0..).zip(&numbered) {
            let source = numbered.source.as_ref().unwrap();
            assert_eq!(
                (&*source.topic, source.partition, source.offset, source.index),
                ("orders", 3, 7, index)
            );
            assert_eq!(numbered.position.epoch, hosted.at.epoch);
        }
    }
}

async fn what_was_missed_is_read_in_order_and_once<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a", "b", "c", "quiet"]).await;
    for (offset, to) in (0..).zip([&["a"][..], &["b"], &["a", "b"], &["c"], &[]]) {
        lab.deliver(KEEP, offset, to).await;
    }
    let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
    assert_eq!(
        lab.read(epoch, &[("a", at), ("b", at)]).await.unwrap(),
        ["0", "1", "2", "4"]
    );
    assert_eq!(
        lab.read(epoch, &[("a", at + 1), ("b", at + 3)]).await.unwrap(),
        ["2", "4"]
    );
    assert_eq!(lab.read(epoch, &[("quiet", at)]).await.unwrap(), ["4"]);
    assert_eq!(lab.read(epoch, &[("a", at + 5)]).await.unwrap(), [""; 0]);
    assert_eq!(lab.read("other", &[("a", at)]).await, Err(Incomplete::Epoch));
}

async fn a_room_that_has_dropped_some_says_so_and_others_do_not<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["quiet", "busy"]).await;
    let keep = Keep { size: 2, ..KEEP };
    lab.deliver(keep, 0, &["quiet", "busy"]).await;
    for offset in 1..=3 {
        lab.deliver(keep, offset, &["busy"]).await;
    }
    let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
    assert_eq!(lab.read(epoch, &[("busy", at + 1)]).await, Err(Incomplete::History));
    assert_eq!(lab.read(epoch, &[("busy", at + 2)]).await.unwrap(), ["2", "3"]);
    assert_eq!(lab.read(epoch, &[("quiet", at)]).await.unwrap(), ["0"]);
    assert_eq!(
        lab.read(epoch, &[("quiet", at), ("busy", at)]).await,
        Err(Incomplete::History)
    );
}

async fn what_is_too_old_is_dropped_and_nobody_before_it_recovers<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a", "b"]).await;
    lab.deliver(KEEP, 0, &["a"]).await;
    lab.deliver(KEEP, 1, &["b"]).await;
    let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
    lab.adapter.drop_old(orders(KEEP).of()).await;
    assert_eq!(lab.read(epoch, &[("a", at)]).await.unwrap(), ["0"]);
    // Nothing is younger than that.
    lab.adapter.drop_old(orders(Keep { ttl_ms: -1, ..KEEP }).of()).await;
    assert_eq!(lab.read(epoch, &[("a", at)]).await, Err(Incomplete::History));
    assert_eq!(lab.read(epoch, &[("a", at + 2), ("b", at + 2)]).await.unwrap(), [""; 0]);
    lab.deliver(KEEP, 2, &["b"]).await;
    assert_eq!(lab.read(epoch, &[("b", at + 2)]).await.unwrap(), ["2"]);
}

async fn beyond_its_bytes_the_oldest_go_and_are_told<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a", "b"]).await;
    let keep = Keep { bytes: 10_000, ..KEEP };
    lab.deliver(keep, 0, &["b"]).await;
    for offset in 1..=50 {
        lab.deliver(keep, offset, &["a", "b"]).await;
    }
    let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
    assert_eq!(lab.read(epoch, &[("a", at)]).await, Err(Incomplete::History));
    assert_eq!(lab.read(epoch, &[("b", at)]).await, Err(Incomplete::History));
    let last = lab.read(epoch, &[("a", at + 46), ("b", at + 46)]).await.unwrap();
    assert_eq!(last, ["46", "47", "48", "49", "50"]);
}

async fn without_history_nothing_is_kept<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a"]).await;
    lab.deliver(Keep { size: 0, ..KEEP }, 0, &["a"]).await;
    lab.seen.wait_for(1).await;
    let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
    assert_eq!(lab.read(epoch, &[("a", at)]).await, Err(Incomplete::History));
    assert_eq!(lab.read(epoch, &[("a", at + 1)]).await.unwrap(), [""; 0]);
    // What was not kept for a while stays unreadable.
    lab.deliver(KEEP, 1, &["a"]).await;
    assert_eq!(lab.read(epoch, &[("a", at)]).await, Err(Incomplete::History));
    assert_eq!(lab.read(epoch, &[("a", at + 1)]).await.unwrap(), ["1"]);
}

async fn no_more_is_read_than_was_asked_for<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a"]).await;
    for offset in 0..4 {
        lab.deliver(KEEP, offset, &["a"]).await;
    }
    let since = Since {
        rooms: [(room("a"), hosted.at.seq)].into(),
        everyone: hosted.at.seq,
    };
    let read = async |bound| {
        let read = lab
            .adapter
            .read(orders(KEEP).of(), &hosted.at.epoch, &since, bound)
            .await;
        read.map(|missed| missed.0.len())
    };
    assert_eq!(read(Bound { deliveries: 4, ..BOUND }).await, Ok(4));
    assert_eq!(read(Bound { deliveries: 3, ..BOUND }).await, Err(Incomplete::TooMuch));
    assert_eq!(read(Bound { bytes: 4, ..BOUND }).await, Err(Incomplete::TooMuch));
}

async fn a_place_that_was_never_reached_is_none<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a"]).await;
    lab.deliver(KEEP, 0, &["a"]).await;
    let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
    assert_eq!(lab.read(epoch, &[("a", at + 2)]).await, Err(Incomplete::Epoch));
}

async fn a_channel_that_was_forgotten_goes_on_counting_and_gives_nothing_back<A: Adapter>(lab: &Lab<A>) {
    let hosted = lab.host(&["a"]).await;
    lab.deliver(KEEP, 0, &["a"]).await;
    lab.adapter.forget(orders(KEEP).of()).await;
    lab.deliver(KEEP, 1, &["a"]).await;
    lab.seen.wait_for(2).await;
    let seqs: HashSet<_> = lab.seen.seqs().into_iter().collect();
    assert_eq!(seqs, [hosted.at.seq + 1, hosted.at.seq + 2].into());
    assert_eq!(
        lab.read(&hosted.at.epoch, &[("a", hosted.at.seq)]).await,
        Err(Incomplete::History)
    );
}
