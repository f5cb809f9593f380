//! The list of commands: what is typed, and what it should come to.

use super::Said;

/// A command.
pub struct Step {
    /// As it stands in the list.
    pub line: String,
    pub words: Vec<String>,
    /// What it reads.
    pub input: Option<String>,
    pub again: bool,
    /// Kafka's is known to be different.
    pub differs: bool,
    code: i32,
    patterns: Vec<String>,
}

/// All of them, in their order.
pub fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in include_str!("course.txt").lines() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let command = line.strip_prefix("$? ").or_else(|| line.strip_prefix("$ "));
        if let Some(command) = command {
            let (words, input) = match command.rsplit_once(" <") {
                Some((words, input)) => (words, Some(input.to_owned())),
                None => (command, None),
            };
            steps.push(Step {
                line: command.to_owned(),
                words: words.split_whitespace().map(str::to_owned).collect(),
                input,
                again: line.starts_with("$?"),
                differs: false,
                code: 0,
                patterns: Vec::new(),
            });
            continue;
        }
        let step = steps.last_mut().expect("a command comes first");
        if let Some(code) = line.strip_prefix("= ") {
            step.code = code.parse().unwrap();
        } else if line.starts_with("! ") {
            step.differs = true;
        } else {
            step.patterns.push(line.to_owned());
        }
    }
    steps
}

impl Step {
    /// Whether it is one that goes on until it is told to end.
    pub fn is_endless(&self) -> bool {
        self.code == 130
    }

    /// Whether Kafka has a class for it: the others are scripts.
    pub fn has_class(&self) -> bool {
        !self.words[0].contains("server-stop")
            && !self.words[0].contains("acls")
            && !self.is_endless()
    }

    /// None: it came to what it should.
    pub fn wrong_with(&self, said: &Said) -> Option<String> {
        if said.code != self.code {
            return Some(format!("its exit code is {}, not {}", said.code, self.code));
        }
        let lines = said.lines();
        let missing =
            self.patterns.iter().find(|pattern| !lines.iter().any(|line| is_like(line, pattern)));
        missing.map(|pattern| format!("no line is like: {pattern}"))
    }

    /// What of it is compared with what the other one says: its results, or what is wrong, without what is each one's own.
    pub fn compared(&self, said: &Said) -> Vec<String> {
        // Of an error, its first line: traces and lists of options are each one's own.
        let lines: Vec<String> = match (said.code, said.results.trim().is_empty()) {
            (0, _) => said.results.lines().map(bare).collect(),
            (_, false) => said.results.lines().take(1).map(bare).collect(),
            (_, true)
                if self.words[0].contains("transactions") || said.notices.contains("usage:") =>
            {
                let is_error = |line: &&str| line.contains("error:");
                said.notices.lines().filter(is_error).map(bare).collect()
            }
            _ => said.notices.lines().take(1).map(bare).collect(),
        };
        let mut lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        // In which order partitions come is chance.
        lines.sort();
        lines
    }
}

/// Without figures, and without what only aligns.
fn bare(line: &str) -> String {
    let mut bare = String::new();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut digits = false;
    for c in words.join(" ").chars() {
        match c.is_ascii_digit() {
            true if !digits => bare.push('N'),
            true => {}
            false => bare.push(c),
        }
        digits = c.is_ascii_digit();
    }
    // An amount that is a fraction, or below zero.
    bare.replace("N.N", "N").replace("-N", "N").replace("N.N", "N")
}

/// `*` is anything, `?` one character; all of the line.
pub fn is_like(line: &str, pattern: &str) -> bool {
    let pattern = pattern.trim();
    // A line of a list begins with a star of its own.
    if line == pattern {
        return true;
    }
    let (line, pattern): (Vec<char>, Vec<char>) =
        (line.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < line.len() {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(&c) if c == '?' || c == line[at] => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((place, reached)) => {
                    star = Some((place, reached + 1));
                    of = place + 1;
                    at = reached + 1;
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|c| *c == '*')
}

#[test]
fn patterns_are_of_whole_lines() {
    assert!(is_like("a b c", "a * c") && is_like("a  c", "a * c") && is_like("abc", "a?c"));
    assert!(is_like("abc", "*") && is_like("", "*") && is_like("abcabc", "*abc"));
    assert!(!is_like("abcd", "abc") && !is_like("abc", "abcd") && !is_like("xabc", "abc"));
    assert_eq!(bare("a  12.5 ms\t-7 x_9"), "a N ms N x_N");
}
