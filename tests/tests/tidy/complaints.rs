//! How a rule says where it is broken.

use troupe_tests::workspace::{Source, says};

/// Every production line of `sources` in which a word occurs that must not.
pub fn lines_that_say(sources: &[Source], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in source.code() {
            for word in words.iter().filter(|word| says(line, word)) {
                found.push(format!("{}:{number}: `{word}` in `{}`", source.path, line.trim()));
            }
        }
    }
    found
}

pub fn assert_none(violations: &[String], rule: &str) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}
