//! What earlier versions have written, in `machines/fixtures`: lines of hexadecimal numbers. There are logs that have it, so
//! what is on record is never changed; a new format gets a new name, and is put there by `TROUPE_BLESS=1`.

use std::fmt::Write as _;
use std::path::Path;

/// What is on record under that name, which is what is written now as well: one part a line.
pub(crate) fn on_record(name: &str, written: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    if std::env::var_os("TROUPE_BLESS").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = written.iter().map(|part| line(part) + "\n").collect();
        std::fs::write(&path, text).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let written: Vec<String> = written.iter().map(|part| line(part)).collect();
    assert_eq!(written, text.lines().collect::<Vec<_>>(), "{name} is written otherwise now");
    text.lines().map(bytes).collect()
}

fn line(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut line, byte| {
        let _ = write!(line, "{byte:02x}");
        line
    })
}

fn bytes(line: &str) -> Vec<u8> {
    let two = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    (0..line.len()).step_by(2).map(two).collect()
}
