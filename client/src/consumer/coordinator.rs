//! The connection to a group's coordinator: where it is, and what to do when it is somewhere else.
//!
//! Promise: what a coordinator that moves, loads or is not there refused is asked again of the right one, until
//! the caller's deadline. Never here: what is asked.

use crate::admin::groups::{groups, is_coordinator_away};
use crate::client::{Inner, Missing};
use crate::connection::Purpose;
use crate::error::{ClientError, is_transport_failure};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::time::{Duration, Instant, sleep, timeout_at};
use tonic::transport::Channel;
use tonic::{Response, Status};
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::log::v1::FindCoordinatorRequest;

const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Between attempts: doubles with each failure, up to a maximum, with 20 % jitter.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let pause = BACKOFF.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures += 1;
        pause.mul_f64(0.8 + 0.4 * rand::random::<f64>())
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The coordinator of one group.
pub(super) struct Coordinator {
    client: Arc<Inner>,
    pub(super) group_id: String,
    /// Where it was last.
    endpoint: Mutex<Option<Arc<str>>>,
}

impl Coordinator {
    pub(super) fn new(client: Arc<Inner>, group_id: String) -> Self {
        Self { client, group_id, endpoint: Mutex::new(None) }
    }

    /// Topics that its members name are there for it to share out, where the nodes create them (auto.create.topics.enable).
    pub(super) fn create_missing(&self, topics: Vec<String>) {
        let client = self.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.refresh(&topics, Missing::IsCreated).await {
                tracing::debug!(%error, "creating the topics that are subscribed to");
            }
        });
    }

    /// A connection to where the coordinator is, as far as is known.
    pub(super) async fn channel(&self) -> Result<(Arc<str>, Channel), ClientError> {
        let known = self.endpoint.lock().clone();
        let endpoint = match known {
            Some(endpoint) => endpoint,
            None => {
                let found = self
                    .client
                    .connections
                    .call(true, |channel| {
                        let request = FindCoordinatorRequest { group_id: self.group_id.clone() };
                        async move { groups(channel).find_coordinator(request).await }
                    })
                    .await?;
                let endpoint: Arc<str> = found.endpoint.into();
                *self.endpoint.lock() = Some(endpoint.clone());
                endpoint
            }
        };
        match self.client.connections.open_or_fall_back(&endpoint, Purpose::Control).await {
            Ok(channel) => Ok((endpoint, channel)),
            Err(error) => {
                self.forget();
                Err(error)
            }
        }
    }

    /// What was asked there failed: looks for the coordinator anew if it may be elsewhere.
    pub(super) fn failed(&self, endpoint: &Arc<str>, status: Status) -> ClientError {
        if is_transport_failure(&status) {
            self.client.connections.lost(endpoint, Purpose::Control);
            self.forget();
            return status.into();
        }
        let error = ClientError::from(status);
        self.note(&error);
        error
    }

    /// A refusal may say where the coordinator is.
    pub(super) fn note(&self, error: &ClientError) {
        let moves = is_coordinator_away(error)
            || matches!(error.reason(), ErrorCode::ShuttingDown | ErrorCode::OutcomeUnknown);
        if !moves {
            return;
        }
        let hint = match error {
            ClientError::Refused(Refusal { leader: Some(hint), .. }) => {
                Some(hint.endpoint.as_str()).filter(|endpoint| !endpoint.is_empty())
            }
            _ => None,
        };
        *self.endpoint.lock() = hint.map(Arc::from);
    }

    pub(super) fn forget(&self) {
        *self.endpoint.lock() = None;
    }

    /// One attempt of a call that may be repeated.
    pub(super) async fn call_once<T, F>(
        &self,
        deadline: Instant,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let attempt = async {
            let (endpoint, channel) = self.channel().await?;
            match call(channel).await {
                Ok(response) => Ok(response.into_inner()),
                Err(status) => Err(self.failed(&endpoint, status)),
            }
        };
        let request_timeout = self.client.connections.config().request_timeout;
        let until = deadline.min(Instant::now() + request_timeout);
        timeout_at(until, attempt).await.unwrap_or_else(|_| {
            self.forget();
            Err(ClientError::Refused(Refusal::new(
                ErrorCode::RequestTimedOut,
                format!("the coordinator of group {} did not answer in time", self.group_id),
            )))
        })
    }

    /// The same, until it is answered, refused for good, or the deadline is over.
    pub(super) async fn call<T, F>(
        &self,
        deadline: Instant,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.call_once(deadline, &call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = backoff.next();
            if !error.is_retriable() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }
}
