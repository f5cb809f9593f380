//! The order of requests about one topic or node, whichever way they took.
//!
//! A request that was forwarded may lie in a connection that is cut for longer than its caller waits, and longer than a
//! later request takes by another way. Carried out then, it would undo what was decided, and acknowledged, since. So
//! each says when it began, in the controller's time; one that began before the last decision about the same is
//! refused, and surely was not done. What another controller has decided in the meantime is not known here.

use crate::latest::{KEPT_MS, Latest};
use crate::time::Time;
use troupe_proto::ids::NodeId;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Topic(String),
    Node(NodeId),
    /// Of all partitions: one request may name many.
    Reassignments,
    /// What is set for all brokers.
    Cluster,
}

/// When something was decided last, in the life of one controller.
#[derive(Clone, Debug, Default)]
pub struct DecisionOrder {
    decided: Latest<Subject>,
}

impl DecisionOrder {
    /// Whether something about the same was decided after a request began, or that is not known any more.
    pub fn is_overtaken(&self, now: Time, began: Time, subject: &Subject) -> bool {
        let newest = self.decided.of(subject).unwrap_or_default();
        began < newest || began.plus(KEPT_MS) < now
    }

    /// This was decided now.
    pub fn note(&mut self, now: Time, subject: Subject) {
        self.decided.note(now, subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Subject {
        Subject::Topic(name.to_owned())
    }

    #[test]
    fn what_began_before_the_last_decision_about_the_same_is_overtaken() {
        let mut order = DecisionOrder::default();
        order.note(Time(2_000), topic("a"));
        let overtaken =
            |began, subject: &Subject| order.is_overtaken(Time(2_500), Time(began), subject);
        assert!(overtaken(1_999, &topic("a")));
        assert!(!overtaken(2_000, &topic("a")));
        assert!(!overtaken(1_999, &topic("b")));
        assert!(!overtaken(1_999, &Subject::Node(NodeId(1))));
    }

    #[test]
    fn nothing_is_remembered_for_ever_and_nothing_older_is_taken() {
        let mut order = DecisionOrder::default();
        for second in 0..1_000 {
            order.note(Time(second * 1_000), topic(&format!("{}", second % 100)));
        }
        let (subjects, decisions) = order.decided.remembered();
        assert!(subjects <= 61 && decisions <= 61);
        let now = Time(999_000);
        assert!(order.is_overtaken(now, Time(999_000 - KEPT_MS - 1), &topic("never")));
        assert!(!order.is_overtaken(now, Time(999_000 - KEPT_MS), &topic("never")));
    }
}
