//! The HTTP listener: `/metrics` for Prometheus; `/live` and `/ready` for whoever starts nodes and sends clients there,
//! as `grpc.health.v1` says it.

use crate::connections::{Connections, Protocol, accept, serve_http1};
use crate::faults::Serve;
use crate::metrics;
use crate::operations::{Observation, Readiness};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::BoxFuture;
use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves on the current arbiter until `stop`.
pub fn serve(
    readiness: &Arc<Readiness>,
    observation: &Arc<Observation>,
    (listener, connections): (TcpListener, Arc<Connections>),
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let (readiness, observation) = (Arc::clone(readiness), Arc::clone(observation));
    let app = Router::new()
        .route("/metrics", get(move || async move { render(&observation) }))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(move || async move { ready(&readiness) }));
    let stopped = stop.clone();
    let serve = move |stream, slot| serve_http1(slot, stream, app.clone(), stopped.clone());
    tokio::spawn(async move {
        if let Err(error) = accept(listener, connections, Protocol::Http1, stop, serve).await {
            tracing::error!(%error, "the HTTP listener stopped");
        }
    });
    Ok(())
}

/// What is answered while the node stands still: how it is. Whoever asks for anything else waits.
pub fn serve_while_paused(observation: &Arc<Observation>) -> Serve {
    let observation = Arc::clone(observation);
    Arc::new(move |listener: TcpListener, over: CancellationToken| -> BoxFuture<'static, ()> {
        let observation = Arc::clone(&observation);
        let app = Router::new()
            .route("/metrics", get(move || async move { render(&observation) }))
            .fallback(pending::<StatusCode>);
        Box::pin(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let serving = axum::serve(listener, app).with_graceful_shutdown(over.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::warn!(%error, "nobody shows metrics while the node is paused");
            }
        })
    })
}

fn ready(readiness: &Readiness) -> (StatusCode, String) {
    match readiness.check() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

fn render(observation: &Observation) -> axum::response::Response {
    observation.observe();
    match metrics::recorder() {
        Some(recorder) => {
            recorder.run_upkeep();
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            let mut text = recorder.render();
            observation.metrics.render_topics(&mut text);
            (kind, text).into_response()
        }
        None => {
            let text = "another metrics recorder is installed in this process";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}
