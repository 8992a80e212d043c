//! The operator against a real etcd and kube-apiserver: nothing plays a part of either. What no kubelet does here, because
//! there is none, the tests do: they run gateways, and say that their pods are ready.
//!
//! They need what `scripts/setup.sh kubernetes node` installs, or the programs in the folder that KUBEBUILDER_ASSETS names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod control_plane;

mod cluster;

mod pod;

#[path = "../../../../tests/src/markdown.rs"]
mod markdown;

mod admission;
mod chart;
mod connections;
mod crds;
mod documents;
mod exposed;
mod gateways;
mod keda;
mod leadership;
mod onboarding;
mod ownership;
mod scale;
mod statuses;
mod tool;
mod trouble;
