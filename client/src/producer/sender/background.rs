//! Calls that the sender makes beside its streams: who leads, and a producer id. One of each at a time.

use super::Sender;
use crate::client::Missing;
use crate::error::ClientError;
use crate::producer::accumulator::PartitionQueue;
use crate::producer::sequences::Session;
use crate::producer::timers::Timer;
use futures::FutureExt;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{ProducerEpoch, ProducerId};
use troupe_proto::log::v1::InitProducerRequest;
use troupe_proto::log::v1::log_service_client::LogServiceClient;

/// What a background call came to.
pub(super) enum Done {
    Refreshed(Result<(), ClientError>),
    Session(Result<(ProducerId, ProducerEpoch), ClientError>),
}

impl Sender {
    /// Asks who leads, unless that is under way already.
    pub(super) fn refresh(&mut self, topic: &Arc<str>) {
        self.stale.insert(topic.clone());
        if self.refreshing {
            return;
        }
        self.refreshing = true;
        let topics: Vec<_> =
            std::mem::take(&mut self.stale).iter().map(|topic| topic.to_string()).collect();
        let client = self.client.clone();
        let refresh = async move { client.refresh(&topics, Missing::IsCreated).await };
        self.tasks.push(refresh.map(Done::Refreshed).boxed());
    }

    /// A producer id that nobody has had before (I1).
    pub(super) fn request_session(&mut self) {
        if self.sessions.requested {
            return;
        }
        self.sessions.requested = true;
        let client = self.client.clone();
        let call = async move {
            let answer = client
                .connections
                .call(true, |channel| async move {
                    LogServiceClient::new(channel).init_producer(InitProducerRequest {}).await
                })
                .await;
            Done::Session(answer.map(|answer| {
                (ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch))
            }))
        };
        self.tasks.push(call.boxed());
    }

    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Refreshed(result) => {
                self.refreshing = false;
                if let Err(error) = result {
                    tracing::debug!(%error, "metadata refresh");
                } else if let Some(topic) = self.stale.first().cloned() {
                    self.refresh(&topic);
                }
            }
            Done::Session(result) => {
                self.sessions.requested = false;
                let waiting: Vec<_> =
                    std::mem::take(&mut self.sessions.waiting).into_values().collect();
                match result {
                    Ok((id, epoch)) => {
                        let number = self.sessions.newest.map_or(1, |newest| newest.number + 1);
                        self.sessions.newest = Some(Session { number, id, epoch });
                        waiting.iter().for_each(|queue| self.poll(queue));
                    }
                    Err(error) => self.without_session(&waiting, &error),
                }
            }
        }
    }

    fn without_session(&mut self, waiting: &[Arc<PartitionQueue>], error: &ClientError) {
        tracing::debug!(%error, "no producer id");
        if !error.is_retriable() && error.reason() != ErrorCode::OutcomeUnknown {
            for queue in waiting {
                let settled = queue.with(|queue| queue.fail_waiting(error, 0));
                self.accumulator.finish(settled);
            }
        }
        let again = Instant::now() + self.accumulator.config.retry_backoff;
        for queue in waiting {
            self.timers.set(Timer::Queue(queue.number), again);
        }
    }
}
