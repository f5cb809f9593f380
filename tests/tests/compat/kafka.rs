//! Apache Kafka 4.1 from Maven: three brokers in processes of their own, and one process that runs the tools' classes one
//! after the other (`Typist.java`).

use super::list::Step;
use super::ours::find;
use super::{Cluster, Said, write_files};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;
use troupe_tests::{clients_directory, free_ports, temporary_directory};

const VERSION: &str = "4.1.0";

/// Kafka's classes, by the scripts that start them.
const CLASSES: [(&str, &str); 21] = [
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
    ("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
    ("kafka-dump-log", "kafka.tools.DumpLogSegments"),
    ("kafka-run-class", "kafka.tools.DumpLogSegments"),
    ("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
    ("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
    ("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
    ("kafka-e2e-latency", "org.apache.kafka.tools.EndToEndLatency"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    ("kafka-transactions", "org.apache.kafka.tools.TransactionsCommand"),
    ("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
    ("kafka-storage", "kafka.tools.StorageTool"),
    ("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
    ("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
    ("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
];

/// Small, and quick to start.
const JAVA: [&str; 4] =
    ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.security.manager=allow"];

pub struct Kafka {
    directory: TempDir,
    brokers: Vec<Child>,
    server: String,
    typist: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Kafka {
    fn drop(&mut self) {
        for process in self.brokers.iter_mut().chain([&mut self.typist]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Where its classes are; fetched once.
fn libraries() -> Result<PathBuf, String> {
    let place = clients_directory().join(format!("kafka-{VERSION}"));
    let libraries = place.join("lib");
    if libraries.join(".whole").exists() {
        return Ok(libraries);
    }
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(&place).map_err(failed)?;
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>dev.troupe</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>{}{}{}</dependencies>\
         </project>",
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        dependency("org.slf4j", "slf4j-nop", "1.7.36"),
    );
    fs::write(place.join("pom.xml"), pom).map_err(failed)?;
    let fetched = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"])
        .current_dir(&place)
        .output()
        .map_err(|error| format!("mvn cannot be run: {error}"))?;
    if !fetched.status.success() {
        return Err(format!("Maven: {}", String::from_utf8_lossy(&fetched.stdout)));
    }
    File::create(libraries.join(".whole")).map_err(failed)?;
    Ok(libraries)
}

fn java(class_path: &str) -> Command {
    let mut java = Command::new("java");
    java.args(JAVA).args(["-cp", class_path]);
    java
}

fn configuration(directory: &Path, node: usize, ports: &[u16]) -> PathBuf {
    let (controller, port) = (ports[0], ports[node]);
    let (roles, listeners) = match node {
        1 => ("broker,controller", format!(",CONTROLLER://127.0.0.1:{controller}")),
        _ => ("broker", String::new()),
    };
    let path = directory.join(format!("server-{node}.properties"));
    let text = format!(
        "node.id={node}\nprocess.roles={roles}\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\nlisteners=PLAINTEXT://127.0.0.1:{port}{listeners}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={}\n\
         auto.create.topics.enable=false\noffsets.topic.num.partitions=3\noffsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=3\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
        directory.join(format!("data-{node}")).display()
    );
    fs::write(&path, text).unwrap();
    path
}

impl Kafka {
    /// # Errors
    /// Why it cannot be had: no Java, no Maven, no registry.
    pub fn start() -> Result<Kafka, String> {
        let libraries = libraries()?;
        let directory = temporary_directory();
        write_files(directory.path());
        let class_path = format!("{}:{}/*", directory.path().display(), libraries.display());
        let compiled = Command::new("javac")
            .args(["-nowarn", "-cp", &class_path, "-d"])
            .arg(directory.path())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/Typist.java"))
            .output()
            .map_err(|error| format!("javac cannot be run: {error}"))?;
        if !compiled.status.success() {
            return Err(format!("javac: {}", String::from_utf8_lossy(&compiled.stderr)));
        }
        let ports = free_ports(4);
        let log = |name: &str| File::create(directory.path().join(name)).unwrap();
        let mut brokers = Vec::new();
        for node in 1..=3 {
            let properties = configuration(directory.path(), node, &ports);
            let formatted = java(&class_path)
                .args(["kafka.tools.StorageTool", "format", "-t", "Hw5uyeFGR4uRLzVyrSRpQA", "-c"])
                .arg(&properties)
                .output()
                .map_err(|error| format!("java cannot be run: {error}"))?;
            if !formatted.status.success() {
                return Err(format!("format: {}", String::from_utf8_lossy(&formatted.stderr)));
            }
            let broker = java(&class_path)
                .arg("kafka.Kafka")
                .arg(&properties)
                .stdin(Stdio::null())
                .stdout(log(&format!("broker-{node}.log")))
                .stderr(Stdio::null())
                .spawn();
            brokers.push(broker.map_err(|error| error.to_string())?);
        }
        let mut typist = java(&class_path)
            .arg("Typist")
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log("typist.log"))
            .spawn()
            .map_err(|error| error.to_string())?;
        let (ask, answers) = (typist.stdin.take().unwrap(), typist.stdout.take().unwrap());
        let server = format!("127.0.0.1:{}", ports[1]);
        let answers = BufReader::new(answers);
        let mut kafka = Kafka { directory, brokers, server, typist, ask, answers };
        kafka.wait_for_all()?;
        Ok(kafka)
    }

    fn wait_for_all(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            let words = ["cluster", "list-endpoints", "--bootstrap-server", &self.server.clone()]
                .map(str::to_owned);
            let said = self.ask_for(class("kafka-cluster"), &words[1..], None);
            if said.results.matches("unfenced").count() == 3 {
                return Ok(());
            }
        }
        Err("the brokers do not come up".to_owned())
    }

    fn ask_for(&mut self, class: &str, words: &[String], input: Option<&str>) -> Said {
        let line: Vec<&str> = [class, input.unwrap_or("")]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        writeln!(self.ask, "{}", line.join("\u{1}")).unwrap();
        let mut head = String::new();
        self.answers.read_line(&mut head).unwrap();
        let numbers: Vec<i64> = head.split_whitespace().map(|it| it.parse().unwrap()).collect();
        let mut part = |length: i64| {
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            self.answers.read_exact(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (results, notices) = (part(numbers[1]), part(numbers[2]));
        part(1);
        Said { code: i32::try_from(numbers[0]).unwrap(), results, notices }
    }

    /// Once, whatever comes of it.
    pub fn run_only(&mut self, step: &Step) {
        let directory = self.directory.path().to_owned();
        let words: Vec<String> = step
            .words
            .iter()
            .map(|word| {
                let log = || find(&directory, "first").unwrap_or_default().display().to_string();
                let word = word.replace("{B}", &self.server);
                if word.contains("{LOG}") { word.replace("{LOG}", &log()) } else { word }
            })
            .collect();
        self.run(step, &words);
    }
}

fn class(tool: &str) -> &'static str {
    let (_, class) = CLASSES.iter().find(|(name, _)| *name == tool).expect("it has a class");
    class
}

impl Cluster for Kafka {
    fn server(&self) -> String {
        self.server.clone()
    }

    fn partition_directory(&self, topic: &str) -> String {
        find(self.directory.path(), topic).unwrap().display().to_string()
    }

    fn run(&mut self, step: &Step, words: &[String]) -> Said {
        let tool = words[0].trim_end_matches(".sh");
        // kafka-run-class has the class as its first word.
        let behind = if tool == "kafka-run-class" { 2 } else { 1 };
        self.ask_for(class(tool), &words[behind..], step.input.as_deref())
    }
}
