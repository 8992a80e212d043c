//! socketioxide, as the rest of the listener sees it.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::pin::Pin;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::service::Service;

use super::Bare;
use super::polling::CLOSE;
use crate::connection::Stream;
use crate::wire::Wire;

/// A client's WebSocket, as socketioxide gets it.
pub(super) type ClientWire = Wire<Stream<Bare>>;

type Reply<'a> = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send + 'a>>;

/// One Engine.IO server.
pub(super) trait Engine: Send + Sync {
    /// Answers a request that is no WebSocket upgrade.
    fn answer(&self, request: Request<Incoming>) -> Reply<'_>;

    /// Takes a WebSocket over.
    ///
    /// # Errors
    /// Where its request was none of Engine.IO.
    fn take_over(
        &self,
        wire: ClientWire,
        request: Request<()>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Has socketioxide do what a request asks; its answer is of no interest.
    fn ask(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Ends a session that polls as its client would: with a close packet.
    fn end(&self, sid: &str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// [`Engine`] by socketioxide's service, whose type has no name.
pub(super) struct SocketIoEngine<S>(pub(super) S);

impl<S, B> Engine for SocketIoEngine<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible, Future: Send>
        + Service<(ClientWire, Request<()>), Response = (), Error: Display, Future: Send>
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Error + Send + Sync> + Send + 'static,
{
    fn answer(&self, request: Request<Incoming>) -> Reply<'_> {
        let answer = self.0.call(request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            whole(response).await
        })
    }

    fn take_over(
        &self,
        wire: ClientWire,
        request: Request<()>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        let taken = self.0.call((wire, request));
        Box::pin(async move { taken.await.map_err(|error| error.to_string()) })
    }

    fn ask(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let answer = self.0.call(request);
        Box::pin(async move {
            let Ok(_) = answer.await;
        })
    }

    fn end(&self, sid: &str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/socket.io/?EIO=4&transport=polling&sid={sid}"))
            .body(Full::from(CLOSE));
        match request {
            Ok(request) => self.ask(request),
            Err(_) => Box::pin(async {}),
        }
    }
}

/// socketioxide's bodies are in memory: collecting one neither waits nor fails.
async fn whole<B: Body<Data = Bytes, Error: Error + Send + Sync>>(response: Response<B>) -> Response<Full<Bytes>> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Response::from_parts(parts, Full::new(body))
}
