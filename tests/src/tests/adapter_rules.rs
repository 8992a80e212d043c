//! Rules 11 to 16 of exact delivery: each holds, and its test fails where it is switched off.

use std::collections::HashMap;
use std::time::Duration;

use aldis_core::route::Delivery;
use aldis_gateway::adapter::{Adapter, AdapterError, Incomplete};
use aldis_gateway::sabotage::Rule;

use crate::adapters::{BOUND, KEEP, delivery, orders, replica, unit};
use crate::deadline::until;
use crate::redis::Redis;

/// Key of the channel orders in Redis.
fn key(of: &str) -> String {
    format!("aldis:{{g|orders}}:{of}")
}

/// Runs a scenario with the rule, where it must hold, and without it, where it must not.
async fn holds_by(rule: Rule, scenario: impl AsyncFn() -> Result<(), String>) {
    assert_eq!(scenario().await, Ok(()));
    rule.switch_off();
    let broken = scenario().await;
    assert!(broken.is_err(), "{rule:?} is switched off, and nobody notices");
    println!("without it: {}", broken.unwrap_err());
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} is not {expected:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_11_a_channel_that_is_made_anew_inherits_nothing() {
    holds_by(Rule::ChannelState, async || {
        let redis = Redis::start().await;
        let one = replica(&redis);
        let mut orders = orders(KEEP);
        let hosted = one.adapter.host(orders.of(), &[]).await.unwrap();
        let taken = one
            .adapter
            .append(orders.of(), vec![unit(0, 5, vec![delivery("old", &[])])])
            .await
            .unwrap();
        assert_eq!(taken.deliveries, 1);
        orders.uid = "made-anew".to_owned();
        let taken = one
            .adapter
            .append(orders.of(), vec![unit(0, 0, vec![delivery("new", &[])])])
            .await
            .unwrap();
        same("deliveries of the new channel", taken.deliveries, 1)?;
        let again = one.adapter.host(orders.of(), &[]).await.unwrap();
        same("another epoch", again.at.epoch != hosted.at.epoch, true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_a_chain_with_a_hole_is_not_recovered() {
    holds_by(Rule::Prev, async || {
        let redis = Redis::start().await;
        let one = replica(&redis);
        let hosted = one.host(&["a"]).await;
        for offset in 0..5 {
            one.deliver(KEEP, offset, &["a"]).await;
        }
        let history = key("h:r/1:a");
        let entries: Vec<String> = redis.ask(&["LRANGE", &history, "0", "-1"]).await;
        let _: u64 = redis.ask(&["LREM", &history, "1", &entries[2]]).await;
        let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
        same(
            "after the hole",
            one.read(epoch, &[("a", at + 3)]).await,
            Ok(vec!["3".to_owned(), "4".to_owned()]),
        )?;
        same(
            "before the hole",
            one.read(epoch, &[("a", at)]).await,
            Err(Incomplete::History),
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_13_a_script_that_would_fail_writes_nothing() {
    holds_by(Rule::CheckFirst, async || {
        let redis = Redis::start().await;
        let one = replica(&redis);
        let rooms = ["a", "b", "c", "d", "e", "f", "g", "bad"];
        let hosted = one.host(&rooms).await;
        let _: String = redis.ask(&["SET", &key("h:r/3:bad"), "no list"]).await;
        let units = vec![unit(0, 0, vec![delivery("refused", &rooms)])];
        let refused = one.adapter.append(orders(KEEP).of(), units).await;
        assert!(matches!(refused, Err(AdapterError::Refused(_))), "{refused:?}");
        let mut entries = 0;
        for room in &rooms[..7] {
            entries += redis.ask::<u64>(&["LLEN", &key(&format!("h:r/1:{room}"))]).await;
        }
        same("entries that a refused delivery left", entries, 0)?;
        let marks: Option<String> = redis.ask(&["HGET", &key("c"), "m|orders|0"]).await;
        same("mark of a refused record", marks, None)?;
        // Once that key is gone it is taken, as if nothing had been.
        let _: u64 = redis.ask(&["DEL", &key("h:r/3:bad")]).await;
        one.deliver(KEEP, 0, &rooms).await;
        same("epoch", &one.host(&["a"]).await.at.epoch, &hosted.at.epoch)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_a_payload_is_stored_once_however_many_rooms_it_goes_to() {
    holds_by(Rule::PayloadOnce, async || {
        let redis = Redis::start().await;
        let one = replica(&redis);
        let rooms: Vec<_> = (0..50).map(|room| room.to_string()).collect();
        let rooms: Vec<_> = rooms.iter().map(String::as_str).collect();
        let _hosted = one.host(&rooms).await;
        const DELIVERIES: i64 = 20;
        const PAYLOAD: usize = 10_000;
        for offset in 0..DELIVERIES {
            let long = Delivery {
                payloads: vec![format!("\"{}\"", "x".repeat(PAYLOAD)).into()],
                ..delivery("long", &rooms)
            };
            one.append(KEEP, vec![unit(0, offset, vec![long])]).await;
        }
        let mut bytes = 0;
        for name in redis.ask::<Vec<String>>(&["KEYS", &key("*")]).await {
            bytes += redis.ask::<u64>(&["MEMORY", "USAGE", &name, "SAMPLES", "0"]).await;
        }
        let payloads = DELIVERIES as u64 * PAYLOAD as u64;
        println!("{bytes} bytes for {payloads} of payloads");
        same("less than twice the payloads", bytes < 2 * payloads, true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_15_a_redis_that_was_rolled_back_never_gives_a_place_to_two_deliveries() {
    holds_by(Rule::Epoch, async || {
        let mut redis = Redis::start().await;
        let one = replica(&redis);
        let hosted = one.host(&["a"]).await;
        for offset in 0..3 {
            one.deliver(KEEP, offset, &["a"]).await;
        }
        let _: String = redis.ask(&["SAVE"]).await;
        for offset in 3..5 {
            one.deliver(KEEP, offset, &["a"]).await;
        }
        one.seen.wait_for(5).await;
        redis.crash();
        redis.restart().await;
        // Another partition is first now, so a number that is given again names something else.
        let other = || vec![unit(1, 0, vec![delivery("other", &["a"])])];
        until("redis is back", async || {
            one.adapter.append(orders(KEEP).of(), other()).await.ok()
        })
        .await;
        // What Redis has forgotten is to be read again from Kafka.
        let next = || vec![unit(0, 5, vec![delivery("5", &["a"])])];
        let rewound = one.adapter.append(orders(KEEP).of(), next()).await;
        assert!(
            matches!(
                rewound,
                Err(AdapterError::Rewound {
                    partition: 0,
                    offset: 3,
                    ..
                })
            ),
            "{rewound:?}"
        );
        for offset in 3..6 {
            one.deliver(KEEP, offset, &["a"]).await;
        }
        let again = until("it has caught up", async || {
            let hosted = one
                .adapter
                .host(orders(KEEP).of(), &crate::adapters::rooms(&["a"]))
                .await
                .ok()?;
            let seen = one.seen.events().len();
            (seen >= 7 || !Rule::Epoch.is_on() && hosted.at.seq >= one.seen.seqs()[0]).then_some(hosted)
        })
        .await;
        // Those who had a delivery do not get it again.
        same(
            "what was published here",
            one.seen.events(),
            ["0", "1", "2", "3", "4", "other", "5"].map(String::from).to_vec(),
        )?;
        // A place up to the fork is good, one above it is none.
        let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
        let read = one.read(epoch, &[("a", at + 2)]).await;
        same(
            "from before the fork",
            read,
            Ok(["2", "other", "3", "4", "5"].map(String::from).to_vec()),
        )?;
        same(
            "from above the fork",
            one.read(epoch, &[("a", at + 4)]).await,
            Err(Incomplete::Epoch),
        )?;
        // No place names two deliveries.
        let mut names = HashMap::new();
        let again = one
            .adapter
            .read(orders(KEEP).of(), &again.at.epoch, &Default::default(), BOUND)
            .await
            .map_err(|why| why.to_string());
        for numbered in one
            .seen
            .deliveries
            .lock()
            .unwrap()
            .iter()
            .chain(&again.unwrap_or_default().0)
        {
            let event = numbered.delivery.event.to_string();
            let known = names
                .insert(numbered.position.to_string(), event.clone())
                .unwrap_or_else(|| event.clone());
            same(&numbered.position.to_string(), event, known)?;
        }
        Ok(())
    })
    .await;
}

/// Where Redis goes on from before the first record of a partition, no mark says from where on it is to be read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_of_which_redis_has_forgotten_all_leaves_no_position_good() {
    let mut redis = Redis::start().await;
    let one = replica(&redis);
    let hosted = one.host(&["a"]).await;
    for offset in 0..3 {
        one.deliver(KEEP, offset, &["a"]).await;
    }
    let _: String = redis.ask(&["SAVE"]).await;
    let of_another = |offset| vec![unit(1, offset, vec![delivery("another", &["a"])])];
    for offset in 0..2 {
        one.adapter.append(orders(KEEP).of(), of_another(offset)).await.unwrap();
    }
    one.seen.wait_for(5).await;
    redis.crash();
    redis.restart().await;
    let mut told = Vec::new();
    let taken = until("redis is back", async || {
        match one.adapter.append(orders(KEEP).of(), of_another(2)).await {
            Ok(taken) => Some(taken),
            Err(error) => {
                told.push(error.to_string());
                None
            }
        }
    })
    .await;
    assert_eq!(taken.deliveries, 1);
    assert!(
        told.iter().any(|error| error.contains("redis has forgotten all")),
        "{told:?}"
    );
    let read = one.read(&hosted.at.epoch, &[("a", hosted.at.seq)]).await;
    assert_eq!(read, Err(Incomplete::Epoch), "it would be without the first two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_a_lost_subscription_is_noticed() {
    holds_by(Rule::Subscription, async || {
        let redis = Redis::start().await;
        let (one, two) = (replica(&redis), replica(&redis));
        let _hosted = one.host(&["a"]).await;
        for offset in 0..100 {
            two.deliver(KEEP, offset, &["a"]).await;
            if offset % 20 == 10 {
                let _: u64 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            }
        }
        let all = one.seen.wait_for(100);
        // Without the rule nothing more comes, however long one waits.
        let patience = if Rule::Subscription.is_on() { 30 } else { 8 };
        let seen = tokio::time::timeout(Duration::from_secs(patience), all).await;
        same("all was published", seen.is_ok(), true)?;
        let expected: Vec<_> = (0..100).map(|offset| offset.to_string()).collect();
        same("each once, in order", one.seen.events(), expected)?;
        same("nobody was told otherwise", one.seen.broken.lock().unwrap().len(), 0)
    })
    .await;
}
