//! What is sent where bytes are moved.

use crate::commands::bench::workload::{FlushPolicy, Workload};
use troupe_client::ProducerConfig;

/// Bytes in each value.
pub const RECORD_BYTES: u64 = 1024;

pub fn workload(bytes: u64, partitions: u32) -> Workload {
    let (records, size) = (bytes / RECORD_BYTES, RECORD_BYTES);
    Workload { records, size, partitions, flush_policy: FlushPolicy::Os, seed: 1 }
}

/// As by default, but a full buffer is a reason to wait for as long as a delivery may take.
pub fn producer() -> ProducerConfig {
    let config = ProducerConfig::default();
    ProducerConfig { max_block: config.delivery_timeout, ..config }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_whole_records() {
        assert_eq!(workload((1 << 20) + 1023, 6).records, 1024);
    }
}
