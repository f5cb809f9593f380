//! File descriptors: how many there are, what the logs need of them, and what is left for connections.
//!
//! ```text
//!  limit of the process = others + one for each partition in use + what is left, shared by the listeners
//! ```
//!
//! Promise: what the logs need is not given to connections, however many partitions come to be.

use std::io;
use troupe_machines::connection::slots::Limits;

/// What a node has open beside logs and connections: listeners, the metadata log, the way to other nodes, pipes, a
/// runtime for each thread; and what logs open for a moment, to sync a directory or to write an index.
const OTHERS: u64 = 128;
/// What is left is shared in so many parts.
const PARTS: u64 = 8;
/// Of all connections of a listener, so many parts may come from one address: it does not keep the others out.
const ADDRESS_PARTS: u64 = 6;
/// So many are let in even if nothing is left: somebody has to be able to look.
const FEWEST: u64 = 8;

/// Every partition in use takes one, every connection another: all that the system lets this process have.
pub fn raise_limit() {
    let Ok(mut limit) = asked() else { return };
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: it reads the struct that it is given. If it fails, what there was is left.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

/// How many this process may have.
pub fn limit() -> u64 {
    asked().map_or(u64::MAX, |limit| limit.rlim_cur)
}

fn asked() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the struct that it is given.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What is reserved before connections get any, with so many partitions, each of which keeps the segment open that
/// takes appends.
pub fn needed_by(partitions: usize) -> u64 {
    OTHERS + partitions as u64
}

/// Of what is left, the parts of a listener: clients get most of it, and cannot take what controllers and those who
/// watch the node come by.
pub fn parts_of(listener: &str) -> u64 {
    match listener {
        "grpc" => PARTS - 2,
        _ => 1,
    }
}

/// The limits of a listener: as configured, or as many as there are descriptors for beside so many partitions.
pub fn left_for(parts: u64, configured: Limits, limit: u64, partitions: usize) -> Limits {
    let left = limit.saturating_sub(needed_by(partitions));
    let left = (left / PARTS).saturating_mul(parts).max(FEWEST);
    let places = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
    if configured.total <= places(left) {
        return Limits { per_address: configured.per_address.min(configured.total), ..configured };
    }
    let of_one = places((left / PARTS).saturating_mul(ADDRESS_PARTS).max(1));
    Limits { total: places(left), per_address: configured.per_address.min(of_one) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_logs_and_places_to_other_addresses() {
        let left = |total, per_address, limit, partitions| {
            let configured = Limits { total, per_address };
            left_for(parts_of("grpc"), configured, limit, partitions)
        };
        let limits = |total, per_address| Limits { total, per_address };
        assert_eq!(left(10_000, 9_000, 1 << 20, 0), limits(10_000, 9_000));
        assert_eq!(left(10_000, 9_000, u64::MAX, 100_000), limits(10_000, 9_000));
        assert_eq!(left(10_000, 9_000, 1_024, 0), limits(672, 504));
        assert_eq!(left(10_000, 9_000, 1_024, 500), limits(294, 216));
        assert_eq!(left(3, 9_000, 1_024, 500), limits(3, 3));
        // What the logs need is not there: those who look get in, and nobody else.
        assert_eq!(left(10_000, 9_000, 1_024, 5_000), limits(8, 6));
        assert_eq!(left(10_000, 9_000, 2, 0), limits(8, 6));
    }

    /// Logs, others and the listeners together never take more than there is.
    #[test]
    fn all_shares_together_are_what_there_is() {
        let plenty = Limits { total: usize::MAX, per_address: usize::MAX };
        for limit in (512..20_000).step_by(97) {
            for partitions in (0..300).step_by(7) {
                let of = |listener| left_for(parts_of(listener), plenty, limit, partitions).total;
                let all: usize = ["grpc", "controller", "http"].map(of).iter().sum();
                assert!(all as u64 + needed_by(partitions) <= limit, "{limit} {partitions}");
            }
        }
    }
}
