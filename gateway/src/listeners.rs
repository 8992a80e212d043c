//! listeners: those that are open, kept as the configuration says. Each change touches the listener that has changed:
//!
//! ```text
//! certificate, host name, origins       swapped; clients stay
//! heartbeat, transports, bounds         a new server on the same port; clients of the old one are closed one by one
//! port                                  closed here, opened there
//! ```

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aldis_crds::contract::{Attachment, Keys};
use aldis_crds::gateway::Listener as Spec;
use aldis_crds::names::ChannelName;
use futures_util::future::join_all;
use socketioxide::SocketIo;
use tokio_util::task::TaskTracker;

use crate::adapter::Adapter;
use crate::forward::Forward;
use crate::http::{self, Http};
use crate::listener::close::Pace;
use crate::listener::policy::{BadListener, Policy};
use crate::listener::transports::Transports;
use crate::listener::{Around, Beside, Listener, Local, Port};
use crate::sockets::{self, Namespace, Shared};

/// How a listener is closed that is changed or taken away while the gateway runs: its clients come back over 5 s.
pub const CHANGE: Pace = Pace {
    spread: Duration::from_secs(5),
    budget: Duration::from_secs(5),
};

/// Where listeners listen, and what the gateway itself lets in there.
#[derive(Clone, Debug)]
pub struct Ports {
    /// On which address.
    pub bind: IpAddr,
    /// Ports in place of the declared ones, by listener; 0 is any that is free.
    pub instead: HashMap<String, u16>,
    /// Origins of web pages that may connect whatever a listener's `cors` says: the page of `aldis dev`, nothing else.
    pub pages: Vec<String>,
}

impl Ports {
    fn of(&self, spec: &Spec) -> SocketAddr {
        let port = self.instead.get(&spec.name).copied().unwrap_or(spec.port);
        SocketAddr::new(self.bind, port)
    }
}

/// All listeners of a gateway.
pub struct Listeners<A> {
    ports: Ports,
    http: Arc<Http<A>>,
    forward: Option<Arc<Forward>>,
    open: Mutex<BTreeMap<String, Open>>,
    /// Those that are being closed.
    closing: TaskTracker,
}

struct Open {
    listener: Listener,
    port: Arc<Port>,
    /// Which channel each of its namespaces was opened for.
    namespaces: HashMap<String, ChannelName>,
}

impl<A: Adapter> Listeners<A> {
    /// None yet. `forward`: the peers, where there are some.
    pub fn new(ports: Ports, http: Http<A>, forward: Option<Arc<Forward>>) -> Self {
        Self {
            ports,
            http: Arc::new(http),
            forward,
            open: Mutex::default(),
            closing: TaskTracker::new(),
        }
    }

    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.lock().get(listener).map(|open| open.port.address)
    }

    /// The sessions of a listener, for other replicas.
    pub(crate) fn local(&self, listener: &str) -> Option<Local> {
        self.lock().get(listener).map(|open| open.listener.local())
    }

    /// Makes the listeners those of a configuration whose channels are in force; gives those that can not be served as they
    /// are declared now. One that was served before stays as it was.
    pub async fn follow(&self, specs: &[Spec], keys: &Keys) -> Vec<(String, BadListener)> {
        self.close_others(specs).await;
        let mut bad = Vec::new();
        for spec in specs {
            if let Err(error) = self.follow_one(spec, keys).await {
                bad.push((spec.name.clone(), error));
            }
        }
        for (name, open) in self.lock().iter_mut() {
            let (io, transports) = (&open.listener.io, &open.listener.transports);
            follow_namespaces(io, transports, &mut open.namespaces, name, &self.http.shared);
        }
        bad
    }

    /// Closes the listeners that are not declared any more, or somewhere else: their ports are free before others are taken.
    async fn close_others(&self, specs: &[Spec]) {
        let stays = |name: &str, open: &Open| {
            let spec = specs.iter().find(|spec| spec.name == name);
            spec.is_some_and(|spec| self.ports.of(spec) == open.port.wanted)
        };
        let gone: Vec<_> = self.lock().extract_if(.., |name, open| !stays(name, open)).collect();
        for (name, Open { listener, port, .. }) in gone {
            tracing::info!(listener = name, address = %port.address, "the listener is closed");
            listener.stop_accepting().await;
            self.close_slowly(name, listener);
        }
    }

    async fn follow_one(&self, spec: &Spec, keys: &Keys) -> Result<(), BadListener> {
        let engine = spec.engine_settings().map_err(bad_field)?;
        let certificate = keys.certificate(&spec.name);
        let known = self.lock().get(&spec.name).map(|open| {
            (
                Arc::clone(&open.port),
                open.listener.engine().clone(),
                open.listener.policy(),
            )
        });
        let before = known.as_ref().map(|(.., policy)| &**policy);
        let policy = Policy::new(spec, certificate, &self.ports.pages, before)?;
        let port = match known {
            Some((_, before, _)) if before == engine => {
                if let Some(open) = self.lock().get(&spec.name) {
                    open.listener.set_policy(policy);
                }
                return Ok(());
            }
            Some((port, ..)) => port,
            None => {
                let address = self.ports.of(spec);
                let bound = Port::bind(address).await;
                Arc::new(bound.map_err(|source| BadListener::NoPort { address, source })?)
            }
        };
        // Whoever connects between the two waits in the socket's backlog.
        let before = self.lock().remove(&spec.name);
        if let Some(open) = &before {
            open.listener.stop_accepting().await;
        }
        let mut namespaces = HashMap::new();
        let around = Around {
            metrics: Arc::clone(&self.http.shared.metrics),
            beside: Beside::new(http::router(&spec.name, Arc::clone(&self.http))),
            entrance: Arc::clone(&self.http.shared.entrance),
            forward: self.forward.clone(),
        };
        let open = |io: &SocketIo, transports: &Arc<Transports>| {
            follow_namespaces(io, transports, &mut namespaces, &spec.name, &self.http.shared);
        };
        let listener = Listener::serve(&spec.name, &port, engine, policy, around, open);
        tracing::info!(listener = spec.name, address = %port.address, tls = spec.tls.is_some(), "listening");
        let open = Open {
            listener,
            port,
            namespaces,
        };
        self.lock().insert(spec.name.clone(), open);
        if let Some(open) = before {
            self.close_slowly(spec.name.clone(), open.listener);
        }
        Ok(())
    }

    fn close_slowly(&self, name: String, listener: Listener) {
        let metrics = Arc::clone(&self.http.shared.metrics);
        self.closing.spawn(async move {
            let clients = listener.close(CHANGE).await;
            metrics.drained(&name, clients);
        });
    }

    /// Closes all of them.
    pub async fn close(&self, pace: Pace) {
        let all = std::mem::take(&mut *self.lock());
        join_all(all.into_iter().map(async |(name, open)| {
            let clients = open.listener.close(pace).await;
            self.http.shared.metrics.drained(&name, clients);
            tracing::info!(listener = name, clients, "the listener is closed");
        }))
        .await;
        self.closing.close();
        tokio::time::timeout(pace.budget, self.closing.wait()).await.ok();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bad_field(bad: Vec<aldis_crds::gateway::listener::BadField>) -> BadListener {
    let first = bad.into_iter().next();
    let (field, message) = first.map(|bad| (bad.field.to_owned(), bad.message)).unwrap_or_default();
    BadListener::BadField { field, message }
}

/// Opens and closes namespaces of a listener so that they are those of the table in force.
fn follow_namespaces<A: Adapter>(
    io: &SocketIo,
    transports: &Arc<Transports>,
    open: &mut HashMap<String, ChannelName>,
    listener: &str,
    shared: &Arc<Shared<A>>,
) {
    let table = shared.table.load();
    let attachment = |path: &str| Attachment {
        listener: listener.to_owned(),
        path: path.to_owned(),
    };
    open.retain(|path, channel| {
        let stays = table.at(&attachment(path)).is_some_and(|now| now.name == *channel);
        if !stays {
            tracing::info!(listener, path, channel = %channel, "namespace closed");
            sockets::close_namespace(io, path, transports);
        }
        stays
    });
    for attachment in table.attachments().filter(|attachment| attachment.listener == listener) {
        let Some(channel) = table.at(attachment) else { continue };
        if open.insert(attachment.path.clone(), channel.name.clone()).is_none() {
            tracing::info!(listener, path = attachment.path, channel = %channel.name, "namespace opened");
            let namespace = Namespace::new(
                attachment.clone(),
                channel.name.clone(),
                Arc::clone(shared),
                Arc::clone(transports),
            );
            io.ns(attachment.path.clone(), namespace);
        }
    }
}
