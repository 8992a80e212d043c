//! A client's TCP connection, with a way to end it from outside whatever state its queues are in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Handle of a connection: travels with its HTTP requests.
#[derive(Clone, Debug, Default)]
pub struct Connection(CancellationToken);

impl Connection {
    /// A connection that ends with this one, or alone.
    pub fn one_of(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Ends the connection: what is queued is dropped, reads and writes fail.
    pub fn end(&self) {
        self.0.cancel();
    }
}

/// The bytes of a connection, until somebody ends it.
pub struct Stream<S> {
    stream: S,
    /// One for whoever reads and one for whoever writes: a future wakes only the task that polled it last.
    ended_for_reader: Ended,
    ended_for_writer: Ended,
}

type Ended = Pin<Box<WaitForCancellationFutureOwned>>;

impl<S> Stream<S> {
    /// Reads and writes `stream` until `connection` is ended.
    pub fn new(stream: S, connection: &Connection) -> Self {
        Self {
            stream,
            ended_for_reader: Box::pin(connection.0.clone().cancelled_owned()),
            ended_for_writer: Box::pin(connection.0.clone().cancelled_owned()),
        }
    }
}

fn check(ended: &mut Ended, cx: &mut Context<'_>) -> io::Result<()> {
    match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "closed by the gateway",
        )),
        Poll::Pending => Ok(()),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        check(&mut self.ended_for_reader, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        check(&mut self.ended_for_writer, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        check(&mut self.ended_for_writer, cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.ended_for_writer, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn an_ended_connection_wakes_a_stuck_writer_and_a_waiting_reader() {
        let (near, _far) = duplex(16);
        let connection = Connection::default();
        let (mut reader, mut writer) = tokio::io::split(Stream::new(near, &connection));
        let (mut read, mut write) = (pin!(reader.read_u8()), pin!(writer.write_all(&[0; 1024])));
        // They are tasks of their own, each with its waker.
        let woken = [(); 2].map(|()| Arc::new(Woken(AtomicBool::new(false))));
        let wakers = woken.clone().map(Waker::from);
        assert!(read.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
        assert!(write.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
        connection.end();
        assert_eq!(woken.map(|woken| woken.0.load(Ordering::SeqCst)), [true, true]);
        for result in [read.await.map(drop), write.await] {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }

    #[tokio::test]
    async fn until_then_bytes_pass() {
        let (near, mut far) = duplex(16);
        let mut stream = Stream::new(near, &Connection::default());
        tokio::time::timeout(Duration::from_secs(5), async {
            stream.write_all(b"ab").await.unwrap();
            far.write_all(b"c").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'c');
            let mut got = [0; 2];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"ab");
        })
        .await
        .unwrap();
    }
}
