//! Where the crates of the workspace are, and what of their source is production code.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A Rust source file, with what belongs to tests cut out.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// Production code, comments included; what is cut leaves an empty line, so that numbers stay right.
    pub production: Vec<String>,
}

impl Source {
    pub fn lies_in(&self, module: &str) -> bool {
        lies_in(&self.path, module)
    }

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
    let mut texts = Vec::new();
    for path in files(&format!("{crate_dir}/src"), ".rs")? {
        let text = read(&path)?;
        texts.push((path, text));
    }
    Ok(without_tests(&texts))
}

/// The production sources among files that are given with their paths: how a rule is shown what breaks it.
pub fn without_tests<S: AsRef<str>>(files: &[(S, S)]) -> Vec<Source> {
    let files = || files.iter().map(|(path, text)| (path.as_ref(), text.as_ref()));
    let of_tests: Vec<String> = files().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_production = |path: &str| {
        let module = path.trim_end_matches(".rs");
        !of_tests.iter().any(|test| module == test || module.starts_with(&format!("{test}/")))
    };
    files()
        .filter(|(path, _)| is_production(path))
        .map(|(path, text)| Source { path: path.to_owned(), production: production(text) })
        .collect()
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

/// Whether a file is of that module: of `broker/src/forward` are `forward.rs` and everything in `forward/`.
pub fn lies_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
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

/// Blanks whatever stands under `#[cfg(test)]`: an item, a statement, a field. Relies on rustfmt: it ends with its first
/// line, or with the bracket that closes it, at its own indentation.
fn production(text: &str) -> Vec<String> {
    const ENDS: [&str; 7] = ["}", "};", "},", "];", "],", ");", "),"];
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let begin = line.trim_start();
        if !(begin.starts_with("#[cfg(test)]") || begin.starts_with("#[cfg(all(test")) {
            kept.push(line.to_owned());
            continue;
        }
        kept.push(String::new());
        let indentation = &line[..line.len() - begin.len()];
        let mut inside = false;
        for line in lines.by_ref() {
            kept.push(String::new());
            let closes = line.strip_prefix(indentation).is_some_and(|line| ENDS.contains(&line));
            let is_attribute = line.trim_start().starts_with("#[");
            let is_all = !inside && !is_attribute && line.ends_with([';', ',', '}']);
            if closes || is_all {
                break;
            }
            inside |= !is_attribute;
        }
    }
    kept
}

/// Names of metrics in a text.
pub fn series_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("troupe_") || word.starts_with("process_"))
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
    fn what_follows_what_is_for_tests_is_production_code() {
        let text = "struct A {\n    #[cfg(test)]\n    b: u8,\n    c: u8,\n}\n\
                    #[cfg(test)]\nuse d::{\n    e,\n};\n#[cfg(test)]\nimpl F {}\n\
                    #[cfg(test)]\nfn g(\n    h: u8,\n) -> u8 {\n    h\n}\nfn i() {\n    \
                    #[cfg(test)]\n    let j = [\n    ];\n    k();\n}\n";
        let kept: Vec<_> = production(text).into_iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(kept, ["struct A {", "    c: u8,", "}", "fn i() {", "    k();", "}"]);
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
