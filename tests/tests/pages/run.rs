//! Runs a page: its blocks in their order, each as it says.

use crate::markdown::{Block, Way, blocks, commands, shows};
use crate::shell::Place;
use std::fmt;
use std::fs;
use troupe_tests::{example, workspace};

/// What is wrong with a page, and where.
#[derive(Debug)]
pub struct Fault {
    pub line: usize,
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Runs all blocks of a page. What is said `before` is there already when a reader comes to it, and `after` holds when
/// all of it is done.
///
/// # Errors
/// The first that is not as the page says.
pub fn run(place: &mut Place, page: &str, before: &str, after: &str) -> Result<(), Fault> {
    let of_page = blocks(page).map_err(|why| Fault { line: 0, why })?;
    let around = |text: &str| Block {
        line: 0,
        language: "sh".to_owned(),
        text: text.to_owned(),
        way: Way::Commands { code: 0, registries: false },
        ends: Vec::new(),
    };
    let (before, after) = (around(before), around(after));
    for block in [&before].into_iter().chain(&of_page).chain([&after]) {
        run_block(place, block).map_err(|mut fault| {
            fault.why += &format!("\n{}", place.said());
            fault
        })?;
    }
    Ok(())
}

fn run_block(place: &mut Place, block: &Block) -> Result<(), Fault> {
    let at = |why: String| Fault { line: block.line, why };
    for name in &block.ends {
        place.close(name).map_err(at)?;
    }
    match &block.way {
        Way::NotRun(_) => Ok(()),
        Way::Commands { code, registries } => run_commands(place, block, *code, *registries),
        Way::Terminal { name, until } => {
            let opened = place.open(name, &block.text, until.as_deref());
            opened.map_err(|why| at(format!("terminal {name}: {why}")))
        }
        Way::Typed { into } => {
            for line in block.text.lines() {
                let keys = line.split(" #").next().unwrap_or_default().trim_end();
                place.type_into(into, &format!("{keys}\n")).map_err(at)?;
            }
            Ok(())
        }
        Way::File { name } => {
            // In the directory that the page is in by now.
            let ended = place.run("pwd", false).map_err(at)?;
            let directory = std::path::PathBuf::from(ended.output.trim_end());
            let path = directory.join(name);
            let made = fs::create_dir_all(path.parent().unwrap_or(&directory));
            made.and_then(|()| fs::write(&path, &block.text)).map_err(|error| at(error.to_string()))
        }
        Way::Example { name, file } => {
            quoted(&block.text, file).map_err(at)?;
            let ended = place.run(&example(name).display().to_string(), false).map_err(at)?;
            match ended.code {
                0 => Ok(()),
                code => Err(at(format!("example {name} ended with {code}: {}", ended.output))),
            }
        }
    }
}

fn run_commands(
    place: &mut Place,
    block: &Block,
    code: i32,
    registries: bool,
) -> Result<(), Fault> {
    for command in commands(block, Place::is_complete) {
        let text = &command.text;
        let at = |why: String| Fault { line: command.line, why: format!("`{text}`: {why}") };
        let ended = place.run(text, registries).map_err(at)?;
        if ended.code != code {
            return Err(at(format!("exit code {}, not {code}: {}", ended.code, ended.output)));
        }
        if let Some(shown) = command.output.filter(|shown| !shows(shown, &ended.output)) {
            return Err(at(format!("prints\n{}and not\n{shown}", ended.output)));
        }
    }
    Ok(())
}

/// A block stands in a file, however that one is laid out; comments at the ends of lines aside.
fn quoted(text: &str, file: &str) -> Result<(), String> {
    let bare = |text: &str| -> String {
        let lines = text.lines().map(|line| line.split(" //").next().unwrap_or_default());
        lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect()
    };
    let source = workspace::read(file).map_err(|error| format!("{file}: {error}"))?;
    match bare(&source).contains(&bare(text)) {
        true => Ok(()),
        false => Err(format!("{file} does not have this block")),
    }
}
