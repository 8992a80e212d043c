//! What tenants are granted, as parts of the gateway need it.

use std::collections::HashMap;

use aldis_core::table::Table;
use aldis_crds::limits::ResolvedLimits;

/// What the channels of each namespace may keep together.
pub(super) fn history_bytes(table: &Table) -> HashMap<String, usize> {
    let namespaces = table.channels().iter().map(|channel| &channel.name.namespace);
    let granted = |namespace: &String| usize::try_from(table.tenant(namespace).history_bytes).unwrap_or(usize::MAX);
    namespaces
        .map(|namespace| (namespace.clone(), granted(namespace)))
        .collect()
}

/// The most that any tenant is granted for one address: before CONNECT nobody knows whose a client is.
pub(super) fn most_per_address(table: &Table) -> u32 {
    let namespaces = table.channels().iter().map(|channel| &channel.name.namespace);
    let granted = namespaces.map(|namespace| table.tenant(namespace).connections_per_ip);
    granted.max().unwrap_or(ResolvedLimits::default().connections_per_ip)
}
