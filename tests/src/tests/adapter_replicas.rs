//! Replicas that share a Redis: what each is given, and what happens when Redis or the way to it goes.

use aldis_gateway::adapter::redis::Link;
use aldis_gateway::adapter::{Adapter, AdapterError, Appended, Incomplete};

use crate::adapters::{KEEP, delivery, orders, replica, replica_at, replica_by, unit};
use crate::deadline::{until, within};
use crate::proxy::{Cut, Proxy};
use crate::redis::Redis;

/// Key of the channel orders in Redis.
fn key(of: &str) -> String {
    format!("aldis:{{g|orders}}:{of}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_replica_is_given_what_its_rooms_get_and_nothing_else() {
    let redis = Redis::start().await;
    let (one, two) = (replica(&redis), replica(&redis));
    let _hosted = (one.host(&["a", "both"]).await, two.host(&["b", "both"]).await);
    for (offset, to) in (0..).zip([&["a"][..], &["b"], &["both"], &["a", "b"], &["nobody"], &[]]) {
        one.deliver(KEEP, offset, to).await;
    }
    one.seen.wait_for(4).await;
    two.seen.wait_for(4).await;
    assert_eq!(one.seen.events(), ["0", "2", "3", "5"]);
    assert_eq!(two.seen.events(), ["1", "2", "3", "5"]);
    // A delivery costs nothing where none of its rooms is hosted.
    assert_eq!((one.adapter.pushed(), two.adapter.pushed()), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_deliveries_cost_a_replica_nothing_that_hosts_none_of_their_rooms() {
    const BATCHES: i64 = 50;
    const BATCH: i64 = 100;
    const BYTES: usize = 300;
    let redis = Redis::start().await;
    let ways = (
        Proxy::before(&redis.address()).await,
        Proxy::before(&redis.address()).await,
    );
    let by = |way: &Proxy| replica_by(&format!("redis://{}", way.address));
    let (one, other, writer) = (by(&ways.0), by(&ways.1), replica(&redis));
    let _hosted = (one.host(&["a", "b"]).await, other.host(&["c"]).await);
    let before = (ways.0.carried(), ways.1.carried());
    for first in (0..BATCHES).map(|batch| batch * BATCH) {
        let units = (first..first + BATCH).map(|offset| {
            let mut delivery = delivery("order:ready", &[if offset % 2 == 0 { "a" } else { "b" }]);
            delivery.payloads = vec![format!("\"{}\"", "x".repeat(BYTES)).into()];
            unit(0, offset, vec![delivery])
        });
        writer.append(KEEP, units.collect()).await;
    }
    let deliveries = (BATCHES * BATCH) as usize;
    one.seen.wait_for(deliveries).await;
    let carried = (ways.0.carried() - before.0, ways.1.carried() - before.1);
    println!(
        "{deliveries} deliveries: {} bytes to their replica, {} to the other",
        carried.0, carried.1
    );
    assert!(carried.0 >= (deliveries * BYTES) as u64, "{carried:?}");
    // What the other one is sent meanwhile are its own probes, one a second, however many deliveries there are.
    assert!(carried.1 < deliveries as u64 * 10, "{carried:?}");
    assert_eq!((one.adapter.pushed(), other.adapter.pushed()), (deliveries as u64, 0));
    // It is not deaf: what goes to its room reaches it.
    writer.deliver(KEEP, BATCHES * BATCH, &["c"]).await;
    other.seen.wait_for(1).await;
    assert_eq!(other.adapter.pushed(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_nobody_hosts_any_more_is_no_longer_pushed() {
    let redis = Redis::start().await;
    let one = replica(&redis);
    let _everyone = one.host(&[]).await;
    let hosted = one.host(&["a"]).await;
    one.deliver(KEEP, 0, &["a"]).await;
    one.seen.wait_for(1).await;
    drop(hosted);
    let subscribed = async || {
        let name = key("p:r/1:a");
        redis.ask::<(String, u64)>(&["PUBSUB", "SHARDNUMSUB", &name]).await.1
    };
    until("it is unsubscribed", async || (subscribed().await == 0).then_some(())).await;
    one.deliver(KEEP, 1, &["a"]).await;
    // It may come back to it: history goes on.
    let again = one.host(&["a"]).await;
    assert_eq!(again.at.seq, one.seen.seqs()[0] + 1);
    assert_eq!(
        one.read(&again.at.epoch, &[("a", again.at.seq - 2)]).await.unwrap(),
        ["0", "1"]
    );
    one.deliver(KEEP, 2, &["a"]).await;
    one.seen.wait_for(2).await;
    assert_eq!(one.seen.events(), ["0", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_nobody_was_in_when_another_epoch_began_is_hosted_in_that() {
    let mut redis = Redis::start().await;
    let one = replica(&redis);
    let hosted = one.host(&["a"]).await;
    one.deliver(KEEP, 0, &["a"]).await;
    one.seen.wait_for(1).await;
    let before = hosted.at.epoch.clone();
    drop(hosted);
    until("nothing is subscribed", async || {
        let channels: Vec<String> = redis.ask(&["PUBSUB", "SHARDCHANNELS", &key("p:*")]).await;
        channels.is_empty().then_some(())
    })
    .await;
    redis.crash();
    redis.restart().await;
    let again = until("it can be hosted", async || {
        one.adapter
            .host(orders(KEEP).of(), &crate::adapters::rooms(&["a"]))
            .await
            .ok()
    })
    .await;
    assert_ne!(again.at.epoch, before);
    one.deliver(KEEP, 1, &["a"]).await;
    one.seen.wait_for(2).await;
    assert_eq!(one.seen.events(), ["0", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_two_replicas_take_is_taken_once() {
    let redis = Redis::start().await;
    let (one, two) = (replica(&redis), replica(&redis));
    let _hosted = (one.host(&["a"]).await, two.host(&["a"]).await);
    let take = async |lab: &crate::adapters::Lab<_>| {
        let mut taken = 0;
        for offset in 0..200 {
            let units = vec![unit(0, offset, vec![delivery(&offset.to_string(), &["a"])])];
            taken += lab.append(KEEP, units).await.deliveries;
        }
        taken
    };
    let taken = tokio::join!(take(&one), take(&two));
    assert_eq!(taken.0 + taken.1, 200, "{taken:?}");
    let expected: Vec<_> = (0..200).map(|offset| offset.to_string()).collect();
    for lab in [&one, &two] {
        lab.seen.wait_for(200).await;
        assert_eq!(lab.seen.events(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_has_forgotten_the_scripts_is_given_them_again() {
    let redis = Redis::start().await;
    let one = replica(&redis);
    let hosted = one.host(&["a"]).await;
    for offset in 0..3 {
        let _: String = redis.ask(&["SCRIPT", "FLUSH"]).await;
        one.deliver(KEEP, offset, &["a"]).await;
    }
    let _: String = redis.ask(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(
        one.read(&hosted.at.epoch, &[("a", hosted.at.seq)]).await.unwrap(),
        ["0", "1", "2"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_nothing_is_taken_and_afterwards_it_goes_on() {
    let mut redis = Redis::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await;
    let one = replica(&redis);
    let hosted = one.host(&["a"]).await;
    one.deliver(KEEP, 0, &["a"]).await;
    redis.crash();
    let units = || vec![unit(0, 1, vec![delivery("1", &["a"])])];
    let failed = one.adapter.append(orders(KEEP).of(), units()).await;
    assert!(matches!(failed, Err(AdapterError::Unavailable(_))), "{failed:?}");
    assert_eq!(
        one.read(&hosted.at.epoch, &[("a", hosted.at.seq)]).await,
        Err(Incomplete::Unavailable)
    );
    redis.restart().await;
    let taken = until("redis takes it", async || {
        one.adapter.append(orders(KEEP).of(), units()).await.ok()
    })
    .await;
    assert_eq!(
        taken,
        Appended {
            deliveries: 1,
            refused: 0
        }
    );
    one.seen.wait_for(2).await;
    assert_eq!(one.seen.events(), ["0", "1"]);
    // It had kept everything: a place of before is still good.
    let read = until("it has caught up", async || {
        one.read(&hosted.at.epoch, &[("a", hosted.at.seq)]).await.ok()
    })
    .await;
    assert_eq!(read, ["0", "1"]);
    assert!(one.seen.broken.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_is_told_to_all_clients() {
    let mut redis = Redis::start().await;
    let one = replica(&redis);
    let hosted = one.host(&["a"]).await;
    one.deliver(KEEP, 0, &["a"]).await;
    one.seen.wait_for(1).await;
    redis.crash();
    redis.restart().await;
    until("the clients are told", async || one.seen.broken.lock().unwrap().pop()).await;
    assert_eq!(
        one.read(&hosted.at.epoch, &[("a", hosted.at.seq)]).await,
        Err(Incomplete::Epoch)
    );
    let again = one.host(&["a"]).await;
    assert_ne!(again.at.epoch, hosted.at.epoch);
    assert!(again.at.seq > one.seen.seqs()[0], "numbers never go back");
    one.deliver(KEEP, 1, &["a"]).await;
    one.seen.wait_for(2).await;
    assert_eq!(one.seen.events(), ["0", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_through_which_nothing_comes_is_noticed_and_made_up_for() {
    let redis = Redis::start().await;
    let proxy = Proxy::before(&redis.address()).await;
    let deaf = replica_by(&format!("redis://{}", proxy.address));
    let other = replica(&redis);
    let mut link = deaf.adapter.link();
    within("it hears", link.wait_for(|link| *link == Link::Live))
        .await
        .unwrap();
    let _hosted = deaf.host(&["a"]).await;
    // The first connection is that of the subscriptions.
    assert!(proxy.cut(0, Cut::Freeze));
    for offset in 0..50 {
        other.deliver(KEEP, offset, &["a"]).await;
    }
    let frozen = tokio::time::Instant::now();
    within("it is noticed", link.wait_for(|link| *link == Link::Deaf))
        .await
        .unwrap();
    println!("deaf after {:?}", frozen.elapsed());
    within("it hears again", link.wait_for(|link| *link == Link::Live))
        .await
        .unwrap();
    let expected: Vec<_> = (0..50).map(|offset| offset.to_string()).collect();
    assert_eq!(deaf.seen.events(), expected, "live only after it has caught up");
    other.deliver(KEEP, 50, &["a"]).await;
    deaf.seen.wait_for(51).await;
    assert!(deaf.seen.broken.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_was_not_pushed_is_noticed_by_the_next_one() {
    let redis = Redis::start().await;
    let (one, two) = (replica(&redis), replica(&redis));
    let hosted = one.host(&["a"]).await;
    one.deliver(KEEP, 0, &["a"]).await;
    one.seen.wait_for(1).await;
    // As if what came after it had been lost on the way.
    let at = one.seen.seqs()[0];
    let forged = format!("{} {} {} ", hosted.at.epoch, at + 2, at + 1);
    let _: u64 = redis.ask(&["SPUBLISH", &key("p:r/1:a"), &forged]).await;
    for offset in 1..5 {
        two.deliver(KEEP, offset, &["a"]).await;
    }
    one.seen.wait_for(5).await;
    assert_eq!(one.seen.events(), ["0", "1", "2", "3", "4"]);
    assert!(one.seen.broken.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_whose_place_is_gone_is_not_recovered() {
    let redis = Redis::start().await;
    let one = replica(&redis);
    let hosted = one.host(&["a", "b"]).await;
    one.deliver(KEEP, 0, &["a", "b"]).await;
    let _: u64 = redis.ask(&["DEL", &key("l:r/1:a")]).await;
    let (epoch, at) = (&*hosted.at.epoch, hosted.at.seq);
    assert_eq!(one.read(epoch, &[("a", at)]).await, Err(Incomplete::History));
    assert_eq!(one.read(epoch, &[("a", at + 1)]).await, Err(Incomplete::History));
    assert_eq!(one.read(epoch, &[("b", at)]).await.unwrap(), ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_lets_in_who_has_the_password_of_a_user_with_few_rights() {
    let redis = Redis::start().await;
    let rights = "on >hunter2 ~aldis:* &aldis:* +@read +@write +@scripting +@pubsub +@connection +info";
    let user: Vec<_> = ["ACL", "SETUSER", "aldis"]
        .into_iter()
        .chain(rights.split(' '))
        .collect();
    let _: String = redis.ask(&user).await;
    let one = replica_at(redis.endpoint().with_credentials(Some("aldis"), "hunter2"));
    let hosted = one.host(&["a"]).await;
    one.deliver(KEEP, 0, &["a"]).await;
    one.seen.wait_for(1).await;
    assert_eq!(
        one.read(&hosted.at.epoch, &[("a", hosted.at.seq)]).await.unwrap(),
        ["0"]
    );
    let stranger = replica_at(redis.endpoint().with_credentials(Some("aldis"), "hunter3"));
    let refused = stranger
        .adapter
        .append(orders(KEEP).of(), vec![unit(0, 1, vec![])])
        .await;
    let Err(AdapterError::Unavailable(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(!why.contains("hunter"), "{why}");
}

/// How many deliveries of 300 B, each to one of 100 rooms that keep 100, one Redis
/// takes a second from four partitions in batches, and what one costs Redis itself, which does one thing at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and checks nothing that other tests do not"]
async fn how_many_deliveries_one_redis_takes() {
    const PARTITIONS: i64 = 4;
    const BATCHES: i64 = 100;
    let redis = Redis::start().await;
    let one = replica(&redis);
    let rooms: Vec<_> = (0..100).map(|room| room.to_string()).collect();
    let rooms: Vec<_> = rooms.iter().map(String::as_str).collect();
    let _hosted = one.host(&rooms).await;
    for batch in [1, 10, 100, 500] {
        let cpu = async || {
            let (user, system) = (redis.info("used_cpu_user").await, redis.info("used_cpu_sys").await);
            user.parse::<f64>().unwrap() + system.parse::<f64>().unwrap()
        };
        let cpu_before = cpu().await;
        let started = tokio::time::Instant::now();
        let before = one.seen.events().len();
        let writers = (0..PARTITIONS).map(|partition| {
            let (adapter, rooms) = (&one.adapter, &rooms);
            async move {
                for first in 0..BATCHES {
                    let units = (0..batch).map(|at| {
                        let mut delivery = delivery("order:ready", &[rooms[((first + at) % 100) as usize]]);
                        delivery.payloads = vec![format!("\"{}\"", "x".repeat(298)).into()];
                        let mut unit = unit(partition as i32, first * batch + at, vec![delivery]);
                        unit.topic = format!("batches-of-{batch}").into();
                        unit
                    });
                    adapter.append(orders(KEEP).of(), units.collect()).await.unwrap();
                }
            }
        });
        futures_util::future::join_all(writers).await;
        let taken = (PARTITIONS * BATCHES * batch) as usize;
        let rate = taken as f64 / started.elapsed().as_secs_f64();
        one.seen.wait_for(before + taken).await;
        let published = taken as f64 / started.elapsed().as_secs_f64();
        let of_redis = (cpu().await - cpu_before) / taken as f64;
        println!(
            "{batch:4} records a batch: {rate:6.0} deliveries/s taken, {published:6.0}/s published back; Redis itself {:.1} us each, {:.0}/s",
            of_redis * 1e6,
            1.0 / of_redis
        );
    }
}
