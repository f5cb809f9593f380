//! What is wrong with a configuration, all of it at once.

use std::fmt::Write as _;

/// All that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.list())]
pub struct ConfigFaults(pub Vec<String>);

impl ConfigFaults {
    fn list(&self) -> String {
        let mut text = String::from("the configuration cannot be used:");
        for fault in &self.0 {
            let _ = write!(text, "\n  - {fault}");
        }
        text
    }
}
