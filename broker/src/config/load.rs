//! A configuration from its sources: every key is applied, or it is said what becomes of it.
//!
//! Promises: what comes later counts before what comes earlier; all faults are told at once, and with any of them there is
//! no configuration; of each value it is known where it comes from.
//! Never here: what makes no sense in a configuration.

use super::kafka_keys::{self, Fate};
use super::sources::{ConfigFile, ConfigSources, FileFormat, Origin, Written};
use super::{ConfigFaults, NodeConfig, file};
use std::collections::BTreeMap;
use std::fmt;
use troupe_controller::Voter;
use troupe_machines::config::nearest;

/// Keys that say in one line what `listeners` says in another.
const SHORT_FORMS: [&str; 3] = ["listener", "controller.listener", "advertised.listener"];

/// A key that was taken and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub key: String,
    pub value: String,
    pub origin: Origin,
    /// Why, and what takes its place.
    pub reason: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { key, value, origin, reason } = self;
        write!(f, "{key}={value} ({origin}): {reason}")
    }
}

/// A node's configuration, with all that is known of where it comes from.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub config: NodeConfig,
    /// What has no origin here has its default.
    origins: BTreeMap<String, Origin>,
    /// What was set and has no effect.
    pub notes: Vec<Note>,
}

impl Configuration {
    /// Where the value of this key comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

impl NodeConfig {
    /// Reads the sources in order of precedence. `file` is TOML; `environment` all variables;
    /// `set` the `key=value` pairs of the command line.
    pub fn load(
        file: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
        set: &[String],
    ) -> Result<Self, ConfigFaults> {
        let sources = ConfigSources {
            file: file.map(|text| ConfigFile {
                name: "the file".to_owned(),
                text: text.to_owned(),
                format: FileFormat::Toml,
                told_by: "as it should be",
            }),
            environment: environment.into_iter().collect(),
            set: set.to_vec(),
        };
        sources.load().map(|configuration| configuration.config)
    }
}

impl ConfigSources {
    /// # Errors
    /// All that is wrong with them.
    pub fn load(&self) -> Result<Configuration, ConfigFaults> {
        let mut sorted = Sorted::default();
        for source in self.written(&mut sorted.faults) {
            sorted.take(source);
        }
        sorted.settle();
        sorted.settle_voters();
        let mut config = NodeConfig::default();
        let mut origins = BTreeMap::new();
        let values = std::mem::take(&mut sorted.values);
        for (key, Value { written, name }) in values {
            match config.set(&key, &written.value) {
                Ok(()) => drop(origins.insert(key, written.origin)),
                Err(fault) => sorted.fault(&name, &fault, &written.origin),
            }
        }
        let Sorted { notes, mut faults, .. } = sorted;
        config.check(&mut faults);
        match faults.is_empty() {
            true => Ok(Configuration { config, origins, notes }),
            false => Err(ConfigFaults(faults)),
        }
    }

    /// The sources one after the other: what comes later counts before it.
    fn written(&self, faults: &mut Vec<String>) -> Vec<Vec<Written>> {
        let mut in_file = Vec::new();
        if let Some(file) = &self.file {
            match file::read(file) {
                Ok(values) => in_file = values,
                Err(fault) => faults.push(fault),
            }
        }
        let in_environment = self.environment.iter().filter_map(|(variable, value)| {
            let key = variable.strip_prefix("TROUPE__")?.replace("__", ".").to_lowercase();
            let origin = Origin::Environment { variable: variable.clone() };
            Some(Written { key, value: value.clone(), origin })
        });
        let mut set = Vec::new();
        for pair in &self.set {
            match pair.split_once('=') {
                Some((key, value)) => set.push(Written {
                    key: key.trim().to_owned(),
                    value: value.trim().to_owned(),
                    origin: Origin::Set,
                }),
                None => faults.push(format!("`--set {pair}` is not of the form key=value")),
            }
        }
        vec![in_file, in_environment.collect(), set]
    }
}

/// What was written, sorted out.
#[derive(Default)]
struct Sorted {
    /// By the key's own name.
    values: BTreeMap<String, Value>,
    notes: Vec<Note>,
    faults: Vec<String>,
}

/// The value of a key, and by which name of it.
struct Value {
    written: Written,
    name: String,
}

impl Sorted {
    /// Takes one source; it counts before those that came earlier.
    fn take(&mut self, source: Vec<Written>) {
        let mut of_source: BTreeMap<String, Value> = BTreeMap::new();
        for written in source {
            let name = written.key.clone();
            let Some(written) = self.sort_out(written) else { continue };
            let Some(other) = of_source.get(&written.key) else {
                of_source.insert(written.key.clone(), Value { written, name });
                continue;
            };
            // Of two units the finer one counts, as in Kafka; two names of the same must say the same.
            let same_unit = kafka_unit(&name) == kafka_unit(&other.name);
            // Of one name said twice the later counts.
            if same_unit && name != other.name && other.written.value != written.value {
                self.faults.push(format!(
                    "{name}: it is the same setting as {}, and they say `{}` and `{}`",
                    other.name, written.value, other.written.value
                ));
            } else if name == written.key || name == other.name {
                of_source.insert(written.key.clone(), Value { written, name });
            }
        }
        self.values.extend(of_source);
    }

    /// The value by its own name; None if it is none.
    fn sort_out(&mut self, written: Written) -> Option<Written> {
        let Written { key, value, origin } = written;
        if NodeConfig::update_mode(&key).is_some() {
            return Some(Written { key, value, origin });
        }
        match kafka_keys::fate(&key) {
            Some(Fate::Alias { of, unit }) => {
                let value = kafka_keys::in_unit(&value, unit);
                return Some(Written { key: of.to_owned(), value, origin });
            }
            Some(Fate::WithoutEffect(reason)) => {
                let reason = reason.to_owned();
                self.notes.retain(|note| note.key != key);
                self.notes.push(Note { key, value, origin, reason });
            }
            Some(Fate::Refused(reason)) => self.fault(&key, reason, &origin),
            None => self.fault(&key, &unknown(&key), &origin),
        }
        None
    }

    fn fault(&mut self, key: &str, fault: &str, origin: &Origin) {
        self.faults.push(match origin {
            Origin::File { .. } | Origin::Environment { .. } => {
                format!("{key}: {fault} ({origin})")
            }
            Origin::Set | Origin::Default | Origin::Derived { .. } => format!("{key}: {fault}"),
        });
    }

    /// What is said in several ways, or not at all.
    fn settle(&mut self) {
        if self.is_set("listeners") {
            for key in SHORT_FORMS.into_iter().filter(|key| self.values.contains_key(*key)) {
                self.faults.push(format!(
                    "{key}: listeners is set too, and says all of them; take one of the two out"
                ));
            }
            if !self.values.contains_key("http.listener") {
                self.derive("http.listener", ANY_PORT.to_owned(), "listeners");
            }
        }
        let voters = self.is_set("controller.quorum.voters");
        if let Some(zookeeper) = self.notes.iter().find(|note| note.key == "zookeeper.connect")
            && !voters
        {
            let (value, origin) = (zookeeper.value.clone(), zookeeper.origin.clone());
            let fault = format!(
                "`{value}`: there is no ZooKeeper; nodes decide among themselves. Take it out, and name the controllers on \
                 every node, as controller.quorum.voters=ID@HOST:PORT,…; a node alone needs neither"
            );
            self.fault("zookeeper.connect", &fault, &origin);
        }
    }

    /// Kafka 4 names its controllers without their ids. One that is alone and here is known all the same.
    fn settle_voters(&mut self) {
        let Some(at) = self.notes.iter().position(|note| note.key == BOOTSTRAP) else { return };
        if self.is_set("controller.quorum.voters") {
            return;
        }
        let roles = self.value("process.roles").unwrap_or_default();
        let servers = self.notes[at].value.clone();
        let is_controller =
            roles.is_empty() || roles.split(',').any(|role| role.trim() == "controller");
        let node_id =
            self.value("node.id").unwrap_or_else(|| NodeConfig::default().node_id.to_string());
        let voters = format!("{node_id}@{}", servers.trim());
        if is_controller && !servers.contains(',') && Voter::parse_list(&voters).is_ok() {
            self.notes.remove(at);
            self.derive("controller.quorum.voters", voters, BOOTSTRAP);
            return;
        }
        let origin = self.notes[at].origin.clone();
        let fault = format!(
            "`{servers}`: a controller is known by its id and address; name all of them, as controller.quorum.voters=\
             ID@HOST:PORT,… in place of it"
        );
        self.fault(BOOTSTRAP, &fault, &origin);
    }

    fn value(&self, key: &str) -> Option<String> {
        self.values.get(key).map(|value| value.written.value.trim().to_owned())
    }

    fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| !value.written.value.trim().is_empty())
    }

    fn derive(&mut self, key: &'static str, value: String, from: &'static str) {
        let written = Written { key: key.to_owned(), value, origin: Origin::Derived { from } };
        self.values.insert(key.to_owned(), Value { written, name: key.to_owned() });
    }
}

/// Kafka 4's way to say where controllers are.
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";

/// A free port that only this machine reaches.
const ANY_PORT: &str = "127.0.0.1:0";

/// What a number alone is of, by this name of a key.
fn kafka_unit(name: &str) -> &'static str {
    match kafka_keys::fate(name) {
        Some(Fate::Alias { unit, .. }) => unit,
        Some(Fate::WithoutEffect(_) | Fate::Refused(_)) | None => "",
    }
}

fn unknown(key: &str) -> String {
    let own = NodeConfig::keys().into_iter().map(|key| key.name);
    match nearest(key, own.chain(kafka_keys::names())) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => "unknown key; `troupe serve --help-config` lists them all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn later_sources_win() {
        let file = "node.id = 3\nlog.dir = \"/a\"\n[num]\npartitions = 4\n";
        let environment = [("TROUPE__LOG__DIR".to_owned(), "/b".to_owned())];
        let config = NodeConfig::load(Some(file), environment, &["node.id=5".to_owned()]).unwrap();
        assert_eq!(config.node_id, 5);
        assert_eq!(config.log_dir, PathBuf::from("/b"));
        assert_eq!(config.num_partitions, 4);
    }

    #[test]
    fn of_one_name_said_twice_in_a_source_the_later_counts_and_two_names_have_to_agree() {
        let load = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|&pair| pair.to_owned()).collect();
            NodeConfig::load(None, [], &set)
        };
        assert_eq!(load(&["node.id=2", "node.id=3"]).unwrap().node_id, 3);
        assert_eq!(load(&["broker.id=2", "broker.id=3"]).unwrap().node_id, 3);
        let faults = load(&["broker.id=2", "node.id=3"]).unwrap_err().to_string();
        assert!(faults.contains("the same setting as broker.id"), "{faults}");
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let file = "nod.id = 3\nlistener = \"nowhere\"\nnum.partitions = 0\n";
        let faults = NodeConfig::load(Some(file), [], &["x".to_owned()]).unwrap_err();
        let text = faults.to_string();
        assert_eq!(faults.0.len(), 4, "{text}");
        assert!(text.contains("did you mean `node.id`?"), "{text}");
    }
}
