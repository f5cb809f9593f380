//! The session's place in its group: one member, over as many streams as it takes.

use super::coordination::{Coordination, Said, Told};
use crate::coordinator::is_elsewhere_for_now;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::{MemberStart, TopicPartitions};

/// How long a member that lost its stream looks for its coordinator.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);
/// How long leaving may take.
const GOODBYE: Duration = Duration::from_secs(1);

type Answers = BoxStream<'static, Result<Told, Error>>;
type Requests = mpsc::UnboundedSender<Said>;

enum Link {
    Opening(BoxFuture<'static, Result<(Requests, Answers), Error>>),
    Open(Requests, Answers),
    Closed,
}

/// What happened to the member.
pub enum Event {
    /// The epoch may be another. With an assignment: what it shall hold, and the number of that.
    Told(Option<(u64, Vec<TopicPartitions>)>),
    /// The stream broke. The member comes back, if it is told to.
    Broken,
    /// What it held may be somebody else's now. It joins anew, if it is told to.
    Expelled,
    /// It cannot be a member.
    Refused(Error),
}

pub struct Membership {
    coordination: Coordination,
    host: String,
    start: MemberStart,
    link: Link,
    member_id: String,
    epoch: u32,
    /// The group has taken the member in, once at least.
    was_member: bool,
    broken_since: Option<Instant>,
}

impl Membership {
    /// Joins as a new member.
    pub fn new(coordination: Coordination, host: String, start: MemberStart) -> Membership {
        let mut membership = Membership {
            coordination,
            host,
            start,
            link: Link::Closed,
            member_id: String::new(),
            epoch: 0,
            was_member: false,
            broken_since: None,
        };
        membership.open(Vec::new(), Duration::ZERO);
        membership
    }

    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Joins anew, holding nothing.
    pub fn join(&mut self) {
        (self.member_id, self.epoch) = (String::new(), 0);
        self.open(Vec::new(), RETRY);
    }

    /// Comes back after a broken stream, with what the member holds.
    pub fn resume(&mut self, owned: Vec<TopicPartitions>) {
        let owned = if self.member_id.is_empty() { Vec::new() } else { owned };
        self.open(owned, RETRY);
    }

    fn open(&mut self, owned: Vec<TopicPartitions>, wait: Duration) {
        let start = MemberStart {
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            owned,
            ..self.start.clone()
        };
        let (coordination, host) = (self.coordination.clone(), self.host.clone());
        let opening = async move {
            sleep(wait).await;
            let (requests, stream) = mpsc::unbounded();
            // It is taken: the other end is here.
            let _ = requests.unbounded_send(Said::Start(start));
            let answers = coordination.run_member(host, stream.boxed()).await?;
            Ok((requests, answers))
        };
        self.link = Link::Opening(opening.boxed());
    }

    /// What happens next. May be dropped at any time.
    pub async fn next(&mut self) -> Event {
        loop {
            let answer = match &mut self.link {
                Link::Opening(opening) => match opening.await {
                    Ok((requests, answers)) => {
                        self.link = Link::Open(requests, answers);
                        continue;
                    }
                    Err(error) => Some(Err(error)),
                },
                Link::Open(_, answers) => answers.next().await,
                Link::Closed => std::future::pending().await,
            };
            match answer {
                Some(Ok(told)) => return self.on_told(told),
                Some(Err(error)) => return self.on_error(error),
                None => {
                    let message = "the group's coordinator ended the membership's stream";
                    return self.on_error(Error::new(ErrorCode::CoordinatorNotAvailable, message));
                }
            }
        }
    }

    fn on_told(&mut self, told: Told) -> Event {
        (self.was_member, self.broken_since) = (true, None);
        if !told.member_id.is_empty() {
            self.member_id = told.member_id;
        }
        self.epoch = told.member_epoch;
        Event::Told(told.assignment)
    }

    fn on_error(&mut self, error: Error) -> Event {
        self.link = Link::Closed;
        match error.code {
            ErrorCode::UnknownMember | ErrorCode::FencedMemberEpoch => Event::Expelled,
            _ if !self.was_member || !is_passing(&error) => Event::Refused(error),
            _ => {
                let now = Instant::now();
                let since = *self.broken_since.get_or_insert(now);
                if now.duration_since(since) < PATIENCE {
                    Event::Broken
                } else {
                    Event::Refused(error)
                }
            }
        }
    }

    /// The member holds exactly what the assignment of that number said.
    pub fn applied(&self, number: u64) {
        self.tell(Said::Applied(number));
    }

    fn tell(&self, said: Said) {
        if let Link::Open(requests, _) = &self.link {
            // What a stream that has ended does not take, the next assignment makes good.
            let _ = requests.unbounded_send(said);
        }
    }

    /// Goes for good.
    pub async fn leave(mut self) {
        self.tell(Said::Leave);
        if let Link::Open(requests, answers) = &mut self.link {
            requests.close_channel();
            let gone = async { while let Some(Ok(_)) = answers.next().await {} };
            // Whoever does not hear it finds out by himself.
            let _ = tokio::time::timeout(GOODBYE, gone).await;
        }
    }
}

/// Whether a member that was in the group may come back a little later, as the same.
fn is_passing(error: &Error) -> bool {
    error.code == ErrorCode::Throttled || is_elsewhere_for_now(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_coordinator_costs_nobody_the_membership() {
        for code in [ErrorCode::Throttled, ErrorCode::CoordinatorLoading] {
            assert!(is_passing(&Error::new(code, "")), "{code:?}");
        }
        assert!(!is_passing(&Error::new(ErrorCode::FencedInstanceId, "")));
    }
}
