//! The actors of nodes, and faults that nodes and actors are given on purpose.

use super::{Admin, all_pages};
use crate::client::MAX_ANSWER;
use crate::error::ClientError;
use tonic::transport::Channel;
use troupe_proto::chaos::v1alpha1::chaos_service_client::ChaosServiceClient;
use troupe_proto::chaos::v1alpha1::{
    ActiveFault, Actor, InjectFaultRequest, InjectFaultResponse, KillActorRequest,
    KillActorResponse, KillMode, ListActorsRequest, ListFaultsRequest, StartFaultRequest,
    StartFaultResponse, StopFaultsRequest,
};

impl Admin {
    /// The actors of the node that answers whose addresses begin with `prefix`.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn list_actors(&self, prefix: &str) -> Result<Vec<Actor>, ClientError> {
        all_pages(|page_token| async move {
            let request = ListActorsRequest { prefix: prefix.to_owned(), page_size: 0, page_token };
            let page = self
                .call(true, |channel| {
                    let request = request.clone();
                    async move { chaos(channel).list_actors(request).await }
                })
                .await?;
            Ok((page.actors, page.next_page_token))
        })
        .await
    }

    /// Lets an actor of the node that answers fail for a while, and waits until it serves again.
    ///
    /// # Errors
    /// CHAOS_DISABLED, UNKNOWN_ACTOR, INVALID_REQUEST.
    pub async fn inject_fault(
        &self,
        request: InjectFaultRequest,
    ) -> Result<InjectFaultResponse, ClientError> {
        self.call(false, |channel| {
            let request = request.clone();
            async move { chaos(channel).inject_fault(request).await }
        })
        .await
    }

    /// Kills an actor of the node that answers, and waits until its successor serves.
    ///
    /// # Errors
    /// CHAOS_DISABLED, UNKNOWN_ACTOR.
    pub async fn kill_actor(
        &self,
        address: &str,
        mode: KillMode,
    ) -> Result<KillActorResponse, ClientError> {
        self.call(false, |channel| {
            let request = KillActorRequest { address: address.to_owned(), mode: mode.into() };
            async move { chaos(channel).kill_actor(request).await }
        })
        .await
    }

    /// Makes the node that answers ill for a while; returns when the fault has begun.
    ///
    /// # Errors
    /// CHAOS_DISABLED, INVALID_REQUEST.
    pub async fn start_fault(
        &self,
        request: StartFaultRequest,
    ) -> Result<StartFaultResponse, ClientError> {
        self.call(false, |channel| {
            let request = request.clone();
            async move { chaos(channel).start_fault(request).await }
        })
        .await
    }

    /// What the node that answers suffers now, and its actors.
    ///
    /// # Errors
    /// Those of any control call.
    pub async fn list_faults(&self) -> Result<Vec<ActiveFault>, ClientError> {
        all_pages(|page_token| async move {
            let request = ListFaultsRequest { page_size: 0, page_token };
            let page = self
                .call(true, |channel| {
                    let request = request.clone();
                    async move { chaos(channel).list_faults(request).await }
                })
                .await?;
            Ok((page.faults, page.next_page_token))
        })
        .await
    }

    /// Ends a fault of the node that answers, or all if `fault_id` is empty; the ids of those that ended.
    ///
    /// # Errors
    /// CHAOS_DISABLED.
    pub async fn stop_faults(&self, fault_id: &str) -> Result<Vec<String>, ClientError> {
        let stopped = self
            .call(true, |channel| {
                let request = StopFaultsRequest { fault_id: fault_id.to_owned() };
                async move { chaos(channel).stop_faults(request).await }
            })
            .await?;
        Ok(stopped.stopped_fault_ids)
    }
}

fn chaos(channel: Channel) -> ChaosServiceClient<Channel> {
    ChaosServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}
