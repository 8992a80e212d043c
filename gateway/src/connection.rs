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
    /// Ends the connection: what is queued is dropped, reads and writes fail.
    pub fn end(&self) {
        self.0.cancel();
    }
}

/// The bytes of a connection, until somebody ends it.
pub struct Stream<S> {
    stream: S,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Stream<S> {
    /// Reads and writes `stream` until `connection` is ended.
    pub fn new(stream: S, connection: &Connection) -> Self {
        Self {
            stream,
            ended: Box::pin(connection.0.clone().cancelled_owned()),
        }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "closed by the gateway",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn an_ended_connection_wakes_a_stuck_writer_and_a_waiting_reader() {
        let (near, _far) = duplex(16);
        let connection = Connection::default();
        let (mut reader, mut writer) = tokio::io::split(Stream::new(near, &connection));
        let write = tokio::spawn(async move { writer.write_all(&[0; 1024]).await });
        let read = tokio::spawn(async move { reader.read_u8().await });
        connection.end();
        for result in [write.await.unwrap().map(drop), read.await.unwrap().map(drop)] {
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
