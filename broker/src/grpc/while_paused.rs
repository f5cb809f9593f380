//! What is answered of gRPC while the node stands still: the chaos service. All else waits as it would for a stopped
//! process, until its connection ends.

use super::chaos_service::ChaosDoor;
use crate::faults::Serve;
use crate::operations::Chaos;
use futures::future::BoxFuture;
use http::{Request, Response};
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tower::{Layer, Service};
use troupe_proto::chaos::v1alpha1::chaos_service_server::ChaosServiceServer;

const CHAOS: &str = "/troupe.chaos.";

/// Serves a listener of gRPC so.
pub fn serve_while_paused(chaos: &Arc<Chaos>) -> Serve {
    let chaos = Arc::clone(chaos);
    Arc::new(move |listener: TcpListener, over: CancellationToken| -> BoxFuture<'static, ()> {
        let door = ChaosServiceServer::new(ChaosDoor::new(Arc::clone(&chaos)));
        Box::pin(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let serving = Server::builder().layer(WaitsLayer).add_routes(Routes::new(door));
            let serving = serving.serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                over.cancelled_owned(),
            );
            if let Err(error) = serving.await {
                tracing::warn!(%error, "nobody answers while the node is paused");
            }
        })
    })
}

#[derive(Clone, Copy)]
struct WaitsLayer;

impl<S> Layer<S> for WaitsLayer {
    type Service = Waits<S>;

    fn layer(&self, inner: S) -> Waits<S> {
        Waits(inner)
    }
}

/// Whoever asks for anything else than faults waits.
#[derive(Clone)]
struct Waits<S>(S);

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Waits<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path().starts_with(CHAOS) {
            true => Box::pin(self.0.call(request)),
            false => Box::pin(pending()),
        }
    }
}
