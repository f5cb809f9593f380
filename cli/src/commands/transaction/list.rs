//! `troupe transaction list`.

use super::view::{ListingView, StateArgument};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::quantity::{parse_duration, parse_whole};
use crate::watch::Watch;
use clap::Args;
use serde::Serialize;
use std::time::Duration;
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::ids::ProducerId;

#[derive(Debug, Args)]
pub struct List {
    /// Only those in one of these states
    #[arg(long = "state", value_enum, value_delimiter = ',', ignore_case = true)]
    states: Vec<StateArgument>,
    /// Only those of this producer id
    #[arg(long, value_name = "ID", value_parser = parse_whole::<u64>)]
    producer_id: Option<u64>,
    /// Only those that have been open for at least so long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    open_for: Option<Duration>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Serialize)]
struct ListView {
    transactions: Vec<ListingView>,
}

pub async fn run(global: &Global, list: List) -> Result<(), Failure> {
    let client = global.connect().await?;
    let states: Vec<_> = list.states.iter().copied().map(TransactionState::from).collect();
    let (producer, open_for) = (list.producer_id.map(ProducerId), list.open_for);
    let output = global.output();
    let ask = async || {
        let admin = client.admin();
        let listed = admin.list_transactions(&states, producer, open_for.unwrap_or_default()).await;
        let listed = listed.with_context(|| "cannot list the transactions".to_owned())?;
        Ok(ListView { transactions: listed.into_iter().map(ListingView::from).collect() })
    };
    let once = |view: &ListView| {
        output.many("transactions", &view.transactions, || table(&view.transactions))
    };
    list.watch.show(&output, ask, once, |view| output.table(&table(&view.transactions))).await
}

fn table(transactions: &[ListingView]) -> Table {
    let mut table = Table::new(&[
        text("TRANSACTIONAL-ID"),
        number("COORDINATOR"),
        number("PRODUCER-ID"),
        number("EPOCH"),
        text("STATE"),
    ]);
    for listed in transactions {
        table.row(vec![
            listed.transactional_id.clone(),
            listed.coordinator.to_string(),
            listed.producer_id.to_string(),
            listed.producer_epoch.to_string(),
            listed.state.to_owned(),
        ]);
    }
    table
}
