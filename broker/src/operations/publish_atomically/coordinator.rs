//! What the coordinator of a call's transaction is asked, for as long as the call lasts, whoever that is by then.

use super::begun::Begun;
use super::ending::{Ended, aborted, is_fenced};
use crate::forward::{Backoff, Call};
use crate::node_settings::NodeSettings;
use crate::operations::producer_ids::ProducerIds;
use crate::txn::{AddTo, Initialise, TxnRoute};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use troupe_machines::txn::{ClientVersion, Outcome, Producer};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::TopicPartition;

/// Longer than any call. What a node leaves behind that died in the middle keeps readers waiting for so long.
const TRANSACTION_TIMEOUT_MS: u64 = 35_000;
/// How long an abort may take.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

pub struct Coordinator {
    route: Arc<TxnRoute>,
    ids: Arc<ProducerIds>,
    settings: Arc<NodeSettings>,
    shutdown: CancellationToken,
}

impl Coordinator {
    pub fn new(
        route: Arc<TxnRoute>,
        ids: Arc<ProducerIds>,
        settings: Arc<NodeSettings>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { route, ids, settings, shutdown }
    }

    /// The producer of an id from now on. What is being settled is waited for up to the first of the times.
    pub async fn init(
        &self,
        id: &str,
        once: bool,
        (patience, deadline): (Instant, Instant),
    ) -> Result<Producer, Error> {
        let most = self.settings.now().transaction_max_timeout.0;
        let request = Initialise {
            transactional_id: id.to_owned(),
            timeout_ms: u32::try_from(TRANSACTION_TIMEOUT_MS.min(most)).unwrap_or(u32::MAX),
            version: ClientVersion::Second,
            known: None,
            once,
        };
        patiently(patience, deadline, || {
            self.route.init(&request, &*self.ids, Call::until(deadline))
        })
        .await
    }

    /// All at once: so the transaction before is waited for before anything is written.
    pub async fn add(
        &self,
        begun: &Begun,
        (partitions, groups): (Vec<TopicPartition>, Vec<String>),
        (patience, deadline): (Instant, Instant),
    ) -> Result<(), Error> {
        let request = AddTo {
            transactional_id: begun.id.to_string(),
            producer: begun.producer,
            version: ClientVersion::Second,
            partitions,
            groups,
        };
        patiently(patience, deadline, || self.route.add(&request, Call::until(deadline))).await
    }

    /// Asks until it is known, or the time is over.
    pub async fn commit(&self, begun: &Begun, deadline: Instant) -> Ended {
        let (mut backoff, of) = (Backoff::new(), (&*begun.id, begun.producer));
        let left = deadline.saturating_duration_since(Instant::now());
        let by = deadline - ABORT_PATIENCE.min(left / 3);
        let error = loop {
            let error = match self.route.end(of, Outcome::Commit, &*self.ids, Call::until(by)).await
            {
                Ok(next) => return Ended::Committed(next),
                Err(error) => error,
            };
            // A producer that was fenced, or whose transaction was aborted, can commit it never more.
            if is_fenced(&error) || error.code == ErrorCode::InvalidTransactionState {
                return Ended::Aborted(aborted(error), None);
            }
            let next = Instant::now() + backoff.next();
            if next >= by || self.shutdown.is_cancelled() {
                break error;
            }
            sleep_until(next).await;
        };
        // Whatever the last answer says, an earlier one may have been lost. If it can be aborted, it was not committed.
        match self.route.end(of, Outcome::Abort, &*self.ids, Call::until(deadline)).await {
            Ok(next) => Ended::Aborted(aborted(error), Some(next)),
            Err(_) => Ended::Open(error),
        }
    }

    /// Of one that nobody commits. Also if the coordinator does not hear of it, it is aborted in the end.
    pub async fn abort(&self, begun: &Begun, cause: Error, deadline: Instant) -> Ended {
        let until = deadline.max(Instant::now()).min(Instant::now() + ABORT_PATIENCE);
        let (of, call) = ((&*begun.id, begun.producer), Call::until(until));
        let next = self.route.end(of, Outcome::Abort, &*self.ids, call).await;
        if let Err(error) = &next {
            tracing::debug!(%error, transactional_id = %begun.id, "a transaction is left to time out");
        }
        Ended::Aborted(aborted(cause), next.ok())
    }
}

/// Asks until what is being completed is, and no longer than the first of the times; what surely was not done, or does
/// no harm twice, up to the second.
async fn patiently<T, Asked: Future<Output = Result<T, Error>>>(
    patience: Instant,
    deadline: Instant,
    ask: impl Fn() -> Asked,
) -> Result<T, Error> {
    let mut backoff = Backoff::new();
    loop {
        let error = match ask().await {
            Err(error) => error,
            answer => return answer,
        };
        let until = match error.code {
            ErrorCode::ConcurrentTransactions => patience,
            ErrorCode::OutcomeUnknown
            | ErrorCode::RequestTimedOut
            | ErrorCode::Overtaken
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoading
            | ErrorCode::CoordinatorNotAvailable => deadline,
            _ => return Err(error),
        };
        let next = Instant::now() + backoff.next();
        if next >= until {
            return Err(error);
        }
        sleep_until(next).await;
    }
}
