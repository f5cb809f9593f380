//! kafka-dump-log: `troupe log dump`, whose lines are Kafka's; `--verify-index-only` and `--index-sanity-check` are
//! `troupe log verify`.

use super::ended::Ended;
use super::options::{Options, flag, maybe, value};
use super::ours;

static OPTIONS: Options = Options {
    about: "This tool prints what is in the files of a log.",
    options: &[
        value("files", "file1, file2, ...", "REQUIRED: The files, separated by commas."),
        flag("print-data-log", "Also the records."),
        flag("deep-iteration", "Also the records, without what is in them."),
        flag("verify-index-only", "Only check the indexes against the log."),
        flag("index-sanity-check", "Only check that the indexes are whole."),
        flag("offsets-decoder", "The records are those of __consumer_offsets."),
        flag("transaction-log-decoder", "The records are those of __transaction_state."),
        flag("cluster-metadata-decoder", "The records are those of the metadata log."),
        flag("share-group-state-decoder", "The records are those of share groups."),
        flag("remote-log-metadata-decoder", "The records are those of tiered storage."),
        value("max-message-size", "size", "Without effect: what is read is not bounded."),
        value("max-bytes", "bytes", "Of a segment only batches that begin within so many bytes."),
        maybe("value-decoder-class", "class", "Classes cannot be loaded."),
        maybe("key-decoder-class", "class", "Classes cannot be loaded."),
        flag("skip-record-metadata", "Of records only keys and values."),
    ],
    lead: "Exception in thread \"main\" joptsimple.UnrecognizedOptionException: ",
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    given.require(&["files"])?;
    for missing in ["share-group-state-decoder", "remote-log-metadata-decoder"] {
        if given.has(missing) {
            return Err(Ended::cannot(&format!("--{missing}"), "there are no such records"));
        }
    }
    for class in ["value-decoder-class", "key-decoder-class"] {
        if given.has(class) {
            return Err(Ended::cannot(
                &format!("--{class}"),
                "there is no Java to load it with; --print-data-log shows bytes, and `troupe consume -f` formats them",
            ));
        }
    }
    let files = given.listed("files")?.unwrap_or_default();
    if given.has("verify-index-only") || given.has("index-sanity-check") {
        // An index is checked beside its log.
        return ours::log(&[vec!["verify".to_owned()], files].concat());
    }
    let mut words = vec!["dump".to_owned()];
    let decoders = [
        ("offsets-decoder", "offsets"),
        ("transaction-log-decoder", "transactions"),
        ("cluster-metadata-decoder", "metadata"),
    ];
    match decoders.iter().find(|(option, _)| given.has(option)) {
        Some((_, kind)) => words.extend(["--decode".to_owned(), (*kind).to_owned()]),
        None => {
            if given.has("print-data-log") || given.has("deep-iteration") {
                words.push("--records".to_owned());
                if given.has("skip-record-metadata") {
                    words.push("--skip-record-metadata".to_owned());
                }
            }
        }
    }
    if let Some(bytes) = given.parsed::<u64>("max-bytes")? {
        words.extend(["--max-bytes".to_owned(), bytes.to_string()]);
    }
    words.extend(files);
    ours::log(&words)
}
