//! What a schedule left behind: is everything there that must be, nothing that must not, and the same on every
//! replica?

use crate::nemesis::Faults;
use crate::workload::{Finished, Place};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use troupe_tests::{Cluster, History, PartitionAnomalies, Picture, ReplicaLog};

/// Figures and findings of one schedule.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sent: usize,
    pub acknowledged: usize,
    pub refused: usize,
    pub seen: usize,
    /// Of offsets: acknowledged, and answered.
    pub commits: u64,
    pub reads: u64,
    /// Leaders that were elected, after the first ones.
    pub elections: u32,
    /// Times that a replica truncated what its leader did not have.
    pub truncations: usize,
    /// Bytes of all partitions that were compared between replicas.
    pub compared: usize,
    /// By partition: what the producers' and readers' notes say of what is stored.
    pub partitions: BTreeMap<Place, PartitionAnomalies>,
    /// What readers met, what a fault brought to light, what differs between replicas.
    pub wrong: Vec<String>,
}

impl Verdict {
    /// Of notes and logs alone.
    pub fn of(finished: &Finished) -> Verdict {
        let mut verdict = Verdict { wrong: finished.wrong.clone(), ..Verdict::default() };
        (verdict.commits, verdict.reads) = (finished.commits, finished.reads);
        for (place, history) in &finished.histories {
            let sum = |count: fn(&History) -> usize| history.producers().map(count).sum::<usize>();
            verdict.sent += sum(History::sent);
            verdict.acknowledged += sum(History::acknowledged);
            verdict.refused += sum(History::refused);
            verdict.seen += history.seen();
            if history.undelivered() > 0 {
                let (topic, partition) = place;
                let count = history.undelivered();
                verdict
                    .wrong
                    .push(format!("{topic}-{partition}: {count} durable records undelivered"));
            }
            let anomalies = history.judge(&finished.stored[place]);
            if !anomalies.is_empty() {
                verdict.partitions.insert(place.clone(), anomalies);
            }
        }
        verdict
    }

    /// What there was to survive.
    pub fn add_events(&mut self, cluster: &Cluster, picture: &Picture) {
        self.elections = picture.partitions.iter().map(|partition| partition.leader_epoch).sum();
        self.truncations = cluster.times_said("cut its log");
    }

    /// What a fault brought to light.
    pub fn add_faults(&mut self, faults: &Faults) {
        self.wrong.extend(faults.wrong.iter().cloned());
    }

    /// Compares the replicas of nodes that have stopped, file by file.
    pub fn compare_replicas(&mut self, cluster: &Cluster, finished: &Finished) {
        let data: Vec<(i32, &Path)> = cluster.ids().map(|id| (id, cluster.data(id))).collect();
        for ((topic, partition), stored) in &finished.stored {
            let name = format!("{topic}-{partition}");
            match compare(&data, &name, stored.len()) {
                Ok(bytes) => self.compared += bytes,
                Err(found) => self.wrong.extend(found),
            }
        }
    }

    pub fn is_clean(&self) -> bool {
        self.partitions.is_empty() && self.wrong.is_empty()
    }

    /// Records that were lost, over all partitions and producers.
    pub fn count(&self, of: fn(&troupe_tests::Anomalies) -> usize) -> usize {
        let partitions = self.partitions.values();
        partitions.flat_map(|anomalies| &anomalies.producers).map(of).sum()
    }
}

/// The bytes of one replica, if all hold the same `records`.
fn compare(data: &[(i32, &Path)], name: &str, records: usize) -> Result<usize, Vec<String>> {
    let log = same(data, name)?;
    let offsets = log.offsets();
    if offsets.end - offsets.start != records as u64 {
        return Err(vec![format!("{name}: nodes hold {offsets:?}, {records} were read")]);
    }
    Ok(log.len())
}

/// The replica that all nodes have.
pub fn same(data: &[(i32, &Path)], name: &str) -> Result<ReplicaLog, Vec<String>> {
    let mut wrong = Vec::new();
    let mut logs = Vec::new();
    for (id, directory) in data {
        match ReplicaLog::read(&directory.join(name)) {
            Ok(log) => logs.push((id, log)),
            Err(what) => wrong.push(format!("node {id}: {what}")),
        }
    }
    let Some(((first, log), others)) = logs.split_first() else { return Err(wrong) };
    for (id, other) in others {
        if let Some(difference) = log.difference(other) {
            wrong.push(format!("{name} on nodes {first} and {id}: {difference}"));
        }
    }
    if wrong.is_empty() { Ok(log.clone()) } else { Err(wrong) }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { sent, acknowledged, refused, seen, compared, .. } = self;
        let unknown = sent - acknowledged - refused;
        write!(f, "{sent} records sent: {acknowledged} acknowledged, {refused} surely failed, ")?;
        write!(f, "{unknown} unknown; {seen} seen by readers; {} elections, ", self.elections)?;
        write!(f, "{} commits, {} reads of offsets; ", self.commits, self.reads)?;
        write!(f, "{} truncations; {compared} bytes compared; ", self.truncations)?;
        if self.is_clean() {
            return f.write_str("nothing is wrong");
        }
        for ((topic, partition), anomalies) in &self.partitions {
            write!(f, "\n    {topic}-{partition}: {anomalies}")?;
        }
        self.wrong.iter().try_for_each(|what| write!(f, "\n    {what}"))
    }
}
