//! Who writes: the holder of a Lease.

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch::Receiver;

/// Seconds after which another may take over from a holder that does not answer.
const DURATION: u64 = 15;
/// Seconds before that in which the holder renews; as far may clocks be apart.
const GRACE: u64 = 5;

/// A claim to the lease, renewed until it is dropped.
pub struct Lease {
    holds: Receiver<bool>,
}

impl Lease {
    /// Begins to claim it.
    ///
    /// # Errors
    /// Where the Lease can not be read or made.
    pub async fn claim(client: Client, namespace: &str, name: &str, identity: &str) -> Result<Self, LeaseManagerError> {
        let manager = LeaseManagerBuilder::new(client, name)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await?;
        let (holds, _task) = manager.watch().await;
        Ok(Self { holds })
    }

    /// Waits until it is ours. False: it never will be.
    pub async fn held(&mut self) -> bool {
        self.holds.wait_for(|holds| *holds).await.is_ok()
    }

    /// Waits until it is not ours any more, or nobody renews it.
    pub async fn lost(&mut self) {
        self.holds.wait_for(|holds| !*holds).await.ok();
    }
}
