//! kafka-server-start and kafka-server-stop: `troupe serve` and `troupe stop`.

use super::ended::Ended;
use super::ours;

/// `[-daemon] FILE [--override key=value]…`.
pub fn start(words: &[String]) -> Result<(), Ended> {
    ours::serve(&translated(words)?)
}

fn translated(words: &[String]) -> Result<Vec<String>, Ended> {
    let usage = || {
        Ended::err(
            "USAGE: kafka-server-start [-daemon] server.properties [--override property=value]*",
        )
    };
    let mut ours = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-daemon" => ours.push("--daemon".to_owned()),
            "--override" => {
                let value = words.next().ok_or_else(usage)?;
                ours.extend(["--set".to_owned(), value.clone()]);
            }
            "-name" | "-loggc" => return Err(usage()),
            file => ours.push(file.to_owned()),
        }
    }
    if ours.iter().all(|word| word == "--daemon") {
        return Err(usage());
    }
    Ok(ours)
}

/// Kafka's stops every broker of the machine; here one is named.
pub fn stop(words: &[String]) -> Result<(), Ended> {
    if words.is_empty() {
        return Err(Ended::err(
            "No kafka server to stop\nname the node by its file, `kafka-server-stop server.properties`, or by --data-dir DIR: \
             no process is told to stop that was not named",
        ));
    }
    ours::stop(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_started_with_our_words() {
        let read = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            translated(&words)
        };
        let ours = read("-daemon s.properties --override log.dirs=/d").unwrap();
        assert_eq!(ours, ["--daemon", "s.properties", "--set", "log.dirs=/d"]);
        assert!(read("-daemon").unwrap_err().notices.starts_with("USAGE:"));
        assert!(read("s.properties --override").is_err());
    }
}
