//! What can be set, for a node and for a topic.

use crate::{assert_none, between, code, tests};
use std::collections::{BTreeMap, BTreeSet};
use troupe_broker::NodeConfig;
use troupe_tests::workspace::{self, says};

/// Node settings that no test names. None comes here: name a new one in a test.
const UNTRIED_SETTINGS: [&str; 2] =
    ["controlled.shutdown.enable", "replica.fetch.response.max.bytes"];

/// Fields and keys of a node's settings, as `broker/src/config.rs` declares them.
fn settings() -> BTreeMap<String, String> {
    let declared = between("broker/src/config.rs", "\nsettings! {\n", "\n}\n");
    let setting = |line: &str| {
        let (field, rest) = line.trim().split_once(": ")?;
        // `field: type = default, "key", Mode;`
        let key = rest.strip_suffix(';')?.rsplit_once("\", ")?.0.rsplit_once('"')?.1;
        (!field.starts_with("///")).then(|| (key.to_owned(), field.to_owned()))
    };
    let found: BTreeMap<_, _> = declared.lines().filter_map(setting).collect();
    let known: BTreeSet<_> = NodeConfig::keys().iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), known, "one line for each setting");
    found
}

/// What of the configuration hands settings on, in other words: listeners, and settings of topics.
const HANDED_ON: [&str; 2] =
    ["broker/src/config/listeners.rs", "broker/src/config/topic_settings.rs"];

#[test]
fn what_can_be_set_for_a_node_is_read_and_tried() {
    let (mut code, tests) = (code(&["broker", "cli"], "broker/src/config"), tests());
    for path in HANDED_ON {
        code.push_str(&workspace::read(path).unwrap());
    }
    let (mut unread, mut untried) = (Vec::new(), Vec::new());
    for (key, field) in settings() {
        if !says(&code, &format!(".{field}")) {
            unread.push(format!("{key} (`{field}`)"));
        }
        let is_tried = tests.contains(&key) || says(&tests, &field);
        if is_tried == UNTRIED_SETTINGS.contains(&key.as_str()) {
            untried.push(format!("{key}{}", if is_tried { ": is tried by now" } else { "" }));
        }
    }
    assert_none(&unread, "a key that changes nothing; hand it on in broker/src/node or read it");
    assert_none(&untried, "show what the key does in tests/tests/settings.rs, or beside the code");
}

#[test]
fn what_can_be_set_for_a_topic_has_a_key_and_is_read_and_tried() {
    let fields = between("machines/src/config.rs", "\npub struct TopicConfig {\n", "\n}\n");
    let fields = fields.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let fields: Vec<_> = fields.filter_map(|line| line.split_once(':')).collect();
    assert!(fields.len() > 10, "{fields:?}");
    let keys = workspace::read("machines/src/config/keys.rs").unwrap();
    let code = code(&["machines", "broker"], "machines/src/config");
    let (mut keyless, mut unread) = (Vec::new(), Vec::new());
    for (field, _) in fields {
        if !says(&keys, &format!("c.{field}")) {
            keyless.push(field.to_owned());
        }
        if !says(&code, &format!(".{field}")) {
            unread.push(field.to_owned());
        }
    }
    assert_none(
        &keyless,
        "a setting that nobody can set; give it a row in machines/src/config/keys.rs",
    );
    assert_none(
        &unread,
        "a key that changes nothing; hand it on (broker/src/partition/opening.rs)",
    );
    let tests = tests();
    let named = keys.split("name: \"").skip(1).filter_map(|rest| rest.split('"').next());
    let untried =
        named.filter(|key| !tests.contains(*key) && !says(&tests, &key.replace('.', "_")));
    let untried: Vec<_> = untried.map(str::to_owned).collect();
    assert_none(&untried, "show what the key does in tests/tests/settings.rs, or beside the code");
}
