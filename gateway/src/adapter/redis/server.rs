//! One Redis: where it is, and a connection that runs scripts on it.
//!
//! A connection asks at its beginning which Redis it has reached, and every script that runs on it compares that with who
//! wrote last. There is no other way in: a connection that is lost is not mended, the next one asks again. One whose Redis has
//! become another meanwhile is given up by the next probe.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;

use super::cluster::View;
use super::endpoint::Endpoint;
use super::here::Signals;
use super::scripts::Call;
use crate::adapter::AdapterError;
use crate::sabotage::Rule;

/// How long a connection may take to be made. 1 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer may take; beyond it the connection is given up. 2 s: no script runs for longer than some ms.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// One Redis.
pub(super) struct Server {
    endpoint: ArcSwap<Endpoint>,
    live: ArcSwapOption<Live>,
    /// Held by who connects: others wait for it, rather than connect too. Who was reached last.
    connecting: Mutex<Option<Arc<str>>>,
    signals: Arc<Signals>,
}

/// A connection, and what it has reached.
struct Live {
    connection: MultiplexedConnection,
    identity: Identity,
}

/// What a Redis says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its run id and replication id: both change when it is started anew, the second also when a replica takes over.
    pub(super) pair: Arc<str>,
    /// Why nothing can be written to it.
    no_master: Option<String>,
    /// Why it should not be written to.
    unfit: Option<String>,
}

impl Server {
    pub(super) fn new(endpoint: Endpoint, signals: Arc<Signals>) -> Self {
        Self {
            endpoint: ArcSwap::from_pointee(endpoint),
            live: ArcSwapOption::empty(),
            connecting: Mutex::default(),
            signals,
        }
    }

    /// Where it is.
    pub(super) fn shown(&self) -> Arc<Endpoint> {
        self.endpoint.load_full()
    }

    /// From the next connection on it is reached so.
    pub(super) fn reach(&self, endpoint: Endpoint) {
        self.endpoint.store(Arc::new(endpoint));
    }

    async fn client(&self) -> Result<Client, AdapterError> {
        let endpoint = self.endpoint.load_full();
        endpoint.client().await.map_err(|error| unavailable(&error))
    }

    /// Runs a script on a connection that has said which Redis it is.
    pub(super) async fn run(&self, call: &Call) -> Result<Vec<Value>, AdapterError> {
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let pair = if Rule::Epoch.is_on() {
            &*live.identity.pair
        } else {
            "any"
        };
        match call.run(&mut connection, pair).await {
            Ok(answer) => Ok(answer),
            Err(error) if is_of_slot(&error) => {
                self.signals.moved.notify_one();
                Err(unavailable(&error))
            }
            Err(error) if is_of_connection(&error) => {
                self.lose(&live);
                Err(unavailable(&error))
            }
            // It has no memory left for anybody.
            Err(error) if error.code() == Some("OOM") => Err(unavailable(&error)),
            Err(error) => Err(AdapterError::Refused(format!("redis: {error}"))),
        }
    }

    /// Whether a connection is there. What then fails is not for want of one.
    pub(super) fn is_connected(&self) -> bool {
        self.live.load().is_some()
    }

    /// Whether it can be reached.
    pub(super) async fn is_reachable(&self) -> bool {
        self.live().await.is_ok()
    }

    /// Publishes, and looks whether the Redis that is reached is still what it was when the connection was made: a master that
    /// became a replica, and a master again, may have lost something in between.
    pub(super) async fn probe(&self, to: &str, message: &str) -> Result<(), AdapterError> {
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let mut probe = redis::pipe();
        probe.cmd("PUBLISH").arg(to).arg(message).ignore();
        probe.cmd("INFO").arg(&INFO);
        let (info,): (String,) = probe.query_async(&mut connection).await.map_err(|error| {
            if is_of_connection(&error) {
                self.lose(&live);
            }
            unavailable(&error)
        })?;
        let now = identity(&info);
        if now.pair != live.identity.pair || now.no_master.is_some() {
            self.lose(&live);
        }
        Ok(())
    }

    /// Who has which slots of the Cluster, as this node knows it.
    pub(super) async fn view(&self, host: &str) -> Result<View, AdapterError> {
        let live = self.live().await?;
        ask_view(&mut live.connection.clone(), host).await
    }

    /// Something that was to be done here has failed.
    pub(super) fn note(&self, error: &RedisError) {
        if is_of_slot(error) {
            self.signals.moved.notify_one();
        }
    }

    /// A connection of its own for subscriptions, which gives what is pushed to it to `pushed`.
    pub(super) async fn subscriber(
        &self,
        pushed: impl Fn(redis::PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, AdapterError> {
        let config = config().set_push_sender(move |info| {
            pushed(info);
            Ok::<_, std::convert::Infallible>(())
        });
        connect(&self.client().await?, &config).await
    }

    async fn live(&self) -> Result<Arc<Live>, AdapterError> {
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        let mut before = self.connecting.lock().await;
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        let mut connection = connect(&self.client().await?, &config()).await?;
        let identity = ask_identity(&mut connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if let Some(no_master) = identity.no_master {
            self.signals.moved.notify_one();
            return Err(AdapterError::Unavailable(no_master));
        }
        tracing::info!(redis = %self.endpoint.load(), "redis can be reached");
        if let Some(unfit) = &identity.unfit {
            tracing::warn!(redis = %self.endpoint.load(), "{unfit}");
        }
        let before = before.replace(Arc::clone(&identity.pair));
        let is_another = before.is_some_and(|before| before != identity.pair);
        let live = Arc::new(Live { connection, identity });
        self.live.store(Some(Arc::clone(&live)));
        if is_another {
            self.signals.restarts.send_modify(|restarts| *restarts += 1);
        }
        Ok(live)
    }

    fn lose(&self, lost: &Arc<Live>) {
        let current = self.live.load_full();
        if current.is_some_and(|current| Arc::ptr_eq(&current, lost)) {
            tracing::warn!(redis = %self.endpoint.load(), "the connection to redis is lost");
            self.live.store(None);
            self.signals.moved.notify_one();
        }
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT))
}

async fn connect(client: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, AdapterError> {
    client
        .get_multiplexed_async_connection_with_config(config)
        .await
        .map_err(|error| unavailable(&error))
}

/// Who has which slots of a Cluster, as the node there knows it.
pub(super) async fn view_of(endpoint: &Endpoint, host: &str) -> Result<View, AdapterError> {
    let client = endpoint.client().await.map_err(|error| unavailable(&error))?;
    ask_view(&mut connect(&client, &config()).await?, host).await
}

async fn ask_view(connection: &mut MultiplexedConnection, host: &str) -> Result<View, AdapterError> {
    let mut ask = redis::pipe();
    ask.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let said: (String, Value) = ask.query_async(connection).await.map_err(|error| unavailable(&error))?;
    Ok(View::of(&said.0, &said.1, host))
}

/// What an identity is read from.
const INFO: [&str; 3] = ["server", "replication", "memory"];

async fn ask_identity(connection: &mut MultiplexedConnection) -> Result<Identity, RedisError> {
    let info: String = redis::cmd("INFO").arg(&INFO).query_async(connection).await?;
    Ok(identity(&info))
}

fn identity(info: &str) -> Identity {
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value.trim())
    };
    let evicts = field("maxmemory") != "0" && !matches!(field("maxmemory_policy"), "noeviction" | "");
    let unfit = evicts.then(|| format!(
        "redis evicts keys (maxmemory-policy {}): set it to noeviction, or deliveries that clients may still come back to are dropped",
        field("maxmemory_policy")
    ));
    let role = field("role");
    let no_master = (role != "master").then(|| format!("redis is no master but a {role}"));
    Identity {
        pair: format!("{}/{}", field("run_id"), field("master_replid")).into(),
        no_master,
        unfit,
    }
}

/// Whether the hash slot is on its way to another node, or nobody has it for now. The connection is as good as before.
fn is_of_slot(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => true,
        ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown) => true,
        // A script has come upon a key of the channel that has gone before.
        ErrorKind::Server(_) => error.detail().is_some_and(|detail| detail.contains("non local key")),
        _ => false,
    }
}

/// Whether the connection, or the server behind it, is what failed, rather than this one call.
fn is_of_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
        ),
        ErrorKind::UnexpectedReturnType | ErrorKind::Extension => false,
        _ => true,
    }
}

pub(super) fn unavailable(error: &RedisError) -> AdapterError {
    AdapterError::Unavailable(format!("redis: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_is_told_by_its_ids_and_whether_it_keeps_what_it_is_given() {
        let info = "# Server\r\nrun_id:abc\r\n# Replication\r\nrole:master\r\nmaster_replid:def\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        let sound = identity(info);
        assert_eq!(
            (&*sound.pair, &sound.no_master, &sound.unfit),
            ("abc/def", &None, &None)
        );
        let evicting = identity(&info.replace("maxmemory:0", "maxmemory:1000"));
        assert!(evicting.unfit.unwrap().contains("allkeys-lru"));
        let replica = identity(&info.replace("role:master", "role:slave"));
        assert_eq!(replica.no_master.as_deref(), Some("redis is no master but a slave"));
    }
}
