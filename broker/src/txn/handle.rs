//! What a coordinator of transactions is asked.

use super::aliases::TxnHandle;
use super::message::{
    Abort, Add, AddTo, Describe, Described, End, Init, Initialise, List, Marked, Verify,
};
use crate::coordinator::RequestTime;
use troupe_machines::txn::{Listing, Outcome, Producer};
use troupe_proto::error::Error;
use troupe_proto::ids::ProducerId;

impl TxnHandle {
    /// The producer that an instance is from now on. `ids`: for the actor, if it has none at hand.
    ///
    /// # Errors
    /// Among others `CONCURRENT_TRANSACTIONS` while what was open is being aborted, `PRODUCER_FENCED`.
    pub async fn init(
        &self,
        request: Initialise,
        ids: Vec<ProducerId>,
        time: RequestTime,
    ) -> Result<Producer, Error> {
        let answer = self.ask(|reply| Init { request, ids, time, reply }).await?;
        self.told(answer.map(|answer| answer.and_then(|it| it))).await
    }

    /// These become part of the transaction, all or none.
    ///
    /// # Errors
    /// Among others `CONCURRENT_TRANSACTIONS`, `PRODUCER_FENCED`, `INVALID_PRODUCER_ID_MAPPING`.
    pub async fn add(&self, request: AddTo, time: RequestTime) -> Result<(), Error> {
        let answer = self.ask(|reply| Add { request, time, reply }).await?;
        let is_news = self.told(answer).await?;
        if is_news {
            return Ok(());
        }
        // Nothing was written that would tell whether another coordinates by now, to whom the transaction may be over.
        self.of_now(std::future::ready(Ok(Some(Ok(()))))).await
    }

    /// Whether partitions are part of the transaction.
    ///
    /// # Errors
    /// Among others `TRANSACTION_ABORTABLE`: one is not.
    pub async fn verify(&self, request: AddTo) -> Result<(), Error> {
        self.of_now(self.ask(|reply| Verify { request, reply })).await
    }

    /// Decides. The answer is what the producer is in its next transaction.
    ///
    /// # Errors
    /// Among others `INVALID_TRANSACTION_STATE`, `CONCURRENT_TRANSACTIONS`.
    pub async fn end(
        &self,
        (transactional_id, producer): (String, Producer),
        outcome: Outcome,
        ids: Vec<ProducerId>,
        time: RequestTime,
    ) -> Result<Producer, Error> {
        let end = |reply| End { transactional_id, producer, outcome, ids, time, reply };
        let answer = self.ask(end).await?;
        self.told(answer).await
    }

    /// Partitions have said that they have their markers. Returns when that is taken account of.
    ///
    /// # Errors
    /// Nobody coordinates here any more.
    pub async fn marked(&self, marked: Marked) -> Result<(), Error> {
        self.tell(marked).await
    }

    /// The transactional ids of this coordinator, by name.
    pub async fn list(&self) -> Result<Vec<Listing>, Error> {
        self.of_now(self.ask(|reply| List { reply })).await
    }

    /// # Errors
    /// Among others `TRANSACTIONAL_ID_NOT_FOUND`.
    pub async fn describe(&self, transactional_id: String) -> Result<Described, Error> {
        self.of_now(self.ask(|reply| Describe { transactional_id, reply })).await
    }

    /// Aborts what is open, and fences its producer.
    ///
    /// # Errors
    /// Among others `INVALID_TRANSACTION_STATE`.
    pub async fn abort(&self, transactional_id: String, time: RequestTime) -> Result<(), Error> {
        let answer = self.ask(|reply| Abort { transactional_id, time, reply }).await?;
        self.told(answer).await
    }
}
