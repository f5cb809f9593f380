//! The connections of a listener: who is let in, how long they may do nothing, whose turn it is.
//!
//! ```text
//!  listener ─► accept ─► Guest (a place) ─► http2: GuestIo ─► hyper ─► Front ─► services
//!                 └────► refusal                 └ Frames, Turns ┘   └ Trial, Calls ┘
//! ```
//!
//! Owns the places of the listener, by address, and what is counted about them.
//! Promises: there are never more connections than the limits, nor than the logs leave descriptors for; a refused one is
//! told why; the cluster's own nodes have places that no client takes; one that does nothing ends; one that does much
//! has its turn as everybody else has.
//! Never here: what a call asks for. The limits and times are judged by [`troupe_machines::connection`].

mod accept;
mod calls;
mod http1;
mod http2;
mod io;
mod refusal;
mod trial;

pub use accept::{Protocol, accept};
pub use http1::serve as serve_http1;
pub use http2::serve as serve_http2;

use crate::clock::now;
use crate::context::Context;
use crate::descriptors;
use metrics::{Counter, Gauge, counter, gauge};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use trial::Trial;
use troupe_machines::connection::patience::{Cause, Patience};
use troupe_machines::connection::places::{Admission, Full, Limits, PlaceId, Places};
use troupe_proto::error::{Error, ErrorCode};

/// An HTTP/2 connection is asked for a sign of life after this silence, and has so long to give one.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What comes on top of both before one is ended that does not even take the end.
const KEEPALIVE_MARGIN: Duration = Duration::from_secs(5);
/// Between two lines about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The connections of one listener, on all of its shards.
pub struct Connections {
    pub patience: Patience,
    listener: &'static str,
    node: String,
    context: Arc<Context>,
    state: Mutex<State>,
    open: Gauge,
    refused: Counter,
}

struct State {
    places: Places<IpAddr>,
    /// Those who may have to make room hear it here.
    cuts: BTreeMap<PlaceId, CancellationToken>,
    log: RefusalLog,
}

/// When refusals were last written about, and how many there have been since.
#[derive(Default)]
struct RefusalLog {
    last: Option<Instant>,
    since: u64,
}

impl Connections {
    pub fn new(listener: &'static str, context: &Arc<Context>) -> Arc<Connections> {
        let config = &context.config;
        let patience = Patience {
            setup_ms: config.connection_setup_timeout.0,
            silent_ms: u64::try_from(
                (KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT + KEEPALIVE_MARGIN).as_millis(),
            )
            .unwrap_or(u64::MAX),
            idle_ms: config.connections_max_idle.0,
            stall_ms: config.stream_max_stall.0,
        };
        let limits = limits(listener, context);
        if limits.total < config.max_connections as usize {
            tracing::warn!(
                listener,
                limit = limits.total,
                "the process may open {} files (ulimit -n), and the logs of its partitions need some: fewer \
                 connections than max.connections.per.node={}",
                descriptors::limit(),
                config.max_connections
            );
        }
        let node = config.node_id.to_string();
        let label = || node.clone();
        let open = gauge!("troupe_connections", "node" => label(), "listener" => listener);
        open.set(0.0);
        let refused = counter!(
            "troupe_connections_refused_total", "node" => label(), "listener" => listener
        );
        Arc::new(Connections {
            patience,
            listener,
            context: Arc::clone(context),
            state: Mutex::new(State {
                places: Places::new(limits),
                cuts: BTreeMap::new(),
                log: RefusalLog::default(),
            }),
            open,
            refused,
            node,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for whoever has connected.
    ///
    /// # Errors
    /// `TOO_MANY_CONNECTIONS`, with the limit that is reached.
    pub fn admit(self: &Arc<Self>, address: IpAddr, protocol: Protocol) -> Result<Guest, Error> {
        let (house, limits) = (house(address), limits(self.listener, &self.context));
        let mut state = self.lock();
        state.places.set_limits(limits);
        let (id, leaves, refusal) = match state.places.admit(now(), &house) {
            Admission::Welcome(id) => (id, None, None),
            Admission::Instead(id, leaves) => (id, Some(leaves), None),
            Admission::Refused(full) => {
                let refusal = refusal(limits, house, full);
                let on_trial = match protocol {
                    Protocol::Http1 => None,
                    Protocol::Http2 => state.places.try_out(now(), &house),
                };
                let Some((id, leaves)) = on_trial else {
                    drop(state);
                    self.refused(&refusal);
                    return Err(refusal);
                };
                (id, leaves, Some(refusal))
            }
        };
        if let Some(other) = leaves.and_then(|leaves| state.cuts.remove(&leaves)) {
            other.cancel();
            // Who was on trial is refused.
            if refusal.is_none() {
                self.closed(Cause::Setup);
            }
        }
        let cut = CancellationToken::new();
        state.cuts.insert(id, cut.clone());
        self.open.set(state.places.taken() as f64);
        let trial = refusal.map(|refusal| Trial::new(Arc::clone(self), id, refusal));
        Ok(Guest { connections: Arc::clone(self), id, cut, trial })
    }

    /// Somebody did not come in.
    fn refused(&self, refusal: &Error) {
        self.refused.increment(1);
        let mut state = self.lock();
        state.log.since += 1;
        if state.log.last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            let refused = std::mem::take(&mut state.log.since);
            state.log.last = Some(Instant::now());
            tracing::warn!(listener = self.listener, refused, "{}", refusal.message);
        }
    }

    /// The connection is one of the cluster's own. False: there is no place for it either.
    fn vouch(&self, id: PlaceId) -> bool {
        let mut state = self.lock();
        let stays = state.places.vouch(id);
        if stays {
            state.cuts.remove(&id);
            self.open.set(state.places.taken() as f64);
        }
        stays
    }

    /// Some of a connection's calls were ended.
    fn calls_ended(&self) {
        counter!(
            "troupe_stalled_calls_ended_total",
            "node" => self.node.clone(), "listener" => self.listener
        )
        .increment(1);
    }

    fn closed(&self, cause: Cause) {
        counter!(
            "troupe_connections_closed_total",
            "node" => self.node.clone(), "listener" => self.listener, "cause" => cause.name()
        )
        .increment(1);
    }
}

/// As many as are configured, or as the logs leave descriptors for.
fn limits(listener: &str, context: &Context) -> Limits {
    let configured = Limits {
        total: context.config.max_connections as usize,
        per_address: context.config.max_connections_per_ip as usize,
    };
    let partitions = context.metadata.registry.replica_count();
    let parts = descriptors::parts_of(listener);
    descriptors::left_for(parts, configured, descriptors::limit(), partitions)
}

/// What somebody is told who does not come in.
fn refusal(limits: Limits, address: IpAddr, full: Full) -> Error {
    let (key, limit, whose, kept) = match full {
        Full::Total => {
            let kept = limits.kept();
            let kept = format!(", of which {kept} are kept for the cluster's own nodes");
            ("max.connections.per.node", limits.total, String::new(), kept)
        }
        Full::Address => {
            let whose = format!(" from {address}");
            ("max.connections.per.ip", limits.per_address, whose, String::new())
        }
    };
    let message = format!(
        "too many connections{whose}: {key} allows no more than {limit}{kept}; use one connection for many \
         calls, close those that are not used, or raise {key} (and the limit of open files)"
    );
    Error::new(ErrorCode::TooManyConnections, message).with("limit", limit)
}

/// Whoever has one IPv6 address has 2^64 of them.
fn house(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

/// A connection's place; dropped, it is free.
pub struct Guest {
    connections: Arc<Connections>,
    id: PlaceId,
    /// Cancelled when it has to make room.
    cut: CancellationToken,
    /// It has no place yet.
    trial: Option<Arc<Trial>>,
}

impl Guest {
    /// It has said that it speaks our language: it makes room for nobody any more.
    fn introduce(&self) {
        let mut state = self.connections.lock();
        if state.places.introduce(self.id) {
            state.cuts.remove(&self.id);
        }
    }

    /// Returns when it is refused; false: it has not even asked for anything.
    async fn lost(&self) -> bool {
        match &self.trial {
            Some(trial) => trial.lost().await,
            None => std::future::pending().await,
        }
    }

    fn patience(&self) -> Patience {
        self.connections.patience
    }

    fn calls_ended(&self) {
        self.connections.calls_ended();
    }

    /// It was ended, and why.
    fn closed(&self, cause: Cause) {
        self.connections.closed(cause);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(trial) = &self.trial {
            trial.end();
        }
        let mut state = self.connections.lock();
        state.places.leave(self.id);
        state.cuts.remove(&self.id);
        self.connections.open.set(state.places.taken() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_its_house() {
        let house = |text: &str| house(text.parse().unwrap()).to_string();
        assert_eq!(house("10.0.0.7"), "10.0.0.7");
        assert_eq!(house("::ffff:10.0.0.7"), "10.0.0.7");
        assert_eq!(house("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
