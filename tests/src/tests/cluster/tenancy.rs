//! Who may attach changes: a grant is revoked and given again, and a namespace becomes somebody else's.

use serde_json::json;

use super::channel::{CHANNEL, namespace, tenants};
use super::load::Tenant;
use super::world::{World, channel_is, patch_gateway, token, tool};
use crate::kubernetes::{apply, get, kubectl, until};

/// Clients are sent away for good, and nobody is let in.
pub(super) async fn revoked(world: &World, clients: &[&Tenant]) {
    patch_gateway(&json!({ "spec": { "tenants": [] } })).await;
    for client in clients {
        client.is_sent_away().await;
    }
    channel_is("Accepted=false").await;
    let refused = world.connect().await;
    assert!(refused.is_err(), "a tenant that is revoked is refused");
    let (well, said) = tool(&["why", "bistro/orders"], &[]).await;
    assert!(!well && said.contains("ask the platform team"), "{said}");
}

/// The tenant is let in again.
pub(super) async fn granted_again(world: &World) -> Tenant {
    patch_gateway(&json!({ "spec": { "tenants": tenants(&["web", "secure"]) } })).await;
    channel_is("Programmed").await;
    let client = until("it is let in again", async || world.connect().await.ok()).await;
    world.load.is_with("granted again", &client).await;
    client
}

/// The namespace is deleted, and somebody else makes one of the same name, with a channel of the same name: nothing that the former
/// had is theirs, and nothing that the former's clients have is of use there. Gives a client of the new tenant.
pub(super) async fn made_anew(world: &mut World, former: Tenant) -> Tenant {
    let uid = async || {
        let channel = get(&["-n", "bistro", "notificationchannel", "orders"]).await;
        channel["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let (old_uid, old_token) = (uid().await, token(&world.secret).await);
    kubectl(&["delete", "namespace", "bistro", "--timeout=120s"]).await;
    former.is_sent_away().await;
    let (pid, position) = (former.connected().pid.expect("it had a session"), former.position());
    let gone = world.load.published();
    assert!(
        !kept(world, &old_uid).await.is_empty(),
        "its keys in Redis are named by its uid"
    );

    apply(&namespace().to_string()).await;
    world.token_secret_is("0123456789-of-another-tenant").await;
    apply(CHANNEL).await;
    channel_is("Programmed").await;
    assert_ne!(uid().await, old_uid);

    let new_token = token(&world.secret).await;
    let refused = world.connect_with(json!({ "token": old_token })).await;
    assert!(refused.is_err(), "a token of the former tenant opens nothing");
    // As a stock client comes back, and as others do.
    let comes_back = [
        json!({ "token": new_token, "pid": pid, "offset": position }),
        json!({ "token": new_token, "position": position }),
    ];
    let mut clients = Vec::new();
    for auth in comes_back {
        let client = world.connect_with(auth).await.unwrap();
        let welcome = client.welcome().await;
        assert_eq!(welcome["recovered"], false, "{welcome}");
        let connected = client.connected();
        assert!(
            !connected.recovered && connected.pid.as_ref() != Some(&pid),
            "{connected:?}"
        );
        clients.push(client);
    }
    for client in &clients {
        world.load.is_with("in a namespace of somebody else's", client).await;
        let first = client.partitions().into_iter().flatten().min().unwrap();
        assert!(first >= gone, "record {first} is the former tenant's: it had {gone}");
    }
    until("what the former tenant left in Redis is erased", async || {
        kept(world, &old_uid).await.is_empty().then_some(())
    })
    .await;
    assert!(!kept(world, &uid().await).await.is_empty());
    clients.remove(0)
}

/// Names in Redis of what a channel keeps.
async fn kept(world: &World, uid: &str) -> Vec<String> {
    let of = format!("aldis:{{*|{uid}}}:*");
    world.redis.ask(&["KEYS", &of]).await
}
