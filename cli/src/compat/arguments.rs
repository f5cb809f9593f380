//! What those of Kafka's tools are given that have commands of their own: as argparse4j reads it, and its words for what is
//! wrong.
//!
//! Options of the program stand before the command, those of the command behind it.

use super::ended::Ended;
use std::str::FromStr;

/// How many words stand behind an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Nothing,
    One,
    /// All up to the next option.
    Several,
}

/// An option of a program or of a command.
#[derive(Debug)]
pub struct Arg {
    /// The first is the one that it is asked for by; several are told as there, `--config/-c`.
    pub names: &'static [&'static str],
    pub count: Count,
    pub required: bool,
    pub help: &'static str,
}

pub const fn optional(names: &'static [&'static str], help: &'static str) -> Arg {
    Arg { names, count: Count::One, required: false, help }
}

pub const fn required(names: &'static [&'static str], help: &'static str) -> Arg {
    Arg { names, count: Count::One, required: true, help }
}

pub const fn switch(names: &'static [&'static str], help: &'static str) -> Arg {
    Arg { names, count: Count::Nothing, required: false, help }
}

pub const fn several(names: &'static [&'static str], help: &'static str) -> Arg {
    Arg { names, count: Count::Several, required: false, help }
}

#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub help: &'static str,
    pub args: &'static [Arg],
}

#[derive(Debug)]
pub struct Program {
    pub name: &'static str,
    pub about: &'static str,
    pub args: &'static [Arg],
    /// Of these, one at least.
    pub one_of: &'static [&'static str],
    /// None: the program has no commands.
    pub commands: &'static [Command],
}

/// What was typed.
#[derive(Debug)]
pub struct Words {
    of: &'static Program,
    /// Empty: the program has no commands.
    pub command: &'static str,
    typed: Vec<(&'static str, Vec<String>)>,
}

impl Program {
    /// # Errors
    /// What is wrong; and where help was asked for.
    pub fn read(&'static self, words: &[String]) -> Result<Words, Ended> {
        let mut read = Words { of: self, command: "", typed: Vec::new() };
        let mut words = words.iter().cloned().peekable();
        let mut command: Option<&'static Command> = None;
        let args = |command: Option<&'static Command>| {
            let args: &'static [Arg] = command.map_or(self.args, |command| command.args);
            args
        };
        while let Some(word) = words.next() {
            if word == "-h" || word == "--help" {
                return Err(Ended::out(self.help(command)).with_code(0));
            }
            let (name, inside) = match word.split_once('=') {
                Some((name, value)) if word.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            if let Some(arg) = args(command).iter().find(|arg| arg.names.contains(&name)) {
                let mut values: Vec<String> = inside.into_iter().collect();
                let wanted = match arg.count {
                    Count::Nothing => 0,
                    Count::One => 1,
                    Count::Several => usize::MAX,
                };
                while values.len() < wanted {
                    match words.next_if(|word| !is_option(word)) {
                        Some(value) => values.push(value),
                        None => break,
                    }
                }
                if arg.count != Count::Nothing && values.is_empty() {
                    let told = match arg.count {
                        Count::Several => "expected at least one argument",
                        _ => "expected one argument",
                    };
                    return Err(self.error(command, &format!("argument {}: {told}", shown(arg))));
                }
                read.typed.push((arg.names[0], values));
            } else if word.starts_with('-') || self.commands.is_empty() || command.is_some() {
                return Err(self.error(command, &format!("unrecognized arguments: '{word}'")));
            } else {
                command = self.commands.iter().find(|command| command.name == word);
                let Some(found) = command else {
                    let names: Vec<String> =
                        self.commands.iter().map(|command| format!("'{}'", command.name)).collect();
                    let told =
                        format!("invalid choice: '{word}' (choose from {})", names.join(", "));
                    return Err(self.error(None, &told));
                };
                read.command = found.name;
            }
        }
        if command.is_none() && !self.commands.is_empty() {
            return Err(self.error(None, "too few arguments"));
        }
        let all = command.iter().flat_map(|command| command.args).chain(self.args);
        for arg in all {
            if arg.required && !read.has(arg.names[0]) {
                return Err(self.error(command, &format!("argument {} is required", shown(arg))));
            }
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|name| read.has(name)) {
            let told = format!("one of the arguments {} is required", self.one_of.join(" "));
            return Err(self.error(None, &told));
        }
        Ok(read)
    }

    fn usage(&self, command: Option<&Command>) -> String {
        let mut words = vec![self.name.to_owned()];
        let show = |arg: &Arg| {
            let name = arg.names[0];
            let value = name.trim_start_matches('-').to_uppercase().replace(['-', '.'], "_");
            let shown = match arg.count {
                Count::Nothing => name.to_owned(),
                Count::One => format!("{name} {value}"),
                Count::Several => format!("{name} {value} [{value} ...]"),
            };
            if arg.required { shown } else { format!("[{shown}]") }
        };
        words.push("[-h]".to_owned());
        words.extend(self.args.iter().map(show));
        match command {
            Some(command) => {
                words.push(command.name.to_owned());
                words.extend(command.args.iter().map(show));
            }
            None if self.commands.is_empty() => {}
            None => {
                let names: Vec<&str> = self.commands.iter().map(|command| command.name).collect();
                words.push(format!("{{{}}} ...", names.join(",")));
            }
        }
        format!("usage: {}\n", words.join(" "))
    }

    fn help(&self, command: Option<&Command>) -> String {
        let mut text = self.usage(command);
        let mut line = |name: &str, help: &str| text += &format!("  {name:28} {help}\n");
        line("", command.map_or(self.about, |command| command.help));
        for arg in self.args.iter().chain(command.iter().flat_map(|command| command.args)) {
            line(&arg.names.join(", "), arg.help);
        }
        if command.is_none() {
            for command in self.commands {
                line(command.name, command.help);
            }
        }
        text
    }

    /// The usage, and what is wrong.
    pub fn error(&self, command: Option<&Command>, told: &str) -> Ended {
        Ended::err(format_args!("{}{}: error: {told}", self.usage(command), self.name))
    }
}

fn is_option(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-') && word.parse::<f64>().is_err()
}

fn shown(arg: &Arg) -> String {
    arg.names.join("/")
}

impl Words {
    pub fn has(&self, name: &str) -> bool {
        self.typed.iter().any(|(option, _)| *option == name)
    }

    /// What was given last.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last().copied()
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        let ours = self.typed.iter().filter(|(option, _)| *option == name);
        ours.flat_map(|(_, values)| values).map(String::as_str).collect()
    }

    /// # Errors
    /// It is none of the kind, which is told as `kind`.
    pub fn parsed<T: FromStr>(&self, name: &str, kind: &str) -> Result<Option<T>, Ended> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                self.error(&format!("argument {name}: could not convert '{text}' to {kind}"))
            })
        };
        self.value(name).map(parse).transpose()
    }

    /// The same of one that is required.
    ///
    /// # Errors
    /// As [`Words::parsed`]; and it is not there.
    pub fn number<T: FromStr>(&self, name: &str, kind: &str) -> Result<T, Ended> {
        let missing = || self.error(&format!("argument {name} is required"));
        self.parsed(name, kind)?.ok_or_else(missing)
    }

    pub fn error(&self, told: &str) -> Ended {
        let command = self.of.commands.iter().find(|command| command.name == self.command);
        self.of.error(command, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PROGRAM: Program = Program {
        name: "kafka-thing",
        about: "Does things.",
        args: &[required(&["--bootstrap-server"], "Nodes.")],
        one_of: &[],
        commands: &[
            Command { name: "list", help: "List.", args: &[several(&["--props"], "Settings.")] },
            Command {
                name: "drop",
                help: "Drop.",
                args: &[required(&["--id", "-i"], "Which."), switch(&["--now"], "At once.")],
            },
        ],
    };

    fn read(line: &str) -> Result<Words, Ended> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        PROGRAM.read(&words)
    }

    #[test]
    fn commands_and_their_options_are_read_as_argparse_reads_them() {
        let words = read("--bootstrap-server h:1 list --props a=1 b=2").unwrap();
        assert_eq!((words.command, words.values("--props")), ("list", vec!["a=1", "b=2"]));
        let words = read("--bootstrap-server=h:1 drop -i -5 --now").unwrap();
        assert_eq!(words.number::<i64>("--id", "Long").unwrap(), -5);
        assert!(words.has("--now"));
    }

    #[test]
    fn what_is_wrong_is_told_in_argparse_s_words() {
        for (line, told) in [
            ("", "kafka-thing: error: too few arguments"),
            ("list", "kafka-thing: error: argument --bootstrap-server is required"),
            ("--bootstrap-server h drop", "kafka-thing: error: argument --id/-i is required"),
            ("--bootstrap-server", "argument --bootstrap-server: expected one argument"),
            (
                "--bootstrap-server h juggle",
                "invalid choice: 'juggle' (choose from 'list', 'drop')",
            ),
            ("--bootstrap-server h list --now", "error: unrecognized arguments: '--now'"),
        ] {
            let ended = read(line).unwrap_err();
            assert_eq!(ended.code, 1, "{line}");
            assert!(ended.notices.starts_with("usage: kafka-thing [-h] "), "{}", ended.notices);
            assert!(ended.notices.contains(told), "{line}: {}", ended.notices);
        }
        let words = read("--bootstrap-server h drop -i x").unwrap();
        let told = words.number::<i64>("--id", "Long").unwrap_err().notices;
        assert!(told.contains("could not convert 'x' to Long"), "{told}");
        let help = read("--help").unwrap_err();
        assert_eq!(help.code, 0);
        assert!(help.results.contains("Does things."), "{}", help.results);
    }
}
