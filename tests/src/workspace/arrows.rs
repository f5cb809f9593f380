//! Who names whom within one crate: an arrow goes from the file that names something to the file that defines it.
//!
//! - A re-export is followed to the definition, so a file that only declares and hands on has no arrows to it.
//! - A parent module is a file as its children are: what it defines and they use is an arrow up to it.
//! - What is named without a path (methods, fields) makes no arrow, nor does what another crate defines, whoever hands
//!   it on.
//!
//! Never here: an exception.

use super::circles::circles;
use super::modules::{Modules, Target};
use super::names::{self, Mention, Path};
use super::sources::{Source, lies_in};
use std::collections::{BTreeMap, BTreeSet};

/// The arrows of one crate, and what its files name of other crates.
#[derive(Debug)]
pub struct Arrows {
    files: Vec<File>,
    /// From and to, as places in `files`.
    arrows: BTreeMap<(usize, usize), Arrow>,
    named: BTreeSet<Named>,
}

#[derive(Debug)]
struct File {
    path: String,
    module: Path,
}

/// All that one file names of another.
#[derive(Debug)]
struct Arrow {
    /// Of the first of them.
    line: usize,
    names: BTreeSet<String>,
}

/// A path in a file, as it is written and as it leads: from `crate` or from the name of another crate.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    file: usize,
    line: usize,
    path: String,
}

impl Arrows {
    /// Of all sources of a crate.
    ///
    /// Panics if one of them is no Rust.
    pub fn of(sources: &[Source]) -> Arrows {
        let mut modules = Modules::default();
        let mut files = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let names = names::names(&source.production.join("\n"))
                .unwrap_or_else(|error| panic!("{}: {error}", source.path));
            let module = module_of(&source.path);
            modules.add(index, module.clone(), names);
            files.push(File { path: source.path.clone(), module });
        }
        let mut arrows = Arrows { files, arrows: BTreeMap::new(), named: BTreeSet::new() };
        for (from, module, mention) in modules.mentions() {
            arrows.add(&modules, from, module, &mention);
        }
        arrows
    }

    fn add(&mut self, modules: &Modules, from: usize, module: &[String], mention: &Mention) {
        let line = mention.line;
        let written = modules.absolute(module, &mention.path);
        let target = modules.target(&written);
        for path in [&written, target.path()] {
            self.named.insert(Named { file: from, line, path: path.join("::") });
        }
        let Target::Item { file: to, path } = target else { return };
        if to != from {
            let arrow = self.arrows.entry((from, to));
            let arrow = arrow.or_insert_with(|| Arrow { line, names: BTreeSet::new() });
            arrow.line = arrow.line.min(line);
            arrow.names.extend(path.last().cloned());
        }
    }

    /// What the module of that path names, by itself or through what hands it on, of what begins with one of
    /// `forbidden`: `tonic`, `troupe_proto::v1`, `crate::grpc`. A crate means those of its family too (`tonic_types`).
    /// That there is no such file is a complaint as well.
    pub fn what_names(&self, under: &str, forbidden: &[&str]) -> Vec<String> {
        if !self.files.iter().any(|file| lies_in(&file.path, under)) {
            return vec![format!("{under} is not where the rule expects it")];
        }
        let crossed = self.named.iter().filter(|named| {
            let of_folder = lies_in(&self.files[named.file].path, under);
            of_folder && forbidden.iter().any(|forbidden| named.is_of(forbidden))
        });
        crossed
            .map(|Named { file, line, path }| {
                format!("{}:{line} -> {path}", self.files[*file].path)
            })
            .collect()
    }

    /// Each circle of files, with all arrows that make it one.
    pub fn circles_between_files(&self) -> Vec<String> {
        let edges = self.arrows.keys().copied().collect();
        circles(&edges)
            .into_iter()
            .map(|circle: BTreeSet<usize>| {
                let arrows = self
                    .arrows
                    .iter()
                    .filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
                let lines = arrows.map(|(&ends, arrow)| self.line(ends, arrow));
                complaint(&format!("a circle of {} files", circle.len()), lines)
            })
            .collect()
    }

    /// Each circle of modules of one parent, at every level; an arrow between two files is one between all that they
    /// lie in. A parent's own file is on the level of its children.
    pub fn circles_between_folders(&self) -> Vec<String> {
        let levels: BTreeSet<&[String]> =
            self.arrows.keys().map(|&ends| self.level(ends)).collect();
        levels.into_iter().flat_map(|level| self.circles_in(level)).collect()
    }

    fn circles_in(&self, level: &[String]) -> Vec<String> {
        let name = if level.is_empty() { "the crate".to_owned() } else { level.join("::") };
        let arrows: Vec<_> = self
            .arrows
            .iter()
            .filter(|(ends, _)| self.level(**ends) == level)
            .map(|(&(from, to), arrow)| {
                let members = [from, to].map(|end| self.files[end].below(level.len()));
                (members, self.line((from, to), arrow))
            })
            .collect();
        circles(&arrows.iter().map(|([from, to], _)| (*from, *to)).collect())
            .into_iter()
            .map(|circle: BTreeSet<&str>| {
                let inside = arrows
                    .iter()
                    .filter(|(members, _)| members.iter().all(|member| circle.contains(member)));
                let members: Vec<&str> = circle.iter().copied().collect();
                let title = format!("a circle in {name}: {}", members.join(", "));
                complaint(&title, inside.map(|(_, line)| line.clone()))
            })
            .collect()
    }

    /// The innermost module that both files lie in.
    fn level(&self, (from, to): (usize, usize)) -> &[String] {
        let (from, to) = (&self.files[from].module, &self.files[to].module);
        let common = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        &from[..common]
    }

    /// What does not go down from one of `floors` (top to bottom, each the top-level modules on it) to a lower one.
    /// The crate's root stands above them all. A module on no floor, or on two, and a floor of nobody are complaints.
    pub fn against_floors(&self, floors: &[&[&str]]) -> Vec<String> {
        let numbered = || {
            (1..)
                .zip(floors)
                .flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor)))
        };
        let floor: BTreeMap<&str, usize> = numbered().collect();
        let tops: BTreeSet<&str> =
            self.files.iter().filter_map(|file| file.module.first()).map(String::as_str).collect();
        let mut complaints = Vec::new();
        for top in tops.iter().filter(|top| !floor.contains_key(*top)) {
            complaints.push(format!("`{top}` is a module and stands on no floor"));
        }
        for (name, at) in numbered() {
            if !tops.contains(name) {
                complaints.push(format!("`{name}` stands on floor {at} and is no module"));
            }
            if floor[name] != at {
                complaints.push(format!("`{name}` stands on floors {at} and {}", floor[name]));
            }
        }
        for (&(from, to), arrow) in &self.arrows {
            let line = self.line((from, to), arrow);
            match (self.files[from].module.first(), self.files[to].module.first()) {
                (Some(_), None) => {
                    complaints.push(format!("{line} (the crate's root stands above all floors)"));
                }
                (Some(from), Some(to)) if from != to => {
                    let (from_floor, to_floor) = (floor.get(from.as_str()), floor.get(to.as_str()));
                    if let (Some(from_floor), Some(to_floor)) = (from_floor, to_floor)
                        && from_floor >= to_floor
                    {
                        complaints.push(format!(
                            "{line} (`{from}` is on floor {from_floor}, `{to}` on {to_floor})"
                        ));
                    }
                }
                _ => {}
            }
        }
        complaints
    }

    fn line(&self, (from, to): (usize, usize), arrow: &Arrow) -> String {
        let names: Vec<&str> = arrow.names.iter().map(String::as_str).collect();
        let (from, to) = (&self.files[from].path, &self.files[to].path);
        format!("{from}:{} -> {to}: {}", arrow.line, names.join(", "))
    }
}

impl File {
    /// Its module on the level of `depth`; a parent's own file goes by the file's name.
    fn below(&self, depth: usize) -> &str {
        self.module.get(depth).map_or_else(
            || self.path.rsplit_once('/').map_or(self.path.as_str(), |(_, name)| name),
            String::as_str,
        )
    }
}

impl Named {
    /// A glob over all of a crate is of everything in it.
    fn is_of(&self, forbidden: &str) -> bool {
        let brings = self.path.strip_suffix('*').is_some_and(|of| forbidden.starts_with(of));
        let names = self.path.strip_prefix(forbidden).is_some_and(|rest| {
            let family = !forbidden.contains("::") && rest.starts_with('_');
            rest.is_empty() || rest.starts_with("::") || family
        });
        brings || names
    }
}

fn complaint(title: &str, lines: impl Iterator<Item = String>) -> String {
    lines.fold(format!("{title}:"), |text, line| format!("{text}\n    {line}"))
}

/// `broker/src/forward/lane.rs` is `forward::lane`.
fn module_of(path: &str) -> Path {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
    let mut module: Path = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && ["lib", "main"].contains(&module[0].as_str());
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

#[cfg(test)]
mod tests;
