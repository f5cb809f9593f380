//! Producers that do what the contract says: one call at a time, asked again until it is answered.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use truth::{Number, Truth};

/// What a coordinator is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    Init {
        known: Option<Producer>,
    },
    Add {
        producer: Producer,
        partition: TxnPartition,
    },
    End {
        producer: Producer,
        outcome: Outcome,
        number: Number,
    },
    /// Of a partition: with `adds`, its leader makes it part of the transaction.
    Write {
        batch: partitions::Batch,
        partition: TxnPartition,
        adds: bool,
    },
}

/// What comes of it: who the producer is, if that is what was asked.
pub type Answer = Result<Option<Producer>, ErrorCode>;

/// A transaction as the client has it.
#[derive(Debug)]
struct Open {
    number: Number,
    /// Known to be part of it.
    added: BTreeSet<TxnPartition>,
    /// It failed somewhere: nothing but an abort is left.
    failed: bool,
    /// What was sent may still arrive.
    in_doubt: bool,
}

#[derive(Debug)]
pub struct Client {
    pub id: &'static str,
    pub version: ClientVersion,
    producer: Option<Producer>,
    open: Option<Open>,
    sequences: BTreeMap<TxnPartition, u32>,
    /// The number of the call that is under way, and what is asked.
    call: u64,
    asked: Option<Ask>,
    /// It has been fenced.
    pub closed: bool,
}

impl Client {
    pub fn new(id: &'static str, version: ClientVersion) -> Client {
        Client {
            id,
            version,
            producer: None,
            open: None,
            sequences: BTreeMap::new(),
            call: 0,
            asked: None,
            closed: false,
        }
    }

    /// What it asks next, or once more.
    pub fn act(
        &mut self,
        chance: &mut Chance,
        truth: &mut Truth,
        existing: &[TxnPartition],
    ) -> Option<(u64, Ask)> {
        if self.closed {
            return None;
        }
        let gives_up = chance.one_in(4);
        match &self.asked {
            Some(Ask::Add { .. } | Ask::Write { .. }) if gives_up => self.doubt(),
            Some(asked) => return Some((self.call, asked.clone())),
            None => {}
        }
        let asked = self.next(chance, truth, existing)?;
        self.call += 1;
        self.asked = Some(asked.clone());
        Some((self.call, asked))
    }

    fn next(
        &mut self,
        chance: &mut Chance,
        truth: &mut Truth,
        existing: &[TxnPartition],
    ) -> Option<Ask> {
        let Some(producer) = self.producer else { return Some(Ask::Init { known: None }) };
        let open = self.open.get_or_insert_with(|| Open {
            number: truth.begin(),
            added: BTreeSet::new(),
            failed: false,
            in_doubt: false,
        });
        if open.failed || (!open.added.is_empty() && chance.one_in(3)) {
            // An epoch in which something is under way, or in which nothing may have begun, is left behind.
            let stays = self.version == ClientVersion::First;
            if open.failed && (open.added.is_empty() || (stays && open.in_doubt)) {
                return Some(Ask::Init { known: Some(producer) });
            }
            let aborts = open.failed || chance.one_in(3);
            let outcome = if aborts { Outcome::Abort } else { Outcome::Commit };
            return Some(Ask::End { producer, outcome, number: open.number });
        }
        let partition = existing.get(chance.below(existing.len()))?.clone();
        let adds = self.version == ClientVersion::Second && chance.one_in(2);
        if !adds && !open.added.contains(&partition) {
            return Some(Ask::Add { producer, partition });
        }
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        let batch = partitions::Batch { producer, sequence, number: open.number };
        Some(Ask::Write { batch, partition, adds })
    }

    fn doubt(&mut self) {
        self.asked = None;
        if let Some(open) = &mut self.open {
            (open.failed, open.in_doubt) = (true, true);
        }
    }

    pub fn hear(&mut self, of: usize, call: u64, answer: Answer, truth: &mut Truth) {
        if call != self.call || self.closed {
            return;
        }
        let Some(asked) = self.asked.clone() else { return };
        match (asked, answer) {
            // The same again, later.
            (
                _,
                Err(
                    ErrorCode::ConcurrentTransactions
                    | ErrorCode::Overtaken
                    | ErrorCode::CoordinatorNotAvailable,
                ),
            ) => return,
            (
                Ask::Init { .. } | Ask::Add { .. } | Ask::End { .. },
                Err(ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping),
            ) => {
                truth.seen.note("a fenced producer refused");
                self.closed = true;
            }
            (Ask::Init { .. }, Ok(Some(producer))) => {
                truth.is_given(of, producer);
                if let Some(open) = self.open.take() {
                    truth.is_told(open.number, Outcome::Abort);
                }
                self.is_now(producer);
            }
            (Ask::End { outcome, number, .. }, Ok(Some(producer))) => {
                truth.is_given(of, producer);
                truth.is_told(number, outcome);
                self.open = None;
                self.is_now(producer);
            }
            (Ask::Add { partition, .. }, Ok(_)) => {
                if let Some(open) = &mut self.open {
                    open.added.insert(partition);
                }
            }
            (Ask::Write { batch, partition, .. }, Ok(_)) => {
                self.sequences.insert(partition.clone(), batch.sequence + 1);
                if let Some(open) = &mut self.open {
                    open.added.insert(partition);
                }
            }
            (Ask::Add { .. }, Err(ErrorCode::UnknownTopic | ErrorCode::UnknownPartition))
            | (
                Ask::Write { .. },
                Err(
                    ErrorCode::UnknownTopic
                    | ErrorCode::ProducerFenced
                    | ErrorCode::InvalidProducerIdMapping
                    | ErrorCode::OutOfOrderSequence
                    | ErrorCode::TransactionAbortable,
                ),
            ) => self.doubt(),
            (asked, answer) => {
                truth.fail(|| format!("client {of} asked {asked:?} and was told {answer:?}"));
            }
        }
        self.asked = None;
    }

    fn is_now(&mut self, producer: Producer) {
        if self.producer != Some(producer) {
            self.sequences.clear();
        }
        self.producer = Some(producer);
    }
}
