//! Closing a listener so that its clients come back, and not all at once.

use std::time::Duration;

use rand::seq::SliceRandom as _;
use tokio::time::Instant;

use super::Listener;
use super::transports::Leaving;

/// How a listener is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Over how long its clients are closed one by one, in no particular order. Each comes back within a second or so: this is
    /// how long those take who let them in again.
    pub spread: Duration,
    /// How long clients may take for their last bytes after that.
    pub budget: Duration,
}

impl Pace {
    /// All at once: nobody else serves them.
    pub const AT_ONCE: Self = Self {
        spread: Duration::ZERO,
        budget: Duration::from_secs(5),
    };
}

impl Listener {
    /// Closes all clients, which then see a closed transport, come back and recover: Engine.IO's close, never Socket.IO's
    /// disconnect, after which stock clients stay away. New sessions are refused meanwhile, with a status after which clients
    /// try again. Gives how many clients were closed one by one.
    pub async fn close(&self, pace: Pace) -> usize {
        self.transports.begin_no_more();
        let mut leaving = self.transports.leaving();
        leaving.shuffle(&mut rand::rng());
        let (count, begin) = (leaving.len(), Instant::now());
        for (index, session) in leaving.into_iter().enumerate() {
            let share = index as f64 / count as f64;
            tokio::time::sleep_until(begin + pace.spread.mul_f64(share)).await;
            match session {
                Leaving::Wire(link) => link.close(),
                Leaving::PassedOn(connection) => connection.end(),
                Leaving::Poll(sid, polled) => {
                    polled.leave();
                    self.engine_io.end(&sid).await;
                }
            }
        }
        self.stop_accepting().await;
        self.stop.cancel();
        self.tasks.close();
        let closed = tokio::time::timeout(pace.budget, async {
            self.io.close().await;
            self.tasks.wait().await;
        });
        if closed.await.is_err() {
            tracing::warn!("some clients did not take their last bytes in time and were cut off");
        }
        self.connections.end();
        count
    }
}
