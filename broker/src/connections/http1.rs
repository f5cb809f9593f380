//! One HTTP/1 connection: a few short requests, of whoever watches the node.

use super::slot_guard::SlotGuard;
use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use troupe_machines::connection::timeouts::{CLOSE_GRACE_MS, Cause};

/// Serves it to its end. Headers, and the next request, have `setup_ms` to come; nobody stays longer than
/// `idle_ms`, whether he reads what he has asked for or not.
pub async fn serve(slot: SlotGuard, stream: TcpStream, app: Router, stop: CancellationToken) {
    let timeouts = slot.timeouts();
    let slot = &slot;
    let service = service_fn(|request: Request<Incoming>| {
        slot.introduce();
        app.clone().oneshot(request)
    });
    let mut connection = pin!(
        Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(timeouts.setup_ms.max(1)))
            .serve_connection(TokioIo::new(stream), service)
    );
    let is_late = tokio::select! {
        ended = connection.as_mut() => {
            if ended.is_err_and(|error| error.is_timeout()) {
                slot.closed(Cause::Setup);
            }
            return;
        }
        () = slot.cut.cancelled() => return,
        () = stop.cancelled() => false,
        () = tokio::time::sleep(Duration::from_millis(timeouts.idle_ms)) => true,
    };
    connection.as_mut().graceful_shutdown();
    let farewell = Duration::from_millis(CLOSE_GRACE_MS);
    if tokio::time::timeout(farewell, connection).await.is_err() && is_late {
        slot.closed(Cause::Stalled);
    }
}
