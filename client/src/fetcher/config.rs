//! How a fetcher reads.

use crate::consumer::IsolationLevel;
use std::sync::Arc;
use troupe_proto::batch::Limits;

/// How much comes at a time, and what is checked.
#[derive(Clone, Debug)]
pub(crate) struct FetcherConfig {
    /// Bytes that the nodes may push before they are read, over all streams.
    pub credit_bytes: u64,
    pub max_partition_bytes: u32,
    pub check_crc: bool,
    pub limits: Limits,
    /// The client's own, if partitions may be read from followers there.
    pub rack: Option<Arc<str>>,
    pub isolation: IsolationLevel,
}

impl FetcherConfig {
    /// A rack without a name is none.
    pub(crate) fn rack(name: &str) -> Option<Arc<str>> {
        (!name.is_empty()).then(|| name.into())
    }
}
