//! `troupe serve` and `troupe dev`: a node in the foreground, until a signal.

use crate::failure::{During, Exit, Failure};
use crate::global::{DEFAULT_SERVER, Global};
use crate::output::{Output, Table, text};
use crate::quantity::show_duration;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};
use troupe_broker::{Node, NodeConfig, StartError};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe serve --set log.dir=/var/lib/troupe\n  \
    troupe serve --config /etc/troupe.toml --set listener=0.0.0.0:7070\n  \
    troupe serve --help-config\n\
    A key comes from, in this order: --set, the environment (TROUPE__LOG__DIR), the file.")]
pub struct Serve {
    /// Configuration in TOML
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A key and its value, before all else; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print every key with its default and meaning
    #[arg(long)]
    help_config: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe dev\n  \
    troupe dev --data-dir ./data --listen 127.0.0.1:0\n\
    Actors may be killed here (chaos.enable=true).")]
pub struct Dev {
    /// Keep everything there [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the gRPC listener; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_SERVER)]
    listen: SocketAddr,
    /// Address of the HTTP listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7071")]
    http: SocketAddr,
    /// Any other key and its value, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn serve(global: &Global, serve: Serve) -> Result<(), Failure> {
    let output = global.output();
    if serve.help_config {
        return help_config(&output);
    }
    let file = match &serve.config {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Some(text.during(|| format!("cannot read {}", path.display()))?)
        }
        None => None,
    };
    let config = load(file.as_deref(), &serve.set)?;
    let foreground = Foreground::new()?;
    let data_dir = config.log_dir.clone();
    let started = Instant::now();
    let node = start(config)?;
    announce(&output, &node, &data_dir, || {
        let took = show_duration(started.elapsed());
        let (grpc, http) = (node.grpc_addr(), node.http_addr());
        let data = data_dir.display();
        format!("troupe serves gRPC on {grpc}, HTTP on {http}, data in {data} (ready in {took})\n")
    })?;
    foreground.run(node)
}

pub fn dev(global: &Global, dev: Dev) -> Result<(), Failure> {
    let started = Instant::now();
    let output = global.output();
    // Lives to the end of this function, after the node has stopped.
    let temporary = match &dev.data_dir {
        Some(_) => None,
        None => {
            let made = tempfile::Builder::new().prefix("troupe-dev-").tempdir();
            Some(made.during(|| "cannot make a temporary directory".to_owned())?)
        }
    };
    let data_dir = match (&dev.data_dir, &temporary) {
        (Some(chosen), _) => chosen.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => unreachable!("one of them is there by construction"),
    };
    let mut set = vec![
        "chaos.enable=true".to_owned(),
        format!("listener={}", dev.listen),
        format!("http.listener={}", dev.http),
        format!("log.dir={}", data_dir.display()),
    ];
    set.extend(dev.set);
    let foreground = Foreground::new()?;
    let node = start(load(None, &set)?)?;
    announce(&output, &node, &data_dir, || {
        let took = show_duration(started.elapsed());
        let kept = if temporary.is_some() { "removed when this stops" } else { "kept" };
        let grpc = node.grpc_addr();
        let server = match grpc.to_string() {
            usual if usual == DEFAULT_SERVER => String::new(),
            other => format!(" --server {other}"),
        };
        format!(
            "troupe dev is ready ({took}); Ctrl-C stops it\n\n  \
             gRPC  {grpc}\n  HTTP  http://{}/metrics\n  data  {} ({kept})\n\n\
             Type next, in another terminal:\n\n  \
             troupe topic create hello{server}\n  \
             echo 'hello, world' | troupe produce hello{server}\n  \
             troupe consume hello --from-beginning{server}\n  \
             troupe actor tree{server}\n\n",
            node.http_addr(),
            data_dir.display(),
        )
    })?;
    foreground.run(node)
}

fn load(file: Option<&str>, set: &[String]) -> Result<NodeConfig, Failure> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    NodeConfig::load(file, environment, set).map_err(|faults| {
        Failure::new(Exit::Usage, "", faults)
            .with_hint("`troupe serve --help-config` prints every key")
    })
}

fn start(config: NodeConfig) -> Result<Node, Failure> {
    Node::start(config).map_err(|error| {
        let hint = match &error {
            StartError::Listen { .. } => {
                Some("another node may be running: choose other ports with --set, or dev's --listen and --http")
            }
            _ => None,
        };
        let failure = Failure::new(Exit::Failed, "the node cannot start", error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// Says where the node listens: for a program one line of JSON, for a person what `text` says.
fn announce(
    output: &Output,
    node: &Node,
    data_dir: &std::path::Path,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if !output.format.is_json() {
        return output.print(&text());
    }
    let line = serde_json::json!({
        "grpc": node.grpc_addr().to_string(),
        "http": node.http_addr().to_string(),
        "clusterId": node.cluster_id(),
        "dataDir": data_dir.display().to_string(),
        "pid": std::process::id(),
    });
    output.print(&format!("{line}\n"))
}

/// Waits for what ends a node. Made before the node is, so that no signal meets the default action.
struct Foreground {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Foreground {
    fn new() -> Result<Foreground, Failure> {
        let what = || "cannot wait for signals".to_owned();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().during(what)?;
        let guard = runtime.enter();
        let terminate = signal(SignalKind::terminate()).during(what)?;
        let interrupt = signal(SignalKind::interrupt()).during(what)?;
        drop(guard);
        Ok(Foreground { runtime, terminate, interrupt })
    }

    /// Stops the node at SIGTERM or SIGINT; a second one ends the process at once.
    fn run(mut self, node: Node) -> Result<(), Failure> {
        let failed = self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => false,
                _ = self.interrupt.recv() => false,
                () = node.failed() => true,
            }
        });
        if failed {
            let cause = "the node stopped by itself; what it said before tells why";
            return Err(Failure::new(Exit::Failed, "", cause));
        }
        std::thread::spawn(move || {
            self.runtime.block_on(async {
                tokio::select! {
                    _ = self.terminate.recv() => {}
                    _ = self.interrupt.recv() => {}
                }
            });
            eprintln!("stopped without waiting; the next start recovers");
            std::process::exit(Exit::Interrupted as i32);
        });
        tracing::info!("stopping");
        node.stop();
        Ok(())
    }
}

fn help_config(output: &Output) -> Result<(), Failure> {
    let keys = NodeConfig::keys();
    let views: Vec<_> = keys
        .iter()
        .map(|(key, default, doc)| {
            serde_json::json!({ "name": key, "defaultValue": default, "documentation": doc })
        })
        .collect();
    output.many("keys", &views, || {
        let mut table = Table::new(&[text("KEY"), text("DEFAULT"), text("MEANING")]);
        for (key, default, doc) in &keys {
            table.row(vec![(*key).to_owned(), default.clone(), (*doc).to_owned()]);
        }
        table
    })
}
