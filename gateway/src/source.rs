//! source: where the configuration comes from: a directory, or the cluster that this pod is in. Both give revisions, and say why
//! the newest one can not be used.

use std::time::Duration;

use aldis_crds::configuration::Revision;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::cluster::{Cluster, ClusterError};
use crate::directory::{self, Directory, Fingerprint, LoadError};

/// How often the directory is looked at. A change counts when two looks have seen it: it is in force within 2 s.
const LOOK: Duration = Duration::from_secs(1);

/// Where it comes from.
pub enum Source {
    /// Files.
    Directory(Follower),
    /// Objects of Kubernetes.
    Cluster(Box<Cluster>),
}

/// Why there is no configuration, or no newer one.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// In a directory.
    #[error(transparent)]
    Directory(#[from] LoadError),
    /// In a cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl Source {
    /// The one to start with.
    ///
    /// # Errors
    /// Where a directory has none. A cluster is waited for: the operator may come after its pods.
    pub async fn first(&mut self) -> Result<Revision, SourceError> {
        match self {
            Self::Directory(follower) => Ok(follower.first()?),
            Self::Cluster(cluster) => loop {
                match cluster.next().await {
                    Ok(revision) => return Ok(revision),
                    Err(error) => tracing::error!(%error, "there is no configuration to start with, waiting"),
                }
            },
        }
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// Where the newest one can not be used.
    pub async fn next(&mut self) -> Result<Revision, SourceError> {
        match self {
            Self::Directory(follower) => Ok(follower.next().await?),
            Self::Cluster(cluster) => Ok(cluster.next().await?),
        }
    }
}

/// Follows a directory.
pub struct Follower {
    directory: Directory,
    look: Interval,
    /// What the last look saw.
    seen: Fingerprint,
    /// What was last told.
    settled: Fingerprint,
}

impl Follower {
    /// Of this directory.
    pub fn new(directory: Directory) -> Self {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            directory,
            look,
            seen: Fingerprint::default(),
            settled: Fingerprint::default(),
        }
    }

    fn first(&mut self) -> Result<Revision, LoadError> {
        let files = self.directory.read()?;
        self.settled = files.fingerprint();
        self.seen = self.settled;
        let (config, keys) = files.parse()?;
        Ok(Revision::new(config, keys))
    }

    /// Looks until something has changed and settled: what was seen while it was written is never told.
    async fn next(&mut self) -> Result<Revision, LoadError> {
        loop {
            self.look.tick().await;
            let directory = self.directory.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || directory.read()).await else {
                continue;
            };
            let now = match &read {
                Ok(files) => files.fingerprint(),
                Err(error) => directory::fingerprint_of(error),
            };
            let before = std::mem::replace(&mut self.seen, now);
            if before == now && self.settled != now {
                self.settled = now;
                let (config, keys) = read.and_then(directory::Files::parse)?;
                return Ok(Revision::new(config, keys));
            }
        }
    }
}
