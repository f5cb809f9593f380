//! A plan: the replicas that partitions are to have, in the JSON of Kafka's kafka-reassign-partitions.

use super::kept::is_cancelled;
use crate::exit::Exit;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Read;
use troupe_proto::admin::v1::PartitionState;

/// The only version there is.
const VERSION: i32 = 1;
/// Any of the node's directories.
const ANY: &str = "any";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub version: i32,
    pub partitions: Vec<PlannedPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedPartition {
    pub topic: String,
    pub partition: i32,
    /// The preferred leader first.
    pub replicas: Vec<i32>,
    /// One for each replica; `any`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_dirs: Vec<String>,
}

/// `topic-partition`, as Kafka's tools write it.
pub fn name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

impl Plan {
    pub fn new(partitions: Vec<PlannedPartition>) -> Plan {
        Plan { version: VERSION, partitions }
    }

    pub fn topics(&self) -> BTreeSet<String> {
        self.partitions.iter().map(|one| one.topic.clone()).collect()
    }

    /// Topics and numbers.
    pub fn keys(&self) -> BTreeSet<(String, i32)> {
        self.partitions.iter().map(|one| (one.topic.clone(), one.partition)).collect()
    }

    /// What these partitions have, and will have again if what is under way is cancelled, as Kafka's tools print it before
    /// they change it.
    pub fn of_states<'a>(states: impl Iterator<Item = &'a PartitionState>) -> Plan {
        let one = |state: &PartitionState| {
            let passing = match is_cancelled(state) {
                true => &state.removing_replicas,
                false => &state.adding_replicas,
            };
            let has = |node: &&i32| !passing.contains(node);
            let replicas: Vec<i32> = state.replicas.iter().filter(has).copied().collect();
            PlannedPartition {
                topic: state.topic.clone(),
                partition: state.partition,
                log_dirs: vec![ANY.to_owned(); replicas.len()],
                replicas,
            }
        };
        Plan::new(states.map(one).collect())
    }

    /// From a file; `-`: from standard input.
    ///
    /// # Errors
    /// It cannot be read, or is no plan: what is wrong with it.
    pub fn read(path: &str) -> Result<Plan, Failure> {
        let what = || format!("cannot read the plan {path}");
        let mut text = String::new();
        let read = match path {
            "-" => std::io::stdin().read_to_string(&mut text).map(drop),
            _ => std::fs::read_to_string(path).map(|read| text = read),
        };
        read.map_err(|error| Failure::new(Exit::Failed, what(), error))?;
        Plan::parse(&text).map_err(|cause| {
            let hint = "a plan is {\"version\":1,\"partitions\":[{\"topic\":\"orders\",\"partition\":0,\
                        \"replicas\":[1,2,3]}]}; `troupe reassign plan` writes one";
            Failure::new(Exit::Usage, what(), cause).with_hint(hint)
        })
    }

    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Plan, String> {
        let plan: Plan = serde_json::from_str(text).map_err(|error| error.to_string())?;
        plan.check()?;
        Ok(plan)
    }

    /// As one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and numbers can be written")
    }

    /// What is wrong whatever the cluster is.
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!(
                "it is of version {}; only version {VERSION} is known",
                self.version
            ));
        }
        if self.partitions.is_empty() {
            return Err("its list of partitions is empty".to_owned());
        }
        let mut named = BTreeSet::new();
        for planned in &self.partitions {
            let name = name(&planned.topic, planned.partition);
            if !named.insert((&planned.topic, planned.partition)) {
                return Err(format!("partition {name} is in it more than once"));
            }
            planned.check().map_err(|why| format!("partition {name}: {why}"))?;
        }
        Ok(())
    }
}

impl PlannedPartition {
    fn check(&self) -> Result<(), String> {
        if self.partition < 0 {
            return Err("partitions are numbered from 0".to_owned());
        }
        if self.replicas.is_empty() {
            return Err("its list of replicas is empty".to_owned());
        }
        for (at, node) in self.replicas.iter().enumerate() {
            if self.replicas[..at].contains(node) {
                return Err(format!("its list of replicas has {node} more than once"));
            }
        }
        if !self.log_dirs.is_empty() && self.log_dirs.len() != self.replicas.len() {
            return Err("it has another number of log_dirs than of replicas".to_owned());
        }
        if let Some(dir) = self.log_dirs.iter().find(|dir| *dir != ANY) {
            return Err(format!(
                "the directory `{dir}` cannot be chosen beforehand: say `any`, and move the replica with `troupe \
                 partition move-dir` when it is there"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the course writes it (A11, A14).
    #[test]
    fn kafkas_plans_are_read_and_written() {
        let text = r#"{"version":1,"partitions":[{"topic":"first","partition":0,"replicas":[2,3,0],"log_dirs":["any","any","any"]}]}"#;
        let plan = Plan::parse(text).unwrap();
        assert_eq!(plan.to_json(), text);
        let without = r#"{"partitions": [{"partition": 1, "topic": "three", "replicas": [1, 0]}], "version": 1}"#;
        let plan = Plan::parse(without).unwrap();
        assert_eq!(plan.partitions[0].replicas, [1, 0]);
        assert!(!plan.to_json().contains("log_dirs"));
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_said_before_anything_is_asked() {
        let says = |partitions: &str, words: &str| {
            let error = Plan::parse(&format!(r#"{{"version":1,"partitions":[{partitions}]}}"#));
            let error = error.unwrap_err();
            assert!(error.contains(words), "{partitions}: {error}");
        };
        says("", "empty");
        says(r#"{"topic":"a","partition":0,"replicas":[]}"#, "a-0: its list of replicas is empty");
        says(r#"{"topic":"a","partition":0,"replicas":[1,1]}"#, "has 1 more than once");
        says(r#"{"topic":"a","partition":-1,"replicas":[1]}"#, "numbered from 0");
        says(
            r#"{"topic":"a","partition":0,"replicas":[1]},{"topic":"a","partition":0,"replicas":[2]}"#,
            "partition a-0 is in it more than once",
        );
        says(r#"{"topic":"a","partition":0,"replicas":[1],"log_dirs":["/d"]}"#, "move-dir");
        says(r#"{"topic":"a","partition":0,"replicas":[1],"log_dirs":["any","any"]}"#, "number");
        says(r#"{"topic":"a","partition":0,"replicas":[1],"colour":"red"}"#, "colour");
        assert!(Plan::parse(r#"{"version":2,"partitions":[]}"#).unwrap_err().contains("version 2"));
        assert!(Plan::parse("replicas: 1").is_err());
    }
}
