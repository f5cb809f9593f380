//! I6: who has been told of a newer leader epoch acknowledges nothing in the older one.

use crate::violation::{Checked, ensure};
use troupe_proto::ids::LeaderEpoch;

pub fn fenced_leaders_acknowledge_nothing(
    told: Option<LeaderEpoch>,
    leads_in: Option<LeaderEpoch>,
) -> Checked {
    ensure(leads_in >= told, "I6 fenced leaders acknowledge nothing", || {
        format!("acknowledged in {leads_in:?}, told of {told:?}")
    })
}
