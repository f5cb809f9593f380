//! A runner that finds nothing wrong proves nothing: what is true of the README until it is broken, in four ways.

use crate::run::{Fault, run};
use crate::shell::Place;
use troupe_tests::{in_ci, skip, workspace};

/// The README's first steps; and what a page may say besides.
fn first_steps() -> String {
    let readme = workspace::read("README.md").unwrap();
    let (_, rest) = readme.split_once("## First steps").unwrap();
    let (steps, _) = rest.split_once("A service needs").unwrap();
    format!(
        "{steps}\n```sh\ntroupe config check deploy/troupe.toml\n```\n\
         <!-- run: fails 3 -->\n```sh\ntroupe topic describe nobody-made-it\n```\n"
    )
}

fn try_page(text: &str) -> Result<Result<(), Fault>, String> {
    let mut place = Place::new()?;
    Ok(run(&mut place, text, "", ""))
}

#[test]
fn a_block_that_is_broken_is_found_whatever_is_wrong_with_it() {
    const TEST: &str = "a_block_that_is_broken_is_found_whatever_is_wrong_with_it";
    let page = first_steps();
    let whole = match try_page(&page) {
        Ok(whole) => whole,
        Err(why) => {
            assert!(!in_ci(), "{TEST}: {why}");
            return skip(TEST, &why);
        }
    };
    if let Err(fault) = whole {
        panic!("the page is wrong already: {fault}");
    }
    let broken = [
        ("a wrong flag", "orders -p 6", "orders --parts 6", "exit code 2, not 0"),
        ("a wrong output", "\nworld\n", "\nmoon\n", "prints"),
        ("a missing file", "deploy/troupe.toml", "deploy/other.toml", "deploy/other.toml"),
        ("a wrong exit code", "fails 3", "fails 4", "exit code 3, not 4"),
        ("a program that nobody has", "troupe topic describe orders", "trope topic", "not found"),
    ];
    for (what, was, is, said) in broken {
        assert!(page.contains(was), "{what}: the page has no `{was}`");
        let broken = page.replacen(was, is, 1);
        let place = broken.find(is).unwrap();
        let fault = try_page(&broken).unwrap().expect_err(what);
        assert!(fault.why.contains(said), "{what}: {fault}");
        // At the block, or the command in it.
        let line = broken[..place].lines().count();
        assert!(
            fault.line.abs_diff(line) <= 2,
            "{what}: at {} and not {line}: {fault}",
            fault.line
        );
    }
}
