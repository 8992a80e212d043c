//! Credentials change while clients are connected: no pod is started anew, and nobody has to come back.

use serde_json::json;

use super::channel::tenants;
use super::load::Tenant;
use super::world::{OPERATOR_PODS, World, address, channel_is, patch_gateway, pod_addresses, pods_and_restarts, token};
use crate::authority::Authority;
use crate::kubernetes::{apply, crash, ready, until};

/// The operator crashes, and the key of tokens changes: an operator that is back makes it so.
pub(super) async fn of_tokens_while_the_operator_is_away(world: &mut World, client: &Tenant) {
    let (before, pods) = (client.connections(), pods_and_restarts().await);
    for pod in ready("aldis-system", OPERATOR_PODS).await {
        crash("aldis-system", &pod).await;
    }
    world.load.is_with("the operator was killed", client).await;
    let old = token(&world.secret).await;
    world.token_secret_is("0123456789-of-another-secret").await;
    let new = token(&world.secret).await;
    for pod in pod_addresses().await {
        let url = format!("http://{pod}:3000/bistro/orders");
        let opens = async |token: &str| {
            let options = json!({ "auth": { "token": token } });
            Tenant::may_connect(&world.agent, &url, &options).await
        };
        until("the other secret is in force", async || opens(&new).await.then_some(())).await;
        assert!(!opens(&old).await, "the first secret is not in force any more");
    }
    world.load.is_with("the token secret was changed", client).await;
    assert_eq!(client.connections(), before);
    assert_eq!(pods_and_restarts().await, pods);
}

/// A listener with a certificate is added, and gets another certificate. Gives a client that was connected through it all the time.
pub(super) async fn of_a_listener(world: &World, client: &Tenant) -> Tenant {
    let (before, pods) = (client.connections(), pods_and_restarts().await);
    let mut hosts = pod_addresses().await;
    let each_pod = hosts.clone();
    hosts.push(address().await);
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let (first, second) = (Authority::new(), Authority::new());
    let certify = async |authority: &Authority| apply(&authority.secret_for("realtime", "notify-tls", &hosts)).await;
    certify(&first).await;
    let listeners = json!([
        { "name": "web", "port": 3000 },
        { "name": "secure", "port": 3443, "tls": { "secretRef": { "name": "notify-tls" } } }
    ]);
    patch_gateway(&json!({ "spec": { "listeners": listeners, "tenants": tenants(&["web", "secure"]) } })).await;
    let auth = json!({ "token": token(&world.secret).await });
    let trusting = |authority: &Authority| json!({ "auth": auth, "ca": authority.pem, "transports": ["websocket"] });
    let url = |host: &str| format!("https://{host}:3443/bistro/orders");
    let shows = async |pod: &str, authority: &Authority| -> bool {
        Tenant::may_connect(&world.agent, &url(pod), &trusting(authority)).await
    };
    for pod in &each_pod {
        until("the listener is there", async || shows(pod, &first).await.then_some(())).await;
    }
    channel_is("Programmed").await;
    let url_of_all = url(&address().await);
    let secure = Tenant::connect(&world.agent, &url_of_all, &trusting(&first)).await;
    let secure = secure.expect("its certificate is trusted");
    world.load.is_with("over TLS", &secure).await;

    certify(&second).await;
    for pod in &each_pod {
        until("the new certificate is shown", async || {
            shows(pod, &second).await.then_some(())
        })
        .await;
        assert!(
            !shows(pod, &first).await,
            "the former certificate is not shown any more"
        );
    }
    for client in [client, &secure] {
        world.load.is_with("the certificate was changed", client).await;
    }
    assert_eq!((client.connections(), secure.connections()), (before, 1));
    assert_eq!(pods_and_restarts().await, pods);
    secure
}

/// The gateway's user of Redis gets another password, and everybody who came in with the former is thrown out.
pub(super) async fn of_redis(world: &World, clients: &[&Tenant]) {
    let connections = || clients.iter().map(|client| client.connections()).collect::<Vec<_>>();
    let (before, pods) = (connections(), pods_and_restarts().await);
    // Addresses from which the gateway is connected.
    let are_in = async || -> Vec<String> {
        let all: String = world.redis.ask(&["CLIENT", "LIST"]).await;
        let of_gateway = all.lines().filter(|line| line.contains("user=aldis"));
        let from = |line: &str| Some(line.split_once(" addr=")?.1.split(':').next()?.to_owned());
        of_gateway.filter_map(from).collect()
    };
    let all_are_in = async |what: &str| {
        until(what, async || {
            let (from, pods) = (are_in().await, pod_addresses().await);
            pods.iter().all(|pod| from.contains(pod)).then_some(())
        })
        .await;
    };
    all_are_in("each pod is in Redis").await;
    world.redis_takes("second-password").await;
    world.redis_secret_is("second-password").await;
    let thrown_out = world.redis_takes_no_more("first-password").await;
    assert!(thrown_out > 0, "somebody came in with the first password");
    all_are_in("each pod has come in with the new password").await;
    for client in clients {
        world.load.is_with("the password of Redis was changed", client).await;
    }
    assert_eq!(connections(), before);
    assert_eq!(pods_and_restarts().await, pods);
}
