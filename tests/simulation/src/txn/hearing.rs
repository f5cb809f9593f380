//! What a producer with transactions is told, and concludes.

use super::TxnEvent;
use super::calls::{Answer, Asked};
use super::lanes::State;
use crate::clients::{Outcome as Concluded, Produced};
use crate::violation::{Checked, Violation};
use crate::world::{Event, World};
use troupe_machines::txn::Outcome;
use troupe_proto::error::ErrorCode;

/// So many times a batch is out of order until its transaction is given up.
const MOST_REFUSALS: u32 = 10;

impl World {
    pub fn call_timed_out(&mut self, me: usize, attempt: u64) {
        let sent = self.txn.clients[me].call.as_ref();
        if sent.is_some_and(|sent| sent.attempt == attempt && sent.again_at.is_none()) {
            self.ask_later(me);
        }
    }

    pub fn call_answered(&mut self, me: usize, attempt: u64, answer: Answer) -> Checked {
        let client = &mut self.txn.clients[me];
        let Some(sent) = client.call.take_if(|sent| sent.attempt == attempt) else {
            return Ok(());
        };
        match (sent.asked.clone(), answer) {
            (
                _,
                Err(
                    ErrorCode::ConcurrentTransactions
                    | ErrorCode::Overtaken
                    | ErrorCode::NotCoordinator
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::RequestTooLate
                    | ErrorCode::OutcomeUnknown,
                ),
            ) => {
                client.call = Some(sent);
                self.ask_later(me);
            }
            // it knows too little of the topic yet
            (Asked::Add { .. }, Err(ErrorCode::UnknownTopic)) => {
                client.call = Some(sent);
                self.ask_later(me);
            }
            (_, Err(ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping)) => {
                self.stop_client(me);
            }
            (Asked::Init { .. }, Ok(Some(producer))) => {
                self.txn.truth.given(me, producer)?;
                self.txn.clients[me].is_now(producer);
                self.txn_is_over(me, Outcome::Abort)?;
            }
            (Asked::End { outcome, .. }, Ok(Some(producer))) => {
                self.txn.truth.given(me, producer)?;
                self.txn.clients[me].is_now(producer);
                self.txn_is_over(me, outcome)?;
            }
            (Asked::Add { partition, .. }, Ok(_)) => {
                if let Some(open) = &mut client.open {
                    open.added.insert(partition.partition.0);
                }
            }
            (asked, answer) => {
                let what = format!("client {me} asked {asked:?} and was told {answer:?}");
                return Err(Violation::new("X8 calls are answered in kind", what));
            }
        }
        Ok(())
    }

    pub fn answer_txn_producer(
        &mut self,
        site: usize,
        client: usize,
        attempt: u64,
        result: Produced,
    ) -> bool {
        let known = &self.txn.clients[client];
        let (to, is_deaf) = (known.site, self.now < known.deaf_until);
        let event = TxnEvent::Produced { client, attempt, result };
        !is_deaf && self.send(site, to, Event::txn(event))
    }

    pub fn txn_produced(&mut self, me: usize, attempt: u64, result: Produced) {
        let client = &mut self.txn.clients[me];
        let found = client.lanes.iter().find_map(|(partition, lane)| {
            let sent = |state: State| matches!(state, State::Sent(of, _) if of == attempt);
            let at = lane.pending.iter().position(|batch| sent(batch.state));
            at.map(|at| (*partition, at))
        });
        let Some((partition, at)) = found else { return };
        let Some(lane) = client.lanes.get_mut(&partition) else { return };
        let batch = &mut lane.pending[at];
        let value = batch.value;
        let gives_up = match result {
            Produced::Ok(_) => {
                batch.state = State::Done;
                lane.refusals = 0;
                while lane.pending.pop_front_if(|batch| batch.state == State::Done).is_some() {}
                if let Some(open) = &mut client.open {
                    open.added.insert(partition);
                }
                self.txn_batch_concluded(partition, value, Concluded::Ok);
                return;
            }
            Produced::Failed(
                ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerIdMapping
                | ErrorCode::TransactionAbortable
                | ErrorCode::InvalidTransactionState,
            ) => true,
            Produced::Failed(ErrorCode::OutOfOrderSequence) => {
                lane.refusals += 1;
                lane.refusals > MOST_REFUSALS
            }
            Produced::Failed(_) | Produced::Unknown => false,
        };
        batch.state = State::Unsent;
        batch.in_doubt |= matches!(result, Produced::Unknown);
        lane.draining = true;
        if gives_up {
            self.txn_counts.failed_batches += 1;
            self.fail_client(me);
            return;
        }
        let (site, key) = (self.txn.clients[me].site, self.key(partition));
        let leader = self.guess_leader(site, &key);
        if let Some(lane) = self.txn.clients[me].lanes.get_mut(&partition) {
            lane.leader = leader;
        }
    }
}
