//! Deliveries for single calls, of which nobody knows whether they arrive.

use super::draw::{MAX_NOTICES, Room};
use super::state::{News, Returned, Session};
use crate::operations::delivery::{Beside, MOST_BYTES, NoticeKind};
use crate::operations::subscriptions::ack_id::AckId;
use crate::operations::subscriptions::jobs;
use crate::operations::subscriptions::pulls::{Draw, PullAnswer};
use crate::operations::subscriptions::receipts::AnswerId;
use crate::operations::subscriptions::response::PullRest;
use crate::operations::subscriptions::unwritten::Unwritten;
use std::collections::VecDeque;
use tokio::time::Instant;
use troupe_proto::error::Error;

impl Session {
    /// Has those who wait for deliveries get some.
    ///
    /// # Errors
    /// What is stored is damaged.
    pub fn serve_draws<D: Beside<PullRest>>(
        &mut self,
        draws: &mut VecDeque<Draw<D>>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        draws.retain(|draw| !draw.reply.is_closed());
        // To those whose callers are about to give up, nothing is given any more.
        self.answer_overdue(draws, |draw| draw.answer_by.is_some_and(|by| by <= now));
        while let Some(draw) = draws.front()
            && (self.can_deliver() || !self.news.notices.is_empty())
        {
            let records = draw.max_records;
            let waiting = self.news.notices.len().min(MAX_NOTICES);
            let notices: Vec<_> = self.news.notices.drain(..waiting).collect();
            let rest = PullRest { notices };
            let space = self.options.takes.space(MOST_BYTES, D::bytes_beside(&rest));
            let mut deliveries = D::default();
            let ids = match self.draw(&mut deliveries, Room { records, space }) {
                Ok(ids) => ids,
                Err(error) if rest.notices.is_empty() => return Err(error),
                // The next call fails again: what else there is to say goes first.
                Err(_) => Vec::new(),
            };
            if ids.is_empty() && rest.notices.is_empty() {
                match self.news.notices.is_empty() {
                    true => break,
                    // Come up just now.
                    false => continue,
                }
            }
            let Some(draw) = draws.pop_front() else { break };
            let answer = self.answer(deliveries, ids, rest, &draw);
            // Whoever asked may be gone: then the answer comes back.
            let _ = draw.reply.send(Ok(answer));
        }
        self.answer_overdue(draws, |draw| draw.until <= now);
        Ok(())
    }

    /// Nothing came in time.
    fn answer_overdue<D: Beside<PullRest>>(
        &self,
        draws: &mut VecDeque<Draw<D>>,
        is_overdue: impl Fn(&Draw<D>) -> bool,
    ) {
        while let Some(at) = draws.iter().position(&is_overdue) {
            let Some(draw) = draws.remove(at) else { return };
            let notices = self.blocked.values().take(MAX_NOTICES).cloned().collect();
            let (deliveries, rest) = (D::default(), PullRest { notices });
            let answer = PullAnswer { deliveries, rest, unwritten: Unwritten::default() };
            // Whoever asked may be gone.
            let _ = draw.reply.send(Ok(answer));
        }
    }

    /// An answer that tells if it does not reach whoever asked.
    fn answer<D>(
        &mut self,
        deliveries: D,
        ids: Vec<AckId>,
        rest: PullRest,
        draw: &Draw<D>,
    ) -> PullAnswer<D> {
        let id =
            (!ids.is_empty() && !self.options.auto_ack).then(|| self.expect_receipt(ids, draw));
        if id.is_none() && rest.notices.is_empty() {
            return PullAnswer { deliveries, rest, unwritten: Unwritten::default() };
        }
        let (back, notices) = (self.returned.0.clone(), rest.notices.clone());
        let unwritten = Unwritten::new(move || {
            // The session may have ended, and given everything back.
            let _ = back.send(Returned { answer: id, notices });
        });
        PullAnswer { deliveries, rest, unwritten }
    }

    /// These go out to somebody from whom it is not known yet whether they arrive.
    fn expect_receipt<D>(&mut self, ids: Vec<AckId>, draw: &Draw<D>) -> AnswerId {
        let (now, lease) = (Instant::now(), self.options.max_processing);
        let (id, closed) = self.receipts.open(ids, now, draw.deadline, lease);
        if let Some(connection) = draw.connection.clone() {
            self.jobs.push(Box::pin(jobs::connection_broke(connection, closed, id)));
        }
        id
    }

    /// An answer reached nobody: what it gave is given again, and what it said is said again.
    pub(super) fn on_returned(&mut self, Returned { answer, notices }: Returned) {
        if let Some(answer) = answer {
            let lost = self.receipts.lost(answer);
            self.take_back(lost);
        }
        for notice in notices.into_iter().rev() {
            self.news.notices.push_front(notice);
        }
    }

    /// Of what is to be told, single calls hear only what they would miss: records that do not come.
    pub fn keep_news_for_calls(&mut self) {
        let News { results, assignment, notices } = &mut self.news;
        (*results, *assignment) = (VecDeque::new(), None);
        notices.retain(|it| {
            matches!(it.kind, NoticeKind::RecordTooLarge(_) | NoticeKind::PositionLost(_))
        });
    }
}
