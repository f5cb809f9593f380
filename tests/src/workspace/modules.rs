//! The modules of a crate, and what a path in one of them leads to.
//!
//! Follows `use` and `pub use`, aliases and globs, to the module that defines a name. What no module defines a macro
//! has made: it belongs where the path ends.

use super::names::{Mention, Names, Path};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};

#[derive(Debug, Default)]
pub struct Modules {
    modules: BTreeMap<Path, Module>,
    /// What `#[macro_export]` puts at the root, and the module that defines it.
    exported_macros: BTreeMap<String, Path>,
}

#[derive(Debug)]
struct Module {
    file: usize,
    names: Names,
}

/// All paths begin with `crate` or with the name of another crate.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    Module {
        path: Path,
    },
    /// The file is the one that defines it.
    Item {
        file: usize,
        path: Path,
    },
    Elsewhere {
        path: Path,
    },
}

impl Target {
    pub fn path(&self) -> &Path {
        match self {
            Target::Module { path } | Target::Item { path, .. } | Target::Elsewhere { path } => {
                path
            }
        }
    }
}

/// Names that are being followed, so that none is followed twice.
type Followed = BTreeSet<Path>;

impl Modules {
    /// The module of a file, with those within the file.
    pub fn add(&mut self, file: usize, path: Path, mut names: Names) {
        for (name, inner) in std::mem::take(&mut names.modules) {
            self.add(file, join(&path, &[name]), inner);
        }
        for name in &names.exported_macros {
            self.exported_macros.insert(name.clone(), path.clone());
        }
        self.modules.insert(path, Module { file, names });
    }

    /// Everything that is mentioned: in which file, in which module; what a glob brings as if it were named.
    pub fn mentions(&self) -> impl Iterator<Item = (usize, &Path, Mention)> {
        self.modules.iter().flat_map(move |(path, Module { file, names })| {
            let globs = names.globs.iter().flat_map(move |glob| {
                let brought = self.brought(path, &glob.path, &names.words);
                brought.into_iter().map(|path| Mention { path, line: glob.line })
            });
            let macros = names.calls_of_macros.iter().flat_map(move |call| {
                let defined = self.macros(path, &call.path[0]);
                defined.into_iter().map(|path| Mention { path, line: call.line })
            });
            let all = names.mentions.iter().cloned().chain(globs).chain(macros);
            all.map(move |mention| (*file, path, mention))
        })
    }

    /// A path as it is written in `module`, from `crate` or from the name of another crate.
    pub fn absolute(&self, module: &[String], path: &[String]) -> Path {
        self.absolute_beyond(module, path, &mut Followed::new())
    }

    pub fn target(&self, path: &[String]) -> Target {
        self.target_beyond(path, &mut Followed::new())
    }

    fn absolute_beyond(&self, module: &[String], path: &[String], followed: &mut Followed) -> Path {
        match path.first().map_or("", String::as_str) {
            "" => path[1..].to_vec(),
            "crate" => path.to_vec(),
            "self" => join(&of_crate(module), &path[1..]),
            "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                let parent = &module[..module.len().saturating_sub(up)];
                join(&of_crate(parent), &path[up..])
            }
            first if self.knows(module, first, followed) => join(&of_crate(module), path),
            _ => path.to_vec(),
        }
    }

    fn target_beyond(&self, path: &[String], followed: &mut Followed) -> Target {
        let Some((_, inside)) = path.split_first().filter(|(first, _)| *first == "crate") else {
            return Target::Elsewhere { path: path.to_vec() };
        };
        let mut depth = 0;
        while depth < inside.len() && self.is_module(&inside[..=depth]) {
            let is_last = depth + 1 == inside.len();
            if is_last && self.is_item(&inside[..depth], &inside[depth]) {
                break;
            }
            depth += 1;
        }
        let Some(name) = inside.get(depth) else {
            return Target::Module { path: path.to_vec() };
        };
        let (parent, rest) = (&inside[..depth], &inside[depth + 1..]);
        let Some(module) = self.modules.get(parent) else {
            return Target::Elsewhere { path: path.to_vec() };
        };
        let here = &path[..depth + 2];
        // A function may be called what a module is called that is taken: what a path goes on from is the module.
        let is_taken = !rest.is_empty() && module.names.taken.contains_key(name);
        if (is_taken || !module.names.defined.contains(name))
            && followed.insert(here.to_vec())
            && let Some(handed_on) = self.handed_on(parent, name, followed)
        {
            return self.target_beyond(&join(&handed_on, rest), followed);
        }
        Target::Item { file: module.file, path: here.to_vec() }
    }

    /// What the module has by `use` under that name.
    fn handed_on(&self, parent: &[String], name: &str, followed: &mut Followed) -> Option<Path> {
        let names = &self.modules.get(parent)?.names;
        if let Some(taken) = names.taken.get(name) {
            return Some(self.absolute_beyond(parent, taken, followed));
        }
        if parent.is_empty()
            && let Some(module) = self.exported_macros.get(name)
        {
            return Some(of_crate(&join(module, &[name.to_owned()])));
        }
        names.globs.iter().find_map(|glob| {
            let path = self.absolute_beyond(parent, &glob.path, followed);
            match self.target_beyond(&path, followed) {
                Target::Module { path } if self.knows(&path[1..], name, followed) => {
                    Some(join(&path, &[name.to_owned()]))
                }
                _ => None,
            }
        })
    }

    /// Whether a path within the module may begin with that name.
    fn knows(&self, module: &[String], name: &str, followed: &mut Followed) -> bool {
        let Some(Module { names, .. }) = self.modules.get(module) else { return false };
        let is_child = self.is_module(&join(module, &[name.to_owned()]));
        // `use anyhow::anyhow` makes nothing of the house out of `anyhow::Error`.
        let is_taken = names.taken.get(name).is_some_and(|path| path[0] != name);
        let mut is_brought = || {
            !names.globs.is_empty()
                && followed.insert(join(module, &["*".to_owned(), name.to_owned()]))
                && self.handed_on(module, name, followed).is_some()
        };
        is_child || names.defined.contains(name) || is_taken || is_brought()
    }

    /// Whether there is such a module, be it one of which nothing is known but what lies in it.
    fn is_module(&self, path: &[String]) -> bool {
        let mut from_there = self.modules.range::<[String], _>((Included(path), Unbounded));
        from_there.next().is_some_and(|(next, _)| next.starts_with(path))
    }

    fn is_item(&self, module: &[String], name: &str) -> bool {
        self.modules.get(module).is_some_and(|Module { names, .. }| {
            names.defined.contains(name) || names.taken.contains_key(name)
        })
    }

    /// Those of `words` that a glob brings into the module; the glob itself where it is over no module of the crate.
    fn brought(&self, module: &[String], glob: &[String], words: &BTreeSet<String>) -> Vec<Path> {
        let path = self.absolute(module, glob);
        match self.target(&path) {
            Target::Module { path } => words
                .iter()
                .filter(|word| self.knows(&path[1..], word, &mut Followed::new()))
                .map(|word| join(&path, std::slice::from_ref(word)))
                .collect(),
            _ => vec![join(&path, &["*".to_owned()])],
        }
    }

    /// Where a macro may be defined that is called without a path and not known to the module: such macros go down
    /// into children, and down the file with `#[macro_use]`.
    fn macros(&self, module: &[String], name: &str) -> Vec<Path> {
        if self.knows(module, name, &mut Followed::new()) {
            return Vec::new();
        }
        let defining = self.modules.iter().filter(|(_, module)| module.names.macros.contains(name));
        let paths = defining.map(|(path, _)| join(path, &[name.to_owned()]));
        paths.map(|path| of_crate(&path)).collect()
    }
}

fn of_crate(path: &[String]) -> Path {
    join(&["crate".to_owned()], path)
}

fn join(path: &[String], more: &[String]) -> Path {
    path.iter().chain(more).cloned().collect()
}
