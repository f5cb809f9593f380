//! What most of Kafka's tools are given: options by long names, as joptsimple reads them, and its words for what is wrong.
//!
//! `--name value`, `--name=value` and `-name value` are the same; nothing is abbreviated. What is no option is left over.

use super::ended::Ended;
use std::str::FromStr;

/// What stands behind an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    /// A value, whatever it looks like.
    Value(&'static str),
    /// A value, unless the next word is an option.
    Maybe(&'static str),
}

/// An option of a tool.
#[derive(Debug)]
pub struct Opt {
    pub name: &'static str,
    pub takes: Takes,
    pub help: &'static str,
}

pub const fn flag(name: &'static str, help: &'static str) -> Opt {
    Opt { name, takes: Takes::Nothing, help }
}

pub const fn value(name: &'static str, what: &'static str, help: &'static str) -> Opt {
    Opt { name, takes: Takes::Value(what), help }
}

pub const fn maybe(name: &'static str, what: &'static str, help: &'static str) -> Opt {
    Opt { name, takes: Takes::Maybe(what), help }
}

/// The options of a tool.
#[derive(Debug)]
pub struct Options {
    /// What the tool does, told with its options.
    pub about: &'static str,
    pub options: &'static [Opt],
    /// What this tool says in front of a word that it does not know.
    pub lead: &'static str,
}

/// Every tool has these.
const COMMON: [Opt; 2] =
    [flag("help", "Print usage information."), flag("version", "Display the version.")];

/// What was typed.
#[derive(Debug)]
pub struct Given {
    of: &'static Options,
    typed: Vec<(&'static str, Option<String>)>,
    pub rest: Vec<String>,
}

impl Options {
    fn find(&self, name: &str) -> Option<&'static Opt> {
        let options: &'static [Opt] = self.options;
        options.iter().chain(&COMMON).find(|option| option.name == name)
    }

    /// # Errors
    /// A word that is no option, or an option without its value; and where help or the version was asked for.
    pub fn read(&'static self, words: &[String]) -> Result<Given, Ended> {
        if words.is_empty() {
            return Err(self.usage(self.about));
        }
        let mut given = Given { of: self, typed: Vec::new(), rest: Vec::new() };
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--").or_else(|| single(word)) else {
                given.rest.push(word.clone());
                continue;
            };
            if name.is_empty() {
                given.rest.extend(words.by_ref().cloned());
                break;
            }
            let (name, inside) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let Some(option) = self.find(name) else {
                let told = format!("{}{name} is not a recognized option", self.lead);
                return Err(self.usage(&told));
            };
            let is_option = |word: &&String| word.len() > 1 && word.starts_with('-');
            let value = match option.takes {
                Takes::Nothing => None,
                Takes::Value(_) => {
                    Some(inside.or_else(|| words.next().cloned()).ok_or_else(|| {
                        self.usage(&format!("{}Option {name} requires an argument", self.lead))
                    })?)
                }
                Takes::Maybe(_) => {
                    inside.or_else(|| words.next_if(|word| !is_option(word)).cloned())
                }
            };
            given.typed.push((option.name, value));
        }
        if given.has("help") {
            return Err(self.usage(self.about));
        }
        if given.has("version") {
            let version = format!("{} (troupe)", env!("CARGO_PKG_VERSION"));
            return Err(Ended::out(version).with_code(0));
        }
        Ok(given)
    }

    /// What is wrong, and the options that there are.
    pub fn usage(&self, told: &str) -> Ended {
        let named = |option: &Opt| match option.takes {
            Takes::Nothing => format!("--{}", option.name),
            Takes::Value(what) => format!("--{} <{what}>", option.name),
            Takes::Maybe(what) => format!("--{} [{what}]", option.name),
        };
        let mut options: Vec<&Opt> = self.options.iter().chain(&COMMON).collect();
        options.sort_by_key(|option| option.name);
        let width = options.iter().map(|option| named(option).len()).max().unwrap_or(0);
        let mut text = format!("{told}\n{:width$}  Description\n", "Option");
        text += &format!("{:width$}  -----------\n", "------");
        for option in options {
            text += &format!("{:width$}  {}\n", named(option), option.help);
        }
        Ended::err(text)
    }
}

/// A long name behind one hyphen. A number is no option.
fn single(word: &str) -> Option<&str> {
    let name = word.strip_prefix('-')?;
    name.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(name)
}

impl Given {
    pub fn has(&self, name: &str) -> bool {
        self.typed.iter().any(|(option, _)| *option == name)
    }

    /// The value of an option that may be given once.
    ///
    /// # Errors
    /// It is given several times.
    pub fn value(&self, name: &str) -> Result<Option<&str>, Ended> {
        match self.values(name).as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(self.refuse(&format!(
                "Found multiple arguments for option {name}, but you asked for only one"
            ))),
        }
    }

    /// The values of an option that may be given several times.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let ours = self.typed.iter().filter(|(option, _)| *option == name);
        ours.filter_map(|(_, value)| value.as_deref()).collect()
    }

    /// # Errors
    /// The value is none of that kind.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Ended> {
        let parse = |text: &str| {
            text.trim().parse().map_err(|_| {
                self.refuse(&format!("Cannot parse argument '{text}' of option {name}"))
            })
        };
        self.value(name)?.map(parse).transpose()
    }

    /// Several values in one, separated by commas.
    ///
    /// # Errors
    /// As [`Given::value`].
    pub fn listed(&self, name: &str) -> Result<Option<Vec<String>>, Ended> {
        let listed = self.value(name)?.map(|text| {
            let each = text.split(',').map(|one| one.trim().to_owned());
            each.filter(|one| !one.is_empty()).collect()
        });
        Ok(listed)
    }

    /// # Errors
    /// One of them is missing: the first.
    pub fn require(&self, names: &[&str]) -> Result<(), Ended> {
        match names.iter().find(|name| !self.has(name)) {
            Some(name) => Err(self.usage(&format!("Missing required argument \"[{name}]\""))),
            None => Ok(()),
        }
    }

    /// # Errors
    /// With `used`, one of the others is given too.
    pub fn exclude(&self, used: &str, others: &[&str]) -> Result<(), Ended> {
        match others.iter().find(|other| self.has(used) && self.has(other)) {
            Some(other) => {
                Err(self
                    .usage(&format!("Option \"[{used}]\" can't be used with option \"[{other}]\"")))
            }
            None => Ok(()),
        }
    }

    /// The one of these actions that is given.
    ///
    /// # Errors
    /// None of them, or several.
    pub fn action(&self, actions: &[&'static str], told: &str) -> Result<&'static str, Ended> {
        let given: Vec<&'static str> =
            actions.iter().copied().filter(|action| self.has(action)).collect();
        match given.as_slice() {
            [one] => Ok(one),
            _ => Err(self.usage(told)),
        }
    }

    /// What is wrong, with the options that there are.
    pub fn usage(&self, told: &str) -> Ended {
        self.of.usage(told)
    }

    /// What is wrong with a value, as this tool tells it.
    fn refuse(&self, told: &str) -> Ended {
        Ended::err(format_args!("{}{told}", self.of.lead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static OPTIONS: Options = Options {
        about: "Does something.",
        options: &[
            flag("list", "List."),
            value("topic", "topic", "The topic."),
            value("partitions", "count", "How many."),
            maybe("state", "states", "States."),
        ],
        lead: "",
    };

    fn read(line: &str) -> Result<Given, Ended> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        OPTIONS.read(&words)
    }

    #[test]
    fn options_are_read_as_joptsimple_reads_them() {
        let given = read("--list --topic=a -topic b --state --topic --list extra -1").unwrap();
        assert_eq!(given.values("topic"), ["a", "b", "--list"], "a value is a value");
        assert!(given.has("state") && given.values("state").is_empty());
        assert_eq!(given.rest, ["extra", "-1"]);
        assert_eq!(read("--state Empty,Dead").unwrap().values("state"), ["Empty,Dead"]);
        let given = read("--partitions -5").unwrap();
        assert_eq!(given.parsed::<i32>("partitions").unwrap(), Some(-5));
    }

    #[test]
    fn what_is_wrong_is_told_in_joptsimple_s_words() {
        for (line, told) in [
            ("--lis", "lis is not a recognized option\n"),
            ("--topic", "Option topic requires an argument\n"),
            ("", "Does something.\n"),
            ("--help", "Does something.\n"),
        ] {
            let ended = read(line).unwrap_err();
            assert!(ended.notices.starts_with(told), "{line}: {}", ended.notices);
            assert_eq!(ended.code, 1);
            assert!(ended.notices.contains("--topic <topic>"), "{}", ended.notices);
        }
        let given = read("--topic a --topic b --partitions x").unwrap();
        let several = given.value("topic").unwrap_err().notices;
        assert!(several.starts_with("Found multiple arguments for option topic"), "{several}");
        let wrong = given.parsed::<i32>("partitions").unwrap_err().notices;
        assert_eq!(wrong, "Cannot parse argument 'x' of option partitions\n");
        let missing = given.require(&["topic", "list"]).unwrap_err().notices;
        assert!(missing.starts_with("Missing required argument \"[list]\"\n"), "{missing}");
        let both = given.exclude("topic", &["list", "partitions"]).unwrap_err().notices;
        let told = "Option \"[topic]\" can't be used with option \"[partitions]\"\n";
        assert!(both.starts_with(told), "{both}");
        assert_eq!(read("--version").unwrap_err().code, 0);
    }
}
