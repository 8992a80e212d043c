//! The operator against a real etcd and kube-apiserver: nothing plays a part of either. What no kubelet does here, because
//! there is none, the tests do: a pod that becomes ready, and one that acknowledges.
//!
//! They need what `scripts/setup.sh kubernetes` builds, or the programs in the folder that KUBEBUILDER_ASSETS names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod control_plane;

mod cluster;

mod admission;
mod chart;
mod leadership;
mod onboarding;
mod ownership;
mod trouble;
