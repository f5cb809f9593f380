//! Kafka's course, command by command as it is typed there: against `troupe dev --nodes 3` by the tools that
//! `troupe compat install` makes, with exit codes and columns; and against Apache Kafka itself, whose words are compared.
#![allow(clippy::unwrap_used, reason = "tests")]

mod kafka;
mod list;
mod ours;

use list::{Step, steps};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a command is typed again that is to become as it should be.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command came to.
#[derive(Clone, Debug)]
struct Said {
    code: i32,
    results: String,
    notices: String,
}

impl Said {
    /// Its lines as they are compared: without what only aligns.
    fn lines(&self) -> Vec<String> {
        let all = self.results.lines().chain(self.notices.lines());
        all.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

/// Who is typed to.
trait Cluster {
    fn server(&self) -> String;
    /// A directory of a partition of this topic that holds something.
    fn partition_directory(&self, topic: &str) -> String;
    fn run(&mut self, step: &Step, words: &[String]) -> Said;
}

/// What the commands read.
fn write_files(directory: &Path) {
    let lines: String = (1..=20).map(|number| format!("message {number}\n")).collect();
    for (name, text) in [
        ("keyed.txt", "k1:v1\nk2:v2\nk3:v3\n"),
        ("lines.txt", &lines),
        ("nokey.txt", "nokey\n"),
        ("move.json", r#"{"topics":[{"topic":"first"}],"version":1}"#),
        ("elect.json", r#"{"partitions":[{"topic":"first","partition":0}]}"#),
        ("offsets.csv", "first,0,0\n"),
        (
            "delete.json",
            r#"{"partitions":[{"topic":"placed","partition":0,"offset":-1},{"topic":"placed","partition":1,"offset":99999}],"version":1}"#,
        ),
        (
            "plan.json",
            r#"{"version":1,"partitions":[{"topic":"first","partition":0,"replicas":[3,1,2]},{"topic":"first","partition":1,"replicas":[1,2,3]}]}"#,
        ),
        (
            "nobroker.json",
            r#"{"version":1,"partitions":[{"topic":"first","partition":0,"replicas":[9]}]}"#,
        ),
    ] {
        fs::write(directory.join(name), text).unwrap();
    }
}

/// Types a step, until it is as it should be if it is one that becomes so; and what is wrong with it.
fn typed(cluster: &mut dyn Cluster, step: &Step) -> (Said, Option<String>) {
    let words: Vec<String> = step
        .words
        .iter()
        .map(|word| {
            let word = word.replace("{B}", &cluster.server());
            match word.contains("{LOG}") {
                true => word.replace("{LOG}", &cluster.partition_directory("first")),
                false => word,
            }
        })
        .collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let said = cluster.run(step, &words);
        let wrong = step.wrong_with(&said);
        if wrong.is_none() || !step.again || Instant::now() > until {
            return (said, wrong);
        }
        // What is waited for happens elsewhere: another look is all there is.
        std::thread::yield_now();
    }
}

#[test]
fn the_course_s_commands_do_and_say_what_is_taught() {
    let steps = steps();
    let mut cluster = ours::Ours::start();
    let mut wrong = Vec::new();
    for step in &steps {
        let (said, why) = typed(&mut cluster, step);
        if let Some(why) = why {
            wrong.push(format!("{}\n  {why}\n  {said:?}", step.line));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), steps.len(), wrong.join("\n"));
}

#[test]
fn every_tool_of_the_list_is_one_that_is_installed_and_the_other_way_round() {
    let installed = ours::tools();
    let mut typed: Vec<String> =
        steps().iter().map(|step| step.words[0].trim_end_matches(".sh").to_owned()).collect();
    typed.sort();
    typed.dedup();
    // What is refused as a whole has one of its kind in the list; a node is started by the course's other script.
    let others = [
        "kafka-groups",
        "kafka-server-start",
        "kafka-delegation-tokens",
        "kafka-console-share-consumer",
        "kafka-share-groups",
        "kafka-streams-groups",
        "kafka-client-metrics",
        "kafka-replica-verification",
        "kafka-mirror-maker",
    ];
    for tool in &typed {
        assert!(installed.contains(tool), "{tool} is not installed");
    }
    for tool in &installed {
        assert!(typed.contains(tool) || others.contains(&tool.as_str()), "{tool} is not typed");
    }
}

/// Three brokers of Kafka 4.1, from Maven: some minutes.
#[test]
#[ignore = "fetches Apache Kafka and starts three of its brokers: cargo test -p troupe-tests --test compat -- --ignored"]
fn apache_kafka_says_the_same_words_in_the_same_columns() {
    let mut theirs = match kafka::Kafka::start() {
        Ok(kafka) => kafka,
        Err(why) => {
            assert!(!troupe_tests::in_ci(), "{why}");
            return troupe_tests::skip(
                "apache_kafka_says_the_same_words_in_the_same_columns",
                &why,
            );
        }
    };
    let mut ours = ours::Ours::start();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for step in &steps() {
        let (our_said, our_wrong) = typed(&mut ours, step);
        if let Some(why) = our_wrong {
            wrong.push(format!("ours: {}\n  {why}\n  {our_said:?}", step.line));
        }
        if !step.has_class() {
            continue;
        }
        if step.differs {
            // Typed all the same: what comes behind it needs it.
            theirs.run_only(step);
            continue;
        }
        let (their_said, their_wrong) = typed(&mut theirs, step);
        if let Some(why) = their_wrong {
            wrong.push(format!("Kafka: {}\n  {why}\n  {their_said:?}", step.line));
        }
        compared += 1;
        let (our_words, their_words) = (step.compared(&our_said), step.compared(&their_said));
        if our_words != their_words {
            wrong.push(format!("{}\n  ours  {our_words:?}\n  Kafka {their_words:?}", step.line));
        }
    }
    assert!(compared > 70, "only {compared} were compared");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}
