//! What the active controller does of itself from time to time (R15, R17).

use super::actor::SessionActor;
use crate::config::Upkeep;
use actix::prelude::*;
use troupe_machines::cluster::LeaderBalance;

impl SessionActor {
    /// Until the timers are cancelled.
    pub(super) fn begin_upkeep(ctx: &mut Context<Self>, upkeep: Upkeep) -> Vec<SpawnHandle> {
        let Upkeep { leader_rebalance, imbalance_check, leaderless_check, .. } = upkeep;
        let mut timers = vec![ctx.run_interval(leaderless_check, Self::elect_leaderless)];
        if leader_rebalance {
            timers.push(ctx.run_interval(imbalance_check, Self::balance_leaders));
        }
        timers
    }

    fn balance_leaders(&mut self, ctx: &mut Context<Self>) {
        let controller = self.controller.clone();
        let percentage_per_broker = self.settings.upkeep.imbalance_percentage;
        let balance = LeaderBalance { percentage_per_broker, ..LeaderBalance::default() };
        let balanced = async move { controller.balance_leaders(balance).await };
        ctx.spawn(balanced.into_actor(self).map(|balanced, _, _| match balanced {
            Ok(0) => {}
            Ok(moved) => tracing::info!(moved, "leaderships went back to where they are preferred"),
            Err(error) => tracing::debug!(%error, "leaders were not balanced"),
        }));
    }

    fn elect_leaderless(&mut self, ctx: &mut Context<Self>) {
        let controller = self.controller.clone();
        let elected = async move { controller.elect_leaderless().await };
        ctx.spawn(elected.into_actor(self).map(|elected, _, _| match elected {
            Ok(0) => {}
            Ok(elected) => tracing::info!(elected, "partitions without a leader got one"),
            Err(error) => tracing::debug!(%error, "partitions without a leader were not looked at"),
        }));
    }
}
