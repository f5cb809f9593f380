//! A page as its blocks: what stands between fences, in which language, and what the comment before it says of how it
//! is run.
//!
//! ```text
//! <!-- run: in terminal node, until ready -->     it goes on; ready when its output has the word
//! <!-- run: typed into node -->                   its lines are typed there
//! <!-- run: ends node -->                         Ctrl-C in that terminal, before
//! <!-- run: fails 3 -->                           each of its commands ends with this code
//! <!-- run: as file worker.py -->                 it is what the file holds
//! <!-- run: with the registries -->               outside of the page's network: packages are fetched
//! <!-- run: as example NAME of FILE -->           its lines stand in that file, which is built and run
//! <!-- not run: why not -->
//! ```

/// What is done with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its commands, one after the other; each ends with this code.
    Commands {
        code: i32,
        registries: bool,
    },
    Terminal {
        name: String,
        until: Option<String>,
    },
    Typed {
        into: String,
    },
    File {
        name: String,
    },
    Example {
        name: String,
        file: String,
    },
    /// With the reason.
    NotRun(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of its first line, from 1.
    pub line: usize,
    pub language: String,
    pub text: String,
    pub way: Way,
    /// The terminals that are ended before.
    pub ends: Vec<String>,
}

/// The languages that are for people alone, and JSON, which shows what comes out: `cli/tests/json.rs` holds those.
const PICTURES: [&str; 2] = ["text", "json"];

/// All blocks of a page that are to be run, or say why not.
///
/// # Errors
/// What cannot be understood, with its line.
pub fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut comment: Option<String> = None;
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if let Some(said) = line.strip_prefix("<!--").and_then(|line| line.strip_suffix("-->")) {
            let said = said.trim();
            if said.starts_with("run:") || said.starts_with("not run:") {
                comment = Some(said.to_owned());
            }
            continue;
        }
        let Some(language) = line.trim_start().strip_prefix("```") else {
            if !line.trim().is_empty() && comment.is_some() {
                return Err(format!("{number}: a comment on how to run a block, and no block"));
            }
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut text = String::new();
        loop {
            let Some((_, line)) = lines.next() else {
                return Err(format!("{number}: the block does not end"));
            };
            if line.trim() == "```" {
                break;
            }
            text.push_str(line.get(indent..).unwrap_or(""));
            text.push('\n');
        }
        let language = language.trim().to_owned();
        let comment = comment.take();
        if language.is_empty() {
            return Err(format!("{number}: a block without a language"));
        }
        if comment.is_none() && PICTURES.contains(&language.as_str()) {
            continue;
        }
        let said = comment.unwrap_or_default();
        let (way, ends) = way(&said, &language).map_err(|why| format!("{number}: {why}"))?;
        found.push(Block { line: number + 1, language, text, way, ends });
    }
    Ok(found)
}

fn way(said: &str, language: &str) -> Result<(Way, Vec<String>), String> {
    if let Some(reason) = said.strip_prefix("not run:") {
        let reason = reason.trim();
        return match reason.split(' ').count() {
            0..=2 => Err("a block that is not run says why not".to_owned()),
            _ => Ok((Way::NotRun(reason.to_owned()), Vec::new())),
        };
    }
    let commands = ["sh", "console"].contains(&language);
    let (mut code, mut registries) = (0, false);
    let (mut other, mut ends, mut until) = (None, Vec::new(), None);
    let parts = said.strip_prefix("run:").unwrap_or_default().split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let words: Vec<&str> = part.split(' ').collect();
        match words[..] {
            ["in", "terminal", name] => {
                other = Some(Way::Terminal { name: name.to_owned(), until: None });
            }
            ["until", ref what @ ..] => until = Some(what.join(" ")),
            ["typed", "into", name] => other = Some(Way::Typed { into: name.to_owned() }),
            ["as", "file", name] => other = Some(Way::File { name: name.to_owned() }),
            ["as", "example", name, "of", file] => {
                other = Some(Way::Example { name: name.to_owned(), file: file.to_owned() });
            }
            ["ends", name] => ends.push(name.to_owned()),
            ["with", "the", "registries"] => registries = true,
            ["fails", number] => {
                code = number.parse().map_err(|_| format!("`{number}` is no exit code"))?;
            }
            _ => return Err(format!("nobody knows how to run a block `{part}`")),
        }
    }
    if let Some(Way::Terminal { until: place, .. }) = &mut other {
        *place = until;
    }
    match other {
        Some(way) => Ok((way, ends)),
        None if commands => Ok((Way::Commands { code, registries }, ends)),
        None => {
            Err(format!("a block in {language} that nothing runs: name its file, or say why not"))
        }
    }
}

/// A command, and what has to be printed by it if the block shows that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// In the page.
    pub line: usize,
    pub text: String,
    pub output: Option<String>,
}

/// What a `sh` or a `console` block says is typed. `is_complete` says of a text whether a shell would run it, or wait
/// for the rest.
pub fn commands(block: &Block, is_complete: impl Fn(&str) -> bool) -> Vec<Command> {
    let is_console = block.language == "console";
    let mut commands: Vec<Command> = Vec::new();
    let mut open = false;
    for (line, text) in (block.line..).zip(block.text.lines()) {
        let typed = match is_console {
            true => text.strip_prefix("$ ").or_else(|| text.strip_prefix("> ").filter(|_| open)),
            false => Some(text),
        };
        match (typed, commands.last_mut()) {
            (Some(typed), Some(last)) if open => {
                last.text.push('\n');
                last.text.push_str(typed);
                open = !is_complete(&last.text);
            }
            (Some(typed), _) => {
                let comment = typed.trim().is_empty() || typed.trim_start().starts_with('#');
                if !comment {
                    let output = is_console.then(String::new);
                    commands.push(Command { line, text: typed.to_owned(), output });
                    open = !is_complete(typed);
                }
            }
            (None, Some(Command { output: Some(output), .. })) => {
                output.push_str(text);
                output.push('\n');
            }
            (None, _) => {}
        }
    }
    commands
}

/// Whether an output is what a block shows: `…` stands for anything within a line, and alone on one for any lines.
pub fn shows(shown: &str, output: &str) -> bool {
    let trimmed = |text: &str| -> Vec<String> {
        let lines = text.trim_end().lines();
        lines.map(|line| line.trim_end().to_owned()).collect()
    };
    lines_match(&trimmed(shown), &trimmed(output))
}

fn lines_match(shown: &[String], output: &[String]) -> bool {
    match (shown.split_first(), output.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => {
            (0..=output.len()).any(|skipped| lines_match(rest, &output[skipped..]))
        }
        (Some((first, rest)), Some((line, others))) => {
            line_matches(first, line) && lines_match(rest, others)
        }
        _ => false,
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            let places = (0..=rest.len()).filter(|&at| rest.is_char_boundary(at));
            places.into_iter().any(|at| line_matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_block_shows_may_leave_out_what_differs_each_time() {
        assert!(shows("hello\nworld\n", "hello\nworld\n"));
        assert!(!shows("hello\n", "hello\nworld\n"));
        assert!(!shows("hello\nworld\n", "hello\n"));
        assert!(shows("took … ms\n", "took 12 ms\n"));
        assert!(!shows("took … ms\n", "took 12 s\n"));
        assert!(shows("a\n…\nd\n", "a\nb\nc\nd\n"));
        assert!(shows("a\n…\nd\n", "a\nd\n"));
        assert!(!shows("a\n…\nd\n", "a\nb\n"));
    }

    #[test]
    fn a_block_says_how_it_is_run_or_why_it_is_not() {
        let page = |said: &str, language: &str| blocks(&format!("{said}\n```{language}\nx\n```\n"));
        let way = |said: &str| page(said, "sh").unwrap().remove(0).way;
        assert_eq!(way(""), Way::Commands { code: 0, registries: false });
        assert_eq!(way("<!-- run: fails 3 -->"), Way::Commands { code: 3, registries: false });
        let (name, until) = ("node".to_owned(), Some("is ready".to_owned()));
        assert_eq!(
            way("<!-- run: in terminal node, until is ready -->"),
            Way::Terminal { name, until }
        );
        let reason = "needs three machines";
        assert_eq!(way("<!-- not run: needs three machines -->"), Way::NotRun(reason.to_owned()));
        assert!(page("<!-- not run: later -->", "sh").is_err(), "no reason");
        assert!(page("<!-- run: somehow -->", "sh").is_err(), "an unknown way");
        assert!(page("", "python").is_err(), "nothing would run it");
        assert!(page("", "").is_err(), "no language");
        assert!(page("<!-- run: fails 3 -->\nwords\n", "sh").is_err(), "not at the block");
        assert_eq!(page("", "text").unwrap(), [], "a picture");
    }
}
