//! What is to become part of a transaction while the one before is being completed.

use super::message::Add;
use std::collections::HashMap;
use tokio::time::Instant;

/// Promise: however many wait, one timer has them looked at.
#[derive(Default)]
pub struct Waiting {
    /// By transactional id, in the order in which they came; and until when each waits.
    by_id: HashMap<String, Vec<(Add, Instant)>>,
    /// The timer runs.
    looks_soon: bool,
}

impl Waiting {
    /// Whether the caller has to set the timer.
    #[must_use]
    pub fn push(&mut self, add: Add, until: Instant) -> bool {
        let id = add.request.transactional_id.clone();
        self.by_id.entry(id).or_default().push((add, until));
        !std::mem::replace(&mut self.looks_soon, true)
    }

    /// Those of one id, whose transaction is completed.
    pub fn take(&mut self, transactional_id: &str) -> Vec<(Add, Instant)> {
        self.by_id.remove(transactional_id).unwrap_or_default()
    }

    /// All, for when the timer has rung.
    pub fn take_all(&mut self) -> Vec<(Add, Instant)> {
        self.looks_soon = false;
        std::mem::take(&mut self.by_id).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::RequestTime;
    use crate::txn::message::AddTo;
    use tokio::sync::oneshot;
    use troupe_machines::txn::{ClientVersion, Producer};
    use troupe_proto::ids::{ProducerEpoch, ProducerId};

    fn add(id: &str, group: &str) -> Add {
        let now = Instant::now();
        Add {
            request: AddTo {
                transactional_id: id.to_owned(),
                producer: Producer { id: ProducerId(1), epoch: ProducerEpoch(0) },
                version: ClientVersion::Second,
                partitions: Vec::new(),
                groups: vec![group.to_owned()],
            },
            time: RequestTime { came: now, until: now },
            reply: oneshot::channel().0,
        }
    }

    #[test]
    fn many_wait_in_order_for_one_timer() {
        let (mut waiting, until) = (Waiting::default(), Instant::now());
        assert!(waiting.push(add("a", "1"), until));
        assert!(!waiting.push(add("a", "2"), until));
        assert!(!waiting.push(add("b", "3"), until), "whatever they wait for");
        let groups = |taken: Vec<(Add, Instant)>| -> Vec<String> {
            taken.into_iter().flat_map(|(add, _)| add.request.groups).collect()
        };
        assert_eq!(groups(waiting.take("a")), ["1", "2"]);
        assert!(!waiting.push(add("a", "4"), until), "the timer runs still");
        assert_eq!(waiting.take_all().len(), 2);
        assert!(waiting.push(add("a", "5"), until));
        assert!(groups(waiting.take("c")).is_empty());
    }
}
