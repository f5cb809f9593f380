//! The slots of a listener, by address, and what is counted about those who have them or get none.

use super::timeouts::timeouts_of;
use crate::clock::now;
use crate::descriptors;
use crate::metadata_cache::MetadataCache;
use crate::node_settings::NodeSettings;
use metrics::{Counter, Gauge, counter, gauge};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use troupe_machines::connection::slots::{Full, Limits, SlotDecision, SlotId, Slots};
use troupe_machines::connection::timeouts::{Cause, Timeouts};
use troupe_proto::error::{Error, ErrorCode};

/// Between two lines about refused connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The connections of one listener, on all of its shards.
pub struct Connections {
    pub timeouts: Timeouts,
    pub listener: &'static str,
    node: String,
    /// How many may come in, as it is set now.
    settings: Arc<NodeSettings>,
    /// Whose logs need descriptors too.
    metadata: Arc<MetadataCache>,
    state: Mutex<State>,
    open: Gauge,
    refused: Counter,
}

struct State {
    slots: Slots<IpAddr>,
    /// Those who may have to make room hear it here.
    cuts: BTreeMap<SlotId, CancellationToken>,
    log: RefusalLog,
}

/// When refusals were last written about, and how many there have been since.
#[derive(Default)]
struct RefusalLog {
    last: Option<Instant>,
    since: u64,
}

/// What somebody has got who was let in.
pub struct Slot {
    pub id: SlotId,
    /// Cancelled when it has to make room.
    pub cut: CancellationToken,
    /// Of one that may ask once.
    pub refusal: Option<Error>,
}

impl Connections {
    pub fn new(
        listener: &'static str,
        settings: &Arc<NodeSettings>,
        metadata: Arc<MetadataCache>,
    ) -> Arc<Connections> {
        let (config, configured) = (settings.now(), configured(settings));
        let limits = limits(listener, configured, &metadata);
        if limits.total < configured.total {
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
            timeouts: timeouts_of(&config),
            listener,
            settings: Arc::clone(settings),
            metadata,
            state: Mutex::new(State {
                slots: Slots::new(limits),
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

    /// A slot for whoever has connected; if there is none, one on trial, where that is possible.
    ///
    /// # Errors
    /// `TOO_MANY_CONNECTIONS`, with the limit that is reached.
    pub fn take_slot(&self, address: IpAddr, may_be_tried: bool) -> Result<Slot, Error> {
        let limits = limits(self.listener, configured(&self.settings), &self.metadata);
        let prefix = address_prefix(address);
        let mut state = self.lock();
        state.slots.set_limits(limits);
        let (id, leaves, refusal) = match state.slots.admit(now(), &prefix) {
            SlotDecision::Welcome(id) => (id, None, None),
            SlotDecision::Instead(id, leaves) => (id, Some(leaves), None),
            SlotDecision::Refused(full) => {
                let refusal = refusal(limits, prefix, full);
                let on_trial = match may_be_tried {
                    true => state.slots.try_out(now(), &prefix),
                    false => None,
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
        self.open.set(state.slots.taken() as f64);
        Ok(Slot { id, cut, refusal })
    }

    /// It makes room for nobody any more.
    pub fn introduce(&self, id: SlotId) {
        let mut state = self.lock();
        if state.slots.introduce(id) {
            state.cuts.remove(&id);
        }
    }

    /// Its slot is free.
    pub fn leave(&self, id: SlotId) {
        let mut state = self.lock();
        state.slots.leave(id);
        state.cuts.remove(&id);
        self.open.set(state.slots.taken() as f64);
    }

    /// Somebody did not come in.
    pub fn refused(&self, refusal: &Error) {
        self.refused.increment(1);
        let mut state = self.lock();
        state.log.since += 1;
        if state.log.last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            let refused = std::mem::take(&mut state.log.since);
            state.log.last = Some(Instant::now());
            tracing::warn!(listener = self.listener, refused, "{}", refusal.message);
        }
    }

    /// The connection is one of the cluster's own. False: there is no slot for it either.
    pub fn vouch(&self, id: SlotId) -> bool {
        let mut state = self.lock();
        let stays = state.slots.vouch(id);
        if stays {
            state.cuts.remove(&id);
            self.open.set(state.slots.taken() as f64);
        }
        stays
    }

    /// Some of a connection's calls were ended.
    pub fn calls_ended(&self) {
        counter!(
            "troupe_stalled_calls_ended_total",
            "node" => self.node.clone(), "listener" => self.listener
        )
        .increment(1);
    }

    pub fn closed(&self, cause: Cause) {
        counter!(
            "troupe_connections_closed_total",
            "node" => self.node.clone(), "listener" => self.listener, "cause" => cause.name()
        )
        .increment(1);
    }
}

/// As it is set now.
fn configured(settings: &NodeSettings) -> Limits {
    let config = settings.now();
    Limits {
        total: config.max_connections as usize,
        per_address: config.max_connections_per_ip as usize,
    }
}

/// As many as are configured, or as the logs leave descriptors for.
fn limits(listener: &str, configured: Limits, metadata: &MetadataCache) -> Limits {
    let partitions = metadata.registry.replica_count();
    let parts = descriptors::parts_of(listener);
    descriptors::left_for(parts, configured, descriptors::limit(), partitions)
}

/// What somebody is told who does not come in.
fn refusal(limits: Limits, address: IpAddr, full: Full) -> Error {
    let (key, limit, whose, kept) = match full {
        Full::Total => {
            let kept = limits.reserved();
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
fn address_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_its_prefix() {
        let prefix = |text: &str| address_prefix(text.parse().unwrap()).to_string();
        assert_eq!(prefix("10.0.0.7"), "10.0.0.7");
        assert_eq!(prefix("::ffff:10.0.0.7"), "10.0.0.7");
        assert_eq!(prefix("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
