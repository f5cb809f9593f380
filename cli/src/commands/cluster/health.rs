//! `troupe cluster health`: the verdict, what it rests on, and an exit code that says it.

use crate::as_of::AsOf;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::health::{Health, Verdict, gather};
use crate::node_view::ids;
use crate::output::{Output, Table, Tone, text};

pub async fn run(global: &Global) -> Result<(), Failure> {
    let client = global.connect().await?;
    let health =
        gather(&client).await.with_context(|| "cannot ask how the cluster is".to_owned())?;
    let output = global.output();
    output.one(&health, || render(&output, &health))?;
    match health.verdict {
        Verdict::Healthy => Ok(()),
        Verdict::Degraded => Err(Failure::silent(Exit::Degraded)),
        Verdict::Unhealthy => Err(Failure::silent(Exit::Unhealthy)),
    }
}

fn render(output: &Output, health: &Health) -> String {
    let mut out = format!("{}\n", health.verdict.name());
    if output.terminal {
        out += &health.as_of.as_ref().map_or_else(String::new, AsOf::line);
    }
    if health.reasons.is_empty() {
        return out;
    }
    if output.terminal {
        out.push('\n');
    }
    let columns = [text("SEVERITY"), text("REASON"), text("NODES"), text("WHAT"), text("EXAMPLES")];
    let mut table = Table::new(&columns);
    for reason in &health.reasons {
        let tone = match reason.severity {
            Verdict::Healthy => Tone::Plain,
            Verdict::Degraded => Tone::Warning,
            Verdict::Unhealthy => Tone::Bad,
        };
        table.toned_row(
            tone,
            0,
            vec![
                reason.severity.name().to_owned(),
                reason.kind.clone(),
                ids(&reason.node_ids),
                reason.message.clone(),
                reason.examples.join(","),
            ],
        );
    }
    out + &output.table(&table)
}
