//! kafka-storage: `troupe storage`, and what is in the directories of a configuration.

use super::arguments::{Command, Program, optional, required, several, switch};
use super::ended::Ended;
use super::link::print;
use super::ours;
use crate::configuration::Sources;
use crate::failure::Failure;
use clap::{Args, FromArgMatches};
use troupe_log::DataDirectory;

static PROGRAM: Program = Program {
    name: "kafka-storage",
    about: "Prepares the directories of nodes, and tells what is in them.",
    args: &[],
    one_of: &[],
    commands: &[
        Command {
            name: "info",
            help: "What is in the directories of a configuration.",
            args: &[required(&["--config", "-c"], "The node's configuration.")],
        },
        Command {
            name: "format",
            help: "Write down whose the directories are.",
            args: &[
                required(&["--cluster-id", "-t"], "The cluster."),
                required(&["--config", "-c"], "The node's configuration."),
                switch(&["--ignore-formatted", "-g"], "Be content with what is formatted."),
                switch(&["--standalone", "-s"], "Voters stand in the configuration here."),
                switch(
                    &["--no-initial-controllers", "-N"],
                    "They stand in the configuration here.",
                ),
                optional(&["--initial-controllers", "-I"], "They stand in the configuration here."),
                several(&["--feature", "-f"], "There are no features to be chosen."),
                optional(&["--release-version", "-r"], "There are no features to be chosen."),
                several(&["--add-scram", "-S"], "Nobody is asked who they are."),
            ],
        },
        Command {
            name: "version-mapping",
            help: "Features of a release.",
            args: &[optional(&["--release-version", "-r"], "The release.")],
        },
        Command {
            name: "feature-dependencies",
            help: "What features depend on.",
            args: &[several(&["--feature", "-f"], "The features.")],
        },
        Command { name: "random-uuid", help: "Print a new id for a cluster.", args: &[] },
    ],
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let words = PROGRAM.read(words)?;
    let config = words.value("--config").unwrap_or_default().to_owned();
    match words.command {
        "random-uuid" => ours::storage(&["random-uuid".to_owned()]),
        "info" => info(&config),
        "format" => {
            if words.has("--add-scram") {
                return Err(Ended::cannot("--add-scram", "nobody is asked who they are"));
            }
            for option in ["--feature", "--release-version"] {
                if words.has(option) {
                    return Err(Ended::cannot(option, "a node has the features of its release"));
                }
            }
            for option in ["--standalone", "--initial-controllers", "--no-initial-controllers"] {
                if words.has(option) {
                    return Err(Ended::cannot(
                        option,
                        "who votes stands in the configuration, as controller.quorum.voters or controller.voters",
                    ));
                }
            }
            let id = words.value("--cluster-id").unwrap_or_default().to_owned();
            let mut ours = vec![
                "format".to_owned(),
                "--cluster-id".to_owned(),
                id,
                "--config".to_owned(),
                config,
            ];
            if words.has("--ignore-formatted") {
                ours.push("--ignore-formatted".to_owned());
            }
            ours::storage(&ours)
        }
        _ => Err(Ended::cannot(
            "A feature",
            "a node has the features of its release: `troupe version`",
        )),
    }
}

fn info(config: &str) -> Result<(), Ended> {
    let tree = Sources::augment_args(clap::Command::new("troupe storage"));
    let matches = tree.try_get_matches_from(["troupe storage", "--config", config]);
    let sources = matches.and_then(|matches| Sources::from_arg_matches(&matches));
    let config = sources.map_err(|error| Ended::err(error.render()))?.load()?;
    let paths = config.log_directories();
    let plural = if paths.len() == 1 { "directory" } else { "directories" };
    let mut text = format!("Found log {plural}:\n");
    for path in &paths {
        text += &format!("  {}\n", path.display());
    }
    text.push('\n');
    let mut formatted = true;
    for path in &paths {
        let failed = |error| Ended::from(Failure::new(crate::exit::Exit::Failed, "", error));
        let is_there = path.exists();
        let meta = match is_there {
            true => DataDirectory::open(path).and_then(|it| it.read_meta()).map_err(failed)?,
            false => None,
        };
        match meta {
            Some(meta) => {
                text += &format!(
                    "Found metadata: {{cluster.id={}, node.id={}, version=1}}\n\n",
                    meta.cluster_id, meta.node_id
                );
            }
            None => {
                formatted = false;
                text += &format!("Found problem:\n  {} is not formatted.\n\n", path.display());
            }
        }
    }
    print(&text)?;
    match formatted {
        true => Ok(()),
        false => Err(Ended { code: 1, ..Ended::default() }),
    }
}
