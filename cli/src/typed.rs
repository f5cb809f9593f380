//! What was typed, before it is taken at its word: which command it names, options that stand for a word of their own,
//! and, of what makes no sense, the one thing that may have been meant.
//!
//! - Names that stand behind Kafka's options go where ours stand: `--topic orders` is `orders` where a command of topics
//!   has no option of that name, likewise `--group` and `--transactional-id`.
//! - `serve -daemon` is how Kafka's own command has it.
//!
//! Promises: a word that is the value of an option stays where it is, as does all behind `--`.

use crate::foreign_words;
use crate::nearest::nearest;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{ArgAction, Command as Tree};
use std::ffi::{OsStr, OsString};

/// Options that stand for the first word of these commands.
const NAMES: [(&str, &[&str]); 3] = [
    ("--topic", &["produce", "consume", "topic", "partition"]),
    ("--group", &["group"]),
    ("--transactional-id", &["transaction"]),
];

/// The command line as it is read: the program's name first. The tree has to be built.
pub fn rewritten(tree: &Tree, typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut walk = Walk::new(tree);
    // Where the next name goes: behind the command, and those that were moved there.
    let mut names_at = 1;
    let mut typed = typed.into_iter();
    words.extend(typed.next());
    while let Some(word) = typed.next() {
        if walk.path.first() == Some(&"serve") && word == "-daemon" {
            words.push("--daemon".into());
            continue;
        }
        match walk.name_option(&word) {
            Some(Some(name)) => {
                words.insert(names_at, name);
                names_at += 1;
            }
            Some(None) => match typed.next() {
                Some(name) => {
                    words.insert(names_at, name);
                    names_at += 1;
                }
                // Nothing behind it: that is told.
                None => words.push(word),
            },
            None => {
                let depth = walk.path.len();
                walk.see(&word);
                words.push(word);
                if walk.path.len() > depth {
                    names_at = words.len();
                }
            }
        }
    }
    words
}

/// Says of what makes no sense what may have been meant: one thing, and only if it is likely.
pub fn explain(error: &mut Error, tree: &Tree, words: &[OsString]) {
    let wrong = |error: &Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    // That it could be a value is true of everything, and almost never meant.
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            error.remove(ContextKind::Suggested);
            let word = wrong(error, ContextKind::InvalidSubcommand);
            let walk = Walk::until(tree, words, &word);
            error.remove(ContextKind::SuggestedSubcommand);
            let commands = walk.at.get_subcommands().flat_map(Tree::get_name_and_visible_aliases);
            if let Some(tip) = walk.tip_for_command(&word) {
                tell(error, tip);
            } else if let Some(near) = nearest(&word, commands) {
                let near = ContextValue::Strings(vec![near.to_owned()]);
                error.insert(ContextKind::SuggestedSubcommand, near);
            }
        }
        ErrorKind::UnknownArgument => {
            error.remove(ContextKind::Suggested);
            error.remove(ContextKind::TrailingArg);
            let word = wrong(error, ContextKind::InvalidArg);
            let walk = Walk::until(tree, words, &word);
            error.remove(ContextKind::SuggestedArg);
            let options = walk.at.get_arguments().filter_map(|arg| arg.get_long());
            let name = word.strip_prefix("--").map(|name| name.split('=').next().unwrap_or(name));
            if let Some(tip) = walk.tip_for_argument(&word) {
                tell(error, tip);
            } else if let Some(near) = name.and_then(|name| nearest(name, options)) {
                let near = ContextValue::String(format!("--{near}"));
                error.insert(ContextKind::SuggestedArg, near);
            }
        }
        _ => {}
    }
}

fn tell(error: &mut Error, tip: String) {
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
}

/// The way down the tree of commands that words go.
struct Walk<'a> {
    at: &'a Tree,
    path: Vec<&'a str>,
    /// The next word is the value of an option.
    value_is_next: bool,
    /// All that comes is taken as it is: it stands behind `--`.
    is_literal: bool,
    /// The command has had a word that is none of its commands: no command comes behind it.
    is_down: bool,
}

impl<'a> Walk<'a> {
    fn new(tree: &'a Tree) -> Walk<'a> {
        Walk { at: tree, path: Vec::new(), value_is_next: false, is_literal: false, is_down: false }
    }

    /// As far as the word that is wrong.
    fn until(tree: &'a Tree, words: &[OsString], wrong: &str) -> Walk<'a> {
        let mut walk = Walk::new(tree);
        words.iter().skip(1).take_while(|word| *word != wrong).for_each(|word| walk.see(word));
        walk
    }

    fn see(&mut self, word: &OsStr) {
        if std::mem::take(&mut self.value_is_next) || self.is_literal {
            return;
        }
        let Some(word) = word.to_str() else { return };
        if word == "--" {
            self.is_literal = true;
        } else if word.len() > 1 && word.starts_with('-') {
            self.value_is_next = self.takes_next(word);
        } else if !self.is_down {
            match self.at.find_subcommand(word) {
                Some(command) => {
                    self.path.push(command.get_name());
                    self.at = command;
                }
                None => self.is_down = true,
            }
        }
    }

    /// Whether the value of this option is the word behind it.
    fn takes_next(&self, word: &str) -> bool {
        let has_value =
            |arg: &clap::Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        if let Some(long) = word.strip_prefix("--") {
            return !long.contains('=') && self.option(long).is_some_and(has_value);
        }
        // Of short ones that stand together, the first that has a value has the rest of the word, or the next one.
        for (at, short) in word.char_indices().skip(1) {
            let found = self.at.get_arguments().find(|arg| arg.get_short() == Some(short));
            match found {
                Some(arg) if has_value(arg) => return at + short.len_utf8() == word.len(),
                Some(_) => {}
                None => return false,
            }
        }
        false
    }

    fn option(&self, long: &str) -> Option<&'a clap::Arg> {
        self.at.get_arguments().find(|arg| {
            let is_alias =
                |names: Option<Vec<&str>>| names.is_some_and(|names| names.contains(&long));
            arg.get_long() == Some(long) || is_alias(arg.get_all_aliases())
        })
    }

    /// Whether it is an option that stands for a name of this command, with the name if that is in it.
    fn name_option(&self, word: &OsStr) -> Option<Option<OsString>> {
        if self.value_is_next || self.is_literal {
            return None;
        }
        let word = word.to_str()?;
        let (long, name) = match word.split_once('=') {
            Some((long, name)) => (long, Some(OsString::from(name))),
            None => (word, None),
        };
        let (_, commands) = NAMES.iter().find(|(option, _)| *option == long)?;
        let is_theirs = self.path.first().is_some_and(|command| commands.contains(command));
        let is_free = self.option(long.strip_prefix("--")?).is_none();
        (is_theirs && is_free && self.at.get_positionals().next().is_some()).then_some(name)
    }

    fn tip_for_command(&self, word: &str) -> Option<String> {
        let answer = |answer: &str| match answer.starts_with('`') {
            true => format!("here that is {answer}"),
            false => answer.to_owned(),
        };
        if self.path.is_empty() || self.path == ["config"] {
            if let Some(told) = foreign_words::command(word) {
                return Some(answer(told));
            }
            if let Some(own) =
                foreign_words::tool(word).and_then(|tool| self.at.find_subcommand(tool))
            {
                return Some(format!("here that is `troupe {}`", own.get_name()));
            }
        }
        if self.path == ["config"] {
            return foreign_words::command("settings").map(answer);
        }
        if !self.path.is_empty() {
            return None;
        }
        // What several kinds of things can have done to them: which one?
        let below = self.at.get_subcommands().filter(|kind| kind.get_name() != "bench");
        let meant: Vec<String> = below
            .filter(|kind| kind.get_name() != "help" && kind.find_subcommand(word).is_some())
            .map(|kind| format!("`troupe {} {word}`", kind.get_name()))
            .collect();
        match meant.as_slice() {
            [] => None,
            [one] => Some(format!("there is {one}")),
            [first @ .., last] => Some(format!("there are {} and {last}", first.join(", "))),
        }
    }

    fn tip_for_argument(&self, word: &str) -> Option<String> {
        let name = word.strip_prefix("--");
        let name = name.map(|name| name.split('=').next().unwrap_or(name));
        if let Some(name) = name {
            // `topic --list`: the command has it, without hyphens.
            if self.at.find_subcommand(name).is_some() {
                return Some(format!("use `troupe {} {name}`", self.path.join(" ")));
            }
            return foreign_words::option(name).map(str::to_owned);
        }
        match self.path.as_slice() {
            ["topic", "add-partitions"] => Some(format!("the new total is --to {word}")),
            ["topic", "create" | "describe" | "delete"] => Some("one topic at a time".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    fn tree() -> Command {
        let server = Arg::new("server").long("server").global(true).action(ArgAction::Set);
        let words = Arg::new("words").num_args(0..);
        let topic = Command::new("topic")
            .alias("topics")
            .subcommand(Command::new("list"))
            .subcommand(Command::new("describe").arg(words.clone()));
        let group = Command::new("group").subcommand(
            Command::new("delete").arg(words.clone()).arg(Arg::new("topic").long("topic")),
        );
        let produce = Command::new("produce")
            .arg(words.clone())
            .arg(Arg::new("key").short('k').long("key"))
            .arg(Arg::new("quiet").short('q').action(ArgAction::SetTrue));
        let serve = Command::new("serve").arg(Arg::new("daemon").long("daemon"));
        let mut tree = Command::new("troupe").arg(server);
        tree = tree.subcommand(topic).subcommand(group).subcommand(produce).subcommand(serve);
        tree.build();
        tree
    }

    fn read(line: &str) -> String {
        let typed = line.split_whitespace().map(OsString::from);
        let words = rewritten(&tree(), typed);
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        words.join(" ")
    }

    #[test]
    fn names_behind_kafka_s_options_go_where_ours_stand() {
        for (typed, meant) in [
            ("troupe produce --topic orders", "troupe produce orders"),
            ("troupe produce file --topic=orders -q", "troupe produce orders file -q"),
            ("troupe --server s produce --topic a", "troupe --server s produce a"),
            ("troupe topic describe --topic a --topic b", "troupe topic describe a b"),
            ("troupe group delete --group g --topic t", "troupe group delete g --topic t"),
            ("troupe serve -daemon", "troupe serve --daemon"),
        ] {
            assert_eq!(read(typed), meant, "{typed}");
        }
    }

    #[test]
    fn what_is_a_value_stays_where_it_is() {
        for typed in [
            "troupe produce orders -k --topic x",
            "troupe produce orders -qk --topic",
            "troupe produce orders --key --topic x",
            "troupe produce orders -- --topic x",
            "troupe topic list --topic x",
            "troupe --topic x topic describe",
            "troupe topic describe --topic",
            "troupe --server serve produce -daemon",
        ] {
            assert_eq!(read(typed), typed);
        }
    }

    fn said(line: &str) -> String {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let mut error = tree().try_get_matches_from(&words).unwrap_err();
        explain(&mut error, &tree(), &words);
        error.render().to_string()
    }

    #[test]
    fn one_thing_is_offered_and_only_if_it_is_likely() {
        for (typed, tip) in [
            ("troupe acls", "tip: not there yet"),
            ("troupe kafka-topics.sh --list", "tip: here that is `troupe topic`"),
            ("troupe prodcue", "tip: a similar subcommand exists: 'produce'"),
            ("troupe describe", "tip: there is `troupe topic describe`"),
            ("troupe topic --list", "tip: use `troupe topic list`"),
            ("troupe produce t --throughput 5", "tip: use --rate N"),
            ("troupe produce t --kye 5", "tip: a similar argument exists: '--key'"),
        ] {
            let said = said(typed);
            assert!(said.contains(tip), "{typed}: {said}");
            assert_eq!(said.matches("tip:").count(), 1, "{typed}: {said}");
        }
        for typed in ["troupe juggle", "troupe produce t --juggle", "troupe topic juggle"] {
            assert!(!said(typed).contains("tip:"), "{typed}: {}", said(typed));
        }
    }
}
