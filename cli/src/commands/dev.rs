//! `troupe dev`: one node or several in one process, to try things out. Everything on, gone when it stops.
//!
//! - [`cluster`]: the nodes, and stopping and starting single ones. [`event`]: what happens to them.
//! - [`command`]: what may be typed while they run. [`mod@data`]: where they keep what they have.

mod arguments;
mod cluster;
mod command;
mod data;
mod event;
mod faults;

use crate::configuration::load;
use crate::failure::{Context, Failure};
use crate::foreground::{Foreground, announce, start};
use crate::global::{DEFAULT_SERVER, Global};
use crate::output::Output;
use crate::ports;
use crate::quantity::show_duration;
pub use arguments::Dev;
use cluster::Cluster;
use data::Data;
use std::time::Instant;

pub fn run(global: &Global, dev: Dev) -> Result<(), Failure> {
    // Before there is anything that a signal could leave behind.
    let mut foreground = Foreground::new()?;
    let data = Data::new(dev.data_dir.clone())?;
    foreground.on_forced_exit(data.remover());
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
    let node = start(load(&set)?)?;
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
            foreground.exit_on_signal();
            cluster.stop();
            return Ok(());
        }
    }
    announce_cluster(&output, &cluster, data, started)?;
    command::listen(cluster.inbox());
    while let Ok(event) = foreground.wait(cluster.next()) {
        if cluster.handle(event, &output)?.is_break() {
            break;
        }
    }
    foreground.exit_on_signal();
    cluster.stop();
    Ok(())
}

/// Says where the nodes listen and what to try.
fn announce_cluster(
    output: &Output,
    cluster: &Cluster,
    data: &Data,
    started: Instant,
) -> Result<(), Failure> {
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
         cut 1 2    nothing passes between them for ten seconds\n  \
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
