//! Answers that carry deliveries, with what they say beside them: as whole messages, when the client takes them.

use super::answer_writer::{AnswerWriter, field_len, int_len, text_len};
use super::demand::DemandSender;
use super::event_bus_messages::{assignment, notice, settle_results};
use crate::operations::{
    Assignment, Beside, Gone, Notice, PullRest, Reader, SettleResult, SubscribeRest, TailRest,
};
use prost::Message;
use troupe_proto::v1 as pb;

/// What an answer says beside its records.
pub trait Rest: Send + 'static {
    /// The answer without any.
    type Answer: Message;

    /// As it is encoded.
    fn bytes(&self) -> usize;

    fn answer(self) -> Self::Answer;
}

fn notice_bytes(told: &Notice) -> usize {
    field_len(notice(told.clone()).encoded_len())
}

fn assignment_bytes(told: &Assignment) -> usize {
    field_len(assignment(told.clone()).encoded_len())
}

/// There may be one for each record: none is copied for that.
fn result_bytes(result: &SettleResult) -> usize {
    let outcome = pb::SettleOutcome::from(result.outcome) as i32;
    field_len(text_len(&result.ack_id) + int_len(outcome.into()))
}

impl Rest for TailRest {
    type Answer = pb::TailResponse;

    fn bytes(&self) -> usize {
        int_len(self.caught_up.into()) + self.notice.as_ref().map_or(0, notice_bytes)
    }

    fn answer(self) -> pb::TailResponse {
        let TailRest { caught_up, notice: told } = self;
        pb::TailResponse { deliveries: Vec::new(), caught_up, notice: told.map(notice) }
    }
}

impl Rest for SubscribeRest {
    type Answer = pb::SubscribeResponse;

    fn bytes(&self) -> usize {
        self.settle_results.iter().map(result_bytes).sum::<usize>()
            + self.assignment.as_ref().map_or(0, assignment_bytes)
            + self.notice.as_ref().map_or(0, notice_bytes)
    }

    fn answer(self) -> pb::SubscribeResponse {
        pb::SubscribeResponse {
            deliveries: Vec::new(),
            settle_results: settle_results(self.settle_results),
            assignment: self.assignment.map(assignment),
            notice: self.notice.map(notice),
        }
    }
}

impl Rest for PullRest {
    type Answer = pb::PullResponse;

    fn bytes(&self) -> usize {
        self.notices.iter().map(notice_bytes).sum()
    }

    fn answer(self) -> pb::PullResponse {
        let notices = self.notices.into_iter().map(notice).collect();
        pb::PullResponse { deliveries: Vec::new(), notices }
    }
}

impl<R: Rest> Beside<R> for AnswerWriter {
    fn bytes_beside(rest: &R) -> usize {
        rest.bytes()
    }
}

impl<R: Rest> Reader<R> for DemandSender {
    type Deliveries = AnswerWriter;

    async fn wanted(&self) -> Result<(), Gone> {
        DemandSender::wanted(self).await
    }

    fn send(&self, deliveries: AnswerWriter, rest: R) {
        DemandSender::send(self, deliveries.finish(&rest.answer()));
    }

    async fn closed(&self) {
        DemandSender::closed(self).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::SettleOutcome;
    use crate::operations::{NoticeKind, RESULT_BYTES, echo};
    use std::time::Duration;

    #[test]
    fn no_result_is_larger_than_it_counts() {
        let result =
            SettleResult { ack_id: echo("x".repeat(3 << 20)), outcome: SettleOutcome::UnknownId };
        let rest = SubscribeRest { settle_results: vec![result; 100], ..Default::default() };
        assert!(rest.answer().encoded_len() <= 100 * RESULT_BYTES);
    }

    #[test]
    fn what_is_said_beside_records_has_the_length_that_it_is_said_to_have() {
        let notice = |kind| Notice { kind, message: "n".repeat(200) };
        let draining = notice(NoticeKind::Draining { grace: Duration::from_secs(2) });
        let result = |outcome| SettleResult { ack_id: "1.2.3.4.5".to_owned(), outcome };
        let outcomes = [
            SettleOutcome::Unspecified,
            SettleOutcome::Accepted,
            SettleOutcome::LeaseLost,
            SettleOutcome::UnknownId,
            SettleOutcome::NotCommitted,
        ];
        let said = SubscribeRest {
            settle_results: outcomes.map(result).into(),
            assignment: Some(Assignment {
                partitions: (0..300).map(|number| ("topic".to_owned(), number)).collect(),
                member_epoch: 7,
                member_id: "m".to_owned(),
            }),
            notice: Some(draining.clone()),
        };
        for rest in [SubscribeRest::default(), said] {
            assert_eq!(rest.bytes(), rest.answer().encoded_len());
        }
        for rest in [
            TailRest::default(),
            TailRest { caught_up: true, notice: Some(notice(NoticeKind::CaughtUp)) },
        ] {
            assert_eq!(rest.bytes(), rest.answer().encoded_len());
        }
        for notices in [vec![], vec![draining; 16]] {
            let rest = PullRest { notices };
            assert_eq!(rest.bytes(), rest.answer().encoded_len());
        }
    }
}
