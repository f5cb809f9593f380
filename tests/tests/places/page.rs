//! `CONTRIBUTING.md` itself.

use crate::{assert_none, is_lower_snake};
use troupe_tests::workspace;

/// The words of a file between backticks.
fn marked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Files, tests and variables that the page names are there; and it can be read in one go.
#[test]
fn the_page_for_contributors_says_what_is_so() {
    let page = workspace::read("CONTRIBUTING.md").unwrap();
    assert!(page.lines().count() <= 120, "CONTRIBUTING.md is one page");
    assert!(workspace::read("README.md").unwrap().contains("CONTRIBUTING.md"));
    let mut code = String::new();
    for path in workspace::files("", ".rs").unwrap() {
        code.push_str(&workspace::read(&path).unwrap());
    }
    let mut wrong = Vec::new();
    let prose: String = page.split("```").step_by(2).collect();
    for word in marked(&prose) {
        let is_path = word.contains('/') && !word.contains([' ', '=']);
        if is_path && !workspace::root().join(word).exists() {
            wrong.push(format!("`{word}` is no file or directory"));
        }
        let is_test = word.matches('_').count() >= 3 && is_lower_snake(word);
        if is_test && !code.contains(&format!("fn {word}")) {
            wrong.push(format!("there is no test {word}"));
        }
    }
    let variables = page.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    for variable in variables.filter(|word| word.starts_with("TROUPE_") && !word.contains("__")) {
        if !code.contains(&format!("\"{variable}\"")) {
            wrong.push(format!("{variable} is read by nobody"));
        }
    }
    for line in page.lines().filter(|line| line.contains("cargo ")) {
        let words: Vec<_> = line.split([' ', '`']).collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "--test") {
            let named = |path: &String| {
                path.ends_with(&format!("/tests/{}.rs", pair[1]))
                    || path.ends_with(&format!("/tests/{}/main.rs", pair[1]))
            };
            if !workspace::files("", ".rs").unwrap().iter().any(named) {
                wrong.push(format!("there is no test binary {}", pair[1]));
            }
        }
    }
    assert_none(&wrong, "CONTRIBUTING.md tells what is not so; change the page with the code");
}
