//! `aldis status`: the gateways and channels of a cluster, and which of them do not serve.

use std::fmt::Write as _;

use aldis_crds::{NotificationChannel, NotificationGateway};
use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use crate::cluster::{Cluster, ClusterError, Seen};
use crate::report::Explain;

/// Show the gateways and channels of the cluster, and what is wrong
///
/// Ends with 1 where something is not programmed. `aldis why` follows one channel.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Namespace [default: that of the context]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,

    /// Every namespace
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

const EXAMPLES: &str = "Examples:
  aldis status --all-namespaces
  kubectl aldis status --namespace bistro";

/// Why there is no answer, or what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The cluster can not be looked at.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Something does not serve.
    #[error("{0} of them do not serve what is declared")]
    NotProgrammed(usize),
}

impl Explain for StatusError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::NotProgrammed(_) => Some("`aldis why NAMESPACE/NAME` follows one channel".to_owned()),
        }
    }
}

/// Prints them.
///
/// # Errors
/// Where something is not programmed, or the cluster can not be looked at.
pub async fn run(args: StatusArgs) -> Result<(), StatusError> {
    let cluster = Cluster::connect(args.context.as_deref()).await?;
    let namespace = match args.all_namespaces {
        true => None,
        false => Some(args.namespace.unwrap_or_else(|| cluster.namespace.clone())),
    };
    let gateways = cluster.list(namespace.as_deref()).await?;
    let channels = cluster.list(namespace.as_deref()).await?;
    let (text, wrong) = shown(&gateways, &channels);
    print!("{text}");
    match wrong {
        0 => Ok(()),
        wrong => Err(StatusError::NotProgrammed(wrong)),
    }
}

/// The text, and how many of them are not programmed.
fn shown(gateways: &Seen<Vec<NotificationGateway>>, channels: &Seen<Vec<NotificationChannel>>) -> (String, usize) {
    let (mut text, mut wrong) = (String::new(), 0);
    let mut part = |heading: &[&str], rows: Seen<Vec<(Vec<String>, bool)>>| {
        let rows = match rows {
            Seen::There(rows) => rows,
            Seen::Absent | Seen::Forbidden => {
                let _ = writeln!(text, "{}: you may not list them", heading[0]);
                return;
            }
        };
        wrong += rows.iter().filter(|(_, is_well)| !is_well).count();
        let heading = heading.iter().map(|text| (*text).to_owned()).collect();
        let rows: Vec<_> = std::iter::once(heading)
            .chain(rows.into_iter().map(|(row, _)| row))
            .collect();
        text.push_str(&table(&rows));
    };
    part(
        &["GATEWAY", "CHANNELS", "PODS", "SERVING", "PROGRAMMED"],
        map(gateways, gateway),
    );
    part(&["CHANNEL", "GATEWAYS", "PROGRAMMED"], map(channels, channel));
    (text, wrong)
}

fn map<K, R>(seen: &Seen<Vec<K>>, row: impl Fn(&K) -> R) -> Seen<Vec<R>> {
    match seen {
        Seen::There(objects) => Seen::There(objects.iter().map(row).collect()),
        Seen::Absent => Seen::Absent,
        Seen::Forbidden => Seen::Forbidden,
    }
}

fn gateway(gateway: &NotificationGateway) -> (Vec<String>, bool) {
    let status = gateway.status.clone().unwrap_or_default();
    let (programmed, is_well) = programmed(&status.conditions, gateway.metadata.generation);
    let pods = format!("{}/{}", status.replicas.ready, status.replicas.desired);
    let (channels, serving) = (
        status.attached_channels.to_string(),
        status.replicas.serving.to_string(),
    );
    (vec![name(gateway), channels, pods, serving, programmed], is_well)
}

fn channel(channel: &NotificationChannel) -> (Vec<String>, bool) {
    let status = channel.status.clone().unwrap_or_default();
    let (programmed, is_well) = programmed(&status.conditions, channel.metadata.generation);
    let own = channel.namespace().unwrap_or_default();
    let gateways = channel.spec.parent_refs.iter();
    let gateways = gateways.map(|parent| format!("{}/{}", parent.namespace.as_ref().unwrap_or(&own), parent.name));
    (
        vec![name(channel), gateways.collect::<Vec<_>>().join(","), programmed],
        is_well,
    )
}

fn name(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// `True`, or the first condition that keeps it from being so.
fn programmed(conditions: &[Condition], generation: Option<i64>) -> (String, bool) {
    let find = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let types = ["Accepted", "ResolvedRefs", "Programmed"];
    if types
        .iter()
        .any(|type_| find(type_).is_none_or(|condition| condition.observed_generation != generation))
    {
        return (
            "Unknown: the operator has not looked at this generation".to_owned(),
            false,
        );
    }
    match types
        .iter()
        .find_map(|type_| find(type_).filter(|condition| condition.status != "True"))
    {
        Some(condition) => (format!("False: {}: {}", condition.reason, condition.message), false),
        None => ("True".to_owned(), true),
    }
}

/// Columns as wide as their widest cell; the last one as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let (last, cells) = row.split_last().expect("a row has cells");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{last}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn condition(type_: &str, status: &str) -> Value {
        json!({
            "type": type_, "status": status, "reason": "Because", "message": "it is so",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"
        })
    }

    fn channel(name: &str, accepted: &str) -> NotificationChannel {
        let value = json!({
            "apiVersion": "aldis.dev/v1alpha1", "kind": "NotificationChannel",
            "metadata": { "name": name, "namespace": "bistro", "generation": 1 },
            "spec": { "parentRefs": [{ "name": "shared", "namespace": "realtime" }] },
            "status": { "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", "True"), condition("Programmed", accepted)] }
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_is_shown_with_the_first_thing_that_keeps_it_from_serving() {
        let mut unseen = channel("new", "True");
        unseen.metadata.generation = Some(2);
        let channels = vec![channel("orders", "True"), channel("tables", "False"), unseen];
        let (text, wrong) = shown(&Seen::Forbidden, &Seen::There(channels));
        assert_eq!(wrong, 2);
        assert_eq!(
            text,
            "GATEWAY: you may not list them\n\
             CHANNEL        GATEWAYS         PROGRAMMED\n\
             bistro/orders  realtime/shared  True\n\
             bistro/tables  realtime/shared  False: Because: it is so\n\
             bistro/new     realtime/shared  Unknown: the operator has not looked at this generation\n"
        );
    }
}
