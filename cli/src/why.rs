//! `aldis why NAMESPACE/NAME`: follows a channel of a cluster from what was declared to the pods that serve it, and says the first
//! thing that is wrong, and what mends it.

use std::collections::BTreeSet;
use std::str::FromStr;

use aldis_crds::channel::ParentRef;
use aldis_crds::status::CONTROLLER_NAME;
use aldis_crds::{NotificationChannel, NotificationGateway};
use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, GatewayPod, Seen};
use crate::report::Explain;

/// Say why a channel of the cluster does not deliver
///
/// Follows the channel: the gateway, the grant, Secrets, the pods, Kafka and its topics, and what waits. Prints what is well, ends at
/// the first thing that is wrong, and says what mends it. kubectl finds this as `kubectl aldis why`, where the program is on the PATH
/// as kubectl-aldis too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WhyArgs {
    /// The channel
    #[arg(value_name = "NAMESPACE/NAME")]
    channel: Name,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

const EXAMPLES: &str = "Examples:
  aldis why bistro/orders
  kubectl aldis why bistro/orders --context production";

/// A namespace and a name.
#[derive(Clone, Debug)]
struct Name {
    namespace: String,
    name: String,
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or("expected NAMESPACE/NAME, such as bistro/orders")?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(Self { namespace, name })
    }
}

/// Why there is no answer, or what it is.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// The cluster can not be looked at.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The first thing that is wrong.
    #[error("{what}")]
    Wrong {
        /// It.
        what: String,
        /// What mends it.
        mend: String,
    },
}

impl Explain for WhyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::Wrong { mend, .. } => Some(mend.clone()),
        }
    }
}

/// What is known of one parent of a channel.
struct Parent {
    /// As the channel names it.
    reference: ParentRef,
    /// `namespace/name`.
    name: String,
    gateway: Seen<NotificationGateway>,
    pods: Seen<Vec<GatewayPod>>,
}

/// Follows a channel.
///
/// # Errors
/// The first thing that is wrong, or why the cluster can not be looked at.
pub async fn run(args: WhyArgs) -> Result<(), WhyError> {
    let Name { namespace, name } = &args.channel;
    let cluster = Cluster::connect(args.context.as_deref()).await?;
    let channel: Seen<NotificationChannel> = cluster.get(namespace, name).await?;
    let mut parents = Vec::new();
    if let Seen::There(channel) = &channel {
        for reference in &channel.spec.parent_refs {
            let of = reference.namespace.as_deref().unwrap_or(namespace);
            let gateway = cluster.get(of, &reference.name).await?;
            let pods = match &gateway {
                Seen::There(gateway) => cluster.pods(gateway).await?,
                _ => Seen::Forbidden,
            };
            parents.push(Parent {
                reference: reference.clone(),
                name: format!("{of}/{}", reference.name),
                gateway,
                pods,
            });
        }
    }
    let mut well = Vec::new();
    let followed = follow(&format!("{namespace}/{name}"), &channel, &parents, &mut well);
    for line in well {
        println!("ok  {line}");
    }
    followed
}

fn wrong<T>(what: impl Into<String>, mend: impl Into<String>) -> Result<T, WhyError> {
    let (what, mend) = (what.into(), mend.into());
    Err(WhyError::Wrong { what, mend })
}

/// Everything in the order in which one thing needs the other. What is well goes to `well`.
fn follow(
    name: &str,
    channel: &Seen<NotificationChannel>,
    parents: &[Parent],
    well: &mut Vec<String>,
) -> Result<(), WhyError> {
    let channel = match channel {
        Seen::There(channel) => channel,
        Seen::Absent => {
            return wrong(
                format!("there is no NotificationChannel {name}"),
                "apply it; `kubectl get notificationchannels -A` lists those there are",
            );
        }
        Seen::Forbidden => {
            return wrong(
                format!("you may not read NotificationChannel {name}"),
                "ask for the role view in its namespace",
            );
        }
    };
    let generation = channel.metadata.generation;
    well.push(format!(
        "channel {name} is there, in generation {}",
        generation.unwrap_or_default()
    ));
    for parent in parents {
        at_parent(channel, generation, parent, well)?;
    }
    Ok(())
}

fn at_parent(
    channel: &NotificationChannel,
    generation: Option<i64>,
    parent: &Parent,
    well: &mut Vec<String>,
) -> Result<(), WhyError> {
    let gateway = &parent.name;
    if parent.gateway == Seen::Absent {
        return wrong(
            format!("there is no NotificationGateway {gateway}"),
            "correct spec.parentRefs, or ask the platform team for it",
        );
    }
    let status = channel.status.iter().flat_map(|status| &status.parents);
    let mut mine = status.filter(|told| told.controller_name == CONTROLLER_NAME);
    let told = mine
        .find(|told| told.parent_ref == parent.reference)
        .map(|told| &told.conditions[..]);
    let told = told.unwrap_or_default();
    if told.is_empty() || told.iter().any(|condition| condition.observed_generation != generation) {
        return wrong(
            format!("the operator has not looked at it yet for gateway {gateway}"),
            "is the operator there? `kubectl get pods -A -l app.kubernetes.io/name=aldis-operator`, and its log",
        );
    }
    let is_true = |type_: &str| match told.iter().find(|condition| condition.type_ == type_) {
        Some(condition) if condition.status != "True" => Err(condition),
        _ => Ok(()),
    };
    let refused = |condition: &Condition| {
        wrong(
            format!("{} at gateway {gateway}: {}", condition.reason, condition.message),
            mend(&condition.reason),
        )
    };
    if let Err(condition) = is_true("Accepted") {
        return refused(condition);
    }
    well.push(format!("gateway {gateway} grants what it claims"));
    if let Err(condition) = is_true("ResolvedRefs") {
        return refused(condition);
    }
    well.push("its Secrets are there".to_owned());
    the_gateway(parent, well)?;
    the_pods(channel, parent, well)?;
    if let Err(condition) = is_true("Programmed") {
        return refused(condition);
    }
    well.push(format!("every pod of {gateway} serves this generation"));
    what_waits(channel, parent, well)
}

fn the_gateway(parent: &Parent, well: &mut Vec<String>) -> Result<(), WhyError> {
    let Seen::There(gateway) = &parent.gateway else {
        return Ok(());
    };
    let listeners = gateway.status.iter().flat_map(|status| &status.listeners);
    let its = listeners.filter(|listener| {
        let asked = parent.reference.section_name.as_ref();
        asked.is_none_or(|asked| *asked == listener.name)
    });
    let told = its.flat_map(|listener| listener.conditions.iter().map(move |condition| (listener, condition)));
    let mut bad = told.filter(|(_, condition)| {
        ["Accepted", "ResolvedRefs"].contains(&condition.type_.as_str()) && condition.status != "True"
    });
    if let Some((listener, condition)) = bad.next() {
        return wrong(
            format!(
                "listener {} of gateway {}: {}: {}",
                listener.name, parent.name, condition.reason, condition.message
            ),
            mend_gateway(&condition.reason),
        );
    }
    let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    let mut bad = conditions.filter(|condition| {
        ["Accepted", "ResolvedRefs"].contains(&condition.type_.as_str()) && condition.status != "True"
    });
    if let Some(condition) = bad.next() {
        return wrong(
            format!("gateway {}: {}: {}", parent.name, condition.reason, condition.message),
            mend_gateway(&condition.reason),
        );
    }
    well.push(format!("gateway {} is accepted", parent.name));
    Ok(())
}

/// Pods that do not run, and Kafka as those see it that do.
fn the_pods(channel: &NotificationChannel, parent: &Parent, well: &mut Vec<String>) -> Result<(), WhyError> {
    let Seen::There(pods) = &parent.pods else {
        return Ok(());
    };
    let ready = pods.iter().filter(|pod| pod.ready).count();
    if ready == 0 {
        let waiting = pods.iter().find_map(|pod| Some((&pod.name, pod.waiting.as_ref()?)));
        let what = match waiting {
            Some((pod, waiting)) => format!("no pod of gateway {} takes clients; {pod}: {waiting}", parent.name),
            None => format!("no pod of gateway {} takes clients, of {}", parent.name, pods.len()),
        };
        return wrong(what, mend("NoReplicas"));
    }
    well.push(format!(
        "{ready} of {} pods of gateway {} take clients",
        pods.len(),
        parent.name
    ));
    let healths = || pods.iter().filter_map(|pod| Some((&pod.name, pod.health.as_ref()?)));
    if let Some((pod, health)) = healths().find(|(_, health)| health["kafka"]["connected"] == false) {
        if let Some(refused) = health["kafka"]["refused"].as_str() {
            let what = format!("pod {pod} is not let into Kafka: {refused}");
            return wrong(
                what,
                "mend the Secret, or what the brokers know of it: it is tried again by itself",
            );
        }
        return wrong(
            format!("pod {pod} cannot reach Kafka"),
            format!(
                "check spec.kafka.bootstrapServers of gateway {}, and the network between",
                parent.name
            ),
        );
    }
    let sources = channel.spec.sources.iter();
    let topics: Vec<_> = sources.flat_map(|source| &source.kafka.topics).collect();
    let missing = healths().find_map(|(_, health)| {
        let missing = health["kafka"]["missingTopics"].as_array()?;
        missing
            .iter()
            .find_map(|topic| topics.iter().find(|wanted| topic == wanted.as_str()))
    });
    if let Some(topic) = missing {
        return wrong(
            format!("there is no topic {topic} in Kafka"),
            "create it, or correct spec.sources; it is read as soon as it is there",
        );
    }
    if healths().next().is_some() {
        well.push("Kafka is reached, and its topics are there".to_owned());
    }
    Ok(())
}

/// Records of a topic that wait, from which on it is told as wrong. 1,000: a gateway that keeps up has fewer, even in a burst, within 10 s.
const BEHIND: u64 = 1000;

/// What Kafka's records wait for.
fn what_waits(channel: &NotificationChannel, parent: &Parent, well: &mut Vec<String>) -> Result<(), WhyError> {
    let Seen::There(pods) = &parent.pods else {
        well.push("its pods may not be asked; the rest is for the platform team to see".to_owned());
        return Ok(());
    };
    let letters = |pod: &&GatewayPod| {
        pod.health
            .as_ref()
            .and_then(|health| health["kafka"]["deadLettersWaiting"].as_u64())
            > Some(0)
    };
    if let Some(pod) = pods.iter().find(letters) {
        return wrong(
            format!("pod {}: dead letters wait, and hold their partitions", pod.name),
            "make the dead letter topic, or let the gateway write to it: spec.deadLetter of the channel, spec.kafka.deadLetterTopic",
        );
    }
    well.push("no dead letter waits".to_owned());
    let is_degraded = |pod: &&GatewayPod, by: &str| {
        let problems = pod.health.as_ref().map(|health| &health["problems"]);
        problems
            .and_then(Value::as_array)
            .is_some_and(|problems| problems.iter().any(|problem| problem == by))
    };
    if let Some(pod) = pods.iter().find(|pod| is_degraded(pod, "redis")) {
        return wrong(
            format!("pod {} does not hear its Redis: its clients are held", pod.name),
            format!("check spec.redis of gateway {}, and the network between", parent.name),
        );
    }
    behind(channel, pods, well)
}

/// Records that are there and have not been taken, by topic of the channel.
fn behind(channel: &NotificationChannel, pods: &[GatewayPod], well: &mut Vec<String>) -> Result<(), WhyError> {
    let sources = channel.spec.sources.iter();
    let topics: BTreeSet<_> = sources.flat_map(|source| &source.kafka.topics).collect();
    let healths = || pods.iter().filter_map(|pod| pod.health.as_ref());
    let partitions = || healths().flat_map(|health| health["kafka"]["behind"].as_array().into_iter().flatten());
    for topic in topics {
        let waiting = || partitions().filter(|partition| partition["topic"] == **topic);
        let records: u64 = waiting().filter_map(|partition| partition["records"].as_u64()).sum();
        // Each partition is taken in order, so the one that has come least far has the oldest record.
        let until = waiting().filter_map(|partition| partition["takenUntil"].as_str()).min();
        let until = until.map_or_else(
            || "none of them has been taken".to_owned(),
            |until| format!("what was published until {until} has been taken everywhere"),
        );
        match records {
            0 => {}
            records if records < BEHIND => well.push(format!("topic {topic}: {records} records wait, which is few")),
            records => {
                return wrong(
                    format!(
                        "topic {topic}: behind by {records} records in {} partitions; {until}",
                        waiting().count()
                    ),
                    "if it grows, look at aldis_consumer_paused and aldis_consumer_retries_total of the pods: what is paused waits for Redis, dead letters or \
                     deliveriesPerSecond; else give the gateway more pods, up to as many as the topic has partitions",
                );
            }
        }
    }
    if healths().next().is_some() {
        well.push("it keeps up with its topics".to_owned());
    }
    Ok(())
}

/// What to do about a gateway, by the reason of its condition, or of a listener's.
fn mend_gateway(reason: &str) -> &'static str {
    match reason {
        "SecretNotFound" | "RefNotPermitted" => {
            "the platform team creates the Secret in the gateway's namespace: of type kubernetes.io/tls for a listener, labelled aldis.dev/use: gateway for Redis"
        }
        "Conflicted" => "the platform team gives the listener a name and a port of its own",
        reason => mend(reason),
    }
}

/// What to do, by the reason of a condition.
fn mend(reason: &str) -> &'static str {
    match reason {
        "TenantNotAllowed" | "PathNotAllowed" | "TopicNotAllowed" | "MethodNotAllowed" => {
            "claim what is granted, or ask the platform team for an entry of spec.tenants of the gateway"
        }
        "Conflicted" => "choose another path, or ask whose channel it is to give it up",
        "Invalid" => "correct the field; `aldis validate` shows all of them before they are applied",
        "TooLarge" => "make several channels of it",
        "GatewayNotFound" => "correct spec.parentRefs; the message lists what there is",
        "SecretNotFound" | "RefNotPermitted" => {
            "create the Secret in the channel's namespace, with the key, labelled aldis.dev/use: channel"
        }
        "NoReplicas" => "look at the pods: `kubectl describe pods` in the gateway's namespace, and their logs",
        "Pending" => "wait some seconds; if it stays so, look at /health and the log of the pod that is behind",
        "Rejected" => "give the gateway the image that fits the operator",
        "Forbidden" => "give the operator's role what the message names",
        "NameTaken" => "remove or rename the object that has the name",
        _ => "see the conditions: `kubectl describe` the channel and the gateway",
    }
}

#[cfg(test)]
mod tests;
