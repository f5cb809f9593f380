//! What a session consists of.

use super::assignment::Assignment;
use super::commits::Commits;
use crate::operations::delivery::{Notice, NoticeKind};
use crate::operations::subscriptions::ack_id::AckId;
use crate::operations::subscriptions::deliveries::{Deliveries, Terms};
use crate::operations::subscriptions::handles::Handles;
use crate::operations::subscriptions::intake::Intake;
use crate::operations::subscriptions::jobs::Job;
use crate::operations::subscriptions::membership::Membership;
use crate::operations::subscriptions::options::Options;
use crate::operations::subscriptions::receipts::{AnswerId, Receipts};
use crate::operations::subscriptions::response::{self, SettleResult};
use crate::operations::subscriptions::sessions::{Pledging, Registered};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use troupe_proto::ids::PartitionKey;

/// What is to be told beside the records.
#[derive(Default)]
pub struct News {
    pub results: VecDeque<SettleResult>,
    pub assignment: Option<response::Assignment>,
    pub notices: VecDeque<Notice>,
}

pub struct Session {
    pub(super) handles: Arc<Handles>,
    pub(super) options: Options,
    pub(super) registered: Registered,
    pub(super) membership: Membership,
    pub(super) assignment: Assignment,
    pub(super) deliveries: Deliveries,
    pub(super) intake: Intake,
    pub(super) commits: Commits,
    pub(super) jobs: FuturesUnordered<BoxFuture<'static, Job>>,
    pub(super) news: News,
    /// Partitions that stand still at a record that the client does not take.
    pub(super) blocked: BTreeMap<PartitionKey, Notice>,
    /// Answers to single calls that may not have arrived, and those that surely have not. Each is told once.
    pub(super) receipts: Receipts,
    pub(super) returned: (mpsc::UnboundedSender<Returned>, mpsc::UnboundedReceiver<Returned>),
    /// Who waits for deliveries to be pledged.
    pub(super) pledging: Vec<Pledging>,
    /// When somebody last settled something through another call.
    pub last_settled: Instant,
}

/// An answer to a single call that was not written.
pub struct Returned {
    pub answer: Option<AnswerId>,
    pub notices: Vec<Notice>,
}

impl Session {
    /// Begins to join.
    pub fn new(handles: &Arc<Handles>, host: String, options: Options) -> Session {
        let registered = Registered::new(Arc::clone(&handles.sessions));
        let terms = Terms {
            node: handles.node_id(),
            session: registered.id,
            max_processing: options.max_processing,
            auto_ack: options.auto_ack,
        };
        Session {
            membership: Membership::new(handles.coordination.clone(), host, options.member()),
            deliveries: Deliveries::new(terms, options.window.clone()),
            intake: Intake::new(Arc::clone(&handles.leaders), options.isolation),
            handles: Arc::clone(handles),
            options,
            registered,
            assignment: Assignment::default(),
            commits: Commits::default(),
            jobs: FuturesUnordered::new(),
            news: News::default(),
            blocked: BTreeMap::new(),
            receipts: Receipts::default(),
            returned: mpsc::unbounded_channel(),
            pledging: Vec::new(),
            last_settled: Instant::now(),
        }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn notify(&mut self, kind: NoticeKind, message: String) {
        self.news.notices.push_back(Notice { kind, message });
    }

    /// The node stops: the client has this long.
    pub fn announce_drain(&mut self, grace: Duration) {
        let message = "the node is stopping: acknowledge what is done, and connect to another";
        self.notify(NoticeKind::Draining { grace }, message.to_owned());
    }

    /// Deliveries that reached nobody.
    pub(super) fn take_back(&mut self, lost: Vec<AckId>) {
        for id in &lost {
            self.deliveries.take_back(id);
        }
    }

    /// Nothing goes out any more, and nothing that is out can be settled.
    pub fn give_up(&mut self) {
        self.deliveries.close();
        self.deliveries.recall_all();
    }

    /// Nothing goes out any more. What is out may still be settled.
    pub fn close(&mut self) {
        self.deliveries.close();
    }

    /// Nothing is out.
    pub fn is_settled(&self) -> bool {
        self.deliveries.out() == 0
            && self.commits.confirming() == 0
            && self.jobs.len() <= usize::from(self.commits.is_under_way())
    }
}
