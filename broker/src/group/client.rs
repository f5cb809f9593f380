//! A client for the groups of another node.

use super::kind::GroupRoute;
use tonic::transport::Channel;
use troupe_proto::internal::v1::commit_service_client::CommitServiceClient;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;

impl GroupRoute {
    pub fn client(&self, channel: Channel) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(channel).max_decoding_message_size(self.calls.max_answer_bytes)
    }

    pub fn commit_client(&self, channel: Channel) -> CommitServiceClient<Channel> {
        CommitServiceClient::new(channel).max_decoding_message_size(self.calls.max_answer_bytes)
    }
}
