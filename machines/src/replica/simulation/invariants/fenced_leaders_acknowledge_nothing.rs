//! I6: who has been told that its epoch is over acknowledges nothing.

use super::super::chance::Violation;
use super::super::world::Node;

pub fn fenced_leaders_acknowledge_nothing(node: &Node) -> Result<(), Violation> {
    let leads_in = node.replica.as_ref().and_then(|replica| replica.leader_epoch());
    if leads_in.is_some() && leads_in >= node.told_epoch {
        return Ok(());
    }
    let what = format!("{:?} leads in {leads_in:?}, told of {:?}", node.id, node.told_epoch);
    Err(Violation::new("I6 fenced leaders", what))
}
