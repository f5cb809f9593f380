//! A node in this process.

use crate::directory::temporary_directory;
use std::path::Path;
use tempfile::TempDir;
use troupe_broker::{Node, NodeConfig, StartError};

/// A node on free ports and a directory of its own. Both go when it is dropped.
pub struct LocalNode {
    // Before the directory, so that it is dropped first.
    node: Option<Node>,
    directory: TempDir,
    settings: Vec<String>,
}

impl LocalNode {
    /// Starts a node; `settings` are pairs `key=value` as for `troupe serve --set`.
    pub fn start(settings: &[&str]) -> LocalNode {
        let directory = temporary_directory();
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let node = start_on(directory.path(), &settings).expect("a node on a new directory starts");
        LocalNode { node: Some(node), directory, settings }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("only a restart takes it, and puts another in its place")
    }

    /// `host:port` of the gRPC listener.
    pub fn server(&self) -> String {
        self.node().grpc_addr().to_string()
    }

    /// `host:port` of the HTTP listener.
    pub fn http(&self) -> String {
        self.node().http_addr().to_string()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops the node gracefully and starts another on the same directory, at another address.
    pub fn restart(&mut self) {
        self.node.take();
        let node = start_on(self.directory.path(), &self.settings);
        self.node = Some(node.expect("a node starts on the directory of one that stopped"));
    }
}

/// Starts a node on `directory`, on free ports.
pub fn start_on(directory: &Path, settings: &[String]) -> Result<Node, StartError> {
    let mut set = vec![
        "listener=127.0.0.1:0".to_owned(),
        "http.listener=127.0.0.1:0".to_owned(),
        format!("log.dir={}", directory.display()),
        "chaos.enable=true".to_owned(),
        // Connections of tests that ended may linger.
        "shutdown.timeout.ms=2000".to_owned(),
    ];
    set.extend_from_slice(settings);
    Node::start(NodeConfig::load(None, [], &set).expect("the settings of a test are right"))
}
