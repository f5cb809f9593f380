//! `troupe dev`: one node or several in one process, to try things out. Everything on, gone when it stops.
//!
//! - [`ports`]: where they listen. [`cluster`]: the nodes, and stopping and starting single ones.
//! - [`command`]: what may be typed while they run. [`mod@data`]: where they keep what they have.

mod cluster;
mod command;
mod data;
pub mod ports;

use crate::failure::{Context, Failure};
use crate::foreground::Foreground;
use crate::global::{DEFAULT_SERVER, Global};
use crate::output::Output;
use crate::quantity::show_duration;
use crate::serve::{announce, load, start};
use clap::Args;
use cluster::Cluster;
use data::Data;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

/// More are no use in one process.
const MOST_NODES: u16 = 9;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    troupe dev\n  \
    troupe dev --nodes 3\n  \
    troupe dev --data-dir ./data --listen 127.0.0.1:0\n\
    Actors may be killed here (chaos.enable=true). With several nodes, topics have three replicas,\n\
    and single nodes are killed, stopped and started by typing `kill 2`, `stop 2`, `start 2`.")]
pub struct Dev {
    /// How many nodes; each has its ports 10 above those of the one before
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_NODES)))]
    nodes: u16,
    /// Keep everything there [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the (first) gRPC listener; port 0 takes free ones
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_SERVER)]
    listen: SocketAddr,
    /// Address of the (first) HTTP listener [default: one port above the gRPC listener]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<SocketAddr>,
    /// Any other key and its value, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(global: &Global, dev: Dev) -> Result<(), Failure> {
    // Before there is anything that a signal could leave behind.
    let mut foreground = Foreground::new()?;
    let data = Data::new(dev.data_dir.clone())?;
    foreground.at_last(data.remover());
    match dev.nodes {
        1 => one(global, dev, &data, foreground),
        _ => several(global, &dev, &data, foreground),
    }
}

fn one(global: &Global, dev: Dev, data: &Data, foreground: Foreground) -> Result<(), Failure> {
    let started = Instant::now();
    let http = dev.http.unwrap_or_else(|| ports::above(dev.listen, 1));
    let mut set = vec![
        "chaos.enable=true".to_owned(),
        format!("listener={}", dev.listen),
        format!("http.listener={http}"),
        format!("log.dir={}", data.dir.display()),
    ];
    set.extend(dev.set);
    let node = start(load(None, &set)?)?;
    announce(&global.output(), &node, &data.dir, || {
        let took = show_duration(started.elapsed());
        let grpc = node.grpc_addr();
        let server = server_flag(&grpc.to_string());
        format!(
            "troupe dev is ready ({took}); Ctrl-C stops it\n\n  \
             gRPC  {grpc}\n  HTTP  http://{}/metrics\n  data  {} ({})\n\n\
             Type next, in another terminal:\n\n  \
             troupe topic create hello{server}\n  \
             echo 'hello, world' | troupe produce hello{server}\n  \
             troupe consume hello --from-beginning{server}\n  \
             troupe actor tree{server}\n\n",
            node.http_addr(),
            data.dir.display(),
            data.fate,
        )
    })?;
    foreground.run(node)
}

fn several(
    global: &Global,
    dev: &Dev,
    data: &Data,
    mut foreground: Foreground,
) -> Result<(), Failure> {
    let started = Instant::now();
    let output = global.output();
    let mut cluster = Cluster::start(dev, &data.dir)?;
    match foreground.wait(cluster.all_active()) {
        Ok(active) => {
            active.with_context(|| "cannot tell whether all nodes take part".to_owned())?
        }
        Err(_) => {
            foreground.hurry();
            cluster.stop();
            return Ok(());
        }
    }
    tell(&output, &cluster, data, started)?;
    command::listen(cluster.inbox());
    while let Ok(event) = foreground.wait(cluster.next()) {
        if cluster.handle(event, &output)?.is_break() {
            break;
        }
    }
    foreground.hurry();
    cluster.stop();
    Ok(())
}

/// Says where the nodes listen and what to try.
fn tell(output: &Output, cluster: &Cluster, data: &Data, started: Instant) -> Result<(), Failure> {
    let servers = cluster.servers();
    if output.format.is_json() {
        let line = serde_json::json!({
            "grpc": servers.join(","),
            "nodes": cluster.describe(),
            "clusterId": cluster::CLUSTER_ID,
            "dataDir": data.dir.display().to_string(),
            "pid": std::process::id(),
        });
        return output.print(&format!("{line}\n"));
    }
    let mut nodes = String::new();
    for node in cluster.describe() {
        nodes += &format!(
            "  node {}  gRPC {}  HTTP http://{}/metrics\n",
            node.node_id, node.grpc, node.http
        );
    }
    output.print(&format!(
        "troupe dev is ready: {} nodes ({}); Ctrl-C stops them\n\n\
         {nodes}  data    {} ({})\n\n\
         Type next, in another terminal:\n\n  \
         export TROUPE_SERVER={}\n  \
         troupe topic create orders -p 6\n  \
         seq 1000000 | troupe produce orders --rate 20k\n\n\
         In a third one, with the same TROUPE_SERVER, while that goes on:\n\n  \
         troupe partition list orders --watch\n  \
         troupe actor kill --leader orders:0\n  \
         troupe node drain 3\n  \
         troupe node resume 3\n\n\
         Here:\n\n  \
         kill 2     node 2 is gone, as with kill -9\n  \
         start 2    it comes back\n  \
         help       the rest\n\n\
         And in the end, to see that nothing is missing:\n\n  \
         troupe consume orders --from-beginning --until-end | wc -l\n\n",
        servers.len(),
        show_duration(started.elapsed()),
        data.dir.display(),
        data.fate,
        servers.join(","),
    ))
}

/// What has to be added to a command, unless the node is where everyone looks.
fn server_flag(server: &str) -> String {
    if server == DEFAULT_SERVER { String::new() } else { format!(" --server {server}") }
}
