//! Which events of Leases change anything: most of them only say that a pod is still there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aldis_crds::config_object::CONNECTIONS_ANNOTATION;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use super::Guarded;

/// Says no to a renewal: an event of a Lease that says what it said before, and had not run out in between. A Lease that runs out
/// makes no event; passes that go on by themselves notice it.
pub(super) fn renewals() -> impl FnMut(&Event<Guarded<Lease>>) -> bool + Send + 'static {
    let mut said: HashMap<String, Said> = HashMap::new();
    move |event| match event {
        Event::Apply(lease) | Event::InitApply(lease) => {
            let now = Said::of(lease);
            let before = said.insert(name(lease), now);
            before.is_none_or(|before| before.what != now.what || before.ends < now.renewed)
        }
        Event::Delete(lease) => {
            said.remove(&name(lease));
            true
        }
        // What was deleted meanwhile is missing from the new list, and nobody says so.
        Event::Init | Event::InitDone => true,
    }
}

/// What a Lease says, and for how long, in seconds.
#[derive(Clone, Copy)]
struct Said {
    what: u64,
    renewed: i64,
    ends: i64,
}

impl Said {
    fn of(lease: &Guarded<Lease>) -> Self {
        let mut what = DefaultHasher::new();
        (lease.uid(), lease.labels()).hash(&mut what);
        // Clients come and go: who scales looks at intervals.
        let said = lease
            .annotations()
            .iter()
            .filter(|(name, _)| *name != CONNECTIONS_ANNOTATION);
        said.for_each(|said| said.hash(&mut what));
        let spec = lease.0.as_ref().ok().and_then(|lease| lease.spec.as_ref());
        spec.is_some().hash(&mut what);
        let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
        let renewed = renewed.map_or(0, |time| time.0.as_second());
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        Self {
            what: what.finish(),
            renewed,
            ends: renewed + i64::from(seconds),
        }
    }
}

fn name(lease: &Guarded<Lease>) -> String {
    format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(renewed: &str, serves: &str) -> Guarded<Lease> {
        with_clients(renewed, serves, "7")
    }

    fn with_clients(renewed: &str, serves: &str, connections: &str) -> Guarded<Lease> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": "a", "namespace": "realtime", "uid": "u",
                "annotations": { "aldis.dev/serves": serves, "aldis.dev/connections": connections }
            },
            "spec": { "holderIdentity": "a", "leaseDurationSeconds": 45, "renewTime": format!("2026-01-01T{renewed}.000000Z") }
        });
        serde_json::from_value(lease).unwrap()
    }

    #[test]
    fn a_lease_that_only_says_that_its_pod_is_there_changes_nothing() {
        let mut matters = renewals();
        for (event, expected) in [
            (Event::Init, true),
            (Event::InitApply(lease("10:00:00", "x")), true),
            (Event::InitDone, true),
            (Event::Apply(lease("10:00:15", "x")), false),
            (Event::Apply(lease("10:00:30", "x")), false),
            (Event::Apply(with_clients("10:00:30", "x", "5000")), false),
            (Event::Apply(lease("10:00:31", "y")), true),
            (Event::Apply(lease("10:00:46", "y")), false),
            // It had run out: the pod had hung, and was not counted.
            (Event::Apply(lease("10:01:32", "y")), true),
            (Event::Delete(lease("10:01:32", "y")), true),
            (Event::Apply(lease("10:01:33", "y")), true),
        ] {
            assert_eq!(matters(&event), expected, "{event:?}");
        }
    }
}
