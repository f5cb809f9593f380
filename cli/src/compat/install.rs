//! `troupe compat install`: links by the tools' names, with and without `.sh`.
//!
//! Promise: nothing is replaced that is not such a link.

use super::tools::TOOLS;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::quantity::plural;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

pub fn install(global: &Global, directory: &Path) -> Result<(), Failure> {
    let what = || format!("cannot install into {}", directory.display());
    fs::create_dir_all(directory).with_context(what)?;
    let binary = std::env::current_exe().with_context(what)?;
    let mut links = Vec::new();
    let mut others = Vec::new();
    for tool in TOOLS {
        for name in [tool.name.to_owned(), format!("{}.sh", tool.name)] {
            let path = directory.join(&name);
            match link(&binary, &path).with_context(what)? {
                true => links.push(name),
                false => others.push(name),
            }
        }
    }
    let view = serde_json::json!({
        "directory": directory, "binary": binary, "links": links, "leftAlone": others,
    });
    let count = plural(links.len(), "link");
    let binary = binary.display();
    global.output().one(&view, || format!("{count} to {binary} in {}\n", directory.display()))?;
    match others.is_empty() {
        true => Ok(()),
        false => {
            let cause = format!("{} there already, and no such link", others.join(", "));
            Err(Failure::new(Exit::Refused, "some names are left alone", cause)
                .with_hint("another directory; or remove them"))
        }
    }
}

/// False: something else has the name.
fn link(binary: &Path, path: &Path) -> std::io::Result<bool> {
    match fs::read_link(path) {
        // Of a binary that was there before: the same name, wherever it was.
        Ok(old) if old.file_name() == binary.file_name() => fs::remove_file(path)?,
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(false),
        Err(error) => return Err(error),
    }
    symlink(binary, path).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_such_link_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kafka-topics");
        let binary = Path::new("/opt/troupe");
        assert!(link(binary, &path).unwrap());
        assert!(link(binary, &path).unwrap(), "again");
        assert!(link(Path::new("/usr/bin/troupe"), &path).unwrap(), "another of ours");
        assert!(!link(Path::new("/opt/other"), &path).unwrap());
        let file = directory.path().join("kafka-configs");
        fs::write(&file, "mine").unwrap();
        assert!(!link(binary, &file).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }
}
