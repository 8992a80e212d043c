//! What replicas tell each other in Redis: places of clients are given in one step, and expire with who had them.

use std::sync::Arc;

use aldis_gateway::adapter::AdapterError;
use aldis_gateway::adapter::census::{Asked, Census, Count, Counted, Dismissed, Order};
use aldis_gateway::adapter::redis::Link;

use crate::adapters::{KEEP, orders, replica, replica_at};
use crate::deadline::{until, until_equal, within};
use crate::redis::Redis;

fn asks(places: &[(&str, u32)]) -> Asked {
    Asked {
        places: places.iter().map(|(name, limit)| (Arc::from(*name), *limit)).collect(),
        from: None,
    }
}

/// What is said of these, and who asks.
fn count(is_fresh: bool, counts: &[(&str, u32)], asked: &[Asked]) -> Count {
    Count {
        is_fresh,
        counts: counts
            .iter()
            .map(|(name, number)| (Arc::from(*name), *number))
            .collect(),
        asked: asked.to_vec(),
    }
}

fn verdicts(counted: Result<Counted, AdapterError>) -> Vec<Option<usize>> {
    match counted.unwrap() {
        Counted::Yes { verdicts, .. } => verdicts,
        Counted::Forgotten => panic!("it was forgotten"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_given_while_the_sum_of_all_replicas_leaves_one() {
    let redis = Redis::start().await;
    let (one, two) = (replica(&redis), replica(&redis));
    let three = [
        asks(&[("u", 2), ("t", 3)]),
        asks(&[("u", 2), ("t", 3)]),
        asks(&[("u", 2), ("t", 3)]),
    ];
    let said = one.adapter.count("press", &count(true, &[], &three)).await;
    assert_eq!(verdicts(said), [None, None, Some(0)], "one after the other");
    let said = two
        .adapter
        .count(
            "press",
            &count(true, &[], &[asks(&[("v", 2), ("t", 3)]), asks(&[("v", 2), ("t", 3)])]),
        )
        .await;
    assert_eq!(verdicts(said), [None, Some(1)]);
    // Another tenant has places of its own.
    let said = two
        .adapter
        .count("other", &count(true, &[], &[asks(&[("t", 1)])]))
        .await;
    assert_eq!(verdicts(said), [None]);
    // What goes at one is free at the other.
    let said = one
        .adapter
        .count("press", &count(false, &[("u", 1), ("t", 1)], &[]))
        .await;
    assert_eq!(verdicts(said), []);
    let said = two
        .adapter
        .count(
            "press",
            &count(false, &[], &[asks(&[("u", 2), ("t", 3)]), asks(&[("u", 2), ("t", 9)])]),
        )
        .await;
    assert_eq!(verdicts(said), [None, Some(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_of_a_replica_that_says_nothing_more_are_free_and_it_is_told_so() {
    let redis = Redis::start().await;
    let (one, two) = (replica(&redis), replica(&redis));
    let full = [asks(&[("t", 1)])];
    assert_eq!(
        verdicts(one.adapter.count("press", &count(true, &[], &full)).await),
        [None]
    );
    assert_eq!(
        verdicts(two.adapter.count("press", &count(true, &[], &full)).await),
        [Some(0)]
    );
    until("it is free", async || {
        let said = two.adapter.count("press", &count(true, &[], &full)).await;
        (verdicts(said) == [None]).then_some(())
    })
    .await;
    let late = one.adapter.count("press", &count(false, &[], &full)).await;
    assert_eq!(late.unwrap(), Counted::Forgotten);
    assert_eq!(
        verdicts(one.adapter.count("press", &count(true, &[("t", 1)], &full)).await),
        [Some(0)]
    );
    // Nothing is left of either when both say nothing more.
    until_equal("all of it expires", 0, async || {
        redis.ask::<Vec<String>>(&["KEYS", "aldis:*@press*"]).await.len()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_takes_its_place_over_from_the_replica_that_had_it() {
    let redis = Redis::start().await;
    let (one, two) = (replica(&redis), replica(&redis));
    let full = asks(&[("u", 1), ("t", 1)]);
    assert_eq!(
        verdicts(
            one.adapter
                .count("press", &count(true, &[], std::slice::from_ref(&full)))
                .await
        ),
        [None]
    );
    two.adapter.beat("", "").await.unwrap();
    let peers = one.adapter.beat("{}", "").await.unwrap().peers;
    let [ref had] = two.adapter.beat("", "").await.unwrap().peers[..] else {
        panic!("there is one other")
    };
    assert_eq!((peers.len(), had.demands.as_str()), (1, "{}"));
    let comes_back = Asked {
        from: Some(Arc::clone(&had.replica)),
        ..full.clone()
    };
    let said = two
        .adapter
        .count("press", &count(true, &[], &[comes_back.clone(), comes_back]))
        .await;
    assert_eq!(verdicts(said), [None, Some(0)], "once");
    // Who had it says again what it has: it may have others of the same name.
    let said = one.adapter.count("press", &count(false, &[], &[full])).await.unwrap();
    let Counted::Yes { verdicts, mut touched } = said else {
        panic!("{said:?}")
    };
    touched.sort();
    assert_eq!((verdicts, touched), (vec![Some(0)], vec!["t".into(), "u".into()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_reaches_the_others_once_and_their_answers_come_back_with_few_rights() {
    let redis = Redis::start().await;
    // Those that docs/replicas.md names.
    let rights = "on >hunter2 ~aldis:* &aldis:* +@read +@write +@scripting +@pubsub +@connection +info";
    let user: Vec<_> = ["ACL", "SETUSER", "aldis"]
        .into_iter()
        .chain(rights.split(' '))
        .collect();
    let _: String = redis.ask(&user).await;
    let lab = || replica_at(redis.endpoint().with_credentials(Some("aldis"), "hunter2"));
    let (one, two) = (lab(), lab());
    for lab in [&one, &two] {
        let mut link = lab.adapter.link();
        within("it hears", link.wait_for(|link| *link == Link::Live))
            .await
            .unwrap();
    }
    let at_one = one.adapter.beat("", "").await.unwrap().last;
    let at_two = two.adapter.beat("", "").await.unwrap().last;
    let mut ordered = two.adapter.ordered();
    let (id, ages) = one.adapter.order("do it").await.unwrap();
    assert_eq!(ages.len(), 1, "there is one other");
    within("it is said", ordered.changed()).await.unwrap();
    let heard = two.adapter.beat("", &at_two).await.unwrap();
    let text = "do it".to_owned();
    assert_eq!(heard.orders, [Order { id: id.clone(), text }]);
    assert_eq!(two.adapter.beat("", &heard.last).await.unwrap().orders, []);
    assert_eq!(one.adapter.beat("", &at_one).await.unwrap().orders, [], "its own");
    assert!(one.adapter.answers(&id).await.unwrap().is_empty());
    two.adapter.answer(&id, 3).await.unwrap();
    assert_eq!(one.adapter.answers(&id).await.unwrap(), [3]);

    let (channel, names) = (
        orders(KEEP),
        [one.adapter.beat("", "").await.unwrap().peers[0].replica.clone()],
    );
    assert_eq!(
        two.adapter.tell(channel.of(), None).await,
        Ok(false),
        "it has said nothing"
    );
    assert_eq!(two.adapter.tell(channel.of(), Some("said")).await, Ok(true));
    assert_eq!(two.adapter.tell(channel.of(), None).await, Ok(true));
    assert_eq!(one.adapter.told(channel.of(), &names).await.unwrap(), ["said"]);
    one.adapter
        .dismiss_sessions(channel.of(), Dismissed::User("ann"))
        .await
        .unwrap();
    let counted = one
        .adapter
        .count("press", &count(true, &[], &[asks(&[("t", 1)])]))
        .await;
    assert_eq!(verdicts(counted), [None]);
    two.adapter.leave().await;
    assert_eq!(one.adapter.beat("", "").await.unwrap().peers, []);
}
