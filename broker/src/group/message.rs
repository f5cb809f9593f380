//! What a coordinator of groups is asked and told.

use super::member_stream::MemberSink;
use crate::coordinator::{Reply, RequestTime};
use actix::Message;
use troupe_machines::group::SessionId;
use troupe_machines::producer::{ClientVersion, Producer};
use troupe_proto::batch::Marker;
use troupe_proto::log::v1 as pb;

/// Somebody wants to be a member. Answered through the sink.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Join {
    pub session: SessionId,
    /// What it is called if it has no id yet.
    pub new_member_id: String,
    pub host: String,
    pub start: pb::MemberStart,
    pub sink: MemberSink,
}

/// What a member says after its start.
#[derive(Message)]
#[rtype(result = "()")]
pub struct UpdateMember {
    pub session: SessionId,
    pub request: pb::RunMemberRequest,
}

/// A member's stream is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Disconnected(pub SessionId);

/// Offsets to commit. Answered when they are on every in-sync replica.
pub struct Commit {
    pub request: pb::CommitOffsetsRequest,
    pub time: RequestTime,
    pub reply: Reply<pb::CommitOffsetsResponse>,
}

/// Commit what several have brought together: each is judged by itself, and those that stand are one append.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CommitAll(pub Vec<Commit>);

/// Offsets to commit in a transaction that the group is part of. Answered when they are on every in-sync replica.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CommitTransactionOffsets {
    pub producer: Producer,
    pub request: pb::CommitTransactionOffsetsRequest,
    pub time: RequestTime,
    pub reply: Reply<pb::CommitTransactionOffsetsResponse>,
}

/// A transaction that had offsets here is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetsMarker {
    /// As the marker has it.
    pub producer: Producer,
    pub marker: Marker,
    pub version: ClientVersion,
}

/// Carry out what is decided. Each is answered when it is on every in-sync replica.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WriteMarkers(pub Vec<(OffsetsMarker, Reply<()>)>);

/// Tell what is committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Fetch {
    pub request: pb::FetchOffsetsRequest,
    pub reply: Reply<pb::FetchOffsetsResponse>,
}

/// Tell which groups there are.
#[derive(Message)]
#[rtype(result = "()")]
pub struct List {
    pub reply: Reply<Vec<pb::GroupListing>>,
}

/// Tell all about a group.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Describe {
    pub group: String,
    pub reply: Reply<pb::DescribeGroupResponse>,
}

/// Delete a group.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Delete {
    pub group: String,
    pub time: RequestTime,
    pub reply: Reply<()>,
}

/// Let members leave.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Expel {
    pub request: pb::RemoveGroupMembersRequest,
    pub reply: Reply<pb::RemoveGroupMembersResponse>,
}

/// Delete committed offsets.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DeleteOffsets {
    pub request: pb::DeleteGroupOffsetsRequest,
    pub time: RequestTime,
    pub reply: Reply<pb::DeleteGroupOffsetsResponse>,
}
