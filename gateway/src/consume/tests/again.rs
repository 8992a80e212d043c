//! Records that are read once more.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::fixture::{Kafka, Taker, Verdict};
use crate::consume::again;
use crate::kafka::Access;

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_end_of_a_log_ends_what_is_read_again_and_is_no_error() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).init();
    let kafka = Kafka::new(&[("orders", 1)]);
    kafka.publish("orders", 0, 0..10).await;
    let (taker, access) = (Taker::new(|_| Verdict::Take), Access::plain(&kafka.bootstrap));
    // As far as records were once: some of them have been deleted since.
    let read = again::read(&*taker, &access, &"orders".into(), 0, 5..100).await;
    assert_eq!(read.unwrap(), 5);
    assert_eq!(taker.seen("orders", 0).len(), 5);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
}
