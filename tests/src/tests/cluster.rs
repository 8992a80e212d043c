//! A tenant of a real cluster, from the installation to its end, as its clients see it. `make cluster-test` runs this.

mod autoscaling;
mod channel;
mod credentials;
mod installation;
mod load;
mod pods;
mod tenancy;
mod upgrade;
mod world;

use world::World;

/// One story, because a cluster takes its time to come up: each step breaks something, and looks at what clients saw of it.
#[tokio::test]
#[ignore = "needs a cluster: make cluster-test"]
async fn a_tenant_of_a_real_cluster_loses_nothing_from_installation_to_its_end() {
    let mut world = World::start().await;
    world.step("helm install, and apply").await;
    let client = installation::installed(&world).await;
    world.step("what aldis status and aldis why say").await;
    installation::the_tool_sees_the_pods(&world).await;

    world.step("replicas 2").await;
    pods::scaled_out(&world, &client).await;
    world.step("rolling update").await;
    pods::rolled(&world, &client).await;
    world.step("node drain").await;
    pods::drained(&world, &client).await;
    world.step("SIGKILL of each pod").await;
    pods::killed(&world, &client).await;

    world.step("SIGKILL of the operator, another token secret").await;
    credentials::of_tokens_while_the_operator_is_away(&mut world, &client).await;
    world.step("another certificate").await;
    let secure = credentials::of_a_listener(&world, &client).await;
    world.step("another password of Redis").await;
    credentials::of_redis(&world, &[&client, &secure]).await;

    world.step("grant revoked").await;
    tenancy::revoked(&world, &[&client, &secure]).await;
    world.step("granted again").await;
    let client = tenancy::granted_again(&world).await;
    world.step("namespace deleted, and made anew by somebody else").await;
    let client = tenancy::made_anew(&mut world, client).await;

    world.step("helm uninstall").await;
    installation::uninstalled(&world, &client).await;
    world.step("gateway deleted").await;
    installation::gateway_deleted().await;
    world.end().await;
}
