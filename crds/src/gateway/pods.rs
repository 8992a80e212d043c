//! The pods of a gateway: how many, and what they are made of.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// Scales with the load: by a HorizontalPodAutoscaler on CPU, or by the operator itself on connections.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("self.minReplicas <= self.maxReplicas", "minReplicas is at most maxReplicas"),
    validation = (
        "!has(self.targetConnectionsPerReplica) || !has(self.targetCPUUtilization)",
        "name targetConnectionsPerReplica or targetCPUUtilization, not both: two autoscalers of one number work against each other"
    )
)]
pub struct Autoscaling {
    /// Fewest pods.
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: u32,
    /// Most pods. More than the topics have partitions read nothing.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u32,
    /// Clients that are aimed at for each pod, as `aldis_connections` counts them. The operator then scales by itself, from what
    /// pods report; there is no HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub target_connections_per_replica: Option<u32>,
    /// Average use of CPU that is aimed at, in percent of what pods request. Default 70, where no connections are aimed at.
    #[serde(default, rename = "targetCPUUtilization", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_utilization: Option<u32>,
}

/// What pods are made of.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTemplate {
    /// Image of the gateway. Default: the one that the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Requests and limits, as in a container. Default: requests of 100m CPU and 128Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub resources: Option<Value>,
    /// Labels of the nodes that pods may be on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that pods tolerate, as in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub tolerations: Option<Value>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub pod_annotations: BTreeMap<String, String>,
}
