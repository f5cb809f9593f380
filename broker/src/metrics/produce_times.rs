//! How long appends take, and which of their stages takes it.

use super::stages::{STAGES, Stages};
use metrics::{Histogram, histogram};
use std::time::Duration;

/// How long appends take, of all topics of a node.
#[derive(Clone)]
pub struct ProduceTimes {
    seconds: Histogram,
    stages: [Histogram; STAGES.len()],
}

impl ProduceTimes {
    pub(super) fn new(node: &str) -> Self {
        let label = || node.to_owned();
        Self {
            seconds: histogram!("troupe_produce_seconds", "node" => label()),
            stages: STAGES.map(|stage| {
                histogram!("troupe_produce_stage_seconds", "node" => label(), "stage" => stage)
            }),
        }
    }

    pub(super) fn record(&self, took: Duration, stages: &Stages) {
        self.seconds.record(took);
        if let Some(split) = stages.split(took) {
            self.stages.iter().zip(split).for_each(|(stage, took)| stage.record(took));
        }
    }
}
