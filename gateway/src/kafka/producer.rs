//! A producer that is made anew where Kafka is reached another way.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, Producer as _};
use tokio::time::Instant;

use super::access::{Access, Context};
use super::reach::Reach;

/// How long a producer that has been replaced may still take for what it was given. 15 s: longer than anybody waits for an answer.
/// What it then has not written is told to have failed, and is written by the new one when it is repeated.
const RETIRE: Duration = Duration::from_secs(15);
/// How often it is looked whether it is done, and the least that it is kept: who has just got it has used it by then. 500 ms.
const LOOK: Duration = Duration::from_millis(500);

/// A producer of librdkafka.
pub(crate) type Live = FutureProducer<Context>;

/// What a way to Kafka becomes.
type Make = dyn Fn(&Reach) -> ClientConfig + Send + Sync;

/// Gives the producer to use now.
pub(crate) struct Producer(Arc<Shared>);

struct Shared {
    access: Access,
    make: Box<Make>,
    now: Mutex<Live>,
}

impl Producer {
    /// Connects in the background, with what `make` says. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the settings themselves are refused.
    pub(crate) fn new(
        access: &Access,
        make: impl Fn(&Reach) -> ClientConfig + Send + Sync + 'static,
    ) -> KafkaResult<Self> {
        // Before it is made: nothing that changes meanwhile is missed.
        let mut changes = access.changes();
        let reach = access.reach();
        let live = make(&reach).create_with_context(access.context(&reach))?;
        let shared = Arc::new(Shared {
            access: access.clone(),
            make: Box::new(make),
            now: Mutex::new(live),
        });
        let weak: Weak<Shared> = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(shared) = weak.upgrade() else { return };
                shared.renew();
            }
        });
        Ok(Self(shared))
    }

    /// The one to use now. To be used at once, and not to be kept.
    pub(crate) fn live(&self) -> Live {
        let now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }
}

impl Shared {
    fn renew(&self) {
        let reach = self.access.reach();
        let made = (self.make)(&reach).create_with_context(self.access.context(&reach));
        let live = match made {
            Ok(live) => live,
            Err(error) => {
                return tracing::error!(%error, "a Kafka producer can not be made anew, the former one goes on");
            }
        };
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut *now, live);
        tokio::spawn(retire(former));
    }
}

/// Lets a producer finish what it has. What is left fails with it.
async fn retire(former: Live) {
    let until = Instant::now() + RETIRE;
    loop {
        tokio::time::sleep(LOOK).await;
        if former.in_flight_count() == 0 || Instant::now() >= until {
            break;
        }
    }
    // It waits for its thread.
    tokio::task::spawn_blocking(move || drop(former)).await.ok();
}
