//! As of when an answer is true, as the API says it.

use super::numbers::int64;
use crate::controller_channel::AsOf;
use troupe_proto::v1::MetadataAsOf;

impl From<AsOf> for MetadataAsOf {
    fn from(as_of: AsOf) -> Self {
        MetadataAsOf {
            node_id: as_of.node_id.0,
            time_ms: int64(as_of.time.unwrap_or_default().0),
            metadata_offset: int64(as_of.metadata_offset.0),
            controller_active: as_of.controller_active,
            controller_silence_ms: as_of.controller_silence_ms.map_or(-1, int64),
        }
    }
}
