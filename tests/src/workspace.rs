//! The workspace as files: where its crates are and what of their source is production code.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A Rust source file, with what belongs to tests cut out.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// Production code, comments included; what is cut leaves an empty line, so that numbers stay right.
    pub production: Vec<String>,
}

impl Source {
    /// Lines from the first to the last that are production code.
    pub fn length(&self) -> usize {
        self.production.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1)
    }

    /// Numbered lines without those that are comments as a whole.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.production.iter().enumerate();
        lines
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line.as_str()))
    }
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("this crate lies in the workspace").to_owned()
}

/// Every file below `dir` (relative to the workspace) whose name ends with `extension`, sorted.
/// Build output and version control are left out.
pub fn files(dir: &str, extension: &str) -> io::Result<Vec<String>> {
    fn walk(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) -> io::Result<()> {
        const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", "__pycache__"];
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    walk(&path, extension, found)?;
                }
            } else if name.ends_with(extension) {
                found.push(path);
            }
        }
        Ok(())
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root.join(dir), extension, &mut found)?;
    let mut names: Vec<String> = found
        .iter()
        .filter_map(|path| path.strip_prefix(&root).ok())
        .map(|path| path.to_string_lossy().replace('\\', "/"))
        .collect();
    names.sort();
    Ok(names)
}

/// The text of a file of the workspace.
pub fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(root().join(path))
}

/// The production sources of one crate, by its directory: without the modules that only tests have.
pub fn sources(crate_dir: &str) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut of_tests = Vec::new();
    for path in files(&format!("{crate_dir}/src"), ".rs")? {
        let text = read(&path)?;
        of_tests.extend(test_modules(&path, &text));
        sources.push(Source { production: production(&text), path });
    }
    sources.retain(|source| {
        let module = source.path.trim_end_matches(".rs");
        !of_tests.iter().any(|test| module == test || module.starts_with(&format!("{test}/")))
    });
    Ok(sources)
}

/// Whether the word stands in the text as a whole, not as part of a longer name.
pub fn says(text: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let (first, last) = (word.chars().next(), word.chars().next_back());
        let goes_on_before = first.is_some_and(is_name) && before.is_some_and(is_name);
        let goes_on_after = last.is_some_and(is_name) && after.is_some_and(is_name);
        !goes_on_before && !goes_on_after
    })
}

/// What a file declares by `#[cfg(test)] mod name;`, as paths without `.rs`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let module = path.trim_end_matches(".rs");
    let (parent, name) = module.rsplit_once('/').unwrap_or(("", module));
    let directory = if ["lib", "main", "mod"].contains(&name) { parent } else { module };
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            continue;
        }
        let mut file = None;
        for line in lines.by_ref() {
            let attribute = line.strip_prefix("#[path = \"");
            file = attribute.and_then(|rest| rest.strip_suffix(".rs\"]")).or(file);
            if line.starts_with("#[") {
                continue;
            }
            let declared = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let declared = declared.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
            found.extend(declared.map(|name| match file {
                Some(file) => format!("{parent}/{file}"),
                None => format!("{directory}/{name}"),
            }));
            break;
        }
    }
    found
}

/// Blanks every item that stands under `#[cfg(test)]`. Relies on rustfmt: an item ends with a `;` on its
/// first line or with a closing brace at its own indentation.
fn production(text: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let begin = line.trim_start();
        if !(begin.starts_with("#[cfg(test)]") || begin.starts_with("#[cfg(all(test")) {
            kept.push(line.to_owned());
            continue;
        }
        kept.push(String::new());
        let closing = format!("{}}}", &line[..line.len() - begin.len()]);
        let mut inside = false;
        for line in lines.by_ref() {
            kept.push(String::new());
            let is_attribute = line.trim_start().starts_with("#[");
            if line == closing || (!inside && line.ends_with(';')) {
                break;
            }
            inside |= !is_attribute;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_no_production_code() {
        let text = "mod a;\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod more {\n    \
                    fn c() {\n    }\n}\nfn d() {}\n";
        let source = Source { path: String::new(), production: production(text) };
        let kept: Vec<_> = source.production.iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(kept, ["mod a;", "fn b() {}", "fn d() {}"]);
        assert_eq!(source.length(), 10);
    }

    #[test]
    fn modules_that_only_tests_have_are_known() {
        let text =
            "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[path = \"c_tests.rs\"]\nmod c;\n";
        assert_eq!(test_modules("x/src/b.rs", text), ["x/src/b/tests", "x/src/c_tests"]);
        assert_eq!(test_modules("x/src/lib.rs", text), ["x/src/tests", "x/src/c_tests"]);
    }

    #[test]
    fn comments_are_no_code() {
        let source =
            Source { path: String::new(), production: production("//! tokio\nfn a() {}\n") };
        assert_eq!(source.code().collect::<Vec<_>>(), [(2, "fn a() {}")]);
    }

    #[test]
    fn words_are_found_whole() {
        assert!(says("use tokio::x;", "tokio"));
        assert!(!says("use my_tokio::x;", "tokio"));
        assert!(!says("operand", "rand"));
        assert!(says("x.unwrap();", ".unwrap()"));
        assert!(says("let y = todo!();", "todo!"));
    }
}
