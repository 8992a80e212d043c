//! Clients that come back twice at the same time, at two addresses: of the two connections one has to end, and the client goes on
//! with the one that is left. Where both stay, it has everything twice.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::history::{Journal, Saw, Seen};
use super::light::Light;
use super::topology::Client;

/// For how long it is there before it comes back again.
const STAY: Duration = Duration::from_secs(2);
/// How long two connections may both be there before both count. 10 s: the one that has to end does so in some milliseconds.
const SETTLED: Duration = Duration::from_secs(10);

/// One of the two connections.
struct Twin {
    light: Light,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Light>,
}

impl Twin {
    fn start(mut light: Light) -> Self {
        let stop = CancellationToken::new();
        let (kept, until) = (light.clone(), stop.clone());
        let task = tokio::spawn(async move {
            until.run_until_cancelled(light.once()).await;
            light
        });
        Self {
            light: kept,
            stop,
            task,
        }
    }

    /// Whether it was let in, and has not been sent away since.
    fn is_in(&self) -> bool {
        let is_ready = |(_, saw): &(Duration, Saw)| matches!(saw, Saw::Ready { .. });
        !self.task.is_finished() && self.seen().iter().any(is_ready)
    }

    fn seen(&self) -> Seen {
        self.light.observer.kept()
    }

    /// Ends it; gives what it knows.
    async fn end(self) -> Light {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Starts one, which ends with its task.
pub(super) async fn run(number: usize, client: Client, other: std::net::SocketAddr, journal: Journal) {
    let observer = journal.client(format!("twin {number}"), client.channel.name(), client.wants());
    let mut light = Light::new(client, false, observer.clone());
    let addresses = [light.client.address, other];
    loop {
        // The first time it has no session to come back to.
        let count = if light.pid.is_some() { 2 } else { 1 };
        let twins = addresses[..count].iter().map(|address| {
            let mut twin = light.clone();
            twin.client.address = *address;
            twin.observer = observer.aside();
            Twin::start(twin)
        });
        let twins: Vec<_> = twins.collect();
        let started = Instant::now();
        sleep(STAY).await;
        while twins.iter().filter(|twin| !twin.task.is_finished()).count() > 1 && started.elapsed() < SETTLED {
            sleep(Duration::from_millis(50)).await;
        }
        let mut seen = Seen::new();
        for twin in twins {
            let is_in = twin.is_in();
            let ended = twin.end().await;
            if is_in {
                seen.extend(ended.observer.kept());
                light = ended;
            }
        }
        seen.sort_by_key(|(at, _)| *at);
        if !seen.is_empty() {
            observer.write(seen);
            observer.saw(Saw::Disconnected);
        }
    }
}
