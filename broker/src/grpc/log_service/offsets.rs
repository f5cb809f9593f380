//! ListOffsets on the wire.

use crate::address_book::AddressBook;
use crate::operations::{DatedOffset, PartitionOffset, PartitionQuery};
use crate::partition::{Isolation, OffsetQuery};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset};
use troupe_proto::log::v1 as pb;

pub fn queries(request: pb::ListOffsetsRequest) -> Vec<PartitionQuery> {
    let query = |query: pb::OffsetQuery| {
        let pb::OffsetQuery { partition, at, isolation_level } = query;
        let at = at.map_or_else(|| Err(says_nothing()), |at| Ok(meant(at)));
        PartitionQuery { partition, at, isolation: Isolation::from_wire(isolation_level) }
    };
    request.queries.into_iter().map(query).collect()
}

fn meant(at: pb::offset_query::At) -> OffsetQuery {
    match at {
        pb::offset_query::At::Earliest(_) => OffsetQuery::Earliest,
        pb::offset_query::At::Latest(_) => OffsetQuery::Latest,
        pb::offset_query::At::TimestampMs(time) => OffsetQuery::Timestamp(time),
        pb::offset_query::At::MaxTimestamp(_) => OffsetQuery::MaxTimestamp,
        pb::offset_query::At::EndOfEpoch(epoch) => OffsetQuery::EndOfEpoch(LeaderEpoch(epoch)),
    }
}

fn says_nothing() -> Error {
    let message = "the query says neither earliest, latest, timestamp_ms, max_timestamp nor \
                   end_of_epoch";
    Error::new(ErrorCode::InvalidRequest, message)
}

pub fn list_offsets_response(
    offsets: Vec<PartitionOffset>,
    addresses: &AddressBook,
) -> pb::ListOffsetsResponse {
    let results = offsets.into_iter().map(|offset| result(offset, addresses));
    pb::ListOffsetsResponse { results: results.collect() }
}

fn result(offset: PartitionOffset, addresses: &AddressBook) -> pb::OffsetResult {
    let PartitionOffset { partition, answer } = offset;
    match answer {
        Err(error) => pb::OffsetResult {
            offset: -1,
            timestamp_ms: -1,
            error: Some(addresses.told(error).into()),
            partition,
            ..Default::default()
        },
        Ok(DatedOffset { found, as_of_ms }) => pb::OffsetResult {
            partition,
            offset: found.offset.map_or(-1, Offset::to_wire),
            timestamp_ms: found.timestamp_ms.unwrap_or(-1),
            leader_epoch: found.leader_epoch.0,
            error: None,
            as_of_ms,
        },
    }
}
