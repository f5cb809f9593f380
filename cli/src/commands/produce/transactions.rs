//! The transactions that records are sent in: so many in each, and none is left open for long while the input is slow.
//! What is full is committed while the next one is read.

use crate::failure::{Context, Failure};
use futures::FutureExt;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use troupe_client::{Committing, Producer, TransactionError};

/// A transaction that is not full after this is committed: readers of committed records wait for it.
const LONGEST: Duration = Duration::from_secs(1);

/// What was committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Committed {
    pub transactions: u64,
    pub records: u64,
}

pub struct Transactions {
    producer: Producer,
    /// Records in each.
    size: u64,
    /// Records in the one that is open; none is if there are none.
    open: u64,
    since: Instant,
    /// Commits that were asked for, with the records of each.
    asked: VecDeque<(Committing, u64)>,
    pub committed: Committed,
}

impl Transactions {
    /// Fences whoever has the transactional id.
    pub async fn start(producer: &Producer, size: u64) -> Result<Transactions, Failure> {
        let ready = producer.init_transactions().await;
        ready.with_context(|| "cannot begin transactions".to_owned())?;
        Ok(Transactions {
            producer: producer.clone(),
            size,
            open: 0,
            since: Instant::now(),
            asked: VecDeque::new(),
            committed: Committed::default(),
        })
    }

    /// A record is about to be sent.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        if self.open == 0 {
            let begun = self.producer.begin_transaction().await;
            begun.with_context(|| "cannot begin a transaction".to_owned())?;
            self.since = Instant::now();
        }
        self.open += 1;
        Ok(())
    }

    /// A record was sent.
    pub async fn commit_if_full(&mut self) -> Result<(), Failure> {
        if self.open < self.size {
            return Ok(());
        }
        let asked = self.producer.start_commit().await;
        self.asked.push_back((asked.with_context(commit)?, self.open));
        self.open = 0;
        while let Some((committing, records)) = self.asked.front_mut() {
            let Some(committed) = committing.now_or_never() else { break };
            committed.with_context(commit)?;
            self.committed.add(*records);
            self.asked.pop_front();
        }
        Ok(())
    }

    /// When what is open is committed however few records are in it. None: nothing is.
    pub fn due(&self) -> Option<Instant> {
        (self.open > 0).then(|| self.since + LONGEST)
    }

    /// What is open, behind all that is asked for. May be dropped while it waits, and called again.
    pub async fn commit(&mut self) -> Result<(), Failure> {
        self.answered().await?;
        if self.open == 0 {
            return Ok(());
        }
        let committed = self.producer.commit_transaction().await;
        committed.with_context(commit)?;
        self.committed.add(self.open);
        self.open = 0;
        Ok(())
    }

    async fn answered(&mut self) -> Result<(), Failure> {
        while let Some((committing, records)) = self.asked.front_mut() {
            let committed = committing.await;
            let records = *records;
            self.asked.pop_front();
            committed.with_context(commit)?;
            self.committed.add(records);
        }
        Ok(())
    }

    /// No more records come: what is open is committed if it is whole, and aborted if not.
    pub async fn finish(&mut self, is_whole: bool) -> Result<(), Failure> {
        if is_whole || self.open == 0 {
            return self.commit().await;
        }
        let answered = self.answered().await;
        match self.producer.abort_transaction().await {
            // Somebody has asked for it already: there is no way back.
            Err(TransactionError::IllegalState { .. }) => self.commit().await,
            // Who is fenced has nothing open any more.
            Ok(()) | Err(TransactionError::Fatal(_)) => answered,
            Err(error) => Err(error).with_context(|| "cannot abort the transaction".to_owned()),
        }
    }
}

impl Committed {
    fn add(&mut self, records: u64) {
        self.transactions += 1;
        self.records += records;
    }
}

fn commit() -> String {
    "cannot commit the transaction".to_owned()
}
