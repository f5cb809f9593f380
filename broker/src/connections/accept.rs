//! The loop that takes connections in.

use super::refusal::{Protocol, Refusals};
use super::slot_guard::SlotGuard;
use super::slots::Connections;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, net};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Before the next attempt, when the process or the system can take none.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Serves whoever connects, until `stop`; returns when all connections have ended.
pub async fn accept<S, F>(
    listener: net::TcpListener,
    connections: Arc<Connections>,
    protocol: Protocol,
    stop: CancellationToken,
    serve: S,
) -> io::Result<()>
where
    S: Fn(TcpStream, SlotGuard) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    let (tracker, refusals) = (TaskTracker::new(), Refusals::new(protocol));
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                // Answers are small or large, never a trickle worth waiting for.
                let _ = stream.set_nodelay(true);
                match SlotGuard::admit(&connections, address.ip(), protocol) {
                    Ok(slot) => {
                        tracker.spawn(serve(stream, slot));
                    }
                    Err(error) => refusals.refuse(stream, &error),
                }
            }
            // The peer has gone already.
            Err(error) if !is_exhaustion(&error) => {}
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= LOG_INTERVAL) {
                    told = Some(Instant::now());
                    let listener = connections.listener;
                    tracing::warn!(listener, %error, "cannot take connections for want of means");
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
    // Nobody connects to what does not accept.
    drop(listener);
    tracker.close();
    tracker.wait().await;
    Ok(())
}

/// The listener is as it was, and goes on as soon as something is given back.
fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&code))
}
