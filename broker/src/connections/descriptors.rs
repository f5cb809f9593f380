//! What the system leaves for connections: every connection takes a descriptor, and so does every log.

use crate::NodeConfig;
use troupe_machines::connection::places::Limits;

/// Of the descriptors that the process may have, so many parts of [`PARTS`] may go to the connections of a listener;
/// the rest is for the logs.
const CONNECTION_PARTS: usize = 2;
const PARTS: usize = 4;
/// Of all connections, so many parts of [`PARTS`] may come from one address: it does not keep the others out.
const ADDRESS_PARTS: usize = 3;

/// The limits of a listener: as configured, or as many as there are descriptors for.
pub fn limits(config: &NodeConfig) -> Limits {
    let descriptors = usize::try_from(available()).unwrap_or(usize::MAX);
    within(config.max_connections as usize, config.max_connections_per_ip as usize, descriptors)
}

fn within(total: usize, per_address: usize, descriptors: usize) -> Limits {
    let left = (descriptors / PARTS).saturating_mul(CONNECTION_PARTS).max(1);
    if total <= left {
        return Limits { total, per_address: per_address.min(total) };
    }
    tracing::warn!(
        limit = left,
        "the process may open {descriptors} files (ulimit -n), of which {left} may be connections: fewer \
         than max.connections.per.node={total}"
    );
    let of_one = (left / PARTS).saturating_mul(ADDRESS_PARTS).max(1);
    Limits { total: left, per_address: per_address.min(of_one) }
}

fn available() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the struct that it is given.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_logs_and_places_to_other_addresses() {
        assert_eq!(within(10_000, 9_000, 1 << 20), Limits { total: 10_000, per_address: 9_000 });
        assert_eq!(within(10_000, 9_000, 1_024), Limits { total: 512, per_address: 384 });
        assert_eq!(within(3, 9_000, 1_024), Limits { total: 3, per_address: 3 });
        assert_eq!(within(10_000, 9_000, 2), Limits { total: 1, per_address: 1 });
    }
}
